"""Rows of series of any storage groups that pass a filter, as one stream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from cluster.query.align import align_streams
from cluster.query.backend import QueryBackend
from cluster.query.context import QueryContext
from cluster.query.where import PlannedWhere
from cluster.scan.filters import RowFilter, passing
from cluster.scan.time_set import TimeSet
from cluster.schema.series import SeriesInfo
from iotdb_engine.types import ColumnBatch

_MAX_INTERVALS = 64
"""Time intervals that are read one by one; more are read as one range and filtered."""


class RowSource:
    """Reads series together with what the filter needs of them.

    Args:
        backend: where the rows are.
        context: of the query.
        series: unique; the filter's columns are parallel to it.
        selected: the first so many are wanted.
        where: the filter.
    """

    def __init__(
        self,
        backend: QueryBackend,
        context: QueryContext,
        series: Sequence[SeriesInfo],
        selected: int,
        where: PlannedWhere,
    ) -> None:
        self._backend = backend
        self._context = context
        self._series = series
        self._selected = selected
        self._times, self._filter = readable(where)

    def stream(
        self, *, descending: bool = False, max_rows: int | None = None
    ) -> Iterator[ColumnBatch]:
        """Stream the rows that pass and have a value in a wanted column; no batch is empty.

        Args:
            descending: newest first.
            max_rows: how many rows will be taken at most; None: any number.
        """
        intervals = self._times.intervals[::-1] if descending else self._times.intervals
        for low, high in intervals:
            for batch in self._read(low, high, descending, max_rows):
                self._context.check()
                if batch.rows:
                    yield batch

    def _read(
        self, low: int, high: int, descending: bool, max_rows: int | None
    ) -> Iterator[ColumnBatch]:
        groups: dict[str, list[int]] = defaultdict(list)
        for number, info in enumerate(self._series):
            groups[info.storage_group].append(number)
        if len(groups) == 1:
            return self._backend.read(
                self._series,
                low,
                high,
                selected=self._selected,
                row_filter=self._filter,
                descending=descending,
                max_rows=max_rows,
            )
        members = [[self._series[number] for number in numbers] for numbers in groups.values()]
        plain = self._filter is None and self._selected == len(self._series)
        streams = [
            self._backend.read(
                member, low, high, descending=descending, max_rows=max_rows if plain else None
            )
            for member in members
        ]
        types = [[info.data_type for info in member] for member in members]
        merged = align_streams(streams, types, descending=descending)
        order = [number for numbers in groups.values() for number in numbers]
        if order != sorted(order):
            merged = reordered(merged, np.argsort(order).tolist())
        if plain:
            return merged
        return passing(merged, self._filter, self._selected, self._context.check)


def readable(where: PlannedWhere) -> tuple[TimeSet, RowFilter | None]:
    """Return few enough intervals to read, and what is left to test on their rows."""
    if len(where.times.intervals) <= _MAX_INTERVALS:
        return where
    return where.times.hull(), where.with_time_filter()


def reordered(batches: Iterator[ColumnBatch], place: Sequence[int]) -> Iterator[ColumnBatch]:
    """Yield batches whose column `n` is the given ones' column `place[n]`."""
    for batch in batches:
        yield ColumnBatch(batch.times, tuple(batch.columns[at] for at in place))
