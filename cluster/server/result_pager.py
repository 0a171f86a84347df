"""Cuts a result set into pages of the size that a client asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from cluster.query.align import joined
from cluster.query.result import ResultSet, slice_batch
from cluster.rpc.columnar import block_bytes
from iotdb_engine import Column, ColumnBatch, DataType
from iotdb_engine.stored import StoredBatch

MAX_PAGE_BYTES = 8_000_000
"""Well below the 16 000 000 bytes that some clients accept in a frame."""
_LARGE_ROWS = 4096
_FIRST_ROWS = 16_384


class ResultPager:
    """Pages of a result set, in order. Rows are never split; pages are never empty."""

    def __init__(self, result: ResultSet) -> None:
        self._batches: Iterator[ColumnBatch] = iter(result.batches)
        self._head: ColumnBatch | None = None

    def next_page(self, max_rows: int) -> ColumnBatch | None:
        """Return up to `max_rows` further rows (fewer when they are large), or None at the end."""
        taken: list[ColumnBatch] = []
        rows = size = 0
        single = self._peek()
        if single is not None and single.rows == 1 and max_rows > 0:
            # often all there is, and then its size is of no interest
            self._head = None
            if self._peek() is None:
                return single
            taken, rows, size = [single], 1, _size(single)
        while rows < max_rows:
            head = self._peek()
            if head is None:
                break
            count, bytes_ = head.rows, _size(head)
            if rows + count <= max_rows and size + bytes_ <= MAX_PAGE_BYTES:  # mostly
                taken.append(head)
                rows += count
                size += bytes_
                self._head = None
                continue
            count = min(count, max_rows - rows)
            count = _rows_within(head, count, MAX_PAGE_BYTES - size, at_least_one=not taken)
            if count == 0:
                break
            piece = slice_batch(head, 0, count)
            taken.append(piece)
            rows += count
            size += _size(piece)
            self._head = slice_batch(head, count, head.rows) if count < head.rows else None
        return joined(taken) if taken else None

    def next_batches(self, max_rows: int) -> list[ColumnBatch]:
        """Return up to `max_rows` further rows in batches, [] at the end.

        Only the first is ever cut: a page ends early rather than within another batch.
        """
        taken: list[ColumnBatch] = []
        rows = size = 0
        while (head := self._peek()) is not None:
            if isinstance(head, StoredBatch) and not taken:
                head = self._split(head, max_rows)
            count = head.rows
            if not taken:
                count = _rows_within(head, min(count, max_rows), MAX_PAGE_BYTES, at_least_one=True)
            elif rows + count > max_rows or size + block_bytes(head) > MAX_PAGE_BYTES:
                break
            piece = slice_batch(head, 0, count)
            taken.append(piece)
            rows += count
            size += block_bytes(piece)
            self._head = slice_batch(head, count, head.rows) if count < head.rows else None
        return list(_gathered(taken))

    def _split(self, head: StoredBatch, rows: int) -> StoredBatch:
        """Leave of the batch at hand what a page may have, by whole pages, one at least."""
        within = head.rows * MAX_PAGE_BYTES // max(1, head.stored_bytes)
        rows = min(rows, within)
        if head.rows <= rows:
            return head
        self._head, rest = head.split(rows)
        if rest is not None:
            self._batches = chain((rest,), self._batches)
        return self._head

    def first_rows(self, max_rows: int) -> int:
        """Return how many rows the first page of blocks is to have, where `max_rows` are allowed.

        Where one page is not enough it is a short one: its receiver decodes that while the next one
        is made.
        """
        head = self._peek()
        if isinstance(head, StoredBatch) and head.rows + head.rows_after > max_rows:
            return min(max_rows, _FIRST_ROWS)
        return max_rows

    def has_more(self) -> bool:
        """Whether another page follows."""
        return self._peek() is not None

    def _peek(self) -> ColumnBatch | None:
        while self._head is None or not self._head.rows:
            self._head = next(self._batches, None)
            if self._head is None:
                return None
        return self._head


class ColumnPager:
    """Pages of a result that is not aligned: some points of each column. Never all empty."""

    def __init__(self, streams: Sequence[Iterator[ColumnBatch]]) -> None:
        self._streams = list(streams)
        self._heads: list[ColumnBatch | None] = [None] * len(self._streams)

    def next_page(self, max_rows: int) -> list[ColumnBatch | None] | None:
        """Return up to `max_rows` further points of each column, or None at the end."""
        budget = MAX_PAGE_BYTES // max(1, len(self._streams))
        page = [self._take(number, max_rows, budget) for number in range(len(self._streams))]
        return page if any(part is not None for part in page) else None

    def has_more(self) -> bool:
        """Whether another page follows."""
        return any(self._peek(number) is not None for number in range(len(self._streams)))

    def _take(self, number: int, max_rows: int, budget: int) -> ColumnBatch | None:
        head = self._peek(number)
        if head is None:
            return None
        count = _rows_within(head, min(head.rows, max_rows), budget, at_least_one=True)
        rest = slice_batch(head, count, head.rows) if count < head.rows else None
        self._heads[number] = rest
        return slice_batch(head, 0, count)

    def _peek(self, number: int) -> ColumnBatch | None:
        head = self._heads[number]
        while head is None or not head.rows:
            head = next(self._streams[number], None)
            if head is None:
                return None
        self._heads[number] = head
        return head


def _gathered(batches: Sequence[ColumnBatch]) -> Iterator[ColumnBatch]:
    """Yield batches with the small ones joined: each costs its receiver something of its own."""
    group: list[ColumnBatch] = []
    rows = 0
    for batch in batches:
        alone = isinstance(batch, StoredBatch) or batch.rows >= _LARGE_ROWS
        if group and (alone or rows >= _LARGE_ROWS):
            yield joined(group)
            group, rows = [], 0
        if alone:
            yield batch
        else:
            group.append(batch)
            rows += batch.rows
    if group:
        yield joined(group)


def _size(batch: ColumnBatch) -> int:
    if isinstance(batch, StoredBatch):
        return block_bytes(batch)
    total = batch.times.nbytes
    for column in batch.columns:
        if column.type is DataType.TEXT:
            total += _text_bytes(column)
        else:
            total += column.values.nbytes
    return total


def _text_bytes(column: Column) -> int:
    values = column.values if column.valid is None else column.values[column.valid]
    texts: list[bytes] = values.tolist()
    return sum(map(len, texts)) + 4 * len(texts)


def _rows_within(batch: ColumnBatch, count: int, budget: int, *, at_least_one: bool) -> int:
    """Return how many of the first `count` rows fit a byte budget, by halving."""
    while count > 1 and _size(slice_batch(batch, 0, count)) > budget:
        count //= 2
    if count == 1 and not at_least_one and _size(slice_batch(batch, 0, 1)) > budget:
        return 0
    return count
