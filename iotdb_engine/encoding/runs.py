"""Pages of one column one after another, decoded with few calls.

Problem: a page is decoded in some 20 µs without the GIL, then the thread has to get it back;
several threads that decode pages spend more time handing it to each other than decoding. Idea: a
standalone pcodec file is a heading, any number of chunks, and a zero; so the chunks of pages that
are encoded alike, put behind one heading, are a file that one call decodes. What is not encoded
alike, or as no version known here, is decoded page by page.

Who hands pages out joins them (`JoinedPage`); so does who reads pages that lie apart (`Run`).

That a page is no longer or shorter than it was is taken for granted: its checksum was looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
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


class Front(NamedTuple):
    """What goes before the chunks of a page.

    Attributes:
        head: of its file.
        exponent: a power of ten that the numbers are to be divided by; None: they are the values.
        encoding: of the page.
        data: all of it, the exponent, too.
    """

    head: Head
    exponent: int | None
    encoding: int
    data: bytes

    @property
    def file_at(self) -> int:
        """Where the file begins within the page."""
        return 0 if self.exponent is None else 1

    def is_like(self, other: Front) -> bool:
        """Tell whether the chunks of two pages can be decoded together."""
        return self is other or (
            self.head.like == other.head.like
            and self.exponent == other.exponent
            and self.encoding == other.encoding
        )


@lru_cache(maxsize=1024)
def front_of(encoding: int, exponent_bytes: int, start: bytes) -> Front | None:
    """Return what begins a page, of its first HEAD_BYTES and the exponent's; None: not known here.

    Nearly all pages begin alike, so this is mostly remembered, and equal ones are one object.
    """
    head = head_of(start[exponent_bytes:])
    if head is None:
        return None
    exponent = start[0] if exponent_bytes else None
    return Front(head, exponent, encoding, start[:exponent_bytes] + head.start)


class JoinedPage(NamedTuple):
    """A page of the rows of one or more pages, in the same encoding.

    Attributes:
        encoding: of the page.
        data: all of it.
        page_rows: of each page that it was made of.
        ends: where the chunks of each end; the first begins behind the front.
        front: how many bytes go before the first.
    """

    encoding: int
    data: bytes | memoryview
    page_rows: tuple[int, ...]
    ends: tuple[int, ...]
    front: int

    def part(self, first: int, stop: int) -> JoinedPage:
        """Return some of its pages, at least one."""
        if first == 0 and stop == len(self.ends):
            return self
        start = self.ends[first - 1] if first else self.front
        end = self.ends[stop - 1]
        data = b"".join((self.data[: self.front], self.data[start:end], _END))
        ends = tuple([one - start + self.front for one in self.ends[first:stop]])
        return JoinedPage(self.encoding, data, self.page_rows[first:stop], ends, self.front)


def joined(front: Front, chunks: Sequence[memoryview], rows: Sequence[int]) -> JoinedPage:
    """Return a page of all rows of pages that are alike, at least one, from their chunks."""
    ends = tuple(accumulate(map(len, chunks), initial=len(front.data)))[1:]
    data = b"".join((front.data, *chunks, _END))
    return JoinedPage(front.encoding, data, tuple(rows), ends, len(front.data))


class Run:
    """Pages of one column, one after another, as far as they are alike; begins with the front."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._parts: list[_Buffer] = [front.head.start]
        self.rows = 0

    def takes(self, front: Front) -> bool:
        """Tell whether a page may be added."""
        return self._front.is_like(front) and self.rows + front.head.rows <= MOST_ROWS

    def add(self, front: Front, chunk: memoryview) -> None:
        """Add a page that is a file of one chunk: what lies between heading and ending zero."""
        self._parts.append(chunk)
        self.rows += front.head.rows

    def decode(self, out: npt.NDArray[Any]) -> None:
        """Decode all pages into a contiguous array of as many rows.

        Raises:
            ValueError: they are damaged, or not of the type of `out`.
        """
        decode_file(self._front, b"".join([*self._parts, _END]), out)


def decode_file(front: Front, file: bytes, out: npt.NDArray[Any]) -> None:
    """Decode a file of any number of chunks into a contiguous array.

    Args:
        front: of the page that it is, or of pages that were joined.
        file: from its heading to its end, without the exponent.
        out: of as many rows.

    Raises:
        ValueError: it is damaged, or not of the type of `out`.
    """
    dtype = front.head.like.dtype
    if front.exponent is not None:
        if dtype.kind != "i" or out.dtype.kind != "f":
            raise ValueError(f"decimals: {dtype} for {out.dtype}")
        integers = _scratch(len(out), dtype)
        _decompress(file, integers)
        decimal.restore_into(integers, front.exponent, out)
    elif dtype == out.dtype:
        _decompress(file, out)
    elif dtype.kind == out.dtype.kind == "i" and dtype.itemsize < out.itemsize:
        narrow = _scratch(len(out), dtype)
        _decompress(file, narrow)
        out[:] = narrow
    else:
        raise ValueError(f"pcodec: {dtype}, not {out.dtype}")


def _decompress(file: bytes, out: npt.NDArray[Any]) -> None:
    try:
        progress = pco.simple_decompress_into(file, out)
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
