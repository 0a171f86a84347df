"""Reads of one region: rows, window aggregates, last points, with everything pushed down."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt

from cluster.scan.bounds import are_all_passing, value_bounds
from cluster.scan.filters import (
    AllOf,
    Check,
    RowFilter,
    ValueFilter,
    filter_columns,
    passing,
    renumbered,
    tests_values,
)
from cluster.scan.windows import NUMERIC_TYPES, AggregateTable, Needs, Windows
from iotdb_engine.open_read import OpenRead
from iotdb_engine.region import Region
from iotdb_engine.types import Column, ColumnBatch, DataType

MAX_PAGE_BYTES = 16 << 20
"""Of a page of a scan, on its way from one node to another."""

SeriesKeys = Sequence[tuple[int, DataType]]

Interval = tuple[int, int]


@dataclass(frozen=True)
class RowsQuery:
    """Which rows.

    Attributes:
        series: ids and types; the filter's columns are parallel to it.
        selected: only the first so many columns are returned; rows without a value in them drop.
        t_min: inclusive.
        t_max: inclusive.
        descending: newest first.
        row_filter: rows that pass; None: all.
    """

    series: tuple[tuple[int, DataType], ...]
    selected: int
    t_min: int
    t_max: int
    descending: bool = False
    row_filter: RowFilter | None = None

    @property
    def first(self) -> int:
        """Where the scan begins."""
        return self.t_max if self.descending else self.t_min

    def after(self, last: int) -> int | None:
        """Return where the scan goes on after a time, None when that is its end."""
        if self.descending:
            return last - 1 if last > self.t_min else None
        return last + 1 if last < self.t_max else None

    def from_(self, first: int) -> RowsQuery:
        """Return what is left of the scan from a time on."""
        return replace(self, t_max=first) if self.descending else replace(self, t_min=first)


class RowsPage(NamedTuple):
    """Some rows of a scan, and where it goes on: the first time not looked at, None at the end."""

    batches: list[ColumnBatch]
    resume: int | None


class _Stretch(NamedTuple):
    """Part of a scan: the rows that pass, how many were looked at, and up to which time."""

    found: list[ColumnBatch]
    scanned: int
    last: int


def stream_rows(
    region: Region,
    query: RowsQuery,
    slots: Sequence[int] | None,
    max_rows: int | None,
    check: Check,
    *,
    stored: bool = False,
) -> Iterator[ColumnBatch]:
    """Yield the rows of a whole scan; see `Region.read` for what it looks at and holds.

    `stored`: whole pages as they are stored, where the scan is of all rows.
    """
    if query.row_filter is None and query.selected == len(query.series):
        return region.read(
            query.series,
            query.t_min,
            query.t_max,
            slots=slots,
            descending=query.descending,
            max_rows=max_rows,
            stored=stored,
            check=check,
        )
    if _may_be_needless(query.row_filter, query.series):
        read = region.open_read(query.series, slots, check=check)
        try:
            needless = _is_needless(read, query.row_filter, query.series)
        except BaseException:
            read.close()
            raise
        if needless:
            return read.scan(
                query.series,
                query.t_min,
                query.t_max,
                query.descending,
                max_rows,
                stored=stored,
            )
        read.close()
    return _found(_stretches(region, query, slots, check))


def _may_be_needless(row_filter: RowFilter | None, series: SeriesKeys) -> TypeGuard[RowFilter]:
    """Return whether a look at statistics may tell that every row passes a filter."""
    if len(series) != 1 or series[0][1] not in NUMERIC_TYPES:
        return False
    return isinstance(row_filter, (ValueFilter, AllOf))


def _is_needless(read: OpenRead, row_filter: RowFilter, series: SeriesKeys) -> bool:
    """Return whether statistics tell that every row of a single series passes a filter."""
    span = read.value_span(series[0])
    return span is not None and are_all_passing(row_filter, span)


def _found(stretches: Iterator[_Stretch]) -> Iterator[ColumnBatch]:
    for stretch in stretches:
        yield from stretch.found


def _stretches(
    region: Region, query: RowsQuery, slots: Sequence[int] | None, check: Check
) -> Generator[_Stretch, None, None]:
    """Scan, the filter's columns first where they are few: the others only where rows pass.

    Both readings apply the whole filter, so a row that changes between them is judged as it is
    returned.
    """
    leading = _leading_columns(query)
    if leading is None:
        first, row_filter, selected = query.series, query.row_filter, query.selected
    else:
        first, row_filter, selected = leading.series, leading.row_filter, len(leading.series)
    rows = region.read(
        first,
        query.t_min,
        query.t_max,
        slots=slots,
        descending=query.descending,
        bounds=value_bounds(row_filter, len(first)),
        check=check,
    )
    try:
        for batch in rows:
            found = list(passing(iter((batch,)), row_filter, selected, check))
            if leading is not None and found:
                times = found[0].times
                low, high = sorted((int(times[0]), int(times[-1])))
                whole = region.read(
                    query.series, low, high, slots=slots, descending=query.descending, check=check
                )
                found = list(passing(whole, query.row_filter, query.selected, check))
            yield _Stretch(found, len(batch.times), int(batch.times[-1]))
    finally:
        close_rows(rows)


class _Leading(NamedTuple):
    """The filter's own columns, and the filter over them."""

    series: tuple[tuple[int, DataType], ...]
    row_filter: RowFilter


