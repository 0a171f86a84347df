"""Aggregate functions: from partial aggregates over windows to columns (sql.md 3.6, 6.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.query.errors import query_error
from cluster.scan.windows import NUMERIC_TYPES, AggregateTable, Needs, WindowAggregates
from iotdb_engine.types import Column, DataType

_Values = npt.NDArray[Any]


@dataclass(frozen=True)
class AggregateFunction:
    """One aggregate function.

    Attributes:
        name: lower-case.
        numeric_only: whether it refuses BOOLEAN and TEXT.
        fixed_type: type of its values; None: that of the series.
        needs: which parts of the aggregates it takes.
        values: its value for each window; anything where the count is 0.
        counts: whether no points give the value (0) instead of null.
    """

    name: str
    numeric_only: bool
    fixed_type: DataType | None
    needs: Needs
    values: Callable[[WindowAggregates], _Values]
    counts: bool = False

    def __hash__(self) -> int:
        return hash(self.name)

    def result_type(self, series_type: DataType) -> DataType:
        """Return the type of the values for a series of some type."""
        return series_type if self.fixed_type is None else self.fixed_type

    def check_type(self, series_type: DataType) -> None:
        """Raise ClusterError QUERY_PROCESS_ERROR if the function does not take the type."""
        if self.numeric_only and series_type not in NUMERIC_TYPES:
            raise query_error(
                "Aggregate functions [AVG, SUM, EXTREME, MIN_VALUE, MAX_VALUE] only support "
                "numeric data types [INT32, INT64, FLOAT, DOUBLE]"
            )

    def columns(self, aggregates: WindowAggregates) -> list[Column]:
        """Return `column` for each of several series."""
        values = self.values(aggregates)
        data_type = self.result_type(aggregates.data_type)
        if self.counts:
            return [Column(data_type, row) for row in values]
        valid = aggregates.count > 0
        if valid.all():
            return [Column(data_type, row) for row in values]
        whole: list[bool] = np.logical_and.reduce(valid, axis=-1).tolist()
        return [
            Column(data_type, row, None if every else some)
            for row, some, every in zip(values, valid, whole, strict=True)
        ]

    def column(self, aggregates: WindowAggregates) -> Column:
        """Return the values over the windows; null where there are no points."""
        values = self.values(aggregates)
        data_type = self.result_type(aggregates.data_type)
        if self.counts:
            return Column(data_type, values)
        valid = aggregates.count > 0
        return Column(data_type, values, None if valid.all() else valid)


class FunctionCells:
    """Values of functions of a table of aggregates, worked out for all series of a type at once."""

    def __init__(self, table: AggregateTable) -> None:
        self._table = table
        self._done: dict[str, list[Column | None]] = {}

    def column(self, function: AggregateFunction, number: int) -> Column:
        """Return the values of a function of one of the series, whose type it takes."""
        columns = self._done.get(function.name)
        if columns is None:
            columns = self._done[function.name] = self._columns(function)
        found = columns[number]
        assert found is not None
        return found

    def _columns(self, function: AggregateFunction) -> list[Column | None]:
        """Return the values for each series; None where the function does not take the type."""
        table = self._table
        columns: list[Column | None] = [None] * len(table)
        for kind, block in table.blocks.items():
            if not function.numeric_only or kind in NUMERIC_TYPES:
                numbers = table.numbers_of(kind)
                for number, column in zip(numbers, function.columns(block), strict=True):
                    columns[number] = column
        return columns


def _present(values: _Values | None) -> _Values:
    assert values is not None
    return values


def _average(aggregates: WindowAggregates) -> _Values:
    with np.errstate(invalid="ignore", over="ignore"):
        average: _Values = _present(aggregates.total) / np.maximum(aggregates.count, 1)
    return average


def _extreme(aggregates: WindowAggregates) -> _Values:
    """Return the value of greatest magnitude; of -5 and 5 it is 5."""
    low, high = _present(aggregates.minimum), _present(aggregates.maximum)
    # magnitudes as negative numbers: the most negative integer has no positive counterpart
    smaller = -np.abs(low.astype(np.float64)) < -np.abs(high.astype(np.float64))
    if low.dtype.kind == "i":
        smaller = np.minimum(low, -low) < np.minimum(high, -high)
    return np.where(smaller, low, high)


def _duration(aggregates: WindowAggregates) -> _Values:
    """Return the time from the first point to the last one.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: it is not an INT64.
    """
    length: _Values = _present(aggregates.max_time) - _present(aggregates.min_time)
    if ((length < 0) & (aggregates.count > 0)).any():
        raise query_error(
            "time_duration: the first and the last time of a series are further apart than an "
            "INT64 can tell; restrict the time in WHERE"
        )
    return length


_I64 = DataType.INT64
_F64 = DataType.DOUBLE

AGGREGATE_FUNCTIONS: dict[str, AggregateFunction] = {
    function.name: function
    for function in (
        AggregateFunction("count", False, _I64, Needs.NOTHING, lambda a: a.count, counts=True),
        AggregateFunction("sum", True, _F64, Needs.TOTAL, lambda a: _present(a.total)),
        AggregateFunction("avg", True, _F64, Needs.TOTAL, _average),
        AggregateFunction("min_value", True, None, Needs.EXTREMES, lambda a: _present(a.minimum)),
        AggregateFunction("max_value", True, None, Needs.EXTREMES, lambda a: _present(a.maximum)),
        AggregateFunction("extreme", True, None, Needs.EXTREMES, _extreme),
        AggregateFunction("first_value", False, None, Needs.FIRST, lambda a: _present(a.first)),
        AggregateFunction("last_value", False, None, Needs.LAST, lambda a: _present(a.last)),
        AggregateFunction("min_time", False, _I64, Needs.FIRST, lambda a: _present(a.min_time)),
        AggregateFunction("max_time", False, _I64, Needs.LAST, lambda a: _present(a.max_time)),
    )
}
"""By lower-case name."""

MODERN_AGGREGATES: dict[str, AggregateFunction] = {
    "time_duration": AggregateFunction(
        "time_duration",
        False,
        _I64,
        Needs.FIRST | Needs.LAST,
        _duration,
    )
}
"""Those that only 1.x has, by lower-case name; see `row_aggregates` for the others."""
