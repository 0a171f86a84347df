"""A frozen memory table in groups of columns with common times, in order, as a flush stores it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.fragment import BlockDecoder, Decoded, decode_columns, decode_times, row_counts
from iotdb_engine.memtable import Memtable, Rows
from iotdb_engine.memtable_pages import PageSize, pages_of
from iotdb_engine.memtable_read import MemSnapshot
from iotdb_engine.memtable_view import DeleteMasks, RowsOf, run_bytes
from iotdb_engine.merge import Order, Run, last_wins, order_rows, picked_rows
from iotdb_engine.tombstones import DroppedSeries
from iotdb_engine.types import T_MAX, T_MIN, DataType, Fragment

_BUFFER_BYTES = 8 << 20
"""Of each of the two buffers that a flush decodes and orders blocks of columns in."""

_PAGE = PageSize(8192, 1 << 20)
_PIECE_PAGES = 128
"""Of a large layout, that a flush takes at once: a million rows; one column fills a buffer."""


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
            for start, end in _pieces(rows):
                yield _shared_group(table, rows, chosen, buffers, start, end)
    for (slot, series_id), holders in sorted(split.items(), key=lambda item: item[0]):
        run = _merged(table, series_id, holders)
        if run is not None:
            kind = holders[0].layout.types[holders[0].columns[series_id]]
            width = int(run_bytes(run) / len(run.times)) if kind is DataType.TEXT else 0
            block = Block(kind, (series_id,), run.values[np.newaxis], run.valid)
            yield FlushGroup(slot, run.times, series_id, (series_id,), width, [block])


def _merged(table: Memtable, series_id: int, holders: Sequence[Rows]) -> Run | None:
    states = [(rows, len(rows.ordinals)) for rows in holders]
    series = MemSnapshot({series_id: states}, table.deletes, _PAGE).series(series_id, None)
    return None if series is None else series.window(T_MIN, T_MAX)


class _Buffers(NamedTuple):
    """What blocks are decoded into, and brought into order in; used again for every block."""

    arrival: npt.NDArray[np.uint8]
    order: npt.NDArray[np.uint8]


def _pieces(rows: Rows) -> list[tuple[int, int]]:
    """Cut the fragments of a large layout where all rows before are earlier than all after.

    What a flush holds decoded at once is a piece. Rows in no order of time stay one.
    """
    fragments = rows.fragments
    size = int(row_counts(fragments).sum())
    if DataType.TEXT in rows.layout.types:
        size = max(size, sum(len(fragment.values) for fragment in fragments) >> 7)
    whole = [(0, len(fragments))]
    if size <= _PIECE_PAGES * _PAGE.rows:
        return whole
    pages = pages_of(rows, len(fragments), _PAGE)
    before = np.maximum.accumulate(pages.highs)[:-1]
    after = np.minimum.accumulate(pages.lows[::-1])[::-1][1:]
    cuts = [0]
    begun = 0
    for page in (np.flatnonzero(before < after) + 1).tolist():
        if page - begun >= _PIECE_PAGES:
            cuts.append(int(pages.starts[page]))
            begun = page
    return list(pairwise([*cuts, len(fragments)]))


def _shared_group(
    table: Memtable,
    rows: Rows,
    chosen: Sequence[tuple[int, int]],
    buffers: _Buffers,
    start: int,
    end: int,
) -> FlushGroup:
    """Return the group of some neighbouring fragments."""
    fragments = rows.fragments if end - start == len(rows.fragments) else rows.fragments[start:end]
    raw = decode_times(fragments)
    order = order_rows(raw)
    columns = _GroupColumns(table, rows, chosen, order, RowsOf(rows, raw, start, end), fragments)
    members = [series_id for series_id, _ in chosen]
    if DataType.TEXT in rows.layout.types:
        width = sum(len(fragment.values) for fragment in fragments) // len(raw)
        return FlushGroup(rows.slot, order.times, chosen[0][0], members, width, columns.walked())
    return FlushGroup(rows.slot, order.times, chosen[0][0], members, 0, columns.blocks(buffers))


class _GroupColumns:
    """The columns of one layout that a flush takes from it, in their final order."""

    def __init__(
        self,
        table: Memtable,
        rows: Rows,
        chosen: Sequence[tuple[int, int]],
        order: Order,
        part: RowsOf,
        fragments: Sequence[Fragment],
    ) -> None:
        self._deletes = table.deletes
        self._rows = rows
        self._chosen = chosen
        self._order = order
        self._part = part
        self._fragments = fragments
        self._masks = DeleteMasks(rows)

    def _valid(
        self, series_id: int, valid: npt.NDArray[np.bool_] | None
    ) -> npt.NDArray[np.bool_] | None:
        if not self._deletes:
            return valid
        deletes = [delete for delete in self._deletes if series_id in delete.series_ids]
        return self._masks.apply(self._part, deletes, valid)

    def _single(self, series_id: int, kind: DataType, decoded: Decoded) -> Block:
        run = last_wins(self._order, decoded.values, self._valid(series_id, decoded.valid))
        return Block(kind, (series_id,), run.values[np.newaxis], run.valid)

    def walked(self) -> Iterable[Block]:
        """Yield columns of a layout with texts, which has to be walked value by value."""
        layout = self._rows.layout
        decoded = decode_columns(layout, self._fragments, [at for _, at in self._chosen])
        for (series_id, at), column in zip(self._chosen, decoded, strict=True):
            yield self._single(series_id, layout.types[at], column)

    def blocks(self, buffers: _Buffers) -> Iterable[Block]:
        """Yield columns in blocks as large as the buffer allows."""
        types = self._rows.layout.types
        decoder = BlockDecoder(self._rows.layout, self._fragments, buffers.arrival)
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
