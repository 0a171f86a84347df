"""Aggregates of 1.x that need the rows themselves: they have no partial form at the groups.

Rows come in time order, batch by batch, each with the number of its window; the numbers never go
down. An accumulator holds arrays with an element for each window (`Mode`: one for each different
value of a window).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cluster.query.errors import query_error
from cluster.query.functions.function import FunctionError
from cluster.scan.windows import NUMERIC_TYPES
from iotdb_engine.types import BATCH_DTYPES, Column, DataType

Times = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.intp]

MAX_DIFFERENT = 8_000_000
"""Different values, of all windows together, that MODE holds."""

_MODE_ROWS = 1 << 16


class Accumulator(Protocol):
    """One aggregate over some windows."""

    def add(self, numbers: Numbers, times: Times, columns: Sequence[Column]) -> None:
        """Add rows.

        Args:
            numbers: the window of each row, ascending, not below those of earlier batches.
            times: of the rows.
            columns: the arguments.
        """
        ...

    def result(self) -> Column:
        """Return the value of each window; nothing is added afterwards."""
        ...


@dataclass(frozen=True)
class RowAggregateFunction:
    """An aggregate bound to its arguments' types: its own type, and what starts it."""

    data_type: DataType
    start: Callable[[int], Accumulator]


BindAggregate = Callable[[Sequence[DataType], Mapping[str, str]], RowAggregateFunction]
"""Types of the arguments, attributes → function; FunctionError when they do not do."""


def _runs(numbers: Numbers) -> tuple[Numbers, Numbers]:
    """Return where a new number begins in an ascending, non-empty array, and those numbers."""
    starts = np.concatenate(([0], np.flatnonzero(np.diff(numbers)) + 1)).astype(np.intp)
    return starts, numbers[starts]


def _valid_rows(column: Column, count: int) -> npt.NDArray[np.bool_]:
    return np.ones(count, np.bool_) if column.valid is None else column.valid


# ---- variance ----


class _Moments:
    """Count, mean and sum of squared differences, merged as Chan et al. do (numerically stable)."""

    def __init__(self, windows: int, *, sample: bool, root: bool) -> None:
        self._count = np.zeros(windows, np.int64)
        self._mean = np.zeros(windows)
        self._squares = np.zeros(windows)
        self._sample = sample
        self._root = root

    def add(self, numbers: Numbers, times: Times, columns: Sequence[Column]) -> None:
        keep = _valid_rows(columns[0], len(times))
        numbers, values = numbers[keep], columns[0].values[keep].astype(np.float64)
        if not len(values):
            return
        starts, at = _runs(numbers)
        lengths = np.diff(np.append(starts, len(values)))
        with np.errstate(all="ignore"):  # infinities and NaN are results
            mean = np.add.reduceat(values, starts) / lengths
            squares = np.add.reduceat((values - np.repeat(mean, lengths)) ** 2, starts)
            before = self._count[at]
            total = before + lengths
            difference = mean - self._mean[at]
            self._squares[at] += squares + difference**2 * (before * lengths / total)
            self._mean[at] += difference * lengths / total
        self._count[at] = total

    def result(self) -> Column:
        least = 2 if self._sample else 1
        valid = self._count >= least
        with np.errstate(all="ignore"):
            values = self._squares / np.maximum(self._count - (least - 1), 1)
            values = np.sqrt(values) if self._root else values
        return Column(DataType.DOUBLE, values, valid)


def _moments(*, sample: bool, root: bool) -> BindAggregate:
    def bind(types: Sequence[DataType], attributes: Mapping[str, str]) -> RowAggregateFunction:
        _expect(types, attributes, 1)
        _expect_number(types[0])
        return RowAggregateFunction(
            DataType.DOUBLE, lambda windows: _Moments(windows, sample=sample, root=root)
        )

    return bind


# ---- MODE ----


