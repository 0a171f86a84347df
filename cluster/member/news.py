"""Threads that wait for a member to apply something, or to change its role."""

from __future__ import annotations

import threading
from collections.abc import Callable


class News:
    """A condition that is looked at again with every piece of news.

    Tellers may hold the member's lock; waiters must not: nobody takes that lock while holding this
    one's.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waiting = 0

    def tell(self) -> None:
        """Something may have come true."""
        # who waits counts itself before it looks at the condition: one of both sees the other
        if self._waiting:
            with self._changed:
                self._changed.notify_all()

    def wait_for(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Wait until `condition` holds or the time is up; return whether it holds."""
        with self._changed:
            self._waiting += 1
            try:
                return bool(self._changed.wait_for(condition, timeout_s))
            finally:
                self._waiting -= 1
