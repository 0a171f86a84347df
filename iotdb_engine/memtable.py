"""The memory table: what was applied and is not on disk yet.

Writing appends fragments as they came, to the rows of their (slot, layout): no decoding, no
sorting. Reading and flushing decode with NumPy, lazily. Within the table, order of arrival is a
number per fragment or delete (an ordinal), so any interleaving of layouts and deletes resolves
exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.arrivals import Arrivals
from iotdb_engine.cache import ByteCache
from iotdb_engine.fragment import (
    BlockDecoder,
    Decoded,
    decode_columns,
    decode_times,
    row_counts,
)
from iotdb_engine.merge import Order, Run, compact, last_wins, order_rows, picked_rows
from iotdb_engine.tombstones import Cut, DroppedSeries
from iotdb_engine.types import BATCH_DTYPES, DataType, Fragment, Layout

_FRAGMENT_OVERHEAD = 260
"""Bytes of Python objects a fragment: a tuple, three `bytes` headings, places in lists."""
_COLUMN_OVERHEAD = 200
_PUT_OVERHEAD = 250
_BUFFER_BYTES = 8 << 20
"""Of each of the two buffers that a flush decodes and orders blocks of columns in."""

_uids = itertools.count(1)


class Rows:
    """The fragments of one layout in one slot. The lists only grow: (rows, length) is a state."""

    __slots__ = ("columns", "fragments", "layout", "ordinals", "slot", "uid")

    def __init__(self, slot: int, layout: Layout) -> None:
        self.slot = slot
        self.layout = layout
        self.uid = next(_uids)
        self.fragments: list[Fragment] = []
        self.ordinals: list[int] = []
        self.columns = {series_id: at for at, series_id in enumerate(layout.series_ids)}

    def arrivals(self, cache: ByteCache | None) -> Arrivals:
        """Return the rows decoded; what that needs is kept in `cache`."""
        return Arrivals(self.uid, self.layout, self.fragments, cache)

    def deletes_after(self, deletes: Sequence[MemDelete]) -> list[MemDelete]:
        """Return those deletes that came after the first of the rows."""
        first = self.ordinals[0]
        return [delete for delete in deletes if delete.ordinal > first]


class MemDelete(NamedTuple):
    """A delete in the memory table; hides rows of a lower ordinal. Bounds inclusive."""

    ordinal: int
    series_ids: frozenset[int]
    t_min: int
    t_max: int


class Memtable:
    """One generation of a region's memory. Guarded by the region's lock while it is written.

    Attributes:
        sequence: of the flush that stores it; set when frozen.
        index: applied index that the table is complete up to; set when frozen.
        bytes: estimate of the memory held.
    """

    def __init__(self) -> None:
        self.uid = next(_uids)
        self.sequence = 0
        self.index = 0
        self.bytes = 0
        self.entries: dict[tuple[int, Layout], Rows] = {}
        self.by_series: dict[int, list[Rows]] = {}
        self.deletes: list[MemDelete] = []
        self.drops: list[tuple[int, int]] = []
        self.ttls: dict[int, tuple[int, int | None]] = {}
        self.puts: dict[bytes, bytes | None] = {}
        self.put_count = 0
        self._ordinal = 0
        # Hashing a layout of a hundred columns costs more than all the rest of a write: the same
        # object is found by identity. `_pins` keeps the objects alive, so an id names one of them.
        self._by_identity: dict[int, Rows] = {}
        self._pins: list[Layout] = []

    def is_empty(self) -> bool:
        """Tell whether there is nothing to store."""
        return not (self.entries or self.deletes or self.drops or self.ttls or self.puts)

    def append(self, fragments: Sequence[Fragment]) -> int:
        """Add fragments; return the bytes they take. About 1 us each."""
        size = 0
        ordinal = self._ordinal
        known = self._by_identity
        for fragment in fragments:
            layout = fragment.layout
            rows = known.get(id(layout))
            if rows is None or rows.slot != fragment.slot:
                rows, new = self._find(fragment.slot, layout)
                size += new
            ordinal += 1
            rows.fragments.append(fragment)
            rows.ordinals.append(ordinal)
            size += len(fragment.times) + len(fragment.values) + len(fragment.nulls)
        self._ordinal = ordinal
        size += _FRAGMENT_OVERHEAD * len(fragments)
        self.bytes += size
        return size

    def _find(self, slot: int, layout: Layout) -> tuple[Rows, int]:
        key = (slot, layout)
        rows = self.entries.get(key)
        size = 0
        if rows is None:
            rows = self.entries[key] = Rows(slot, layout)
            for series_id in layout.series_ids:
                self.by_series.setdefault(series_id, []).append(rows)
            size = 1000 + _COLUMN_OVERHEAD * len(layout.series_ids)
        if len(self._pins) > 4 * len(self.entries) + 1024:
            # The caller does not share its layouts: do not collect them.
            self._by_identity.clear()
            self._pins.clear()
        self._by_identity[id(layout)] = rows
        self._pins.append(layout)
        return rows, size

    def delete(self, series_ids: Sequence[int], t_min: int, t_max: int) -> int:
        """Add a delete; return the bytes it takes."""
        self._ordinal += 1
        self.deletes.append(MemDelete(self._ordinal, frozenset(series_ids), t_min, t_max))
        size = 500 + 100 * len(series_ids)
        self.bytes += size
        return size

    def drop(self, ranges: Iterable[tuple[int, int]]) -> int:
        """Add dropped series; return the bytes they take."""
        before = len(self.drops)
        self.drops.extend(ranges)
        size = 200 * (len(self.drops) - before)
        self.bytes += size
        return size

    def set_ttl(self, lo: int, hi: int, ttl: int | None) -> int:
        """Add a rule of expiry; return the bytes it takes."""
        self.ttls[lo] = (hi, ttl)
        self.bytes += _PUT_OVERHEAD
        return _PUT_OVERHEAD

    def put(self, puts: Mapping[bytes, bytes | None]) -> int:
        """Add changes of the key-value state; return the bytes they take."""
        self.puts.update(puts)
        self.put_count += len(puts)
        size = sum(len(key) + len(value or b"") + _PUT_OVERHEAD for key, value in puts.items())
        self.bytes += size
        return size

    def snapshot(
        self, series_ids: Iterable[int], slots: Collection[int] | None
    ) -> MemSnapshot | None:
        """Capture the present state of some series, or None if the table has nothing of them.

        Needs the region's lock; O(series x layouts that hold them).
        """
        wanted: dict[int, list[tuple[Rows, int]]] = {}
        for series_id in series_ids:
            found = self.by_series.get(series_id)
            if found is None:
                continue
            states = [
                (rows, len(rows.ordinals)) for rows in found if slots is None or rows.slot in slots
            ]
            if states:
                wanted[series_id] = states
        return MemSnapshot(self, wanted, tuple(self.deletes)) if wanted else None

    def cuts(self, series_id: int, sequence: int) -> list[Cut]:
        """Return what this table's deletes do to older data of a series."""
        return [
            Cut(sequence, delete.t_min, delete.t_max)
            for delete in self.deletes
            if series_id in delete.series_ids
        ]


