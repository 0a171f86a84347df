"""What 1.x does with the rows of an answer: HAVING, FILL, ORDER BY (sql.md 7.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.query.align import joined
from cluster.query.context import QueryContext
from cluster.query.fill import FilledRows, fill_column, mode_of, reach_of
from cluster.query.result import held_batches, slice_batch
from cluster.scan.filters import kept
from cluster.sql.statements.select import Fill, FillMethod
from iotdb_engine.types import Column, ColumnBatch, DataType

MAX_CELLS = 32_000_000
"""Cells that are held in memory to be sorted, or filled on lines."""

_ROWS_OF_A_BATCH = 8192


def where_true(batches: Iterator[ColumnBatch], numbers: Sequence[int]) -> Iterator[ColumnBatch]:
    """Yield the rows in which some BOOLEAN columns are all true."""
    for batch in batches:
        masks = []
        for number in numbers:
            column = batch.columns[number]
            values = column.values.astype(np.bool_, copy=False)
            masks.append(values if column.valid is None else values & column.valid)
        found = kept(batch, np.logical_and.reduce(masks))
        if found is not None:
            yield found


def first_only(batches: Iterator[ColumnBatch], width: int) -> Iterator[ColumnBatch]:
    """Yield rows without the columns after the first so many."""
    for batch in batches:
        yield ColumnBatch(batch.times, batch.columns[:width])


class RowOrder(NamedTuple):
    """A key of sorting: a column by its number, or the time (None)."""

    column: int | None
    descending: bool
    nulls_first: bool


def sorted_rows(
    batches: Iterator[ColumnBatch], keys: Sequence[RowOrder], context: QueryContext
) -> Iterator[ColumnBatch]:
    """Yield all rows in the order of some keys; rows that are equal stay as they came.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: they are too many to be held.
    """
    rows = _all_rows(batches, "sorted", context)
    if rows is None:
        return
    ranks: list[npt.NDArray[Any]] = []
    for key in keys:
        if key.column is None:
            ranks.append(_ranks(Column(DataType.INT64, rows.times), key))
        else:
            ranks.append(_ranks(rows.columns[key.column], key))
    order = np.lexsort(ranks[::-1])
    columns = tuple(
        Column(c.type, c.values[order], None if c.valid is None else c.valid[order])
        for c in rows.columns
    )
    yield from _cut(ColumnBatch(rows.times[order], columns))


def _ranks(column: Column, key: RowOrder) -> npt.NDArray[Any]:
    """Return the place of each value among the different ones, nulls at the end they belong to."""
    values = column.values
    if column.valid is not None:
        valid = column.valid
        filler = values[valid][:1] if valid.any() else np.zeros(1, values.dtype)
        values = np.where(valid, values, filler[0] if len(filler) else 0)
    _, ranks = np.unique(values, return_inverse=True)
    ranks = ranks.astype(np.int64)
    if key.descending:
        ranks = -ranks
    if column.valid is not None:
        outside = ranks.min() - 1 if key.nulls_first else ranks.max() + 1
        ranks = np.where(column.valid, ranks, outside)
    return ranks


def filled_rows(
    batches: Iterator[ColumnBatch], fill: Fill, types: Sequence[DataType], context: QueryContext
) -> Iterator[ColumnBatch]:
    """Yield all rows, null cells filled from the rows around them.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: PREVIOUS and LINEAR hold the rows, and they are too many.
    """
    modes = [mode_of(fill, data_type) for data_type in types]
    reaches = [reach_of(mode, context.precision) for mode in modes]

    def filled(rows: ColumnBatch) -> ColumnBatch:
        around = FilledRows(rows.times, 0, len(rows.times) - 1)
        columns = [
            fill_column(around, column, mode, reach)
            for column, mode, reach in zip(rows.columns, modes, reaches, strict=True)
        ]
        return ColumnBatch(rows.times, tuple(columns))

    if all(mode.method is FillMethod.VALUE for mode in modes):
        yield from map(filled, batches)
        return
    rows = _all_rows(batches, "filled", context)
    if rows is not None:
        yield from _cut(filled(rows))


def _all_rows(
    batches: Iterator[ColumnBatch], what: str, context: QueryContext
) -> ColumnBatch | None:
    problem = f"can't be {what} at once; select fewer"
    held = held_batches(batches, MAX_CELLS, problem, context.check)
    return joined(held) if held else None


def _cut(rows: ColumnBatch) -> Iterator[ColumnBatch]:
    for start in range(0, len(rows.times), _ROWS_OF_A_BATCH):
        yield slice_batch(rows, start, min(start + _ROWS_OF_A_BATCH, len(rows.times)))
