"""Flushing: a frozen memory table becomes records, and then the flush is committed.

Order matters, since a crash keeps a prefix of what was written:

1. INTENT: "flush s has begun; these older sequences were never finished", in the first batch.
2. The TIMES, DATA and CHUNK records of sequence s, in batches. Readers do not look at sequences
   that are not committed.
3. COMMIT with s and the applied index, in one batch with everything that is not versioned by
   sequence: the key-value state, tombstones, drops. A flush without points has no INTENT of its
   own; where there are aborted sequences, they are told in this batch.

A crash before 3 leaves records of sequence s. On opening, INTENT is above COMMIT, so s joins the
aborted sequences and is never used again: its records stay invisible, whatever is committed later.
The rejected ideas: reusing s (the ghosts of the first try would become visible with its commit),
and removing ghosts when opening (takes a walk over all keys).

Cost: about 19 ns a point on one core, nearly all in NumPy and pcodec, which release the GIL.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.key_format import (
    Kind,
    chunk_key,
    commit_key,
    intent_key,
    kind_prefix,
    record_key,
    with_kind,
)
from iotdb_engine.memtable import Memtable
from iotdb_engine.memtable_flush import Block, FlushGroup, flush_groups
from iotdb_engine.options import EngineOptions
from iotdb_engine.page import PageEncoder, pack_chunk
from iotdb_engine.store import Batch, Store
from iotdb_engine.times_record import pack_times
from iotdb_engine.tombstones import (
    DroppedSeries,
    Tombstone,
    encode_drop,
    encode_tombstone,
    make_tombstone,
)
from iotdb_engine.ttl import encode_rule

_COMMIT = struct.Struct("<BxxxxxxxQQ")
_INTENT = struct.Struct("<BxxxIQ")
_CRC = struct.Struct("<I")
_VERSION = 1


class BatchWriter:
    """Puts records, writing a batch whenever one is full: long ones would hold the GIL for long."""

    def __init__(self, store: Store, batch_bytes: int) -> None:
        self._store = store
        self._limit = batch_bytes
        self._batch = Batch()
        self.written_bytes = 0

    def put(self, key: bytes, value: bytes) -> None:
        """Add a record."""
        self._batch.put(key, value)
        if self._batch.size >= self._limit:
            self.finish()

    def delete(self, key: bytes) -> None:
        """Remove a record; what was put before is written no later."""
        self._batch.delete(key)
        if self._batch.size >= self._limit:
            self.finish()

    def finish(self) -> None:
        """Write what is left."""
        if len(self._batch):
            self.written_bytes += self._batch.size
            self._store.write(self._batch)
            self._batch = Batch()


class FlushedGroup(NamedTuple):
    """A group of a flush: where it is, how many TIMES records it has, and the series in it."""

    slot: int
    owner: int
    layers: int
    members: Sequence[int]


class Flushed(NamedTuple):
    """What a flush came to.

    Attributes:
        written_bytes: of keys and values.
        tombstones: what the table's deletes became.
        groups: that chunks were written of.
    """

    written_bytes: int
    tombstones: list[Tombstone]
    groups: list[FlushedGroup]


def write_table(
    store: Store,
    region: int,
    table: Memtable,
    *,
    aborted: Collection[int],
    options: EngineOptions,
) -> Generator[None, None, Flushed]:
    """Store a frozen table and commit it, in steps; it is durable after the next `Store.flush`.

    A step is a block of columns, 10 to 30 ms of a processor.
    """
    writer = BatchWriter(store, options.batch_bytes)
    groups: list[FlushedGroup] = []
    if table.entries:
        writer.put(intent_key(region), encode_intent(table.sequence, aborted))
        for group in flush_groups(table, DroppedSeries(table.drops)):
            layers = yield from write_group(writer, region, table.sequence, group, options)
            groups.append(FlushedGroup(group.slot, group.owner, layers, group.members))
        writer.finish()
    batch, tombstones = _commit_batch(region, table)
    if aborted and not table.entries:
        # or the commit would tell that the flush before it was finished, which was aborted
        batch.put(intent_key(region), encode_intent(table.sequence, aborted))
    store.write(batch)
    return Flushed(writer.written_bytes + batch.size, tombstones, groups)


def write_group(
    writer: BatchWriter,
    region: int,
    sequence: int,
    group: FlushGroup,
    options: EngineOptions,
) -> Generator[None, None, int]:
    """Write the TIMES, DATA and CHUNK records of columns with common times, a block in each step.

    Returns:
        How many TIMES records there are.
    """
    page_rows = options.page_points
    if group.text_bytes_per_row:
        page_rows = min(page_rows, max(1, options.page_text_bytes // group.text_bytes_per_row))
    chunk_rows = page_rows * (options.chunk_points // options.page_points)
    chunks = ChunkWriter(writer, region, group.slot, sequence, order=sequence)
    chunks.put_times(group.owner, group.times, chunk_rows, page_rows, group.members)
    for block in group.blocks:
        chunks.put_block(
            group.owner, group.times, block, chunk_rows, page_rows, level=options.flush_level
        )
        yield
    return -(-len(group.times) // chunk_rows)


class ChunkWriter:
    """Writes TIMES, DATA and CHUNK records of one sequence in one slot.

    Args:
        writer: where they go.
        region: number in keys.
        slot: in keys.
        sequence: in keys.
        order: of the chunks.
        best: whether they are encoded as small as can be.
    """

    def __init__(
        self,
        writer: BatchWriter,
        region: int,
        slot: int,
        sequence: int,
        *,
        order: int,
        best: bool = False,
    ) -> None:
        self._writer = writer
        self._place = {"region": region, "slot": slot, "sequence": sequence}
        self._order = order
        self._best = best

    def put_times(
        self,
        owner: int,
        times: npt.NDArray[np.int64],
        chunk_rows: int,
        page_rows: int,
        members: Sequence[int],
    ) -> None:
        """Write the times that the chunks of `members` share."""
        for lo in range(0, len(times), chunk_rows):
            part = times[lo : lo + chunk_rows]
            key = chunk_key(
                kind=Kind.TIMES, series_id=owner, first_time=int(part[0]), **self._place
            )
            record = pack_times(
                part, page_rows, order=self._order, members=members, best=self._best
            )
            self._writer.put(key, record)

    def put_block(
        self,
        owner: int,
        times: npt.NDArray[np.int64],
        block: Block,
        chunk_rows: int,
        page_rows: int,
        *,
        level: int,
    ) -> None:
        """Write columns, on times that were written before."""
        encoder = PageEncoder(block.kind, len(block.series_ids), level)
        for lo in range(0, len(times), chunk_rows):
            hi = lo + chunk_rows
            valid = None if block.valid is None else block.valid[lo:hi]
            encoded = encoder.encode(times[lo:hi], block.values[:, lo:hi], valid, page_rows)
            for series_id, column in zip(block.series_ids, encoded, strict=True):
                if column.first_time is None:
                    continue
                record, data = pack_chunk(block.kind, owner, int(times[lo]), self._order, column)
                key = chunk_key(
                    kind=Kind.CHUNK,
                    series_id=series_id,
                    first_time=column.first_time,
                    **self._place,
                )
                if data is not None:
                    self._writer.put(with_kind(key, Kind.DATA), data)
                self._writer.put(key, record)


def _commit_batch(region: int, table: Memtable) -> tuple[Batch, list[Tombstone]]:
    batch = Batch()
    tombstones = []
    for number, delete in enumerate(table.deletes):
        tombstone = make_tombstone(table.sequence, delete.series_ids, delete.t_min, delete.t_max)
        tombstones.append(tombstone)
        key = record_key(region, Kind.TOMBSTONE, table.sequence, number)
        batch.put(key, encode_tombstone(tombstone))
    for number, (lo, hi) in enumerate(table.drops):
        batch.put(record_key(region, Kind.DROP, table.sequence, number), encode_drop(lo, hi))
    for lo, (hi, ttl) in table.ttls.items():
        key = record_key(region, Kind.TTL, lo, 0)
        if ttl is None:
            batch.delete(key)
        else:
            batch.put(key, encode_rule(hi, ttl))
    prefix = kind_prefix(region, Kind.KEY_VALUE)
    for user_key, value in table.puts.items():
        if value is None:
            batch.delete(prefix + user_key)
        else:
            batch.put(prefix + user_key, value)
    batch.put(commit_key(region), encode_commit(table.sequence, table.index))
    return batch, tombstones


def encode_commit(sequence: int, index: int) -> bytes:
    """Return the value of a COMMIT record."""
    return _with_crc(_COMMIT.pack(_VERSION, sequence, index))


def decode_commit(data: bytes) -> tuple[int, int]:
    """Return sequence and applied index of a COMMIT record.

    Raises:
        ValueError: the bytes are damaged or of an unknown version.
    """
    body = _without_crc(data)
    if len(body) != _COMMIT.size:
        raise ValueError(f"a commit record of {len(data)} bytes")
    version, sequence, index = _COMMIT.unpack(body)
    _check_version(version)
    return sequence, index


def encode_intent(sequence: int, aborted: Iterable[int]) -> bytes:
    """Return the value of an INTENT record."""
    numbers = sorted(aborted)
    return _with_crc(
        _INTENT.pack(_VERSION, len(numbers), sequence)
        + b"".join(number.to_bytes(8, "little") for number in numbers)
    )


def decode_intent(data: bytes) -> tuple[int, frozenset[int]]:
    """Return sequence and aborted sequences of an INTENT record.

    Raises:
        ValueError: the bytes are damaged or of an unknown version.
    """
    body = _without_crc(data)
    if len(body) < _INTENT.size:
        raise ValueError(f"an intent record of {len(data)} bytes")
    version, count, sequence = _INTENT.unpack_from(body)
    _check_version(version)
    if len(body) != _INTENT.size + 8 * count:
        raise ValueError(f"an intent record of {len(data)} bytes for {count} sequences")
    at = range(_INTENT.size, len(body), 8)
    return sequence, frozenset(int.from_bytes(body[i : i + 8], "little") for i in at)


def _with_crc(body: bytes) -> bytes:
    return body + _CRC.pack(zlib.crc32(body))


def _without_crc(data: bytes) -> bytes:
    body = data[: -_CRC.size]
    if len(data) < _CRC.size or data[-_CRC.size :] != _CRC.pack(zlib.crc32(body)):
        raise ValueError(f"a checksum does not match in {data.hex()}")
    return body


def _check_version(version: int) -> None:
    if version != _VERSION:
        raise ValueError(f"format version {_VERSION} expected, {version} found")
