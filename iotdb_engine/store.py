"""The ordered key-value store under the engine: RocksDB, or its twin in memory.

This is the only importer of rocksdict. What the engine relies on, and both stores keep:

1. A `Batch` is atomic.
2. After a crash the store holds a prefix of the batches written, at least up to the last `flush`.
   RocksDB gives that without its write-ahead log because everything is in one column family:
   memory tables are installed in the order in which they were filled, and a batch never spans two.
   A batch that was written with `write_durably` survives alone, too, whatever becomes of those
   before it: only such a batch goes through the write-ahead log.
3. A `View` does not change.

Costs measured with rocksdict 0.3.29 (docs/notes/rocksdict.md): `write` holds the GIL, 0.3 ms for
256 KB; `flush` releases it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import rocksdict

from iotdb_engine.direct_file import DirectFile, Rings
from iotdb_engine.errors import Closed, Corruption, EngineError, Locked, OutOfSpace
from iotdb_engine.forked import keep_in_children
from iotdb_engine.rocks_views import RocksViews
from iotdb_engine.staging import (
    MemoryShelf,
    MemoryStaging,
    Records,
    Staging,
    TableStaging,
    TableWriter,
)
from iotdb_engine.table_file import TableFile
from iotdb_engine.table_format import FORMAT_VERSION

_INCOMING = "incoming"
_BLOCK_BYTES = 16 << 10
_MERGE_PATIENCE_S = 60.0
"""So long do files wait to be taken in while merges run whose keys are around theirs."""
_MERGE_LOOK_S = 0.005
_MOST_MERGES = 3
"""For files that are refused while nothing runs; the second is for a merge that ended just then."""


class Batch:
    """Changes to be written as one. Ranges are deleted first, then keys, then the puts are made."""

    __slots__ = ("deletes", "puts", "ranges", "size")

    def __init__(self) -> None:
        self.ranges: list[tuple[bytes, bytes]] = []
        self.deletes: list[bytes] = []
        self.puts: list[tuple[bytes, bytes]] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self.ranges) + len(self.deletes) + len(self.puts)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.puts.append((key, value))
        self.size += len(key) + len(value)

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        self.deletes.append(key)
        self.size += len(key)

    def delete_range(self, lo: bytes, hi: bytes) -> None:
        """Remove the keys in [lo, hi)."""
        self.ranges.append((lo, hi))
        self.size += len(lo) + len(hi)


class View(Protocol):
    """A state of the store that does not change. Thread-safe; release it when done."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in [lo, hi), in key order."""

    def first_key(self, lo: bytes, hi: bytes) -> bytes | None:
        """Return the lowest key in [lo, hi), or None."""

    def release(self) -> None:
        """Let go of what the view holds; later calls raise `Closed`."""


class Store(Protocol):
    """The ordered key-value store. Thread-safe."""

    path: str

    def write(self, batch: Batch) -> None:
        """Apply a batch; not durable before the next `flush` returns."""

    def write_durably(self, batch: Batch) -> None:
        """Apply a batch, durable on return; those before it are not, and it must not need them.

        A `flush` is to follow soon: until then it is in a log that `verify` does not look at.
        """

    def get(self, key: bytes) -> bytes | None:
        """Return the value now, or None."""

    def view(self, *, bulk: bool = False) -> View:
        """Return the state of now; `bulk`: for reading all of it once, in order."""

    def flush(self) -> None:
        """Make everything written so far durable."""

    def close(self) -> None:
        """Close; views that are still held raise `Closed` afterwards. May be repeated."""

    def stats(self) -> dict[str, int]:
        """Return sizes, for people."""

    def staging(self, name: str) -> Staging:
        """Return a place beside the store for records in bulk; what is complete there goes on."""

    def stagings(self) -> list[str]:
        """Return the names of places that are not empty."""


