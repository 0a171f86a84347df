"""Real time in ticks: what a member's core has been told, and what it has not."""

from __future__ import annotations

import time
from collections.abc import Callable


class TickClock:
    """Counts whole ticks of the monotonic clock. The caller holds the member's lock.

    A HeartbeatThread may be late, and a process may be stopped. A lease must not outlive that, so
    the core is told with each tick how many really passed, and with each read how many more are
    due.
    """

    def __init__(self, tick_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._tick_s = tick_s
        self._now = now
        self._began = now()
        self._told = 0

    def take(self) -> int:
        """Return the ticks that passed since the last call."""
        total = int((self._now() - self._began) / self._tick_s)
        passed, self._told = total - self._told, total
        return passed

    def late(self) -> int:
        """Return the ticks that passed and were not taken yet."""
        return int((self._now() - self._began) / self._tick_s) - self._told
