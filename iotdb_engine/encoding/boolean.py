"""Booleans: one bit each, compressed when that pays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import zstandard

_LEVEL = 1
_PLAIN, _ZSTD = 0, 1
_MOST_BYTES = 1 << 30


def encode(values: npt.NDArray[np.bool_]) -> bytes:
    """Encode bool[n]: a byte that says plain or zstd, then the bits, least significant first."""
    bits = np.packbits(values, bitorder="little").tobytes()
    if len(bits) > 32:
        packed = zstandard.ZstdCompressor(level=_LEVEL).compress(bits)
        if len(packed) < len(bits):
            return bytes((_ZSTD,)) + packed
    return bytes((_PLAIN,)) + bits


def decode(data: bytes, count: int) -> npt.NDArray[np.bool_]:
    """Decode `count` values.

    Raises:
        ValueError: there are not that many, or the bytes are damaged.
    """
    if not data or data[0] not in (_PLAIN, _ZSTD):
        raise ValueError("booleans: unknown form")
    bits = data[1:]
    if data[0] == _ZSTD:
        try:
            bits = zstandard.ZstdDecompressor().decompress(bits, max_output_size=_MOST_BYTES)
        except zstandard.ZstdError as error:
            raise ValueError(f"booleans: {error}") from error
    if len(bits) != (count + 7) >> 3:
        raise ValueError(f"booleans: {len(bits)} bytes for {count} values")
    packed = np.frombuffer(bits, np.uint8)
    return np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)
