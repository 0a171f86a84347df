"""Blocks: rows of a result as this project's own driver takes them; docs/formats/columnar.md.

Columns stay columns, numbers are little-endian, and pages that a scan handed out as they are stored
go as they are. A session asks for this layout when it logs in; official clients never do.
"""

from __future__ import annotations

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

_HEAD = Struct("<BBHIQ")
_COLUMN = Struct("<BBBxI")
_VERSION = 1
_NO_TIMES = 1
_HAS_NULLS = 1


def encode_block(batch: ColumnBatch, *, ignore_time: bool) -> list[Buffer]:
    """Encode the rows of a batch; pages that are stored are not copied.

    Args:
        batch: less than 2**16 - 1 columns.
        ignore_time: its times mean nothing.

    Returns:
        The block in pieces.
    """
    if isinstance(batch, StoredBatch):
        return _stored_block(batch, ignore_time=ignore_time)
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
    kinds, stored = [*batch.kinds], [*batch.stored]
    if not ignore_time:
        kinds.insert(0, DataType.INT64)
        stored.insert(0, batch.stored_times)
    pack = _COLUMN.pack
    entries = [
        pack(kind, encoding, 0, len(data))
        for kind, (encoding, data) in zip(kinds, stored, strict=True)
    ]
    head = _head(batch.rows, len(stored), batch.rows_after, ignore_time=ignore_time)
    return [b"".join((head, *entries)), *[data for _, data in stored]]


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