class MemSnapshot:
    """Some series of a memory table at one moment, decoded on demand."""

    def __init__(
        self,
        table: Memtable,
        wanted: Mapping[int, Sequence[tuple[Rows, int]]],
        deletes: Sequence[MemDelete],
    ) -> None:
        self._table_uid = table.uid
        self._wanted = wanted
        self._deletes = deletes
        self._orders: dict[int, Order] = {}
        self._runs: dict[int, Run] = {}

    def holds(self, series_id: int) -> bool:
        """Tell whether there may be rows of a series."""
        return series_id in self._wanted

    def run(self, series_id: int, cache: ByteCache | None) -> Run | None:
        """Return the series' rows, or None if there are none. Columns of a layout share `times`."""
        states = self._wanted.get(series_id)
        if states is None:
            return None
        if len(states) == 1:
            if series_id not in self._runs:
                self._load(states[0], cache)
            return self._runs[series_id]
        return self._merged(series_id, states, cache)

    def _applicable(self, series_id: int) -> tuple[MemDelete, ...]:
        return tuple(delete for delete in self._deletes if series_id in delete.series_ids)

    def _load(self, state: tuple[Rows, int], cache: ByteCache | None) -> None:
        """Decode all wanted columns of a layout together."""
        rows, length = state
        order = self._order(state, cache)
        missing = []
        for series_id, column in rows.columns.items():
            if len(self._wanted.get(series_id, ())) != 1:
                continue
            deletes = rows.deletes_after(self._applicable(series_id))
            key = None
            if cache is not None and (deletes or not order.is_identity):
                key = ("m", rows.uid, column, length, len(deletes))
            found = cache.get(key) if cache is not None and key is not None else None
            if found is None:
                missing.append((series_id, column, deletes, key))
            else:
                # such a column keeps its own array of equal times
                self._runs[series_id] = found
        if not missing:
            return
        raw, _ = rows.arrivals(cache).times(length)
        decoded = rows.arrivals(cache).columns([column for _, column, *_ in missing], length)
        masks = DeleteMasks(rows, length, raw)
        for (series_id, _, deletes, key), (values, valid) in zip(missing, decoded, strict=True):
            run = last_wins(order, values, masks.apply(deletes, valid))
            self._runs[series_id] = run
            if cache is not None and key is not None:
                cache.put(key, run, run_bytes(run))

    def _order(self, state: tuple[Rows, int], cache: ByteCache | None) -> Order:
        rows, length = state
        found = self._orders.get(rows.uid)
        if found is None:
            raw, ascending = rows.arrivals(cache).times(length)
            found = Order(raw, None, None) if ascending else order_rows(raw)
            self._orders[rows.uid] = found
        return found

    def _merged(
        self, series_id: int, states: Sequence[tuple[Rows, int]], cache: ByteCache | None
    ) -> Run:
        deletes = self._applicable(series_id)
        pieces: list[tuple[Run, npt.NDArray[np.int64]]] = []
        for rows, length in states:
            column = rows.columns[series_id]
            raw, _ = rows.arrivals(cache).times(length)
            values, valid = rows.arrivals(cache).columns([column], length)[0]
            valid = DeleteMasks(rows, length, raw).apply(deletes, valid)
            ordinals = row_ordinals(rows, length)
            if valid is not None:
                ordinals = ordinals[valid]
            pieces.append((compact(Run(raw, values, valid)), ordinals))
        return merge_by_ordinal(pieces)


