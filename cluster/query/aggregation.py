"""Aggregation: leaves computed over windows, from partial aggregates of the groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import or_

import numpy as np

from cluster.query.aggregates import AggregateFunction, FunctionCells
from cluster.query.backend import QueryBackend
from cluster.query.context import QueryContext
from cluster.query.expressions import AggregateLeaf, Leaf
from cluster.query.group_by import WindowRows, WindowSeries
from cluster.query.result import held_batches
from cluster.query.rows import RowSource, readable
from cluster.query.where import PlannedWhere
from cluster.scan.windows import AggregateTable, Needs, Windows
from cluster.schema.series import SeriesInfo
from iotdb_engine.types import Column, ColumnBatch

_MAX_CELLS = 1 << 19
"""Aggregates (windows × series) that are held at once."""

_MAX_WINDOWS = 8192

_MAX_REVERSED_CELLS = 32_000_000
"""Of rows of functions that are turned around in memory for ORDER BY TIME DESC."""


class AggregateSource:
    """Computes aggregates of series over windows, piece by piece.

    Args:
        backend: where the points are.
        context: of the query.
        series: unique; the filter's columns are parallel to it.
        selected: the first so many are aggregated.
        where: only points of rows that pass count.
        windows: None: one window without bounds.
    """

    def __init__(
        self,
        backend: QueryBackend,
        context: QueryContext,
        series: Sequence[SeriesInfo],
        selected: int,
        where: PlannedWhere,
        windows: WindowSeries | None,
    ) -> None:
        self._backend = backend
        self._context = context
        self._series = series
        self._selected = selected
        self._where = where
        self._windows = windows

    def pieces(self, *, descending: bool = False) -> Iterator[WindowRows]:
        """Yield the windows in pieces that fit memory."""
        if self._windows is None:
            yield WindowRows(Windows.single(), np.zeros(1, np.int64))
            return
        size = max(1, min(_MAX_WINDOWS, _MAX_CELLS // max(1, self._selected)))
        yield from self._windows.pieces(size, descending=descending)

    def aggregate(self, windows: Windows, needs: Needs) -> AggregateTable:
        """Return the aggregates of each wanted series over some windows."""
        self._context.check()
        times, row_filter = readable(self._where)
        plain = row_filter is None and self._selected == len(self._series)
        if plain or len({info.storage_group for info in self._series}) == 1:
            return self._backend.aggregate(
                self._series,
                windows,
                times.intervals,
                needs,
                selected=self._selected,
                row_filter=row_filter,
            )
        # the filter's series lie elsewhere: rows meet here
        kinds = [info.data_type for info in self._series[: self._selected]]
        table = AggregateTable(kinds, len(windows.lows), needs)
        results = list(table)
        within = PlannedWhere(
            self._where.times.within(int(windows.lows[0]), int(windows.highs[-1])), self._where.rows
        )
        source = RowSource(self._backend, self._context, self._series, self._selected, within)
        for batch in source.stream():
            for result, column in zip(results, batch.columns, strict=True):
                result.add_rows(windows, batch.times, column)
        return table


class AggregateLeaves:
    """Reads aggregate leaves: a row for each window, a column for each leaf.

    Args:
        source: of the series.
        numbers: series id → number of the series in the source.
    """

    def __init__(self, source: AggregateSource, series: Sequence[SeriesInfo]) -> None:
        self._source = source
        self._numbers = {info.series_id: number for number, info in enumerate(series)}

    def read(self, leaves: Sequence[Leaf], *, descending: bool = False) -> Iterator[ColumnBatch]:
        """Stream the windows' rows."""
        wanted = [leaf for leaf in leaves if isinstance(leaf, AggregateLeaf)]
        needs = needs_of([leaf.function for leaf in wanted])
        for piece in self._source.pieces(descending=descending):
            cells = FunctionCells(self._source.aggregate(piece.windows, needs))
            columns = [
                cells.column(leaf.function, self._numbers[leaf.series.series_id]) for leaf in wanted
            ]
            yield rows_of(piece, columns, descending=descending)


def needs_of(functions: Sequence[AggregateFunction]) -> Needs:
    """Return what some functions need."""
    if len(functions) == 1:
        return functions[0].needs
    different = {function.name: function.needs for function in functions}
    return reduce(or_, different.values(), Needs.NOTHING)


def rows_of(piece: WindowRows, columns: Sequence[Column], *, descending: bool) -> ColumnBatch:
    """Return the rows of some windows, latest first if so wanted."""
    if not descending:
        return ColumnBatch(piece.times, tuple(columns))
    return ColumnBatch(piece.times[::-1], tuple(reversed_column(column) for column in columns))


def reversed_column(column: Column) -> Column:
    """Return the values in reverse."""
    valid = None if column.valid is None else column.valid[::-1]
    return Column(column.type, column.values[::-1], valid)


def reversed_rows(batches: Iterator[ColumnBatch]) -> Iterator[ColumnBatch]:
    """Yield all rows latest first; holds them all.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: there are too many.
    """
    problem = "of functions can't be put in descending order; narrow the time range, or select less"
    for batch in reversed(held_batches(batches, _MAX_REVERSED_CELLS, problem)):
        yield ColumnBatch(batch.times[::-1], tuple(map(reversed_column, batch.columns)))
