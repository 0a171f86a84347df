"""The engine's background thread: it runs jobs one after another until it is closed.

The only module of the engine that starts a thread. A job is a region that wants to be flushed, or a
function.

Problem: work in the background is done at a low priority, and sometimes somebody has to wait for
the rest of it, on a machine that is busy with other processes. A thread may lower its priority but,
without privileges, not raise it again. So work is done in steps, and between two of them another
thread, of the usual priority, can go on in the place of the first (`Worker.hasten`).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")
_Thread = threading.Thread  # noqa: TID251 the engine knows nothing of cluster.threads
logger = logging.getLogger(__name__)

_NICE = 10
"""So much lower is the priority than that of the process."""


class Worker(Generic[_T]):
    """One named thread that takes all requested items at once. Thread-safe.

    Items are hashable; requesting one that waits already changes nothing, so the queue is bounded
    by the number of distinct items.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[list[_T]], Iterable[object] | None],
        *,
        is_nice: bool = True,
    ) -> None:
        """Start the thread.

        Args:
            name: of the thread.
            run: called with the items requested since its last call, in order; it handles its own
                errors, and what it lets through is logged. It may do its work in steps, each when
                what it returned is asked for the next: not all by the same thread, but one after
                the other, and to the end. So it holds no lock from one to the next.
            is_nice: at a low priority; not where somebody waits for it.
        """
        self._is_nice = is_nice
        self._run = run
        self._changed = threading.Condition()
        self._items: dict[_T, None] = {}
        self._stopping = False
        # What is left of the work that was begun; of the thread whose turn it is.
        self._steps: Iterator[object] | None = None
        self._thread = self._make_thread(name, None)
        self._thread.start()

    def _make_thread(self, name: str, before: _Thread | None) -> _Thread:
        return _Thread(target=self._loop, args=(before,), name=name, daemon=True)

    def request(self, item: _T) -> None:
        """Have an item run soon; ignored after `close` began."""
        with self._changed:
            if not self._stopping:
                self._items[item] = None
                self._changed.notify_all()

    def hasten(self) -> None:
        """Have everything from the next step on done at the usual priority; returns at once.

        For good. Where no other thread can be started, the one of low priority goes on.
        """
        with self._changed:
            if not self._is_nice or self._stopping:
                return
            successor = self._make_thread(self._thread.name, self._thread)
            try:
                successor.start()
            except RuntimeError as error:
                logger.warning("background work goes on at a low priority: %s", error)
                return
            self._is_nice = False
            self._thread = successor
            self._changed.notify_all()

    def close(self) -> None:
        """Finish what is requested, and join the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _loop(self, before: _Thread | None) -> None:
        if before is not None:
            before.join()
        elif self._is_nice:
            _be_nice()
        own = threading.current_thread()
        while True:
            try:
                if self._steps is None:
                    items = self._next_items(own)
                    if not items:
                        return
                    self._steps = iter(self._run(items) or ())
                for _ in self._steps:
                    if self._thread is not own:
                        return
            except Exception:
                logger.exception("a background job of the engine failed")
            self._steps = None

    def _next_items(self, own: _Thread) -> list[_T]:
        """Wait for what is to be done by this thread; none: its time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._stopping or self._thread is not own)
            if self._thread is not own:
                return []
            items = list(self._items)
            self._items.clear()
            return items


def _be_nice() -> None:
    """Lower this thread's priority where the system has such a thing (Linux).

    Encoding keeps a core busy without the GIL; request threads that wake up should not have to
    wait for it.
    """
    if sys.platform == "linux":
        own = threading.get_native_id()
        try:
            present = os.getpriority(os.PRIO_PROCESS, own)
            os.setpriority(os.PRIO_PROCESS, own, present + _NICE)
        except OSError as error:
            logger.debug("priority not lowered: %s", error)