class MemoryStore:
    """The twin in memory: for tests, for `:memory:`, and for crashes at chosen points.

    Writing costs O(keys) of memory moves per new key, and copies the whole index once after a view
    was taken: fine for what fits in memory anyway.
    """

    def __init__(self) -> None:
        self.path = ":memory:"
        self._lock = threading.Lock()
        self._data: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._shared = False
        self._synced: dict[bytes, bytes] = {}
        self._unsynced: list[tuple[Batch, bool]] = []
        self._shelves: dict[str, MemoryShelf] = {}
        self._open = True

    def write(self, batch: Batch) -> None:
        """Apply a batch."""
        with self._lock:
            self._check_open()
            self._change(batch)
            self._unsynced.append((batch, False))

    def write_durably(self, batch: Batch) -> None:
        """Apply a batch that survives any crash."""
        with self._lock:
            self._check_open()
            self._change(batch)
            self._unsynced.append((batch, True))

    def _change(self, batch: Batch) -> None:
        if self._shared:
            self._data = dict(self._data)
            self._keys = list(self._keys)
            self._shared = False
        self._apply(self._data, batch)
        self._reindex(batch)

    def _reindex(self, batch: Batch) -> None:
        keys = self._keys
        for lo, hi in batch.ranges:
            del keys[bisect_left(keys, lo) : bisect_left(keys, hi)]
        for key in batch.deletes:
            at = bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                del keys[at]
        for key, _ in batch.puts:
            at = bisect_left(keys, key)
            if at == len(keys) or keys[at] != key:
                keys.insert(at, key)

    @staticmethod
    def _apply(data: dict[bytes, bytes], batch: Batch) -> None:
        for lo, hi in batch.ranges:
            for key in [key for key in data if lo <= key < hi]:
                del data[key]
        for key in batch.deletes:
            data.pop(key, None)
        data.update(batch.puts)

    def get(self, key: bytes) -> bytes | None:
        """Return the value now, or None."""
        self._check_open()
        return self._data.get(key)

    def view(self, *, bulk: bool = False) -> View:
        """Return the state of now; O(1), the next write copies."""
        with self._lock:
            self._check_open()
            self._shared = True
            return _MemoryView(self, self._data, self._keys)

    def flush(self) -> None:
        """Make everything written so far survive `crash`."""
        with self._lock:
            self._check_open()
            for batch, _ in self._unsynced:
                self._apply(self._synced, batch)
            self._unsynced = []

    def unsynced_count(self) -> int:
        """Return how many batches a crash could lose."""
        return len(self._unsynced)

    def crash(self, keep: int = 0) -> MemoryStore:
        """Close, and return what a restart finds: synced data and `keep` more batches.

        `keep` stands for RocksDB having flushed by itself, so any prefix can survive. What was
        written durably does in any case.
        """
        with self._lock:
            self._open = False
            survivor = MemoryStore()
            survivor._data = dict(self._synced)
            for number, (batch, is_durable) in enumerate(self._unsynced):
                if number < keep or is_durable:
                    self._apply(survivor._data, batch)
            survivor._shelves = {name: shelf.copy() for name, shelf in self._shelves.items()}
        survivor._keys = sorted(survivor._data)
        survivor._synced = dict(survivor._data)
        return survivor

    def close(self) -> None:
        """Refuse everything from now on; `reopen` gives the data back."""
        self._open = False

    def reopen(self) -> MemoryStore:
        """Return a new store with everything that was written, as after a clean close."""
        return self.crash(keep=len(self._unsynced))

    def staging(self, name: str) -> Staging:
        """Return a place beside the store."""
        with self._lock:
            self._check_open()
            shelf = self._shelves.setdefault(name, MemoryShelf())
        return MemoryStaging(shelf, self._take_in, lambda: self._forget(name, shelf))

    def stagings(self) -> list[str]:
        """Return the names of places that are not empty."""
        return sorted(name for name, shelf in self._shelves.items() if shelf.files)

    def _take_in(self, records: Records) -> None:
        batch = Batch()
        batch.puts = records
        with self._lock:
            self._check_open()
            self._change(batch)
            self._apply(self._synced, batch)

    def _forget(self, name: str, shelf: MemoryShelf) -> None:
        if self._shelves.get(name) is shelf:
            del self._shelves[name]

    def stats(self) -> dict[str, int]:
        """Return the number of keys and their bytes."""
        return {"store_keys": len(self._keys)}

    def _check_open(self) -> None:
        if not self._open:
            raise Closed("the engine is closed")


