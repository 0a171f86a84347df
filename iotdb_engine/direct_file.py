"""Files that are written from front to end, past the page cache, while more for them is made.

Problem: writing a megabyte through the page cache takes 0.2 ms of the writing thread, and as much
again for every page that the cache did not have yet; the disk begins when the system thinks fit,
and most of the file waits for the last sync. A thread that writes in the background would pay for
that with the interpreter's lock, twice a write.

Idea: what is to be written is gathered in a few large buffers (a `Ring`). A full one goes to the
disk by the kernel's own asynchronous writes (Linux, io_submit; 0.05 ms), past the page cache
(O_DIRECT), into blocks that were allotted ahead: a write that makes a file longer would be waited
for. When the last one has ended, a sync has little left to do: 0.2 ms.

Other files of the disk get their turn: each write is durable when it has ended (RWF_DSYNC), and
few are under way at a time. A disk that keeps what it is given in a cache, as that of a virtual
machine, has somebody else's sync wait until all of the cache is stored: a row of another group,
10 ms beside 7 MB, where this makes it 3. A file that is written as fast as it goes takes a third
longer by that; one that is received meanwhile does not (docs/notes/slow-disks.md).

The buffers are in huge pages: each write then is a few stretches of the machine's memory, and not
some hundred pages, which a virtual disk takes one by one (a quarter of its rate). They stay, since
a megabyte of new memory may take 3 ms (docs/notes/memory.md).

Where the system has no such writes each is waited for; where it has no direct ones, they go through
the page cache.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import mmap
import os
import platform
import struct
import sys
import threading
from pathlib import Path

from iotdb_engine.errors import Closed

logger = logging.getLogger(__name__)

UNIT_BYTES = 504 << 10
"""What one write takes. Where its pages lie anywhere in memory, with those of another they just fit
in the queue of a virtual disk (256 places, of which each write takes two more)."""
_UNITS = 3
"""One is filled while the others are written. With more of them other writes wait longer."""
_AHEAD_BYTES = 8 << 20
"""So many bytes of a file are allotted at a time; what is too much is given back at its end."""
_HUGE_PAGE_BYTES = 2 << 20
_BLOCK_BYTES = 4096
"""No disk in use has larger ones, and all of them take multiples of their own."""

_NUMBERS = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4)}
"""Of io_setup, io_destroy, io_submit, io_getevents; include/uapi/asm-generic/unistd.h of Linux."""
_IOCB = struct.Struct("<QIIHhIQQqQII")
"""struct iocb of include/uapi/linux/aio_abi.h, little-endian."""
_EVENT = struct.Struct("<QQqq")
_PWRITE = 1
_DSYNC = 2
"""RWF_DSYNC of include/uapi/linux/fs.h; Linux 4.13."""


class _KernelWrites:
    """The kernel's asynchronous writes, a few at a time. Not thread-safe.

    Raises:
        OSError: the system has none, or refuses them.
    """

    def __init__(self) -> None:
        numbers = _NUMBERS.get(platform.machine())
        if numbers is None or sys.byteorder != "little":
            raise OSError(errno.ENOSYS, "asynchronous writes are not known here")
        setup, self._destroy, self._submit, self._get = map(ctypes.c_long, numbers)
        try:
            self._call = ctypes.CDLL(None, use_errno=True).syscall  # gives the GIL away
        except (AttributeError, OSError, TypeError) as error:
            raise OSError(errno.ENOSYS, f"the system can't be called: {error}") from error
        self._call.restype = ctypes.c_long
        self._context = ctypes.c_ulong(0)
        if self._call(setup, ctypes.c_long(_UNITS), ctypes.byref(self._context)):
            raise _error("io_setup")
        self._blocks = [ctypes.create_string_buffer(_IOCB.size) for _ in range(_UNITS)]
        self._events = ctypes.create_string_buffer(_EVENT.size * _UNITS)
        self._flags = _DSYNC

    def begin(self, unit: int, fd: int, address: int, size: int, offset: int) -> None:
        block = self._blocks[unit]
        pointer = (ctypes.c_void_p * 1)(ctypes.addressof(block))
        while True:
            what = (unit, 0, self._flags, _PWRITE, 0, fd, address, size, offset, 0, 0, 0)
            _IOCB.pack_into(block, 0, *what)
            if self._call(self._submit, self._context, ctypes.c_long(1), pointer) == 1:
                return
            problem = ctypes.get_errno()
            if self._flags and problem in (errno.EINVAL, errno.EOPNOTSUPP):
                self._flags = 0  # an older system, or a file system that has no such writes
            elif problem != errno.EINTR:
                raise _error("io_submit")

    def ended(self) -> list[tuple[int, int]]:
        """Wait for one write at least; return the units, and the results of the system."""
        one, most = ctypes.c_long(1), ctypes.c_long(_UNITS)
        while True:
            count = self._call(self._get, self._context, one, most, self._events, None)
            if count > 0:
                break
            if ctypes.get_errno() != errno.EINTR:
                raise _error("io_getevents")
        events = [_EVENT.unpack_from(self._events, number * _EVENT.size) for number in range(count)]
        return [(unit, result) for unit, _, result, _ in events]

    def close(self) -> None:
        self._call(self._destroy, self._context)


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


class Ring:
    """A few buffers that are written from, in turn. Used by one thread at a time."""

    def __init__(self) -> None:
        self.units: list[memoryview] = []
        self._addresses: list[int] = []
        self._under_way: dict[int, int] = {}
        self._writes: _KernelWrites | None = None
        try:
            self._writes = _KernelWrites()
        except OSError as error:
            logger.info("each write of what is taken over is waited for: %s", error)

    def prepare(self) -> None:
        """Take memory, until `forget`, if there is none."""
        if self.units:
            return
        size = -(-_UNITS * UNIT_BYTES // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
        memory = mmap.mmap(-1, size + _HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # the kernel may have been built without
                memory.madvise(mmap.MADV_HUGEPAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        start = -address % _HUGE_PAGE_BYTES
        starts = range(start, start + _UNITS * UNIT_BYTES, UNIT_BYTES)
        view = memoryview(memory)
        self.units = [view[at : at + UNIT_BYTES] for at in starts]
        self._addresses = [address + at for at in starts]

    def begin(self, unit: int, fd: int, size: int, offset: int) -> None:
        """Begin to write the first bytes of a unit, which is not being written; raises OSError."""
        if self._writes is not None:
            self._writes.begin(unit, fd, self._addresses[unit], size, offset)
            self._under_way[unit] = size
        else:
            _check(os.pwrite(fd, self.units[unit][:size], offset), size)

    def wait(self, unit: int) -> None:
        """Wait until a unit may be filled again.

        Raises:
            OSError: a write failed, of this unit or of another.
        """
        while unit in self._under_way:
            self._take_ends()

    def wait_for_all(self) -> None:
        """Wait until nothing is being written.

        Raises:
            OSError: a write failed; the others have ended.
        """
        problem = None
        while self._under_way:
            try:
                self._take_ends()
            except OSError as error:
                problem = error
        if problem is not None:
            raise problem

    def _take_ends(self) -> None:
        assert self._writes is not None
        ends = [(result, self._under_way.pop(unit)) for unit, result in self._writes.ended()]
        for result, size in ends:
            _check(result, size)

    def forget(self) -> None:
        """Let go of the memory."""
        self.units, self._addresses = [], []

    def close(self) -> None:
        """Give back what the system holds; takes some 30 ms. Nothing is being written."""
        if self._writes is not None:
            self._writes.close()
            self._writes = None


def _check(result: int, size: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    if result < size:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {result} of {size} bytes")


class Rings:
    """The rings of a store: one for each file that is being written. Thread-safe.

    Those that were used wait for the next file, one of them with its memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[Ring] = []
        self._closed = False

    def take(self) -> Ring:
        """Return a ring for one file."""
        with self._lock:
            ring = self._free.pop() if self._free else None
        ring = ring or Ring()
        ring.prepare()
        return ring

    def give(self, ring: Ring) -> None:
        """Take a ring back, from which nothing is being written."""
        with self._lock:
            if not self._closed:
                if any(other.units for other in self._free):
                    ring.forget()
                self._free.insert(len(self._free) if ring.units else 0, ring)
                return
        ring.close()

    def close(self) -> None:
        """Let go of those that wait; the others follow when they are given back."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for ring in free:
            ring.close()


class DirectFile:
    """One file that is being written. One thread at a time, but for `drop`.

    Args:
        path: of a new file.
        rings: where its buffers come from, and go back to.

    Raises:
        OSError: of `open`.
    """

    def __init__(self, path: Path, rings: Rings) -> None:
        self._fd = _open(path)
        self._rings = rings
        self._ring: Ring | None = rings.take()
        self._unit = self._filled = self._offset = self._allotted = 0
        self._lock = threading.Lock()

    def put(self, part: bytes) -> None:
        """Add some bytes; they are not needed any more on return.

        Raises:
            OSError: something of the file could not be written.
            Closed: it was given up.
        """
        with self._lock:
            ring = self._check_open()
            left = memoryview(part)
            while True:
                room = UNIT_BYTES - self._filled
                if len(left) < room:
                    break
                ring.units[self._unit][self._filled :] = left[:room]
                left = left[room:]
                self._filled = UNIT_BYTES
                self._write(ring, UNIT_BYTES)
                self._unit = (self._unit + 1) % _UNITS
                self._filled = 0
                ring.wait(self._unit)
            ring.units[self._unit][self._filled : self._filled + len(left)] = left
            self._filled += len(left)

    def _write(self, ring: Ring, size: int) -> None:
        if self._offset + size > self._allotted:
            self._allot()
        ring.begin(self._unit, self._fd, size, self._offset)
        self._offset += self._filled

    def _allot(self) -> None:
        try:
            os.posix_fallocate(self._fd, self._allotted, _AHEAD_BYTES)
            self._allotted += _AHEAD_BYTES
        except OSError as error:
            # not needed; and if there is no room, whoever writes is told
            logger.debug("no blocks are allotted ahead: %s", error)
            self._allotted = sys.maxsize

    def finish(self, *, sync: bool) -> None:
        """Write what is left, and close.

        Args:
            sync: make it all durable, too; otherwise it has left this process's memory.

        Raises:
            OSError: something of the file could not be written.
            Closed: it was given up.
        """
        with self._lock:
            ring = self._check_open()
            if self._filled:
                size = -(-self._filled // _BLOCK_BYTES) * _BLOCK_BYTES
                ring.units[self._unit][self._filled : size] = bytes(size - self._filled)
                self._write(ring, size)
            ring.wait_for_all()
            os.ftruncate(self._fd, self._offset)
            if sync:
                os.fdatasync(self._fd)
            self._close(ring)

    def drop(self) -> None:
        """Write no more, and close; may be repeated, and called by any thread."""
        with self._lock:
            if self._ring is not None:
                with contextlib.suppress(OSError):  # whatever became of it, nobody will read it
                    self._ring.wait_for_all()
                self._close(self._ring)

    def _check_open(self) -> Ring:
        if self._ring is None:
            raise Closed("the transfer was given up")
        return self._ring

    def _close(self, ring: Ring) -> None:
        self._ring = None
        os.close(self._fd)
        self._rings.give(ring)


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    direct = getattr(os, "O_DIRECT", 0)
    try:
        return os.open(path, flags | direct, 0o644)
    except OSError as error:
        if not direct or error.errno != errno.EINVAL:
            raise
        logger.debug("%s is written through the page cache: %s", path, error)
        path.unlink(missing_ok=True)  # some systems have made it by then
        return os.open(path, flags, 0o644)
