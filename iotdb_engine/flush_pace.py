"""How fast a flush works: in the background while rows come and there is room for them.

Problem: encoding columns takes a core for seconds, and the interpreter's lock in many small pieces.
Beside it rows are written at half their rate, although nobody needs the flush to be done soon.

Idea: while rows are being written it works for a share of the time only, until the memory tables
fill most of their budget; then it works all the time. Under a load that lasts, memory is always
that full, so nothing is lost of the rate at which an engine can store.

Whoever waits for a flush, for whatever reason, says so (`hurry`): then no flush rests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from iotdb_engine.budget import MemoryBudget

_SHARE = 0.05
_ROOM_SHARE = 0.75
"""Of the budget: so full, and what is left is for the rows that come until the flush is done."""
_BUSY_S = 0.5
"""Rows that came within this time mean that writers are at work."""
_LOOK_S = 0.1
"""Memory may fill, and writers may stop, during a rest: so often that is looked at."""


class FlushPace:
    """Of all flushes of an engine. Thread-safe; `rest` is for the thread that flushes.

    Args:
        budget: of the memory tables.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._hurried = 0
        self._hurry = threading.Event()
        self._seen = (0, float("-inf"))
        self._worked_at = 0.0

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """Inside, no flush rests."""
        with self._lock:
            self._hurried += 1
            self._hurry.set()
        try:
            yield
        finally:
            with self._lock:
                self._hurried -= 1
                if not self._hurried:
                    self._hurry.clear()

    @property
    def is_hurried(self) -> bool:
        """Whether somebody waits for a flush."""
        return self._hurry.is_set()

    def begin(self) -> None:
        """Work begins; `rest` is to follow after each piece of it."""
        self._worked_at = time.thread_time()

    def rest(self) -> None:
        """Rest after a piece of work, as long as there is time."""
        now = time.monotonic()
        until = now + (time.thread_time() - self._worked_at) * (1 / _SHARE - 1)
        while rest_s := self.rest_s(until - now, now):
            self._hurry.wait(rest_s)
            now = time.monotonic()
        self._worked_at = time.thread_time()

    def rest_s(self, owed_s: float, now_s: float) -> float:
        """Return how long to rest before the next look, in seconds.

        Args:
            owed_s: what is left of the rest for the piece of work that was done.
            now_s: on the monotonic clock.

        Returns:
            0: no rest is left, somebody waits, nobody writes, or room is short.
        """
        budget = self._budget
        written = budget.added
        if written != self._seen[0]:
            self._seen = (written, now_s)
        if (
            self.is_hurried
            or now_s - self._seen[1] >= _BUSY_S
            or budget.active + budget.frozen >= _ROOM_SHARE * budget.limit
        ):
            return 0.0
        return min(max(owed_s, 0.0), _LOOK_S)
