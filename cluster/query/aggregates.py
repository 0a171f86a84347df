"""Aggregate functions, and their accumulation over filtered batches (sql.md 3.6, 6.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import ClusterError, StatusCode
from iotdb_engine.types import BATCH_DTYPES, Aggregate, Column, ColumnBatch, DataType

NUMERIC_TYPES = frozenset({DataType.INT32, DataType.INT64, DataType.FLOAT, DataType.DOUBLE})


@dataclass(frozen=True)
class AggregateFunction:
    """One aggregate function.

    Attributes:
        name: lower-case.
        numeric_only: whether it refuses BOOLEAN and TEXT.
        fixed_type: type of its values; None: that of the series.
        value: from a series' aggregate to the value; None: null. Called with count > 0 only.
        empty: the value over no points; None: null.
    """

    name: str
    numeric_only: bool
    fixed_type: DataType | None
    value: Callable[[Aggregate], Any]
    empty: int | None = None

    def result_type(self, series_type: DataType) -> DataType:
        """Return the type of the values for a series of some type."""
        return series_type if self.fixed_type is None else self.fixed_type

    def check_type(self, series_type: DataType) -> None:
        """Raise ClusterError QUERY_PROCESS_ERROR if the function does not take the type."""
        if self.numeric_only and series_type not in NUMERIC_TYPES:
            raise ClusterError(
                StatusCode.QUERY_PROCESS_ERROR,
                "Error occurred in query process: Aggregate functions [AVG, SUM, EXTREME, "
                "MIN_VALUE, MAX_VALUE] only support numeric data types [INT32, INT64, FLOAT, "
                "DOUBLE]",
            )

    def of(self, aggregate: Aggregate) -> Any:  # noqa: ANN401
        """Return the value, None for null."""
        return self.value(aggregate) if aggregate.count else self.empty


def _average(aggregate: Aggregate) -> float | None:
    return None if aggregate.total is None else aggregate.total / aggregate.count


def _extreme(aggregate: Aggregate) -> Any:  # noqa: ANN401
    """Return the value of greatest magnitude; of -5 and 5 it is 5."""
    low, high = aggregate.minimum, aggregate.maximum
    if low is None or high is None:
        return high if low is None else low
    return low if abs(low) > abs(high) else high


_I64 = DataType.INT64
_F64 = DataType.DOUBLE

AGGREGATE_FUNCTIONS: dict[str, AggregateFunction] = {
    function.name: function
    for function in (
        AggregateFunction("count", False, _I64, lambda a: a.count, empty=0),
        AggregateFunction("sum", True, _F64, lambda a: a.total),
        AggregateFunction("avg", True, _F64, _average),
        AggregateFunction("min_value", True, None, lambda a: a.minimum),
        AggregateFunction("max_value", True, None, lambda a: a.maximum),
        AggregateFunction("extreme", True, None, _extreme),
        AggregateFunction("first_value", False, None, lambda a: a.first),
        AggregateFunction("last_value", False, None, lambda a: a.last),
        AggregateFunction("min_time", False, _I64, lambda a: a.min_time),
        AggregateFunction("max_time", False, _I64, lambda a: a.max_time),
    )
}
"""By lower-case name."""


def accumulate(aggregate: Aggregate, times: npt.NDArray[np.int64], column: Column) -> None:
    """Add a batch's points of one series, later than all before.

    Args:
        aggregate: changed in place.
        times: int64[n], ascending.
        column: the values at these times.
    """
    values = column.values
    if column.valid is not None and not column.valid.all():
        times, values = times[column.valid], values[column.valid]
    if not len(times):
        return
    if not aggregate.count:
        aggregate.min_time = int(times[0])
        aggregate.first = _python_value(values[0])
    aggregate.count += len(times)
    aggregate.max_time = int(times[-1])
    aggregate.last = _python_value(values[-1])
    if column.type in NUMERIC_TYPES:
        _accumulate_numbers(aggregate, values)


def _accumulate_numbers(aggregate: Aggregate, values: npt.NDArray[Any]) -> None:
    # fmin and fmax pass over NaN unless there is nothing else
    low = np.fmin.reduce(values)
    high = np.fmax.reduce(values)
    if aggregate.minimum is not None:
        low = np.fmin(low, aggregate.minimum)
        high = np.fmax(high, aggregate.maximum)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are results
        total = float(np.sum(values, dtype=np.float64))
    aggregate.minimum = low.item()
    aggregate.maximum = high.item()
    aggregate.total = (aggregate.total or 0.0) + total


def _python_value(value: Any) -> Any:  # noqa: ANN401
    return value.item() if isinstance(value, np.generic) else value


def aggregate_row(cells: Sequence[tuple[DataType, Any]]) -> ColumnBatch:
    """Return the one row of an aggregation; a None cell is null, whatever the others are."""
    return ColumnBatch(
        np.zeros(1, dtype=np.int64),
        tuple(_cell_column(data_type, value) for data_type, value in cells),
    )


def _cell_column(data_type: DataType, value: Any) -> Column:  # noqa: ANN401
    values = np.zeros(1, dtype=BATCH_DTYPES[data_type])
    if value is None:
        return Column(data_type, values, np.zeros(1, dtype=np.bool_))
    values[0] = value
    return Column(data_type, values)
