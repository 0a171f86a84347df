"""The page tables of one series, as one: what a read knows before it decodes anything.

Kept in the read cache: finding a series' chunks takes a seek and some parsing, and most reads ask
for a series that was asked for before. An index is immutable; its cache key holds the series'
*epoch*, which changes when a flush or a merge changes the chunks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from iotdb_engine.aggregate import aggregate_pages, last_of_pages
from iotdb_engine.key_format import split_chunk_key
from iotdb_engine.page import Chunk
from iotdb_engine.types import T_MIN, Aggregate, DataType

_BUCKETS = 4096
_ENTRY_BYTES = 800
"""Of an index, and of each chunk with its key, beside its pages; as tracemalloc has it."""
_ROWS = np.arange(1024)
_ZEROS = np.zeros_like(_ROWS)
for _shared in (_ROWS, _ZEROS):
    _shared.flags.writeable = False
_FEW = 6

Chunks = Sequence[tuple[bytes, int, Chunk]]
_Numbers = npt.NDArray[np.int64]
LayoutKey = tuple[tuple[int, int, int], ...]


@dataclass
class SeriesIndex:
    """Page tables of all chunks of a series in some slots, by ascending `low`.

    Attributes:
        kind: of the values; None where there is no chunk.
        chunks: (key, order, chunk) each.
        pages: concatenated page tables; pages without values left out.
        chunk_of: parallel to `pages`: number of the chunk.
        number_of: parallel to `pages`: number of the page within its chunk.
        top: parallel to `pages`: highest `high` so far, so that a search can skip what is over.
        disjoint: whether no two pages overlap.
        layout_key: equal for series whose pages lie at the same rows of the same times; None where
            pages overlap or have nulls, so that no other series is sure to be like this one.
    """

    kind: DataType | None
    chunks: Chunks
    pages: npt.NDArray[Any]
    chunk_of: _Numbers
    number_of: _Numbers
    top: _Numbers
    disjoint: bool
    layout_key: LayoutKey | None = None
    _whole: Aggregate | None = field(default=None, repr=False)
    _last: tuple[int, Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, chunks: Chunks) -> SeriesIndex:
        """Make the index of chunks of one type."""
        if len(chunks) == 1:
            index = cls._of_one(chunks)
            if index is not None:
                return index
        none = np.empty(0, np.int64)
        if not chunks:
            return cls(None, (), none, none, none, none, disjoint=True)
        tables = [chunk.pages for _, _, chunk in chunks]
        lengths = [len(table) for table in tables]
        pages = np.concatenate(tables)
        chunk_of = np.repeat(np.arange(len(tables)), lengths)
        number_of = np.concatenate([np.arange(length) for length in lengths])
        chosen = np.flatnonzero(pages["count"])
        chosen = chosen[np.argsort(pages["low"][chosen], kind="stable")]
        pages = pages[chosen]
        top = np.maximum.accumulate(pages["high"]) if len(chosen) else none
        disjoint = bool((top[:-1] < pages["low"][1:]).all())
        kind = chunks[0][2].kind
        index = cls(kind, chunks, pages, chunk_of[chosen], number_of[chosen], top, disjoint)
        if disjoint and len(pages) and bool((pages["count"] == pages["rows"]).all()):
            index.layout_key = tuple(
                (chunk.owner, chunk.times_first, split_chunk_key(key).sequence)
                for key, _, chunk in chunks
            )
        return index

    @classmethod
    def _of_one(cls, chunks: Chunks) -> SeriesIndex | None:
        """Make the index of a single chunk, at a tenth of the cost; None where there is more to it.

        Nearly all series have few rows, or were merged: this is what a read that meets a series for
        the first time mostly pays for.
        """
        ((key, _, chunk),) = chunks
        pages = chunk.pages
        count = len(pages)
        if not 0 < count <= len(_ROWS):
            return None
        if count <= _FEW:
            whole, last = True, T_MIN - 1
            for rows, values, low, high, *_ in pages.tolist():
                if not values or low <= last:
                    return None
                whole &= rows == values
                last = high
            highs = pages["high"]
        else:
            counts, highs = pages["count"], pages["high"]
            if not counts.all() or not (highs[:-1] < pages["low"][1:]).all():
                return None
            whole = bool((counts == pages["rows"]).all())
        layout = ((chunk.owner, chunk.times_first, split_chunk_key(key).sequence),)
        return cls(
            chunk.kind,
            chunks,
            pages,
            _ZEROS[:count],
            _ROWS[:count],
            highs,
            disjoint=True,
            layout_key=layout if whole else None,
        )

    @property
    def nbytes(self) -> int:
        """Estimate of its memory."""
        pages = self.pages.nbytes + sum([len(chunk.inline or b"") for _, _, chunk in self.chunks])
        return _ENTRY_BYTES * (1 + len(self.chunks)) + 2 * pages

    def last(self) -> tuple[int, Any]:
        """Return the latest time and value, of one page at least where none overlap; no TEXT."""
        if self._last is None:
            assert self.kind is not None
            self._last = last_of_pages(self.kind, self.pages)
        return self._last

    def whole(self) -> Aggregate:
        """Return the aggregate of all pages, which must not overlap; not to be changed.

        For TEXT without `first` and `last`.
        """
        if self._whole is None:
            self._whole = Aggregate()
            if self.kind is not None and len(self.pages):
                self._whole = aggregate_pages(self.kind, self.pages)
        return self._whole


class Epochs:
    """Counts the changes of the chunks of each series, or rather of 4096 buckets of series.

    Guarded by the region's lock. Odd: a merge is changing them, so what is read now must not be
    kept.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._now: EpochView | None = None

    def bump(self, series_ids: Iterable[int], by: int) -> None:
        """Note a change: by 2 at once, or by 1 before it begins and again when it is over."""
        buckets = np.fromiter((i & (_BUCKETS - 1) for i in series_ids), np.intp)
        self._counts[np.unique(buckets)] += by
        self._now = None

    def bump_all(self) -> None:
        """Note a change of any series."""
        self._counts += 2
        self._now = None

    def copy(self) -> EpochView:
        """Return the counts of now; the same object until they change."""
        if self._now is None:
            self._now = EpochView(array("q", self._counts.tobytes()))
        return self._now


class EpochView:
    """Epochs at one moment."""

    __slots__ = ("_counts",)

    def __init__(self, counts: array[int]) -> None:
        self._counts = counts

    def of(self, series_id: int) -> int | None:
        """Return the epoch of a series, or None while its chunks are being changed."""
        count = self._counts[series_id & (_BUCKETS - 1)]
        return None if count & 1 else count
