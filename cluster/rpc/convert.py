"""Byte layouts of clients' values and results ⇄ engine types (client-protocol 5).

Values stay bytes: a tablet's columns go to the engine as the client sent them, only their lengths
are checked. Results are encoded column by column with NumPy.

What comes from the wire may be anything: what is wrong is a ClusterError with the column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from cluster.errors import ClusterError, StatusCode
from cluster.rpc.gen.client.ttypes import TSQueryDataSet, TSQueryNonAlignDataSet
from iotdb_engine.types import WIRE_DTYPES, Column, ColumnBatch, DataType

T = TypeVar("T")

_I32 = Struct(">i")
_unpack_i32 = _I32.unpack_from
_pack_i32 = _I32.pack

_TEXT = 0
_NULL = -1
_UNKNOWN = -2

PHYSICAL_TYPES: dict[int, DataType] = {
    **{int(data_type): data_type for data_type in DataType},
    8: DataType.INT64,
    9: DataType.INT32,
    10: DataType.TEXT,
    11: DataType.TEXT,
}
"""Wire number of a type -> how it is stored; 8 to 11 are TIMESTAMP, DATE, BLOB, STRING."""

_WIDTHS: dict[DataType, int] = {
    DataType.BOOLEAN: 1,
    DataType.INT32: 4,
    DataType.INT64: 8,
    DataType.FLOAT: 4,
    DataType.DOUBLE: 8,
    DataType.TEXT: _TEXT,
}
_BYTE_WIDTHS = [
    _WIDTHS[PHYSICAL_TYPES[number]] if number in PHYSICAL_TYPES else _UNKNOWN
    for number in range(256)
]
"""Type byte of a record value -> bytes of the value, or one of the marks above."""
_BYTE_WIDTHS[0xFE] = _NULL
_BYTE_TYPES = [PHYSICAL_TYPES.get(number, DataType.TEXT) for number in range(256)]


def _bad(message: str) -> ClusterError:
    return ClusterError(StatusCode.WRITE_PROCESS_ERROR, message)


# ---- Values of inserts ----


def record_values(values: bytes) -> tuple[tuple[DataType, ...], bytes, tuple[int, ...]]:
    """Split the values of a record (client-protocol 5.1).

    Returns:
        (types, values, null positions): types and values of the cells that are not null, in order,
        the values without their type bytes, as the columns of a one-row fragment; and which of the
        record's cells are null, ascending.

    Raises:
        ClusterError: WRITE_PROCESS_ERROR, a value is cut off or has an unknown type byte.
    """
    at = 0
    end = len(values)
    types: list[DataType] = []
    parts: list[bytes] = []
    nulls: list[int] = []
    while at < end:
        kind = values[at]
        width = _BYTE_WIDTHS[kind]
        at += 1
        if width > 0:
            following = at + width
        elif width == _TEXT:
            if at + 4 > end:
                raise _bad(f"value {len(types) + len(nulls)} of the record is cut off")
            (size,) = _unpack_i32(values, at)
            if size < 0:
                raise _bad(f"value {len(types) + len(nulls)} of the record has length {size}")
            following = at + 4 + size
        elif width == _NULL:
            nulls.append(len(types) + len(nulls))
            continue
        else:
            raise _bad(f"value {len(types) + len(nulls)} of the record has unknown type {kind}")
        types.append(_BYTE_TYPES[kind])
        parts.append(values[at:following])
        at = following
    if at != end:
        raise _bad(f"value {len(types) + len(nulls) - 1} of the record is cut off")
    return tuple(types), b"".join(parts), tuple(nulls)


class TabletTypes(NamedTuple):
    """What the types of a tablet's columns say about its bytes.

    Attributes:
        physical: how the columns are stored.
        widths: bytes of each column's values, 0 for TEXT.
        row_width: bytes of a row, without its texts.
        fixed: there is no TEXT column: `row_width` is what every row takes.
    """

    physical: tuple[DataType, ...]
    widths: tuple[int, ...]
    row_width: int
    fixed: bool


def tablet_types(wire_types: Sequence[int]) -> TabletTypes:
    """Look up the wire numbers of the columns' types; clients repeat themselves, so it is cached.

    Raises:
        ClusterError: WRITE_PROCESS_ERROR, naming the column with an unknown type.
    """
    try:
        numbers = bytes(wire_types)
        return (_kept_types if len(numbers) <= _KEPT_COLUMNS else _tablet_types)(numbers)
    except (ValueError, KeyError):
        for number, wire_type in enumerate(wire_types):
            if wire_type not in PHYSICAL_TYPES:
                raise _bad(f"column {number} has unknown type {wire_type}") from None
        raise


def _tablet_types(numbers: bytes) -> TabletTypes:
    physical = tuple(PHYSICAL_TYPES[number] for number in numbers)
    widths = tuple(_WIDTHS[data_type] for data_type in physical)
    return TabletTypes(physical, widths, sum(widths), _TEXT not in widths)


_KEPT_COLUMNS = 10_000
"""Wider tablets are looked up anew each time: what is kept must be bounded in bytes."""
_kept_types = lru_cache(maxsize=256)(_tablet_types)


def tablet_to_fragment_parts(
    types: TabletTypes, size: int, timestamps: bytes, values: bytes
) -> tuple[bytes, bytes]:
    """Check a tablet's bytes and split them (client-protocol 5.2, 5.3).

    Args:
        types: of the columns.
        size: rows, at least 1.
        timestamps: size x i64 big-endian.
        values: the columns, then perhaps a null section in any of the clients' forms.

    Returns:
        (values, nulls) as `iotdb_engine.Fragment` has them.

    Raises:
        ClusterError: WRITE_PROCESS_ERROR, naming the column where there is one.
    """
    if size < 1:
        raise _bad(f"a tablet has at least one row, this one says {size}")
    if len(timestamps) != 8 * size:
        raise _bad(f"{size} rows need {8 * size} bytes of timestamps, not {len(timestamps)}")
    end = len(values)
    at = size * types.row_width
    if not types.fixed or at > end:
        at = 0
        for number, width in enumerate(types.widths):
            at = at + size * width if width else _skip_texts(values, at, size, number)
            if at > end:
                raise _bad(f"column {number}: the values end {at - end} bytes too early")
    if at == end:
        return values, b""
    return values[:at], _read_nulls(values[at:], len(types.widths), size)


def _skip_texts(values: bytes, at: int, size: int, number: int) -> int:
    """Return where the `size` texts that begin at `at` end."""
    length: int
    end = len(values)
    if at + 4 * size > end:
        raise _bad(f"column {number}: the values end within it")
    (length,) = _unpack_i32(values, at)
    stride = 4 + length
    if size > 8 and length >= 0 and at + size * stride <= end:
        # Texts of one length are common (ids, enumerations) and can be checked at once. Following
        # the
        # true chain of lengths, equal lengths at every stride are the chain.
        lengths = np.ndarray((size,), ">i4", values, at, (stride,))
        if bool((lengths == length).all()):
            return at + size * stride
    for _ in range(size):
        if at + 4 > end:
            raise _bad(f"column {number}: the values end within it")
        (length,) = _unpack_i32(values, at)
        if length < 0:
            raise _bad(f"column {number}: a text has length {length}")
        at += 4 + length
    return at


def _read_nulls(section: bytes, columns: int, size: int) -> bytes:
    """Return the engine's form of a null section: a bitmap for each column, or b""."""
    least = (size + 7) // 8
    for width in _bitmap_widths(len(section), columns, size):
        starts = _walk_nulls(section, columns, width)
        if starts is not None:
            break
    else:
        raise _bad(
            f"{len(section)} bytes after the last column are no null section "
            f"of {columns} columns and {size} rows"
        )
    empty = bytes(least)
    bitmaps = [empty if start < 0 else section[start : start + least] for start in starts]
    unused = -size % 8
    if unused:
        # bits behind the last row mean nothing; some clients leave them set
        mask = 0xFF >> unused
        bitmaps = [
            bitmap if bitmap[-1] <= mask else bitmap[:-1] + bytes((bitmap[-1] & mask,))
            for bitmap in bitmaps
        ]
    nulls = b"".join(bitmaps)
    return nulls if nulls.count(0) != len(nulls) else b""


