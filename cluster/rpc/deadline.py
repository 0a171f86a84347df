"""Deadlines: a time-out travels as the moment it ends, so that nested calls share one budget."""

from __future__ import annotations

import time

from cluster.errors import QUERY_CANCELLED, QUERY_TIMED_OUT, ClusterError, StatusCode


class Deadline:
    """A moment on the monotonic clock. Immutable but for `given_up`; thread-safe.

    Args:
        at: monotonic seconds.
    """

    __slots__ = ("_at",)

    def __init__(self, at: float) -> None:
        self._at = at

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that passes in `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        """Return the seconds left, 0.0 when it has passed."""
        return max(0.0, self._at - time.monotonic())

    def remaining_ms(self) -> int:
        """Return the whole milliseconds left, 0 when it has passed."""
        return int(self.remaining_s() * 1000)

    def earlier(self, seconds: float) -> Deadline:
        """Return this deadline, or the one `seconds` from now when that is sooner."""
        return Deadline(min(self._at, time.monotonic() + seconds))

    @property
    def given_up(self) -> bool:
        """Whether nobody waits any more, so that work should end before its time."""
        return False

    def check(self) -> None:
        """Raise ClusterError when it has passed, or nobody waits any more."""
        if self.given_up:
            raise ClusterError(StatusCode.QUERY_PROCESS_ERROR, QUERY_CANCELLED)
        if self.expired:
            raise ClusterError(StatusCode.TIME_OUT, QUERY_TIMED_OUT)

    @property
    def expired(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self._at

    def __repr__(self) -> str:
        return f"Deadline(in {self._at - time.monotonic():.3f} s)"


class Cancelled:
    """Whether somebody does not want an answer any more; set once, from any thread.

    A `threading.Event` without what it takes to wait for it: each query has one.
    """

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Say so."""
        self._set = True

    def is_set(self) -> bool:
        """Tell whether that was said."""
        return self._set


class QueryDeadline(Deadline):
    """The deadline of a query, which may be killed, or whose client may go away, before.

    Args:
        at: monotonic seconds.
        cancelled: set when nobody wants the answer any more.
    """

    __slots__ = ("_cancelled",)

    def __init__(self, at: float, cancelled: Cancelled) -> None:
        super().__init__(at)
        self._cancelled = cancelled

    @classmethod
    def of(cls, deadline: Deadline, cancelled: Cancelled) -> QueryDeadline:
        """Return a deadline that passes when another does, or is given up."""
        return cls(deadline._at, cancelled)

    def earlier(self, seconds: float) -> QueryDeadline:
        """Return this deadline, or the one `seconds` from now when that is sooner."""
        return QueryDeadline(min(self._at, time.monotonic() + seconds), self._cancelled)

    @property
    def given_up(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled.is_set()
