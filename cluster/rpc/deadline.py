"""Deadlines: a time-out travels as the moment it ends, so that nested calls share one budget."""

from __future__ import annotations

import time


class Deadline:
    """A moment on the monotonic clock. Immutable; thread-safe.

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
    def expired(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self._at

    def __repr__(self) -> str:
        return f"Deadline(in {self._at - time.monotonic():.3f} s)"