class _MemoryView:
    def __init__(self, store: MemoryStore, data: dict[bytes, bytes], keys: list[bytes]) -> None:
        self._store = store
        self._data: dict[bytes, bytes] | None = data
        self._keys = keys

    def _check(self) -> dict[bytes, bytes]:
        self._store._check_open()
        if self._data is None:
            raise Closed("the view was released")
        return self._data

    def get(self, key: bytes) -> bytes | None:
        return self._check().get(key)

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        data = self._check()
        for at in range(bisect_left(self._keys, lo), bisect_left(self._keys, hi)):
            key = self._keys[at]
            yield key, data[key]

    def first_key(self, lo: bytes, hi: bytes) -> bytes | None:
        self._check()
        at = bisect_left(self._keys, lo)
        return self._keys[at] if at < len(self._keys) and self._keys[at] < hi else None

    def release(self) -> None:
        self._data = None
        self._keys = []


_in_use: set[str] = set()
"""Real paths of the folders that this process has open: RocksDB's lock, a POSIX one, is the
process's, and closing any other descriptor of the lock file would give it up."""
_in_use_lock = threading.Lock()


class FolderLock:
    """The lock of a store's folder without opening the store; for looking at its files."""

    def __init__(self, path: str | Path) -> None:
        """Take it.

        Raises:
            Locked: somebody has the store open.
            EngineError: there is no store in the folder.
        """
        self._fd: int | None = None
        self._name = _claim(path)
        try:
            self._fd = os.open(Path(path) / "LOCK", os.O_RDWR | os.O_CLOEXEC)
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError as error:
            self.release()
            raise EngineError(f"{path} is not a data folder: it has no file LOCK") from error
        except OSError as error:
            self.release()
            raise Locked(str(path)) from error

    def release(self) -> None:
        """Give it up; may be repeated."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._name:
            _disclaim(self._name)
            self._name = ""


def _claim(path: str | Path) -> str:
    name = os.path.realpath(path)
    with _in_use_lock:
        if name in _in_use:
            raise Locked(str(path))
        _in_use.add(name)
    return name


def _disclaim(name: str) -> None:
    with _in_use_lock:
        _in_use.discard(name)


class RocksStore:
    """RocksDB in one column family, almost without its write-ahead log."""

    def __init__(
        self, path: str | Path, *, block_cache_bytes: int = 32 << 20, read_only: bool = False
    ) -> None:
        """Open or create.

        Args:
            path: a folder.
            block_cache_bytes: of RocksDB's cache.
            read_only: change no file; the caller holds a `FolderLock`.

        Raises:
            Locked: another process or object has the folder open.
            Corruption: RocksDB cannot open it, since a file is damaged.
        """
        self.path = str(path)
        self._claim = ""
        if not read_only:
            Path(path).mkdir(parents=True, exist_ok=True)
            self._claim = _claim(path)
        access = rocksdict.AccessType
        try:
            rocks = _rocks_options(block_cache_bytes)
            self._db = rocksdict.Rdict(
                self.path,
                rocks,
                # or it is opened by what its folder says, which knows of no cache
                column_families={"default": rocks},
                access_type=access.read_only() if read_only else access.read_write(),
            )
        except Exception as error:  # rocksdict raises bare Exception
            _disclaim(self._claim)
            raise _translate(error, self.path) from error
        keep_in_children(self)
        self._write_options = rocksdict.WriteOptions()
        # A property in fact; the stub of 0.3.29 has a method.
        self._write_options.disable_wal = True  # type: ignore[method-assign,assignment]
        self._durable_options = rocksdict.WriteOptions()
        self._durable_options.sync = True
        self._open = True
        self._unflushed = 0
        self._rings = Rings()
        self._views = RocksViews(self._iterator, partial(_translate, path=self.path))

    _FLUSH_BYTES = 48 << 20
    """Written since the last flush: below the 8 x 16 MB at which RocksDB would stall a writer, who
    holds the GIL."""

    def write(self, batch: Batch) -> None:
        """Apply a batch; holds the GIL for about 1 us/KB."""
        self._write(batch, self._write_options)

    def write_durably(self, batch: Batch) -> None:
        """Apply a batch, durable on return; holds the GIL for the sync of a log of this batch."""
        self._write(batch, self._durable_options)

    def _write(self, batch: Batch, options: rocksdict.WriteOptions) -> None:
        if not self._open:
            raise Closed("the engine is closed")
        native = rocksdict.WriteBatch(raw_mode=True)
        for lo, hi in batch.ranges:
            native.delete_range(lo, hi)
        for key in batch.deletes:
            native.delete(key)
        for key, value in batch.puts:
            native.put(key, value)
        self._unflushed += batch.size
        try:
            with self._views.change():
                self._db.write(native, options)
            if self._unflushed > self._FLUSH_BYTES:
                self._unflushed = 0
                self._db.flush(True)
        except Exception as error:
            raise _translate(error, self.path) from error

    def get(self, key: bytes) -> bytes | None:
        """Return the value now, or None."""
        if not self._open:
            raise Closed("the engine is closed")
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise _translate(error, self.path, key) from error
        return value

    def view(self, *, bulk: bool = False) -> View:
        """Return the state of now; costs little until it is looked into."""
        return self._views.new(bulk=bulk)

    def _iterator(self, bulk: bool) -> rocksdict.RdictIter:
        options = rocksdict.ReadOptions()
        if bulk:
            options.fill_cache(False)  # type: ignore[call-arg]
        return self._db.iter(options)

    def flush(self) -> None:
        """Make everything written so far durable; releases the GIL."""
        if not self._open:
            raise Closed("the engine is closed")
        self._unflushed = 0
        try:
            self._db.flush(True)
        except Exception as error:
            raise _translate(error, self.path) from error

    def staging(self, name: str) -> Staging:
        """Return a place beside the store: a folder in its folder."""
        return TableStaging(
            Path(self.path) / _INCOMING / name,
            self._open_table,
            self._take_in,
            lambda error: _translate(error, self.path),
        )

    def _open_table(self, path: Path, is_dense: bool) -> TableWriter:
        return TableFile(DirectFile(path, self._rings)) if is_dense else _RocksTable(path)

    def stagings(self) -> list[str]:
        """Return the names of places that are not empty."""
        folder = Path(self.path) / _INCOMING
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def _take_in(self, files: list[str], lo: bytes, hi: bytes) -> None:
        options = rocksdict.IngestExternalFileOptions()
        options.set_move_files(True)
        # The records keep sequence 0, which is right as long as there is nothing older in their
        # range. A number given to a file would be in the MANIFEST only, and lost when that is.
        options.set_allow_global_seqno(False)
        options.set_snapshot_consistency(False)
        end = time.monotonic() + _MERGE_PATIENCE_S
        merges = 0
        while True:
            if not self._open:
                raise Closed("the engine is closed")
            try:
                with self._views.change():
                    self._db.ingest_external_file(files, options)
                return
            except Exception as error:
                # It would need a number, for what is older there, or may be: a merge that runs.
                if "seqno" not in str(error).lower() or time.monotonic() > end:
                    raise
                if not self._merges_now():
                    if merges == _MOST_MERGES:
                        raise
                    merges += 1
                    self._merge_away(lo, hi)
                    continue
            time.sleep(_MERGE_LOOK_S)

    def _merges_now(self) -> bool:
        return bool(self._db.property_int_value("rocksdb.num-running-compactions"))

    def _merge_away(self, lo: bytes, hi: bytes) -> None:
        """Remove what a deleted range has left; with plain merges it may only be moved."""
        self._db.flush(True)
        options = rocksdict.CompactOptions()
        options.set_bottommost_level_compaction(
            rocksdict.BottommostLevelCompaction.force_optimized()
        )
        self._db.compact_range(lo, hi, options)

    def close(self) -> None:
        """Close; releases the views, since one of them would keep the folder locked.

        Raises:
            EngineError: RocksDB could not store what it had in memory; it is closed all the same.
        """
        if not self._views.close():
            return
        self._open = False
        self._rings.close()
        try:
            self._db.close()
        except Exception as error:
            raise _translate(error, self.path) from error
        finally:
            _disclaim(self._claim)

    def stats(self) -> dict[str, int]:
        """Return sizes as RocksDB knows them."""
        if not self._open:
            return {}
        names = {
            "store_sst_bytes": "rocksdb.total-sst-files-size",
            "store_memtable_bytes": "rocksdb.size-all-mem-tables",
            "store_keys": "rocksdb.estimate-num-keys",
        }
        return {name: self._db.property_int_value(key) or 0 for name, key in names.items()}

    def compact(self) -> None:
        """Let RocksDB rewrite everything; for measurements."""
        self._db.compact_range(None, None)


def _rocks_options(block_cache_bytes: int) -> rocksdict.Options:
    """Return RocksDB's settings."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 << 20)
    options.set_max_write_buffer_number(8)
    options.set_max_background_jobs(2)
    # A stalled `write` would stop every thread of the process, since it holds the GIL: RocksDB must
    # never throttle us. The engine throttles its writers by its own budget.
    options.set_level_zero_file_num_compaction_trigger(6)
    options.set_level_zero_slowdown_writes_trigger(1 << 20)
    options.set_level_zero_stop_writes_trigger(1 << 20)
    options.set_soft_pending_compaction_bytes_limit(0)
    options.set_hard_pending_compaction_bytes_limit(0)
    # Pages are compressed already; what LZ4 gains is the keys and statistics of small chunks, and
    # only for data old enough to have moved down.
    none, lz4 = rocksdict.DBCompressionType.none(), rocksdict.DBCompressionType.lz4()
    options.set_compression_per_level([none, none, lz4, lz4, lz4, lz4, lz4])
    options.set_level_compaction_dynamic_level_bytes(False)
    options.set_keep_log_file_num(3)
    options.set_max_log_file_size(4 << 20)
    table = rocksdict.BlockBasedOptions()
    table.set_bloom_filter(10, False)
    table.set_block_size(_BLOCK_BYTES)
    # What `rocks_files` can walk.
    table.set_format_version(FORMAT_VERSION)
    # rocksdict's CRC-32C does without the processor's instruction: 0.6 ms/MB more, here and there.
    table.set_checksum_type(rocksdict.ChecksumType.xxhash64())
    if block_cache_bytes:
        table.set_block_cache(rocksdict.Cache(block_cache_bytes))
    options.set_block_based_table_factory(table)
    return options


