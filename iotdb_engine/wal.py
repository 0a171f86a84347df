"""The write-ahead log of an engine that has no other log above it.

Problem: what is applied is in memory until the next flush; a process that is killed, or a machine
that loses power, must not lose what it acknowledged. Idea: each step is appended to a file, as one
record with a checksum, before it is applied; a start applies again what the store does not have.
Files go when everything in them is stored.

A record that is not sound may be two things. The last write before a power cut may be torn, in any
order: nothing of it was acknowledged, and it is cut off. Or the disk broke its word. They are told
apart by what every record says of its past: how far its file was synced when it was written. If a
sound record behind the spot says that the spot was durable, acknowledged writes are lost, and the
log is refused instead of shortened. (`repair` takes out what is broken.)

Syncs are shared: while one thread waits for the disk, others append, and the next sync is for all
of them.

Layout: docs/formats/wal.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Literal, NamedTuple

import google_crc32c

from iotdb_engine.errors import Closed, EngineError, LogCorruption, OutOfSpace
from iotdb_engine.worker import Worker

logger = logging.getLogger(__name__)

Sync = Literal["always", "periodic", "never"]
SYNCS: tuple[Sync, ...] = ("always", "periodic", "never")

WAL_FOLDER = "wal"
"""Within the store's folder."""
MAGIC = b"IOTDBWAL"
VERSION = 1
_HEAD = struct.Struct("<8sBBxxI")
"""magic, version, flags, CRC of all these."""
_BEFORE_IS_DURABLE = 1
"""Flag: the files before were synced before this one was begun."""
_RECORD = struct.Struct("<4sIIQQ")
"""mark, CRC of all that follows and of the payload, bytes of payload, index, synced bytes."""
_MARK = b"\xa5rec"
_CRC_FROM = 8
_NAME = re.compile(r"(\d{20})\.wal")

Buffer = bytes | memoryview


class Record(NamedTuple):
    """One step, as it lies in a file.

    Attributes:
        step: its index: the place in the order of all steps.
        payload: what the caller wrote.
        offset: of the record in its file.
        end: of the record in its file.
        synced: so many bytes of the file were durable when the record was written.
    """

    step: int
    payload: bytes
    offset: int
    end: int
    synced: int


class SegmentContents(NamedTuple):
    """What a file of the log holds.

    Attributes:
        records: the sound ones.
        torn_at: where an unfinished write at the end begins; None: there is none.
        lost: (offset, end) of stretches that were durable once and are not sound.
    """

    records: list[Record]
    torn_at: int | None
    lost: list[tuple[int, int]]


def segment_paths(folder: Path) -> list[Path]:
    """Return the files of a log, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def read_log(folder: Path) -> Iterator[tuple[Path, SegmentContents]]:
    """Yield the files of a log and what they hold, oldest first; memory for one file."""
    paths = segment_paths(folder)
    for path, following in zip_longest(paths, paths[1:]):
        yield path, _read_segment(path, may_be_torn=following is None or not _is_after(following))


def _is_after(path: Path) -> bool:
    """Tell whether a file was begun after those before it had been synced."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
    return not _is_heading(head) or bool(head[9] & _BEFORE_IS_DURABLE)


def _read_segment(path: Path, *, may_be_torn: bool) -> SegmentContents:
    data = path.read_bytes()
    records: list[Record] = []
    gaps: list[tuple[int, int]] = []
    at = _HEAD.size
    if not _is_heading(data[:at]):
        first = _next_record(data, 0)
        at = len(data) if first is None else first
        gaps.append((0, at))
    while at < len(data):
        record = _record_at(data, at)
        if record is None:
            behind = _next_record(data, at + 1)
            gaps.append((at, len(data) if behind is None else behind))
            at = gaps[-1][1]
            continue
        records.append(record)
        at = record.end
    durable = max((record.synced for record in records), default=0) if may_be_torn else len(data)
    lost = [gap for gap in gaps if gap[0] < durable]
    torn = [gap[0] for gap in gaps if gap[0] >= durable]
    torn_at = torn[0] if torn else None
    if torn_at is not None:
        records = [record for record in records if record.offset < torn_at]
    return SegmentContents(records, torn_at, lost)


def _is_heading(data: bytes) -> bool:
    if len(data) < _HEAD.size:
        return False
    magic, version, _, crc = _HEAD.unpack(data)
    return (magic, version, crc) == (MAGIC, VERSION, google_crc32c.value(data[:-4]))


def _heading(flags: int) -> bytes:
    front = _HEAD.pack(MAGIC, VERSION, flags, 0)[:-4]
    crc: int = google_crc32c.value(front)
    return front + crc.to_bytes(4, "little")


