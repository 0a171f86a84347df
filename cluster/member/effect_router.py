"""Carries out what a member's core wants: where each effect goes, and when.

Nothing here blocks or steps the core: an effect becomes a place in a queue, of the log writer, a
link, a dispatcher, the applier. What must not leave before a write is durable is held until the
log writer has reported it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from cluster.log.node_log import GroupLog
from cluster.member.applier import Applier
from cluster.member.dispatchers import Dispatchers
from cluster.member.snapshots import MemberSnapshots
from cluster.member.waiting import Reads, Replies
from cluster.raft.effects import Effects, Persist, RoleChanged
from cluster.raft.messages import AppendResponse, HeartbeatResponse, Message, VoteResponse
from cluster.raft.types import LogIndex, Term

_ANSWERS = (AppendResponse, HeartbeatResponse, VoteResponse)


class DueReports:
    """Durable writes of one batch of the log; only for who is writing it.

    Attributes:
        writes: how many of the group's submitted writes are durable by this batch.
        reports: last entries (index, term) that the core is to be told of, in order.
    """

    __slots__ = ("last_rewrote", "reports", "writes")

    def __init__(self) -> None:
        self.writes = 0
        self.reports: list[tuple[LogIndex, Term]] = []
        self.last_rewrote = False

    def note(self, last: tuple[LogIndex, Term] | None, rewrites: bool) -> None:
        """Take note that one submitted write is durable.

        Of appends in a row the newest says it all. A write that truncated is reported by itself:
        the core tells reports about replaced entries from those about their successors by it.
        """
        self.writes += 1
        if last is not None:
            if self.reports and not rewrites and not self.last_rewrote:
                self.reports[-1] = last
            else:
                self.reports.append(last)
            self.last_rewrote = rewrites


class EffectRouter:
    """Of one member. The caller holds the member's lock, but for `take_due`.

    Args:
        post: hands a request to the peer's link; returns at once.
        awake: cleared while the group sleeps.
        on_role_changed: the member's own part of a change of role.
    """

    def __init__(
        self,
        *,
        log: GroupLog,
        post: Callable[[Message], None],
        replies: Replies,
        reads: Reads,
        dispatchers: Dispatchers,
        applier: Applier,
        snapshots: MemberSnapshots,
        awake: threading.Event,
        on_role_changed: Callable[[RoleChanged], None],
    ) -> None:
        self._log = log
        self._post = post
        self._replies = replies
        self._reads = reads
        self._dispatchers = dispatchers
        self._applier = applier
        self._snapshots = snapshots
        self._awake = awake
        self._on_role_changed = on_role_changed
        self._submitted = 0
        self._durable = 0
        self._due = DueReports()
        self._held: deque[tuple[int, list[Message]]] = deque()

    def route(self, effects: Effects, request_id: int = 0, *, wake: bool = True) -> bool:
        """Carry out what a step wants; True when the answer to `request_id` is held.

        Args:
            effects: of the step; routed once, in the order of the steps.
            request_id: of the peer's request that was stepped with; 0: none.
            wake: have the log written now; else the caller sees to that, without the lock.
        """
        held = False
        if effects.persist is not None:
            self._submit(effects.persist, wake)
        for message in effects.send:
            self._send(message)
        if effects.send_after_persist:
            if self._durable >= self._submitted:
                for message in effects.send_after_persist:
                    self._send(message)
            else:
                self._held.append((self._submitted, effects.send_after_persist))
                held = any(message.id == request_id for message in effects.send_after_persist)
        for append in effects.appends:
            self._dispatchers.offer(append)
        if effects.commit is not None:
            self._applier.advance(effects.commit)
        if effects.snapshots or effects.cancelled_snapshots:
            self._snapshots.route(effects)
        if effects.membership is not None:
            self._dispatchers.retain(effects.membership.members())
        if effects.reads or effects.reads_rejected:
            self._reads.settle(effects.reads, effects.reads_rejected)
        if effects.role_changed is not None:
            self._on_role_changed(effects.role_changed)
        if effects.asleep is not None:
            if effects.asleep:
                self._awake.clear()
                self._dispatchers.stop()  # nothing is under way
            else:
                self._awake.set()
        return held

    def take_due(self) -> DueReports:
        """Return what became durable since the last call; by the log writer, without the lock."""
        due, self._due = self._due, DueReports()
        return due

    def release(self, writes: int) -> None:
        """Send what was held for the next `writes` submitted writes, which are durable now."""
        self._durable += writes
        while self._held and self._held[0][0] <= self._durable:
            for message in self._held.popleft()[1]:
                self._send(message)

    def _submit(self, persist: Persist, wake: bool) -> None:
        self._submitted += 1
        last = persist.entries[-1] if persist.entries else persist.snapshot
        rewrites = bool(persist.truncate_from) or persist.snapshot is not None
        self._log.submit(
            persist,
            lambda: self._due.note(last and (last.index, last.term), rewrites),
            wake=wake,
        )

    def _send(self, message: Message) -> None:
        if isinstance(message, _ANSWERS):
            self._replies.deliver(message)
        else:
            self._post(message)
