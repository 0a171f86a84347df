"""Builds engine fragments from plain Python rows, and plain rows from what the engine returns."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iotdb_engine import ColumnBatch, DataType, Fragment, Layout

Row = tuple[int, Sequence[Any]]
"""A time and a value for each column, None for null."""

_FORMATS = {
    DataType.INT32: ">i",
    DataType.INT64: ">q",
    DataType.FLOAT: ">f",
    DataType.DOUBLE: ">d",
}


def encode_value(kind: DataType, value: Any) -> bytes:
    if kind is DataType.TEXT:
        data = b"" if value is None else value
        return struct.pack(">i", len(data)) + data
    if kind is DataType.BOOLEAN:
        return b"\x01" if value else b"\x00"
    return struct.pack(_FORMATS[kind], 0 if value is None else value)


def make_layout(columns: Mapping[int, DataType]) -> Layout:
    return Layout(tuple(columns), tuple(columns.values()))


def make_fragment(layout: Layout, rows: Sequence[Row], slot: int = 0) -> Fragment:
    times = b"".join(struct.pack(">q", time) for time, _ in rows)
    values, bitmaps = [], []
    for column, kind in enumerate(layout.types):
        bits = bytearray((len(rows) + 7) // 8)
        for number, (_, cells) in enumerate(rows):
            values.append(encode_value(kind, cells[column]))
            if cells[column] is None:
                bits[number // 8] |= 1 << number % 8
        bitmaps.append(bytes(bits))
    nulls = b"".join(bitmaps)
    return Fragment(slot, layout, len(rows), times, b"".join(values), nulls if any(nulls) else b"")


def plain_rows(batches: Iterable[ColumnBatch]) -> list[tuple[int, tuple[Any, ...]]]:
    rows = []
    for batch in batches:
        columns = []
        for column in batch.columns:
            values = column.values.tolist()
            if column.valid is not None:
                mask = column.valid.tolist()
                values = [v if ok else None for v, ok in zip(values, mask, strict=True)]
            columns.append(values)
        for number, time in enumerate(batch.times.tolist()):
            rows.append((time, tuple(column[number] for column in columns)))
    return rows
