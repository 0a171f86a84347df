"""Encodings: arrays of one type to bytes and back. They know no file, no page and no key.

Start at `encode_values` and `decode_values`; `numeric`, `boolean` and `text` hold one codec each.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from iotdb_engine.encoding import boolean, numeric, text
from iotdb_engine.types import BATCH_DTYPES, DataType


class Encoding(IntEnum):
    """How the values of a page are encoded. On disk: frozen."""

    RAW = 0
    """Little-endian values back to back."""
    PCODEC = 1
    """A standalone pcodec file."""
    BITS = 2
    """One bit a value, least significant bit first."""
    TEXT = 3
    """zstd over u32 lengths and bytes."""
    TEXT_DICTIONARY = 4
    """zstd over distinct texts and an index for each value."""


def encode_times(times: npt.NDArray[np.int64]) -> tuple[Encoding, bytes]:
    """Encode int64[n], n >= 1, ascending."""
    if len(times) < numeric.RAW_BELOW_TIMES:
        return Encoding.RAW, times.astype("<i8").tobytes()
    return Encoding.PCODEC, numeric.encode_times(times)


def encode_values(kind: DataType, values: npt.NDArray[Any]) -> tuple[Encoding, bytes]:
    """Encode a contiguous array of BATCH_DTYPES[kind], n >= 1; about 30 million doubles/s."""
    if kind is DataType.BOOLEAN:
        return Encoding.BITS, boolean.encode(values)
    if kind is DataType.TEXT:
        by_dictionary, data = text.encode(values.tolist())
        return (Encoding.TEXT_DICTIONARY if by_dictionary else Encoding.TEXT), data
    if len(values) < numeric.RAW_BELOW:
        return Encoding.RAW, numeric.encode_raw(values)
    return Encoding.PCODEC, numeric.encode(values)


def decode_values(kind: DataType, encoding: int, data: bytes, count: int) -> npt.NDArray[Any]:
    """Decode `count` values that `encode_values` (or `encode_times`, as INT64) encoded.

    Raises:
        ValueError: the bytes are not what `count`, `kind` and `encoding` say.
    """
    dtype = BATCH_DTYPES[kind]
    if encoding == Encoding.RAW:
        values = numeric.decode_raw(data, dtype)
    elif encoding == Encoding.PCODEC:
        values = numeric.decode(data, dtype)
    elif encoding == Encoding.BITS:
        values = boolean.decode(data, count)
    elif encoding == Encoding.TEXT:
        values = text.decode(data, count)
    elif encoding == Encoding.TEXT_DICTIONARY:
        values = text.decode_dictionary(data, count)
    else:
        raise ValueError(f"encoding {encoding} is unknown")
    if len(values) != count or values.dtype != dtype:
        raise ValueError(
            f"{count} values of {dtype} expected, {len(values)} of {values.dtype} found"
        )
    return values
