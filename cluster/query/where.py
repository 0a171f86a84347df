"""WHERE clauses planned: series looked up, NOT resolved, the time part split off (sql.md 3.5).

A null makes every test of it false, negated or not, as 0.13 has it: it moves NOT down to the
tests and turns their operators around. So NOT does not exist here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.query.columns import SeriesResolver, query_error
from cluster.query.time_set import ALL_TIMES, TimeSet
from cluster.query.value_tests import (
    ValueTest,
    compare_test,
    in_test,
    like_test,
    regexp_test,
)
from cluster.schema.series import SeriesInfo
from cluster.sql.conditions import interval_of
from cluster.sql.statements.select import (
    And,
    Comparison,
    Condition,
    Not,
    Or,
    Select,
    TimeCompare,
    TimeIn,
    ValueCompare,
    ValueIn,
    ValueLike,
    ValueRegexp,
)
from iotdb_engine.types import ColumnBatch

Mask = npt.NDArray[np.bool_]

_INVERSE = {
    Comparison.EQ: Comparison.NE,
    Comparison.NE: Comparison.EQ,
    Comparison.LT: Comparison.GE,
    Comparison.GE: Comparison.LT,
    Comparison.GT: Comparison.LE,
    Comparison.LE: Comparison.GT,
}


class SeriesColumns:
    """The series that a query reads, each given the number of its column in the rows read."""

    def __init__(self) -> None:
        self.series: list[SeriesInfo] = []
        self._numbers: dict[int, int] = {}

    def number_of(self, series: SeriesInfo) -> int:
        """Return the series' column; a new one if it was not read yet."""
        number = self._numbers.setdefault(series.series_id, len(self.series))
        if number == len(self.series):
            self.series.append(series)
        return number


@dataclass(frozen=True)
class TimeFilter:
    """Passes rows whose timestamp is in a set."""

    times: TimeSet

    def mask(self, batch: ColumnBatch) -> Mask:
        """Return which rows pass."""
        return self.times.mask(batch.times)


@dataclass(frozen=True)
class ValueFilter:
    """Passes rows in which a column has a value and that passes (or, negated, fails) a test."""

    column: int
    test: ValueTest
    negated: bool

    def mask(self, batch: ColumnBatch) -> Mask:
        """Return which rows pass."""
        column = batch.columns[self.column]
        passed = self.test(column.values)
        if self.negated:
            passed = ~passed
        return passed if column.valid is None else passed & column.valid


@dataclass(frozen=True)
class AllOf:
    """Passes rows that pass every part."""

    parts: tuple[RowFilter, ...]

    def mask(self, batch: ColumnBatch) -> Mask:
        """Return which rows pass."""
        result = self.parts[0].mask(batch)
        for part in self.parts[1:]:
            result = result & part.mask(batch)
        return result


@dataclass(frozen=True)
class AnyOf:
    """Passes rows that pass at least one part."""

    parts: tuple[RowFilter, ...]

    def mask(self, batch: ColumnBatch) -> Mask:
        """Return which rows pass."""
        result = self.parts[0].mask(batch)
        for part in self.parts[1:]:
            result = result | part.mask(batch)
        return result


RowFilter = TimeFilter | ValueFilter | AllOf | AnyOf


class PlannedWhere(NamedTuple):
    """A WHERE clause as a time set that holds every row that passes, and what is left to test."""

    times: TimeSet
    rows: RowFilter | None

    def with_time_filter(self) -> RowFilter:
        """Return one filter that tests both."""
        times = TimeFilter(self.times)
        return times if self.rows is None else AllOf((times, self.rows))


def plan_where(select: Select, resolver: SeriesResolver, columns: SeriesColumns) -> PlannedWhere:
    """Plan the WHERE clause of a query.

    Args:
        select: the query.
        resolver: finds the series of its paths.
        columns: gets the series that have to be read for it.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: a path that matches nothing, or a test that the series'
            type does not allow.
    """
    if select.where is None:
        return PlannedWhere(ALL_TIMES, None)
    planned = _Planner(select.prefixes, resolver, columns).plan(select.where, negated=False)
    return _split(planned)


