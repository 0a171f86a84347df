"""Pages of a snapshot's chunks, decoded: from the shared cache, else from their records.

What several pages of one read have in common is kept here meanwhile: the record of times that many
series share, the bytes of a chunk whose pages are asked for one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from iotdb_engine.errors import Corruption
from iotdb_engine.key_format import Kind, times_key_of, with_kind
from iotdb_engine.merge import Run
from iotdb_engine.page import Chunk, unpack_page
from iotdb_engine.series_index import SeriesIndex
from iotdb_engine.sources import Snapshot
from iotdb_engine.times_record import TimesHead, unpack_times, unpack_times_page
from iotdb_engine.types import DataType

_BODIES_BYTES = 16 << 20
"""Of chunks that a large scan keeps at hand."""

_T = TypeVar("_T")


class PageSource:
    """Of one read; used by one thread. What is damaged raises `Corruption`, which names the record.

    Args:
        snapshot: whose chunks they are.

    Attributes:
        large: a scan of more than the shared cache could hold would only drive out what others use:
            it puts nothing in.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.large = False
        self._kept_times: dict[tuple[bytes, int], npt.NDArray[np.int64]] = {}
        self._times_record: tuple[bytes, bytes, TimesHead] | None = None
        self._bodies: dict[bytes, bytes] = {}

    def times_of(self, index: SeriesIndex, page: int) -> npt.NDArray[np.int64]:
        """Decode the times of a page of an index."""
        key, _, chunk = index.chunks[int(index.chunk_of[page])]
        return self.times(key, chunk, int(index.number_of[page]))

    def last_of(self, index: SeriesIndex) -> tuple[int, Any]:
        """Return the latest point of an index of at least one page, where none overlap.

        For TEXT, whose statistics hold no values: decodes the last page.
        """
        page = len(index.pages) - 1
        key, _, chunk = index.chunks[int(index.chunk_of[page])]
        entry = index.pages[page]
        values, valid = self.values(key, chunk, int(index.number_of[page]), entry)
        at = len(values) - 1 if valid is None else int(np.flatnonzero(valid)[-1])
        value = values[at]
        return int(entry["high"]), value if chunk.kind is DataType.TEXT else value.item()

    def columns_of(self, indices: Sequence[SeriesIndex], page: int) -> list[npt.NDArray[Any]]:
        """Decode the values of a page of each of several indices of one layout, without nulls."""
        cache_id = self.snapshot.cache_id
        chunk_number = int(indices[0].chunk_of[page])
        number = int(indices[0].number_of[page])
        chunks = [index.chunks[chunk_number] for index in indices]
        cached = self.snapshot.cache.get_many([(cache_id, key, number) for key, _, _ in chunks])
        return [
            found[0] if found is not None else self.values(key, chunk, number, index.pages[page])[0]
            for found, index, (key, _, chunk) in zip(cached, indices, chunks, strict=True)
        ]

    def run(self, key: bytes, chunk: Chunk, number: int, entry: np.void) -> Run:
        """Return the rows of a page of a chunk."""
        times = self.times(key, chunk, number)
        values, valid = self.values(key, chunk, number, entry)
        if len(values) != len(times):
            path = self.snapshot.path
            raise Corruption(path, key, f"{len(times)} rows", f"{len(values)} rows")
        return Run(times, values, valid)

    def values(
        self, key: bytes, chunk: Chunk, number: int, entry: np.void
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """Return the values of a page, with a place for each row, and which are there."""
        snapshot = self.snapshot
        cache_key = (snapshot.cache_id, key, number)
        found: tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None] | None
        found = snapshot.cache.get(cache_key)
        if found is None:
            span = int(entry["low"]), int(entry["high"])
            try:
                body = chunk.inline if chunk.inline is not None else self.body(key)
            except Corruption as error:
                raise error.within(*span) from error
            try:
                found = unpack_page(chunk.kind, entry, body)
            except ValueError as error:
                place = key if chunk.inline is not None else with_kind(key, Kind.DATA)
                raise Corruption(snapshot.path, place, f"page {number}", error, span) from error
            values, valid = found
            size = values.nbytes + (0 if valid is None else valid.nbytes) + 200
            if chunk.kind is DataType.TEXT:
                size += 40 * len(values) + len(body)
            if not self.large:
                snapshot.cache.put(cache_key, found, size)
        return found

    def times(self, key: bytes, chunk: Chunk, number: int) -> npt.NDArray[np.int64]:
        """Return the times of a page's rows; kept here until `forget_times`, too."""
        times_key = times_key_of(key, chunk.owner, chunk.times_first)
        place = (times_key, number)
        times = self._kept_times.get(place)
        if times is None:
            snapshot = self.snapshot
            cache_key = (snapshot.cache_id, times_key, number)
            times = snapshot.cache.get(cache_key)
            if times is None:
                page = chunk.pages[number]
                rows, low, high = int(page["rows"]), int(page["low"]), int(page["high"])
                times = self.from_times(times_key, number, rows, (low, high), unpack_times_page)
                if not self.large:
                    snapshot.cache.put(cache_key, times, times.nbytes + 200)
            self._kept_times[place] = times
        return times

    def from_times(
        self,
        times_key: bytes,
        number: int,
        rows: int,
        span: tuple[int, int],
        take: Callable[[bytes, TimesHead, int], _T],
    ) -> _T:
        """Take a page out of a TIMES record; the last one is kept, as its pages come in turn."""
        try:
            kept = self._times_record
            if kept is None or kept[0] != times_key:
                record = self._record(times_key)
                kept = self._times_record = times_key, record, unpack_times(record)
            found = take(kept[1], kept[2], number)
            there = int(kept[2].pages["rows"][number])
            if there != rows:
                raise ValueError(f"{rows} rows expected, {there} found")
            return found
        except Corruption as error:
            raise error.within(*span) from error
        except ValueError as error:
            path = self.snapshot.path
            raise Corruption(path, times_key, f"page {number}", error, span) from error

    def body(self, key: bytes) -> bytes:
        """Return the pages of a chunk; cached, since a scan asks for one after another."""
        if self.large:
            return self.scan_body(key)
        cache_key = (self.snapshot.cache_id, key)
        body = self.snapshot.cache.get(cache_key)
        if body is None:
            body = self._record(with_kind(key, Kind.DATA))
            self.snapshot.cache.put(cache_key, body, len(body) + 200)
        found: bytes = body
        return found

    def scan_body(self, key: bytes) -> bytes:
        """Return the pages of a chunk, which are kept at hand for this scan."""
        body = self._bodies.get(key)
        if body is not None:
            return body
        body = self._record(with_kind(key, Kind.DATA))
        if sum(map(len, self._bodies.values())) + len(body) > _BODIES_BYTES:
            self._bodies.clear()
        self._bodies[key] = body
        return body

    def forget_times(self, more_than: int) -> None:
        """Let go of the times of pages where more than so many are kept."""
        if len(self._kept_times) > more_than:
            self._kept_times.clear()

    def _record(self, key: bytes) -> bytes:
        record = self.snapshot.view.get(key)
        if record is None:
            raise Corruption(self.snapshot.path, key, "a record", "none")
        return record
