"""The decimals that a series keeps: RLE and TS_2DIFF of FLOAT and DOUBLE round what is written.

0.13 rounds when it reads from memory and when it flushes. Here values are rounded once, before they
go to the log, so that all replicas have the same ones, whenever they are stored. Sources: sql.md
1.9; apache/iotdb pull request 83 for the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.schema.encodings import Encoding
from cluster.schema.series import SeriesInfo
from iotdb_engine import DataType
from iotdb_engine.types import BATCH_DTYPES, WIRE_DTYPES

_ROUNDING = (Encoding.RLE, Encoding.TS_2DIFF)
_PROPERTY = "max_point_number"
_MOST = 16
"""Decimals from which on a value of 64 bits is as it was."""
_EXACT = float(1 << 52)
"""From here on there is nothing behind the point."""


class RoundedColumn(NamedTuple):
    """A column of an insert that is rounded, and to how many decimals."""

    number: int
    digits: int


def digits_of(series: SeriesInfo, default: int) -> int | None:
    """Return to how many decimals the values of a series are rounded, None when they are not.

    Args:
        series: its MAX_POINT_NUMBER counts when it is a whole number from 0 on.
        default: `float_precision`.
    """
    if series.data_type not in (DataType.FLOAT, DataType.DOUBLE):
        return None
    if series.encoding not in _ROUNDING:
        return None
    given = [value for key, value in series.props if key.lower() == _PROPERTY]
    text = given[-1].strip() if given else ""
    digits = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default
    return None if digits >= _MOST else digits


def rounded(
    values: bytes | memoryview,
    row_count: int,
    types: Sequence[DataType],
    columns: Sequence[RoundedColumn],
) -> bytes:
    """Return the values of a fragment with some of the columns rounded.

    Args:
        values: of all columns, as a Fragment has them.
        row_count: rows.
        types: of all columns.
        columns: those to be rounded, by number.
    """
    digits = dict(columns)
    changed = bytearray(values)
    at = 0
    for number, data_type in enumerate(types):
        wire = WIRE_DTYPES.get(data_type)
        if wire is None:
            for _ in range(row_count):
                at += 4 + int.from_bytes(changed[at : at + 4], "big")
            continue
        end = at + wire.itemsize * row_count
        if number in digits:
            column = np.frombuffer(changed, wire, row_count, at).astype(BATCH_DTYPES[data_type])
            changed[at:end] = round_values(column, digits[number]).astype(wire).tobytes()
        at = end
    return bytes(changed)


def round_values(values: npt.NDArray[Any], digits: int) -> npt.NDArray[Any]:
    """Return float32 or float64 values rounded to so many decimals, halves up.

    What is no finite number, or too large to have decimals, stays as it is.
    """
    kind = values.dtype.type
    wide = values.astype(np.float64)
    changes = np.isfinite(wide) & (np.abs(wide) < _EXACT)
    wide[~changes] = 0.0
    whole = np.floor(wide + 0.5)
    scaled = np.floor((wide - whole) * 10.0**digits + 0.5)
    behind = scaled.astype(kind) / kind(10.0**digits)
    return np.where(changes, (whole.astype(kind) + behind).astype(kind), values)
