"""The one way to start a thread in the server process.

Every thread is named `job-group`, is registered, and is reported if it does not end when asked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


class ThreadRegistry:
    """The live threads of one node; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._not_started = 0

    def spawn(self, name: str, target: Callable[[], None]) -> threading.Thread:
        """Start a daemon thread that runs `target` and forgets itself at its end.

        An exception that leaves `target` is logged with its traceback; it never kills the process
        silently.

        Raises:
            RuntimeError: the system has no room for another thread; nothing was started. It is
                logged here, ever more rarely.
        """

        def run() -> None:
            try:
                target()
            except Exception:
                logger.exception("thread %s died", name)
                raise
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            try:
                thread.start()
            except RuntimeError as error:
                self._not_started += 1
                if self._not_started & (self._not_started - 1) == 0:
                    logger.warning(
                        "no thread %s (of %d that could not be started so far): %s",
                        name,
                        self._not_started,
                        error,
                    )
                raise
            self._threads.add(thread)
        return thread

    def names(self) -> list[str]:
        """Return the names of the live threads, sorted."""
        with self._lock:
            return sorted(thread.name for thread in self._threads)

    def join_all(self, timeout_s: float) -> list[str]:
        """Wait for every thread to end; return the names of those that did not in time."""
        end = time.monotonic() + timeout_s
        with self._lock:
            waiting = list(self._threads)
        for thread in waiting:
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))
        return sorted(thread.name for thread in waiting if thread.is_alive())
