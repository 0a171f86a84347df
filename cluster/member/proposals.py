"""Clients that wait for their proposals and reads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from cluster.errors import NotLeader, OutcomeUnknown
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
        self._error: Exception | None = None

    def deliver(self, result: Any) -> None:  # noqa: ANN401
        """Hand over the result; call at most once, and not after `fail`."""
        self._result = result
        self._gate.release()

    def fail(self, error: Exception) -> None:
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


class Notice(Waiter):
    """Tells somebody that it was delivered, who then asks for the result; may be waited for, too.

    Args:
        tell: called with this object by the thread that delivers, which may hold the member's lock.
    """

    __slots__ = ("_is_told", "_late_gate", "_tell")

    # each row has two: nothing is left to `super()`, which would be half of what they cost, and
    # there is a gate only where somebody waits after all

    def __init__(self, tell: Callable[[Notice], object]) -> None:
        self._late_gate: threading.Lock | None = None
        self._is_told = False
        self._result = None
        self._error = None
        self._tell = tell

    def deliver(self, result: Any) -> None:  # noqa: ANN401
        """Hand over the result, as a Waiter does."""
        self._result = result
        self._is_told = True
        if self._late_gate is not None:
            self._late_gate.release()
        self._tell(self)

    def fail(self, error: Exception) -> None:
        """Hand over an error, as a Waiter does."""
        self._error = error
        self._is_told = True
        if self._late_gate is not None:
            self._late_gate.release()
        self._tell(self)

    def wait(self, timeout_s: float) -> bool:
        """Wait for delivery, as a Waiter does."""
        gate = threading.Lock()
        gate.acquire()
        # who delivers says so before it looks for a gate: one of both sees the other
        self._late_gate = gate
        return self._is_told or gate.acquire(timeout=max(0.0, timeout_s))


class Proposals:
    """The waiters of one group's proposals, in log order. The caller holds the member's lock."""

    def __init__(self, group_id: GroupId) -> None:
        self._group_id = group_id
        self._waiting: deque[tuple[LogIndex, Term, Waiter]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, index: LogIndex, term: Term, waiter: Waiter) -> None:
        """Register the waiter of the entry (index, term).

        Entries that this index replaces (of an older term, truncated) fail definitely.
        """
        while self._waiting and self._waiting[-1][0] >= index:
            _, _, replaced = self._waiting.pop()
            replaced.fail(NotLeader(self._group_id, 0))
        self._waiting.append((index, term, waiter))

    def refuse(self, waiters: Collection[Waiter], error: Exception) -> None:
        """Fail waiters of what is not in the log, registered or not."""
        refused = set(map(id, waiters))
        kept = [item for item in self._waiting if id(item[2]) not in refused]
        if len(kept) < len(self._waiting):
            self._waiting = deque(kept)
        for waiter in waiters:
            waiter.fail(error)

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
