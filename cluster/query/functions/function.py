"""What a time-series function is.

A function is bound to the types of its arguments and its attributes once, when the query is
planned. Each run of the query starts it afresh: what it remembers between batches belongs to the
run. Functions of two kinds exist. *Immediate* ones give at most one value at each row they see,
at once. *Delayed* ones (extremes, runs) give values at timestamps of earlier rows, in time order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from iotdb_engine.types import BATCH_DTYPES, Column, DataType

Times = npt.NDArray[np.int64]
Values = npt.NDArray[Any]

RowStep = Callable[[Times, Sequence[Column]], Column]
"""Times and argument columns of a batch → the function's column at the same times."""

PointStep = Callable[[Times, Values], tuple[Values, npt.NDArray[np.bool_] | None]]
"""Points of one argument (no nulls) → a value for each, and which of them are valid."""


class Points(NamedTuple):
    """Points in time order."""

    times: Times
    values: Values


class DelayedRun(Protocol):
    """One run of a delayed function."""

    def push(self, times: Times, values: Values) -> Points:
        """Take the next points of the argument (no nulls); return what can be told by now."""
        ...

    def finish(self) -> Points:
        """Return the rest."""
        ...


class ImmediateFunction(NamedTuple):
    """A bound function that gives values at the rows it sees."""

    data_type: DataType
    start: Callable[[], RowStep]


class DelayedFunction(NamedTuple):
    """A bound function of one argument that gives values at times of its own."""

    data_type: DataType
    start: Callable[[], DelayedRun]


BoundFunction = ImmediateFunction | DelayedFunction


class FunctionError(Exception):
    """A function can't be bound: the text says why."""


Attributes = dict[str, str]
"""By key, as written."""

Bind = Callable[[Sequence[DataType], Attributes], BoundFunction]
"""Types of the arguments and attributes → the bound function; raises FunctionError."""


def over_points(data_type: DataType, start: Callable[[], PointStep]) -> ImmediateFunction:
    """Return an immediate function of one argument that sees its points only, never nulls."""

    def start_rows() -> RowStep:
        step = start()

        def apply(times: Times, columns: Sequence[Column]) -> Column:
            (column,) = columns
            if column.valid is None:
                values, valid = step(times, column.values)
                return Column(data_type, values, valid)
            rows = np.flatnonzero(column.valid)
            values, valid = step(times[rows], column.values[rows])
            spread = np.zeros(len(times), BATCH_DTYPES[data_type])
            spread[rows] = values
            mask = np.zeros(len(times), np.bool_)
            mask[rows] = True if valid is None else valid
            return Column(data_type, spread, mask)

        return apply

    return ImmediateFunction(data_type, start_rows)


NUMERIC = (DataType.INT32, DataType.INT64, DataType.FLOAT, DataType.DOUBLE)


def single_argument(types: Sequence[DataType], allowed: Sequence[DataType]) -> DataType:
    """Return the type of the only argument.

    Raises:
        FunctionError: there are several, or its type is not allowed.
    """
    if len(types) != 1:
        raise FunctionError(
            f"the number of the input series [{len(types)}] is not equal to the expected number [1]"
        )
    (data_type,) = types
    if data_type not in allowed:
        names = ", ".join(kind.name for kind in allowed)
        raise FunctionError(
            f"the data type of the input series (index: 0) is not valid. expected: [{names}]. "
            f"actual: {data_type.name}."
        )
    return data_type


def required(attributes: Attributes, key: str) -> str:
    """Return an attribute that must be there; FunctionError otherwise."""
    if key not in attributes:
        raise FunctionError(f"attribute '{key}' is required but was not provided")
    return attributes[key]


def integer(attributes: Attributes, key: str, default: int | None = None) -> int:
    """Return an attribute that is a 64-bit integer; FunctionError when it is none."""
    text = attributes.get(key)
    if text is None and default is not None:
        return default
    text = required(attributes, key)
    try:
        value = int(text) if len(text) < 25 else 1 << 64
    except ValueError:
        value = 1 << 64
    if not -(1 << 63) <= value < 1 << 63:
        raise FunctionError(f"attribute '{key}' must be an integer, it is '{text}'")
    return value


def number(attributes: Attributes, key: str) -> float:
    """Return an attribute that is a number; FunctionError when it is none."""
    text = required(attributes, key)
    try:
        return float(text)
    except ValueError:
        raise FunctionError(f"attribute '{key}' must be a number, it is '{text}'") from None
