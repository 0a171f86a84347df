"""Pages handed out as they are stored, for who decodes them elsewhere.

Decoded, columns of numbers are several times as many bytes as stored: a client that decodes pages
itself gets them sooner than their values. So a scan may be asked for stored pages: where a window
is one page of every series, and nothing else touches it (no other page, no memory table, no
tombstone, no null, no border of the range), its batch carries the pages' bytes, and values for who
asks for them. Everywhere else batches are what they always are.

Cost: 3 µs a page and the checksum, less than 1 µs where the cache has it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.encoding import decode_values
from iotdb_engine.errors import Corruption
from iotdb_engine.key_format import Kind, times_key_of, with_kind
from iotdb_engine.page import Chunk, PagePlace, StoredValues, page_places, stored_page
from iotdb_engine.times_record import stored_times_page
from iotdb_engine.types import Column, ColumnBatch, DataType

if TYPE_CHECKING:
    from iotdb_engine.reader import Reader
    from iotdb_engine.sources import Series


_STORED = "stored"
"""In the cache: a page as it is stored, whose checksum was looked at."""
_ENTRY_BYTES = 200
_FEW_SERIES = 32
"""Whose chunks a scan may keep for itself: they have at most 512 KiB each."""
_WORTH_ROWS = 1024
"""Rows of a page, on average, from which handing it out whole is worth a batch of its own."""


class StoredTimes(NamedTuple):
    """A page of times: as it is stored, how many, the first, the last, and what decodes it."""

    stored: StoredValues
    rows: int
    first: int
    last: int
    decode: Callable[[], npt.NDArray[np.int64]]


class StoredColumn(Column):
    """A column without nulls whose values are decoded when they are asked for.

    Attributes:
        stored: as the page has them.
    """

    stored: StoredValues

    def __init__(
        self, kind: DataType, stored: StoredValues, decode: Callable[[], npt.NDArray[Any]]
    ) -> None:
        # the fields of a frozen dataclass, but for `values`
        fields = self.__dict__
        fields["type"] = kind
        fields["valid"] = None
        fields["stored"] = stored
        fields["_decode"] = decode

    @cached_property
    def values(self) -> npt.NDArray[Any]:
        """Decode; once."""
        decode: Callable[[], npt.NDArray[Any]] = self.__dict__["_decode"]
        return decode()


class StoredBatch(ColumnBatch):
    """A batch of whole pages; columns are made, and times decoded, when they are asked for.

    Attributes:
        kinds: of the columns.
        stored: the pages of the columns.
        stored_times: the times as their page has them.
        rows_after: about how many rows of the scan follow.
        stored_bytes: of all pages.
    """

    kinds: Sequence[DataType]
    stored: Sequence[StoredValues]
    stored_times: StoredValues
    rows_after: int
    stored_bytes: int

    def __init__(
        self,
        kinds: Sequence[DataType],
        stored: Sequence[StoredValues],
        decode: Callable[[int], npt.NDArray[Any]],
        stored_times: StoredTimes,
        rows_after: int,
    ) -> None:
        # the fields of a frozen dataclass, but for `columns` and `times`
        self.__dict__.update(
            kinds=kinds,
            stored=stored,
            stored_times=stored_times.stored,
            rows_after=rows_after,
            stored_bytes=len(stored_times.stored.data) + sum([len(data) for _, data in stored]),
            _times=stored_times,
            _decode=decode,
        )

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """StoredColumns, which decode for themselves."""
        decode: Callable[[int], npt.NDArray[Any]] = self.__dict__["_decode"]
        return tuple(
            StoredColumn(kind, stored, partial(decode, number))
            for number, (kind, stored) in enumerate(zip(self.kinds, self.stored, strict=True))
        )

    @property
    def rows(self) -> int:
        """See `ColumnBatch`."""
        found: StoredTimes = self.__dict__["_times"]
        return found.rows

    @property
    def last_time(self) -> int:
        """See `ColumnBatch`."""
        found: StoredTimes = self.__dict__["_times"]
        return found.last

    @cached_property
    def times(self) -> npt.NDArray[np.int64]:
        """Decode; once."""
        found: StoredTimes = self.__dict__["_times"]
        return found.decode()


class StoredPages:
    """The pages of series that are cut alike, by window; made by `of`."""

    def __init__(
        self, reader: Reader, series: Sequence[Series], clean: npt.NDArray[np.bool_]
    ) -> None:
        pages = series[0].pages
        self._reader = reader
        self._series = series
        self._clean: list[bool] = clean.tolist()
        self._kinds = [one.kind for one in series]
        self._places: list[list[PagePlace] | None] = [None] * len(series)
        # Each page is wanted of all series, so their chunks are at hand together or not at all.
        self._body = reader.pages.scan_body if len(series) <= _FEW_SERIES else reader.pages.body
        self._lows: list[int] = pages["low"].tolist()
        self._highs: list[int] = pages["high"].tolist()
        self._rows: list[int] = pages["rows"].tolist()
        self._rows_up_to: list[int] = np.cumsum(pages["rows"], dtype=np.int64).tolist()
        self._chunk_of: list[int] = series[0].chunk_of.tolist()
        self._number_of: list[int] = series[0].number_of.tolist()
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

    def batch(self, low: int, high: int, batch_rows: int, max_rows: int) -> StoredBatch | None:
        """Return the rows of an inclusive window; None where they are not one whole page.

        Args:
            low: of the window.
            high: of the window.
            batch_rows: most rows of a batch.
            max_rows: most rows of the rest of the scan, this batch included.

        Raises:
            Corruption: the page is damaged.
        """
        page = self._alone_in(low, high)
        if page is None:
            return None
        rows = self._rows[page]
        if rows > min(batch_rows, max_rows):
            return None
        chunk_number, number = self._chunk_of[page], self._number_of[page]
        if chunk_number != self._chunk_number:
            self._chunk_number = chunk_number
            found = [one.chunks[chunk_number] for one in self._series]
            self._chunks = [(key, chunk) for key, _, chunk in found]
        span = self._lows[page], self._highs[page]
        times = self._times(number, rows, span)
        stored = self._stored(page, number, span)
        after = min(self._rows_up_to[-1] - self._rows_up_to[page], max_rows - rows)
        decode = partial(self._decoded, self._chunks, number, stored, rows)
        return StoredBatch(self._kinds, stored, decode, times, after)

    def _times(self, number: int, rows: int, span: tuple[int, int]) -> StoredTimes:
        """Return a page of the times of the chunks at hand."""
        reader, cache = self._reader, self._reader.snapshot.cache
        key, chunk = self._chunks[0]
        times_key = times_key_of(key, chunk.owner, chunk.times_first)
        cache_key = (reader.snapshot.cache_id, times_key, number, _STORED)
        stored: StoredValues | None = cache.get(cache_key)
        if stored is None:
            stored = reader.pages.from_times(times_key, number, rows, span, stored_times_page)
            if not reader.pages.large:
                cache.put(cache_key, stored, len(stored.data) + _ENTRY_BYTES)
        # maybe when the read is over
        decode = partial(decode_values, DataType.INT64, stored.encoding, stored.data, rows)
        return StoredTimes(stored, rows, *span, decode)

    def _stored(self, page: int, number: int, span: tuple[int, int]) -> list[StoredValues]:
        """Return a page of each of the chunks at hand, its checksum right."""
        reader, cache = self._reader, self._reader.snapshot.cache
        cache_id = reader.snapshot.cache_id
        keys = [(cache_id, key, number, _STORED) for key, _ in self._chunks]
        found: list[Any] = [None] * len(keys) if reader.pages.large else cache.get_many(keys)
        for column, one in enumerate(found):
            if one is not None:
                continue
            made = self._cut(column, page, number, span)
            if not reader.pages.large:
                # a copy: the page would keep all of its chunk
                made = StoredValues(made.encoding, bytes(made.data))
                cache.put(keys[column], made, len(made.data) + _ENTRY_BYTES)
            found[column] = made
        return found

    def _cut(self, column: int, page: int, number: int, span: tuple[int, int]) -> StoredValues:
        key, chunk = self._chunks[column]
        places = self._places[column]
        if places is None:  # of no use where the cache has all pages
            places = self._places[column] = page_places(self._series[column].pages)
        try:
            body = chunk.inline if chunk.inline is not None else self._body(key)
            return stored_page(places[page], body)
        except Corruption as error:
            raise error.within(*span) from error
        except ValueError as error:
            where = key if chunk.inline is not None else with_kind(key, Kind.DATA)
            path = self._reader.snapshot.path
            raise Corruption(path, where, f"page {number}", error, span) from error

    def _decoded(
        self,
        chunks: Sequence[tuple[bytes, Chunk]],
        number: int,
        stored: Sequence[StoredValues],
        rows: int,
        column: int,
    ) -> npt.NDArray[Any]:
        """Decode a column's page, now or when the read is over."""
        key, chunk = chunks[column]
        snapshot = self._reader.snapshot
        found = snapshot.cache.get((snapshot.cache_id, key, number))
        if found is not None:
            values: npt.NDArray[Any] = found[0]
            return values
        return decode_values(chunk.kind, stored[column].encoding, stored[column].data, rows)

    def _alone_in(self, low: int, high: int) -> int | None:
        """Return the page that is all there is in a window."""
        page = bisect_left(self._lows, low)
        if (
            page == len(self._lows)
            or not self._clean[page]
            or self._highs[page] > high
            or (page > 0 and self._highs[page - 1] >= low)
            or (page + 1 < len(self._lows) and self._lows[page + 1] <= high)
        ):
            return None
        window = np.array([low]), np.array([high])
        if any(rows.touched(*window)[0] for one in self._series for _, rows in one.memory):
            return None
        return page