def _leading_columns(query: RowsQuery) -> _Leading | None:
    """Return the columns to be read first; None when all are read at once.

    A row must not pass by its time alone: it might have no value in these columns.
    """
    if query.row_filter is None or not tests_values(query.row_filter):
        return None
    columns = sorted(filter_columns(query.row_filter))
    if len(columns) >= len(query.series):
        return None
    places = {column: place for place, column in enumerate(columns)}
    series = tuple(query.series[column] for column in columns)
    return _Leading(series, renumbered(query.row_filter, places))


def rows_page(
    region: Region,
    query: RowsQuery,
    slots: Sequence[int] | None,
    max_rows: int,
    max_scanned: int,
    check: Check,
    *,
    max_bytes: int = MAX_PAGE_BYTES,
) -> RowsPage:
    """Return the next rows of a scan.

    Args:
        region: where to read.
        query: what to read.
        slots: see `Region.read`.
        max_rows: stop after that many rows.
        max_scanned: stop after looking at that many, so that a page's time is bounded.
        check: see `Check`.
        max_bytes: stop before the page is larger than that, but for its first row.
    """
    batches: list[ColumnBatch] = []
    rows = scanned = size = 0
    stretches = _stretches(region, query, slots, check)
    try:
        for stretch in stretches:
            scanned += stretch.scanned
            for found in stretch.found:
                count = min(len(found.times), max_rows - rows)
                count = _rows_within(found, count, max_bytes - size, at_least_one=not batches)
                if count:
                    batches.append(_head(found, count))
                    rows += count
                    size += _size(batches[-1])
                if count < len(found.times):
                    return RowsPage(batches, query.after(int(batches[-1].times[-1])))
            if rows >= max_rows or scanned >= max_scanned:
                return RowsPage(batches, query.after(stretch.last))
    finally:
        stretches.close()
    return RowsPage(batches, None)


def _rows_within(batch: ColumnBatch, count: int, room: int, *, at_least_one: bool) -> int:
    """Return how many of the first rows fit into some bytes."""
    if _size(batch) <= room:
        return count
    whole = _row_sizes(batch, count).cumsum()
    fitting = int(np.searchsorted(whole, room, side="right"))
    return max(fitting, 1) if at_least_one and count else fitting