def _split(planned: RowFilter) -> PlannedWhere:
    """Split off the time that bounds the whole condition."""
    if isinstance(planned, TimeFilter):
        return PlannedWhere(planned.times, None)
    if isinstance(planned, AllOf):
        times = _bounds(planned)
        rest = tuple(part for part in planned.parts if not isinstance(part, TimeFilter))
        return PlannedWhere(times, _combine(AllOf, rest))
    return PlannedWhere(_bounds(planned), planned)


def _bounds(planned: RowFilter) -> TimeSet:
    """Return a set of timestamps outside which no row can pass."""
    match planned:
        case TimeFilter():
            return planned.times
        case ValueFilter():
            return ALL_TIMES
        case AllOf():
            times = ALL_TIMES
            for part in planned.parts:
                times = times.intersection(_bounds(part))
            return times
        case AnyOf():
            times = _bounds(planned.parts[0])
            for part in planned.parts[1:]:
                times = times.union(_bounds(part))
            return times


def _combine(kind: type[AllOf] | type[AnyOf], parts: Sequence[RowFilter]) -> RowFilter:
    """Return the combination, its time filters folded into one, nested ones of a kind flattened."""
    times: TimeSet | None = None
    rest: list[RowFilter] = []
    for part in parts:
        for piece in part.parts if isinstance(part, kind) else (part,):
            if not isinstance(piece, TimeFilter):
                rest.append(piece)
            elif times is None:
                times = piece.times
            elif kind is AllOf:
                times = times.intersection(piece.times)
            else:
                times = times.union(piece.times)
    if times is not None:
        rest.insert(0, TimeFilter(times))
    return rest[0] if len(rest) == 1 else kind(tuple(rest))


class _Planner:
    def __init__(
        self, prefixes: Sequence[str], resolver: SeriesResolver, columns: SeriesColumns
    ) -> None:
        self._prefixes = prefixes
        self._resolver = resolver
        self._columns = columns

    def plan(self, condition: Condition, *, negated: bool) -> RowFilter:
        match condition:
            case Not():
                return self.plan(condition.operand, negated=not negated)
            case And() | Or():
                kind = AllOf if isinstance(condition, And) is not negated else AnyOf
                parts = [self.plan(part, negated=negated) for part in condition.operands]
                return _combine(kind, parts)
            case TimeCompare() | TimeIn():
                times = _time_set(condition)
                return TimeFilter(times.complement() if negated else times)
            case _:
                return self._value_filters(condition, negated)

    def _value_filters(
        self, condition: ValueCompare | ValueIn | ValueLike | ValueRegexp, negated: bool
    ) -> RowFilter:
        """Return the conjunction over all series that the path stands for (negated: of none)."""
        filters = [
            self._value_filter(condition, series, negated)
            for series in self._series(condition.path)
        ]
        return _combine(AnyOf if negated else AllOf, filters)

    def _value_filter(
        self,
        condition: ValueCompare | ValueIn | ValueLike | ValueRegexp,
        series: SeriesInfo,
        negated: bool,
    ) -> RowFilter:
        match condition:
            case ValueCompare():
                op = _INVERSE[condition.op] if negated else condition.op
                test = compare_test(series, op, condition.literal)
                negated = False
            case ValueIn():
                test = in_test(series, condition.literals)
                negated = negated is not condition.negated
            case ValueLike():
                test = like_test(series, condition.pattern)
            case ValueRegexp():
                test = regexp_test(series, condition.pattern)
        return ValueFilter(self._columns.number_of(series), test, negated)

    def _series(self, path: str) -> list[SeriesInfo]:
        absolute = path == "root" or path.startswith("root.")
        patterns = [path] if absolute else [f"{prefix}.{path}" for prefix in self._prefixes]
        found = {
            series.series_id: series
            for pattern in patterns
            for series in self._resolver.match(pattern)
        }
        if not found:
            raise query_error(f"Unknown time series {path} in `where clause`")
        return list(found.values())


def _time_set(condition: TimeCompare | TimeIn) -> TimeSet:
    if isinstance(condition, TimeIn):
        times = TimeSet.of((value, value) for value in condition.values)
        return times.complement() if condition.negated else times
    if condition.op is Comparison.NE:
        return TimeSet.of([(condition.value, condition.value)]).complement()
    return TimeSet.of([interval_of(condition)])