class _RocksTable:
    """A table file that RocksDB writes: compresses, in small blocks, records that are small."""

    def __init__(self, path: Path) -> None:
        self._writer = rocksdict.SstFileWriter(_rocks_options(0))
        self._writer.open(str(path))
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._lock = threading.Lock()

    def add(self, key: bytes, value: bytes) -> None:
        self._writer[key] = value

    def finish(self, *, sync: bool) -> None:
        with self._lock:
            if self._fd < 0:
                raise Closed("the transfer was given up")
            os.fdatasync(self._fd)  # without the GIL, unlike what follows in any case
            self._writer.finish()
        self.drop()

    def drop(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def repair_store(path: str | Path) -> None:
    """Have RocksDB make a new MANIFEST from the table files that it can open.

    Those that it cannot are moved to a folder `lost`. What a compaction removed and had not deleted
    yet may come back.
    """
    try:
        rocksdict.Rdict.repair(str(path), _rocks_options(0))
    except Exception as error:
        raise _translate(error, str(path)) from error


def _translate(error: Exception, path: str, key: bytes = b"") -> EngineError:
    text = str(error)
    if isinstance(error, EngineError):
        return error
    if isinstance(error, rocksdict.DbClosedError):
        return Closed("the engine is closed")
    if "lock" in text.lower() and "LOCK" in text:
        return Locked(path)
    if "No space left" in text or "NoSpace" in text:
        return OutOfSpace(f"{path}: {text}")
    if text.startswith("Corruption"):
        return Corruption(path, key, "sound files", text)
    return EngineError(f"{path}: {text}")