def merge_by_ordinal(pieces: Sequence[tuple[Run, npt.NDArray[np.int64]]]) -> Run:
    """Merge rows of one series from several layouts; of equal times the highest ordinal wins.

    Args:
        pieces: compact rows in arrival order (times in any order), and the ordinal of each row.
    """
    times = np.concatenate([run.times for run, _ in pieces])
    values = np.concatenate([run.values for run, _ in pieces])
    # Ordinals are unique to a fragment, and a fragment's rows are in row order already.
    arrival = np.argsort(np.concatenate([ordinals for _, ordinals in pieces]), kind="stable")
    order = order_rows(times[arrival])
    return last_wins(order, values[arrival], None)


def row_ordinals(rows: Rows, length: int) -> npt.NDArray[np.int64]:
    """Return the ordinal of every row of the first `length` fragments."""
    ordinals = np.fromiter(rows.ordinals[:length], np.int64, length)
    return np.repeat(ordinals, row_counts(rows.fragments[:length]))


class DeleteMasks:
    """Applies deletes to columns of one layout; equal sets of deletes are worked out once."""

    def __init__(self, rows: Rows, length: int, times: npt.NDArray[np.int64]) -> None:
        self._rows = rows
        self._length = length
        self._times = times
        self._known: dict[tuple[int, ...], npt.NDArray[np.bool_]] = {}
        self._ordinals: npt.NDArray[np.int64] | None = None

    def apply(
        self, deletes: Sequence[MemDelete], valid: npt.NDArray[np.bool_] | None
    ) -> npt.NDArray[np.bool_] | None:
        """Return the validity after the deletes, rows in arrival order."""
        relevant = self._rows.deletes_after(deletes)
        if not relevant:
            return valid
        key = tuple(delete.ordinal for delete in relevant)
        kept = self._known.get(key)
        if kept is None:
            if self._ordinals is None:
                self._ordinals = row_ordinals(self._rows, self._length)
            gone = np.zeros(len(self._times), np.bool_)
            for delete in relevant:
                gone |= (
                    (self._ordinals < delete.ordinal)
                    & (self._times >= delete.t_min)
                    & (self._times <= delete.t_max)
                )
            kept = self._known[key] = ~gone
        both = kept if valid is None else kept & valid
        return None if both.all() else both


