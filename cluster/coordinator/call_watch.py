"""Ends calls that wait for a leader which has been replaced.

A node that hangs, or that no packet reaches any more, leaves its callers waiting until their
deadline, though its groups have long elected other leaders (W6: one dead peer slows everybody). So
every forwarded call is on a list here, and is cut as soon as its group is known to have another
leader. What becomes of the request is the forwarder's to decide: a read is asked again, the
outcome of a write is unknown.

This node's own members of a group say at once when they learn of a leader. For a group that this
node is not in, a thread asks the group's other members, while a call takes long, whether one of
them leads: only a confirmed leadership (a read barrier) counts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.raft.types import GroupId, NodeId

logger = logging.getLogger(__name__)

_LONG_S = 0.75
_ROUND_S = 0.25


class WatchedCall:
    """One call under way; `cut` ends it, from any thread."""

    __slots__ = ("_cut", "began", "superseded", "target")

    def __init__(self, target: NodeId) -> None:
        self.target = target
        self.began = time.monotonic()
        self.superseded = False
        self._cut: Callable[[], None] | None = None

    def started(self, cut: Callable[[], None]) -> None:
        """Say how the call can be ended; ends it if it is too late already."""
        self._cut = cut
        if self.superseded:
            cut()

    def supersede(self) -> None:
        """End the call: its target does not lead any more. Does not block."""
        self.superseded = True
        if self._cut is not None:
            self._cut()


class CallWatch:
    """The calls under way of one node's forwarder; thread-safe.

    Args:
        is_own: whether this node has a member of a group, which reports leaders by itself.
        find_leader: asks the members of a group, but for one, which of them leads; 0 when none
            says so. Blocks for a bounded time.
    """

    def __init__(
        self,
        is_own: Callable[[GroupId], bool],
        find_leader: Callable[[GroupId, NodeId], NodeId],
    ) -> None:
        self._is_own = is_own
        self._find_leader = find_leader
        self._changed = threading.Condition(threading.Lock())
        self._calls: dict[GroupId, set[WatchedCall]] = {}
        self._stopped = False

    @contextmanager
    def over(self, group_id: GroupId, target: NodeId) -> Iterator[WatchedCall]:
        """Watch a call to the leader of a group for as long as the block lasts."""
        call = WatchedCall(target)
        with self._changed:
            self._calls.setdefault(group_id, set()).add(call)
            self._changed.notify()
        try:
            yield call
        finally:
            with self._changed:
                self._calls[group_id].discard(call)

    def leader_is(self, group_id: GroupId, leader: NodeId) -> None:
        """A leader became known (or 0: none is): calls to any other node are pointless.

        Does not block: members call this under their lock.
        """
        if not leader:
            return
        with self._changed:
            doomed = [call for call in self._calls.get(group_id, ()) if call.target != leader]
        for call in doomed:
            logger.debug("group %d: node %d leads: a call is cut", group_id, leader)
            call.supersede()

    def stop(self) -> None:
        """Make `run` return."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def run(self) -> None:
        """Thread body: look after long calls to groups that this node is not in."""
        while True:
            with self._changed:
                if not self._stopped and not self._foreign_locked():
                    self._changed.wait()
                elif not self._stopped:
                    self._changed.wait(_ROUND_S)
                if self._stopped:
                    return
                long_since = time.monotonic() - _LONG_S
                long = {
                    (group_id, call.target)
                    for group_id, call in self._foreign_locked()
                    if call.began < long_since
                }
            for group_id, target in sorted(long):
                self.leader_is(group_id, self._find_leader(group_id, target))

    def _foreign_locked(self) -> list[tuple[GroupId, WatchedCall]]:
        return [
            (group_id, call)
            for group_id, calls in self._calls.items()
            if calls and not self._is_own(group_id)
            for call in calls
            if not call.superseded
        ]
