"""From a storage group and a time to a slot (cluster-design 4.1; 0.13 `PartitionUtils`).

The hash is the 128-bit murmur3 variant of 64-bit machines, as in the original, but over exact
bytes: the original takes characters for bytes, which differs for names beyond ASCII only.
"""

from __future__ import annotations

import struct
from functools import lru_cache

SLOT_COUNT = 10000
HASH_SALT = 2333

_MASK = (1 << 64) - 1
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F
_BLOCK = struct.Struct("<QQ")
_ID = struct.Struct(">q")


def partition_id(time: int, interval: int, enabled: bool) -> int:
    """Return the number of the time partition that a timestamp is in.

    Args:
        time: in units of the timestamp precision.
        interval: length of a partition in the same units, > 0.
        enabled: `enable_partition`; when off, everything is in partition 0.

    Returns:
        time / interval truncated towards zero, as Java divides: -1 and 1 share partition 0.
    """
    if not enabled:
        return 0
    return time // interval if time >= 0 else -(-time // interval)


@lru_cache(maxsize=1 << 16)
def slot_of(storage_group: str, partition: int) -> int:
    """Return the slot in [0, SLOT_COUNT) of a storage group's time partition.

    Args:
        storage_group: its path.
        partition: see `partition_id`; in the range of an i64.
    """
    h1, h2 = murmur3_x64_128(storage_group.encode() + _ID.pack(partition), HASH_SALT)
    low = (h1 + h2) & 0xFFFFFFFF
    return (low if low < 1 << 31 else (1 << 32) - low) % SLOT_COUNT


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _mixed(value: int) -> int:
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & _MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


def murmur3_x64_128(data: bytes, seed: int) -> tuple[int, int]:
    """Return the two halves (h1, h2), unsigned, of MurmurHash3_x64_128. Public domain algorithm."""
    h1 = h2 = seed
    tail_at = len(data) & ~15
    for at in range(0, tail_at, 16):
        k1, k2 = _BLOCK.unpack_from(data, at)
        h1 ^= _rotated(k1 * _C1 & _MASK, 31) * _C2 & _MASK
        h1 = (_rotated(h1, 27) + h2) * 5 + 0x52DCE729 & _MASK
        h2 ^= _rotated(k2 * _C2 & _MASK, 33) * _C1 & _MASK
        h2 = (_rotated(h2, 31) + h1) * 5 + 0x38495AB5 & _MASK
    tail = data[tail_at:]
    k1 = int.from_bytes(tail[:8], "little")
    k2 = int.from_bytes(tail[8:], "little")
    h2 ^= _rotated(k2 * _C2 & _MASK, 33) * _C1 & _MASK
    h1 ^= _rotated(k1 * _C1 & _MASK, 31) * _C2 & _MASK
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    h1, h2 = _mixed(h1), _mixed(h2)
    h1 = (h1 + h2) & _MASK
    return h1, (h2 + h1) & _MASK
