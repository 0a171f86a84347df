"""Pages handed out as they are stored, for who decodes them elsewhere.

Decoded, columns of numbers are several times as many bytes as stored: a client that decodes pages
itself gets them sooner than their values. So a scan may be asked for stored pages: where a window
is one page of every series, and nothing else touches it (no other page, no memory table, no
tombstone, no null, no border of the range), its batch carries the pages' bytes, and values for who
asks for them. Everywhere else batches are what they always are.

A page costs Python some microseconds here, in every layer above, and where it is decoded. So
neighbours within a chunk make one batch, with the pages of a column joined (`encoding.runs`), and
are kept like that. Who wants fewer rows splits it.

Cost: where the cache has them, 1 µs for each column and batch; else 10 µs a page, and its checksum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iotdb_engine.encoding import (
    EncodedPage,
    JoinedPage,
    decode_pages_into,
    decode_values,
    join_pages,
)
from iotdb_engine.errors import Corruption
from iotdb_engine.key_format import Kind, times_key_of, with_kind
from iotdb_engine.page import Chunk, PagePlace, page_places, stored_page
from iotdb_engine.times_record import stored_times_page
from iotdb_engine.types import BATCH_DTYPES, Column, ColumnBatch, DataType

if TYPE_CHECKING:
    from iotdb_engine.reader import Reader
    from iotdb_engine.sources import Series


_STORED = "stored"
"""In the cache: pages as they are stored, whose checksums were looked at."""
_ENTRY_BYTES = 200
_PAGE_BYTES = 80
"""Of what is known of each page that was joined."""
_FEW_SERIES = 32
"""Whose chunks a scan may keep for itself: they have at most 512 KiB each."""
_WORTH_ROWS = 1024
"""Rows of a page, on average, from which handing it out whole is worth a batch of its own."""
MOST_CELLS = 1 << 20
"""Of a batch of several pages: 8 MB, should somebody ask for its values."""


class StoredColumn(Column):
    """A column without nulls whose values are decoded when they are asked for.

    Attributes:
        stored: as the pages have them.
    """

    stored: Sequence[JoinedPage]

    def __init__(self, kind: DataType, stored: Sequence[JoinedPage]) -> None:
        # the fields of a frozen dataclass, but for `values`
        fields = self.__dict__
        fields["type"] = kind
        fields["valid"] = None
        fields["stored"] = stored

    @cached_property
    def values(self) -> npt.NDArray[Any]:
        """Decode; once."""
        pages = [EncodedPage(one.encoding, one.data, sum(one.page_rows)) for one in self.stored]
        return _decoded(self.type, pages)


class StoredBatch(ColumnBatch):
    """A batch of whole pages; columns are made, and times decoded, when they are asked for.

    Args:
        kinds: see below.
        stored: see below.
        times: see below.
        highs: time of the last row of each page.
        rows_after: see below.

    Attributes:
        kinds: of the columns.
        stored: of each column the pages, joined as far as they are alike.
        stored_times: the pages of the times; all columns have theirs at the same rows.
        rows_after: about how many rows of the scan follow.
        stored_bytes: of all pages.
    """

    kinds: Sequence[DataType]
    stored: Sequence[Sequence[JoinedPage]]
    stored_times: Sequence[EncodedPage]
    rows_after: int
    stored_bytes: int

    def __init__(
        self,
        kinds: Sequence[DataType],
        stored: Sequence[Sequence[JoinedPage]],
        times: Sequence[EncodedPage],
        highs: Sequence[int],
        rows_after: int,
    ) -> None:
        # the fields of a frozen dataclass, but for `columns` and `times`
        self.__dict__.update(
            kinds=kinds,
            stored=stored,
            stored_times=times,
            rows_after=rows_after,
            stored_bytes=sum([len(one.data) for one in times])
            + sum([len(one.data) for pages in stored for one in pages]),
            _highs=highs,
            _rows=sum([one.rows for one in times]),
        )

    @property
    def pages(self) -> int:
        """How many there are of each column."""
        return len(self.stored_times)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """StoredColumns, which decode for themselves."""
        return tuple(map(StoredColumn, self.kinds, self.stored))

    @property
    def rows(self) -> int:
        """See `ColumnBatch`."""
        found: int = self.__dict__["_rows"]
        return found

    @property
    def last_time(self) -> int:
        """See `ColumnBatch`."""
        highs: Sequence[int] = self.__dict__["_highs"]
        return highs[-1]

    @cached_property
    def times(self) -> npt.NDArray[np.int64]:
        """Decode; once."""
        return _decoded(DataType.INT64, self.stored_times)

    def split(self, rows: int) -> tuple[StoredBatch, StoredBatch | None]:
        """Return as many of the first pages as have at most so many rows, and the rest.

        One page at least; None where nothing is left.
        """
        count = total = 0
        for page in self.stored_times:
            if count and total + page.rows > rows:
                break
            total += page.rows
            count += 1
        if count == self.pages:
            return self, None
        after = self.rows_after + self.rows - total
        return self._part(0, count, after), self._part(count, self.pages, self.rows_after)

    def each_page(self) -> Iterator[StoredBatch]:
        """Yield a batch for each page."""
        after = self.rows_after + self.rows
        for number, page in enumerate(self.stored_times):
            after -= page.rows
            yield self._part(number, number + 1, after)

    def _part(self, first: int, stop: int, rows_after: int) -> StoredBatch:
        if first == 0 and stop == self.pages:
            return self
        stored = [_part_of(pages, first, stop) for pages in self.stored]
        highs: Sequence[int] = self.__dict__["_highs"]
        times = self.stored_times[first:stop]
        return StoredBatch(self.kinds, stored, times, highs[first:stop], rows_after)


def _part_of(joined: Sequence[JoinedPage], first: int, stop: int) -> list[JoinedPage]:
    found = []
    at = 0
    for one in joined:
        count = len(one.ends)
        low, high = max(first - at, 0), min(stop - at, count)
        if low < high:
            found.append(one.part(low, high))
        at += count
    return found


def _decoded(kind: DataType, pages: Sequence[EncodedPage]) -> npt.NDArray[Any]:
    if len(pages) == 1 or kind is DataType.TEXT:
        parts = [decode_values(kind, *page) for page in pages]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    values = np.empty(sum([page.rows for page in pages]), BATCH_DTYPES[kind])
    decode_pages_into(kind, pages, values)
    return values


class StoredPages:
    """The pages of series that are cut alike, by window; made by `of`, then told the windows."""

    def __init__(
        self, reader: Reader, series: Sequence[Series], clean: npt.NDArray[np.bool_]
    ) -> None:
        first = series[0]
        pages = first.pages
        self._reader = reader
        self._series = series
        self._kinds = [one.kind for one in series]
        self._places: list[list[PagePlace] | None] = [None] * len(series)
        # Each page is wanted of all series, so their chunks are at hand together or not at all.
        self._body = reader.pages.scan_body if len(series) <= _FEW_SERIES else reader.pages.body
        self._lows: list[int] = pages["low"].tolist()
        self._highs: list[int] = pages["high"].tolist()
        self._rows: list[int] = pages["rows"].tolist()
        self._rows_up_to: list[int] = np.cumsum(pages["rows"], dtype=np.int64).tolist()
        self._chunk_of: list[int] = first.chunk_of.tolist()
        self._number_of: list[int] = first.number_of.tolist()
        self._large = _stored_bytes(series) > reader.snapshot.cache.limit_bytes // 2
        self._clean = clean
        self._page_of: list[int] = []
        self._chunk_number = -1
        self._chunks: list[tuple[bytes, Chunk]] = []

    @classmethod
    def of(
        cls, reader: Reader, series: Sequence[Series], t_min: int, t_max: int
    ) -> StoredPages | None:
        """Return the pages within an inclusive range; None where the series are not cut alike."""
        first = series[0]
        if first.layout is None or not len(first.pages):
            return None
        if int(first.pages["rows"].sum(dtype=np.int64)) < _WORTH_ROWS * len(first.pages):
            return None
        lows = first.pages["low"]
        for one in series[1:]:
            if one.layout != first.layout or not np.array_equal(one.pages["low"], lows):
                return None
        clean = np.logical_and.reduce(
            [reader.clean_pages(one, max(t_min, one.floor), t_max) for one in series]
        )
        return cls(reader, series, clean) if clean.any() else None

    def cut(self, windows: Sequence[tuple[int, int]]) -> None:
        """Tell which windows, inclusive and ascending, `batch` will be asked for."""
        self._page_of = _pages_alone(self._series, self._clean, windows)

    def batch(self, window: int, batch_rows: int, max_rows: int) -> StoredBatch | None:
        """Return the rows of windows from one on, a page each; None where that one is not.

        Args:
            window: number of the first.
            batch_rows: most rows of a page.
            max_rows: most rows of the rest of the scan, this batch included.

        Returns:
            A batch of as many pages as windows.

        Raises:
            Corruption: a page is damaged.
        """
        first = self._page_of[window]
        if first < 0 or self._rows[first] > min(batch_rows, max_rows):
            return None
        stop = self._stop(window, first, batch_rows, max_rows)
        rows = self._rows_up_to[stop - 1] - self._rows_up_to[first] + self._rows[first]
        chunk_number = self._chunk_of[first]
        if chunk_number != self._chunk_number:
            self._chunk_number = chunk_number
            found = [one.chunks[chunk_number] for one in self._series]
            self._chunks = [(key, chunk) for key, _, chunk in found]
        times = self._times(first, stop)
        stored = self._stored(first, stop)
        after = min(self._rows_up_to[-1] - self._rows_up_to[stop - 1], max_rows - rows)
        return StoredBatch(self._kinds, stored, times, self._highs[first:stop], after)

    def _stop(self, window: int, first: int, batch_rows: int, max_rows: int) -> int:
        """Return the page behind the last one of a batch."""
        most = min(max_rows, max(self._rows[first], MOST_CELLS // len(self._series)))
        rows = self._rows[first]
        page = first + 1
        following = window + 1
        while (
            following < len(self._page_of)
            and self._page_of[following] == page
            and self._chunk_of[page] == self._chunk_of[first]
            and self._rows[page] <= batch_rows
            and rows + self._rows[page] <= most
        ):
            rows += self._rows[page]
            page += 1
            following += 1
        return page

    def _times(self, first: int, stop: int) -> tuple[EncodedPage, ...]:
        """Return pages of the times of the chunks at hand."""
        reader, cache = self._reader, self._reader.snapshot.cache
        key, chunk = self._chunks[0]
        times_key = times_key_of(key, chunk.owner, chunk.times_first)
        number, count = self._number_of[first], stop - first
        cache_key = (reader.snapshot.cache_id, times_key, number, count, _STORED)
        found: tuple[EncodedPage, ...] | None = cache.get(cache_key)
        if found is None:
            pages = []
            for page in range(first, stop):
                rows, span = self._rows[page], (self._lows[page], self._highs[page])
                place = self._number_of[page]
                one = reader.pages.from_times(times_key, place, rows, span, stored_times_page)
                pages.append(EncodedPage(one.encoding, one.data, rows))
            found = tuple(pages)
            if not self._large:
                size = sum([len(one.data) + _ENTRY_BYTES for one in found])
                cache.put(cache_key, found, size)
        return found

    def _stored(self, first: int, stop: int) -> list[Sequence[JoinedPage]]:
        """Return pages of each of the chunks at hand, their checksums right."""
        reader, cache = self._reader, self._reader.snapshot.cache
        cache_id = reader.snapshot.cache_id
        number, count = self._number_of[first], stop - first
        keys = [(cache_id, key, number, count, _STORED) for key, _ in self._chunks]
        found: list[Any] = [None] * len(keys) if self._large else cache.get_many(keys)
        for column, one in enumerate(found):
            if one is not None:
                continue
            pages = [self._cut(column, page) for page in range(first, stop)]
            found[column] = made = join_pages(pages)
            if not self._large:
                size = sum([len(page.data) + _ENTRY_BYTES for page in made]) + count * _PAGE_BYTES
                cache.put(keys[column], made, size)
        return found

    def _cut(self, column: int, page: int) -> EncodedPage:
        key, chunk = self._chunks[column]
        span = self._lows[page], self._highs[page]
        places = self._places[column]
        if places is None:  # of no use where the cache has all pages
            places = self._places[column] = page_places(self._series[column].pages)
        try:
            body = chunk.inline if chunk.inline is not None else self._body(key)
            found = stored_page(places[page], body)
        except Corruption as error:
            raise error.within(*span) from error
        except ValueError as error:
            where = key if chunk.inline is not None else with_kind(key, Kind.DATA)
            path = self._reader.snapshot.path
            name = f"page {self._number_of[page]}"
            raise Corruption(path, where, name, error, span) from error
        return EncodedPage(found.encoding, found.data, self._rows[page])


def _stored_bytes(series: Sequence[Series]) -> int:
    """Return how much of the cache the pages take: too much would drive out what others use."""
    pages = sum([len(one.pages) for one in series])
    return pages * _ENTRY_BYTES + sum(
        [int(one.pages["size"].sum(dtype=np.int64)) for one in series]
    )


def _pages_alone(
    series: Sequence[Series], clean: npt.NDArray[np.bool_], windows: Sequence[tuple[int, int]]
) -> list[int]:
    """Return for each window the number of the clean page that is all there is in it, or -1."""
    lows, highs = series[0].pages["low"], series[0].pages["high"]
    bounds = np.array(windows, np.int64).reshape(-1, 2)
    starts, ends = np.ascontiguousarray(bounds[:, 0]), np.ascontiguousarray(bounds[:, 1])
    pages = np.searchsorted(lows, starts)
    alone = pages < len(lows)
    at = np.minimum(pages, len(lows) - 1)
    alone &= clean[at] & (highs[at] <= ends)
    alone &= (at == 0) | (highs[at - 1] < starts)
    after = np.minimum(at + 1, len(lows) - 1)
    alone &= (after == at) | (lows[after] > ends)
    for one in series:
        for _, rows in one.memory:
            alone &= ~rows.touched(starts, ends)
    found: list[int] = np.where(alone, pages, -1).tolist()
    return found
