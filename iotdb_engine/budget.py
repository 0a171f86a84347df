"""The memory budget that the memory tables of all regions share."""

from __future__ import annotations

import threading
import time


class MemoryBudget:
    """Counts bytes of active and frozen tables, and holds writers back. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self.active = 0
        self.added = 0
        self.frozen = 0
        self.stalls = 0
        self.stall_ns = 0

    @property
    def over(self) -> bool:
        """Tell whether writers should wait; exact enough without the lock."""
        return self.active + self.frozen > self.limit

    def add(self, size: int) -> bool:
        """Count bytes of an active table; return whether a flush is due."""
        with self._lock:  # the condition's own, at less cost than by it
            self.active += size
            self.added += size
            return self.active * 2 >= self.limit

    def freeze(self, size: int) -> None:
        """Move bytes from active to frozen."""
        with self._changed:
            self.active -= size
            self.frozen += size

    def release(self, *, active: int = 0, frozen: int = 0) -> None:
        """Take back bytes that are gone, and wake the writers."""
        with self._changed:
            self.active -= active
            self.frozen -= frozen
            self._changed.notify_all()

    def hold_back(self, most_s: float) -> bool:
        """Wait until there is room, or for `most_s` seconds; return whether there is room."""
        with self._changed:
            if not self.over:
                return True
            began = time.monotonic_ns()
            room = self._changed.wait_for(lambda: not self.over, most_s)
            self.stalls += 1
            self.stall_ns += time.monotonic_ns() - began
            return room
