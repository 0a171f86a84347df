"""Proposals that gather while the log writes.

Appending one entry costs the same Python as appending five: a step of the core, a record of what it
wants, a report of what is durable, one of what is applied. So clients' plans wait here until the
log writer is about to write, and all that came meanwhile is appended in one step. Where nobody
writes, that is at once in a group of one. In a replicated group a step also costs a call to every
follower and a write there; so who comes first waits a little for the others that have been writing
of late. A client that writes alone does not wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cluster.errors import ClusterError, NotLeader, OutcomeUnknown, Overloaded, Unavailable
from cluster.log.node_log import GroupLog
from cluster.member.proposals import Proposals, Waiter
from cluster.member.stepper import Stepper
from cluster.plan.request_id import Requested
from cluster.raft.effects import RejectReason
from cluster.raft.events import Propose
from cluster.raft.types import NO_NODE, GroupId, LogIndex, NodeId, Role
from cluster.rpc.deadline import Deadline

logger = logging.getLogger(__name__)

_GATHER_S = 0.002
"""Longest wait for the plans of other clients that seem to be writing."""
_LONG_GATHER_S = 0.006
"""The same where they have come of late, and who waits is no thread."""
_DOUBT_S = 0.1
"""After a long wait that brought half of them or fewer there is no other one for so long."""
_LARGE_BYTES = 16 << 10
"""A plan of this size waits for no others: its bytes cost more than what going together saves."""
_FORGET_S = 0.1
_FORGET_SHARE = 1 / 40
_OVERLOADS = (RejectReason.TOO_MANY_UNCOMMITTED, RejectReason.TOO_MANY_UNAPPLIED)


class Proposal(NamedTuple):
    """A plan in its byte form, who waits for its outcome, and what it decodes to, if at hand."""

    payload: bytes
    waiter: Waiter
    known: Requested | None


class Inbox:
    """Plans that are to be appended, in order of arrival; thread-safe.

    Args:
        group_id: for messages.
        max_bytes: above it plans are refused; a single one is taken, however large.
    """

    def __init__(self, group_id: GroupId, max_bytes: int) -> None:
        self._group_id = group_id
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: list[Proposal] = []
        self._bytes = 0
        self._goal = 0
        # Of who waits for the goal; released by whoever takes it from here, so once. Each has its
        # own: one that is called may still be on its way when the next begins to wait.
        self._gate: threading.Lock | None = None

    def add(
        self, payload: bytes, known: Requested | None = None, waiter: Waiter | None = None
    ) -> tuple[Waiter, bool]:
        """Take a plan; raises Overloaded when too much waits already.

        Returns:
            Who gets its outcome, and whether it is the first that waits here.
        """
        waiter = waiter or Waiter()
        size = len(payload)
        with self._lock:
            if self._waiting and self._bytes + size > self._max_bytes:
                raise Overloaded(f"group {self._group_id}: too much waits to be appended")
            self._waiting.append(Proposal(payload, waiter, known))
            self._bytes += size
            count = len(self._waiting)
            if count == self._goal:
                self._call()
        return waiter, count == 1

    def _call(self) -> None:
        """Let go on who gathers, if somebody does; with the lock held."""
        gate, self._gate = self._gate, None
        self._goal = 0
        if gate is not None:
            gate.release()

    def gather(self, goal: int, most_s: float) -> None:
        """Wait until so many plans wait, or for so long; by who added the first of them."""
        gate = threading.Lock()
        gate.acquire()
        with self._lock:
            if self._goal or not 0 < len(self._waiting) < goal:
                return
            self._goal, self._gate = goal, gate
        if not gate.acquire(timeout=most_s):
            with self._lock:
                if self._gate is gate:
                    self._goal, self._gate = 0, None

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> list[Proposal]:
        """Remove and return all that waits."""
        with self._lock:
            taken, self._waiting = self._waiting, []
            self._bytes = 0
            self._call()
        return taken

    def withdraw(self, waiter: Waiter) -> bool:
        """Remove a plan that nobody waits for any more; False: it was taken before."""
        with self._lock:
            for number, proposal in enumerate(self._waiting):
                if proposal.waiter is waiter:
                    del self._waiting[number]
                    self._bytes -= len(proposal.payload)
                    return True
        return False


class Appender:
    """Takes clients' plans, and appends what has gathered when the log writes.

    Args:
        proposals: the waiters of what is appended; the member's lock guards them.
        max_bytes: see `Inbox`.
        expect: told the index and byte form of what is appended, and what that decodes to, where
            it is at hand.
    """

    def __init__(
        self,
        *,
        group_id: GroupId,
        log: GroupLog,
        stepper: Stepper,
        proposals: Proposals,
        max_bytes: int,
        expect: Callable[[int, bytes, Requested], None],
    ) -> None:
        self._group_id = group_id
        self._log = log
        self._stepper = stepper
        self._proposals = proposals
        self._expect = expect
        self.inbox = Inbox(group_id, max_bytes)
        self._is_fed = False
        self._peak = 0.0
        self._gathered_at = 0.0
        self._gathers_until = 0.0
        self._doubts_until = 0.0

    def put(self, payload: bytes, known: Requested | None = None) -> Waiter:
        """Have a plan appended with the next write of the log, which is now where the disk is idle.

        Raises:
            NotLeader: the member does not lead; nothing was taken.
            Overloaded: see `Inbox`.
        """
        self._check_leads()
        waiter, is_first = self.inbox.add(payload, known)
        if self._replicates():
            goal = self._goal(time.monotonic())
            if not is_first:
                return waiter
            self.inbox.gather(goal, _GATHER_S)
        self._feed()
        self._log.write_here()
        return waiter

    def put_for(
        self, notice: Waiter, payload: bytes, known: Requested | None, now: float
    ) -> float | None:
        """Have a plan appended without waiting.

        Args:
            notice: gets the outcome.
            payload: the plan's byte form.
            known: what it would be decoded to, if that is at hand.
            now: the caller's clock, in monotonic seconds.

        Returns:
            0.0: it is, with the next write of the log, which the caller sees to. Else it waits for
            the plans of others: at that time `append_soon` is to be called; None: somebody was told
            so already.

        Raises:
            NotLeader, Overloaded: as by `put`; the notice is not told.
        """
        self._check_leads()
        is_first = self.inbox.add(payload, known, notice)[1]
        may_gather = len(payload) < _LARGE_BYTES and self._replicates()
        if may_gather and len(self.inbox) < self._goal(now):
            if not is_first:
                return None
            most_s = _GATHER_S if now < self._doubts_until else _LONG_GATHER_S
            self._gathers_until = now + most_s
            return self._gathers_until
        self._feed()
        return 0.0

    def append_soon(self, now: float) -> bool:
        """Have what waits appended with the next write of the log.

        Returns:
            False: nothing waits, or what does has come later, and has its own time.
        """
        gathered = len(self.inbox)
        if not gathered or now < self._gathers_until:
            return False
        if now >= self._doubts_until and gathered * 2 <= round(self._peak):
            self._doubts_until = now + _DOUBT_S
        self._feed()
        return True

    def _feed(self) -> None:
        """Have what waits appended with the log's next write; once, however many come till then."""
        if not self._is_fed:
            self._is_fed = True
            self._log.feed(self._append)

    def _check_leads(self) -> None:
        stepper = self._stepper
        if stepper.is_stopped or stepper.core.role is not Role.LEADER:
            raise NotLeader(self._group_id, NO_NODE if stepper.is_stopped else stepper.core.leader)

    def _replicates(self) -> bool:
        return len(self._stepper.core.membership.voters) > 1

    def _goal(self, now: float) -> int:
        """Return how many plans were under way at a time of late: so many may come together.

        The highest number is forgotten slowly, and at once after a pause.
        """
        outstanding = len(self.inbox) + len(self._proposals)
        if now - self._gathered_at > _FORGET_S:
            self._peak = 0.0
        self._gathered_at = now
        self._peak = max(float(outstanding), self._peak * (1 - _FORGET_SHARE))
        return round(self._peak)

    def await_outcome(self, waiter: Waiter, deadline: Deadline) -> Any:  # noqa: ANN401
        """Return what became of a plan; see `RaftMember.propose` for the errors."""
        if not waiter.wait(deadline.remaining_s()):
            raise self.give_up(waiter)
        outcome = waiter.result()
        if isinstance(outcome, ClusterError):  # a request that came too late, see RequestTable
            raise outcome
        return outcome

    def give_up(self, waiter: Waiter) -> ClusterError:
        """Return what became of a plan whose time is up, as far as can be said."""
        if self.inbox.withdraw(waiter):
            return Unavailable(
                f"group {self._group_id}: the log did not take it before the deadline; "
                "nothing was done"
            )
        return OutcomeUnknown(f"group {self._group_id}: not applied before the deadline")

    def stop_locked(self) -> None:
        """Refuse what waits: the member appends nothing more."""
        self._refuse(self.inbox.take(), NotLeader(self._group_id, 0))

    def lose_leadership_locked(self, leader: NodeId) -> None:
        """Refuse what waits, at once: the log's next write may be long in coming.

        Args:
            leader: who leads now, as far as known.
        """
        self._refuse(self.inbox.take(), NotLeader(self._group_id, leader))

    def append_meanwhile(self) -> None:
        """Append what waits although a write is under way, so that the followers get it.

        Only when a quorum has all that was appended before: so there comes a moment at which
        others have all that is here, and may take over, however much clients go on writing. A
        member that does not lead refuses what came just when it lost its leadership.
        """
        core = self._stepper.core
        if not len(self.inbox):
            return
        shows = self._replicates() and core.commit == core.last_index
        if shows or core.role is not Role.LEADER:
            self._append()
            self._log.wake()

    # ---- by the log writer ----

    def _append(self) -> None:
        """The log writer's call, before it takes what is queued; thread-safe."""
        # before what waits is looked at: what is put behind that look is fed anew
        self._is_fed = False
        if not len(self.inbox):
            return
        with self._stepper.lock:
            # with the lock: what is taken first is appended first, whoever else appends
            taken = self.inbox.take()
            if not taken:
                return
            try:
                if self._append_locked(taken) or len(taken) == 1:
                    return
                # together they are too many: as many as there is room for
                while taken:
                    self._append_locked(taken[:1])
                    del taken[0]
            except Exception as error:
                # nothing of it was written: the log takes no more, or the core has stopped
                logger.exception("group %d: nothing can be appended", self._group_id)
                self._refuse(taken, error)

    def _append_locked(self, batch: list[Proposal]) -> bool:
        """Append plans in one step; False: refused, and told so if there was but one."""
        stepper = self._stepper
        if stepper.is_stopped:
            self._refuse(batch, NotLeader(self._group_id, 0))
            return True
        effects = stepper.core_step_locked(Propose(tuple([item.payload for item in batch])))
        proposed, rejected = effects.proposed, effects.rejected
        if proposed is not None:
            # registered before routing: a group of one may commit inside the log's callback
            for index, item in enumerate(batch, proposed.first_index):
                self._proposals.add(LogIndex(index), proposed.term, item.waiter)
                if item.known is not None:
                    self._expect(index, item.payload, item.known)
        stepper.router.route(effects, wake=False)
        if rejected is None:
            return True
        if rejected.reason not in _OVERLOADS:
            self._refuse(batch, NotLeader(self._group_id, rejected.leader))
            return True
        if len(batch) == 1:
            self._refuse(batch, Overloaded(f"group {self._group_id}: {rejected.reason.value}"))
        return False

    def _refuse(self, batch: list[Proposal], error: Exception) -> None:
        self._proposals.refuse([item.waiter for item in batch], error)
