"""RocksDB's table files: the numbers that who writes them (`table_file`) and who checks them share.

Block-based tables of format version 6. Each block is followed by a byte that says how it is
compressed and by a checksum of both; the footer has one of its own. To a checksum is added what
depends on the file and on where in it the block begins (`modifier`), so that no block can be taken
for another. Written after RocksDB's description of its formats and after the files themselves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import google_crc32c
import xxhash

FORMAT_VERSION = 6
MAGIC = 0x88E241B785F4CFF7
EXTENDED_MAGIC = b"\x3e\x00\x7a\x00"
FOOTER = struct.Struct("<B4sIII24xIQ")
"""Kind of checksum, its magic, checksum, context, size of the metaindex, version, magic."""
TRAILER = struct.Struct("<BI")
"""Compression and checksum of a block."""
CRC32C, XXH64, XXH3 = 1, 3, 4
NO_COMPRESSION, LZ4 = 0, 4
WORD = 0xFFFFFFFF
"""Checksums are of 32 bits: of longer ones, the lower half."""

_MASK_DELTA = 0xA282EAD8
_LAST_BYTE_FACTOR = 0x6B9083D9


def masked_crc32c(data: bytes) -> int:
    """Return a CRC-32C in the form that is stored; RocksDB rotates it and adds a constant."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & WORD


def _xxh64(data: bytes) -> int:
    return xxhash.xxh64_intdigest(data) & WORD


def _xxh3(data: bytes) -> int:
    return with_last_byte(xxhash.xxh3_64_intdigest(memoryview(data)[:-1]), data[-1])


def with_last_byte(xxh3: int, last: int) -> int:
    """Return the checksum of bytes of which all but the last have this XXH3."""
    return (xxh3 ^ last * _LAST_BYTE_FACTOR) & WORD


CHECKSUMS: Mapping[int, Callable[[bytes], int]] = {
    CRC32C: masked_crc32c,
    XXH64: _xxh64,
    XXH3: _xxh3,
}
"""By their numbers in the footer; of at least one byte."""


def modifier(context: int, offset: int) -> int:
    """Return what is added to a checksum of what begins at an offset; context 0: nothing."""
    if not context:
        return 0
    return context ^ (((offset & WORD) + (offset >> 32)) & WORD)


def varint(value: int) -> bytes:
    """Return the byte form of a number >= 0: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
