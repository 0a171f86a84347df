"""Compaction: merges chunks in the background; what reads return never changes.

Problem: merging replaces records while readers, writers, flushes and crashes go on, and a group of
three thousand columns does not fit into one batch. Idea: an output is written *beside* its inputs.
Its order is the highest committed sequence, so it wins over everything that it was made from and
loses to everything newer; every row in its range comes from it or from something newer, so inputs
may stay or go, one by one: each batch, and so each point at which a crash can cut, leaves the same
rows to be read. Hence no intent, no commit, no waiting: outputs first, then the inputs' CHUNK
records, then the TIMES records that nobody needs any more. A merge that is cut off leaves layers
that overlap, which are merged again.

Why the order is right: an input is a chunk that the view holds, so its order is at most
`committed`; a tombstone that the view holds was applied; every other chunk, row or delete comes
with a higher sequence. Chunks that lie only partly in the span stay, and the output covers them.

Keys of outputs carry a number of their own kind (`COMPACTED` | n, n never used twice), so a key
never changes its content, and caches need no invalidation.

Cost: reading 4 ns a point, encoding 8 ns at level 1 and 20 ns at level 8, on one core, without the
GIL for most of it; memory for one block of columns and the times of a span.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.cache import ByteCache
from iotdb_engine.compaction_plan import Layer, Span, pick
from iotdb_engine.errors import Corruption
from iotdb_engine.flush import BatchWriter, ChunkWriter
from iotdb_engine.key_format import (
    COMPACTED,
    ChunkKey,
    Kind,
    chunk_key,
    compaction_key,
    is_visible,
    series_range,
    split_chunk_key,
    with_kind,
)
from iotdb_engine.memtable_flush import Block
from iotdb_engine.merge import Run, compact, cut_windows
from iotdb_engine.page import TimesHead, unpack_times, unpack_times_page
from iotdb_engine.reader import Reader, Series
from iotdb_engine.region_read import RegionRead
from iotdb_engine.types import BATCH_DTYPES, T_MAX, T_MIN, DataType

if TYPE_CHECKING:
    from iotdb_engine.region import Region

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 8 << 20
_CACHE_BYTES = 32 << 20
_WINDOW_CHUNKS = 16
"""Rows, in full chunks, whose times are held at once."""
_TEXT_SAMPLE = 1000
_SHARE = 4
"""A column with a value in fewer than one of so many rows gets times of its own."""

_Times = npt.NDArray[np.int64]


class Stopped(Exception):
    """The region was closed, or what is being merged was dropped, in the meantime."""


class TimesRecord(NamedTuple):
    """A TIMES record of a group, as it is stored."""

    key: ChunkKey
    head: TimesHead


class CompactionStats:
    """Counters of one region, for whoever shows them."""

    def __init__(self) -> None:
        self.merges = 0
        self.read_rows = 0
        self.written_bytes = 0
        self.removed_chunks = 0
        self.groups_done = 0
        self.groups_left = 0


class GuardedWriter(BatchWriter):
    """Writes batches only while what they hold is still wanted.

    A dropped series' chunks are removed by range, once; what came after that would stay for good.
    """

    def __init__(self, region: Region, series: Sequence[int]) -> None:
        super().__init__(region.store, region.options.batch_bytes)
        self._region = region
        self._series = series
        self._dropped = region.dropped

    def finish(self) -> None:
        """Write what is left.

        Raises:
            Stopped: the region was closed, or one of the series dropped; nothing was written.
        """
        with self._region.structure_lock:
            if self._region.is_closed:
                raise Stopped
            dropped = self._region.dropped
            if dropped is not self._dropped:
                if any(series_id in dropped for series_id in self._series):
                    raise Stopped
                self._dropped = dropped
            super().finish()


class Compactor:
    """Merges the chunks of one region. `run` is called by one thread at a time."""

    def __init__(self, region: Region, last_number: int) -> None:
        """Make it.

        Args:
            region: whose chunks.
            last_number: of the compaction that was begun last, from its record.
        """
        self._region = region
        self._number = last_number
        self._lock = threading.Lock()
        # Groups that flushes added layers to since they were looked at: (slot, owner) → layers.
        self._touched: dict[tuple[int, int], int] = {}
        # After opening nothing is known: every group has to be looked at once.
        self._survey = True
        self.stats = CompactionStats()

    def note(self, slot: int, owner: int, layers: int) -> None:
        """Note that a flush added layers to a group."""
        with self._lock:
            key = (slot, owner)
            self._touched[key] = self._touched.get(key, 0) + layers

    @property
    def debt(self) -> int:
        """Layers that flushes made and that nobody has looked at."""
        with self._lock:
            return sum(self._touched.values())

    def run(self, pace: Callable[[float], None], *, full: bool) -> bool:
        """Merge what is worth it, or everything.

        Args:
            pace: called after each merge with its CPU seconds; it may wait. It raises Stopped to
                end the run.
            full: a full merge, which also removes what crashes, drops and deletes left behind.

        Returns:
            False if it was cut off, since the region was closed.

        Raises:
            EngineError: a record is damaged, or the disk is full; what was merged is fine.
        """
        region = self._region
        try:
            committed = region.committed
            groups = self._groups(full=full)
            self.stats.groups_left = len(groups)
            whole = True
            for slot, owners in groups:
                whole &= self._run_group(slot, owners, pace, full=full)
                self.stats.groups_left -= 1
                self.stats.groups_done += 1
            self._survey = False
            if full and whole:
                self._remove_remains(committed)
                self._retire_tombstones(committed)
        except Stopped:
            return False
        return True

    # Groups

    def _groups(self, *, full: bool) -> list[tuple[int, tuple[int, ...]]]:
        """Return (slot, owners) of what is to be looked at; for a full merge, whole families."""
        if full:
            with self._open() as read:
                return [(slot, one) for slot in read.slots for one in self._families(read, slot)]
        if self._survey:
            with self._open() as read:
                return [(slot, (one,)) for slot in read.slots for one in self._owners(read, slot)]
        with self._lock:
            return [(slot, (one,)) for (slot, one), new in self._touched.items() if new > 1]

    def _owners(self, read: RegionRead, slot: int) -> Iterator[int]:
        """Yield the owners of TIMES records in a slot: one seek each."""
        lo, hi = series_range(self._region.id, Kind.TIMES, slot, 0, 1 << 64)
        while (key := read.snapshot.view.first_key(lo, hi)) is not None:
            owner = split_chunk_key(key).series_id
            yield owner
            if owner == (1 << 64) - 1:
                return
            lo, _ = series_range(self._region.id, Kind.TIMES, slot, owner + 1, 1 << 64)

    def _families(self, read: RegionRead, slot: int) -> list[tuple[int, ...]]:
        """Return owners that have series in common, ascending; series in several layouts do that.

        Only together can they be rid of chunks that overlap.
        """
        parent: dict[int, int] = {}
        family_of: dict[int, int] = {}

        def root(owner: int) -> int:
            while parent[owner] != owner:
                parent[owner] = owner = parent[parent[owner]]
            return owner

        for owner in self._owners(read, slot):
            parent[owner] = owner
            for record in self._records(read, slot, owner):
                for member in record.head.members:
                    other = family_of.setdefault(member, owner)
                    low, high = sorted((root(other), root(owner)))
                    parent[high] = low
        found: dict[int, list[int]] = {}
        for owner in parent:
            found.setdefault(root(owner), []).append(owner)
        return [tuple(family) for family in found.values()]

    def _run_group(
        self, slot: int, owners: tuple[int, ...], pace: Callable[[float], None], *, full: bool
    ) -> bool:
        """Merge a group until nothing is worth merging; return False if a drop came between."""
        with self._lock:
            for owner in owners:
                self._touched.pop((slot, owner), None)
        done: list[Span] = []
        while True:
            with self._open() as read:
                records = [one for owner in owners for one in self._records(read, slot, owner)]
                spans = self._spans(read, records, full=full)
            spans = [span for span in spans if span not in done]
            if not spans:
                return True
            for span in spans:
                done.append(span)
                inside = [
                    record
                    for record in records
                    if record.key.first_time <= span.t_max and record.head.last >= span.t_min
                ]
                began = time.thread_time()
                try:
                    self._merge(slot, owners[0], inside, span)
                except Stopped:
                    if self._region.is_closed:
                        raise
                    return False
                pace(time.thread_time() - began)

    def _spans(self, read: RegionRead, records: Sequence[TimesRecord], *, full: bool) -> list[Span]:
        layers = [
            Layer(record.key.first_time, record.head.last, record.head.rows, record.head.best)
            for record in records
        ]
        members = {member for record in records for member in record.head.members}
        gone = [
            (cut.t_min, cut.t_max)
            for member in members
            for cut in read.cuts_of(member)
            if any(record.head.order < cut.sequence for record in records)
        ]
        floors = {read.floor_of(member) for member in members}
        first = min((layer.first for layer in layers), default=T_MAX)
        gone += [(T_MIN, floor - 1) for floor in floors if floor > first]
        floor = min(floors, default=T_MIN)
        expired = [layer for layer in layers if layer.last < floor]
        if expired:
            # Removing what is wholly expired costs nothing: no row of it is read.
            return [Span(min(layer.first for layer in expired), floor - 1, best=True)]
        return pick(layers, self._region.options.chunk_points, full=full, deleted=gone)

    def _records(self, read: RegionRead, slot: int, owner: int) -> list[TimesRecord]:
        found = []
        snapshot = read.snapshot
        lo, hi = series_range(self._region.id, Kind.TIMES, slot, owner, owner + 1)
        for key, value in snapshot.view.scan(lo, hi):
            parts = split_chunk_key(key)
            if is_visible(parts.sequence, snapshot.committed, snapshot.aborted):
                found.append(TimesRecord(parts, self._head(key, value)))
        return found

    def _head(self, key: bytes, value: bytes) -> TimesHead:
        try:
            return unpack_times(value)
        except ValueError as error:
            raise Corruption(self._region.store.path, key, "a times record", error) from error

    def _open(self) -> RegionRead:
        """Open a read of what is stored; its pages do not push others' out of the shared cache."""
        read = self._region.open_read([], stored_only=True)
        read.snapshot = replace(read.snapshot, cache=ByteCache(_CACHE_BYTES))
        return read

    # One merge

    def _merge(self, slot: int, owner: int, records: Sequence[TimesRecord], span: Span) -> None:
        members = sorted({member for record in records for member in record.head.members})
        # before the state is read: a drop in between must be noticed when it is written
        writer = GuardedWriter(self._region, members)
        with self._region.changing(members), self._open() as read:
            merge = _Merge(self._region, read, slot, members, span)
            for record in records:
                merge.add_input(chunk_key(**record.key._asdict()), record.head)
            if merge.has_input():
                self._number += 1
                writer.put(compaction_key(self._region.id), encode_number(self._number))
                merge.write_outputs(writer, owner, COMPACTED | self._number, self.stats)
            self.stats.removed_chunks += merge.delete_inputs(writer)
            writer.finish()
            self.stats.merges += 1
            self.stats.written_bytes += writer.written_bytes

    # What is left behind

    def _remove_remains(self, committed: int) -> None:
        """Remove records of aborted flushes, and TIMES records that no chunk names."""
        with self._open() as read:
            for slot in read.slots:
                named: set[tuple[int, int, int]] = set()
                writer = GuardedWriter(self._region, ())
                for kind in (Kind.CHUNK, Kind.DATA, Kind.TIMES):
                    lo, hi = series_range(self._region.id, kind, slot, 0, 1 << 64)
                    for key, value in read.snapshot.view.scan(lo, hi):
                        parts = split_chunk_key(key)
                        if parts.sequence in read.snapshot.aborted and parts.sequence <= committed:
                            writer.delete(key)
                        elif kind is Kind.CHUNK:
                            chunk = Reader.parse_chunk(read.snapshot, key, value)
                            named.add((chunk.owner, chunk.times_first, parts.sequence))
                        elif (
                            kind is Kind.TIMES
                            and is_visible(
                                parts.sequence, read.snapshot.committed, read.snapshot.aborted
                            )
                            and (parts.series_id, parts.first_time, parts.sequence) not in named
                        ):
                            writer.delete(key)
                writer.finish()

    def _retire_tombstones(self, committed: int) -> None:
        """Remove tombstones that no longer hide anything."""
        with self._open() as read:
            idle = []
            for key, tombstone in self._region.stored_tombstones(read.snapshot.view):
                if tombstone.sequence <= committed and not any(
                    self._is_hit(read, int(series_id), tombstone.sequence, tombstone[2:])
                    for series_id in tombstone.series_ids
                ):
                    idle.append((key, tombstone))
        self._region.retire_tombstones(idle)

    def _is_hit(
        self, read: RegionRead, series_id: int, sequence: int, times: tuple[int, int]
    ) -> bool:
        for slot in read.slots:
            lo, hi = series_range(self._region.id, Kind.CHUNK, slot, series_id, series_id + 1)
            for key, value in read.snapshot.view.scan(lo, hi):
                parts = split_chunk_key(key)
                if parts.first_time > times[1]:
                    break
                chunk = Reader.parse_chunk(read.snapshot, key, value)
                if chunk.order < sequence and chunk.last >= times[0]:
                    return True
        return False


