"""Functions of successive points: differences and derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cluster.query.functions.function import (
    NUMERIC,
    Attributes,
    Bind,
    BoundFunction,
    PointStep,
    Times,
    Values,
    over_points,
    single_argument,
)
from iotdb_engine.types import DataType

_Mask = npt.NDArray[np.bool_]
_Compute = Callable[[Times, Values], Values]
"""n + 1 successive points → n values, one for each but the first."""


def _successive(data_type: DataType, compute: _Compute) -> BoundFunction:
    def start() -> PointStep:
        before: tuple[Times, Values] | None = None

        def step(times: Times, values: Values) -> tuple[Values, _Mask | None]:
            nonlocal before
            if not len(times):
                return values, None
            first = before is None
            known_times, known_values = (times[:1], values[:1]) if before is None else before
            before = times[-1:], values[-1:]
            with np.errstate(all="ignore"):  # integers wrap, floats overflow to infinity
                result = compute(
                    np.concatenate([known_times, times]), np.concatenate([known_values, values])
                )
            if not first:
                return result, None
            valid = np.ones(len(times), np.bool_)
            valid[0] = False
            return result, valid

        return step

    return over_points(data_type, start)


def _difference(types: Sequence[DataType], _: Attributes) -> BoundFunction:
    return _successive(single_argument(types, NUMERIC), lambda _, values: np.diff(values))


def _non_negative_difference(types: Sequence[DataType], _: Attributes) -> BoundFunction:
    return _successive(single_argument(types, NUMERIC), lambda _, values: np.abs(np.diff(values)))


def _time_difference(types: Sequence[DataType], _: Attributes) -> BoundFunction:
    single_argument(types, tuple(DataType))
    return _successive(DataType.INT64, lambda times, _: np.diff(times))


def _slope(times: Times, values: Values) -> Values:
    slope: Values = np.diff(values).astype(np.float64) / np.diff(times)
    return slope


def _derivative(types: Sequence[DataType], _: Attributes) -> BoundFunction:
    single_argument(types, NUMERIC)
    return _successive(DataType.DOUBLE, _slope)


def _non_negative_derivative(types: Sequence[DataType], _: Attributes) -> BoundFunction:
    single_argument(types, NUMERIC)
    return _successive(DataType.DOUBLE, lambda times, values: np.abs(_slope(times, values)))


SERIES: dict[str, Bind] = {
    "difference": _difference,
    "non_negative_difference": _non_negative_difference,
    "time_difference": _time_difference,
    "derivative": _derivative,
    "non_negative_derivative": _non_negative_derivative,
}
"""By lower-case name."""
