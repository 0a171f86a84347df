"""Chunks and pages as bytes: what the CHUNK, DATA and TIMES records hold.

A group of columns with common times is cut into chunks, and those into pages, at the same rows for
all columns. Page i of a chunk belongs to page i of the TIMES record that the chunk names. The
diagrams are in docs/formats/engine.md.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.encoding import Encoding, boolean, decode_values, encode_times, encode_values
from iotdb_engine.merge import blank_values
from iotdb_engine.types import DataType

VERSION = 1
INLINE_BYTES = 1024
"""Pages up to this size lie in the CHUNK record: one record less for a series with few rows."""

_INLINE = 1
_HAS_NULLS = 1

_CHUNK_HEAD = struct.Struct("<BBBxIQq")
_TIMES_HEAD = struct.Struct("<BxxxI")
_CRC = struct.Struct("<I")
_BITMAP = struct.Struct("<I")
_TIME_PAGE = struct.Struct("<IIIIBxxx")
_PAGE = struct.Struct("<IIqq8s8s8s8sdIIIBBxx")
_NOTHING = bytes(8)

_COMMON_FIELDS = [("rows", "<u4"), ("count", "<u4"), ("low", "<i8"), ("high", "<i8")]
_PLACE_FIELDS = [
    ("total", "<f8"),
    ("offset", "<u4"),
    ("size", "<u4"),
    ("crc", "<u4"),
    ("encoding", "u1"),
    ("flags", "u1"),
    ("unused", "V2"),
]


def _page_dtype(value: str) -> np.dtype[Any]:
    names = ("first", "last", "minimum", "maximum")
    return np.dtype(_COMMON_FIELDS + [(name, value) for name in names] + _PLACE_FIELDS)


_INT_PAGES = _page_dtype("<i8")
_FLOAT_PAGES = _page_dtype("<f8")
_FLOATS = (DataType.FLOAT, DataType.DOUBLE)

PAGE_ENTRY_BYTES = _PAGE.size


class Statistics(NamedTuple):
    """What a page says about its values; first … maximum are 8 bytes each, zero where undefined."""

    first: bytes
    last: bytes
    minimum: bytes
    maximum: bytes
    total: float


class TimePage(NamedTuple):
    """Where a page of a TIMES record is."""

    rows: int
    offset: int
    size: int
    crc: int
    encoding: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A parsed CHUNK record.

    Attributes:
        kind: type of the values.
        owner: series in the key of the TIMES record.
        times_first: first time in the key of the TIMES record.
        pages: structured array, one row per page; `count` is 0 for a page without values.
        inline: the pages' bytes, or None when they lie in the DATA record.
    """

    kind: DataType
    owner: int
    times_first: int
    pages: npt.NDArray[Any]
    inline: bytes | None


def statistics_of(kind: DataType, values: npt.NDArray[Any]) -> Statistics:
    """Work out the statistics of n >= 1 values without nulls."""
    if kind is DataType.TEXT:
        return Statistics(_NOTHING, _NOTHING, _NOTHING, _NOTHING, 0.0)
    if kind is DataType.BOOLEAN:
        ends = values[[0, -1]].astype("<i8").tobytes()
        return Statistics(ends[:8], ends[8:], _NOTHING, _NOTHING, 0.0)
    lowest, highest, total = extremes(values)
    four = np.array([values[0], values[-1], lowest, highest])
    raw = four.astype("<f8" if kind in _FLOATS else "<i8").tobytes()
    return Statistics(raw[:8], raw[8:16], raw[16:24], raw[24:], total)


def extremes(values: npt.NDArray[Any]) -> tuple[Any, Any, float]:
    """Return minimum, maximum and sum of n >= 1 numbers; NaN only where all are NaN, or as sum."""
    with np.errstate(all="ignore"):
        total = float(values.sum(dtype=np.float64))
        lowest, highest = values.min(), values.max()
        if math.isnan(total) and (np.isnan(lowest) or np.isnan(highest)):
            lowest, highest = np.fmin.reduce(values), np.fmax.reduce(values)
    return lowest, highest, total


def encode_chunk_pages(
    kind: DataType,
    times: npt.NDArray[np.int64],
    values: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_] | None,
    page_rows: int,
) -> tuple[int | None, bytes, bytes]:
    """Encode a column's rows of one chunk.

    Returns:
        The time of the first value (None if there is no value at all), the page table, the pages.
    """
    first_time = None
    table: list[bytes] = []
    bodies: list[bytes] = []
    offset = 0
    for lo in range(0, len(times), page_rows):
        hi = min(lo + page_rows, len(times))
        page_times, page_values = times[lo:hi], values[lo:hi]
        mask = None if valid is None else valid[lo:hi]
        head = b""
        if mask is not None and not mask.all():
            page_times, page_values = page_times[mask], page_values[mask]
            if not len(page_times):
                table.append(_PAGE.pack(hi - lo, 0, 0, 0, *[_NOTHING] * 4, 0.0, offset, 0, 0, 0, 0))
                continue
            bitmap = boolean.encode(mask)
            head = _BITMAP.pack(len(bitmap)) + bitmap
        if first_time is None:
            first_time = int(page_times[0])
        encoding, data = encode_values(kind, np.ascontiguousarray(page_values))
        body = head + data
        table.append(
            _PAGE.pack(
                hi - lo,
                len(page_times),
                int(page_times[0]),
                int(page_times[-1]),
                *statistics_of(kind, page_values),
                offset,
                len(body),
                zlib.crc32(body),
                encoding,
                _HAS_NULLS if head else 0,
            )
        )
        bodies.append(body)
        offset += len(body)
    return first_time, b"".join(table), b"".join(bodies)


