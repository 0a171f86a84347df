"""Touches the process's new memory before its threads need it.

A page that the kernel hands out costs a page fault, and on a virtual machine whose host has to find
it, too, 1 to 12 µs (docs/notes/memory.md): 20 to 200 µs for a tablet of 80 KB that comes to stay,
in the one thread that serves all clients. The C library's heap grows in steps of some hundred
tablets (`cluster.allocator`). So while it grows quickly, each step is filled in ahead.

Where pages are dear, a thread has the kernel do it, on another core, without the GIL. Where they
are cheap, that does more harm than good: a kernel that is not preemptible lets nobody else on that
core meanwhile, and the threads of its that end the log's writes wait for milliseconds. There the
thread that serves does it, in small pieces, when it would sleep otherwise (`FrameLoop.when_idle`).
So of each step a small piece tells which it is.

Until the first memory tables were flushed; from then on their memory is used again.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

logger = logging.getLogger(__name__)

_POPULATE_WRITE = 23
"""Of madvise(2), Linux 5.14."""
_PIECE_BYTES = 1 << 20
"""Who maps memory meanwhile waits for the piece at hand."""
_SMALL_PIECE_BYTES = 32 << 10
"""Where pages are cheap: who has something for the thread waits for it, some 20 µs."""
_PAGE_BYTES = 4096
_DEAR_PAGE_S = 4e-6
"""A page that costs so much is worth it."""
_QUICK_S = 1.0
"""A step that comes so soon after the one before is followed by others."""


class HeapAhead:
    """`look` and `touch_some` are for one thread, `run` is another's body.

    Args:
        end: returns the address of the heap's end.
        touch: has the kernel fill (address, bytes) in, as far as that is not done; raises OSError.
        touch_here: the same, without giving the GIL away.
        now: monotonic seconds.
        worked: CPU seconds of the thread that asks.
    """

    def __init__(
        self,
        end: Callable[[], int],
        touch: Callable[[int, int], None],
        touch_here: Callable[[int, int], None],
        now: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        self._worked = worked
        self._get_end = end
        self._touch = touch
        self._touch_here = touch_here
        self._now = now
        self._end = end()
        self._grown_at = float("-inf")
        self._next, self._until = 0, 0
        self._steps: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        self._is_stopped = False

    def look(self) -> None:
        """See whether the heap has grown; half a microsecond."""
        end = self._get_end()
        if end == self._end:
            return
        before, self._end = self._end, end
        self._until = 0
        if end < before:
            return
        now = self._now()
        if now - self._grown_at < _QUICK_S:
            self._begin_step(before - before % -_PAGE_BYTES, end)
        self._grown_at = now

    def touch_some(self) -> bool:
        """Touch a small piece of what is left of a step; False: nothing is."""
        at, until = self._next, self._until
        if at >= until:
            return False
        size = min(_SMALL_PIECE_BYTES, until - at)
        self._next = at + size
        if not self._is_touched(self._touch_here, at, size):
            self._until = 0
        return True

    def run(self) -> None:
        """Thread body: touch the steps whose pages are dear."""
        while (step := self._steps.get()) is not None:
            at, until = step
            while at < until and not self._is_stopped:
                size = min(_PIECE_BYTES, until - at)
                if not self._is_touched(self._touch, at, size):
                    break
                at += size

    def _begin_step(self, at: int, until: int) -> None:
        if self._is_stopped:
            return
        size = min(_SMALL_PIECE_BYTES, until - at)
        before = self._worked()
        if not self._is_touched(self._touch_here, at, size):
            return
        at += size
        if (self._worked() - before) * _PAGE_BYTES >= _DEAR_PAGE_S * size:
            self._steps.put((at, until))
        else:
            self._next, self._until = at, until

    def _is_touched(self, touch: Callable[[int, int], None], at: int, size: int) -> bool:
        try:
            touch(at, size)
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.EFAULT):
                logger.info("new memory is not touched ahead: %s", error)
                self.stop()
            return False  # given back meanwhile, or none left
        return True

    def stop(self) -> None:
        """End the thread."""
        self._is_stopped = True
        self._steps.put(None)


def heap_ahead() -> HeapAhead | None:
    """Return what touches this process's heap; None: the system has no such calls."""
    try:
        sbrk = ctypes.PyDLL(None).sbrk
        madvise = ctypes.CDLL(None, use_errno=True).madvise  # gives the GIL away
        madvise_here = ctypes.PyDLL(None, use_errno=True).madvise
    except (AttributeError, OSError, TypeError):
        return None
    sbrk.restype = ctypes.c_void_p
    sbrk.argtypes = (ctypes.c_ssize_t,)

    def end() -> int:
        return sbrk(0) or 0

    return HeapAhead(end, _toucher(madvise), _toucher(madvise_here))


def _toucher(madvise: Any) -> Callable[[int, int], None]:  # noqa: ANN401
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def touch(address: int, size: int) -> None:
        if madvise(address, size, _POPULATE_WRITE):
            number = ctypes.get_errno()
            raise OSError(number, "madvise")

    return touch
