"""Clients that wait for their proposals and reads."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from cluster.errors import ClusterError, NotLeader, OutcomeUnknown
from cluster.raft.types import GroupId, LogIndex, Term


class Waiter:
    """One thread waits, another one delivers a result or an error, once.

    A bare lock is the cheapest hand-over that CPython has: an Event costs three allocations.
    """

    __slots__ = ("_error", "_gate", "_result")

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._result: Any = None
        self._error: ClusterError | None = None

    def deliver(self, result: Any) -> None:  # noqa: ANN401
        """Hand over the result; call at most once, and not after `fail`."""
        self._result = result
        self._gate.release()

    def fail(self, error: ClusterError) -> None:
        """Hand over an error; call at most once, and not after `deliver`."""
        self._error = error
        self._gate.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait for delivery; False when the time is up. Only one thread may wait."""
        return self._gate.acquire(timeout=max(0.0, timeout_s))

    def result(self) -> Any:  # noqa: ANN401
        """Return what was delivered, or raise what failed."""
        if self._error is not None:
            raise self._error
        return self._result


class Proposals:
    """The waiters of one group's proposals, in log order. The caller holds the member's lock."""

    def __init__(self, group_id: GroupId) -> None:
        self._group_id = group_id
        self._waiting: deque[tuple[LogIndex, Term, Waiter]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, index: LogIndex, term: Term) -> Waiter:
        """Register a waiter for the entry (index, term).

        Entries that this index replaces (of an older term, truncated) fail definitely.
        """
        while self._waiting and self._waiting[-1][0] >= index:
            _, _, waiter = self._waiting.pop()
            waiter.fail(NotLeader(self._group_id, 0))
        waiter = Waiter()
        self._waiting.append((index, term, waiter))
        return waiter

    def take_until(self, index: LogIndex) -> list[tuple[LogIndex, Term, Waiter]]:
        """Remove and return the waiters of entries up to `index`, in order."""
        taken = []
        while self._waiting and self._waiting[0][0] <= index:
            taken.append(self._waiting.popleft())
        return taken

    def fail_all(self, message: str) -> None:
        """The member stops: what was proposed may or may not take effect."""
        while self._waiting:
            self._waiting.popleft()[2].fail(OutcomeUnknown(message))
