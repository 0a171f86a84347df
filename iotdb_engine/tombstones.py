"""Range deletes and dropped series: which rows do they hide?

A delete hides what was written before it. Chunks know their place by the sequence of the flush that
wrote them, so a stored tombstone of sequence s hides rows of chunks below s; what it hid in its own
memory table was left out when that was flushed.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_HEAD = struct.Struct("<BxxxIqq")
_DROP = struct.Struct("<BxxxxxxxQ16s")
_CRC = struct.Struct("<I")
_VERSION = 1


class Cut(NamedTuple):
    """What a tombstone does to one series: hides [t_min, t_max] in chunks below `sequence`."""

    sequence: int
    t_min: int
    t_max: int


class Tombstone(NamedTuple):
    """A delete of a time range of some series.

    Attributes:
        sequence: of the flush that stored it.
        series_ids: uint64[k], ascending, unique.
        t_min: inclusive.
        t_max: inclusive.
    """

    sequence: int
    series_ids: npt.NDArray[np.uint64]
    t_min: int
    t_max: int

    def hides(self, series_id: int) -> bool:
        """Tell whether the series is among those deleted."""
        at = int(np.searchsorted(self.series_ids, np.uint64(series_id)))
        return at < len(self.series_ids) and int(self.series_ids[at]) == series_id

    def equals(self, other: Tombstone) -> bool:
        """Tell whether both say the same; `==` would compare arrays."""
        same = (self.sequence, self.t_min, self.t_max) == (other.sequence, *other[2:])
        return same and np.array_equal(self.series_ids, other.series_ids)

    def covers(self, older: Tombstone) -> bool:
        """Tell whether this makes an older one redundant: same series, at least its range."""
        return (
            self.t_min <= older.t_min
            and self.t_max >= older.t_max
            and np.array_equal(self.series_ids, older.series_ids)
        )


def make_tombstone(sequence: int, series_ids: Iterable[int], t_min: int, t_max: int) -> Tombstone:
    """Build a tombstone."""
    ids = np.unique(np.fromiter(series_ids, np.uint64))
    return Tombstone(sequence, ids, t_min, t_max)


def encode_tombstone(tombstone: Tombstone) -> bytes:
    """Return the value of a TOMBSTONE record (its key holds the sequence)."""
    head = _HEAD.pack(_VERSION, len(tombstone.series_ids), tombstone.t_min, tombstone.t_max)
    return _with_crc(head + tombstone.series_ids.astype("<u8").tobytes())


def decode_tombstone(sequence: int, data: bytes) -> Tombstone:
    """Read a TOMBSTONE record.

    Raises:
        ValueError: the bytes are damaged or of an unknown version.
    """
    data = _without_crc(data, "tombstone")
    if len(data) < _HEAD.size:
        raise ValueError(f"a tombstone of {len(data)} bytes")
    version, count, t_min, t_max = _HEAD.unpack_from(data)
    if version != _VERSION or len(data) != _HEAD.size + 8 * count:
        raise ValueError(f"a tombstone of version {version} with {len(data)} bytes for {count} ids")
    ids = np.frombuffer(data, "<u8", count, _HEAD.size).astype(np.uint64)
    return Tombstone(sequence, ids, t_min, t_max)


def cuts_for(tombstones: Sequence[Tombstone], series_id: int) -> tuple[Cut, ...]:
    """Return what the tombstones do to one series."""
    return tuple(Cut(t.sequence, t.t_min, t.t_max) for t in tombstones if t.hides(series_id))


def encode_drop(lo: int, hi: int) -> bytes:
    """Return the value of a DROP record of the series [lo, hi); `hi` may be 2**64."""
    return _with_crc(_DROP.pack(_VERSION, lo, hi.to_bytes(16, "little")))


def decode_drop(data: bytes) -> tuple[int, int]:
    """Read a DROP record.

    Raises:
        ValueError: the bytes are damaged or of an unknown version.
    """
    data = _without_crc(data, "drop record")
    if len(data) != _DROP.size:
        raise ValueError(f"a drop record of {len(data)} bytes")
    version, lo, hi = _DROP.unpack(data)
    if version != _VERSION:
        raise ValueError(f"a drop record of version {version}")
    return lo, int.from_bytes(hi, "little")


def _with_crc(body: bytes) -> bytes:
    return body + _CRC.pack(zlib.crc32(body))


def _without_crc(data: bytes, what: str) -> bytes:
    body = data[: -_CRC.size]
    if len(data) < _CRC.size or data[-_CRC.size :] != _CRC.pack(zlib.crc32(body)):
        raise ValueError(f"a {what} whose checksum does not match")
    return body


class DroppedSeries:
    """An immutable set of half-open id ranges; O(log n) to ask."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        merged: list[tuple[int, int]] = []
        for lo, hi in sorted((lo, hi) for lo, hi in ranges if lo < hi):
            if merged and lo <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
            else:
                merged.append((lo, hi))
        self.ranges = tuple(merged)
        self._starts = [lo for lo, _ in merged]

    def __contains__(self, series_id: int) -> bool:
        at = bisect_right(self._starts, series_id) - 1
        return at >= 0 and series_id < self.ranges[at][1]

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def with_ranges(self, ranges: Iterable[tuple[int, int]]) -> DroppedSeries:
        """Return the union with more ranges."""
        return DroppedSeries([*self.ranges, *ranges])
