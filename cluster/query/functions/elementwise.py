"""Functions of one row at a time: mathematics, comparisons, texts, constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cluster.query.functions.casting import constant_of, type_attribute
from cluster.query.functions.function import (
    NUMERIC,
    Attributes,
    Bind,
    BoundFunction,
    FunctionError,
    ImmediateFunction,
    RowStep,
    Times,
    Values,
    integer,
    number,
    over_points,
    required,
    single_argument,
)
from cluster.query.functions.texts import round_to_digits
from cluster.scan.regexps import Regexp
from iotdb_engine.types import BATCH_DTYPES, Column, DataType

_MATH: dict[str, np.ufunc] = {
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "degrees": np.degrees,
    "radians": np.radians,
    "sign": np.sign,
    "ceil": np.ceil,
    "floor": np.floor,
    "round": np.rint,
    "exp": np.exp,
    "ln": np.log,
    "log10": np.log10,
    "sqrt": np.sqrt,
}


def _math(ufunc: np.ufunc) -> Bind:
    def bind(types: Sequence[DataType], _: Attributes) -> BoundFunction:
        single_argument(types, NUMERIC)
        return _per_value(DataType.DOUBLE, lambda values: ufunc(values.astype(np.float64)))

    return bind


def _per_value(data_type: DataType, compute: Callable[[Values], Values]) -> ImmediateFunction:
    def step(_: Times, values: Values) -> tuple[Values, None]:
        with np.errstate(all="ignore"):  # infinities and NaN are results
            return compute(values), None

    return over_points(data_type, lambda: step)


def _abs(types: Sequence[DataType], _: Attributes) -> BoundFunction:
    return _per_value(single_argument(types, NUMERIC), np.abs)


def _in_range(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    single_argument(types, NUMERIC)
    lower, upper = number(attributes, "lower"), number(attributes, "upper")
    if upper < lower:
        raise FunctionError("Upper can not be smaller than lower.")
    return _per_value(DataType.BOOLEAN, lambda values: (values >= lower) & (values <= upper))


def _on_off(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    single_argument(types, NUMERIC)
    threshold = number(attributes, "threshold")
    return _per_value(DataType.BOOLEAN, lambda values: values >= threshold)


def _text_test(test: Callable[[bytes], bool]) -> ImmediateFunction:
    def compute(values: Values) -> Values:
        return np.fromiter(map(test, values.tolist()), dtype=np.bool_, count=len(values))

    return _per_value(DataType.BOOLEAN, compute)


def _string_contains(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    single_argument(types, (DataType.TEXT,))
    part = required(attributes, "s").encode()
    return _text_test(lambda text: part in text)


def _string_matches(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    single_argument(types, (DataType.TEXT,))
    pattern = required(attributes, "regex")
    try:
        regexp = Regexp(pattern)
    except ValueError as error:
        raise FunctionError(str(error)) from error
    return _text_test(regexp.matches)


def _constant(data_type: DataType, value: object) -> ImmediateFunction:
    """Return the function that has one value wherever some argument has one."""

    def apply(times: Times, columns: Sequence[Column]) -> Column:
        values = np.empty(len(times), BATCH_DTYPES[data_type])
        values[:] = value
        valids = [column.valid for column in columns if column.valid is not None]
        if len(valids) < len(columns):
            return Column(data_type, values)
        valid = np.logical_or.reduce(valids)
        return Column(data_type, values, valid)

    def start() -> RowStep:
        return apply

    return ImmediateFunction(data_type, start)


def _named_constant(value: float) -> Bind:
    def bind(types: Sequence[DataType], _: Attributes) -> BoundFunction:
        _some_argument(types)
        return _constant(DataType.DOUBLE, value)

    return bind


def _const(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    _some_argument(types)
    text = required(attributes, "value")
    data_type = type_attribute(attributes)
    return _constant(data_type, constant_of(text, data_type))


def _some_argument(types: Sequence[DataType]) -> None:
    if not types:
        raise FunctionError("at least one input series is needed")


def _round(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    if "1" in attributes:  # of 1.x: the number of digits
        return round_to_digits(single_argument(types, NUMERIC), integer(attributes, "1"))
    return _math(_MATH["round"])(types, attributes)


ELEMENTWISE: dict[str, Bind] = {name: _math(ufunc) for name, ufunc in _MATH.items()} | {
    "round": _round,
    "abs": _abs,
    "in_range": _in_range,
    "on_off": _on_off,
    "string_contains": _string_contains,
    "string_matches": _string_matches,
    "pi": _named_constant(np.pi),
    "e": _named_constant(np.e),
    "const": _const,
}
"""By lower-case name."""