def run_bytes(run: Run) -> int:
    """Estimate the memory of a run."""
    size = run.times.nbytes + run.values.nbytes
    if run.valid is not None:
        size += run.valid.nbytes
    if run.values.dtype == object:
        size += sum(map(len, run.values.tolist())) + 40 * len(run.values)
    return size


class Block(NamedTuple):
    """Columns of one type that share their times.

    Attributes:
        series_ids: k of them.
        values: BATCH_DTYPES[kind] [k, n]; good until the next block is asked for.
        valid: bool[n] when a block of one column has nulls, else None.
    """

    kind: DataType
    series_ids: Sequence[int]
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None


class FlushGroup(NamedTuple):
    """Columns of one slot that share their times, ready to be stored.

    Attributes:
        owner: the series whose keys the common times lie under.
        members: the series of all blocks.
        blocks: the columns; consumed lazily, one at a time.
    """

    slot: int
    times: npt.NDArray[np.int64]
    owner: int
    members: Sequence[int]
    text_bytes_per_row: int
    blocks: Iterable[Block]


def flush_groups(
    table: Memtable, dropped: DroppedSeries, buffer_bytes: int = _BUFFER_BYTES
) -> Iterable[FlushGroup]:
    """Yield everything of a frozen table in groups of columns with common times.

    A series that several layouts of a slot hold forms a group of its own: only merged by ordinal is
    it known which of its rows count.
    """
    buffers = _Buffers(np.empty(buffer_bytes, np.uint8), np.empty(buffer_bytes, np.uint8))
    split: dict[tuple[int, int], list[Rows]] = {}
    for (slot, _), rows in sorted(
        table.entries.items(), key=lambda item: (item[0][0], item[0][1].series_ids[0])
    ):
        chosen = []
        for series_id, column in rows.columns.items():
            if series_id in dropped:
                continue
            same_slot = [other for other in table.by_series[series_id] if other.slot == slot]
            if len(same_slot) > 1:
                split[(slot, series_id)] = same_slot
            else:
                chosen.append((series_id, column))
        if chosen:
            yield _shared_group(table, rows, chosen, buffers)
    for (slot, series_id), holders in sorted(split.items(), key=lambda item: item[0]):
        states = [(rows, len(rows.ordinals)) for rows in holders]
        run = MemSnapshot(table, {series_id: states}, table.deletes).run(series_id, None)
        if run is not None and len(run.times):
            kind = holders[0].layout.types[holders[0].columns[series_id]]
            width = int(run_bytes(run) / len(run.times)) if kind is DataType.TEXT else 0
            block = Block(kind, (series_id,), run.values[np.newaxis], run.valid)
            yield FlushGroup(slot, run.times, series_id, (series_id,), width, [block])


class _Buffers(NamedTuple):
    """What blocks are decoded into, and brought into order in; used again for every block."""

    arrival: npt.NDArray[np.uint8]
    order: npt.NDArray[np.uint8]


def _shared_group(
    table: Memtable, rows: Rows, chosen: Sequence[tuple[int, int]], buffers: _Buffers
) -> FlushGroup:
    raw = decode_times(rows.fragments)
    order = order_rows(raw)
    columns = _GroupColumns(table, rows, chosen, raw, order)
    members = [series_id for series_id, _ in chosen]
    if DataType.TEXT in rows.layout.types:
        width = sum(len(fragment.values) for fragment in rows.fragments) // len(raw)
        return FlushGroup(rows.slot, order.times, chosen[0][0], members, width, columns.walked())
    return FlushGroup(rows.slot, order.times, chosen[0][0], members, 0, columns.blocks(buffers))


