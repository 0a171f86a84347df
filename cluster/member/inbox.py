"""Proposals that gather while the log writes.

Appending one entry costs the same Python as appending five: a step of the core, a record of what it
wants, a report of what is durable, one of what is applied. So clients' plans wait here until the
log writer is about to write, and all that came meanwhile is appended in one step. Where nobody
writes, that is at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from cluster.errors import ClusterError, NotLeader, OutcomeUnknown, Overloaded, Unavailable
from cluster.log.node_log import GroupLog
from cluster.member.proposals import Proposals, Waiter
from cluster.raft.effects import Effects, RejectReason
from cluster.raft.events import Propose
from cluster.raft.types import GroupId, LogIndex
from cluster.rpc.deadline import Deadline

logger = logging.getLogger(__name__)

_OVERLOADS = (RejectReason.TOO_MANY_UNCOMMITTED, RejectReason.TOO_MANY_UNAPPLIED)


class Proposal(NamedTuple):
    """A plan in its byte form, and who waits for its outcome."""

    payload: bytes
    waiter: Waiter


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

    def add(self, payload: bytes) -> Waiter:
        """Take a plan; raises Overloaded when too much waits already."""
        waiter = Waiter()
        size = len(payload)
        with self._lock:
            if self._waiting and self._bytes + size > self._max_bytes:
                raise Overloaded(f"group {self._group_id}: too much waits to be appended")
            self._waiting.append(Proposal(payload, waiter))
            self._bytes += size
        return waiter

    def take(self) -> list[Proposal]:
        """Remove and return all that waits."""
        with self._lock:
            taken, self._waiting = self._waiting, []
            self._bytes = 0
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
        lock: the member's.
        proposals: the waiters of what is appended; the lock guards them.
        max_bytes: see `Inbox`.
        is_stopped: whether the member has stopped, or its core has failed.
        step: steps the core; with the lock held.
        route: carries effects out, without waking the log writer; with the lock held.
    """

    def __init__(
        self,
        *,
        group_id: GroupId,
        log: GroupLog,
        lock: threading.Lock,
        proposals: Proposals,
        max_bytes: int,
        is_stopped: Callable[[], bool],
        step: Callable[[Propose], Effects],
        route: Callable[[Effects], object],
    ) -> None:
        self._group_id = group_id
        self._log = log
        self._lock = lock
        self._proposals = proposals
        self._step = step
        self._route = route
        self._is_stopped = is_stopped
        self.inbox = Inbox(group_id, max_bytes)

    def put(self, payload: bytes) -> Waiter:
        """Have a plan appended with the next write of the log, which is now where the disk is idle.

        Raises:
            Overloaded: see `Inbox`.
        """
        waiter = self.inbox.add(payload)
        self._log.feed(self._append)
        self._log.write_here()
        return waiter

    def await_outcome(self, waiter: Waiter, deadline: Deadline) -> Any:  # noqa: ANN401
        """Return what became of a plan; see `RaftMember.propose` for the errors."""
        if not waiter.wait(deadline.remaining_s()):
            if self.inbox.withdraw(waiter):
                raise Unavailable(
                    f"group {self._group_id}: the log did not take it before the deadline; "
                    "nothing was done"
                )
            raise OutcomeUnknown(f"group {self._group_id}: not applied before the deadline")
        outcome = waiter.result()
        if isinstance(outcome, ClusterError):  # a request that came too late, see RequestTable
            raise outcome
        return outcome

    def stop_locked(self) -> None:
        """Refuse what waits: the member appends nothing more."""
        self._refuse(self.inbox.take(), NotLeader(self._group_id, 0))

    # ---- by the log writer ----

    def _append(self) -> None:
        """The log writer's call, before it takes what is queued."""
        taken = self.inbox.take()
        if not taken:
            return
        with self._lock:
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
        if self._is_stopped():
            self._refuse(batch, NotLeader(self._group_id, 0))
            return True
        effects = self._step(Propose(tuple([item.payload for item in batch])))
        proposed, rejected = effects.proposed, effects.rejected
        if proposed is not None:
            # registered before routing: a group of one may commit inside the log's callback
            for index, item in enumerate(batch, proposed.first_index):
                self._proposals.add(LogIndex(index), proposed.term, item.waiter)
        self._route(effects)
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
