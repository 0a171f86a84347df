"""Appends to a segment past the page cache.

The log is written once and hardly ever read. In the page cache every 4 KB of it take a page that
the kernel has to find, and on a virtual machine that gives free memory back to its host such a page
costs more than everything else about a tablet (docs/notes/memory.md). So records are gathered in
one buffer, which is used again for every write, and go from there to the disk (O_DIRECT).

The disk takes whole blocks: the last one is padded with zeros, and written again, with what was in
it, by the next write. A block's old bytes are the same in both writes, so a write that is torn
between sectors leaves them as they were, as with the page cache, which rewrites it likewise.

A write that makes the file longer waits for the file system's journal, too. So a small one that has
to do that goes on with zeros, far enough for hundreds of others: they write over blocks that exist.
A file that was made ahead (`cluster.log.spares`) has all of its blocks.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Sequence
from pathlib import Path

from cluster.log.async_writes import AsyncWrites
from cluster.log.file_ops import FileOps

BLOCK_BYTES = 4096
"""No disk in use has larger ones, and all of them take multiples of their own."""
BUFFER_BYTES = 1 << 20
_HUGE_PAGE_BYTES = 2 << 20
_STEP_BYTES = 256 << 10
_SMALL_BYTES = 64 << 10
"""Larger writes make the file longer by no more than themselves: zeros would double their bytes."""


def aligned_buffer(size_bytes: int = BUFFER_BYTES) -> memoryview:
    """Return a buffer of zeros that direct writes may start from; whole pages.

    A large one lies within one huge page, where the kernel has such: a write of it is one stretch
    of the machine's memory then, and not some dozens, which are looked up one by one, and taken so
    by a virtual disk (docs/notes/log-files.md).
    """
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    if size_bytes < BUFFER_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(mmap.mmap(-1, size_bytes, flags=private))
    whole = -(-size_bytes // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
    memory = mmap.mmap(-1, whole + _HUGE_PAGE_BYTES, flags=private)
    with contextlib.suppress(OSError):  # the kernel may have been built without
        memory.madvise(mmap.MADV_HUGEPAGE)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % _HUGE_PAGE_BYTES
    return memoryview(memory)[start : start + size_bytes]


class DirectTail:
    """The end of one segment; whoever writes it owns this object.

    Args:
        path: of the segment.
        kept: what the file holds between the last multiple of `BLOCK_BYTES` and its end.
        buffer: of `aligned_buffer`; may serve one segment after the other.
        reach: the file has its blocks up to there.
        full: nothing is laid out ahead from there on.

    Raises:
        OSError: this file system has no direct writes.
    """

    def __init__(
        self,
        files: FileOps,
        path: Path,
        kept: bytes,
        buffer: memoryview,
        *,
        reach: int,
        full: int,
    ) -> None:
        assert len(kept) < BLOCK_BYTES <= len(buffer)
        self._files = files
        self._buffer = buffer
        self._fd = files.open_direct(path)
        self._kept = len(kept)
        self._begun = (0, 0, 0)
        self._reach = reach
        self._full = full
        buffer[: self._kept] = kept

    def close(self) -> None:
        """Close the file."""
        self._files.close(self._fd)

    def write_durably(self, parts: Sequence[bytes], offset: int) -> None:
        """Write `parts` one after another at the end of what was written; durable on return.

        Args:
            parts: of the records.
            offset: where the end is.

        Raises:
            OSError: what is in the file behind `offset` is unknown.
        """
        buffer, at = self._buffer, self._kept
        size = len(buffer)
        base = offset - at
        assert not base % BLOCK_BYTES
        for part in parts:
            end = at + len(part)
            if end <= size:
                buffer[at:end] = part
                at = end
                continue
            rest = memoryview(part)
            while rest:
                taken = min(size - at, len(rest))
                buffer[at : at + taken] = rest[:taken]
                at += taken
                rest = rest[taken:]
                if at == size:
                    self._flush(size, base)
                    base += size
                    at = 0
        if at:
            self._flush(self._laid_out(at, base), base)
        self._keep(at)

    def begin(self, parts: Sequence[bytes], offset: int, writes: AsyncWrites) -> bool:
        """Begin to do what `write_durably` does; `end` must follow, and nothing else before it.

        Args:
            parts: of the records.
            offset: where the end is.
            writes: of this object's buffer.

        Returns:
            False: nothing was begun, since the buffer does not hold it, or the file has no blocks
            for it: that would be waited for.

        Raises:
            OSError: nothing was begun.
        """
        buffer, at = self._buffer, self._kept
        base = offset - at
        assert not base % BLOCK_BYTES
        end = at + sum(map(len, parts))
        if end > len(buffer) or base + _whole_blocks(end) > self._reach:
            return False
        for part in parts:
            end = at + len(part)
            buffer[at:end] = part
            at = end
        size = self._padded(at)
        self._begun = (at, size, base)
        writes.begin(self._fd, size, base)
        return True

    def end(self, written: int) -> None:
        """What was begun has ended after so many bytes; all of it is durable on return.

        Raises:
            OSError: as by `write_durably`.
        """
        at, size, base = self._begun
        if written < size:
            self._flush(size, base, _whole(written, size))
        self._keep(at)

    def _padded(self, at: int) -> int:
        """Fill the block behind `at` up with zeros, and return where it ends."""
        return self._zeros(at, _whole_blocks(at))

    def _laid_out(self, at: int, base: int) -> int:
        """As `_padded`; where that makes the file longer, and is little, go on with zeros."""
        end = _whole_blocks(at)
        if base + end > self._reach and end < _SMALL_BYTES:
            step = min((base + end) // _STEP_BYTES * _STEP_BYTES + _STEP_BYTES, self._full)
            end = max(end, min(step - base, len(self._buffer)))
        return self._zeros(at, end)

    def _zeros(self, at: int, end: int) -> int:
        if end > at:
            self._buffer[at:end] = bytes(end - at)
        return end

    def _keep(self, at: int) -> None:
        """Bring what the last block holds to the front, for the next write."""
        self._kept = kept = at % BLOCK_BYTES
        if kept:
            self._buffer[:kept] = bytes(self._buffer[at - kept : at])

    def _flush(self, size: int, offset: int, done: int = 0) -> None:
        while done < size:
            written = self._files.pwritev_durably(
                self._fd, [self._buffer[done:size]], offset + done
            )
            done += _whole(written, size - done)
        self._reach = max(self._reach, offset + size)


def _whole_blocks(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _whole(written: int, size: int) -> int:
    """Return how much of a write counts: a short one goes on at a block's start."""
    whole = written - written % BLOCK_BYTES
    if whole <= 0:
        raise OSError(f"the system wrote {written} of {size} bytes")
    return whole
