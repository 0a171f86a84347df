"""Records on their way into the store in bulk, in files beside it.

Problem: the state of a region that comes from elsewhere may be as large as the disk allows. Written
like any other record, each byte goes through RocksDB's memory tables, its table files of level 0,
and the merges that empty level 0: three times over the disk, and most of two cores' time.

So the records, which come in key order, are written into table files at once. They lie in a folder
of their own; each file is durable before a note says that it is there, so that a transfer goes on
after a crash. When all are there, RocksDB takes the files in with one step: they become part of its
lowest level as they are, if nothing else is, or was, in the range of their keys.

A file of small records is RocksDB's to write; one of large records is written here (`table_file`),
in a tenth of the time, and past the page cache (`direct_file`).

What holds the GIL (rocksdict 0.3.29): adding a record to a file of RocksDB's (0.5 us/KB; now and
then a write into the system's cache), finishing such a file, taking files in. The bytes are made
durable without the GIL before, so that what is left of it to wait for is small. What the store
reads when it takes a file in, its first and its last block, comes from the disk.
"""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from iotdb_engine.errors import Closed, EngineError
from iotdb_engine.worker import Worker

_NOTE = "note"
_HEAD = struct.Struct("<III")

Records = list[tuple[bytes, bytes]]


class TableWriter(Protocol):
    """Writes one table file. One thread at a time, but for `drop`."""

    def add(self, key: bytes, value: bytes) -> None:
        """Add a record; keys ascend."""

    def finish(self, *, sync: bool) -> None:
        """Complete the file, and let go of it; `drop` follows where this fails.

        Args:
            sync: durably; otherwise the store makes it so when it takes the file in.
        """

    def drop(self) -> None:
        """Let go of the file as it is; may be repeated, and called by any thread."""


class Staging(Protocol):
    """Records beside the store, in files. One thread at a time, but for `close`.

    Attributes:
        note: what the caller noted with the last complete file; b"" for none. After a crash all
            records up to there are there, and no others.
        size: bytes of keys and values in the file that is not complete yet.
        is_dense: large records, which are compressed already, make up the next file. To be
            changed while there is nothing in the present one (`size`).
    """

    size: int
    is_dense: bool

    @property
    def note(self) -> bytes:
        """See the class."""

    def add(self, key: bytes, value: bytes) -> None:
        """Add a record; keys ascend."""

    def complete(self, note: bytes) -> None:
        """End the present file; soon it is durable, and the note with it."""

    def ingest(self, lo: bytes, hi: bytes) -> None:
        """Have the store take in all that was added, at once and durably; nothing stays here.

        All keys are in [lo, hi), and the store has none there.
        """

    def discard(self) -> None:
        """Remove everything."""

    def close(self) -> None:
        """Let go of what is not complete; may be repeated."""