def pack_chunk(
    kind: DataType, owner: int, times_first: int, table: bytes, body: bytes
) -> tuple[bytes, bytes | None]:
    """Return the CHUNK record, and the DATA record if the pages do not fit into it."""
    inline = len(body) <= INLINE_BYTES
    head = _CHUNK_HEAD.pack(
        VERSION,
        kind,
        _INLINE if inline else 0,
        len(table) // PAGE_ENTRY_BYTES,
        owner,
        times_first,
    )
    record = head + table + (body if inline else b"")
    return record + _CRC.pack(zlib.crc32(record)), None if inline else body


def unpack_chunk(record: bytes) -> Chunk:
    """Parse a CHUNK record.

    Raises:
        ValueError: it is damaged or of an unknown version.
    """
    if len(record) < _CHUNK_HEAD.size + _CRC.size:
        raise ValueError(f"a chunk record of {len(record)} bytes")
    (crc,) = _CRC.unpack_from(record, len(record) - _CRC.size)
    found = zlib.crc32(memoryview(record)[: -_CRC.size])
    if crc != found:
        raise ValueError(f"checksum {crc:#010x} expected, {found:#010x} found")
    version, kind_number, flags, count, owner, times_first = _CHUNK_HEAD.unpack_from(record)
    if version != VERSION:
        raise ValueError(f"format version {VERSION} expected, {version} found")
    kind = DataType(kind_number)
    dtype = _FLOAT_PAGES if kind in _FLOATS else _INT_PAGES
    end = _CHUNK_HEAD.size + count * PAGE_ENTRY_BYTES
    pages = np.frombuffer(record, dtype, count, _CHUNK_HEAD.size)
    inline = record[end : -_CRC.size] if flags & _INLINE else None
    return Chunk(kind, owner, times_first, pages, inline)


def pack_times(times: npt.NDArray[np.int64], page_rows: int) -> bytes:
    """Return the TIMES record of a chunk's rows."""
    table: list[bytes] = []
    bodies: list[bytes] = []
    offset = 0
    for lo in range(0, len(times), page_rows):
        page = times[lo : lo + page_rows]
        encoding, body = encode_times(np.ascontiguousarray(page))
        table.append(_TIME_PAGE.pack(len(page), offset, len(body), zlib.crc32(body), encoding))
        bodies.append(body)
        offset += len(body)
    head = _TIMES_HEAD.pack(VERSION, len(table)) + b"".join(table)
    return head + _CRC.pack(zlib.crc32(head)) + b"".join(bodies)


def unpack_times_page(record: bytes, number: int) -> npt.NDArray[np.int64]:
    """Decode one page of a TIMES record.

    Raises:
        ValueError: it is damaged or of an unknown version.
    """
    if len(record) < _TIMES_HEAD.size:
        raise ValueError(f"a times record of {len(record)} bytes")
    version, count = _TIMES_HEAD.unpack_from(record)
    if version != VERSION:
        raise ValueError(f"format version {VERSION} expected, {version} found")
    end = _TIMES_HEAD.size + count * _TIME_PAGE.size
    if len(record) < end + _CRC.size or number >= count:
        raise ValueError(f"page {number} of {count} in a times record of {len(record)} bytes")
    (crc,) = _CRC.unpack_from(record, end)
    found = zlib.crc32(record[:end])
    if crc != found:
        raise ValueError(f"checksum {crc:#010x} expected, {found:#010x} found")
    page = TimePage(*_TIME_PAGE.unpack_from(record, _TIMES_HEAD.size + number * _TIME_PAGE.size))
    start = end + _CRC.size + page.offset
    body = _checked(record, start, page.size, page.crc)
    return decode_values(DataType.INT64, page.encoding, body, page.rows)


def unpack_page(
    kind: DataType, page: np.void, body: bytes
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Decode one page of values, with a place for each row.

    Args:
        kind: of the chunk.
        page: its row of the page table, `count` above 0.
        body: all pages of the chunk.

    Raises:
        ValueError: it is damaged.
    """
    rows, count = int(page["rows"]), int(page["count"])
    data = _checked(body, int(page["offset"]), int(page["size"]), int(page["crc"]))
    if not page["flags"] & _HAS_NULLS:
        return decode_values(kind, int(page["encoding"]), data, rows), None
    (size,) = _BITMAP.unpack_from(data)
    start = _BITMAP.size + size
    valid = boolean.decode(data[_BITMAP.size : start], rows)
    present = decode_values(kind, int(page["encoding"]), data[start:], count)
    if int(np.count_nonzero(valid)) != count:
        raise ValueError(f"a bitmap that does not have {count} rows set")
    values = blank_values(kind, rows)
    values[valid] = present
    return values, valid


def _checked(data: bytes, offset: int, size: int, crc: int) -> bytes:
    body = data[offset : offset + size]
    if len(body) != size:
        raise ValueError(f"{size} bytes at {offset} expected, {len(body)} found")
    found = zlib.crc32(body)
    if found != crc:
        raise ValueError(f"checksum {crc:#010x} expected, {found:#010x} found")
    return body


__all__ = ["Chunk", "Encoding", "Statistics", "encode_chunk_pages", "pack_chunk", "unpack_chunk"]
