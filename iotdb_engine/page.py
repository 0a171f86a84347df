"""Chunks and pages as bytes: what the CHUNK and DATA records hold.

A group of columns with common times is cut into chunks, and those into pages, at the same rows for
all columns. Page i of a chunk belongs to page i of the TIMES record (`times_record.py`) that the
chunk names. The diagrams are in docs/formats/engine.md.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.encoding import (
    Encoded,
    Hints,
    boolean,
    decode_values,
    encode_booleans,
    encode_numbers,
    encode_texts,
)
from iotdb_engine.merge import blank_values
from iotdb_engine.types import DataType

VERSION = 1
INLINE_BYTES = 1024
"""Pages up to this size lie in the CHUNK record: one record less for a series with few rows."""

_INLINE = 1
_HAS_NULLS = 1

_CHUNK_HEAD = struct.Struct("<BBBxIQqQq")
CRC = struct.Struct("<I")
_BITMAP = struct.Struct("<I")
_PAGE = struct.Struct("<IIqq8s8s8s8sdIIIBBxx")
_NOTHING = bytes(8)
_BLOCK_VALUES = 1 << 15

_Totals = npt.NDArray[np.float64]

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


class StoredValues(NamedTuple):
    """Values as a page has them, its checksum right; for `encoding.decode_values`."""

    encoding: int
    data: bytes | memoryview


class Statistics(NamedTuple):
    """What a page says about its values; first … maximum are 8 bytes each, zero where undefined."""

    first: bytes
    last: bytes
    minimum: bytes
    maximum: bytes
    total: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """A parsed CHUNK record.

    Attributes:
        kind: type of the values.
        owner: series in the key of the TIMES record.
        times_first: first time in the key of the TIMES record.
        order: among chunks with equal times, the one of the highest order counts; a tombstone hides
            rows of lower orders than its sequence.
        last: time of the last value.
        pages: structured array, one row per page; `count` is 0 for a page without values.
        inline: the pages' bytes, or None when they lie in the DATA record.
    """

    kind: DataType
    owner: int
    times_first: int
    order: int
    last: int
    pages: npt.NDArray[Any]
    inline: bytes | None


def statistics_of(kind: DataType, values: npt.NDArray[Any]) -> Statistics:
    """Work out the statistics of n >= 1 values without nulls, of a type that is no number."""
    if kind is DataType.TEXT:
        return Statistics(_NOTHING, _NOTHING, _NOTHING, _NOTHING, 0.0)
    ends = values[[0, -1]].astype("<i8").tobytes()
    return Statistics(ends[:8], ends[8:], _NOTHING, _NOTHING, 0.0)


def extremes(columns: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], _Totals]:
    """Return minimum, maximum and sum of each of k columns of n >= 1 numbers, [k, n].

    NaN becomes minimum and maximum only where all are NaN; it does become the sum.
    """
    with np.errstate(all="ignore"):
        totals = columns.sum(axis=1, dtype=np.float64)
        lowest, highest = columns.min(axis=1), columns.max(axis=1)
        if columns.dtype.kind == "f":
            odd = np.flatnonzero(np.isnan(totals) & np.isnan(lowest))
            if len(odd):
                lowest[odd] = np.fmin.reduce(columns[odd], axis=1)
                highest[odd] = np.fmax.reduce(columns[odd], axis=1)
    return lowest, highest, totals


class EncodedColumn(NamedTuple):
    """A column's rows of one chunk.

    Attributes:
        first_time: of the first value; None if there is none.
        last_time: of the last value; 0 if there is none.
        table: the page table.
        body: the pages.
    """

    first_time: int | None
    last_time: int
    table: bytes
    body: bytes


class PageEncoder:
    """Encodes a block of columns of one type, that share their times, chunk after chunk.

    Used by one thread. Remembers what it learned about each column, so that it looks for decimals
    once and not for every page.

    Args:
        kind: of all columns.
        count: columns in the block.
        level: of pcodec.
    """

    def __init__(self, kind: DataType, count: int, level: int) -> None:
        self._kind = kind
        self._level = level
        self._hints = Hints.unknown(count)

    def encode(
        self,
        times: npt.NDArray[np.int64],
        columns: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_] | None,
        page_rows: int,
    ) -> list[EncodedColumn]:
        """Encode rows of one chunk.

        Args:
            times: int64[n].
            columns: BATCH_DTYPES[kind] [k, n].
            valid: bool[n] where a block of one column has nulls, else None.
            page_rows: where to cut.
        """
        made = [_ColumnPages() for _ in columns]
        for lo in range(0, len(times), page_rows):
            hi = min(lo + page_rows, len(times))
            page_times, page = times[lo:hi], columns[:, lo:hi]
            head = b""
            mask = None if valid is None else valid[lo:hi]
            if mask is not None and not mask.all():
                page_times, page = page_times[mask], page[:, mask]
                if not len(page_times):
                    made[0].skip(hi - lo)
                    continue
                bitmap = boolean.encode(mask)
                head = _BITMAP.pack(len(bitmap)) + bitmap
            encoded = self._encode_page(page)
            for column, (statistics, (encoding, data)) in zip(made, encoded, strict=True):
                column.add(hi - lo, page_times, statistics, encoding, head, data)
        return [column.finish() for column in made]

    def _encode_page(self, page: npt.NDArray[Any]) -> list[tuple[Statistics, Encoded]]:
        kind = self._kind
        if kind is DataType.TEXT:
            return [(statistics_of(kind, column), encode_texts(column)) for column in page]
        if kind is DataType.BOOLEAN:
            return [(statistics_of(kind, column), encode_booleans(column)) for column in page]
        # Some columns at a time, so that what NumPy makes on the way stays in the CPU's cache.
        step = max(1, _BLOCK_VALUES // page.shape[1])
        found: list[tuple[Statistics, Encoded]] = []
        for lo in range(0, len(page), step):
            part = page[lo : lo + step]
            lowest, highest, totals = extremes(part)
            encoded = encode_numbers(
                part, lowest, highest, self._hints.part(lo, lo + step), level=self._level
            )
            four = np.stack([part[:, 0], part[:, -1], lowest, highest], axis=1)
            raw = four.astype("<f8" if kind in _FLOATS else "<i8").tobytes()
            for row, (total, one) in enumerate(zip(totals.tolist(), encoded, strict=True)):
                at = 32 * row
                ends = (raw[at : at + 8], raw[at + 8 : at + 16])
                bounds = (raw[at + 16 : at + 24], raw[at + 24 : at + 32])
                found.append((Statistics(*ends, *bounds, total), one))
        return found


class _ColumnPages:
    """Pages of one column and one chunk, as they are made."""

    __slots__ = ("_bodies", "_first_time", "_last_time", "_offset", "_table")

    def __init__(self) -> None:
        self._first_time: int | None = None
        self._last_time = 0
        self._table: list[bytes] = []
        self._bodies: list[bytes] = []
        self._offset = 0

    def skip(self, rows: int) -> None:
        """Add a page without values."""
        self._table.append(
            _PAGE.pack(rows, 0, 0, 0, *[_NOTHING] * 4, 0.0, self._offset, 0, 0, 0, 0)
        )

    def add(
        self,
        rows: int,
        times: npt.NDArray[np.int64],
        statistics: Statistics,
        encoding: int,
        head: bytes,
        data: bytes,
    ) -> None:
        """Add a page; `head` is its bitmap, or empty."""
        low, high = int(times[0]), int(times[-1])
        if self._first_time is None:
            self._first_time = low
        self._last_time = high
        body = head + data
        self._table.append(
            _PAGE.pack(
                rows,
                len(times),
                low,
                high,
                *statistics,
                self._offset,
                len(body),
                zlib.crc32(body),
                encoding,
                _HAS_NULLS if head else 0,
            )
        )
        self._bodies.append(body)
        self._offset += len(body)

    def finish(self) -> EncodedColumn:
        return EncodedColumn(
            self._first_time, self._last_time, b"".join(self._table), b"".join(self._bodies)
        )


def pack_chunk(
    kind: DataType, owner: int, times_first: int, order: int, column: EncodedColumn
) -> tuple[bytes, bytes | None]:
    """Return the CHUNK record, and the DATA record if the pages do not fit into it.

    Args:
        kind: type of the values.
        owner: series in the key of the TIMES record.
        times_first: first time in the key of the TIMES record.
        order: see `Chunk`.
        column: with at least one value.
    """
    inline = len(column.body) <= INLINE_BYTES
    head = _CHUNK_HEAD.pack(
        VERSION,
        kind,
        _INLINE if inline else 0,
        len(column.table) // PAGE_ENTRY_BYTES,
        owner,
        times_first,
        order,
        column.last_time,
    )
    record = head + column.table + (column.body if inline else b"")
    return record + CRC.pack(zlib.crc32(record)), None if inline else column.body


def unpack_chunk(record: bytes) -> Chunk:
    """Parse a CHUNK record.

    Raises:
        ValueError: it is damaged or of an unknown version.
    """
    if len(record) < _CHUNK_HEAD.size + CRC.size:
        raise ValueError(f"a chunk record of {len(record)} bytes")
    (crc,) = CRC.unpack_from(record, len(record) - CRC.size)
    found = zlib.crc32(memoryview(record)[: -CRC.size])
    if crc != found:
        raise ValueError(f"checksum {crc:#010x} expected, {found:#010x} found")
    version, kind_number, flags, count, owner, times_first, order, last = _CHUNK_HEAD.unpack_from(
        record
    )
    if version != VERSION:
        raise ValueError(f"format version {VERSION} expected, {version} found")
    kind = DataType(kind_number)
    dtype = _FLOAT_PAGES if kind in _FLOATS else _INT_PAGES
    end = _CHUNK_HEAD.size + count * PAGE_ENTRY_BYTES
    pages = np.frombuffer(record, dtype, count, _CHUNK_HEAD.size)
    inline = record[end : -CRC.size] if flags & _INLINE else None
    return Chunk(kind, owner, times_first, order, last, pages, inline)


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
    data = checked(body, int(page["offset"]), int(page["size"]), int(page["crc"]))
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


def rebuild_chunk(
    chunk: Chunk, body: bytes, without: Collection[int]
) -> tuple[int, bytes, bytes | None] | None:
    """Return a chunk without the values of some pages: its first time, and as `pack_chunk` does.

    The pages stay, empty, since they belong to those of the times.

    Returns:
        None if no value is left.
    """
    table = chunk.pages.copy()
    bodies: list[bytes] = []
    offset = 0
    for number, page in enumerate(table):
        if number in without or not page["count"]:
            rows = page["rows"]
            page["first"] = page["last"] = page["minimum"] = page["maximum"] = 0
            for name in ("count", "low", "high", "total", "size", "crc", "encoding", "flags"):
                page[name] = 0
            page["rows"], page["offset"] = rows, offset
            continue
        start, size = int(page["offset"]), int(page["size"])
        bodies.append(body[start : start + size])
        page["offset"] = offset
        offset += size
    filled = np.flatnonzero(table["count"])
    if not len(filled):
        return None
    first, last = int(table["low"][filled[0]]), int(table["high"][filled[-1]])
    column = EncodedColumn(first, last, table.tobytes(), b"".join(bodies))
    return first, *pack_chunk(chunk.kind, chunk.owner, chunk.times_first, chunk.order, column)


def check_statistics(
    kind: DataType, page: np.void, times: npt.NDArray[np.int64], values: npt.NDArray[Any]
) -> str:
    """Return how the statistics of a page differ from its values, or "" where they are right.

    Args:
        kind: of the chunk.
        page: its row of the page table.
        times: int64[count], of the values.
        values: BATCH_DTYPES[kind][count].
    """
    if len(values) != int(page["count"]):
        return f"{len(values)} values, and its statistics say {int(page['count'])}"
    if (int(times[0]), int(times[-1])) != (int(page["low"]), int(page["high"])):
        return f"its values reach from {int(times[0])} to {int(times[-1])}"
    if kind is DataType.TEXT:
        return ""
    wide = "<f8" if kind in _FLOATS else "<i8"
    expected = {"first": values[0], "last": values[-1]}
    if kind is not DataType.BOOLEAN:
        lowest, highest, totals = extremes(values[np.newaxis])
        expected |= {"minimum": lowest[0], "maximum": highest[0]}
        # The order of adding up differs, and with it the rounding.
        with np.errstate(all="ignore"):
            size = float(np.abs(values.astype(np.float64)).sum())
        found = float(page["total"])
        if found != totals[0] and not abs(found - totals[0]) <= 1e-9 * size:
            same_nan = np.isnan(found) and np.isnan(totals[0])
            if not same_nan and np.isfinite(size):
                return f"its total is {totals[0]}, and its statistics say {found}"
    for name, value in expected.items():
        if np.asarray(value).astype(wide).tobytes() != page[name].tobytes():
            return f"its {name} is {value}, and its statistics say {page[name]}"
    return ""


class PagePlace(NamedTuple):
    """Where a page lies in its chunk, and how its values are encoded."""

    offset: int
    size: int
    crc: int
    encoding: int


def page_places(pages: npt.NDArray[Any]) -> list[PagePlace]:
    """Return the places of the pages of a page table."""
    columns = [pages[name].tolist() for name in PagePlace._fields]
    return list(map(PagePlace._make, zip(*columns, strict=True)))


def stored_page(place: PagePlace, body: bytes) -> StoredValues:
    """Cut a page without nulls out of a chunk's pages; not copied.

    Raises:
        ValueError: it is damaged.
    """
    offset, size, crc, encoding = place
    data = memoryview(body)[offset : offset + size]
    if len(data) != size or zlib.crc32(data) != crc:
        checked(body, offset, size, crc)
    return StoredValues(encoding, data)


def checked(data: bytes, offset: int, size: int, crc: int) -> bytes:
    """Cut bytes out of a record.

    Raises:
        ValueError: they are damaged, or not all there.
    """
    body = data[offset : offset + size]
    if len(body) != size:
        raise ValueError(f"{size} bytes at {offset} expected, {len(body)} found")
    found = zlib.crc32(body)
    if found != crc:
        raise ValueError(f"checksum {crc:#010x} expected, {found:#010x} found")
    return body
