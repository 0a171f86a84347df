"""SELECT with one row for each timestamp: points, expressions, aggregates, windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.query.aggregation import AggregateLeaves, AggregateSource, reversed_rows
from cluster.query.backend import QueryBackend
from cluster.query.binding import (
    Binder,
    ItemKind,
    Output,
    SeriesResolver,
    bind_items,
    cut_columns,
    match_over,
)
from cluster.query.context import QueryContext
from cluster.query.errors import query_error
from cluster.query.evaluate import evaluated
from cluster.query.expressions import (
    AggregateLeaf,
    Bound,
    Leaf,
    SeriesLeaf,
    is_delayed,
    series_of,
)
from cluster.query.group_by import WindowSeries
from cluster.query.level import bind_levels, grouped_names, read_levels
from cluster.query.result import ResultSet, limited
from cluster.query.rows import RowSource, reordered
from cluster.query.where import (
    PlannedWhere,
    SeriesColumns,
    UnknownFilterPathError,
    match_filter_path,
    plan_where,
    unknown_in_where,
)
from cluster.query.window_fill import filled_windows
from cluster.query.without_null import null_filter, without_null
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.expressions import Expression
from cluster.sql.statements.select import Alignment, Select
from iotdb_engine.types import ColumnBatch


class Selection:
    """One SELECT: resolves its columns and filter, then streams rows.

    Args:
        select: aligned by time, without LAST and without FILL at a point.
        kind: as `checks.select_kind` says.
        backend: schema and points.
        context: of the query.
    """

    def __init__(
        self, select: Select, kind: ItemKind, backend: QueryBackend, context: QueryContext
    ) -> None:
        self._select = select
        self._kind = kind
        self._backend = backend
        self._context = context
        self._resolver = SeriesResolver(backend, prefix_dialect=context.prefix_dialect)

    def result(self) -> ResultSet:
        """Plan, and return the result to be computed."""
        self._resolver.prefetch(self._select)
        if self._select.levels:
            return self._levels()
        outputs = self._outputs()
        if not outputs:
            self._where(SeriesColumns())
            return ResultSet([], [], [], iter(()))
        if self._kind is ItemKind.FUNCTION:
            check_aligned(outputs, self._context)
        distinct: dict[Bound, int] = {}
        index = [distinct.setdefault(output.expression, len(distinct)) for output in outputs]
        expressions = list(distinct)
        columns = SeriesColumns()
        for expression in expressions:
            if isinstance(expression, (SeriesLeaf, AggregateLeaf)):
                columns.number_of(expression.series)
                continue
            for info in series_of(expression):
                columns.number_of(info)
        selected = len(columns.series)
        where = self._where(columns)
        check_series_count(len(columns.series), self._context)
        if self._select.alignment is Alignment.NONE:
            return self._not_aligned(outputs, index, expressions)
        if self._kind is ItemKind.AGGREGATE:
            batches = self._aggregates(expressions, columns.series, selected, where)
        else:
            batches = self._points(expressions, columns.series, selected, where)
        keep = null_filter(self._select.without_null, outputs, index, self._listed_names)
        if keep is not None:
            batches = without_null(batches, keep)
        return ResultSet(
            columns=[output.name for output in outputs],
            types=[output.expression.data_type for output in outputs],
            column_index=index,
            batches=limited(batches, self._select.offset, self._select.limit),
            ignore_time=self._kind is ItemKind.AGGREGATE and self._select.windows is None,
        )

    def _outputs(self) -> list[Output]:
        select = self._select
        match = match_over(select.prefixes, self._resolver)
        outputs = bind_items(select.items, match, self._context.functions)
        return cut_columns(outputs, select.series_limit, select.series_offset)

    def _where(self, columns: SeriesColumns) -> PlannedWhere:
        modern = self._select.modern
        match = match_filter_path(self._select.prefixes, self._resolver.match, modern=modern)
        try:
            return plan_where(self._select.where, match, columns, modern=modern)
        except UnknownFilterPathError as error:
            raise unknown_in_where(str(error)) from None

    def _listed_names(self, column: Expression | str) -> list[str]:
        """Return the columns that a column listed in WITHOUT NULL stands for."""
        if isinstance(column, str):
            known = column.startswith("root.") and self._resolver.match(column)
            return [column] if known else []
        match = match_over(self._select.prefixes, self._resolver)
        binder = Binder(match, self._context.functions)
        return [bound.name for bound in binder.bind(column)]

    # ---- points and functions of them ----

    def _points(
        self,
        expressions: Sequence[Bound],
        series: Sequence[SeriesInfo],
        selected: int,
        where: PlannedWhere,
    ) -> Iterator[ColumnBatch]:
        select = self._select
        descending = select.order_descending
        if self._kind is ItemKind.SERIES:
            source = RowSource(self._backend, self._context, series, selected, where)
            return source.stream(descending=descending, max_rows=self._max_rows())
        numbers = {info.series_id: number for number, info in enumerate(series)}

        def read(wanted: Sequence[Leaf]) -> Iterator[ColumnBatch]:
            chosen = [leaf.series for leaf in wanted if isinstance(leaf, SeriesLeaf)]
            if [info.series_id for info in chosen] == list(numbers)[:selected]:
                source = RowSource(self._backend, self._context, series, selected, where)
                return source.stream()
            # one function of several reads its own series only, besides those of the filter
            source = RowSource(self._backend, self._context, series, selected, where)
            place = [numbers[info.series_id] for info in chosen]
            return reordered(source.stream(), place)

        rows = evaluated(expressions, read, keep_empty_rows=False)
        return reversed_rows(rows) if descending else rows

    def _not_aligned(
        self,
        outputs: Sequence[Output],
        index: list[int],
        expressions: Sequence[Bound],
    ) -> ResultSet:
        """Return a stream of points for each distinct column; LIMIT counts in each."""
        select = self._select

        def stream(expression: Bound) -> Iterator[ColumnBatch]:
            own = SeriesColumns()
            for info in series_of(expression):
                own.number_of(info)
            count = len(own.series)
            where = self._where(own)
            rows = self._points([expression], own.series, count, where)
            return limited(rows, select.offset, select.limit)

        return ResultSet(
            columns=[output.name for output in outputs],
            types=[output.expression.data_type for output in outputs],
            column_index=index,
            batches=iter(()),
            column_streams=[stream(expression) for expression in expressions],
        )

    def _max_rows(self) -> int | None:
        """Return how many rows can be asked of the groups: all that are read are rows here."""
        select = self._select
        if select.limit is None or select.without_null is not None:
            return None
        return select.offset + select.limit

    # ---- aggregates ----

    def _aggregates(
        self,
        expressions: Sequence[Bound],
        series: Sequence[SeriesInfo],
        selected: int,
        where: PlannedWhere,
    ) -> Iterator[ColumnBatch]:
        select = self._select
        windows = None if select.windows is None else WindowSeries(select.windows, self._context)
        descending = select.order_descending and windows is not None

        def leaves_of(part: WindowSeries | None) -> AggregateLeaves:
            source = AggregateSource(self._backend, self._context, series, selected, where, part)
            return AggregateLeaves(source, series)

        def read(part: WindowSeries | None, *, backwards: bool) -> Iterator[ColumnBatch]:
            source = leaves_of(part)
            if any(map(is_delayed, expressions)):
                rows = evaluated(expressions, source.read, keep_empty_rows=False)
                return reversed_rows(rows) if backwards else rows
            return evaluated(
                expressions,
                lambda wanted: source.read(wanted, descending=backwards),
                keep_empty_rows=True,
            )

        if select.fill is not None and windows is not None:
            types = [expression.data_type for expression in expressions]
            rows = filled_windows(
                select.fill,
                windows,
                types,
                lambda part: read(part, backwards=False),
                self._context,
                unfilled=counts_among(expressions),
            )
            return reversed_rows(rows) if descending else rows
        return read(windows, backwards=descending)

    def _levels(self) -> ResultSet:
        select = self._select
        match = match_over(select.prefixes, self._resolver)
        grouped = bind_levels(select.items, match, select.levels)
        cut = cut_columns(grouped, select.series_limit, select.series_offset)
        columns = SeriesColumns()
        for column in cut:
            for info in column.members:
                columns.number_of(info)
        selected = len(columns.series)
        where = self._where(columns)
        if not cut:
            return ResultSet([], [], [], iter(()))
        windows = None if select.windows is None else WindowSeries(select.windows, self._context)
        descending = select.order_descending and windows is not None

        def read(part: WindowSeries | None, *, backwards: bool) -> Iterator[ColumnBatch]:
            source = AggregateSource(
                self._backend, self._context, columns.series, selected, where, part
            )
            return read_levels(source, columns.series, cut, descending=backwards)

        batches = read(windows, backwards=descending)
        keep = null_filter(
            select.without_null,
            cut,
            list(range(len(cut))),
            lambda column: (
                [column] if isinstance(column, str) else grouped_names(column, match, select.levels)
            ),
        )
        if keep is not None:
            batches = without_null(batches, keep)
        return ResultSet(
            columns=[column.name for column in cut],
            types=[column.data_type for column in cut],
            column_index=list(range(len(cut))),
            batches=limited(batches, select.offset, select.limit),
            ignore_time=windows is None,
        )


def counts_among(expressions: Sequence[Bound]) -> list[bool]:
    """Return which expressions are counts: their cells are never null, so never filled."""
    return [
        getattr(getattr(expression, "function", None), "counts", False)
        for expression in expressions
    ]


def check_aligned(outputs: Sequence[Output], context: QueryContext) -> None:
    """Refuse functions and arithmetic over aligned series where 0.13 does."""
    if context.aligned_functions:
        return
    for output in outputs:
        if any(info.aligned for info in series_of(output.expression)):
            raise query_error("Aligned timeseries is not supported in current query for now.")


def check_series_count(count: int, context: QueryContext) -> None:
    """Refuse a query that reads too many series at once."""
    limit = context.max_series
    if count > limit:
        raise query_error(
            f"Too many paths in one query! Currently allowed max deduplicated path number is "
            f"{limit}. Please use slimit or adjust max_deduplicated_path_num."
        )
