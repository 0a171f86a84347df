"""Texts: lengths and bytes under zstd, or a dictionary of the distinct ones where they repeat.

A dictionary makes reading fast rather than the data small (zstd sees repetition by itself): only
the distinct texts become Python objects.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

_LEVEL = 3
_MOST_BYTES = 1 << 31
_U32 = np.dtype("<u4")
_COUNT = struct.Struct("<I")


def encode(values: Sequence[bytes]) -> tuple[bool, bytes]:
    """Encode texts; returns whether by dictionary, and the bytes."""
    numbers: dict[bytes, int] = {}
    most = len(values) // 4
    index = []
    for value in values:
        number = numbers.setdefault(value, len(numbers))
        index.append(number)
        if number >= most:
            break
    else:
        distinct = list(numbers)
        body = [
            _COUNT.pack(len(distinct)),
            _lengths(distinct),
            *distinct,
            np.array(index, _index_dtype(len(distinct))).tobytes(),
        ]
        return True, zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(body))
    return False, zstandard.ZstdCompressor(level=_LEVEL).compress(
        b"".join([_lengths(values), *values])
    )


def decode(data: bytes, count: int) -> npt.NDArray[Any]:
    """Decode `count` texts to an object array of bytes.

    Raises:
        ValueError: the bytes are damaged.
    """
    body = _decompress(data)
    texts, end = _texts(body, 0, count)
    if end != len(body):
        raise ValueError(f"texts: {len(body) - end} bytes too many")
    array = np.empty(count, object)
    array[:] = texts
    return array


def decode_dictionary(data: bytes, count: int) -> npt.NDArray[Any]:
    """Decode `count` texts that were encoded by dictionary.

    Raises:
        ValueError: the bytes are damaged.
    """
    body = _decompress(data)
    if len(body) < _COUNT.size:
        raise ValueError("texts: no dictionary")
    (size,) = _COUNT.unpack_from(body)
    texts, end = _texts(body, _COUNT.size, size)
    dtype = _index_dtype(size)
    if len(body) - end != count * dtype.itemsize:
        raise ValueError(f"texts: {len(body) - end} bytes of index for {count} values")
    index = np.frombuffer(body, dtype, count, end)
    if count and int(index.max()) >= size:
        raise ValueError("texts: an index outside the dictionary")
    distinct = np.empty(size, object)
    distinct[:] = texts
    array: npt.NDArray[Any] = distinct[index]
    return array


def _index_dtype(size: int) -> np.dtype[Any]:
    return np.dtype("u1" if size <= 1 << 8 else "<u2" if size <= 1 << 16 else "<u4")


def _lengths(values: Sequence[bytes]) -> bytes:
    return np.fromiter(map(len, values), _U32, len(values)).tobytes()


def _texts(body: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    start = at + 4 * count
    if start > len(body):
        raise ValueError("texts: the lengths are cut off")
    lengths = np.frombuffer(body, _U32, count, at).astype(np.int64)
    ends = start + np.cumsum(lengths)
    end = int(ends[-1]) if count else start
    if end > len(body):
        raise ValueError("texts: the bytes are cut off")
    starts = (ends - lengths).tolist()
    return [body[lo:hi] for lo, hi in zip(starts, ends.tolist(), strict=True)], end


def _decompress(data: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=_MOST_BYTES)
    except zstandard.ZstdError as error:
        raise ValueError(f"texts: {error}") from error
