"""TIMES records: the times that the chunks of a group of columns have in common.

Like a chunk, it is a head with a table of pages, and the pages; but all in one record, and with the
series that name it, so that compaction knows whom it serves. The diagram is in
docs/formats/engine.md.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iotdb_engine.encoding import decode_values, encode_times
from iotdb_engine.page import CRC, VERSION, StoredValues, checked
from iotdb_engine.types import DataType

_BEST = 1

_TIMES_HEAD = struct.Struct("<BBxxIQqII")
_TIME_PAGES = np.dtype(
    [
        ("rows", "<u4"),
        ("offset", "<u4"),
        ("size", "<u4"),
        ("crc", "<u4"),
        ("low", "<i8"),
        ("high", "<i8"),
        ("encoding", "u1"),
        ("unused", "V7"),
    ]
)
_MEMBERS = np.dtype([("start", "<u8"), ("count", "<u8")])


@dataclass(frozen=True, slots=True)
class TimesHead:
    """A parsed TIMES record, its pages left alone.

    Attributes:
        order: as in `Chunk`.
        last: time of the last row.
        best: the chunks are encoded as small as can be.
        pages: structured array, one row per page.
        members: the series whose CHUNK records name this one, ascending.
        body_at: where the pages begin.
    """

    order: int
    last: int
    best: bool
    pages: npt.NDArray[Any]
    members: list[int]
    body_at: int

    @property
    def rows(self) -> int:
        """Rows of all pages."""
        return int(self.pages["rows"].sum(dtype=np.int64))


def pack_times(
    times: npt.NDArray[np.int64],
    page_rows: int,
    *,
    order: int,
    members: Sequence[int],
    best: bool = False,
) -> bytes:
    """Return the TIMES record of a chunk's rows.

    Args:
        times: int64[n], n >= 1, strictly ascending.
        page_rows: where to cut.
        order: of the chunks.
        members: the series that have them, in any order.
        best: see `TimesHead`.
    """
    pages = np.zeros(-(-len(times) // page_rows), _TIME_PAGES)
    bodies: list[bytes] = []
    offset = 0
    for number, lo in enumerate(range(0, len(times), page_rows)):
        page = times[lo : lo + page_rows]
        encoding, body = encode_times(page, best=best)
        place = (len(page), offset, len(body), zlib.crc32(body))
        pages[number] = (*place, int(page[0]), int(page[-1]), encoding, b"")
        bodies.append(body)
        offset += len(body)
    runs = _pack_members(members)
    flags = _BEST if best else 0
    head = _TIMES_HEAD.pack(VERSION, flags, len(pages), order, int(times[-1]), len(runs), 0)
    head += pages.tobytes() + runs.tobytes()
    return head + CRC.pack(zlib.crc32(head)) + b"".join(bodies)


def _pack_members(members: Sequence[int]) -> npt.NDArray[Any]:
    """Return runs of neighbouring ids: a device's series mostly have them."""
    distinct = set(members)
    low, high = min(distinct), max(distinct)
    if high - low + 1 == len(distinct):  # the usual case, a tenth of the general one's time
        return np.array([(low, len(distinct))], _MEMBERS)
    ids = np.fromiter(sorted(distinct), np.uint64, len(distinct))
    breaks = np.flatnonzero(np.diff(ids) != 1) + 1
    starts = np.concatenate(([0], breaks)).astype(np.int64)
    runs = np.zeros(len(starts), _MEMBERS)
    runs["start"] = ids[starts]
    runs["count"] = np.diff(np.append(starts, len(ids)))
    return runs


def unpack_times(record: bytes) -> TimesHead:
    """Parse a TIMES record, without its pages.

    Raises:
        ValueError: it is damaged or of an unknown version.
    """
    if len(record) < _TIMES_HEAD.size + CRC.size:
        raise ValueError(f"a times record of {len(record)} bytes")
    version, flags, count, order, last, run_count, _ = _TIMES_HEAD.unpack_from(record)
    if version != VERSION:
        raise ValueError(f"format version {VERSION} expected, {version} found")
    runs_at = _TIMES_HEAD.size + count * _TIME_PAGES.itemsize
    end = runs_at + run_count * _MEMBERS.itemsize
    if len(record) < end + CRC.size:
        raise ValueError(f"{count} pages and {run_count} runs in {len(record)} bytes of times")
    (crc,) = CRC.unpack_from(record, end)
    found = zlib.crc32(memoryview(record)[:end])
    if crc != found:
        raise ValueError(f"checksum {crc:#010x} expected, {found:#010x} found")
    members: list[int] = []
    for start, size in np.frombuffer(record, _MEMBERS, run_count, runs_at).tolist():
        members.extend(range(start, start + size))
    pages = np.frombuffer(record, _TIME_PAGES, count, _TIMES_HEAD.size)
    return TimesHead(order, last, bool(flags & _BEST), pages, members, end + CRC.size)


def unpack_times_page(record: bytes, head: TimesHead, number: int) -> npt.NDArray[np.int64]:
    """Decode one page of a TIMES record.

    Raises:
        ValueError: it is damaged, or there is no such page.
    """
    page, body = _times_page(record, head, number)
    return decode_values(DataType.INT64, int(page["encoding"]), body, int(page["rows"]))


def rebuild_times(record: bytes, head: TimesHead, pages: Collection[int]) -> bytes:
    """Return a TIMES record with any times, of the same number and ends, in some of its pages."""
    table = head.pages.copy()
    bodies: list[bytes] = []
    offset = 0
    for number, page in enumerate(table):
        start = head.body_at + int(page["offset"])
        body = record[start : start + int(page["size"])]
        if number in pages:
            times = int(page["low"]) + np.arange(int(page["rows"]), dtype=np.int64)
            times[-1] = page["high"]
            page["encoding"], body = encode_times(times)
            page["crc"] = zlib.crc32(body)
        page["offset"], page["size"] = offset, len(body)
        bodies.append(body)
        offset += len(body)
    table_at = _TIMES_HEAD.size
    table_end = table_at + table.nbytes
    front = record[:table_at] + table.tobytes() + record[table_end : head.body_at - CRC.size]
    return front + CRC.pack(zlib.crc32(front)) + b"".join(bodies)


def stored_times_page(record: bytes, head: TimesHead, number: int) -> StoredValues:
    """Cut one page out of a TIMES record.

    Raises:
        ValueError: it is damaged, or there is no such page.
    """
    page, data = _times_page(record, head, number)
    return StoredValues(int(page["encoding"]), data)


def _times_page(record: bytes, head: TimesHead, number: int) -> tuple[np.void, bytes]:
    if number >= len(head.pages):
        raise ValueError(f"page {number} of {len(head.pages)} in a times record")
    page: np.void = head.pages[number]
    start = head.body_at + int(page["offset"])
    return page, checked(record, start, int(page["size"]), int(page["crc"]))
