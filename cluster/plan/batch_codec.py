"""Byte form of column batches between nodes.

Layout: u32 header length, JSON header, then the arrays in its order, little-endian: times i64[n];
for each column its values (bool as u8; TEXT as u32 lengths[n] and the joined bytes) and, when the
header says so, validity packed to bits.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from iotdb_engine.types import BATCH_DTYPES, Column, ColumnBatch, DataType


def encode_batches(batches: list[ColumnBatch]) -> bytes:
    """Return the byte form of batches; the order is kept."""
    header: list[Any] = []
    parts: list[bytes] = []
    for batch in batches:
        columns: list[list[int]] = []
        parts.append(np.ascontiguousarray(batch.times, dtype="<i8").tobytes())
        for column in batch.columns:
            if column.type is DataType.TEXT:
                texts = _texts(column, len(batch.times))
                lengths = np.fromiter(map(len, texts), dtype="<u4", count=len(texts))
                body = b"".join(texts)
                parts.append(lengths.tobytes())
                parts.append(body)
                size = len(body)
            else:
                body = np.ascontiguousarray(column.values).tobytes()
                parts.append(body)
                size = len(body)
            if column.valid is not None:
                parts.append(np.packbits(column.valid).tobytes())
            columns.append([int(column.type), size, int(column.valid is not None)])
        header.append([len(batch.times), columns])
    head = json.dumps(header).encode()
    return b"".join([struct.pack("<I", len(head)), head, *parts])


def decode_batches(data: bytes) -> list[ColumnBatch]:
    """Read batches back; the arrays are views of `data` wherever possible."""
    (head_bytes,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + head_bytes])
    at = 4 + head_bytes
    batches: list[ColumnBatch] = []
    for row_count, columns in header:
        times = np.frombuffer(data, "<i8", row_count, at).astype(np.int64, copy=False)
        at += 8 * row_count
        decoded: list[Column] = []
        for type_number, size, has_valid in columns:
            data_type = DataType(type_number)
            values: np.ndarray[Any, Any]
            if data_type is DataType.TEXT:
                ends = np.cumsum(np.frombuffer(data, "<u4", row_count, at)).tolist()
                at += 4 * row_count
                values = np.empty(row_count, dtype=object)
                values[:] = _split(data[at : at + size], ends)
            else:
                values = np.frombuffer(data, BATCH_DTYPES[data_type], row_count, at)
            at += size
            valid = None
            if has_valid:
                packed_bytes = (row_count + 7) // 8
                packed = np.frombuffer(data, np.uint8, packed_bytes, at)
                valid = np.unpackbits(packed, count=row_count).astype(np.bool_)
                at += packed_bytes
            decoded.append(Column(data_type, values, valid))
        batches.append(ColumnBatch(times, tuple(decoded)))
    return batches


def _texts(column: Column, row_count: int) -> list[bytes]:
    values: list[bytes] = column.values.tolist()
    if column.valid is None:
        return values
    return [value if ok else b"" for value, ok in zip(values, column.valid.tolist(), strict=True)][
        :row_count
    ]


def _split(body: bytes, ends: list[int]) -> list[bytes]:
    start = 0
    texts = []
    for end in ends:
        texts.append(body[start:end])
        start = end
    return texts
