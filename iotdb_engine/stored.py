"""Pages handed out as they are stored, for who decodes them elsewhere.

Decoded, columns of numbers are several times as many bytes as stored: a client that decodes pages
itself gets them sooner than their values. So a scan may be asked for stored pages: where a window
is one page of every series, and nothing else touches it (no other page, no memory table, no
tombstone, no null, no border of the range), its batch carries the pages' bytes, and values for who
asks for them. Everywhere else batches are what they always are.

Cost: 5 µs a page, and the checksum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.page import StoredValues, page_places
from iotdb_engine.types import Column, ColumnBatch, DataType

if TYPE_CHECKING:
    from iotdb_engine.reader import Reader
    from iotdb_engine.sources import Series


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
        self._places = [page_places(one.pages) for one in series]
        self._lows: list[int] = pages["low"].tolist()
        self._highs: list[int] = pages["high"].tolist()
        rows = np.cumsum(pages["rows"], dtype=np.int64)
        self._rows_up_to: list[int] = rows.tolist()

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
        first = self._series[0]
        chunk_number, number = int(first.chunk_of[page]), int(first.number_of[page])
        key, _, chunk = first.chunks[chunk_number]
        times = self._reader.stored_times(key, chunk, number)
        if times.rows > min(batch_rows, max_rows):
            return None
        take = self._reader.stored_page
        stored = []
        for one, places in zip(self._series, self._places, strict=True):
            key, _, chunk = one.chunks[chunk_number]
            stored.append(take(key, chunk, number, places[page], times))
        after = min(self._rows_up_to[-1] - self._rows_up_to[page], max_rows - times.rows)
        decode = partial(self._decoded, chunk_number, number, stored, times.rows)
        return StoredBatch(self._kinds, stored, decode, times, after)

    def _decoded(
        self,
        chunk_number: int,
        number: int,
        stored: Sequence[StoredValues],
        rows: int,
        column: int,
    ) -> npt.NDArray[Any]:
        """Decode a column's page, now or when the read is over."""
        key, _, chunk = self._series[column].chunks[chunk_number]
        return self._reader.decode_stored(key, chunk.kind, number, stored[column], rows)

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