class _GroupColumns:
    """The columns of one layout that a flush takes from it, in their final order."""

    def __init__(
        self,
        table: Memtable,
        rows: Rows,
        chosen: Sequence[tuple[int, int]],
        raw: npt.NDArray[np.int64],
        order: Order,
    ) -> None:
        self._deletes = table.deletes
        self._rows = rows
        self._chosen = chosen
        self._order = order
        self._masks = DeleteMasks(rows, len(rows.ordinals), raw)

    def _valid(
        self, series_id: int, valid: npt.NDArray[np.bool_] | None
    ) -> npt.NDArray[np.bool_] | None:
        if not self._deletes:
            return valid
        deletes = [delete for delete in self._deletes if series_id in delete.series_ids]
        return self._masks.apply(deletes, valid)

    def _single(self, series_id: int, kind: DataType, decoded: Decoded) -> Block:
        run = last_wins(self._order, decoded.values, self._valid(series_id, decoded.valid))
        return Block(kind, (series_id,), run.values[np.newaxis], run.valid)

    def walked(self) -> Iterable[Block]:
        """Yield columns of a layout with texts, which has to be walked value by value."""
        layout = self._rows.layout
        decoded = decode_columns(layout, self._rows.fragments, [at for _, at in self._chosen])
        for (series_id, at), column in zip(self._chosen, decoded, strict=True):
            yield self._single(series_id, layout.types[at], column)

    def blocks(self, buffers: _Buffers) -> Iterable[Block]:
        """Yield columns in blocks as large as the buffer allows."""
        types = self._rows.layout.types
        decoder = BlockDecoder(self._rows.layout, self._rows.fragments, buffers.arrival)
        picked = picked_rows(self._order, decoder.rows)
        for part in _neighbours(self._chosen, types, decoder.most_columns):
            kind = types[part[0][1]]
            values = decoder.block(part[0][1], part[-1][1] + 1)
            clean: list[int] = []
            for row, (series_id, at) in enumerate(part):
                valid = self._valid(series_id, decoder.valid(at))
                if valid is None:
                    clean.append(row)
                else:
                    yield self._single(series_id, kind, Decoded(values[row], valid))
            if clean:
                if len(clean) < len(part):
                    values = values[clean]
                ids = [part[row][0] for row in clean]
                yield Block(kind, ids, _take(values, picked, buffers.order), None)


def _take(
    values: npt.NDArray[Any], picked: npt.NDArray[np.int64] | None, buffer: npt.NDArray[np.uint8]
) -> npt.NDArray[Any]:
    """Return the chosen rows of each column, made in the buffer if they fit."""
    if picked is None:
        return values
    size = len(values) * len(picked) * values.itemsize
    if size > len(buffer):
        return values[:, picked]
    out = buffer[:size].view(values.dtype).reshape(len(values), len(picked))
    # With the default mode, NumPy would make a copy to guard `out` against an index error.
    return np.take(values, picked, axis=1, out=out, mode="clip")


def _neighbours(
    chosen: Sequence[tuple[int, int]],
    types: Sequence[DataType],
    most: Callable[[DataType], int],
) -> Iterable[Sequence[tuple[int, int]]]:
    """Cut (series, position) pairs into runs of neighbouring columns of one type."""
    start = 0
    for end in range(1, len(chosen) + 1):
        kind = types[chosen[start][1]]
        if (
            end == len(chosen)
            or types[chosen[end][1]] is not kind
            or chosen[end][1] != chosen[end - 1][1] + 1
            or end - start >= most(kind)
        ):
            yield chosen[start:end]
            start = end


def empty_run(kind: DataType) -> Run:
    """Return a run without rows."""
    dtype: np.dtype[Any] = BATCH_DTYPES[kind]
    return Run(np.empty(0, np.int64), np.empty(0, dtype), None)


__all__ = [
    "Block",
    "Decoded",
    "FlushGroup",
    "MemDelete",
    "MemSnapshot",
    "Memtable",
    "Rows",
    "flush_groups",
]