class _Mode:
    """The value that is there most often; of several the one that was there first.

    Rows are counted when as many have come as there are different values so far: sorting them all
    costs no more than twice what sorting the last time did.
    """

    def __init__(self, windows: int, data_type: DataType) -> None:
        self._windows = windows
        self._type = data_type
        self._counted = _Counted(
            np.zeros(0, np.intp),
            np.zeros(0, BATCH_DTYPES[data_type]),
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
        )
        self._waiting: list[_Counted] = []
        self._waiting_rows = 0

    def add(self, numbers: Numbers, times: Times, columns: Sequence[Column]) -> None:
        keep = _valid_rows(columns[0], len(times))
        count = int(keep.sum())
        if not count:
            return
        rows = _Counted(
            numbers[keep], columns[0].values[keep], times[keep], np.ones(count, np.int64)
        )
        self._waiting.append(rows)
        self._waiting_rows += count
        if self._waiting_rows > max(_MODE_ROWS, len(self._counted.numbers)):
            self._count()

    def result(self) -> Column:
        self._count()
        counted = self._counted
        values = np.zeros(self._windows, BATCH_DTYPES[self._type])
        valid = np.zeros(self._windows, np.bool_)
        if len(counted.numbers):
            order = np.lexsort((counted.first, -counted.counts, counted.numbers))
            starts, at = _runs(counted.numbers[order])
            values[at] = counted.values[order][starts]
            valid[at] = True
        return Column(self._type, values, valid)

    def _count(self) -> None:
        if not self._waiting:
            return
        joined = _Counted(*map(np.concatenate, zip(self._counted, *self._waiting, strict=True)))
        self._waiting, self._waiting_rows = [], 0
        _, codes = np.unique(joined.values, return_inverse=True)
        order = np.lexsort((joined.first, codes, joined.numbers))
        numbers, codes = joined.numbers[order], codes[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (np.diff(numbers) != 0) | (np.diff(codes) != 0)
        starts = np.flatnonzero(new)
        if len(starts) > MAX_DIFFERENT:
            raise query_error(
                f"MODE holds at most {MAX_DIFFERENT} different values; there are more here"
            )
        self._counted = _Counted(
            numbers[starts],
            joined.values[order][starts],
            joined.first[order][starts],
            np.add.reduceat(joined.counts[order], starts),
        )


class _Counted(NamedTuple):
    """Values by their window: when each was there first, and how often."""

    numbers: Numbers
    values: npt.NDArray[Any]
    first: Times
    counts: npt.NDArray[np.int64]


def _mode(types: Sequence[DataType], attributes: Mapping[str, str]) -> RowAggregateFunction:
    _expect(types, attributes, 1)
    data_type = types[0]
    return RowAggregateFunction(data_type, lambda windows: _Mode(windows, data_type))


# ---- MAX_BY, MIN_BY ----


class _By:
    """The first argument where the second is greatest (or least), the first time that it is."""

    def __init__(self, windows: int, types: Sequence[DataType], sign: int) -> None:
        self._type = types[0]
        self._sign = sign
        self._best = np.zeros(windows, BATCH_DTYPES[types[1]])
        self._known = np.zeros(windows, np.bool_)
        self._values = np.zeros(windows, BATCH_DTYPES[types[0]])
        self._valid = np.zeros(windows, np.bool_)

    def add(self, numbers: Numbers, times: Times, columns: Sequence[Column]) -> None:
        shown, compared = columns
        keep = _valid_rows(compared, len(times))
        if compared.values.dtype.kind == "f":
            keep = keep & ~np.isnan(compared.values)
        rows = np.flatnonzero(keep)
        if not len(rows):
            return
        _, ranks = np.unique(compared.values[rows], return_inverse=True)
        order = np.lexsort((np.arange(len(rows)), -self._sign * ranks, numbers[rows]))
        starts, at = _runs(numbers[rows][order])
        best = rows[order][starts]
        found = compared.values[best]
        held = self._best[at]
        better = found > held if self._sign > 0 else found < held
        better = better | ~self._known[at]
        at, best = at[better], best[better]
        self._best[at] = compared.values[best]
        self._known[at] = True
        self._values[at] = shown.values[best]
        self._valid[at] = _valid_rows(shown, len(times))[best]

    def result(self) -> Column:
        return Column(self._type, self._values, self._valid)


def _by(sign: int) -> BindAggregate:
    def bind(types: Sequence[DataType], attributes: Mapping[str, str]) -> RowAggregateFunction:
        _expect(types, attributes, 2)
        _expect_number(types[1])
        kinds = tuple(types)
        return RowAggregateFunction(kinds[0], lambda windows: _By(windows, kinds, sign))

    return bind


# ---- COUNT_IF, COUNT_TIME ----


class _CountIf:
    """How many runs of rows that meet a condition are as long as is asked."""

    def __init__(self, windows: int, keep: Keep, *, ignore_null: bool) -> None:
        self._counts = np.zeros(windows, np.int64)
        self._keep = keep
        self._ignore_null = ignore_null
        self._open: tuple[int, int] | None = None
        """Window and length of the run that the next rows may go on with."""

    def add(self, numbers: Numbers, times: Times, columns: Sequence[Column]) -> None:
        (column,) = columns
        valid = _valid_rows(column, len(times))
        met = column.values.astype(np.bool_) & valid
        if self._ignore_null:
            numbers, met = numbers[valid], met[valid]
        if not len(met):
            return
        new = np.ones(len(met), np.bool_)
        new[1:] = (np.diff(numbers) != 0) | (met[1:] != met[:-1])
        starts = np.flatnonzero(new)
        lengths = np.diff(np.append(starts, len(met)))
        at, true = numbers[starts], met[starts]
        if self._open is not None:
            window, length = self._open
            if true[0] and at[0] == window:
                lengths[0] += length
            else:
                self._close(np.array([window]), np.array([length]))
        self._open = (int(at[-1]), int(lengths[-1])) if true[-1] else None
        closed = true.copy()
        closed[-1] = False
        self._close(at[closed], lengths[closed])

    def result(self) -> Column:
        if self._open is not None:
            window, length = self._open
            self._close(np.array([window]), np.array([length]))
            self._open = None
        return Column(DataType.INT64, self._counts)

    def _close(self, at: Numbers, lengths: npt.NDArray[Any]) -> None:
        np.add.at(self._counts, at[self._keep.passing(lengths)], 1)


class _CountTime:
    """How many rows have a value in some argument."""

    def __init__(self, windows: int) -> None:
        self._counts = np.zeros(windows, np.int64)

    def add(self, numbers: Numbers, times: Times, columns: Sequence[Column]) -> None:
        some = np.logical_or.reduce([_valid_rows(column, len(times)) for column in columns])
        np.add.at(self._counts, numbers[some], 1)

    def result(self) -> Column:
        return Column(DataType.INT64, self._counts)


@dataclass(frozen=True)
class Keep:
    """`keep >= n` and the like: a test of how many rows there are."""

    operator: str
    count: int

    def passing(self, lengths: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which lengths pass."""
        test: Callable[[npt.NDArray[Any], int], npt.NDArray[np.bool_]] = _TESTS[self.operator]
        return test(lengths, self.count)


_MAX_DIGITS = 18
"""Of a threshold: there are not that many rows."""

_TESTS: dict[str, Any] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def keep_of(text: str) -> Keep:
    """Return the test that `n` (at least so many) or `keep >= n` stands for.

    Raises:
        FunctionError: it is neither.
    """
    operator, digits = ">=", text.strip()
    if digits[:4].lower() == "keep":
        digits = digits[4:].strip()
        operator = digits[: 2 if digits[1:2] == "=" else 1]
        digits = digits[len(operator) :].strip()
    if operator not in _TESTS or not digits.isdecimal() or len(digits) > _MAX_DIGITS:
        raise FunctionError(f"{text} is no threshold: write a number, or keep >= a number")
    return Keep(operator, int(digits))


def _count_if(types: Sequence[DataType], attributes: Mapping[str, str]) -> RowAggregateFunction:
    if len(types) != 1 or types[0] is not DataType.BOOLEAN or "1" not in attributes:
        raise FunctionError("a condition and a threshold are needed, such as (s1 > 1, 3)")
    keep = keep_of(attributes["1"])
    ignore_null = attributes.get("ignoreNull", "true").lower() != "false"
    return RowAggregateFunction(
        DataType.INT64, lambda windows: _CountIf(windows, keep, ignore_null=ignore_null)
    )


def _count_time(types: Sequence[DataType], attributes: Mapping[str, str]) -> RowAggregateFunction:
    _expect(types, attributes, len(types))
    return RowAggregateFunction(DataType.INT64, _CountTime)


def _expect(types: Sequence[DataType], attributes: Mapping[str, str], count: int) -> None:
    if len(types) != count:
        raise FunctionError(f"the number of the arguments is {len(types)}, expected is {count}")
    if attributes:
        raise FunctionError(f"there is no attribute {next(iter(attributes))}")


def _expect_number(data_type: DataType) -> None:
    if data_type not in NUMERIC_TYPES:
        raise FunctionError(
            f"only numeric data types [INT32, INT64, FLOAT, DOUBLE] are supported, not "
            f"{data_type.name}"
        )


COUNT_TIME = "count_time"

ROW_AGGREGATES: dict[str, BindAggregate] = {
    "stddev": _moments(sample=True, root=True),
    "stddev_samp": _moments(sample=True, root=True),
    "stddev_pop": _moments(sample=False, root=True),
    "variance": _moments(sample=True, root=False),
    "var_samp": _moments(sample=True, root=False),
    "var_pop": _moments(sample=False, root=False),
    "mode": _mode,
    "max_by": _by(1),
    "min_by": _by(-1),
    "count_if": _count_if,
    COUNT_TIME: _count_time,
}
"""By lower-case name."""
