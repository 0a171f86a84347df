"""WHERE clauses planned: series looked up, NOT resolved, the time part split off (sql.md 3.5).

A null makes every test of it false, negated or not, as 0.13 has it: it moves NOT down to the
tests and turns their operators around. So NOT does not exist here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cluster.query.errors import query_error
from cluster.query.modern_constants import compare_test, in_test
from cluster.scan.filters import (
    AllOf,
    AnyOf,
    RowFilter,
    TimeFilter,
    ValueFilter,
    combine,
    time_bounds,
)
from cluster.scan.regexps import Regexp
from cluster.scan.time_set import ALL_TIMES, TimeSet
from cluster.scan.value_tests import (
    CompareTest,
    Constant,
    ContainsTest,
    InTest,
    LikeTest,
    Operator,
    RegexpTest,
    ValueTest,
)
from cluster.schema.series import SeriesInfo
from cluster.sql.conditions import interval_of
from cluster.sql.statements.literals import Literal
from cluster.sql.statements.select import (
    And,
    Comparison,
    Condition,
    Not,
    Or,
    TimeCompare,
    TimeIn,
    ValueCompare,
    ValueCondition,
    ValueContains,
    ValueIn,
    ValueLike,
    ValueRegexp,
)
from cluster.sql.values import parse_value
from iotdb_engine.types import BATCH_DTYPES, T_MAX, T_MIN, DataType

_INVERSE = {
    Comparison.EQ: Comparison.NE,
    Comparison.NE: Comparison.EQ,
    Comparison.LT: Comparison.GE,
    Comparison.GE: Comparison.LT,
    Comparison.GT: Comparison.LE,
    Comparison.LE: Comparison.GT,
}

MatchFilterPath = Callable[[str], Sequence[SeriesInfo]]
"""A path of the WHERE clause → all series that it stands for; it may raise as `plan_where`."""


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


class PlannedWhere(NamedTuple):
    """A WHERE clause as a time set that holds every row that passes, and what is left to test."""

    times: TimeSet
    rows: RowFilter | None

    def with_time_filter(self) -> RowFilter:
        """Return one filter that tests both."""
        times = TimeFilter(self.times)
        return times if self.rows is None else AllOf((times, self.rows))


EVERYTHING = PlannedWhere(ALL_TIMES, None)


class UnknownFilterPathError(Exception):
    """A path of a WHERE clause stands for no series."""


def plan_where(
    condition: Condition | None,
    match: MatchFilterPath,
    columns: SeriesColumns,
    *,
    modern: bool = False,
) -> PlannedWhere:
    """Plan a WHERE clause.

    Args:
        condition: the clause; None: there is none.
        match: finds the series of its paths.
        columns: gets the series that have to be read for it.
        modern: whether it means what it does in 1.x: constants of any numeric type, order of texts,
            and a negated test of several series has to hold for each of them.

    Raises:
        UnknownFilterPathError: a path matches nothing.
        ClusterError: QUERY_PROCESS_ERROR: a test that the series' type does not allow.
    """
    if condition is None:
        return EVERYTHING
    return _split(_Planner(match, columns, modern).plan(condition, negated=False))


def times_around(condition: Condition | None) -> tuple[int, int]:
    """Return an inclusive range that holds the times of all rows that pass, as far as it is plain.

    Looks at tests of the time that are joined by AND; takes anything else for any time. The range
    is empty (low > high) where no row can pass.
    """
    match condition:
        case And():
            ranges = [times_around(operand) for operand in condition.operands]
            return max(low for low, _ in ranges), min(high for _, high in ranges)
        case TimeCompare() if condition.op is not Comparison.NE:
            return interval_of(condition)
        case TimeIn() if not condition.negated:
            return min(condition.values), max(condition.values)
    return T_MIN, T_MAX


def match_filter_path(
    prefixes: Sequence[str], match: Callable[[str], Sequence[SeriesInfo]], *, modern: bool
) -> MatchFilterPath:
    """Return the matcher of paths: absolute ones, and ones relative to every FROM prefix.

    It raises UnknownFilterPathError where they stand for nothing: before 1.x (not `modern`) where
    one of the prefixes lacks the series already.
    """

    def matched(path: str) -> Sequence[SeriesInfo]:
        absolute = path == "root" or path.startswith("root.")
        patterns = [path] if absolute else [f"{prefix}.{path}" for prefix in prefixes]
        found: dict[int, SeriesInfo] = {}
        for pattern in patterns:
            series = match(pattern)
            if not series and not modern:
                raise UnknownFilterPathError(pattern)
            found.update((info.series_id, info) for info in series)
        if not found:
            raise UnknownFilterPathError(patterns[0])
        return list(found.values())

    return matched


def unknown_in_where(path: str) -> Exception:
    """Return the error of a path that stands for no series."""
    return query_error(f"Unknown time series {path} in `where clause`")


def _split(planned: RowFilter) -> PlannedWhere:
    """Split off the time that bounds the whole condition."""
    if isinstance(planned, TimeFilter):
        return PlannedWhere(planned.times, None)
    if isinstance(planned, AllOf):
        times = time_bounds(planned)
        rest = tuple(part for part in planned.parts if not isinstance(part, TimeFilter))
        return PlannedWhere(times, combine(AllOf, rest))
    return PlannedWhere(time_bounds(planned), planned)


class _Planner:
    def __init__(self, match: MatchFilterPath, columns: SeriesColumns, modern: bool) -> None:
        self._match = match
        self._columns = columns
        self._modern = modern

    def plan(self, condition: Condition, *, negated: bool) -> RowFilter:
        match condition:
            case Not():
                return self.plan(condition.operand, negated=not negated)
            case And() | Or():
                kind = AllOf if isinstance(condition, And) is not negated else AnyOf
                parts = [self.plan(part, negated=negated) for part in condition.operands]
                return combine(kind, parts)
            case TimeCompare() | TimeIn():
                times = _time_set(condition)
                return TimeFilter(times.complement() if negated else times)
            case _:
                return self._value_filters(condition, negated)

    def _value_filters(self, condition: ValueCondition, negated: bool) -> RowFilter:
        """Return the conjunction over all series that the path stands for.

        Negated, that is a disjunction; in 1.x the negation itself stands for each series.
        """
        found = self._match(condition.path)
        if not found:
            raise UnknownFilterPathError(condition.path)
        filters = [self._value_filter(condition, series, negated) for series in found]
        return combine(AnyOf if negated and not self._modern else AllOf, filters)

    def _value_filter(
        self, condition: ValueCondition, series: SeriesInfo, negated: bool
    ) -> RowFilter:
        if isinstance(condition, ValueCompare) and negated:
            condition = ValueCompare(condition.path, _INVERSE[condition.op], condition.literal)
            negated = False
        elif isinstance(condition, ValueIn):
            negated = negated is not condition.negated
        test = value_test(condition, series, modern=self._modern)
        return ValueFilter(self._columns.number_of(series), test, negated)


def value_test(condition: ValueCondition, series: SeriesInfo, *, modern: bool = False) -> ValueTest:
    """Return the test of a condition (negation aside) for one series; `modern` as `plan_where`.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: a constant is no value of the series' type, the type
            does not know the test, or a regular expression is none.
    """
    match condition:
        case ValueCompare() | ValueIn() if modern:
            return _modern_test(condition, series)
        case ValueCompare():
            if series.data_type is DataType.TEXT and condition.op not in (
                Comparison.EQ,
                Comparison.NE,
            ):
                raise query_error(
                    "For Basic operator,TEXT type only support EQUAL or NOTEQUAL operator"
                )
            constant = _constant(series, condition.literal)
            return CompareTest(series.data_type, Operator(int(condition.op)), constant)
        case ValueIn():
            constants = tuple(_constant(series, literal) for literal in condition.literals)
            return InTest(series.data_type, constants)
        case ValueLike():
            _check_text(series, "Like")
            return LikeTest(condition.pattern)
        case ValueContains():
            _check_text(series, "Contains")
            return ContainsTest(condition.part.encode("utf-8", "surrogatepass"))
        case ValueRegexp():
            _check_text(series, "Regexp")
            try:
                Regexp(condition.pattern)
            except ValueError as error:
                raise query_error(str(error)) from error
            return RegexpTest(condition.pattern)


def _modern_test(condition: ValueCompare | ValueIn, series: SeriesInfo) -> ValueTest:
    try:
        if isinstance(condition, ValueIn):
            return in_test(series.data_type, condition.literals)
        return compare_test(series.data_type, Operator(int(condition.op)), condition.literal)
    except ValueError as error:
        raise query_error(f"{error} (in the where clause, for {series.path})") from error


def _constant(series: SeriesInfo, literal: Literal) -> Constant:
    try:
        value: Any = parse_value(literal, series.data_type)
    except ValueError as error:
        raise query_error(f"{error} (in the where clause, for {series.path})") from error
    if series.data_type is DataType.FLOAT:
        value = float(BATCH_DTYPES[DataType.FLOAT].type(value))  # 3.33 finds 3.33
    constant: Constant = value
    return constant


def _check_text(series: SeriesInfo, word: str) -> None:
    if series.data_type is not DataType.TEXT:
        raise query_error(
            f"Unsupported type: [{series.data_type.name}]. Only TEXT is supported in '{word}'"
        )


def _time_set(condition: TimeCompare | TimeIn) -> TimeSet:
    if isinstance(condition, TimeIn):
        times = TimeSet.of((value, value) for value in condition.values)
        return times.complement() if condition.negated else times
    if condition.op is Comparison.NE:
        return TimeSet.between(condition.value, condition.value).complement()
    return TimeSet.between(*interval_of(condition))
