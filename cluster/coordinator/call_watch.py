"""Ends calls that wait for a leader which has been replaced, or which does not answer at all.

A node that hangs, or that no packet reaches any more, leaves its callers waiting until their
deadline, though its groups have long elected other leaders (W6: one dead peer slows everybody). So
every forwarded call is on a list here, and is cut as soon as its group is known to have another
leader, or its target answers no ping (`cluster.coordinator.reach`). What becomes of the request is
the forwarder's to decide: a read is asked again, the outcome of a write is unknown.

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

from cluster.coordinator.reach import Reach
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.deadline import Deadline

logger = logging.getLogger(__name__)

LONG_S = 0.75
"""A call that takes so long is looked after, and so is a request that found no leader so long."""
_ROUND_S = 0.25
_ATTEND_S = 5.0


class WatchedCall:
    """One call under way; `cut` ends it, from any thread."""

    __slots__ = ("_cut", "began", "deadline", "superseded", "target")

    def __init__(self, target: NodeId, deadline: Deadline | None) -> None:
        self.target = target
        self.deadline = deadline
        self.began = time.monotonic()
        self.superseded = False
        self._cut: Callable[[], None] | None = None

    def started(self, cut: Callable[[], None]) -> None:
        """Say how the call can be ended; ends it if it is too late already."""
        self._cut = cut
        if self.superseded:
            cut()

    def supersede(self) -> None:
        """End the call: its target does not lead any more, or is mute. Does not block."""
        self.superseded = True
        if self._cut is not None:
            self._cut()


class _Over:
    """A call under way, within a block."""

    __slots__ = ("_call", "_group_id", "_watch")

    def __init__(self, watch: CallWatch, group_id: GroupId, call: WatchedCall) -> None:
        self._watch = watch
        self._group_id = group_id
        self._call = call

    def __enter__(self) -> WatchedCall:
        self._watch._begin(self._group_id, self._call)
        return self._call

    def __exit__(self, *_: object) -> None:
        self._watch._end(self._group_id, self._call)


class CallWatch:
    """The calls under way of one node's forwarder; thread-safe.

    Args:
        is_own: whether this node has a member of a group, which reports leaders by itself.
        find_leader: asks the members of a group, but for one, which of them leads; 0 when none
            says so. Blocks for a bounded time.
        reach: which nodes answer; None: that is not looked at.
        other_nodes: the ids to ping.
    """

    def __init__(
        self,
        is_own: Callable[[GroupId], bool],
        find_leader: Callable[[GroupId, NodeId], NodeId],
        reach: Reach | None = None,
        other_nodes: Callable[[], list[NodeId]] = list,
    ) -> None:
        self._is_own = is_own
        self._find_leader = find_leader
        self._reach = reach
        self._other_nodes = other_nodes
        self._changed = threading.Condition(threading.Lock())
        self._calls: dict[GroupId, set[WatchedCall]] = {}
        self._under_way = 0
        self._seekers: dict[object, float] = {}
        self._attend_until = 0.0
        self._idle = False
        self._stopped = threading.Event()

    def over(self, group_id: GroupId, target: NodeId, deadline: Deadline | None = None) -> _Over:
        """Watch a call to the leader of a group for as long as the block lasts; a context.

        With a deadline it is also cut soon after that was given up.
        """
        return _Over(self, group_id, WatchedCall(target, deadline))

    def _begin(self, group_id: GroupId, call: WatchedCall) -> None:
        with self._changed:
            self._calls.setdefault(group_id, set()).add(call)
            self._under_way += 1
            self._wake_locked()

    def _end(self, group_id: GroupId, call: WatchedCall) -> None:
        with self._changed:
            self._calls[group_id].discard(call)
            self._under_way -= 1

    @contextmanager
    def seeking(self) -> Iterator[None]:
        """See that nodes are pinged, after a while, for as long as the block lasts."""
        token = object()
        with self._changed:
            self._seekers[token] = time.monotonic()
            self._wake_locked()
        try:
            yield
        finally:
            with self._changed:
                del self._seekers[token]

    def attend(self) -> None:
        """Go on pinging for a while: somebody goes by which nodes are mute."""
        with self._changed:
            self._attend_until = time.monotonic() + _ATTEND_S
            self._wake_locked()

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
            self._stopped.set()
            self._changed.notify()

    def run(self) -> None:
        """Thread body: look after calls that take long."""
        while True:
            with self._changed:
                self._idle = True
                while not self._has_work_locked():
                    self._changed.wait()
                self._idle = False
            # not the condition: calls come by the thousand, and none needs to be noticed at once
            if self._stopped.wait(_ROUND_S):
                return
            self._look()

    def _has_work_locked(self) -> bool:
        if self._under_way or self._seekers or self._stopped.is_set():
            return True
        return time.monotonic() < self._attend_until

    def _wake_locked(self) -> None:
        if self._idle:
            self._changed.notify()

    def _look(self) -> None:
        long_since = time.monotonic() - LONG_S
        with self._changed:
            unwanted = [
                call
                for calls in self._calls.values()
                for call in calls
                if call.deadline is not None and call.deadline.given_up
            ]
            long = [
                (group_id, call)
                for group_id, calls in self._calls.items()
                for call in calls
                if call.began < long_since and not call.superseded
            ]
            seeking = any(began < long_since for began in self._seekers.values())
            seeking = seeking or time.monotonic() < self._attend_until
        for call in unwanted:
            call.supersede()
        if self._reach is not None and (long or seeking):
            self._reach.probe(self._other_nodes())
            for group_id, call in long:
                if self._reach.is_mute(call.target):
                    logger.debug("group %d: node %d is mute: a call is cut", group_id, call.target)
                    call.supersede()
        foreign = {
            (group_id, call.target)
            for group_id, call in long
            if not call.superseded and not self._is_own(group_id)
        }
        for group_id, target in sorted(foreign):
            self.leader_is(group_id, self._find_leader(group_id, target))
