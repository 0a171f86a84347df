"""The engine's background thread: it runs jobs one after another until it is closed.

The only module of the engine that starts a thread. A job is a region that wants to be flushed, or a
function.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")
logger = logging.getLogger(__name__)

_NICE = 10


class Worker(Generic[_T]):
    """One named thread that takes all requested items at once. Thread-safe.

    Items are hashable; requesting one that waits already changes nothing, so the queue is bounded
    by the number of distinct items.
    """

    def __init__(self, name: str, run: Callable[[list[_T]], None], *, is_nice: bool = True) -> None:
        """Start the thread.

        Args:
            name: of the thread.
            run: called with the items requested since its last call, in order; it handles its own
                errors, and what it lets through is logged.
            is_nice: at a low priority; not where somebody waits for it.
        """
        self._is_nice = is_nice
        self._run = run
        self._changed = threading.Condition()
        self._items: dict[_T, None] = {}
        self._stopping = False
        self._thread = threading.Thread(  # noqa: TID251 the engine knows nothing of cluster.threads
            target=self._loop, name=name, daemon=True
        )
        self._thread.start()

    def request(self, item: _T) -> None:
        """Have an item run soon; ignored after `close` began."""
        with self._changed:
            if not self._stopping:
                self._items[item] = None
                self._changed.notify_all()

    def close(self) -> None:
        """Finish what is requested, and join the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _loop(self) -> None:
        if self._is_nice:
            _be_nice()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._stopping)
                if not self._items:
                    return
                items = list(self._items)
                self._items.clear()
            try:
                self._run(items)
            except Exception:
                logger.exception("a background job of the engine failed")


def _be_nice() -> None:
    """Lower this thread's priority where the system has such a thing (Linux).

    Encoding keeps a core busy without the GIL; request threads that wake up should not have to
    wait for it.
    """
    if sys.platform == "linux":
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        except OSError as error:
            logger.debug("priority not lowered: %s", error)