class TableStaging:
    """Table files of RocksDB in a folder.

    Args:
        folder: is made when the first record comes. What a crash left of a file is removed.
        open_table: begins a table file at a path; the second argument is `is_dense`.
        take_in: has the store take in the files at these paths, all of whose keys are in [lo, hi).
        translate: makes an `EngineError` of RocksDB's exceptions.
    """

    def __init__(
        self,
        folder: Path,
        open_table: Callable[[Path, bool], TableWriter],
        take_in: Callable[[list[str], bytes, bytes], None],
        translate: Callable[[Exception], EngineError],
    ) -> None:
        self.size = 0
        self.is_dense = False
        self._folder = folder
        self._open_table = open_table
        self._take_in = take_in
        self._translate = translate
        self._count, self._note = _read_note(folder)
        self._complete = self._count
        self._writer: TableWriter | None = None
        self._worker: Worker[int] | None = None
        self._closing: tuple[TableWriter, bytes] | None = None
        self._error: Exception | None = None
        self._closed = False
        for path in folder.glob("*.sst"):
            if int(path.stem) >= self._count:
                path.unlink()

    @property
    def note(self) -> bytes:
        """What was noted with the last complete file."""
        return self._note

    def add(self, key: bytes, value: bytes) -> None:
        """Add a record."""
        if self._closed:
            raise Closed("the transfer was given up")
        try:
            writer = self._writer or self._open()
            writer.add(key, value)
            self.size += len(key) + len(value)
        except Exception as error:
            raise self._translate(error) from error

    def _open(self) -> TableWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writer = self._open_table(self._path(self._count), self.is_dense)
        return self._writer

    def complete(self, note: bytes) -> None:
        """End the present file in the background; waits for the one before."""
        self._settle()
        if self._writer is None:
            return
        self._closing = (self._writer, note)
        self._writer = None
        self._count += 1
        self.size = 0
        if self._worker is None:
            self._worker = Worker("engine-staging", self._finish, is_nice=False)
        self._worker.request(self._count)

    def _finish(self, counts: list[int]) -> None:
        assert self._closing is not None
        writer, note = self._closing
        try:
            writer.finish(sync=True)
            _write_note(self._folder, counts[-1], note)
            self._note = note
        except Exception as error:  # noqa: BLE001 the caller gets it
            self._error = error
            writer.drop()

    def _settle(self) -> None:
        """Wait until the last complete file is durable."""
        if self._worker is not None:
            self._worker.close()
            self._worker = self._closing = None
        if self._error is not None:
            error, self._error = self._error, None
            self.close()
            raise self._translate(error) from error
        self._complete = self._count

    def ingest(self, lo: bytes, hi: bytes) -> None:
        """Have RocksDB take the files in; the last one needs no note any more."""
        self._settle()
        if self._writer is not None:
            try:
                self._writer.finish(sync=False)
            except Exception as error:
                raise self._translate(error) from error
            self._complete += 1
        paths = [str(self._path(number)) for number in range(self._complete)]
        if paths:
            try:
                self._take_in(paths, lo, hi)
            except Exception as error:
                raise self._translate(error) from error
        self.close()
        try:
            if self._count:
                (self._folder / _NOTE).unlink(missing_ok=True)
            self._folder.rmdir()  # the files are the store's now
        except OSError:
            self.discard()

    def discard(self) -> None:
        """Remove everything."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of what is not complete."""
        self._closed = True
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        if self._writer is not None:
            self._writer.drop()
        self._writer = self._closing = None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}.sst"


class MemoryShelf:
    """What the memory store's twin of a folder keeps: complete files, and the note of the last."""

    def __init__(self) -> None:
        self.files: list[Records] = []
        self.note = b""

    def copy(self) -> MemoryShelf:
        """Return what a crash leaves."""
        other = MemoryShelf()
        other.files, other.note = list(self.files), self.note
        return other


class MemoryStaging:
    """The twin in memory.

    Args:
        shelf: what is complete.
        take_in: has the store take in these records.
        remove: forgets the shelf.
    """

    def __init__(
        self, shelf: MemoryShelf, take_in: Callable[[Records], None], remove: Callable[[], None]
    ) -> None:
        self.size = 0
        self.is_dense = False
        self._shelf = shelf
        self._take_in = take_in
        self._remove = remove
        self._present: Records = []
        self._closed = False

    @property
    def note(self) -> bytes:
        """What was noted with the last complete file."""
        return self._shelf.note

    def add(self, key: bytes, value: bytes) -> None:
        """Add a record."""
        if self._closed:
            raise Closed("the transfer was given up")
        self._present.append((key, value))
        self.size += len(key) + len(value)

    def complete(self, note: bytes) -> None:
        """End the present file."""
        if self._present:
            self._shelf.files.append(self._present)
            self._shelf.note = note
            self._present = []
            self.size = 0

    def ingest(self, lo: bytes, hi: bytes) -> None:
        """Have the store take in what was added."""
        files = [*self._shelf.files, self._present]
        self._take_in([record for records in files for record in records])
        self.discard()

    def discard(self) -> None:
        """Remove everything."""
        self.close()
        self._remove()

    def close(self) -> None:
        """Let go of what is not complete."""
        self._closed = True
        self._present = []


def _read_note(folder: Path) -> tuple[int, bytes]:
    """Return how many files are complete, and what was noted with the last one."""
    try:
        data = (folder / _NOTE).read_bytes()
    except FileNotFoundError:
        return 0, b""
    if len(data) < _HEAD.size:
        return 0, b""
    count, size, crc = _HEAD.unpack_from(data)
    note = data[_HEAD.size :]
    if len(note) != size or zlib.crc32(note, count) != crc:
        return 0, b""
    return count, note


def _write_note(folder: Path, count: int, note: bytes) -> None:
    path = folder / (_NOTE + ".new")
    with path.open("wb") as file:
        file.write(_HEAD.pack(count, len(note), zlib.crc32(note, count)) + note)
        file.flush()
        os.fdatasync(file.fileno())
    path.rename(folder / _NOTE)
    _sync_folder(folder)
    if count == 1:  # without a note, the folder itself need not survive
        _sync_folder(folder.parent)
        _sync_folder(folder.parent.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
