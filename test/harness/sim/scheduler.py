"""The virtual clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Scheduler:
    """Calls things at virtual times, in microseconds; ties in order of scheduling."""

    def __init__(self) -> None:
        self.now_us = 0
        self.calls = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []

    def after(self, delay_us: int, call: Callable[..., None], *args: Any) -> None:
        """Call `call(*args)` in `delay_us`."""
        self.calls += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self.calls, call, args))

    def at(self, at_us: int, call: Callable[..., None], *args: Any) -> None:
        """Call `call(*args)` at a time that is not past."""
        self.after(at_us - self.now_us, call, *args)

    def run(self, until_us: int, stop: Callable[[], bool] | None = None) -> None:
        """Let time pass until `until_us`, or until `stop()` holds."""
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            self.now_us, _, call, args = heapq.heappop(heap)
            call(*args)
            if stop is not None and stop():
                return
        self.now_us = until_us
