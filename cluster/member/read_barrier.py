"""What a reader of a member's applied state waits for."""

from __future__ import annotations

from cluster.errors import NotLeader, Unavailable
from cluster.member.group_machine import GroupMachine
from cluster.member.news import News
from cluster.member.stepper import Stepper
from cluster.member.waiting import Reads
from cluster.plan.reads import Consistency
from cluster.raft.events import ReadRequest
from cluster.raft.types import GroupId, LogIndex
from cluster.rpc.deadline import Deadline


class ReadBarrier:
    """Of one member; takes the member's lock.

    Args:
        reads: the reads that the core has not confirmed yet; the lock guards them.
        applied_news: told after each apply, and when the member stops.
    """

    def __init__(
        self,
        *,
        group_id: GroupId,
        stepper: Stepper,
        machine: GroupMachine,
        reads: Reads,
        applied_news: News,
    ) -> None:
        self._group_id = group_id
        self._stepper = stepper
        self._machine = machine
        self._reads = reads
        self._applied_news = applied_news

    def wait(self, deadline: Deadline, level: Consistency) -> None:
        """See `RaftMember.read_barrier`."""
        if level is Consistency.WEAK:
            return
        stepper = self._stepper
        with stepper.lock:
            if stepper.is_stopped:
                raise NotLeader(self._group_id, 0)
            late = stepper.ticks.late()
            if level is Consistency.MID:
                if not stepper.core.hears_leader(late):
                    raise NotLeader(self._group_id, 0)
                index: LogIndex | None = stepper.core.commit
            else:
                index = stepper.core.readable_index(late)  # mostly, without a step
                if index is None:
                    read_id, waiter = self._reads.open()
                    stepper.step_locked(ReadRequest(read_id, late))
        if index is None:
            if not waiter.wait(deadline.remaining_s()):
                with stepper.lock:
                    self._reads.forget(read_id)
                raise Unavailable(f"group {self._group_id}: leadership not confirmed in time")
            index = waiter.result()
        if self._machine.applied_index < index:
            self.await_applied(index, deadline)

    def await_applied(self, index: int, deadline: Deadline) -> None:
        """See `RaftMember.await_applied`."""
        if self._machine.applied_index < index:
            self._applied_news.wait_for(
                lambda: self._machine.applied_index >= index or self._stepper.is_stopped,
                deadline.remaining_s(),
            )
        if self._machine.applied_index < index:
            raise Unavailable(f"group {self._group_id}: entry {index} not applied in time")
