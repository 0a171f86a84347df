"""Requests of peers: stepped, and answered when the answer may leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cluster.log.node_log import GroupLog
from cluster.member.applier import Applier
from cluster.member.proposals import Waiter
from cluster.member.stepper import Stepper
from cluster.member.waiting import Replies
from cluster.raft.events import Received
from cluster.raft.messages import Message


class Begun(NamedTuple):
    """A request that was stepped and will have an answer."""

    request_id: int
    waiter: Waiter


class PeerRequests:
    """To one member; takes the member's lock.

    Args:
        replies: gets the core's answers; the lock guards it.
    """

    def __init__(
        self, *, stepper: Stepper, replies: Replies, log: GroupLog, applier: Applier
    ) -> None:
        self._stepper = stepper
        self._replies = replies
        self._log = log
        self._applier = applier

    def handle(self, make: Callable[[int], Message], timeout_s: float) -> Message | None:
        """Step with a peer's request and return the answer when it may leave.

        Args:
            make: builds the request with the id it is given.
            timeout_s: for the answer to become durable.

        Returns:
            The answer; None when the core has nothing to say, or not in time.
        """
        return self.finish(self.begin(make), timeout_s)

    def begin(self, make: Callable[[int], Message], notice: Waiter | None = None) -> Begun | None:
        """The first half of `handle`: step. `finish` must follow, with whatever this returned.

        Several groups' requests may be begun before any is finished: they share a write. Where the
        answer goes to a `notice`, the caller has the log written and calls `LoopSide.catch_up`
        instead.
        """
        stepper = self._stepper
        with stepper.lock:
            if stepper.is_stopped:
                return None
            stepper.make_up_ticks_locked()
            request_id, waiter = self._replies.open(notice)
            pending = False
            try:
                pending = stepper.step_locked(Received(make(request_id)), request_id, wake=False)
            finally:
                unanswered = not pending and request_id in self._replies
                if unanswered:
                    self._replies.forget(request_id)
        return None if unanswered else Begun(request_id, waiter)

    def finish(self, begun: Begun | None, timeout_s: float) -> Message | None:
        """The second half of `handle`: see to it that all is written, and return the answer."""
        self._log.write_here()
        self._applier.catch_up()
        if begun is None:
            return None
        if not begun.waiter.wait(timeout_s):
            self.forget(begun)
            return None
        answer: Message | None = begun.waiter.result()
        return answer

    def forget(self, begun: Begun) -> None:
        """Expect no answer any more."""
        with self._stepper.lock:
            self._replies.forget(begun.request_id)
