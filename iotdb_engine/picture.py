"""Everything that a region holds at one moment, to be read at leisure while it goes on.

For comparing replicas: two regions that applied the same entries give the same answers here,
however their data is spread over memory tables, flushes and compactions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from iotdb_engine.errors import Corruption
from iotdb_engine.key_format import (
    Kind,
    kind_prefix,
    prefix_end,
    series_range,
    split_chunk_key,
)
from iotdb_engine.page import unpack_chunk
from iotdb_engine.reader import Reader
from iotdb_engine.region import Region
from iotdb_engine.types import T_MAX, T_MIN, ColumnBatch, DataType

DIGEST_BYTES = 16


class RegionPicture:
    """A region's state at `index`. One thread at a time; close it.

    Taking it costs the region's lock for as long as it takes to list the series in memory. While
    it is open, RocksDB keeps the files that it reads.
    """

    def __init__(self, region: Region, now_ns: int = 0) -> None:
        """Take the picture of now: from the applier, it is that of the entry applied last.

        Args:
            region: of which.
            now_ns: the time by which points are expired, since 1970; 0: this machine's.
        """
        self._region = region
        with region.state.lock:
            state = region.state
            self.index = state.applied_index
            tables = [table for table in (state.frozen, state.active) if table is not None]
            self._newer: dict[bytes, bytes | None] = {}
            self._in_memory: dict[int, DataType] = {}
            for table in tables:
                self._newer.update(table.puts)
                for series_id, holders in table.by_series.items():
                    layout = holders[0].layout
                    self._in_memory[series_id] = layout.types[holders[0].columns[series_id]]
            now = now_ns // state.options.unit_ns if now_ns else None
            self._read = region.open_read(list(self._in_memory.items()), now=now)

    def key_values(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the key-value state, by key."""
        prefix = kind_prefix(self._region.id, Kind.KEY_VALUE)
        newer = sorted(self._newer.items())
        at = 0
        for stored, value in self._read.snapshot.view.scan(prefix, prefix_end(prefix)):
            key = stored[len(prefix) :]
            while at < len(newer) and newer[at][0] < key:
                yield from _present(newer[at])
                at += 1
            if at == len(newer) or newer[at][0] != key:
                yield key, value
        for item in newer[at:]:
            yield from _present(item)

    def series(self) -> Iterator[tuple[int, DataType]]:
        """Yield id and type of every series that may have points, ascending."""
        found = dict(self._in_memory)
        for slot in self._read.slots:
            found.update(self._stored_series(slot))
        yield from sorted(item for item in found.items() if not self._read.is_dropped(item[0]))

    def read(self, series_id: int, kind: DataType) -> Iterator[ColumnBatch]:
        """Yield the points of one series, in time order."""
        reader = Reader(self._read.snapshot)
        loaded = self._read.load(reader, series_id, kind, T_MIN, T_MAX)
        return reader.scan([loaded], T_MIN, T_MAX, descending=False, max_rows=None)

    def close(self) -> None:
        """Let go of the state."""
        self._read.close()

    def _stored_series(self, slot: int) -> Iterator[tuple[int, DataType]]:
        """Yield the series that have chunks in a slot; one seek each, ghosts included."""
        snapshot = self._read.snapshot
        lo, hi = series_range(self._region.id, Kind.CHUNK, slot, 0, 1 << 64)
        while (key := snapshot.view.first_key(lo, hi)) is not None:
            series_id = split_chunk_key(key).series_id
            try:
                kind = unpack_chunk(snapshot.view.get(key) or b"").kind
            except ValueError as error:
                raise Corruption(snapshot.path, key, "a chunk record", error) from error
            yield series_id, kind
            if series_id == (1 << 64) - 1:
                return
            lo = series_range(self._region.id, Kind.CHUNK, slot, series_id + 1, 1 << 64)[0]


def _present(item: tuple[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    key, value = item
    if value is not None:
        yield key, value


def points_digest(kind: DataType, batches: Iterator[ColumnBatch]) -> tuple[int, bytes]:
    """Return how many points there are, and a digest of them that is free of how they were cut.

    Values count bit by bit: two NaNs of different payload differ, as do 0.0 and -0.0.
    """
    times = hashlib.blake2b(bytes((kind,)), digest_size=DIGEST_BYTES)
    lengths = hashlib.blake2b(digest_size=DIGEST_BYTES)
    values = hashlib.blake2b(digest_size=DIGEST_BYTES)
    count = 0
    for batch in batches:
        column = batch.columns[0]
        count += len(batch.times)
        times.update(np.ascontiguousarray(batch.times, "<i8").tobytes())
        if kind is DataType.TEXT:
            texts: list[bytes] = column.values.tolist()
            lengths.update(np.fromiter(map(len, texts), "<u4", len(texts)).tobytes())
            values.update(b"".join(texts))
        else:
            values.update(np.ascontiguousarray(column.values).tobytes())
    times.update(lengths.digest())
    times.update(values.digest())
    return count, times.digest()
