"""FILL: values for null cells, over rows of windows and at one point in time (sql.md 3.8)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.scan.windows import NUMERIC_TYPES
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.statements.select import Fill, FillMethod, FillMode
from cluster.sql.timestamps import UNITS_PER_SECOND, Duration
from cluster.sql.values import parse_value
from iotdb_engine.types import Column, DataType

_DAYS_OF_MONTH = 30
_UNLIMITED = FillMode(FillMethod.PREVIOUS)


def mode_of(fill: Fill, data_type: DataType) -> FillMode:
    """Return how columns of a type are filled; types that are not named: PREVIOUS, unlimited."""
    if fill.mode is not None:
        return fill.mode
    return dict(fill.by_type).get(data_type, _UNLIMITED)


class Reach(NamedTuple):
    """How far values are looked for, in precision units; None: any distance."""

    before: int | None
    after: int | None


def reach_of(mode: FillMode, precision: str) -> Reach:
    """Return the distances of a mode; a month counts 30 days."""
    return Reach(_units(mode.before, precision), _units(mode.after, precision))


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
            return _with_previous(rows, column, valid, reach.before, until_last=False)
        case FillMethod.PREVIOUS_UNTIL_LAST:
            return _with_previous(rows, column, valid, reach.before, until_last=True)
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
    before: int | None,
    *,
    until_last: bool,
) -> Column:
    source = _latest_valid(valid)
    filled = source >= 0
    if before is not None:
        filled &= distance(rows.times[np.maximum(source, 0)], rows.times) <= before
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
    near = np.ones(len(at), np.bool_)
    if reach.before is not None:
        near &= distance(times[low], times[at]) <= reach.before
    if reach.after is not None:
        near &= distance(times[at], times[high]) < reach.after
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

    The increment of integers is cut toward zero before it is added.
    """
    share = distance(before, times) / distance(before, after)
    with np.errstate(over="ignore", invalid="ignore"):
        rise = share * (high.astype(np.float64) - low.astype(np.float64))
        if low.dtype.kind == "i":
            return _raised(low, high, rise)
        # between numbers so far apart that their difference is none
        line = np.where(np.isinf(rise), low * (1 - share) + high * share, low + rise)
        filled: npt.NDArray[Any] = line.astype(low.dtype)
    return filled


def _raised(
    low: npt.NDArray[Any], high: npt.NDArray[Any], rise: npt.NDArray[np.float64]
) -> npt.NDArray[Any]:
    """Return `low + rise`, not beyond `high`: differences take a bit more than the type has."""
    start, end = low.astype(np.int64), high.astype(np.int64)
    span = distance(start, end)
    limit = np.nextafter(2.0**64, 0)
    steps = np.minimum(np.minimum(np.trunc(np.abs(rise)), limit).astype(np.uint64), span)
    first = start.view(np.uint64)
    raised: npt.NDArray[Any] = np.where(end > start, first + steps, first - steps)
    return raised.view(np.int64).astype(low.dtype)