class _Merge:
    """One merge: some series of a slot within a span of time."""

    def __init__(
        self,
        region: Region,
        read: RegionRead,
        slot: int,
        members: Sequence[int],
        span: Span,
    ) -> None:
        self._region = region
        self._read = read
        self._slot = slot
        self._members = members
        self._span = span
        self._series: dict[int, Series] = {}
        reader = Reader(read.snapshot)
        for member in members:
            kind = reader.stored_kind(slot, member)
            if kind is not None and not read.is_dropped(member):
                self._series[member] = read.load(
                    reader, member, kind, span.t_min, span.t_max, [slot]
                )
        self._times = {
            key: self._parse(key) for one in self._series.values() for key in _times_keys(one, span)
        }
        # Times of which no row is read: all are expired or deleted, or no chunk names them.
        self._idle: dict[bytes, TimesHead] = {}

    def _parse(self, key: bytes) -> TimesHead:
        record = self._read.snapshot.view.get(key)
        try:
            if record is None:
                raise ValueError("none")
            return unpack_times(record)
        except ValueError as error:
            path = self._read.snapshot.path
            raise Corruption(path, key, "a times record", error) from error

    def add_input(self, key: bytes, head: TimesHead) -> None:
        """Have a TIMES record removed too, if it lies in the span and only `members` name it."""
        if key not in self._times:
            self._idle[key] = head

    def has_input(self) -> bool:
        """Tell whether any page may have rows to keep."""
        return any(len(one.pages) for one in self._series.values())

    def write_outputs(
        self, writer: BatchWriter, owner: int, sequence: int, stats: CompactionStats
    ) -> None:
        """Write chunks with what the span's rows come to."""
        region = self._region
        chunks = ChunkWriter(
            writer,
            region.id,
            self._slot,
            sequence,
            order=self._read.snapshot.committed,
            best=self._span.best,
        )
        for low, high in self._windows():
            times = self._union(low, high)
            stats.read_rows += len(times)
            if not len(times):
                continue
            page_rows, chunk_rows = self._sizes(times)
            sparse = self._sparse(low, high, len(times), owner)
            shared = [series_id for series_id in self._series if series_id not in sparse]
            if shared:
                chunks.put_times(owner, times, chunk_rows, page_rows, shared)
            self._write_shared(chunks, owner, shared, times, page_rows, chunk_rows)
            for series_id in sparse:
                run = compact(self._run(Reader(self._read.snapshot), series_id, low, high))
                if len(run.times):
                    kind = self._series[series_id].kind
                    block = Block(kind, (series_id,), run.values[np.newaxis], None)
                    chunks.put_times(series_id, run.times, chunk_rows, page_rows, (series_id,))
                    self._put(chunks, series_id, run.times, block, page_rows, chunk_rows)

    def _sparse(self, low: int, high: int, rows: int, owner: int) -> set[int]:
        """Return the series with so few rows in a window that they get times of their own.

        The owner is not among them: its times would lie under the same key as the common ones.
        """
        found = set()
        for series_id, one in self._series.items():
            touching = one.touching(low, high)
            count = int(one.pages["count"][touching].sum(dtype=np.int64)) if len(touching) else 0
            if count * _SHARE < rows and series_id != owner:
                found.add(series_id)
        return found

    def _put(
        self,
        chunks: ChunkWriter,
        owner: int,
        times: _Times,
        block: Block,
        page_rows: int,
        chunk_rows: int,
    ) -> None:
        options = self._region.options
        level = options.compaction_level if self._span.best else options.flush_level
        chunks.put_block(owner, times, block, chunk_rows, page_rows, level=level)

    def _sizes(self, times: _Times) -> tuple[int, int]:
        """Return rows of a page and of a chunk: as large as allowed, and even."""
        options = self._region.options
        page_rows = options.page_points
        width = self._text_width(times)
        if width:
            page_rows = min(page_rows, max(1, options.page_text_bytes // width))
        most = page_rows * (options.chunk_points // options.page_points)
        chunk_rows = _even(len(times), most)
        page_rows = _even(chunk_rows, page_rows)
        return page_rows, -(-chunk_rows // page_rows) * page_rows

    def _text_width(self, times: _Times) -> int:
        """Return the mean bytes a row of all TEXT columns, from the first rows."""
        high = int(times[min(len(times), _TEXT_SAMPLE) - 1])
        total = 0
        for series_id, one in self._series.items():
            if one.kind is DataType.TEXT:
                run = self._run(Reader(self._read.snapshot), series_id, int(times[0]), high)
                total += sum(map(len, compact(run).values.tolist())) + 4 * len(run.times)
        return total // min(len(times), _TEXT_SAMPLE)

    def _windows(self) -> list[tuple[int, int]]:
        pages = [head.pages for head in self._times.values()]
        if not pages:
            return []
        lows = np.concatenate([table["low"] for table in pages])
        highs = np.concatenate([table["high"] for table in pages])
        counts = np.concatenate([table["rows"] for table in pages]).astype(np.int64)
        wanted = (highs >= self._span.t_min) & (lows <= self._span.t_max)
        return cut_windows(
            lows[wanted],
            highs[wanted],
            counts[wanted],
            self._span.t_min,
            self._span.t_max,
            target=_WINDOW_CHUNKS * self._region.options.chunk_points,
            descending=False,
        )

    def _union(self, low: int, high: int) -> _Times:
        """Return the times that any series may have a row at, int64[n], ascending."""
        low = max(low, min(one.floor for one in self._series.values()))
        sets = [frozenset(one.cuts) for one in self._series.values()]
        common = frozenset.intersection(*sets)
        found = []
        for key, head in self._times.items():
            record = b""
            hiding = [cut for cut in common if cut.sequence > head.order]
            wanted = (head.pages["high"] >= low) & (head.pages["low"] <= high)
            for number in np.flatnonzero(wanted).tolist():
                record = record or self._read.snapshot.view.get(key) or b""
                try:
                    times = unpack_times_page(record, head, number)
                except ValueError as error:
                    path = self._read.snapshot.path
                    raise Corruption(path, key, f"page {number}", error) from error
                kept = (times >= low) & (times <= high)
                for cut in hiding:
                    kept &= (times < cut.t_min) | (times > cut.t_max)
                found.append(times[kept])
        if not found:
            return np.empty(0, np.int64)
        joined = np.concatenate(found)
        if (joined[1:] > joined[:-1]).all():
            return joined
        return np.unique(joined)

    def _run(self, reader: Reader, series_id: int, low: int, high: int) -> Run:
        series = self._series[series_id]
        run = reader.window(series, low, high)
        if run is None:
            return Run(np.empty(0, np.int64), np.empty(0, BATCH_DTYPES[series.kind]), None)
        return run

    def _write_shared(
        self,
        chunks: ChunkWriter,
        owner: int,
        shared: Sequence[int],
        times: _Times,
        page_rows: int,
        chunk_rows: int,
    ) -> None:
        """Write the columns that share `times`."""
        low, high = int(times[0]), int(times[-1])
        for kind, ids in self._blocks(shared, len(times)):
            reader = Reader(self._read.snapshot)
            whole: list[int] = []
            values = np.empty((len(ids), len(times)), BATCH_DTYPES[kind])
            for series_id in ids:
                run = self._run(reader, series_id, low, high)
                valid, row = run.valid, run.values
                if len(run.times) != len(times) or not np.array_equal(run.times, times):
                    valid, row = _spread(compact(run), times, kind)
                if valid is None or valid.all():
                    values[len(whole)] = row
                    whole.append(series_id)
                elif valid.any():
                    block = Block(kind, (series_id,), row[np.newaxis], valid)
                    self._put(chunks, owner, times, block, page_rows, chunk_rows)
            if whole:
                block = Block(kind, whole, values[: len(whole)], None)
                self._put(chunks, owner, times, block, page_rows, chunk_rows)

    def _blocks(self, shared: Sequence[int], rows: int) -> Iterator[tuple[DataType, list[int]]]:
        """Yield series of one type, as many as fit into memory together."""
        for kind in DataType:
            ids = [series_id for series_id in shared if self._series[series_id].kind is kind]
            step = max(1, _BLOCK_BYTES // (rows * BATCH_DTYPES[kind].itemsize))
            for lo in range(0, len(ids), step):
                yield kind, ids[lo : lo + step]

    def delete_inputs(self, writer: BatchWriter) -> int:
        """Delete the chunks that lie wholly in the span, then times that nobody names."""
        span = self._span
        snapshot = self._read.snapshot
        count = 0
        # Chunks of dropped series stay until their drop is durable, and so do their times.
        named: set[bytes] = set()
        for member in self._members:
            dropped = self._read.is_dropped(member)
            lo, hi = series_range(self._region.id, Kind.CHUNK, self._slot, member, member + 1)
            for key, record in snapshot.view.scan(lo, hi):
                parts = split_chunk_key(key)
                if parts.first_time > span.t_max:
                    break
                if dropped:
                    chunk = Reader.parse_chunk(snapshot, key, record)
                    named.add(_times_key(key, chunk.owner, chunk.times_first))
                    continue
                if parts.first_time < span.t_min or not is_visible(
                    parts.sequence, snapshot.committed, snapshot.aborted
                ):
                    continue
                chunk = Reader.parse_chunk(snapshot, key, record)
                if chunk.last <= span.t_max:
                    writer.delete(key)
                    if chunk.inline is None:
                        writer.delete(with_kind(key, Kind.DATA))
                    count += 1
                    times_key = _times_key(key, chunk.owner, chunk.times_first)
                    if times_key not in self._times and times_key not in self._idle:
                        self._idle[times_key] = self._parse(times_key)
        members = set(self._members)
        for key, head in (*self._times.items(), *self._idle.items()):
            inside = split_chunk_key(key).first_time >= span.t_min and head.last <= span.t_max
            if inside and members.issuperset(head.members) and key not in named:
                writer.delete(key)
        return count


def _times_keys(series: Series, span: Span) -> Iterator[bytes]:
    for key, _, chunk in series.chunks:
        if split_chunk_key(key).first_time <= span.t_max and chunk.last >= span.t_min:
            yield _times_key(key, chunk.owner, chunk.times_first)


def _times_key(key: bytes, owner: int, times_first: int) -> bytes:
    parts = split_chunk_key(key)
    return chunk_key(
        region=parts.region,
        kind=Kind.TIMES,
        slot=parts.slot,
        series_id=owner,
        first_time=times_first,
        sequence=parts.sequence,
    )


def _spread(
    run: Run, times: _Times, kind: DataType
) -> tuple[npt.NDArray[np.bool_] | None, npt.NDArray[np.generic]]:
    """Put the rows of a compact run at their places among `times`."""
    places = np.searchsorted(times, run.times)
    if len(places) == len(times):
        return None, run.values
    values = np.full(len(times), b"" if kind is DataType.TEXT else 0, BATCH_DTYPES[kind])
    values[places] = run.values
    valid = np.zeros(len(times), np.bool_)
    valid[places] = True
    return valid, values


def _even(total: int, most: int) -> int:
    """Return a size of at most `most` that cuts `total` into equal parts, as few as possible."""
    parts = max(1, -(-total // most))
    return max(1, -(-total // parts))


def encode_number(number: int) -> bytes:
    """Return the value of a COMPACTION record."""
    body = number.to_bytes(8, "little")
    return body + zlib.crc32(body).to_bytes(4, "little")


def decode_number(data: bytes) -> int:
    """Read a COMPACTION record.

    Raises:
        ValueError: the bytes are damaged.
    """
    if len(data) != 12 or zlib.crc32(data[:8]).to_bytes(4, "little") != data[8:]:
        raise ValueError(f"a compaction record {data.hex()}")
    return int.from_bytes(data[:8], "little")
