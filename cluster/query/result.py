"""What a query answers with: a header and a stream of column batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from cluster.query.errors import query_error
from iotdb_engine.stored import StoredBatch
from iotdb_engine.types import BATCH_DTYPES, Column, ColumnBatch, DataType

MAX_BATCH_ROWS = 8192
"""Most rows in one batch of a result."""


@dataclass
class ResultSet:
    """Rows of a query, computed as they are taken. Used by one thread at a time.

    Attributes:
        columns: names of the output columns, without Time; duplicates stay.
        types: parallel to `columns`.
        column_index: for each output column the number of its column in the batches, which carry
            each distinct column once.
        batches: in time order, never empty, at most MAX_BATCH_ROWS rows each, but a StoredBatch
            may be of several pages. Computing the next one may raise ClusterError.
        ignore_time: whether `times` of the batches mean nothing (no Time column).
        kind: operation type text for the client, "QUERY" or "SHOW".
        column_streams: of an answer that is not aligned: for each distinct column its points, one
            column without nulls; `batches` is empty then.
        settle: to be called before any of it is told to anybody; None: it may be told.
    """

    columns: list[str]
    types: list[DataType]
    column_index: list[int]
    batches: Iterator[ColumnBatch]
    ignore_time: bool = False
    kind: str = "QUERY"
    column_streams: list[Iterator[ColumnBatch]] | None = None
    settle: Callable[[], None] | None = None

    def close(self) -> None:
        """Stop computing; idempotent. `batches` yields nothing more."""
        for stream in (self.batches, *(self.column_streams or ())):
            if isinstance(stream, Generator):
                stream.close()
        self.batches = iter(())
        if self.column_streams is not None:
            self.column_streams = [iter(()) for _ in self.column_streams]


_TEXT_BYTES_OF_A_CELL = 16


def held_cells(batch: ColumnBatch) -> int:
    """Return how much of a limit of cells a batch takes that is held in memory.

    A long text takes more than one.
    """
    texts = sum(
        len(value)
        for column in batch.columns
        if column.type is DataType.TEXT
        for value in column.values.tolist()
        if type(value) is bytes
    )
    cells = len(batch.times) * max(1, len(batch.columns))
    return cells + texts // _TEXT_BYTES_OF_A_CELL


def held_batches(
    batches: Iterator[ColumnBatch],
    most_cells: int,
    problem: str,
    check: Callable[[], None] | None = None,
) -> list[ColumnBatch]:
    """Return all batches, where an answer needs all of them at once.

    Args:
        batches: in any order, which is kept.
        most_cells: see `held_cells`.
        problem: what can't be done when there are more, and what to do instead; after "more than n
            cells".
        check: called before each batch is taken; ends this by raising.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: there are more.
    """
    held: list[ColumnBatch] = []
    cells = 0
    for batch in batches:
        if check is not None:
            check()
        held.append(batch)
        cells += held_cells(batch)
        if cells > most_cells:
            raise query_error(f"more than {most_cells} cells {problem}")
    return held


def slice_batch(batch: ColumnBatch, start: int, stop: int) -> ColumnBatch:
    """Return rows [start, stop) as views."""
    if start == 0 and stop >= batch.rows:
        return batch
    return ColumnBatch(
        batch.times[start:stop],
        tuple(
            Column(
                column.type,
                column.values[start:stop],
                None if column.valid is None else column.valid[start:stop],
            )
            for column in batch.columns
        ),
    )


def limited(
    batches: Iterable[ColumnBatch], offset: int = 0, limit: int | None = None
) -> Iterator[ColumnBatch]:
    """Yield rows [offset, offset + limit) of a stream in batches of at most MAX_BATCH_ROWS.

    Takes no more from the stream than it needs. Stored pages stay together (see `ResultSet`).
    """
    if limit == 0:
        return
    waiting = iter(batches)
    while (batch := next(waiting, None)) is not None:
        count = batch.rows
        if limit is None and not offset and 0 < count <= MAX_BATCH_ROWS:  # mostly
            yield batch
            continue
        if offset >= count:
            offset -= count
            continue
        if isinstance(batch, StoredBatch):
            if not offset and (limit is None or limit >= count):
                yield batch
                if limit is not None:
                    limit -= count
                    if limit <= 0:
                        return
                continue
            if batch.pages > 1:
                first, rest = batch.split(offset or limit or 0)
                waiting = chain((first,) if rest is None else (first, rest), waiting)
                continue
        stop = count if limit is None else min(count, offset + limit)
        for start in range(offset, stop, MAX_BATCH_ROWS):
            yield slice_batch(batch, start, min(start + MAX_BATCH_ROWS, stop))
        if limit is not None:
            limit -= stop - offset
            if limit <= 0:
                return
        offset = 0


Cell = str | int | float | None


def table(
    header: Sequence[tuple[str, DataType]], rows: Sequence[Sequence[Cell]], kind: str = "SHOW"
) -> ResultSet:
    """Return a result without time from rows of texts and numbers (SHOW, COUNT)."""
    return ResultSet(
        columns=[name for name, _ in header],
        types=[data_type for _, data_type in header],
        column_index=list(range(len(header))),
        batches=_table_batches([data_type for _, data_type in header], rows),
        ignore_time=True,
        kind=kind,
    )


def _table_batches(
    types: Sequence[DataType], rows: Sequence[Sequence[Cell]]
) -> Iterator[ColumnBatch]:
    for start in range(0, len(rows), MAX_BATCH_ROWS):
        part = rows[start : start + MAX_BATCH_ROWS]
        yield ColumnBatch(
            np.arange(start, start + len(part), dtype=np.int64),
            tuple(
                cells_column(data_type, [row[number] for row in part])
                for number, data_type in enumerate(types)
            ),
        )


def cells_column(data_type: DataType, cells: Sequence[Cell]) -> Column:
    """Return a column of texts and numbers; None for null."""
    values = np.zeros(len(cells), dtype=BATCH_DTYPES[data_type])
    valid = np.ones(len(cells), dtype=np.bool_)
    for number, cell in enumerate(cells):
        if cell is None:
            valid[number] = False
        elif isinstance(cell, str):
            values[number] = cell.encode("utf-8", "surrogatepass")
        else:
            values[number] = cell
    return Column(data_type, values, None if valid.all() else valid)
