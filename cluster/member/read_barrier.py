"""What a reader of a member's applied state waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cluster.errors import NotLeader, Unavailable
from cluster.member.group_machine import GroupMachine
from cluster.member.news import News
from cluster.member.tick_clock import TickClock
from cluster.member.waiting import Reads
from cluster.plan.reads import Consistency
from cluster.raft.core import RaftCore
from cluster.raft.events import ReadRequest
from cluster.raft.types import GroupId, LogIndex
from cluster.rpc.deadline import Deadline


class ReadBarrier:
    """Of one member; takes the member's lock.

    Args:
        reads: the reads that the core has not confirmed yet; the lock guards them.
        ticks: time that the core was not told of yet.
        applied_news: told after each apply, and when the member stops.
        is_stopped: whether the member takes no part any more.
        step: steps the core and carries out what it wants; with the lock held.
    """

    def __init__(
        self,
        *,
        group_id: GroupId,
        lock: threading.Lock,
        core: RaftCore,
        machine: GroupMachine,
        reads: Reads,
        ticks: TickClock,
        applied_news: News,
        is_stopped: Callable[[], bool],
        step: Callable[[ReadRequest], object],
    ) -> None:
        self._group_id = group_id
        self._lock = lock
        self._core = core
        self._machine = machine
        self._reads = reads
        self._ticks = ticks
        self._applied_news = applied_news
        self._is_stopped = is_stopped
        self._step = step

    def wait(self, deadline: Deadline, level: Consistency) -> None:
        """See `RaftMember.read_barrier`."""
        if level is Consistency.WEAK:
            return
        with self._lock:
            if self._is_stopped():
                raise NotLeader(self._group_id, 0)
            late = self._ticks.late()
            if level is Consistency.MID:
                if not self._core.hears_leader(late):
                    raise NotLeader(self._group_id, 0)
                index: LogIndex | None = self._core.commit
            else:
                index = self._core.readable_index(late)  # mostly, without a step
                if index is None:
                    read_id, waiter = self._reads.open()
                    self._step(ReadRequest(read_id, late))
        if index is None:
            if not waiter.wait(deadline.remaining_s()):
                with self._lock:
                    self._reads.forget(read_id)
                raise Unavailable(f"group {self._group_id}: leadership not confirmed in time")
            index = waiter.result()
        if self._machine.applied_index < index:
            self.await_applied(index, deadline)

    def await_applied(self, index: int, deadline: Deadline) -> None:
        """See `RaftMember.await_applied`."""
        if self._machine.applied_index < index:
            self._applied_news.wait_for(
                lambda: self._machine.applied_index >= index or self._is_stopped(),
                deadline.remaining_s(),
            )
        if self._machine.applied_index < index:
            raise Unavailable(f"group {self._group_id}: entry {index} not applied in time")
