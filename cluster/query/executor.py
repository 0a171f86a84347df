"""Runs queries over a QueryBackend: plan, then column batches."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cluster.errors import ClusterError, StatusCode
from cluster.query.aggregates import AggregateFunction, accumulate, aggregate_row
from cluster.query.align import align_streams
from cluster.query.backend import QueryBackend
from cluster.query.columns import (
    OutputColumn,
    SeriesResolver,
    cut_columns,
    expand_items,
    query_error,
)
from cluster.query.result import ResultSet, limited
from cluster.query.show import show
from cluster.query.time_set import TimeSet
from cluster.query.where import PlannedWhere, RowFilter, SeriesColumns, plan_where
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.families import Statement, is_query
from cluster.sql.statements.select import Select
from iotdb_engine.aggregate import merge_aggregates
from iotdb_engine.types import Aggregate, Column, ColumnBatch, DataType

_MAX_INTERVALS = 64
"""Time intervals that are read one by one; more are read as one range and filtered."""


class HasRemaining(Protocol):
    """A point in time that work must end by."""

    def remaining_s(self) -> float:
        """Return the seconds left, 0 or less when there are none."""
        ...


@dataclass(frozen=True)
class QueryContext:
    """What a query may use.

    Attributes:
        deadline: after it the query fails with TIME_OUT.
        version: what SHOW VERSION says.
        prefix_dialect: whether paths mean what they meant in 0.12 (sql.md 1.6).
        cancelled: set to make the query fail at its next batch.
        max_series: most distinct series that one SELECT may read.
    """

    deadline: HasRemaining
    version: str
    prefix_dialect: bool = False
    cancelled: threading.Event | None = None
    max_series: int = 1000

    def check(self) -> None:
        """Raise ClusterError if the query must end."""
        if self.deadline.remaining_s() <= 0:
            raise ClusterError(
                StatusCode.TIME_OUT,
                "Current query is time out, query less data or give it more time "
                "(query_timeout_threshold).",
            )
        if self.cancelled is not None and self.cancelled.is_set():
            raise ClusterError(StatusCode.QUERY_PROCESS_ERROR, "The query was cancelled.")


def execute_query(statement: Statement, backend: QueryBackend, context: QueryContext) -> ResultSet:
    """Plan a query now; its rows are computed as they are taken.

    Raises:
        ClusterError: the query can't be planned (sql.md 2.8). The result's batches may raise
            ClusterError as well: a time-out, or what the backend raises.
    """
    context.check()
    if isinstance(statement, Select):
        return _Selection(statement, backend, context).result()
    if is_query(statement):
        return show(statement, backend, version=context.version, prefix=context.prefix_dialect)
    raise ClusterError(StatusCode.EXECUTE_STATEMENT_ERROR, "Statement is not a query statement.")


class _Selection:
    """One SELECT: resolves its columns and filter, then streams rows or aggregates them."""

    def __init__(self, select: Select, backend: QueryBackend, context: QueryContext) -> None:
        self._select = select
        self._backend = backend
        self._context = context

    def result(self) -> ResultSet:
        """Plan, and return the result to be computed."""
        select = self._select
        resolver = SeriesResolver(self._backend, prefix_dialect=self._context.prefix_dialect)
        outputs = cut_columns(
            expand_items(select, resolver), select.series_limit, select.series_offset
        )
        columns = SeriesColumns()
        for output in outputs:
            columns.number_of(output.series)
        selected = len(columns.series)
        where = plan_where(select, resolver, columns)
        self._check_series_count(len(columns.series))
        if not outputs:
            return ResultSet([], [], [], iter(()))
        if outputs[0].function is None:
            index = [columns.number_of(output.series) for output in outputs]
            batches = self._raw_batches(columns.series, selected, where)
        else:
            distinct: dict[tuple[int, AggregateFunction], int] = {}
            index = [
                distinct.setdefault((output.series.series_id, output.function), len(distinct))
                for output in outputs
                if output.function is not None
            ]
            batches = self._aggregate_batches(outputs, columns, selected, where)
        return ResultSet(
            columns=[output.name for output in outputs],
            types=[output.data_type for output in outputs],
            column_index=index,
            batches=batches,
            ignore_time=outputs[0].function is not None,
        )

    def _check_series_count(self, count: int) -> None:
        limit = self._context.max_series
        if count > limit:
            raise query_error(
                f"Too many paths in one query! Currently allowed max deduplicated path number is "
                f"{limit}. Please use slimit or adjust max_deduplicated_path_num."
            )

    # ---- rows ----

    def _raw_batches(
        self, series: list[SeriesInfo], selected: int, where: PlannedWhere
    ) -> Iterator[ColumnBatch]:
        select = self._select
        rows = self._rows(series, where, descending=select.order_descending)
        if len(series) > selected:
            rows = _projected(rows, selected)
        return limited(rows, select.offset, select.limit)

    def _rows(
        self, series: Sequence[SeriesInfo], where: PlannedWhere, *, descending: bool
    ) -> Iterator[ColumnBatch]:
        """Stream the rows that pass the filter, columns parallel to `series`."""
        times, row_filter = _readable(where)
        max_rows = None
        if row_filter is None and self._select.limit is not None:
            # rows are never dropped after the read: each has a value in a selected column
            max_rows = self._select.offset + self._select.limit
        intervals = times.intervals[::-1] if descending else times.intervals
        for low, high in intervals:
            for batch in self._read(series, low, high, descending, max_rows):
                self._context.check()
                if row_filter is None:
                    yield batch
                    continue
                kept = _keep(batch, row_filter.mask(batch))
                if kept is not None:
                    yield kept

    def _read(
        self,
        series: Sequence[SeriesInfo],
        low: int,
        high: int,
        descending: bool,
        max_rows: int | None,
    ) -> Iterator[ColumnBatch]:
        """Read series of any storage groups as one stream, columns parallel to `series`."""
        groups: dict[str, list[int]] = defaultdict(list)
        for number, info in enumerate(series):
            groups[info.storage_group].append(number)
        members = [[series[number] for number in numbers] for numbers in groups.values()]
        streams = [
            self._backend.read(member, low, high, descending=descending, max_rows=max_rows)
            for member in members
        ]
        types = [[info.data_type for info in member] for member in members]
        merged = align_streams(streams, types, descending=descending)
        order = [number for numbers in groups.values() for number in numbers]
        if order == sorted(order):
            return merged
        place = [order.index(number) for number in range(len(order))]
        return _reordered(merged, place)

    # ---- aggregates ----

    def _aggregate_batches(
        self,
        outputs: Sequence[OutputColumn],
        columns: SeriesColumns,
        selected: int,
        where: PlannedWhere,
    ) -> Iterator[ColumnBatch]:
        """Yield the one row, each distinct pair of series and function once."""
        aggregates = self._aggregates(columns.series, selected, where)
        cells: dict[tuple[int, AggregateFunction], tuple[DataType, object]] = {}
        for output in outputs:
            function = output.function
            assert function is not None
            value = function.of(aggregates[columns.number_of(output.series)])
            cells[output.series.series_id, function] = (output.data_type, value)
        yield from limited(
            [aggregate_row(list(cells.values()))], self._select.offset, self._select.limit
        )

    def _aggregates(
        self, series: Sequence[SeriesInfo], selected: int, where: PlannedWhere
    ) -> list[Aggregate]:
        """Return an aggregate for each of the first `selected` series."""
        aggregates = [Aggregate() for _ in range(selected)]
        if where.rows is None and len(where.times.intervals) <= _MAX_INTERVALS:
            for low, high in where.times.intervals:
                self._context.check()
                parts = self._backend.aggregate(series, low, high)
                aggregates = list(map(merge_aggregates, aggregates, parts))
            return aggregates
        for batch in self._rows(series, where, descending=False):
            for aggregate, column in zip(aggregates, batch.columns, strict=False):
                accumulate(aggregate, batch.times, column)
        return aggregates


def _readable(where: PlannedWhere) -> tuple[TimeSet, RowFilter | None]:
    """Return few enough intervals to read, and what is left to test on their rows."""
    if len(where.times.intervals) <= _MAX_INTERVALS:
        return where
    return where.times.hull(), where.with_time_filter()


def _keep(
    batch: ColumnBatch, mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> ColumnBatch | None:
    """Return the rows of a mask; None when there are none."""
    if mask.all():
        return batch
    if not mask.any():
        return None
    return ColumnBatch(
        batch.times[mask],
        tuple(
            Column(
                column.type,
                column.values[mask],
                None if column.valid is None else column.valid[mask],
            )
            for column in batch.columns
        ),
    )


def _projected(batches: Iterator[ColumnBatch], count: int) -> Iterator[ColumnBatch]:
    """Keep the first columns, and the rows that have a value in one of them."""
    for batch in batches:
        columns = batch.columns[:count]
        projected = ColumnBatch(batch.times, columns)
        valids = [column.valid for column in columns if column.valid is not None]
        if len(valids) < len(columns):
            yield projected
            continue
        kept = _keep(projected, np.logical_or.reduce(valids))
        if kept is not None:
            yield kept


def _reordered(batches: Iterator[ColumnBatch], place: Sequence[int]) -> Iterator[ColumnBatch]:
    for batch in batches:
        yield ColumnBatch(batch.times, tuple(batch.columns[at] for at in place))
