"""CAST, and constants given as attribute texts. Narrowing follows Java's casts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.query.functions.function import (
    Attributes,
    Bind,
    BoundFunction,
    FunctionError,
    PointStep,
    Times,
    Values,
    over_points,
    required,
    single_argument,
)
from cluster.query.text_values import text_of_values
from iotdb_engine.types import BATCH_DTYPES, DataType

_Mask = npt.NDArray[np.bool_]
_INTEGERS = {
    DataType.INT32: (-(1 << 31), (1 << 31) - 1),
    DataType.INT64: (-(1 << 63), (1 << 63) - 1),
}


def type_attribute(attributes: Attributes) -> DataType:
    """Return the attribute `type`; FunctionError when it names none."""
    text = required(attributes, "type")
    try:
        return DataType[text.upper()]
    except KeyError:
        raise FunctionError(f"the attribute 'type' is not a data type: '{text}'") from None


def constant_of(text: str, data_type: DataType) -> Any:  # noqa: ANN401
    """Return a text as a value of a type; FunctionError when it is none."""
    try:
        if data_type is DataType.TEXT:
            return text.encode()
        if data_type is DataType.BOOLEAN:
            return text.lower() == "true"
        if data_type in _INTEGERS:
            least, most = _INTEGERS[data_type]
            value = int(text) if len(text) < 25 else 1 << 64
            if not least <= value <= most:
                raise ValueError(text)
            return value
        return float(text)
    except ValueError:
        raise FunctionError(f"'{text}' is not a value of type {data_type.name}") from None


def cast_values(values: Values, source: DataType, target: DataType) -> tuple[Values, _Mask | None]:
    """Return values as another type, and which of them could be converted (None: all)."""
    if source is target:
        return values, None
    if source is DataType.TEXT:
        return _from_texts(values, target)
    if target is DataType.TEXT:
        return text_of_values(values, source), None
    with np.errstate(all="ignore"):
        if target is DataType.BOOLEAN:
            return values != 0, None
        if target in _INTEGERS and source in (DataType.FLOAT, DataType.DOUBLE):
            return _saturated(values, target), None
        return values.astype(BATCH_DTYPES[target]), None


def _saturated(values: Values, target: DataType) -> Values:
    """Return floats as integers: toward zero, at the bounds outside them, NaN as 0."""
    least, most = _INTEGERS[target]
    wide = np.trunc(values.astype(np.float64))
    wide[np.isnan(wide)] = 0.0
    low, high = wide <= float(least), wide >= float(most)
    inside = np.where(low | high, 0.0, wide).astype(BATCH_DTYPES[target])
    return np.where(low, least, np.where(high, most, inside)).astype(inside.dtype)


def _from_texts(values: Values, target: DataType) -> tuple[Values, _Mask | None]:
    texts = [bytes(value).decode("utf-8", "replace") for value in values.tolist()]
    if target is DataType.BOOLEAN:
        truths = [text not in ("false", "") for text in texts]
        return np.array(truths, dtype=np.bool_), None
    numbers = np.zeros(len(texts), np.float64)
    valid = np.ones(len(texts), np.bool_)
    for row, text in enumerate(texts):  # TEXT has no vectorised parser that leaves out bad values
        try:
            numbers[row] = float(text)
        except ValueError:
            valid[row] = False
    converted, _ = cast_values(numbers, DataType.DOUBLE, target)
    return converted, None if valid.all() else valid


def _cast(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    source = single_argument(types, tuple(DataType))
    target = type_attribute(attributes)

    def step(_: Times, values: Values) -> tuple[Values, _Mask | None]:
        return cast_values(values, source, target)

    def start() -> PointStep:
        return step

    return over_points(target, start)


CASTING: dict[str, Bind] = {"cast": _cast}
