"""The few operating-system calls of the log, in one object that tests replace.

The calls that move bytes (`pwritev`, `fdatasync`, `pread`) release the GIL while they run.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from cluster.log.async_writes import AsyncWrites

_RWF_DSYNC = getattr(os, "RWF_DSYNC", 0)
_O_DIRECT = getattr(os, "O_DIRECT", 0)


class FileOps:
    """System calls as they are; every method raises OSError. Thread-safe."""

    def open(self, path: Path, flags: int) -> int:
        """Open a file, new ones readable by owner and group."""
        return os.open(path, flags | os.O_CLOEXEC, 0o640)

    def open_direct(self, path: Path, flags: int = 0) -> int:
        """Open a file for reads and writes past the page cache; OSError where there are none."""
        if not _O_DIRECT:
            raise OSError(errno.EINVAL, "this system has no direct writes")
        return self.open(path, os.O_RDWR | _O_DIRECT | flags)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def pwritev(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        """Write `parts` one after another at `offset`; may write less than asked."""
        return os.pwritev(fd, parts, offset)

    def pwritev_durably(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        """As `pwritev` and `fdatasync`; what was written is durable when this returns.

        One system call where there is one for it: to get the GIL back costs more than the call.
        """
        if _RWF_DSYNC:
            return os.pwritev(fd, parts, offset, _RWF_DSYNC)
        written = self.pwritev(fd, parts, offset)
        self.fdatasync(fd)
        return written

    def async_writes(self, buffer: memoryview) -> AsyncWrites:
        """Return what writes `buffer` without waiting; OSError where the system has no such."""
        return AsyncWrites(buffer)

    def fdatasync(self, fd: int) -> None:
        """Make the file's bytes and length durable."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size_bytes: int) -> None:
        """Cut the file to `size_bytes`."""
        os.ftruncate(fd, size_bytes)

    def size(self, fd: int) -> int:
        """Return a file's size in bytes."""
        return os.fstat(fd).st_size

    def pread(self, fd: int, size_bytes: int, offset: int) -> bytes:
        """Read up to `size_bytes` at `offset`."""
        return os.pread(fd, size_bytes, offset)

    def free_bytes(self, directory: Path) -> int:
        """Return how much room the file system of `directory` has for this process."""
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize

    def rename(self, source: Path, target: Path) -> None:
        """Rename within the directory, replacing `target`."""
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file's name."""
        os.unlink(path)

    def sync_directory(self, directory: Path) -> None:
        """Make creations, renames and removals in `directory` durable."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
