"""Row filters: conditions over the columns of a batch, as values that can travel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cluster.scan.time_set import ALL_TIMES, TimeSet
from cluster.scan.value_tests import ValueTest, compiled
from iotdb_engine.types import Column, ColumnBatch

Mask = npt.NDArray[np.bool_]

Check = Callable[[], None]
"""Called now and then by what takes long; raises to end it."""


def go_on() -> None:
    """Be the check of what nobody ends."""


@dataclass(frozen=True)
class TimeFilter:
    """Passes rows whose timestamp is in a set."""

    times: TimeSet

    def mask(self, batch: ColumnBatch, _check: Check = go_on) -> Mask:
        """Return which rows pass."""
        return self.times.mask(batch.times)


@dataclass(frozen=True)
class ValueFilter:
    """Passes rows in which a column has a value and that passes (or, negated, fails) a test.

    A null fails either way, as 0.13 has it.
    """

    column: int
    test: ValueTest
    negated: bool = False

    def mask(self, batch: ColumnBatch, check: Check = go_on) -> Mask:
        """Return which rows pass."""
        # a regular expression takes a microsecond a row, and a statement may have many
        check()
        column = batch.columns[self.column]
        passed = compiled(self.test)(column.values)
        if self.negated:
            passed = ~passed
        return passed if column.valid is None else passed & column.valid


@dataclass(frozen=True)
class AllOf:
    """Passes rows that pass every part."""

    parts: tuple[RowFilter, ...]

    def mask(self, batch: ColumnBatch, check: Check = go_on) -> Mask:
        """Return which rows pass."""
        result = self.parts[0].mask(batch, check)
        for part in self.parts[1:]:
            result = result & part.mask(batch, check)
        return result


@dataclass(frozen=True)
class AnyOf:
    """Passes rows that pass at least one part."""

    parts: tuple[RowFilter, ...]

    def mask(self, batch: ColumnBatch, check: Check = go_on) -> Mask:
        """Return which rows pass."""
        result = self.parts[0].mask(batch, check)
        for part in self.parts[1:]:
            result = result | part.mask(batch, check)
        return result


RowFilter = TimeFilter | ValueFilter | AllOf | AnyOf


def combine(kind: type[AllOf] | type[AnyOf], parts: Sequence[RowFilter]) -> RowFilter:
    """Return the combination, its time filters folded into one, nested ones of a kind flattened."""
    times: TimeSet | None = None
    rest: list[RowFilter] = []
    for part in parts:
        for piece in part.parts if isinstance(part, kind) else (part,):
            if not isinstance(piece, TimeFilter):
                rest.append(piece)
            elif times is None:
                times = piece.times
            elif kind is AllOf:
                times = times.intersection(piece.times)
            else:
                times = times.union(piece.times)
    if times is not None:
        rest.insert(0, TimeFilter(times))
    return rest[0] if len(rest) == 1 else kind(tuple(rest))


def time_bounds(row_filter: RowFilter) -> TimeSet:
    """Return a set of timestamps outside which no row can pass."""
    match row_filter:
        case TimeFilter():
            return row_filter.times
        case ValueFilter():
            return ALL_TIMES
        case AllOf():
            times = ALL_TIMES
            for part in row_filter.parts:
                times = times.intersection(time_bounds(part))
            return times
        case AnyOf():
            times = time_bounds(row_filter.parts[0])
            for part in row_filter.parts[1:]:
                times = times.union(time_bounds(part))
            return times


def filter_columns(row_filter: RowFilter) -> set[int]:
    """Return the numbers of the columns that a filter looks at."""
    match row_filter:
        case TimeFilter():
            return set()
        case ValueFilter():
            return {row_filter.column}
        case AllOf() | AnyOf():
            return set().union(*map(filter_columns, row_filter.parts))


def tests_values(row_filter: RowFilter) -> bool:
    """Return whether every row that passes has a value in some column of the filter."""
    match row_filter:
        case TimeFilter():
            return False
        case ValueFilter():
            return True
        case AllOf():
            return any(map(tests_values, row_filter.parts))
        case AnyOf():
            return all(map(tests_values, row_filter.parts))


def renumbered(row_filter: RowFilter, places: Mapping[int, int]) -> RowFilter:
    """Return the filter over columns that stand at other places."""
    match row_filter:
        case TimeFilter():
            return row_filter
        case ValueFilter():
            return replace(row_filter, column=places[row_filter.column])
        case AllOf():
            return AllOf(tuple(renumbered(part, places) for part in row_filter.parts))
        case AnyOf():
            return AnyOf(tuple(renumbered(part, places) for part in row_filter.parts))


def kept(batch: ColumnBatch, mask: Mask) -> ColumnBatch | None:
    """Return the rows of a mask; None when there are none."""
    if mask.all():
        return batch
    rows = np.flatnonzero(mask)
    if not len(rows):
        return None
    return ColumnBatch(
        batch.times[rows],
        tuple(
            Column(
                column.type,
                column.values[rows],
                None if column.valid is None else column.valid[rows],
            )
            for column in batch.columns
        ),
    )


def first_columns(batch: ColumnBatch, count: int) -> ColumnBatch | None:
    """Return the first columns, and of the rows those that have a value in one of them."""
    columns = batch.columns[:count]
    projected = ColumnBatch(batch.times, columns)
    valids = [column.valid for column in columns if column.valid is not None]
    if len(valids) < len(columns):
        return projected
    return kept(projected, np.logical_or.reduce(valids))


def passing(
    batches: Iterator[ColumnBatch],
    row_filter: RowFilter | None,
    selected: int,
    check: Check = go_on,
) -> Iterator[ColumnBatch]:
    """Yield the rows that pass, cut down to the first `selected` columns.

    Rows without a value in these columns are dropped; what remains of a batch is never empty.
    """
    for batch in batches:
        found: ColumnBatch | None = batch
        if row_filter is not None:
            found = kept(batch, row_filter.mask(batch, check))
        if found is not None and selected < len(batch.columns):
            found = first_columns(found, selected)
        if found is not None and len(found.times):
            yield found
