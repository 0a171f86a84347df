"""Numbers as texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.query.text_values import java_float, text_of
from iotdb_engine import DataType


@given(st.floats())
@example(1e-3)
@example(np.nextafter(1e-3, 0))
@example(1e7)
@example(np.nextafter(1e7, 0))
@example(5e-324)
@example(9007199254740993.0)
def test_doubles_read_fast_are_as_java_prints_them(value: float) -> None:
    assert text_of(value, DataType.DOUBLE) == java_float(np.float64(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (100.0, "100.0"),
        (-1234567.5, "-1234567.5"),
        (1e7, "1.0E7"),
        (0.0009, "9.0E-4"),
        (-0.0, "-0.0"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_doubles(value: float, text: str) -> None:
    assert text_of(value, DataType.DOUBLE) == text
