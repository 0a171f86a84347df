"""Touches the process's new memory before its threads need it.

A page that the kernel hands out costs a page fault, and on a virtual machine whose host has to find
it, too, 1 to 12 µs (docs/notes/memory.md): 20 to 200 µs for a tablet of 80 KB that comes to stay,
in the one thread that serves all clients. The C library's heap grows in steps of some hundred
tablets (`cluster.allocator`). So while it grows quickly, a thread has the kernel fill each step in,
on another core, without the GIL.

Where pages are cheap, that does more harm than good: a kernel that is not preemptible lets nobody
else on that core meanwhile, and the threads of its that end the log's writes wait for milliseconds.
So of each step the first piece tells whether the rest is worth it.

Until the first memory tables were flushed; from then on their memory is used again.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import time
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)

_POPULATE_WRITE = 23
"""Of madvise(2), Linux 5.14."""
_PIECE_BYTES = 1 << 20
"""Who maps memory meanwhile waits for the piece at hand."""
_PAGE_BYTES = 4096
_DEAR_PAGE_S = 4e-6
"""A page that costs so much is worth it."""
_QUICK_S = 1.0
"""A step that comes so soon after the one before is followed by others."""


class HeapAhead:
    """`look` is for one thread, `run` is another's body.

    Args:
        end: returns the address of the heap's end.
        touch: has the kernel fill (address, bytes) in, as far as that is not done; raises OSError.
        now: monotonic seconds.
        worked: CPU seconds of the thread that asks.
    """

    def __init__(
        self,
        end: Callable[[], int],
        touch: Callable[[int, int], None],
        now: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        self._worked = worked
        self._get_end = end
        self._touch = touch
        self._now = now
        self._end = end()
        self._grown_at = float("-inf")
        self._steps: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        self._is_stopped = False

    def look(self) -> None:
        """See whether the heap has grown; half a microsecond."""
        end = self._get_end()
        if end == self._end:
            return
        before, self._end = self._end, end
        if end < before:
            return
        now = self._now()
        if now - self._grown_at < _QUICK_S:
            self._steps.put((before, end))
        self._grown_at = now

    def run(self) -> None:
        """Thread body: touch what `look` has found."""
        while (step := self._steps.get()) is not None:
            at, end = step
            at -= at % -_PAGE_BYTES
            try:
                is_worth_it = True
                while at < end and is_worth_it and not self._is_stopped:
                    before, size = self._worked(), min(_PIECE_BYTES, end - at)
                    self._touch(at, size)
                    is_worth_it = (self._worked() - before) * _PAGE_BYTES >= _DEAR_PAGE_S * size
                    at += size
            except OSError as error:
                if error.errno in (
                    errno.ENOMEM,
                    errno.EFAULT,
                ):  # given back meanwhile, or none left
                    continue
                logger.info("new memory is not touched ahead: %s", error)
                return

    def stop(self) -> None:
        """End the thread."""
        self._is_stopped = True
        self._steps.put(None)


def heap_ahead() -> HeapAhead | None:
    """Return what touches this process's heap; None: the system has no such calls."""
    try:
        sbrk = ctypes.PyDLL(None).sbrk
        madvise = ctypes.CDLL(None, use_errno=True).madvise  # gives the GIL away
    except (AttributeError, OSError, TypeError):
        return None
    sbrk.restype = ctypes.c_void_p
    sbrk.argtypes = (ctypes.c_ssize_t,)
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def end() -> int:
        return sbrk(0) or 0

    def touch(address: int, size: int) -> None:
        if madvise(address, size, _POPULATE_WRITE):
            number = ctypes.get_errno()
            raise OSError(number, "madvise")

    return HeapAhead(end, touch)
