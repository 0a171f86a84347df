"""One merge of a compaction: some series of a slot within a span of time; see `compaction`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from iotdb_engine.compaction_plan import Span
from iotdb_engine.errors import Corruption
from iotdb_engine.flush import BatchWriter, ChunkWriter
from iotdb_engine.index_source import parse_chunk
from iotdb_engine.key_format import (
    Kind,
    is_visible,
    series_range,
    split_chunk_key,
    times_key_of,
    with_kind,
)
from iotdb_engine.memtable_flush import Block
from iotdb_engine.merge import Run, compact, cut_windows
from iotdb_engine.open_read import OpenRead
from iotdb_engine.reader import Reader
from iotdb_engine.region_state import RegionState
from iotdb_engine.sources import Series
from iotdb_engine.times_record import TimesHead, unpack_times, unpack_times_page
from iotdb_engine.types import BATCH_DTYPES, DataType

_BLOCK_BYTES = 8 << 20
_WINDOW_CHUNKS = 16
"""Rows, in full chunks, whose times are held at once."""
_TEXT_SAMPLE = 1000
_SHARE = 4
"""A column with a value in fewer than one of so many rows gets times of its own."""

_Times = npt.NDArray[np.int64]


class Stopped(Exception):
    """The region was closed, or what is being merged was dropped, in the meantime."""


class Emptied(Stopped):
    """Points of the slot that were all expired are gone; what is left can be merged anew."""


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
    The same goes for a slot whose points are all expired.
    """

    def __init__(self, state: RegionState, slot: int | None, series: Sequence[int]) -> None:
        super().__init__(state.store, state.options.batch_bytes)
        self._state = state
        self._series = series
        self._dropped = state.dropped
        self._slot = slot
        self._expired = self._emptied()

    def _emptied(self) -> int:
        return 0 if self._slot is None else self._state.expired.get(self._slot, 0)

    def put(self, key: bytes, value: bytes) -> None:
        """Add a record.

        Raises:
            Stopped: the region was closed. Whoever closes it waits for this thread, whose priority
                is low.
        """
        if self._state.closed:
            raise Stopped
        super().put(key, value)

    def finish(self) -> None:
        """Write what is left.

        Raises:
            Stopped: the region was closed, one of the series dropped, or (Emptied) the slot's
                expired points removed; nothing was written.
        """
        with self._state.structure_lock:
            if self._state.closed:
                raise Stopped
            dropped = self._state.dropped
            if dropped is not self._dropped:
                if any(series_id in dropped for series_id in self._series):
                    raise Stopped
                self._dropped = dropped
            if self._emptied() != self._expired:
                raise Emptied
            super().finish()


class Merge:
    """One merge: some series of a slot within a span of time."""

    def __init__(
        self,
        state: RegionState,
        read: OpenRead,
        slot: int,
        members: Sequence[int],
        span: Span,
    ) -> None:
        self._state = state
        self._read = read
        self._slot = slot
        self._members = members
        self._span = span
        self._series: dict[int, Series] = {}
        reader = Reader(read.snapshot)
        for member in members:
            kind = reader.indices.stored_kind(slot, member)
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
        state = self._state
        chunks = ChunkWriter(
            writer,
            state.id,
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
        options = self._state.options
        level = options.compaction_level if self._span.best else options.flush_level
        chunks.put_block(owner, times, block, chunk_rows, page_rows, level=level)

    def _sizes(self, times: _Times) -> tuple[int, int]:
        """Return rows of a page and of a chunk: as large as allowed, and even."""
        options = self._state.options
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
            target=_WINDOW_CHUNKS * self._state.options.chunk_points,
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
            lo, hi = series_range(self._state.id, Kind.CHUNK, self._slot, member, member + 1)
            for key, record in snapshot.view.scan(lo, hi):
                parts = split_chunk_key(key)
                if parts.first_time > span.t_max:
                    break
                if dropped:
                    chunk = parse_chunk(snapshot, key, record)
                    named.add(times_key_of(key, chunk.owner, chunk.times_first))
                    continue
                if parts.first_time < span.t_min or not is_visible(
                    parts.sequence, snapshot.committed, snapshot.aborted
                ):
                    continue
                chunk = parse_chunk(snapshot, key, record)
                if chunk.last <= span.t_max:
                    writer.delete(key)
                    if chunk.inline is None:
                        writer.delete(with_kind(key, Kind.DATA))
                    count += 1
                    times_key = times_key_of(key, chunk.owner, chunk.times_first)
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
            yield times_key_of(key, chunk.owner, chunk.times_first)


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
