"""FILL: values for null cells, over rows of windows and at one point in time (sql.md 3.8)."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.scan.windows import NUMERIC_TYPES
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.statements.select import Fill, FillMethod, FillMode
from cluster.sql.timestamps import UNITS_PER_SECOND, Duration, shift_time
from cluster.sql.values import parse_value
from iotdb_engine.types import T_MAX, T_MIN, Column, DataType

_DAYS_OF_MONTH = 30
_UNLIMITED = FillMode(FillMethod.PREVIOUS)


def mode_of(fill: Fill, data_type: DataType) -> FillMode:
    """Return how columns of a type are filled; types that are not named: PREVIOUS, unlimited."""
    if fill.mode is not None:
        return fill.mode
    return dict(fill.by_type).get(data_type, _UNLIMITED)


def mode_among(fill: Fill, data_type: DataType) -> FillMode | None:
    """Return how columns of windows are filled; None: types that are not named, which are not."""
    return fill.mode if fill.mode is not None else dict(fill.by_type).get(data_type)


class Calendar(NamedTuple):
    """Whose months are meant by a distance in months."""

    zone: tzinfo
    precision: str

    def moved(self, times: npt.NDArray[np.int64], months: int) -> npt.NDArray[np.int64]:
        """Return times so many months later; those that no date has stay at the end of time."""
        return np.array([self._moved(time, months) for time in times.tolist()], np.int64)

    def _moved(self, time: int, months: int) -> int:
        try:
            return shift_time(time, Duration(months, 0), 1, self.zone, self.precision)
        except ValueError:
            return T_MIN if months < 0 else T_MAX


class Reach(NamedTuple):
    """How far values are looked for, in precision units; None: any distance.

    With a calendar, so many of its months instead where there are any.
    """

    before: int | None
    after: int | None
    months_before: int = 0
    months_after: int = 0
    calendar: Calendar | None = None

    def holds_earlier(
        self, earlier: npt.NDArray[np.int64], times: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return whether values of these earlier times are near enough, row by row."""
        if self.calendar is not None and self.months_before:
            return earlier >= self.calendar.moved(times, -self.months_before)
        if self.before is None:
            return np.ones(len(times), np.bool_)
        return distance(earlier, times) <= self.before

    def holds_later(
        self, later: npt.NDArray[np.int64], times: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return whether values of these later times are near enough, row by row."""
        if self.calendar is not None and self.months_after:
            return later <= self.calendar.moved(times, self.months_after)
        if self.after is None:
            return np.ones(len(times), np.bool_)
        return distance(times, later) <= self.after

    def before_range(self) -> int:
        """Return the longest distance backwards in units, 0 where none is given."""
        return (
            self.months_before * self._longest_month() if self.months_before else self.before or 0
        )

    def after_range(self) -> int:
        """Return the longest distance forwards in units, 0 where none is given."""
        return self.months_after * self._longest_month() if self.months_after else self.after or 0

    def _longest_month(self) -> int:
        assert self.calendar is not None
        return 31 * 86_400 * UNITS_PER_SECOND[self.calendar.precision]


def reach_of(mode: FillMode, precision: str, zone: tzinfo | None = None) -> Reach:
    """Return the distances of a mode.

    Args:
        mode: how it is filled.
        precision: unit of the distances.
        zone: whose calendar tells how long a month is; None: 30 days. 0.13 counts the months of a
            distance, also where it is one of months and days, and forgets what is left of them.
    """
    before, after = _units(mode.before, precision), _units(mode.after, precision)
    if zone is None:
        return Reach(before, after)
    month = _DAYS_OF_MONTH * 86_400 * UNITS_PER_SECOND[precision]
    months_before = before // month if mode.before and mode.before.months and before else 0
    months_after = after // month if mode.after and mode.after.months and after else 0
    return Reach(before, after, months_before, months_after, Calendar(zone, precision))


def _units(duration: Duration | None, precision: str) -> int | None:
    if duration is None:
        return None
    day = 86_400 * UNITS_PER_SECOND[precision]
    return duration.months * _DAYS_OF_MONTH * day + duration.units


def constant_value(mode: FillMode, data_type: DataType) -> Any:  # noqa: ANN401
    """Return the value that a VALUE fill gives a column, None when the type has no such value.

    A TEXT column gets the literal as it was written, quotes included (0.13).
    """
    if data_type is DataType.TEXT:
        return mode.text.encode()
    literal = mode.literal
    if literal is None or literal.kind is LiteralKind.STRING:
        return None
    if data_type is DataType.BOOLEAN:
        return {"true": True, "false": False}.get(literal.text.lower())
    try:
        return parse_value(Literal(literal.kind, literal.text), data_type)
    except ValueError:
        return None


class FilledRows(NamedTuple):
    """Rows that get filled: `first` … `last` are wanted, those around them are looked at only."""

    times: npt.NDArray[np.int64]
    first: int
    last: int


def fill_column(rows: FilledRows, column: Column, mode: FillMode, reach: Reach) -> Column:
    """Return a column of all rows, its null cells filled.

    Args:
        rows: ascending, or descending: the row before is then a later one.
        column: parallel to `rows.times`.
        mode: how.
        reach: how far.
    """
    valid = column.valid
    if valid is None or valid.all():
        return Column(column.type, column.values)
    match mode.method:
        case FillMethod.VALUE:
            return _with_constant(column, valid, constant_value(mode, column.type))
        case FillMethod.PREVIOUS:
            return _with_previous(rows, column, valid, reach, until_last=False)
        case FillMethod.PREVIOUS_UNTIL_LAST:
            return _with_previous(rows, column, valid, reach, until_last=True)
        case FillMethod.LINEAR:
            return _with_line(rows, column, valid, reach)


def _with_constant(column: Column, valid: npt.NDArray[np.bool_], value: Any) -> Column:  # noqa: ANN401
    if value is None:
        return column
    values = column.values.copy()
    values[~valid] = value
    return Column(column.type, values)


def _with_previous(
    rows: FilledRows,
    column: Column,
    valid: npt.NDArray[np.bool_],
    reach: Reach,
    *,
    until_last: bool,
) -> Column:
    source = _latest_valid(valid)
    filled = source >= 0
    filled &= reach.holds_earlier(rows.times[np.maximum(source, 0)], rows.times)
    if until_last:
        wanted = np.flatnonzero(valid[: rows.last + 1])
        filled[(int(wanted[-1]) if len(wanted) else -1) + 1 :] = False
    return Column(column.type, column.values[np.maximum(source, 0)], valid | filled)


def _latest_valid(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return for each row the latest row up to it that has a value, -1 when there is none."""
    numbers = np.where(valid, np.arange(len(valid)), -1)
    latest: npt.NDArray[np.intp] = np.maximum.accumulate(numbers)
    return latest


def _with_line(
    rows: FilledRows, column: Column, valid: npt.NDArray[np.bool_], reach: Reach
) -> Column:
    if column.type not in NUMERIC_TYPES:
        return column
    count = len(valid)
    before = _latest_valid(valid)
    after = count - 1 - _latest_valid(valid[::-1])[::-1]
    inside = (before >= 0) & (after < count) & ~valid
    at = np.flatnonzero(inside)
    low, high = before[at], after[at]
    times = rows.times
    near = reach.holds_earlier(times[low], times[at]) & reach.holds_later(times[high], times[at])
    at, low, high = at[near], low[near], high[near]
    values = column.values.copy()
    values[at] = on_line(
        times[at], times[low], times[high], column.values[low], column.values[high]
    )
    filled = valid.copy()
    filled[at] = True
    return Column(column.type, values, filled)


def distance(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return how far times are apart, which may take all of 64 bits."""
    earlier, later = np.minimum(one, other), np.maximum(one, other)
    return later.view(np.uint64) - earlier.view(np.uint64)


def on_line(
    times: npt.NDArray[np.int64],
    before: npt.NDArray[np.int64],
    after: npt.NDArray[np.int64],
    low: npt.NDArray[Any],
    high: npt.NDArray[Any],
) -> npt.NDArray[Any]:
    """Return the values at some times on the lines between two points each.

    As 0.13 computes it: the slope first, and the increment of integers is cut toward zero before it
    is added.
    """
    elapsed = distance(before, times).astype(np.float64)
    total = distance(before, after).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if low.dtype.kind == "i":
            start, end = low.astype(np.int64), high.astype(np.int64)
            span = distance(start, end).astype(np.float64)
            return _raised(low, high, span / total * elapsed)
        rise = (high - low) / total * elapsed
        # between numbers so far apart that their difference is none
        share = elapsed / total
        line = np.where(
            np.isinf(rise), low * (1 - share) + high * share, low + rise.astype(low.dtype)
        )
        filled: npt.NDArray[Any] = line.astype(low.dtype)
    return filled


def _raised(
    low: npt.NDArray[Any], high: npt.NDArray[Any], rise: npt.NDArray[np.float64]
) -> npt.NDArray[Any]:
    """Return `low` moved by `rise` (0 or more) toward `high`, and not beyond it.

    Differences take a bit more than the type has.
    """
    start, end = low.astype(np.int64), high.astype(np.int64)
    span = distance(start, end)
    limit = np.nextafter(2.0**64, 0)
    steps = np.minimum(np.minimum(np.trunc(rise), limit).astype(np.uint64), span)
    first = start.view(np.uint64)
    raised: npt.NDArray[Any] = np.where(end > start, first + steps, first - steps)
    return raised.view(np.int64).astype(low.dtype)
