"""Which segments of a log are written past the page cache, and which writes nobody waits for."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from pathlib import Path

from cluster.log.async_writes import AsyncWrites
from cluster.log.direct_tail import BLOCK_BYTES, DirectTail, aligned_buffer
from cluster.log.file_ops import FileOps

logger = logging.getLogger(__name__)

ASYNC_FROM_BYTES = 32 << 10
"""Smaller writes are waited for: to be told of the end of one costs more than they take."""


class DirectWriter:
    """Whoever writes the log owns this object; nothing is asked of it while a write is under way.

    But for `end`: that is when it ends.
    """

    def __init__(self, files: FileOps) -> None:
        self._files = files
        self._buffer = aligned_buffer()
        self._tail: DirectTail | None = None
        self._writes: AsyncWrites | None = None
        self._is_async = False
        try:
            self._writes = files.async_writes(self._buffer)
            self._is_async = True
        except OSError as error:
            logger.info("each write of the log is waited for: %s", error)

    @property
    def event_fd(self) -> int:
        """Readable when a write that was begun has ended; -1: none will be."""
        return -1 if self._writes is None else self._writes.event_fd

    def close(self) -> None:
        """Close everything; idempotent."""
        self.end_segment()
        if self._writes is not None:
            self._writes.close()
            self._writes = None

    def begin_segment(self, fd: int, path: Path, offset: int, segment_bytes: int) -> None:
        """Write a segment from `offset` on, where that is possible.

        Args:
            fd: open for reading.
            path: of the same file, which is longer where it was made ahead.
            offset: where what is written so far ends.
            segment_bytes: where it is about full.
        """
        kept = offset % BLOCK_BYTES
        try:
            last = self._files.pread(fd, kept, offset - kept)
            size = self._files.size(fd)
            self._tail = DirectTail(
                self._files,
                path,
                last,
                self._buffer,
                reach=size - size % BLOCK_BYTES,
                full=segment_bytes - segment_bytes % BLOCK_BYTES,
            )
        except OSError as error:
            logger.info("%s is written through the page cache: %s", path, error)

    def end_segment(self) -> None:
        """Write directly no more, until the next segment."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def write(self, parts: Sequence[bytes], offset: int) -> bool:
        """Whether `parts` are written, durably.

        Not where the segment is not written directly, or the disk wants what it does not say:
        larger blocks. Nothing was done then.

        Raises:
            OSError: what is in the file behind `offset` is unknown.
        """
        if self._tail is None:
            return False
        try:
            self._tail.write_durably(parts, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # refused as a whole, so it can be asked for again in another way
            logger.warning("the log is written through the page cache: %s", error)
            self.end_segment()
            return False
        return True

    def begin(self, parts: Sequence[bytes], size: int, offset: int) -> bool:
        """Whether what `write` does is under way; `end` must follow then.

        Args:
            parts: to be written.
            size: of all of them.
            offset: where.
        """
        if size < ASYNC_FROM_BYTES or not self._is_async:
            return False
        if self._tail is None or self._writes is None:
            return False
        try:
            return self._tail.begin(parts, offset, self._writes)
        except OSError as error:
            self._wait_from_now_on(error)
            return False

    def end(self, *, wait: bool) -> bool | None:
        """Whether what was begun is durable now.

        Args:
            wait: until it has ended; otherwise None: it has not yet.

        Returns:
            False: it was refused as a whole, and is to be written in another way.

        Raises:
            OSError: what is in the file behind its begin is unknown.
        """
        assert self._tail is not None
        assert self._writes is not None
        try:
            written = self._writes.end(wait=wait)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._wait_from_now_on(error)
            return False
        if written is None:
            return None
        self._tail.end(written)
        return True

    def _wait_from_now_on(self, error: OSError) -> None:
        self._is_async = False
        logger.warning("each write of the log is waited for from now on: %s", error)
