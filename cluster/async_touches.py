"""Memory that the kernel's own workers fill in while the thread that asked does something else.

Problem: a page of new memory costs whoever touches it first a page fault (`cluster.heap_ahead`). A
thread of the process that touches it ahead needs the interpreter's lock to come and go, and a core
while the others want it.

Idea: io_uring takes madvise(2) as an operation, too, and its workers do it on whichever core is
free; none of them knows the interpreter. What is advised is MADV_POPULATE_WRITE: the pages are
there as after a write, and what is in them stays as it is. To begin is one short system call, to
see the end is a look at memory that is shared with the kernel.

What is asked for at a time is cut into pieces, each an operation, linked: one worker does them one
after another. Who maps memory meanwhile waits for the piece at hand, and to wake a worker, which
costs whoever asks as much as a tablet's system calls, is done once for all of them.

Where the system refuses (other kernels, sandboxes, kernel.io_uring_disabled), `AsyncTouches` can't
be made.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import struct
import sys
from typing import Any, NamedTuple

_MACHINES = ("x86_64", "aarch64")
_SETUP, _ENTER = 425, 426
"""io_uring_setup, io_uring_enter: the same on all machines that Linux 5.1 knew."""
_PIECES = 4
_PIECE_BYTES = 256 << 10
MOST_BYTES = _PIECES * _PIECE_BYTES
"""So much is touched at a time."""

# of include/uapi/linux/io_uring.h
_PARAMS_BYTES = 120
_PARAMS = struct.Struct("<2I12xI16x")
"""Entries of both queues, and features; then come the offsets of either queue."""
_OFFSETS = struct.Struct("<7I4x8x")
_SINGLE_MMAP = 1
"""IORING_FEAT_SINGLE_MMAP, Linux 5.4: both queues are in one piece of memory."""
_RING_AT = 0
_ENTRIES_AT = 0x10000000
_GET_EVENTS = 1
_ENTRY = struct.Struct("<BBHiQQIIQ24x")
"""struct io_uring_sqe: operation, flags, priority, file, offset, address, length, advice, tag."""
_COMPLETION = struct.Struct("<Qi4x")
_MADVISE = 25
"""IORING_OP_MADVISE, Linux 5.6."""
_LINK = 4
"""IOSQE_IO_LINK, Linux 5.3: the next entry is begun when this one has ended."""
_NO_FILE = -1

_POPULATE_WRITE = 23
"""Of madvise(2), Linux 5.14."""
_TRY_AGAIN = (errno.EINTR, errno.EAGAIN, errno.EBUSY)


class _Sizes(NamedTuple):
    """What the kernel tells of a ring that it made; offsets are in the ring's memory."""

    entries: int
    completions: int
    sent_at: tuple[int, ...]
    ended_at: tuple[int, ...]

    @property
    def ring_bytes(self) -> int:
        return max(
            self.sent_at[6] + 4 * self.entries,
            self.ended_at[5] + _COMPLETION.size * self.completions,
        )


