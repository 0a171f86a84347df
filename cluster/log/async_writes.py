"""Durable writes that go on while the thread that began them does something else.

Problem: a thread that serves clients and writes their log waits for the disk, some hundred
microseconds for each write, in which it could receive and decode the next requests. Another thread
that waits in its place costs more than that, by the hand-overs of the interpreter's lock.

Idea: the kernel's own asynchronous writes (Linux, io_submit). They stay asynchronous only past the
page cache, over blocks that exist, which is what a segment made ahead is (`direct_tail`). The end
is told by an eventfd, which an epoll loop waits for with its sockets. RWF_DSYNC makes the end mean
what it means of `pwritev2`: what was written is durable.

There is one write at a time. Where the system refuses (other kernels, sandboxes), `AsyncWrites`
can't be made and the log is written as without it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_NUMBERS = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4)}
"""Of io_setup, io_destroy, io_submit, io_getevents; include/uapi/asm-generic/unistd.h of Linux."""
_IOCB = struct.Struct("<QIIHhIQQqQII")
"""struct iocb of include/uapi/linux/aio_abi.h, little-endian."""
_EVENT = struct.Struct("<QQqq")
_PWRITE = 1
_DSYNC = 2
"""RWF_DSYNC of include/uapi/linux/fs.h."""
_FLAG_EVENT_FD = 1


class AsyncWrites:
    """Writes the first bytes of one buffer, again and again, one write at a time.

    Not thread-safe, but the next call may be another thread's.

    Args:
        buffer: aligned as direct writes want it; must not be changed while a write is under way.

    Attributes:
        event_fd: readable when a write has ended.

    Raises:
        OSError: the system has no asynchronous writes, or refuses them.
    """

    def __init__(self, buffer: memoryview) -> None:
        numbers = _NUMBERS.get(platform.machine())
        if numbers is None or not hasattr(os, "eventfd") or sys.byteorder != "little":
            raise OSError(errno.ENOSYS, "asynchronous writes are not known here")
        setup, self._destroy_number, submit, get = numbers
        try:
            waiting = ctypes.CDLL(None, use_errno=True).syscall  # gives the GIL away
            quick = ctypes.PyDLL(None, use_errno=True).syscall
        except (AttributeError, OSError, TypeError) as error:
            raise OSError(errno.ENOSYS, f"the system can't be called: {error}") from error
        waiting.restype = quick.restype = ctypes.c_long
        self._waiting, self._quick = waiting, quick
        self._context = ctypes.c_ulong(0)
        if waiting(ctypes.c_long(setup), ctypes.c_long(1), ctypes.byref(self._context)):
            raise _error("io_setup")
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_open = True
        self._buffer = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        self._address = ctypes.addressof(self._buffer)
        self._block = ctypes.create_string_buffer(_IOCB.size)
        self._blocks = (ctypes.c_void_p * 1)(ctypes.addressof(self._block))
        self._event = ctypes.create_string_buffer(_EVENT.size)
        self._submit = (ctypes.c_long(submit), self._context, ctypes.c_long(1), self._blocks)
        get_one = (ctypes.c_long(get), self._context)
        one = ctypes.c_long(1)
        now = (ctypes.c_long * 2)(0, 0)
        self._look = (*get_one, ctypes.c_long(0), one, self._event, now)
        self._wait = (*get_one, one, one, self._event, None)

    def begin(self, fd: int, size: int, offset: int) -> None:
        """Begin to write the first `size` bytes of the buffer; raises OSError: nothing was begun.

        Args:
            fd: of a file opened for direct writes.
            size: in bytes; whole blocks.
            offset: in the file; at a block's start.
        """
        block = (0, 0, _DSYNC, _PWRITE, 0, fd, self._address, size, offset, 0)
        _IOCB.pack_into(self._block, 0, *block, _FLAG_EVENT_FD, self.event_fd)
        while self._waiting(*self._submit) != 1:
            if ctypes.get_errno() != errno.EINTR:
                raise _error("io_submit")

    def end(self, *, wait: bool = False) -> int | None:
        """Return how many bytes the write that was begun has made durable.

        Args:
            wait: until it has ended; otherwise None: it has not yet.

        Raises:
            OSError: it failed; what is in the file where it should be is unknown.
        """
        try:
            os.eventfd_read(self.event_fd)
        except BlockingIOError:
            if not wait:
                return None
        call, arguments = (self._waiting, self._wait) if wait else (self._quick, self._look)
        while True:
            found = call(*arguments)
            if found == 1:
                break
            if not found:
                return None
            if ctypes.get_errno() != errno.EINTR:
                raise _error("io_getevents")
        result = int(_EVENT.unpack_from(self._event)[2])
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def close(self) -> None:
        """Give back what the system holds; a write that is under way ends before. Idempotent."""
        if self._is_open:
            self._is_open = False
            self._waiting(ctypes.c_long(self._destroy_number), self._context)
            os.close(self.event_fd)


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
