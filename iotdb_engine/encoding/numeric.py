"""Numbers by pcodec (measured in docs/notes/pcodec.md); too few of them to be worth it, raw."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pcodec import ChunkConfig, DeltaSpec, ModeSpec
from pcodec import standalone as pco

RAW_BELOW = 5
"""Values below this count are smaller raw than with pcodec's ~26 bytes of heading."""
RAW_BELOW_TIMES = 5

_FEW = 1024
_LEVEL = 4
_CONFIG = ChunkConfig(compression_level=_LEVEL)
# For few values, finding out the best delta order takes longer than encoding: first differences.
_CONFIG_FEW = ChunkConfig(compression_level=_LEVEL, delta_spec=DeltaSpec.try_consecutive(1))
_CONFIG_TIMES = ChunkConfig(
    compression_level=_LEVEL, mode_spec=ModeSpec.auto(), delta_spec=DeltaSpec.try_consecutive(1)
)


def encode(values: npt.NDArray[Any]) -> bytes:
    """Encode a contiguous int32, int64, float32 or float64 array; NaN payloads survive."""
    config = _CONFIG_FEW if len(values) < _FEW else _CONFIG
    data: bytes = pco.simple_compress(values, config)
    return data


def encode_times(times: npt.NDArray[np.int64]) -> bytes:
    """Encode ascending times by their differences; a regular series takes about 40 bytes."""
    data: bytes = pco.simple_compress(times, _CONFIG_TIMES)
    return data


def decode(data: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Decode what `encode` or `encode_times` made.

    Raises:
        ValueError: the bytes are not such a file, or hold another type.
    """
    try:
        values = pco.simple_decompress(data)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"pcodec: {error}") from error
    if values is None or values.dtype != dtype:
        raise ValueError(f"pcodec: {None if values is None else values.dtype}, not {dtype}")
    array: npt.NDArray[Any] = values
    return array


def encode_raw(values: npt.NDArray[Any]) -> bytes:
    """Return the values as little-endian bytes."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def decode_raw(data: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Decode what `encode_raw` made."""
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False)
