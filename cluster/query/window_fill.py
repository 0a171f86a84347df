"""FILL over the rows of GROUP BY time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cluster.query.align import joined
from cluster.query.context import QueryContext
from cluster.query.fill import FilledRows, fill_column, mode_among, reach_of
from cluster.query.group_by import WindowSeries
from cluster.query.result import held_batches, slice_batch
from cluster.sql.statements.select import Fill
from iotdb_engine.types import ColumnBatch, DataType

_MAX_CELLS = 8_000_000
"""Cells of a filled answer, which is held in memory: a later row may decide over an earlier one."""

ReadWindows = Callable[[WindowSeries], Iterator[ColumnBatch]]
"""Windows → their rows, ascending."""


def filled_windows(
    fill: Fill,
    windows: WindowSeries,
    types: Sequence[DataType],
    read: ReadWindows,
    context: QueryContext,
    *,
    unfilled: Sequence[bool],
) -> Iterator[ColumnBatch]:
    """Yield the rows of all windows, null cells filled.

    Without a distance values come from the windows of the query; with one, also from windows
    before and after it, as far as the distance reaches.

    Args:
        fill: how.
        windows: of the query.
        types: of the columns.
        read: computes rows.
        context: of the query.
        unfilled: columns that stay as they are.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: too many cells.
    """
    ways = [
        None if mode is None or keep else (mode, reach_of(mode, context.precision, context.zone))
        for mode, keep in zip((mode_among(fill, kind) for kind in types), unfilled, strict=True)
    ]
    reaches = [way[1] for way in ways if way is not None]
    earlier = windows.before(max((reach.before_range() for reach in reaches), default=0))
    later = windows.after(max((reach.after_range() for reach in reaches), default=0))
    head = _all_rows(read(earlier)) if earlier is not None else None
    body = _all_rows(read(windows))
    tail = _all_rows(read(later)) if later is not None else None
    if body is None:
        return
    first = 0 if head is None else len(head.times)
    last = first + len(body.times) - 1
    rows = joined([part for part in (head, body, tail) if part is not None])
    around = FilledRows(rows.times, first, last)
    columns = tuple(
        column if way is None else fill_column(around, column, *way)
        for column, way in zip(rows.columns, ways, strict=True)
    )
    yield slice_batch(ColumnBatch(rows.times, columns), first, last + 1)


def _all_rows(batches: Iterator[ColumnBatch]) -> ColumnBatch | None:
    problem = "can't be filled at once; take fewer or longer windows"
    held = held_batches(batches, _MAX_CELLS, problem)
    return joined(held) if held else None
