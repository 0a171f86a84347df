"""Pages of one column one after another, decoded with few calls.

Problem: a page is decoded in some 20 µs without the GIL, then the thread has to get it back;
several threads that decode pages spend more time handing it to each other than decoding. Idea: a
standalone pcodec file is a heading, any number of chunks, and a zero; so the chunks of pages that
are encoded alike, put behind one heading, are a file that one call decodes. What is not encoded
alike, or as no version known here, is decoded page by page.

That a page is no longer or shorter than it was is taken for granted: its checksum was looked at.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pcodec import standalone as pco

from iotdb_engine.encoding import decimal

_MAGIC = b"pco!"
_STANDALONE_VERSION = 3
_VARINT_AT = 6
_POWER = 0x3F
_POWER_BITS = 6
_VERSION_BYTES = 2
_PREAMBLE_BYTES = 4
"""Of a chunk: a byte for its type, three for how many numbers it has, less one."""
_END = b"\0"
_DTYPES: dict[int, np.dtype[Any]] = {
    3: np.dtype(np.int32),
    4: np.dtype(np.int64),
    5: np.dtype(np.float32),
    6: np.dtype(np.float64),
    8: np.dtype(np.int16),
}
MOST_ROWS = 1 << 17
"""Decoded by one call: what is decoded on the way stays in the CPU's cache."""
HEAD_BYTES = 15
"""Heading and preamble of a file of as many numbers as pages have; larger ones are not joined."""

_Buffer = bytes | memoryview


class Like(NamedTuple):
    """What files have in common that one call can decode."""

    version: bytes
    dtype: np.dtype[Any]


class Head(NamedTuple):
    """How a standalone pcodec file begins.

    Attributes:
        like: of its first chunk.
        rows: numbers of its first chunk.
        start: its first bytes, up to the chunk.
    """

    like: Like
    rows: int
    start: bytes


@lru_cache(maxsize=1024)
def head_of(start: bytes) -> Head | None:
    """Return what the first HEAD_BYTES of a file say; None where they are of an unknown version.

    Nearly all pages begin alike, so this is mostly remembered.
    """
    if start[:4] != _MAGIC or len(start) <= _VARINT_AT or start[4] != _STANDALONE_VERSION:
        return None
    if start[5] != 0:  # says one type for all chunks
        return None
    hint_bits = _POWER_BITS + (start[_VARINT_AT] & _POWER)
    at = _VARINT_AT + (hint_bits + 7) // 8 + _VERSION_BYTES
    if len(start) < at + _PREAMBLE_BYTES:
        return None
    dtype = _DTYPES.get(start[at])
    if dtype is None:
        return None
    rows = 1 + int.from_bytes(start[at + 1 : at + _PREAMBLE_BYTES], "little")
    return Head(Like(start[at - _VERSION_BYTES : at], dtype), rows, start[:at])


class Run:
    """Pages of one column, one after another, as far as they are alike.

    Args:
        head: of the first page.
        exponent: a power of ten that the numbers are to be divided by; None: they are the values.
    """

    def __init__(self, head: Head, exponent: int | None) -> None:
        self._like = head.like
        self._exponent = exponent
        self._parts: list[_Buffer] = [head.start]
        self.rows = 0

    def takes(self, head: Head, exponent: int | None) -> bool:
        """Tell whether a page may be added."""
        like = head.like
        return (
            (like is self._like or like == self._like)
            and exponent == self._exponent
            and self.rows + head.rows <= MOST_ROWS
        )

    def add(self, head: Head, chunk: memoryview) -> None:
        """Add a page that is a file of one chunk: what lies between heading and ending zero."""
        self._parts.append(chunk)
        self.rows += head.rows

    def decode(self, out: npt.NDArray[Any]) -> None:
        """Decode all pages into a contiguous array of as many rows.

        Raises:
            ValueError: they are damaged, or not of the type of `out`.
        """
        dtype = self._like.dtype
        if self._exponent is not None:
            if dtype.kind != "i" or out.dtype.kind != "f":
                raise ValueError(f"decimals: {dtype} for {out.dtype}")
            integers = _scratch(len(out), dtype)
            self._decompress(integers)
            decimal.restore_into(integers, self._exponent, out)
        elif dtype == out.dtype:
            self._decompress(out)
        elif dtype.kind == out.dtype.kind == "i" and dtype.itemsize < out.itemsize:
            narrow = _scratch(len(out), dtype)
            self._decompress(narrow)
            out[:] = narrow
        else:
            raise ValueError(f"pcodec: {dtype}, not {out.dtype}")

    def _decompress(self, out: npt.NDArray[Any]) -> None:
        try:
            progress = pco.simple_decompress_into(b"".join([*self._parts, _END]), out)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"pcodec: {error}") from error
        if progress.n_processed != len(out) or not progress.finished:
            raise ValueError(f"pcodec: not {len(out)} values")


_kept = threading.local()


def _scratch(rows: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return memory of the calling thread, at most 1 MiB of which is kept: touched before."""
    size = rows * dtype.itemsize
    most = MOST_ROWS * np.dtype(np.int64).itemsize
    if size > most:
        return np.empty(rows, dtype)
    memory: npt.NDArray[np.uint8] | None = getattr(_kept, "memory", None)
    if memory is None or len(memory) < size:
        memory = _kept.memory = np.empty(size, np.uint8)
    return memory[:size].view(dtype)
