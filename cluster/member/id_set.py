"""A set of numbers that were mostly given out one after the other, at about a bit each."""

from __future__ import annotations

_CHUNK_BITS = 13
_CHUNK_BYTES = 1 << _CHUNK_BITS - 3
_WITHIN = (1 << _CHUNK_BITS) - 1


class IdSet:
    """Numbers >= 0 that are never taken out one by one. A set of Python would take 60 bytes each.

    Memory: a kilobyte for each 8192 numbers in a row of which one is there.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        """Put a number in."""
        chunk = self._chunks.get(number >> _CHUNK_BITS)
        if chunk is None:
            chunk = self._chunks[number >> _CHUNK_BITS] = bytearray(_CHUNK_BYTES)
        chunk[(number & _WITHIN) >> 3] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        chunk = self._chunks.get(number >> _CHUNK_BITS)
        return chunk is not None and bool(chunk[(number & _WITHIN) >> 3] >> (number & 7) & 1)

    def discard_range(self, lo: int, hi: int) -> None:
        """Take out the numbers in [lo, hi), which are multiples of 8192."""
        assert not (lo | hi) & _WITHIN, (lo, hi)
        first, last = lo >> _CHUNK_BITS, hi >> _CHUNK_BITS
        for number in [number for number in self._chunks if first <= number < last]:
            del self._chunks[number]