def _row_sizes(batch: ColumnBatch, count: int) -> npt.NDArray[np.int64]:
    """Return the bytes of each of the first rows."""
    fixed = 8 + sum(c.values.itemsize for c in batch.columns if c.type is not DataType.TEXT)
    sizes = np.full(count, fixed, np.int64)
    for column in batch.columns:
        if column.type is DataType.TEXT:
            sizes += np.fromiter(map(_length, column.values[:count].tolist()), np.int64, count)
    return sizes


def _size(batch: ColumnBatch) -> int:
    if any(column.type is DataType.TEXT for column in batch.columns):
        return int(_row_sizes(batch, len(batch.times)).sum())
    return batch.times.nbytes + sum(column.values.nbytes for column in batch.columns)


def _length(text: Any) -> int:  # noqa: ANN401
    """Return the bytes of a text; of a null, whatever stands there, none."""
    return 4 + len(text) if isinstance(text, bytes) else 4


def close_rows(rows: Iterator[ColumnBatch]) -> None:
    """End a scan before its end, so that it lets go of what it holds."""
    if isinstance(rows, Generator):
        rows.close()


def _head(batch: ColumnBatch, count: int) -> ColumnBatch:
    if count == len(batch.times):
        return batch
    return ColumnBatch(
        batch.times[:count],
        tuple(
            Column(
                column.type,
                column.values[:count],
                None if column.valid is None else column.valid[:count],
            )
            for column in batch.columns
        ),
    )


@dataclass(frozen=True)
class AggregatesQuery:
    """Which aggregates.

    Attributes:
        series: ids and types; the filter's columns are parallel to it.
        selected: only the first so many series are aggregated.
        windows: inclusive.
        intervals: inclusive, disjoint, ascending; only points in them count.
        needs: what is wanted.
        row_filter: only rows that pass count; None: all.
    """

    series: tuple[tuple[int, DataType], ...]
    selected: int
    windows: Windows
    intervals: tuple[Interval, ...]
    needs: Needs
    row_filter: RowFilter | None = None


def aggregates(
    region: Region, query: AggregatesQuery, slots: Sequence[int] | None, check: Check
) -> AggregateTable:
    """Return the aggregates of the first `selected` series over all windows."""
    kinds = [kind for _, kind in query.series[: query.selected]]
    filtered = query.row_filter is not None or query.selected < len(query.series)
    result: AggregateTable | None = None
    for low, high in query.intervals:
        windows = query.windows.clipped(low, high)
        if windows.are_empty:
            continue
        if filtered and _may_be_needless(query.row_filter, query.series):
            with region.open_read(query.series, slots, check=check) as read:
                if _is_needless(read, query.row_filter, query.series):
                    found = read.aggregate_windows(query.series, windows, query.needs)
                    result = _merged(result, found)
                    continue
        if filtered:
            open_windows = np.flatnonzero(windows.lows <= windows.highs)
            first = int(windows.lows[open_windows[0]])
            last = int(windows.highs[open_windows[-1]])
            rows = RowsQuery(query.series, query.selected, first, last, row_filter=query.row_filter)
            if result is None:
                result = AggregateTable(kinds, len(windows.lows), query.needs)
            parts = list(result)
            for batch in stream_rows(region, rows, slots, None, check):
                for one, column in zip(parts, batch.columns, strict=True):
                    one.add_rows(windows, batch.times, column)
            continue
        found = region.aggregate_windows(
            query.series, windows, query.needs, slots=slots, check=check
        )
        result = _merged(result, found)
    if result is None:
        return AggregateTable(kinds, len(query.windows.lows), query.needs)
    return result


def _merged(result: AggregateTable | None, found: AggregateTable) -> AggregateTable:
    if result is None:
        return found
    result.merge(found)
    return result


def last_points(
    region: Region, series: SeriesKeys, slots: Sequence[int] | None, check: Check
) -> list[tuple[int, Any] | None]:
    """Return the latest point of each series: time and value, None where there is none."""
    return region.last(series, slots=slots, check=check)