class AsyncTouches:
    """Has memory filled in, one stretch at a time.

    Not thread-safe, but the next call may be another thread's. When a thread ends, the kernel may
    cancel what it began last. A forked process leaves the ring to its parent.

    Raises:
        OSError: the system has no such operations, or refuses them.
    """

    def __init__(self) -> None:
        if (sys.platform, sys.byteorder) != ("linux", "little") or (
            platform.machine() not in _MACHINES
        ):
            raise OSError(errno.ENOSYS, "io_uring is not known here")
        try:
            # gives the interpreter's lock away, which the other, for 2 to 20 µs, does not
            self._waiting = ctypes.CDLL(None, use_errno=True).syscall
            self._quick = ctypes.PyDLL(None, use_errno=True).syscall
        except (AttributeError, OSError, TypeError) as error:
            raise OSError(errno.ENOSYS, f"the system can't be called: {error}") from error
        self._waiting.restype = self._quick.restype = ctypes.c_long
        self._fd, sizes = self._set_up()
        self._is_open = True
        self._under_way = 0
        self._views: list[memoryview[Any]] = []
        self._maps: list[mmap.mmap] = []
        try:
            self._ring = self._map(sizes.ring_bytes, _RING_AT)
            self._entry = self._map(_ENTRY.size * sizes.entries, _ENTRIES_AT)
            self._sent_head = self._word(sizes.sent_at[0])
            self._sent_tail = self._word(sizes.sent_at[1])
            self._ended_head = self._word(sizes.ended_at[0])
            self._ended_tail = self._word(sizes.ended_at[1])
            self._ended_mask = self._word(sizes.ended_at[2])[0]
            self._ended_at = sizes.ended_at[5]
            for number in range(_PIECES):  # each entry goes in its turn
                self._word(sizes.sent_at[6] + 4 * number)[0] = number
        except (OSError, ValueError) as error:
            self.close()
            raise OSError(errno.ENOSYS, f"the ring can't be mapped: {error}") from error
        counts = range(_PIECES + 1)
        self._sends = [_arguments(self._fd, count, 0, 0) for count in counts]
        self._waits = [_arguments(self._fd, 0, count, _GET_EVENTS) for count in counts]

    def _set_up(self) -> tuple[int, _Sizes]:
        told = ctypes.create_string_buffer(_PARAMS_BYTES)
        fd = int(self._waiting(ctypes.c_long(_SETUP), ctypes.c_long(_PIECES), told))
        if fd < 0:
            raise _error("io_uring_setup")
        # the kernel has set close-on-exec
        entries, completions, features = _PARAMS.unpack_from(told)
        sent_at = _OFFSETS.unpack_from(told, _PARAMS.size)
        ended_at = _OFFSETS.unpack_from(told, _PARAMS.size + _OFFSETS.size)
        if entries != _PIECES or not features & _SINGLE_MMAP:
            os.close(fd)
            raise OSError(errno.ENOSYS, "io_uring is older than Linux 5.4")
        return fd, _Sizes(entries, completions, sent_at, ended_at)

    def _map(self, size: int, offset: int) -> mmap.mmap:
        made = mmap.mmap(self._fd, size, mmap.MAP_SHARED, offset=offset)
        self._maps.append(made)
        return made

    def _word(self, at: int) -> memoryview[Any]:
        whole = memoryview(self._ring)
        part = whole[at : at + 4]
        word = part.cast("I")
        self._views += (word, part, whole)
        return word

    def begin(self, address: int, size: int) -> bool:
        """Begin to fill a stretch in; the one before has ended.

        Where the kernel takes only some of its pieces, the others are left as they are.

        Args:
            address: a page's first.
            size: in bytes; at most `MOST_BYTES`.

        Returns:
            False: nothing was begun, as the kernel is short of something; try again later.

        Raises:
            OSError: nothing was begun, nor will be.
        """
        before = self._sent_tail[0]
        count = 0
        while size > 0:
            piece, rest = min(size, _PIECE_BYTES), max(size - _PIECE_BYTES, 0)
            flags = _LINK if rest else 0
            entry = (_MADVISE, flags, 0, _NO_FILE, 0, address, piece, _POPULATE_WRITE, 0)
            _ENTRY.pack_into(self._entry, _ENTRY.size * ((before + count) % _PIECES), *entry)
            address, size, count = address + piece, rest, count + 1
        # The kernel looks at the queue within the call only, so its order is that of the call.
        self._sent_tail[0] = (before + count) & 0xFFFFFFFF
        if self._quick(*self._sends[count]) != count:
            number = ctypes.get_errno()
            count = (self._sent_head[0] - before) & 0xFFFFFFFF  # so many it has taken
            self._sent_tail[0] = (before + count) & 0xFFFFFFFF
            if not count:
                if number in _TRY_AGAIN:
                    return False
                raise OSError(number, f"io_uring_enter: {os.strerror(number)}")
        self._under_way = count
        return True

    def ended(self, *, wait: bool = False) -> int | None:
        """Return how the stretch that was begun has ended; None: not yet, or none was begun.

        Without `wait` that is no system call.

        Args:
            wait: until it has ended.

        Returns:
            0, or the negative number of the first piece's error that had one, as the kernel has
            it; the others are filled in all the same.

        Raises:
            OSError: the kernel does not say.
        """
        count = self._under_way
        if not count:
            return None
        head = self._ended_head[0]
        while (self._ended_tail[0] - head) & 0xFFFFFFFF < count:
            if not wait:
                return None
            if self._waiting(*self._waits[count]) < 0 and ctypes.get_errno() != errno.EINTR:
                raise _error("io_uring_enter")
        # The tail must be read before the completions. x86 keeps that order. Others need not, but
        # the interpreter does hundreds of instructions between; should one be faster, it would
        # take the result of an earlier piece for this one's, which harms nothing.
        result = 0
        for number in range(head, head + count):
            at = self._ended_at + _COMPLETION.size * (number & self._ended_mask)
            result = result or int(_COMPLETION.unpack_from(self._ring, at)[1])
        self._ended_head[0] = (head + count) & 0xFFFFFFFF
        self._under_way = 0
        return result

    def close(self) -> None:
        """Give back what the system holds; what is under way ends before. Idempotent."""
        if not self._is_open:
            return
        with contextlib.suppress(OSError):
            self.ended(wait=True)
        self._is_open = False
        self._under_way = 0
        for view in self._views:
            view.release()
        for mapped in self._maps:
            mapped.close()
        os.close(self._fd)


def _arguments(fd: int, send: int, wait_for: int, flags: int) -> tuple[ctypes.c_long | None, ...]:
    """Return those of io_uring_enter; they are made once, as that takes half of a call's time."""
    numbers = (_ENTER, fd, send, wait_for, flags)
    return (*map(ctypes.c_long, numbers), None, ctypes.c_long(0))


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
