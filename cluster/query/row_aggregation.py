"""Aggregation over the rows themselves, at the coordinator.

For what the groups can't do: aggregates without a partial form, conditions that are more than
comparisons with constants, groups of rows (VARIATION …), windows that overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cluster.query.aggregates import FunctionCells
from cluster.query.aggregation import needs_of, rows_of
from cluster.query.backend import QueryBackend
from cluster.query.context import QueryContext
from cluster.query.errors import query_error
from cluster.query.evaluate import compute_of
from cluster.query.expressions import (
    AggregateLeaf,
    Bound,
    EndTimeLeaf,
    Leaf,
    RowAggregateLeaf,
    SeriesLeaf,
    leaves,
    remembers,
    series_of,
)
from cluster.query.group_by import WindowRows, WindowSeries
from cluster.query.rows import RowSource
from cluster.query.segments import check_control, find_segments
from cluster.query.where import PlannedWhere
from cluster.scan.filters import kept
from cluster.scan.windows import AggregateTable, Windows
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.select import Segments
from iotdb_engine.types import T_MIN, Column, ColumnBatch, DataType

_WINDOWS_AT_ONCE = 8192
_MAX_OVERLAP = 1000
"""Windows that a time lies in; each of them reads the rows anew."""


class RowsToAggregate(NamedTuple):
    """Which rows there are.

    Attributes:
        backend: where the points are.
        context: of the query.
        series: unique; the filter's columns are parallel to it.
        selected: the first so many are read.
        where: the filter.
        tests: what rows have to meet besides.
    """

    backend: QueryBackend
    context: QueryContext
    series: Sequence[SeriesInfo]
    selected: int
    where: PlannedWhere
    tests: Sequence[Bound]

    def numbers(self, expressions: Sequence[Bound]) -> dict[Leaf, int]:
        """Return the columns that the leaves of expressions over series are in."""
        place = {info.series_id: number for number, info in enumerate(self.series[: self.selected])}
        return {
            leaf: place[leaf.series.series_id]
            for expression in expressions
            for leaf in leaves(expression)
            if isinstance(leaf, SeriesLeaf)
        }

    def stream(self, where: PlannedWhere) -> Iterator[ColumnBatch]:
        """Stream the rows, ascending."""
        rows = RowSource(self.backend, self.context, self.series, self.selected, where).stream()
        computes = [compute_of(test, self.numbers(self.tests)) for test in self.tests]
        for batch in rows:
            found: ColumnBatch | None = batch
            if computes:
                met = [_met(compute(batch)) for compute in computes]
                found = kept(batch, np.logical_and.reduce(met))
            if found is not None:
                yield found


class RowAggregation:
    """Reads leaves of an aggregation: a row for each window, a column for each leaf.

    Args:
        rows: to be aggregated.
        windows: of time, or None.
        segments: groups of rows, or None; with neither there is one window.
        control: `segments.control`, bound.
    """

    def __init__(
        self,
        rows: RowsToAggregate,
        windows: WindowSeries | None,
        segments: Segments | None,
        control: Bound | None,
    ) -> None:
        self._rows = rows
        self._windows = windows
        self._segments = segments
        self._control = control
        self._first: int | None = T_MIN if segments is not None else None
        """Where the rows begin that functions of rows before may remember."""
        if segments is not None:
            check_control(segments, None if control is None else control.data_type)

    def read(self, wanted: Sequence[Leaf]) -> Iterator[ColumnBatch]:
        """Stream the windows' rows, ascending."""
        for piece in self._pieces(wanted):
            if self._first is None:
                self._first = int(piece.windows.lows[0])
            yield rows_of(piece, self._columns(piece.windows, wanted), descending=False)

    def _pieces(self, wanted: Sequence[Leaf]) -> Iterator[WindowRows]:
        if self._segments is not None:
            distance = 0 if self._segments.distance is None else self._segments.distance.units
            found = find_segments(self._segments, distance, self._controlled(wanted))
            yield from found.pieces(_WINDOWS_AT_ONCE)
        elif self._windows is not None:
            yield from self._windows.pieces(_WINDOWS_AT_ONCE)
        else:
            yield WindowRows(Windows.single(), np.zeros(1, np.int64))

    def _controlled(
        self, wanted: Sequence[Leaf]
    ) -> Iterator[tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Column | None]]:
        """Yield times and the control's values of all rows that have a value to be aggregated."""
        rows = self._rows
        ids = {info.series_id for leaf in wanted for info in series_of(leaf)}
        used = [
            number
            for number, info in enumerate(rows.series[: rows.selected])
            if info.series_id in ids
        ]
        control = self._control
        compute = None if control is None else compute_of(control, rows.numbers([control]))
        for batch in rows.stream(rows.where):
            if compute is not None:
                yield batch.times, compute(batch)
                continue
            some = _some_value([batch.columns[number] for number in used], len(batch.times))
            if some.any():
                yield batch.times[some], None

    def _columns(self, windows: Windows, wanted: Sequence[Leaf]) -> list[Column]:
        """Return the leaves' values over windows, which may overlap."""
        every = _distance_of_disjoint(windows)
        if every == 1:
            return self._disjoint(windows, wanted)
        parts = [
            self._disjoint(Windows(windows.lows[n::every], windows.highs[n::every]), wanted)
            for n in range(min(every, len(windows.lows)))
        ]
        return [_interleaved(columns) for columns in zip(*parts, strict=True)]

    def _disjoint(self, windows: Windows, wanted: Sequence[Leaf]) -> list[Column]:
        rows, count = self._rows, len(windows.lows)
        plain = [leaf for leaf in wanted if isinstance(leaf, AggregateLeaf)]
        by_row = [leaf for leaf in wanted if isinstance(leaf, RowAggregateLeaf)]
        kinds = [info.data_type for info in rows.series[: rows.selected]]
        table = AggregateTable(kinds, count, needs_of([leaf.function for leaf in plain]))
        ids = {leaf.series.series_id for leaf in plain}
        results = [
            (number, one)
            for number, (one, info) in enumerate(zip(table, rows.series, strict=False))
            if info.series_id in ids
        ]
        running = [leaf.function.start(count) for leaf in by_row]
        arguments = [
            [compute_of(argument, rows.numbers([argument])) for argument in leaf.arguments]
            for leaf in by_row
        ]
        for batch in self._within(windows, whole=any(map(remembers, by_row))):
            for number, one in results:
                one.add_rows(windows, batch.times, batch.columns[number])
            if not running:
                continue
            at = np.minimum(np.searchsorted(windows.highs, batch.times), count - 1)
            inside = (windows.lows[at] <= batch.times) & (batch.times <= windows.highs[at])
            part = kept(batch, inside)
            if part is None:
                continue
            numbers = at[inside]
            for accumulator, computes in zip(running, arguments, strict=True):
                accumulator.add(numbers, part.times, [compute(part) for compute in computes])
        cells = FunctionCells(table)
        place = {info.series_id: number for number, info in enumerate(rows.series)}
        done = iter(running)
        columns = []
        for leaf in wanted:
            match leaf:
                case AggregateLeaf():
                    columns.append(cells.column(leaf.function, place[leaf.series.series_id]))
                case RowAggregateLeaf():
                    columns.append(next(done).result())
                case EndTimeLeaf():
                    columns.append(Column(DataType.INT64, windows.highs))
                case SeriesLeaf():
                    raise AssertionError("points among aggregates")
        return columns

    def _within(self, windows: Windows, *, whole: bool) -> Iterator[ColumnBatch]:
        """Stream the rows of some windows, without those that groups of rows leave out.

        Args:
            windows: in time order.
            whole: with all rows before them, which something remembers.
        """
        rows, segments, control = self._rows, self._segments, self._control
        where = rows.where
        low, high = int(windows.lows[0]), int(windows.highs[-1])
        others = rows.tests if control is None else [*rows.tests, control]
        if self._first is not None and (whole or any(map(remembers, others))):
            low = self._first
        batches = rows.stream(PlannedWhere(where.times.within(low, high), where.rows))
        if segments is None or control is None or not segments.ignore_null:
            yield from batches
            return
        compute: Callable[[ColumnBatch], Column] = compute_of(control, rows.numbers([control]))
        for batch in batches:
            valid = compute(batch).valid
            found = batch if valid is None else kept(batch, valid)
            if found is not None:
                yield found


def _met(column: Column) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    values = column.values.astype(np.bool_, copy=False)
    return values if column.valid is None else values & column.valid


def _some_value(
    columns: Sequence[Column], count: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    some = np.zeros(count, np.bool_)
    for column in columns:
        if column.valid is None:
            return np.ones(count, np.bool_)
        some |= column.valid
    return some


def _distance_of_disjoint(windows: Windows) -> int:
    """Return the least n such that every n-th window overlaps none of the others."""
    lows, highs = windows
    every = 1
    while every < len(lows) and bool((lows[every:] <= highs[:-every]).any()):
        every += 1
        if every > _MAX_OVERLAP:
            raise query_error(
                f"more than {_MAX_OVERLAP} windows overlap; make the sliding step longer"
            )
    return every


def _interleaved(columns: Sequence[Column]) -> Column:
    """Return values of which each column has every n-th."""
    count = sum(len(column.values) for column in columns)
    values = np.zeros(count, columns[0].values.dtype)
    valid = np.ones(count, np.bool_)
    for number, column in enumerate(columns):
        values[number :: len(columns)] = column.values
        if column.valid is not None:
            valid[number :: len(columns)] = column.valid
    return Column(columns[0].type, values, None if valid.all() else valid)
