"""Values as texts, as Java prints them (sql.md 6.3)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from iotdb_engine.types import DataType


def text_of_values(values: npt.NDArray[Any], data_type: DataType) -> npt.NDArray[Any]:
    """Return an object array of bytes: each value as text."""
    texts = np.empty(len(values), dtype=object)
    texts[:] = [text_of(value, data_type).encode() for value in values.tolist()]
    return texts


def text_of(value: Any, data_type: DataType) -> str:  # noqa: ANN401
    """Return one value (Python's, bytes for TEXT) as text."""
    if data_type is DataType.TEXT:
        return bytes(value).decode("utf-8", "replace")
    if data_type is DataType.BOOLEAN:
        return "true" if value else "false"
    if data_type is DataType.FLOAT:
        return java_float(np.float32(value))
    if data_type is DataType.DOUBLE:
        if 1e-3 <= abs(value) < 1e7:
            return repr(float(value))  # the same digits, and ten times faster
        return java_float(np.float64(value))
    return str(value)


def java_float(value: np.floating[Any]) -> str:
    """Return a number as `String.valueOf` does: shortest digits that read back as the same.

    Decimal for magnitudes in [10^-3, 10^7), else scientific, always with a digit after the point.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    if 1e-3 <= abs(float(value)) < 1e7:
        return np.format_float_positional(value, unique=True, trim="0")
    digits, exponent = np.format_float_scientific(value, unique=True, trim="0").split("e")
    return f"{digits}E{int(exponent)}"
