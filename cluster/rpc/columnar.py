"""Blocks: rows of a result as this project's own driver takes them; docs/formats/columnar.md.

Columns stay columns, numbers are little-endian, and pages that a scan handed out as they are stored
go as they are. A session asks for this layout when it logs in; official clients never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from struct import Struct
from typing import Any

import numpy as np

from cluster.rpc.convert import pack_texts
from cluster.rpc.framing import Buffer
from iotdb_engine.encoding import Encoding
from iotdb_engine.stored import StoredBatch
from iotdb_engine.types import WIRE_DTYPES, Column, ColumnBatch, DataType

LAYOUT_KEY = "result_layout"
LAYOUT = "columnar-1"
"""What a session's configuration says to have results this way, in the request and the answer."""

BINARIES = 64
"""Encoding of texts beside those of the engine: each with its length before it, i32 big-endian."""

PAGES_KEY = "result_pages"
PAGES = "joined"
"""The same for blocks of several pages."""

JOINED = 65
"""Encoding of a column in several pages."""

_HEAD = Struct("<BBHIQ")
_COLUMN = Struct("<BBBxI")
_PAGE = Struct("<BxxxII")
_VERSION = 1
_NO_TIMES = 1
_HAS_NULLS = 1


def encode_blocks(
    batches: Sequence[ColumnBatch], *, ignore_time: bool, join: bool
) -> list[list[Buffer]]:
    """Encode batches of a result, one after another; see `encode_block`.

    Args:
        batches: of the same columns.
        ignore_time: their times mean nothing.
        join: neighbours that are stored pages become one block.
    """
    found: list[list[Buffer]] = []
    for _, some in groupby(batches, key=lambda batch: isinstance(batch, StoredBatch)):
        group = list(some)
        stored = [batch for batch in group if isinstance(batch, StoredBatch)]
        if not stored:
            found += [encode_block(batch, ignore_time=ignore_time) for batch in group]
        elif join:
            found.append(_joined_block(stored, ignore_time=ignore_time))
        else:
            pages = [page for batch in stored for page in batch.each_page()]
            found += [_stored_block(page, ignore_time=ignore_time) for page in pages]
    return found


def encode_block(batch: ColumnBatch, *, ignore_time: bool) -> list[Buffer]:
    """Encode the values of a batch.

    Args:
        batch: less than 2**16 - 1 columns.
        ignore_time: its times mean nothing.

    Returns:
        The block in pieces.
    """
    entries: list[bytes] = []
    bodies: list[Buffer] = []
    if not ignore_time:
        data = batch.times.astype("<i8").tobytes()
        entries.append(_COLUMN.pack(DataType.INT64, Encoding.RAW, 0, len(data)))
        bodies.append(data)
    for column in batch.columns:
        flags, encoding, parts = _encoded(column)
        size = sum(map(len, parts))
        entries.append(_COLUMN.pack(column.type, encoding, flags, size))
        bodies.extend(parts)
    head = _head(batch.rows, len(entries), 0, ignore_time=ignore_time)
    return [b"".join((head, *entries)), *bodies]


def _stored_block(batch: StoredBatch, *, ignore_time: bool) -> list[Buffer]:
    """Encode a single page of each column."""
    pages = [
        (kind, one.encoding, one.data)
        for kind, (one,) in zip(batch.kinds, batch.stored, strict=True)
    ]
    if not ignore_time:
        (times,) = batch.stored_times
        pages.insert(0, (DataType.INT64, times.encoding, times.data))
    entries = [_COLUMN.pack(kind, encoding, 0, len(data)) for kind, encoding, data in pages]
    head = _head(batch.rows, len(pages), batch.rows_after, ignore_time=ignore_time)
    return [b"".join((head, *entries)), *[data for _, _, data in pages]]


def _joined_block(batches: Sequence[StoredBatch], *, ignore_time: bool) -> list[Buffer]:
    entries: list[bytes] = []
    bodies: list[Buffer] = []

    def add(kind: DataType, pages: Iterable[tuple[int, Buffer, int]]) -> None:
        size = 0
        for encoding, data, rows in pages:
            bodies.append(_PAGE.pack(encoding, rows, len(data)))
            bodies.append(data)
            size += _PAGE.size + len(data)
        entries.append(_COLUMN.pack(kind, JOINED, 0, size))

    if not ignore_time:
        add(DataType.INT64, [page for batch in batches for page in batch.stored_times])
    for number, kind in enumerate(batches[0].kinds):
        pages = [page for batch in batches for page in batch.stored[number]]
        add(kind, [(page.encoding, page.data, sum(page.page_rows)) for page in pages])
    rows = sum([batch.rows for batch in batches])
    head = _head(rows, len(entries), batches[-1].rows_after, ignore_time=ignore_time)
    return [b"".join((head, *entries)), *bodies]


def _head(rows: int, columns: int, rows_after: int, *, ignore_time: bool) -> bytes:
    return _HEAD.pack(_VERSION, _NO_TIMES if ignore_time else 0, columns, rows, rows_after)


def block_bytes(batch: ColumnBatch) -> int:
    """Return about how large a batch's block is."""
    if isinstance(batch, StoredBatch):
        return batch.stored_bytes
    size = batch.times.nbytes
    for column in batch.columns:
        if column.type is DataType.TEXT:
            size += sum(map(len, _present(column).tolist())) + 4 * len(column.values)
        else:
            size += column.values.nbytes
    return size


def _encoded(column: Column) -> tuple[int, int, list[Buffer]]:
    """Return flags, encoding, and the parts of a column's body."""
    flags = 0
    parts: list[Buffer] = []
    if column.valid is not None and not column.valid.all():
        flags = _HAS_NULLS
        parts.append(np.packbits(column.valid, bitorder="little").tobytes())
    values = _present(column)
    if column.type is DataType.TEXT:
        return flags, BINARIES, [*parts, pack_texts(values.tolist())]
    little = WIRE_DTYPES[column.type].newbyteorder("<")
    return flags, Encoding.RAW, [*parts, values.astype(little, copy=False).tobytes()]


def _present(column: Column) -> np.ndarray[Any, Any]:
    if column.valid is None:
        return column.values
    return column.values[column.valid]
