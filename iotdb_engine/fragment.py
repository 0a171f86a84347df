"""Fragments: checking their bytes, and decoding columns of many of them to arrays.

Problem: a hundred fragments of a hundred rows, and a hundred thousand fragments of one row, should
both decode at array speed. Idea, by rows per fragment:

- many rows each: cut each fragment's piece of the column, join, view (~1 ns a point);
- few rows each: fragments of equal row count, joined whole, form a table with a fixed stride, so a
  column is a strided view of it: no Python work per value, whatever the number of columns;
- layouts with TEXT have no fixed stride: those are walked, value by value.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.types import (
    BATCH_DTYPES,
    SERIES_ID_MAX,
    SLOT_MAX,
    WIRE_DTYPES,
    DataType,
    Fragment,
    Layout,
)

_WIDTHS: dict[DataType, int] = {kind: dtype.itemsize for kind, dtype in WIRE_DTYPES.items()}
_SLICE_ROWS = 8
"""Mean rows per fragment from which cutting pieces is faster than viewing a joined table."""
_PIECE_BYTES = 100 << 10
"""Small enough for the allocator to use the same memory for the next piece."""

_NULLS = attrgetter("nulls")
_NATIVE_TIME = np.dtype(np.int64)
_WIRE_TIME = np.dtype(">i8")


class Decoded(NamedTuple):
    """One column of several fragments, rows in arrival order.

    Attributes:
        values: BATCH_DTYPES[type][n].
        valid: bool[n], or None when no cell is null.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None


def check_layout(layout: Layout) -> None:
    """Check a layout; O(columns).

    Raises:
        ValueError: saying what is wrong.
    """
    if len(layout.series_ids) != len(layout.types):
        raise ValueError(
            f"the layout has {len(layout.series_ids)} series and {len(layout.types)} types"
        )
    if not layout.series_ids:
        raise ValueError("the layout has no column")
    if len(set(layout.series_ids)) != len(layout.series_ids):
        raise ValueError("the layout has a series twice")
    for series_id in layout.series_ids:
        if not 0 <= series_id <= SERIES_ID_MAX:
            raise ValueError(f"series id {series_id} is outside [0, 2**64)")
    for kind in layout.types:
        if not isinstance(kind, DataType):
            raise ValueError(f"{kind!r} is not a DataType")


def check_fragment(fragment: Fragment) -> None:
    """Check that a fragment's bytes are what its layout and row count say.

    The layout itself is taken as checked (`check_layout`). O(columns), and O(rows) for each TEXT
    column, whose lengths are walked.

    Raises:
        ValueError: saying what is wrong.
    """
    rows = fragment.row_count
    if rows < 1:
        raise ValueError(f"row_count is {rows}: at least 1 is needed")
    if not 0 <= fragment.slot <= SLOT_MAX:
        raise ValueError(f"slot {fragment.slot} is outside [0, {SLOT_MAX}]")
    if len(fragment.times) != 8 * rows:
        raise ValueError(f"{rows} rows need {8 * rows} bytes of times, not {len(fragment.times)}")
    kinds = fragment.layout.types
    if fragment.nulls:
        expected = len(kinds) * ((rows + 7) >> 3)
        if len(fragment.nulls) != expected:
            raise ValueError(
                f"the null bitmaps of {len(kinds)} columns and {rows} rows take {expected} bytes, "
                f"not {len(fragment.nulls)}"
            )
    values = fragment.values
    size = len(values)
    at = 0
    for number, kind in enumerate(kinds):
        width = _WIDTHS.get(kind)
        if width is not None:
            end = at + rows * width
            if end > size:
                raise ValueError(
                    f"column {number} ({kind.name}): {rows} rows need bytes [{at}, {end}), "
                    f"but there are {size}"
                )
            at = end
        else:
            at = _check_texts(bytes(values), at, rows, number)
    if at != size:
        raise ValueError(f"{size - at} bytes too many after the last column")


def _check_texts(values: bytes, at: int, rows: int, number: int) -> int:
    size = len(values)
    for row in range(rows):
        if at + 4 > size:
            raise ValueError(f"column {number} (TEXT), row {row}: the length is cut off")
        length = int.from_bytes(values[at : at + 4], "big", signed=True)
        if length < 0:
            raise ValueError(f"column {number} (TEXT), row {row}: length {length}")
        at += 4 + length
        if at > size:
            raise ValueError(
                f"column {number} (TEXT), row {row}: {length} bytes announced, "
                f"{length - at + size} left"
            )
    return at


def decode_times(fragments: Sequence[Fragment]) -> npt.NDArray[np.int64]:
    """Return the times of all rows, int64[n], in arrival order."""
    joined = b"".join([fragment.times for fragment in fragments])
    return np.frombuffer(joined, _WIRE_TIME).astype(_NATIVE_TIME)


def row_counts(fragments: Sequence[Fragment]) -> npt.NDArray[np.int64]:
    """Return the row count of each fragment, int64[k]."""
    return np.fromiter([f.row_count for f in fragments], np.int64, len(fragments))