def _bitmap_widths(section_bytes: int, columns: int, size: int) -> Iterable[int]:
    """Yield the bytes per bitmap that clients use, most likely first (client-protocol 5.3)."""
    least = (size + 7) // 8
    yield size // 8 + 1
    if least != size // 8 + 1:
        yield least
    rest = section_bytes - columns
    for flagged in range(min(columns, rest // least), 0, -1):
        if rest % flagged == 0:
            yield rest // flagged


def _walk_nulls(section: bytes, columns: int, width: int) -> list[int] | None:
    """Return where each column's bitmap starts (-1: none), or None when the walk does not fit."""
    starts = []
    at = 0
    end = len(section)
    for _ in range(columns):
        if at >= end:
            return None
        flag = section[at]
        at += 1
        if flag == 1:
            starts.append(at)
            at += width
        elif flag == 0:
            starts.append(-1)
        else:
            return None
    return starts if at == end else None


# ---- Results ----


def encode_query_dataset(batch: ColumnBatch) -> TSQueryDataSet:
    """Encode a page in the layout of clients up to 0.13 (client-protocol 5.4).

    `time` always has rows x 8 bytes. Cost: a few microseconds per column; about 0.2 µs per text.
    """
    rows = len(batch.times)
    full = _full_bitmap(rows)
    values = []
    bitmaps = []
    for column in batch.columns:
        values.append(_present_values(column, one_bit=False))
        bitmaps.append(full if column.valid is None else np.packbits(column.valid).tobytes())
    return TSQueryDataSet(
        time=batch.times.astype(">i8").tobytes(), valueList=values, bitmapList=bitmaps
    )


def encode_non_aligned(page: Sequence[ColumnBatch | None]) -> TSQueryNonAlignDataSet:
    """Encode points of columns that have timestamps of their own (client-protocol 5.5)."""
    times = []
    values = []
    for part in page:
        times.append(b"" if part is None else part.times.astype(">i8").tobytes())
        values.append(b"" if part is None else _present_values(part.columns[0], one_bit=False))
    return TSQueryNonAlignDataSet(timeList=times, valueList=values)


_TSBLOCK_ENCODINGS = {
    DataType.BOOLEAN: 0,
    DataType.INT32: 1,
    DataType.FLOAT: 1,
    DataType.INT64: 2,
    DataType.DOUBLE: 2,
    DataType.TEXT: 3,
}
"""Column encodings of a TsBlock: BYTE_ARRAY, INT32_ARRAY, INT64_ARRAY, BINARY_ARRAY."""


def encode_tsblock(batch: ColumnBatch) -> bytes:
    """Encode a page as a TsBlock, the layout of clients from 1.0 on (client-protocol 5.6).

    Raises:
        ValueError: the batch has no row; clients cannot read such a block.
    """
    rows = len(batch.times)
    if rows == 0:
        raise ValueError("a TsBlock has at least one row")
    types = [column.type for column in batch.columns]
    parts = [
        _pack_i32(len(types)),
        bytes(types),
        _pack_i32(rows),
        b"\x02",
        bytes(_TSBLOCK_ENCODINGS[data_type] for data_type in types),
        b"\x00",
        batch.times.astype(">i8").tobytes(),
    ]
    for column in batch.columns:
        if column.valid is None or bool(column.valid.all()):
            parts.append(b"\x00")
        else:
            parts.append(b"\x01")
            parts.append(np.packbits(~column.valid).tobytes())
        parts.append(_present_values(column, one_bit=True))
    return b"".join(parts)


@lru_cache(maxsize=64)
def _full_bitmap(rows: int) -> bytes:
    return np.packbits(np.ones(rows, np.bool_)).tobytes()


def _present_values(column: Column, *, one_bit: bool) -> bytes:
    """Return the bytes of the values that are not null.

    `one_bit`: booleans as a bitmap over all rows (TsBlock) instead of a byte for each value.
    """
    values: npt.NDArray[Any] = column.values
    if one_bit and column.type is DataType.BOOLEAN:
        if column.valid is not None:
            values = values & column.valid
        return np.packbits(values).tobytes()
    if column.valid is not None:
        values = values[column.valid]
    if column.type is DataType.TEXT:
        return pack_texts(values.tolist())
    return values.astype(WIRE_DTYPES[column.type]).tobytes()


def pack_texts(texts: Sequence[bytes]) -> bytes:
    """Return texts back to back, each with its length before it, i32 big-endian."""
    if len(texts) == 1:
        return _pack_i32(len(texts[0])) + texts[0]
    parts: list[bytes] = [b""] * (2 * len(texts))
    parts[0::2] = map(_pack_i32, map(len, texts))
    parts[1::2] = texts
    return b"".join(parts)
