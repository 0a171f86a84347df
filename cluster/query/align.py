"""Merges time-ordered streams of column batches into one stream of aligned rows.

Problem: k streams (one for each storage group), each in time order, each batch of any size; wanted
is one stream whose rows are the union of the timestamps. A heap over rows would touch every point
in Python. Instead, each round looks at the k current batches and cuts them all at the earliest of
their last timestamps: whatever lies up to the cut can't be preceded by anything still to come, so
it is merged with a few array operations, and at least one stream moves on to its next batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cluster.query.result import slice_batch
from iotdb_engine.types import BATCH_DTYPES, Column, ColumnBatch, DataType

_Times = npt.NDArray[np.int64]


def align_streams(
    streams: Sequence[Iterator[ColumnBatch]],
    types: Sequence[Sequence[DataType]],
    *,
    descending: bool = False,
) -> Iterator[ColumnBatch]:
    """Merge streams by time.

    Args:
        streams: each strictly ascending (or descending) in time across its batches.
        types: for each stream the types of its columns.
        descending: order of the streams and of the result.

    Yields:
        Batches with the columns of all streams, stream after stream; a stream that has no row at
        a timestamp gives nulls. Holds one batch of each stream at a time.
    """
    if len(streams) == 1:
        yield from (batch for batch in streams[0] if batch.rows)
        return
    heads: list[ColumnBatch | None] = [_next(stream) for stream in streams]
    while True:
        present = [head for head in heads if head is not None]
        if not present:
            return
        lasts = [int(head.times[-1]) for head in present]
        cut = max(lasts) if descending else min(lasts)
        pieces: list[ColumnBatch | None] = [None] * len(streams)
        for number, head in enumerate(heads):
            if head is None:
                continue
            count = _count_up_to(head.times, cut, descending)
            if count:
                pieces[number] = slice_batch(head, 0, count)
            if count < len(head.times):
                heads[number] = slice_batch(head, count, len(head.times))
            else:
                heads[number] = _next(streams[number])
        yield _merge(pieces, types, descending)


def _next(stream: Iterator[ColumnBatch]) -> ColumnBatch | None:
    """Return the next batch that has rows."""
    for batch in stream:
        if len(batch.times):
            return batch
    return None


def _count_up_to(times: _Times, cut: int, descending: bool) -> int:
    if descending:
        return len(times) - int(np.searchsorted(times[::-1], cut, side="left"))
    return int(np.searchsorted(times, cut, side="right"))


def _merge(
    pieces: Sequence[ColumnBatch | None],
    types: Sequence[Sequence[DataType]],
    descending: bool,
) -> ColumnBatch:
    given = [piece.times for piece in pieces if piece is not None]
    union = _union(given, descending)
    ascending = union[::-1] if descending else union
    columns: list[Column] = []
    for piece, piece_types in zip(pieces, types, strict=True):
        if piece is None:
            columns.extend(nulls(data_type, len(union)) for data_type in piece_types)
        elif len(piece.times) == len(union):
            columns.extend(piece.columns)
        else:
            rows = np.searchsorted(ascending, piece.times)
            if descending:
                rows = len(union) - 1 - rows
            columns.extend(_spread(column, rows, len(union)) for column in piece.columns)
    return ColumnBatch(union, tuple(columns))


def _union(given: Sequence[_Times], descending: bool) -> _Times:
    first = given[0]
    if all(times is first or np.array_equal(times, first) for times in given[1:]):
        return first
    union = np.unique(np.concatenate(given))
    return union[::-1] if descending else union


def nulls(data_type: DataType, count: int) -> Column:
    """Return a column of nulls."""
    return Column(
        data_type,
        np.zeros(count, dtype=BATCH_DTYPES[data_type]),
        np.zeros(count, dtype=np.bool_),
    )


def _spread(column: Column, rows: npt.NDArray[np.intp], count: int) -> Column:
    values = np.zeros(count, dtype=column.values.dtype)
    values[rows] = column.values
    valid = np.zeros(count, dtype=np.bool_)
    valid[rows] = True if column.valid is None else column.valid
    return Column(column.type, values, valid)


def joined(batches: Sequence[ColumnBatch]) -> ColumnBatch:
    """Return the rows of some batches, at least one, as one batch."""
    if len(batches) == 1:
        return batches[0]
    columns = []
    for parts in zip(*(batch.columns for batch in batches), strict=True):
        valid = None
        if any(part.valid is not None for part in parts):
            valid = np.concatenate(
                [
                    np.ones(len(part.values), np.bool_) if part.valid is None else part.valid
                    for part in parts
                ]
            )
        values = np.concatenate([part.values for part in parts])
        columns.append(Column(parts[0].type, values, valid))
    return ColumnBatch(np.concatenate([batch.times for batch in batches]), tuple(columns))