def decode_columns(
    layout: Layout, fragments: Sequence[Fragment], columns: Sequence[int]
) -> list[Decoded]:
    """Decode some columns of fragments that share a layout.

    Args:
        layout: of all the fragments.
        fragments: at least one.
        columns: positions in the layout.

    Returns:
        A `Decoded` for each of `columns`, rows in arrival order.
    """
    counts = row_counts(fragments)
    total = int(counts.sum())
    if DataType.TEXT in layout.types:
        values = _walk(layout, fragments, columns, total)
    elif total >= _SLICE_ROWS * len(fragments):
        values = [_cut(layout, fragments, column) for column in columns]
    else:
        values = _strided(layout, fragments, columns, counts)
    valid = _decode_nulls(layout, fragments, columns, counts)
    return [Decoded(v, m) for v, m in zip(values, valid, strict=True)]


class BlockDecoder:
    """Decodes neighbouring columns of one type, of many fragments at once, into one buffer.

    A flush reads every column of many fragments. What makes that cheap: one copy that changes the
    byte order on its way; a Python step per (fragment, block) and not per (fragment, column); and
    always the same buffer, since memory fresh from the system costs more to touch (a page fault per
    512 doubles, 3 us) than all the rest.

    Args:
        layout: of all the fragments; without TEXT.
        fragments: at least one, in arrival order.
        buffer: uint8[m], what the blocks are made in.
    """

    def __init__(
        self, layout: Layout, fragments: Sequence[Fragment], buffer: npt.NDArray[np.uint8]
    ) -> None:
        widths = [_WIDTHS[kind] for kind in layout.types]
        self._offsets: list[int] = np.cumsum([0, *widths]).tolist()
        self._layout = layout
        self._fragments = fragments
        self._counts = row_counts(fragments)
        self._buffer = buffer
        self.rows = int(self._counts.sum())
        self.has_nulls = any(map(_NULLS, fragments))

    def most_columns(self, kind: DataType) -> int:
        """Return how many columns of a type fit into a block, at least 1."""
        return max(1, len(self._buffer) // (self.rows * BATCH_DTYPES[kind].itemsize))

    def block(self, lo: int, hi: int) -> npt.NDArray[Any]:
        """Return the columns [lo, hi) of the layout, [hi - lo, rows]; good until the next call."""
        kind = self._layout.types[lo]
        dtype = BATCH_DTYPES[kind]
        size = (hi - lo) * self.rows * dtype.itemsize
        if size > len(self._buffer):
            self._buffer = np.empty(size, np.uint8)
        block = self._buffer[:size].view(dtype).reshape(hi - lo, self.rows)
        if self.rows >= _SLICE_ROWS * len(self._fragments):
            self._copy_fragments(block, lo, WIRE_DTYPES[kind])
        else:
            self._copy_tables(block, lo, WIRE_DTYPES[kind])
        return block

    def valid(self, column: int) -> npt.NDArray[np.bool_] | None:
        """Return the validity of a column, rows in arrival order."""
        if not self.has_nulls:
            return None
        return _decode_nulls(self._layout, self._fragments, [column], self._counts)[0]

    def _copy_fragments(self, block: npt.NDArray[Any], lo: int, wire: np.dtype[Any]) -> None:
        offset, columns = self._offsets[lo], len(block)
        at = 0
        for fragment in self._fragments:
            rows = fragment.row_count
            part = np.frombuffer(fragment.values, wire, columns * rows, rows * offset)
            block[:, at : at + rows] = part.reshape(columns, rows)
            at += rows

    def _copy_tables(self, block: npt.NDArray[Any], lo: int, wire: np.dtype[Any]) -> None:
        """Join fragments of equal row count, and copy their columns as a strided view."""
        start = at = 0
        first, last = self._offsets[lo], self._offsets[lo + len(block)]
        for end in self._piece_ends():
            rows = self._fragments[start].row_count
            joined = b"".join([f.values for f in self._fragments[start:end]])
            table = np.frombuffer(joined, np.uint8).reshape(end - start, -1)
            part = table[:, rows * first : rows * last].view(wire)
            part = part.reshape(end - start, len(block), rows).transpose(1, 0, 2)
            target = block[:, at : at + (end - start) * rows]
            target.reshape(len(block), end - start, rows)[...] = part
            at += (end - start) * rows
            start = end

    def _piece_ends(self) -> list[int]:
        """Return where pieces end: at a change of the row count, or when large enough."""
        ends = (np.flatnonzero(np.diff(self._counts)) + 1).tolist()
        ends.append(len(self._fragments))
        found: list[int] = []
        start = 0
        for end in ends:
            each = int(self._counts[start]) * self._offsets[-1]
            step = max(1, _PIECE_BYTES // max(1, each))
            found.extend(range(start + step, end, step))
            found.append(end)
            start = end
        return found


def _native(wire: npt.NDArray[Any], kind: DataType) -> npt.NDArray[Any]:
    if kind is DataType.BOOLEAN:
        flags: npt.NDArray[np.bool_] = wire != 0
        return flags
    return wire.astype(BATCH_DTYPES[kind])


def _cut(layout: Layout, fragments: Sequence[Fragment], column: int) -> npt.NDArray[Any]:
    kind = layout.types[column]
    offset = sum(_WIDTHS[before] for before in layout.types[:column])
    end = offset + _WIDTHS[kind]
    pieces = [f.values[f.row_count * offset : f.row_count * end] for f in fragments]
    return _native(np.frombuffer(b"".join(pieces), WIRE_DTYPES[kind]), kind)


_Index = npt.NDArray[np.int64]
_Group = tuple[int, "_Index | None", "_Index | None"]


def _groups(counts: _Index) -> list[_Group]:
    """Group fragments by row count: (rows each, fragment numbers, target rows), or None for all."""
    first = int(counts[0])
    if bool((counts == first).all()):
        return [(first, None, None)]
    starts = np.cumsum(counts) - counts
    found: list[_Group] = []
    for rows in np.unique(counts).tolist():
        members = np.flatnonzero(counts == rows).astype(np.int64)
        target = (starts[members][:, None] + np.arange(rows)).ravel()
        found.append((int(rows), members, target))
    return found


def _strided(
    layout: Layout,
    fragments: Sequence[Fragment],
    columns: Sequence[int],
    counts: npt.NDArray[np.int64],
) -> list[npt.NDArray[Any]]:
    widths = [_WIDTHS[kind] for kind in layout.types]
    row_bytes = sum(widths)
    offsets = np.cumsum([0, *widths]).tolist()
    total = int(counts.sum())
    result: list[npt.NDArray[Any]] = []
    for rows, members, target in _groups(counts):
        chosen = fragments if members is None else [fragments[i] for i in members.tolist()]
        table = np.frombuffer(b"".join([f.values for f in chosen]), np.uint8)
        table = table.reshape(len(chosen), rows * row_bytes)
        for position, column in enumerate(columns):
            kind = layout.types[column]
            piece = table[:, rows * offsets[column] : rows * offsets[column + 1]]
            wire = np.ascontiguousarray(piece).reshape(-1).view(WIRE_DTYPES[kind])
            values = _native(wire, kind)
            if target is None:
                result.append(values)
                continue
            if position == len(result):
                result.append(np.empty(total, values.dtype))
            result[position][target] = values
    return result


def _decode_nulls(
    layout: Layout,
    fragments: Sequence[Fragment],
    columns: Sequence[int],
    counts: npt.NDArray[np.int64],
) -> list[npt.NDArray[np.bool_] | None]:
    if not any(map(_NULLS, fragments)):
        return [None] * len(columns)
    width = len(layout.types)
    total = int(counts.sum())
    result: list[npt.NDArray[np.bool_]] = [np.empty(total, np.bool_) for _ in columns]
    for rows, members, target in _groups(counts):
        chosen = fragments if members is None else [fragments[i] for i in members.tolist()]
        each = (rows + 7) >> 3
        none = bytes(width * each)
        table = np.frombuffer(b"".join([f.nulls or none for f in chosen]), np.uint8)
        table = table.reshape(len(chosen), width * each)
        for position, column in enumerate(columns):
            bitmap = np.ascontiguousarray(table[:, column * each : (column + 1) * each])
            bits = np.unpackbits(bitmap, axis=1, count=rows, bitorder="little")
            valid = bits.reshape(-1) == 0
            result[position][slice(None) if target is None else target] = valid
    return [None if bool(valid.all()) else valid for valid in result]


def _walk(
    layout: Layout, fragments: Sequence[Fragment], columns: Sequence[int], total: int
) -> list[npt.NDArray[Any]]:
    wanted = set(columns)
    last = max(wanted, default=-1)
    pieces: dict[int, list[bytes]] = {column: [] for column in columns}
    kinds = layout.types[: last + 1]
    for fragment in fragments:
        rows, values, at = fragment.row_count, bytes(fragment.values), 0
        for column, kind in enumerate(kinds):
            width = _WIDTHS.get(kind)
            if width is not None:
                end = at + rows * width
                if column in wanted:
                    pieces[column].append(values[at:end])
                at = end
                continue
            texts = pieces[column] if column in wanted else None
            for _ in range(rows):
                start = at + 4
                at = start + int.from_bytes(values[at:start], "big")
                if texts is not None:
                    texts.append(values[start:at])
    result: list[npt.NDArray[Any]] = []
    for column in columns:
        kind = layout.types[column]
        if kind is DataType.TEXT:
            array = np.empty(total, object)
            array[:] = pieces[column]
            result.append(array)
        else:
            joined = np.frombuffer(b"".join(pieces[column]), WIRE_DTYPES[kind])
            result.append(_native(joined, kind))
    return result
