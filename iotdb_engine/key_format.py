"""Keys of the records in the store; see docs/formats/engine.md for the diagrams.

Every key starts with `region u16 | kind u8`, so that a region, and within it each kind of record,
is one contiguous range. All numbers are big-endian; times have their sign bit flipped, so that
bytes sort as numbers do.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

_SIGN = 1 << 63
_PREFIX = struct.Struct(">HB")
_CHUNK = struct.Struct(">HBHQQQ")
_SERIES = struct.Struct(">HBHQ")
_SLOT = struct.Struct(">HBH")
_RECORD = struct.Struct(">HBQI")

CHUNK_KEY_BYTES = _CHUNK.size
COMPACTED = 1 << 63
"""Bit of the sequence in keys that a compaction wrote; the others are sequences of flushes."""


class Kind(IntEnum):
    """Kind of a record. On disk: frozen."""

    INTENT = 1
    """Sequence of the flush that was started last, and those that will never be committed."""
    COMMIT = 2
    """Sequence and applied index of the flush that was finished last."""
    KEY_VALUE = 3
    """The caller's own state."""
    TOMBSTONE = 4
    DROP = 5
    CHUNK = 6
    """Where the values of one series are, with the statistics of each page."""
    DATA = 7
    """The pages of a chunk, unless they are small enough to lie in the CHUNK record itself."""
    TIMES = 8
    """The time pages that the chunks of one group of columns share."""
    COMPACTION = 9
    """Number of the compaction that was started last."""
    TTL = 10
    """How long the points of a range of series are kept."""
    STAGE = 64
    """How far a transfer into this space got; see `iotdb_engine.snapshot`."""
    PLACE = 65
    """In the directory only: the space that a region lives in."""
    ORIGIN = 66
    """What the caller noted when the region was taken over from another engine."""


class ChunkKey(NamedTuple):
    """A CHUNK, DATA or TIMES key, taken apart."""

    region: int
    kind: int
    slot: int
    series_id: int
    first_time: int
    sequence: int


def intent_key(region: int) -> bytes:
    """Return the key of a region's INTENT record."""
    return _PREFIX.pack(region, Kind.INTENT)


def commit_key(region: int) -> bytes:
    """Return the key of a region's COMMIT record."""
    return _PREFIX.pack(region, Kind.COMMIT)


def kind_prefix(region: int, kind: Kind) -> bytes:
    """Return the first bytes of all keys of one kind in a region."""
    return _PREFIX.pack(region, kind)


def record_key(region: int, kind: Kind, sequence: int, number: int) -> bytes:
    """Return the key of a TOMBSTONE or DROP record: the `number`-th of flush `sequence`."""
    return _RECORD.pack(region, kind, sequence, number)


def record_sequence(key: bytes) -> int:
    """Return the sequence in a TOMBSTONE or DROP key."""
    sequence: int = _RECORD.unpack(key)[2]
    return sequence


def chunk_key(
    *, region: int, kind: Kind, slot: int, series_id: int, first_time: int, sequence: int
) -> bytes:
    """Return a CHUNK, DATA or TIMES key.

    For TIMES, `series_id` is the group's owner: the series whose CHUNK keys are its neighbours.
    """
    return _CHUNK.pack(region, kind, slot, series_id, first_time + _SIGN, sequence)


def split_chunk_key(key: bytes) -> ChunkKey:
    """Take a CHUNK, DATA or TIMES key apart."""
    region, kind, slot, series_id, first_time, sequence = _CHUNK.unpack(key)
    return ChunkKey(region, kind, slot, series_id, first_time - _SIGN, sequence)


@lru_cache(maxsize=1 << 12)
def times_key_of(key: bytes, owner: int, times_first: int) -> bytes:
    """Return the key of the TIMES record that a chunk names.

    Args:
        key: of the chunk.
        owner: as the chunk says.
        times_first: likewise.
    """
    parts = split_chunk_key(key)
    return chunk_key(
        region=parts.region,
        kind=Kind.TIMES,
        slot=parts.slot,
        series_id=owner,
        first_time=times_first,
        sequence=parts.sequence,
    )


def is_visible(sequence: int, committed: int, aborted: Collection[int]) -> bool:
    """Tell whether the records under a key's sequence are part of the region's state.

    Those of a flush are when it is committed. A compaction needs no commit: each of its batches
    leaves the same rows to be read as before.
    """
    if sequence >= COMPACTED:
        return True
    return sequence <= committed and sequence not in aborted


def compaction_key(region: int) -> bytes:
    """Return the key of a region's COMPACTION record."""
    return _PREFIX.pack(region, Kind.COMPACTION)


def with_kind(key: bytes, kind: Kind) -> bytes:
    """Return the key with another kind: a CHUNK and its DATA differ in nothing else."""
    return key[:2] + bytes((kind,)) + key[3:]


def series_range(region: int, kind: Kind, slot: int, lo: int, hi: int) -> tuple[bytes, bytes]:
    """Return the half-open key range of the series [lo, hi) in a slot; `hi` may be 2**64."""
    end = _SERIES.pack(region, kind, slot, hi) if hi < 1 << 64 else slot_end(region, kind, slot)
    return _SERIES.pack(region, kind, slot, lo), end


def slot_start(region: int, kind: Kind, slot: int) -> bytes:
    """Return the lowest possible key of a slot."""
    return _SLOT.pack(region, kind, slot)


def slot_end(region: int, kind: Kind, slot: int) -> bytes:
    """Return the lowest key after a slot."""
    if slot < 0xFFFF:
        return _SLOT.pack(region, kind, slot + 1)
    return prefix_end(_PREFIX.pack(region, kind))


def prefix_end(prefix: bytes) -> bytes:
    """Return the lowest byte string above all that start with `prefix` (not all 0xFF)."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b"\xff" * 64
    return stripped[:-1] + bytes((stripped[-1] + 1,))


def region_of(key: bytes) -> int:
    """Return the region that a key belongs to."""
    return int.from_bytes(key[:2], "big")


def region_range(region: int) -> tuple[bytes, bytes]:
    """Return the half-open key range of a whole region."""
    end = (region + 1).to_bytes(2, "big") if region < 0xFFFF else b"\xff" * 64
    return region.to_bytes(2, "big"), end


def describe_key(key: bytes) -> str:
    """Return what a key is of, in words for people."""
    if len(key) < _PREFIX.size:
        return "an unknown record"
    region, number = _PREFIX.unpack_from(key)
    try:
        kind = Kind(number)
    except ValueError:
        return f"region {region}, unknown kind of record {number}"
    if kind in (Kind.CHUNK, Kind.DATA, Kind.TIMES) and len(key) == CHUNK_KEY_BYTES:
        parts = split_chunk_key(key)
        return (
            f"region {region}, slot {parts.slot}, series {parts.series_id}, "
            f"{kind.name} from {parts.first_time}"
        )
    return f"region {region}, {kind.name}"