def _record_at(data: bytes, at: int) -> Record | None:
    if len(data) - at < _RECORD.size:
        return None
    mark, crc, size, index, synced = _RECORD.unpack_from(data, at)
    end = at + _RECORD.size + size
    if mark != _MARK or end > len(data):
        return None
    if google_crc32c.value(data[at + _CRC_FROM : end]) != crc:
        return None
    return Record(index, data[at + _RECORD.size : end], at, end, synced)


def _next_record(data: bytes, at: int) -> int | None:
    """Return where the next sound record begins."""
    while (at := data.find(_MARK, at)) >= 0:
        if _record_at(data, at) is not None:
            return at
        at += 1
    return None


class WriteAheadLog:
    """The log in a folder. Thread-safe, but for `replay`; appends come in the order of indices."""

    def __init__(
        self, folder: Path, sync: Sync, *, interval_s: float = 0.1, segment_bytes: int = 64 << 20
    ) -> None:
        """Open; nothing is read before `replay`, nor written before an append.

        Args:
            folder: made with the first append. The caller holds the lock of what is around it.
            sync: when appends become durable: before `wait` returns; every `interval_s`; or when
                the system sees fit.
            interval_s: for "periodic".
            segment_bytes: a file that has reached this is followed by another.
        """
        self._folder = folder
        self._sync = sync
        self._interval_s = interval_s
        self._segment_bytes = segment_bytes
        # Guards everything below; never held while the disk is waited for.
        self._changed = threading.Condition()
        self._fd = -1
        self._size = 0
        self._durable = 0
        self._position = 0
        """Bytes appended in the life of this object; `_synced` of them are durable."""
        self._synced = 0
        self._syncing = False
        self._last_index = 0
        self._old: list[tuple[Path, int]] = []
        """Files that are complete, with the highest index in each."""
        self._path: Path | None = None
        self._failure: Exception | None = None
        self._closed = False
        self.sync_count = 0
        self._stop = threading.Event()
        self._worker: Worker[int] | None = None

    # Start

    def replay(self, after: int) -> Iterator[Record]:
        """Yield the records above an index, in order, and get ready for appending.

        A torn end is cut off; files without anything above the index are removed.

        Raises:
            LogCorruption: records that were durable are not sound.
        """
        is_cut = False
        for path, contents in read_log(self._folder):
            if is_cut:  # what no sync covered may lack its middle; what is left is a prefix
                path.unlink()
                continue
            if contents.lost:
                raise LogCorruption(str(path), contents.lost[0], _indices(contents))
            if contents.torn_at is not None:
                logger.warning("%s: an unfinished write at %d is cut off", path, contents.torn_at)
                _truncate(path, contents.torn_at)
                is_cut = True
            last = contents.records[-1].step if contents.records else 0
            if last <= after:
                path.unlink()
                continue
            if self._sync != "never":
                _sync_file(path)
            self._old.append((path, last))
            self._last_index = max(self._last_index, last)
            yield from (record for record in contents.records if record.step > after)

    # Appending

    def append(self, index: int, payload: Sequence[Buffer]) -> int:
        """Write one step; it survives the end of the process, and `wait` makes it durable.

        Args:
            index: above all before.
            payload: parts, written one after another.

        Returns:
            What `wait` takes.

        Raises:
            OutOfSpace: nothing happened.
            EngineError: the log cannot be written any more; nothing happened.
        """
        size = sum(map(len, payload))
        with self._changed:
            self._check()
            self._wait_for_sync_locked()
            if self._fd < 0 or self._size >= self._segment_bytes:
                self._begin_segment_locked(index)
            body = _RECORD.pack(_MARK, 0, size, index, self._durable)[_CRC_FROM:]
            crc = google_crc32c.value(body)
            for part in payload:
                crc = google_crc32c.extend(crc, bytes(part))
            head = _MARK + crc.to_bytes(4, "little") + body
            self._write_locked([head, *payload], len(head) + size)
            self._last_index = index
            position = self._position
        if self._sync == "periodic":
            self._request_sync()
        return position

    def _wait_for_sync_locked(self) -> None:
        """A file is only ever closed when nobody is syncing it."""
        if self._size >= self._segment_bytes:
            self._changed.wait_for(lambda: not self._syncing)
            self._check()

    def _write_locked(self, parts: list[Buffer], size: int) -> None:
        try:
            written = os.writev(self._fd, parts) if len(parts) < 1000 else 0
            if written < size:
                rest = memoryview(b"".join(parts))[written:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            try:
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            except OSError as worse:
                self._fail_locked(worse)
            raise OutOfSpace(f"{self._path}: {error}") from error
        self._size += size
        self._position += size

    @property
    def position(self) -> int:
        """What `sync_to` takes to make all that was appended durable."""
        return self._position

    def wait(self, position: int) -> None:
        """Return when an append is as durable as the log's mode promises.

        Raises:
            EngineError: syncing failed: what was appended since may be lost.
        """
        if self._sync == "always":
            self.sync_to(position)

    def sync_to(self, position: int) -> None:
        """Make everything up to an append durable, together with whatever came meanwhile."""
        with self._changed:
            while self._synced < position:
                self._check_failure()
                if self._syncing:
                    self._changed.wait()
                    continue
                self._sync_locked()

    def _sync_locked(self) -> None:
        """Sync what is written; the lock is given up while the disk works."""
        if self._fd < 0:
            return
        fd, target, size = self._fd, self._position, self._size
        self._syncing = True
        self._changed.release()
        failure: OSError | None = None
        try:
            os.fdatasync(fd)
        except OSError as error:
            failure = error
        finally:
            self._changed.acquire()
            self._syncing = False
            self._changed.notify_all()
        if failure is not None:
            # After a failed sync nobody knows what is on the disk: trying again proves nothing.
            self._fail_locked(failure)
            self._check_failure()
        self.sync_count += 1
        self._synced = max(self._synced, target)
        self._durable = max(self._durable, size)

    def _begin_segment_locked(self, index: int) -> None:
        if self._fd >= 0:
            self._end_segment_locked()
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{index:020d}.wal"
        head = _heading(0 if self._sync == "never" else _BEFORE_IS_DURABLE)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, head)
                if self._sync != "never":
                    os.fsync(fd)
                    _sync_folder(self._folder)
                    _sync_folder(self._folder.parent)
            except BaseException:
                os.close(fd)
                path.unlink()  # the next append begins it anew
                raise
        except OSError as error:
            raise OutOfSpace(f"{path}: {error}") from error
        self._fd, self._path = fd, path
        self._size = self._durable = len(head)

    def _end_segment_locked(self) -> None:
        assert self._path is not None
        if self._sync != "never":
            self._sync_locked()
        os.close(self._fd)
        self._fd = -1
        self._old.append((self._path, self._last_index))

    # Ending

    def forget(self, index: int) -> None:
        """Remove the files that hold nothing above an index."""
        with self._changed:
            gone = [path for path, last in self._old if last <= index]
            self._old = [item for item in self._old if item[1] > index]
            idle = self._fd >= 0 and self._last_index <= index and not self._syncing
            if idle and self._size > _HEAD.size and not self._closed:
                assert self._path is not None
                os.close(self._fd)
                gone.append(self._path)
                self._fd = -1
                self._synced = self._position
        for path in gone:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def total_bytes(self) -> int:
        """Return the size of all files."""
        return sum(path.stat().st_size for path in segment_paths(self._folder))

    def close(self) -> None:
        """Make what was appended durable, but for "never", and close; may be repeated."""
        self._stop.set()
        with self._changed:
            if self._closed:
                return
            self._changed.wait_for(lambda: not self._syncing)
            self._closed = True
            if self._fd >= 0:
                if self._sync != "never" and self._failure is None:
                    self._sync_locked()
                os.close(self._fd)
                self._fd = -1
        if self._worker is not None:
            self._worker.close()

    def _request_sync(self) -> None:
        if self._worker is None:
            with self._changed:
                if self._worker is None:
                    self._worker = Worker("engine-log", self._sync_now_and_then)
        self._worker.request(0)

    def _sync_now_and_then(self, _: Sequence[int]) -> None:
        self._stop.wait(self._interval_s)
        with self._changed:
            if not self._closed and self._failure is None and not self._syncing:
                self._sync_locked()

    def _check(self) -> None:
        if self._closed:
            raise Closed("the engine is closed")
        self._check_failure()

    def _check_failure(self) -> None:
        if self._failure is not None:
            raise EngineError(f"the write-ahead log failed: {self._failure}") from self._failure

    def _fail_locked(self, error: Exception) -> None:
        self._failure = error
        logger.error("the write-ahead log %s cannot be written any more: %s", self._folder, error)
        self._changed.notify_all()


def _indices(contents: SegmentContents) -> tuple[int, int] | None:
    """Return the indices around the first stretch that is lost."""
    at = contents.lost[0][0]
    before = [record.step for record in contents.records if record.offset < at]
    after = [record.step for record in contents.records if record.offset > at]
    return (before[-1] + 1, after[0] - 1) if before and after else None


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _truncate(path: Path, size: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_segment(path: Path, records: Sequence[Record]) -> None:
    """Write a whole file of sound records anew; durable on return. For repairs."""
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(_heading(_BEFORE_IS_DURABLE))
        for record in records:
            body = _RECORD.pack(_MARK, 0, len(record.payload), record.step, 0)[_CRC_FROM:]
            crc = google_crc32c.extend(google_crc32c.value(body), record.payload)
            file.write(_MARK + crc.to_bytes(4, "little") + body + record.payload)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    _sync_folder(path.parent)
