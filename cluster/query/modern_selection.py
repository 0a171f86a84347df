"""SELECT with what only 1.x has: any condition in WHERE, HAVING, sorted and filled rows.

A SELECT of 1.x that has none of it is planned as those of 0.13 are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cluster.query.aggregates import AGGREGATE_FUNCTIONS
from cluster.query.aggregation import reversed_rows
from cluster.query.backend import QueryBackend
from cluster.query.binding import (
    Binder,
    ItemKind,
    MatchedSeries,
    Output,
    PathMatcher,
    is_row_aggregate,
    match_over,
    parts_of,
)
from cluster.query.context import QueryContext
from cluster.query.errors import query_error
from cluster.query.evaluate import evaluated
from cluster.query.expressions import (
    AggregateLeaf,
    Bound,
    EndTimeLeaf,
    Leaf,
    RowAggregateLeaf,
    SeriesLeaf,
    is_delayed,
    leaves,
    series_of,
)
from cluster.query.group_by import WindowSeries
from cluster.query.modern_rows import RowOrder, filled_rows, first_only, sorted_rows, where_true
from cluster.query.result import ResultSet, limited
from cluster.query.row_aggregation import RowAggregation, RowsToAggregate
from cluster.query.rows import reordered
from cluster.query.selection import Selection, check_series_count
from cluster.query.where import PlannedWhere, SeriesColumns, unknown_in_where
from cluster.query.without_null import listed_text, null_filter, without_null
from cluster.scan.filters import first_columns
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.expressions import END_TIME, PathExpression
from cluster.sql.statements.select import Alignment, Fill, Select, SelectItem, SortBy, SortKey
from iotdb_engine.types import ColumnBatch, DataType


def is_modern(select: Select) -> bool:
    """Return whether a SELECT has what 0.13 does not know."""
    return select.modern and (
        select.rest is not None
        or select.segments is not None
        or any(map(_needs_rows, select.items))
        or select.having is not None
        or bool(select.sort_keys)
        or select.fill is not None
    )


def _needs_rows(item: SelectItem) -> bool:
    return any(
        is_row_aggregate(part) or (isinstance(part, PathExpression) and part.end_time)
        for part in parts_of(item.expression)
    )


class ModernSelection(Selection):
    """One such SELECT, aligned by time; see the base."""

    def __init__(
        self, select: Select, kind: ItemKind, backend: QueryBackend, context: QueryContext
    ) -> None:
        super().__init__(replace(select, fill=None), kind, backend, context)
        self._fill: Fill | None = select.fill
        self._tests: list[Bound] = []
        self._control: Bound | None = None

    def result(self) -> ResultSet:
        """Plan, and return the result to be computed."""
        select = self._select
        if select.levels or select.alignment is Alignment.NONE:
            raise query_error(
                "FILL, ORDER BY expressions and conditions other than comparisons of series with "
                "constants do not go with GROUP BY LEVEL; they, and HAVING, not with DISABLE ALIGN"
            )
        self._resolver.prefetch(select)
        outputs = self._outputs()
        if not outputs:
            self._where(SeriesColumns())
            self._bound_rest()
            return ResultSet([], [], [], iter(()))
        self._tests = self._bound_rest()
        self._control = self._bound_control()
        having = self._bound_having()
        sorting = [self._sorted_by(key, outputs) for key in select.sort_keys]
        distinct: dict[Bound, int] = {}
        index = [distinct.setdefault(output.expression, len(distinct)) for output in outputs]
        visible = len(distinct)
        masks = [distinct.setdefault(mask, len(distinct)) for mask in having]
        order = [
            RowOrder(
                None if found is None else distinct.setdefault(found, len(distinct)),
                key.descending,
                key.nulls_first,
            )
            for key, found in zip(select.sort_keys, sorting, strict=True)
        ]
        expressions = list(distinct)
        batches = self._rows(expressions)
        if masks:
            batches = where_true(batches, masks)
        if self._fill is not None:
            types = [expression.data_type for expression in expressions]
            batches = filled_rows(batches, self._fill, types, self._context)
        if order:
            batches = sorted_rows(batches, order, self._context)
        if len(expressions) > visible:
            batches = self._visible(batches, visible)
        keep = null_filter(select.without_null, outputs, index, self._listed_names)
        if keep is not None:
            batches = without_null(batches, keep)
        return ResultSet(
            columns=[output.name for output in outputs],
            types=[output.expression.data_type for output in outputs],
            column_index=index,
            batches=limited(batches, select.offset, select.limit),
            ignore_time=self._kind is ItemKind.AGGREGATE and not select.in_windows,
        )

    def latest(self, series: Sequence[SeriesInfo]) -> dict[int, tuple[int, Any] | None]:
        """Return the latest point of each series whose row passes WHERE, by the series' id."""
        self._resolver.prefetch(self._select)
        self._tests = self._bound_rest()
        functions = [AGGREGATE_FUNCTIONS[name] for name in ("max_time", "last_value")]
        wanted = [AggregateLeaf(function, info, "") for function in functions for info in series]
        (row,) = self._rows(wanted)
        cells = [
            column.values[0] if column.valid is None or column.valid[0] else None
            for column in row.columns
        ]
        pairs = zip(cells[: len(series)], cells[len(series) :], strict=True)
        return {
            info.series_id: None if time is None else (int(time), value)
            for info, (time, value) in zip(series, pairs, strict=True)
        }

    # ---- binding ----

    def _binder(self, *, with_time: bool = False) -> Binder:
        match = _anywhere(self._select.prefixes, self)
        return Binder(match, self._context.functions, with_time=with_time)

    def match(self, pattern: str) -> Sequence[SeriesInfo]:
        """Return the series of a full path or pattern."""
        return self._resolver.match(pattern)

    def _bound_rest(self) -> list[Bound]:
        """Return what WHERE tests besides what can be tested where the points are."""
        rest = self._select.rest
        if rest is None:
            return []
        bound = self._binder(with_time=True).bind(rest)
        if not bound:
            raise unknown_in_where(listed_text(rest))
        for test in bound:
            _check_boolean(test, "WHERE")
            if is_delayed(test) or not all(isinstance(leaf, SeriesLeaf) for leaf in leaves(test)):
                raise query_error(f"{test.name} can't be computed row by row in WHERE")
        return bound

    def _bound_control(self) -> Bound | None:
        """Return what groups of rows are made by."""
        segments = self._select.segments
        if segments is None or segments.control is None:
            return None
        bound = self._binder().bind(segments.control)
        text = listed_text(segments.control)
        if len(bound) != 1:
            raise query_error(
                f"GROUP BY {segments.kind.name}: {text} stands for {len(bound)} columns, it has to "
                "be one"
            )
        (control,) = bound
        if is_delayed(control) or not all(isinstance(leaf, SeriesLeaf) for leaf in leaves(control)):
            raise query_error(f"GROUP BY {segments.kind.name}: {text} can't be computed row by row")
        return control

    def _bound_having(self) -> list[Bound]:
        having = self._select.having
        if having is None:
            return []
        bound = self._binder().bind(having)
        if not bound:
            raise query_error(f"Unknown time series {listed_text(having)} in `having clause`")
        for test in bound:
            _check_boolean(test, "HAVING")
            if any(isinstance(leaf, SeriesLeaf) for leaf in leaves(test)):
                raise query_error("HAVING is about aggregates, such as HAVING count(s1) > 1")
        if self._kind is not ItemKind.AGGREGATE:
            raise query_error("HAVING needs a query with aggregates")
        return bound

    def _sorted_by(self, key: SortKey, outputs: Sequence[Output]) -> Bound | None:
        """Return what a key of ORDER BY is computed from, None for the time."""
        if key.by is SortBy.TIME:
            return None
        if isinstance(key.by, SortBy):
            raise query_error(f"ORDER BY {key.by.value.upper()} needs rows that have it")
        if isinstance(key.by, PathExpression):
            for output in outputs:
                if output.name == key.by.path:
                    return output.expression
        bound = self._binder().bind(key.by)
        if len(bound) != 1:
            raise query_error(
                f"ORDER BY {listed_text(key.by)} stands for {len(bound)} columns, it has to be one"
            )
        return bound[0]

    # ---- rows ----

    def _rows(self, expressions: Sequence[Bound]) -> Iterator[ColumnBatch]:
        columns = SeriesColumns()
        others = self._tests if self._control is None else [*self._tests, self._control]
        for expression in [*expressions, *others]:
            for info in series_of(expression):
                columns.number_of(info)
        selected = len(columns.series)
        where = self._where(columns)
        check_series_count(len(columns.series), self._context)
        if self._kind is ItemKind.AGGREGATE:
            if self._tests or self._select.segments is not None or _of_rows(expressions):
                return self._row_aggregates(expressions, columns.series, selected, where)
            return self._aggregates(expressions, columns.series, selected, where)
        return self._tested_points(expressions, columns.series, selected, where)

    def _row_aggregates(
        self,
        expressions: Sequence[Bound],
        series: Sequence[SeriesInfo],
        selected: int,
        where: PlannedWhere,
    ) -> Iterator[ColumnBatch]:
        select, context = self._select, self._context
        if not select.in_windows and any(
            isinstance(leaf, EndTimeLeaf) for one in expressions for leaf in leaves(one)
        ):
            raise query_error(f"{END_TIME} is of windows: it needs GROUP BY")
        windows = None if select.windows is None else WindowSeries(select.windows, context)
        rows = RowsToAggregate(self._backend, context, series, selected, where, self._tests)
        source = RowAggregation(rows, windows, select.segments, self._control)
        delayed = any(map(is_delayed, expressions))
        found = evaluated(expressions, source.read, keep_empty_rows=not delayed)
        return reversed_rows(found) if select.order_descending and select.in_windows else found

    def _tested_points(
        self,
        expressions: Sequence[Bound],
        series: Sequence[SeriesInfo],
        selected: int,
        where: PlannedWhere,
    ) -> Iterator[ColumnBatch]:
        rows = RowsToAggregate(self._backend, self._context, series, selected, where, self._tests)

        def read(wanted: Sequence[Leaf]) -> Iterator[ColumnBatch]:
            numbers = rows.numbers(wanted)
            return reordered(rows.stream(where), [numbers[leaf] for leaf in wanted])

        found = evaluated(expressions, read, keep_empty_rows=False)
        if self._select.order_descending:
            keys = [RowOrder(None, descending=True, nulls_first=False)]
            return sorted_rows(found, keys, self._context)
        return found

    def _visible(self, batches: Iterator[ColumnBatch], width: int) -> Iterator[ColumnBatch]:
        """Yield rows without the columns that only decided about them."""
        if self._kind is ItemKind.AGGREGATE:
            yield from first_only(batches, width)
            return
        for batch in batches:
            found = first_columns(batch, width)
            if found is not None:
                yield found


def _check_boolean(test: Bound, clause: str) -> None:
    if test.data_type is not DataType.BOOLEAN:
        raise query_error(
            f"{clause} needs a condition; {test.name} is of type {test.data_type.name}"
        )


def _of_rows(expressions: Sequence[Bound]) -> bool:
    return any(
        isinstance(leaf, (RowAggregateLeaf, EndTimeLeaf))
        for expression in expressions
        for leaf in leaves(expression)
    )


def _anywhere(prefixes: Sequence[str], selection: ModernSelection) -> PathMatcher:
    """Return the matcher of paths that may be absolute, as in WHERE, HAVING and ORDER BY."""
    relative = match_over(prefixes, selection)

    def match(path: str) -> Sequence[MatchedSeries]:
        if path.startswith("root."):
            return [(series, series.path) for series in selection.match(path)]
        return relative(path)

    return match
