"""Has the process's new memory touched before its threads need it.

A page that the kernel hands out costs a page fault, and on a virtual machine whose host has to find
it, too, 1 to 12 µs (docs/notes/memory.md): 20 to 200 µs for a tablet of 80 KB that comes to stay,
in the one thread that serves all clients. The C library's heap grows in steps of some hundred
tablets (`cluster.allocator`). So while it grows quickly, each step is filled in ahead, by the
kernel's workers (`cluster.async_touches`), stretch by stretch: the loop begins the next one when it
sees that the one before has ended.

Until the first memory tables were flushed; from then on their memory is used again.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import os
import time
from collections.abc import Callable
from typing import Protocol

from cluster.async_touches import MOST_BYTES, AsyncTouches

logger = logging.getLogger(__name__)

_QUICK_S = 1.0
"""A step that comes so soon after the one before is followed by others."""
_OF_THE_STEP = (errno.ENOMEM, errno.EFAULT, errno.EAGAIN, errno.EINTR, errno.ECANCELED)
"""The memory was given back meanwhile, or there is none left, or the thread that began the stretch
has ended: nothing that keeps the next step from being touched."""


class Touches(Protocol):
    """As `AsyncTouches` has them."""

    def begin(self, address: int, size: int) -> bool:
        """Begin to fill a stretch of at most `MOST_BYTES` in; False: not now."""

    def ended(self) -> int | None:
        """Return 0 or a negative error; None: not yet."""

    def close(self) -> None:
        """Give the system's means back, after the stretch that is under way."""


class HeapAhead:
    """For one thread at a time.

    Args:
        end: returns the address of the heap's end.
        touches: has the kernel fill memory in.
        now: monotonic seconds.
    """

    def __init__(
        self, end: Callable[[], int], touches: Touches, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._get_end = end
        self._touches = touches
        self._now = now
        self._end = end()
        self._grown_at = float("-inf")
        self._next, self._until = 0, 0
        self._begun_until = 0  # the end of the step whose stretch is under way; 0: none is
        self._is_closed = False

    def look(self) -> None:
        """See whether the heap has grown and the stretch at hand has ended; half a microsecond.

        When there is more to touch and nothing under way, that is begun: 2 to 20 µs.
        """
        if self._is_closed:
            return
        end = self._get_end()
        if end != self._end:
            self._move_to(end)
        if self._begun_until:
            result = self._touches.ended()
            if result is None:
                return
            self._take_result(result)
        if self._next < self._until:
            self._begin_stretch()

    def _move_to(self, end: int) -> None:
        before, self._end = self._end, end
        self._until = 0
        if end < before:
            return
        now = self._now()
        if now - self._grown_at < _QUICK_S:
            self._next, self._until = before - before % -mmap.PAGESIZE, end
        self._grown_at = now

    def _take_result(self, result: int) -> None:
        begun_until, self._begun_until = self._begun_until, 0
        if not result:
            return
        if -result not in _OF_THE_STEP:
            self._give_up(os.strerror(-result))
        elif begun_until == self._until:  # else there is another step by now
            self._until = 0

    def _begin_stretch(self) -> None:
        size = min(MOST_BYTES, self._until - self._next)
        try:
            if not self._touches.begin(self._next, size):
                return
        except OSError as error:
            self._give_up(str(error))
            return
        self._begun_until = self._until
        self._next += size

    def _give_up(self, why: str) -> None:
        _tell(why)
        self.close()

    def close(self) -> None:
        """Touch nothing any more; waits for the stretch at hand. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._until = 0
            self._touches.close()


def heap_ahead() -> HeapAhead | None:
    """Return what has this process's heap touched; None: the system has not what it takes.

    It belongs to the process that asked for it: call this after a fork.
    """
    try:
        sbrk = ctypes.PyDLL(None).sbrk
        touches = AsyncTouches()
    except (AttributeError, OSError, TypeError) as error:
        _tell(str(error))
        return None
    sbrk.restype = ctypes.c_void_p
    sbrk.argtypes = (ctypes.c_ssize_t,)

    def end() -> int:
        return sbrk(0) or 0

    return HeapAhead(end, touches)


def _tell(why: str) -> None:
    logger.info("new memory is not touched ahead: %s", why)
