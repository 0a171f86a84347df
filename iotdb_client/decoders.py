"""Threads that decode what has come of a result while the rest is on its way.

Problem: a job is a fraction of a millisecond, and with a thread pool of the standard library each
costs some locks and a wake-up of who waits for it. And the system may leave the threads that are at
work on one core for a whole read while another rests: it looks for a core when it wakes one, hardly
ever while two run. Idea: one queue, and who has received everything helps until nothing is left, so
that there is one thread more than cores, which it does not leave on one of two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

_Job = tuple[Callable[..., None], tuple[Any, ...]]


class Decoders:
    """Does jobs, in the order in which they come; a context manager, for one thread.

    Args:
        threads: that do them beside the caller, which does the others in `settle`.
    """

    def __init__(self, threads: int) -> None:
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        self._awaited: threading.Event | None = None
        self._error: BaseException | None = None
        self._threads = []
        for _ in range(threads):
            thread = threading.Thread(  # noqa: TID251 for as long as one result is read
                target=self._loop, name="decode", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # the machine has no more: it goes with fewer, or none
                break
            self._threads.append(thread)

    def submit(self, job: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401
        """Have a job done some time before the next `settle` returns."""
        with self._lock:
            self._unfinished += 1
        self._queue.put((job, arguments))

    def settle(self) -> None:
        """Do what is left, and wait for what others are doing.

        Raises:
            BaseException: what a job raised, the first of them; those after it may be left out.
        """
        while (job := self._next()) is not None:
            self._run(job)
        awaited = threading.Event()
        with self._lock:
            if self._unfinished:
                self._awaited = awaited
            else:
                awaited.set()
        awaited.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _next(self) -> _Job | None:
        try:
            return self._queue.get_nowait()
        except Empty:
            return None

    def _run(self, job: _Job) -> None:
        try:
            if self._error is None:
                job[0](*job[1])
        except BaseException as error:  # noqa: BLE001 - raised by `settle`
            self._error = error
        finally:
            with self._lock:
                self._unfinished -= 1
                if self._awaited is not None and not self._unfinished:
                    self._awaited.set()
                    self._awaited = None

    def _loop(self) -> None:
        while (job := self._queue.get()) is not None:
            self._run(job)
            del job  # or its arrays stay until the next one comes

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave out what was not begun, and end the threads."""
        while self._next() is not None:
            with self._lock:
                self._unfinished -= 1
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
