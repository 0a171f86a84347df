"""Segment files made ahead.

Appending to a file makes every sync also write the file's new size and blocks through the file
system's journal. Writing over blocks that exist is a plain data write: on ext4 a sync of 130 KB
took 170–190 µs instead of 310–420 µs, and the write before it 20 µs instead of 50–450 µs
(docs/notes/log-files.md). So the next segment's file is filled with zeros while the present
segment is in use, and a segment that is no longer needed becomes the next file instead of being
deleted.

What a reused file holds can't be taken for records of its new life: every segment's record headers
are checked under a random seed of its own.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cluster.log.direct_tail import aligned_buffer
from cluster.log.file_ops import FileOps

logger = logging.getLogger(__name__)

_SUFFIX = ".spare"
_FILL_BYTES = 512 << 10
"""Written at a time: the log's own writes wait for it, and each costs two trips to the disk."""
_MAX_KEPT = 4
_RETRY_S = 5.0
_ROOM_FOR = 3
"""A spare is made only where there is room for so many segments: one that does not fit would take
the last free blocks, for the moment of its failure, from the log and the engine."""


class SpareSegments:
    """Files that wait to become segments. Thread-safe.

    One is made when there is none; some more are kept when segments become free, which happens
    several at a time, after a flush.

    Trouble here is never trouble of the log: without a spare, segments grow by appending.

    Args:
        size_bytes: of a segment.
        spawn: starts a thread of that name.
    """

    def __init__(
        self,
        directory: Path,
        files: FileOps,
        size_bytes: int,
        spawn: Callable[[str, Callable[[], None]], object],
    ) -> None:
        self._directory = directory
        self._files = files
        self._size_bytes = size_bytes
        self._spawn = spawn
        self._lock = threading.Lock()
        self._ready: list[Path] = []
        self._making = False
        self._closed = False
        self._retry_at = 0.0
        self._complained = False
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            if len(self._ready) < _MAX_KEPT and path.stat().st_size >= size_bytes:
                self._ready.append(path)
            else:
                files.unlink(path)

    def prepare(self) -> None:
        """Have a spare made in the background unless there is one; returns at once."""
        with self._lock:
            if self._closed or self._making or self._ready or time.monotonic() < self._retry_at:
                return
            self._making = True
        try:
            self._spawn("log-spare", self._make)
        except RuntimeError:  # no room for a thread
            with self._lock:
                self._making = False
                self._retry_at = time.monotonic() + _RETRY_S

    @property
    def has_one(self) -> bool:
        """Whether `take` would return a file."""
        return bool(self._ready)

    def take(self) -> Path | None:
        """Return a file of at least a segment's size, which is the caller's now, or None."""
        with self._lock:
            return self._ready.pop() if self._ready else None

    def give(self, segment: Path) -> bool:
        """Keep a segment that is no longer needed as a spare; False: the caller deletes it.

        In both cases the caller syncs the directory then.
        """
        spare = segment.with_suffix(_SUFFIX)
        with self._lock:
            if self._closed or len(self._ready) >= _MAX_KEPT:
                return False
            if segment.stat().st_size < self._size_bytes:
                return False
            self._files.rename(segment, spare)
            self._ready.append(spare)
        return True

    def close(self) -> None:
        """Make nothing more; a file that is being made is given up."""
        with self._lock:
            self._closed = True

    def _make(self) -> None:
        unfinished = self._directory / "next.tmp"
        problem = ""
        try:
            free = self._files.free_bytes(self._directory)
            if free < _ROOM_FOR * self._size_bytes:
                problem = f"only {free >> 20} MiB are free"
            else:
                self._fill(unfinished)
        except OSError as error:
            problem = str(error)
        if problem and not self._complained:
            logger.warning("no segment file is made ahead for now: %s", problem)
        with self._lock:
            self._making = False
            self._complained = bool(problem)
            if problem:
                self._retry_at = time.monotonic() + _RETRY_S
            if self._closed or problem:
                unfinished.unlink(missing_ok=True)
                return
            made = self._directory / f"next{_SUFFIX}"
            self._files.rename(unfinished, made)
            self._ready.append(made)

    def _fill(self, path: Path) -> None:
        zeros = aligned_buffer()[:_FILL_BYTES]  # of its huge page nothing is taken: it is only read
        flags = os.O_CREAT | os.O_TRUNC
        try:
            fd = self._files.open_direct(path, flags)  # no page of memory for what is not read
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fd = self._files.open(path, os.O_RDWR | flags)
        try:
            written = 0
            while written < self._size_bytes and not self._closed:
                # in small portions, each to its end: the log's own writes wait for one at most
                written += self._files.pwritev_durably(fd, [zeros], written)
            self._files.fdatasync(fd)
        finally:
            self._files.close(fd)
