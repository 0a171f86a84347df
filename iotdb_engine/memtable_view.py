"""The rows of one layout in a memory table, as a snapshot sees them: windows and blocks of time.

See `memtable_read` for the problem and the idea.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from iotdb_engine.arrivals import Arrivals
from iotdb_engine.cache import ByteCache
from iotdb_engine.fragment import Decoded, row_counts
from iotdb_engine.memtable import MemDelete, Rows
from iotdb_engine.memtable_pages import PageSize, pages_of
from iotdb_engine.merge import Order, Run, compact, last_wins, order_rows
from iotdb_engine.types import T_MAX, T_MIN

Numbers = npt.NDArray[np.int64]
_Pick = slice | Numbers | None

_BLOCK_CELLS = 1 << 21
"""Values and times that a block of rows without order holds, about: 16 MB, and while it is sorted
three times that."""
_MILD_OVERLAP = 4.0
"""Pages that touch a page's range, itself included, up to which rows count as in order."""
_HELD_CELLS = 1 << 20
"""Decoded values that are kept for the next window, where no cache keeps them."""
_SAMPLE_STEP = 61


class Spans(NamedTuple):
    """Ranges of time with the number of rows in each, about; a window should end where one does."""

    lows: Numbers
    highs: Numbers
    counts: Numbers


class _Masked(Protocol):
    """What deletes are applied to: rows of one layout."""

    @property
    def times(self) -> Numbers:
        """Times in arrival order."""

    def ordinals(self) -> Numbers:
        """Return the ordinal of each row."""


class DeleteMasks:
    """Applies deletes to columns of one layout; equal sets of deletes are worked out once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._known: dict[tuple[int, ...], npt.NDArray[np.bool_]] = {}

    def apply(
        self,
        part: _Masked,
        deletes: Sequence[MemDelete],
        valid: npt.NDArray[np.bool_] | None,
    ) -> npt.NDArray[np.bool_] | None:
        """Return the validity after the deletes, rows in arrival order; `part`: always the same."""
        relevant = self._rows.deletes_after(deletes)
        if not relevant:
            return valid
        key = tuple(delete.ordinal for delete in relevant)
        kept = self._known.get(key)
        if kept is None:
            times, ordinals = part.times, part.ordinals()
            gone = np.zeros(len(times), np.bool_)
            for delete in relevant:
                gone |= (
                    (ordinals < delete.ordinal) & (times >= delete.t_min) & (times <= delete.t_max)
                )
            kept = self._known[key] = ~gone
        both = kept if valid is None else kept & valid
        return None if both.all() else both


class RowsOf:
    """The rows of some neighbouring fragments of one layout, as deletes see them."""

    def __init__(self, rows: Rows, times: Numbers, start: int, end: int) -> None:
        self.times = times
        self._rows = rows
        self._span = start, end
        self._ordinals: Numbers | None = None

    def ordinals(self) -> Numbers:
        """Return the ordinal of each row."""
        if self._ordinals is None:
            self._ordinals = row_ordinals(self._rows, *self._span)
        return self._ordinals


def row_ordinals(rows: Rows, start: int, end: int) -> Numbers:
    """Return the ordinal of every row of some fragments."""
    ordinals = np.fromiter(rows.ordinals[start:end], np.int64, end - start)
    return np.repeat(ordinals, row_counts(rows.fragments[start:end]))


class Source:
    """The pages of one layout in one slot that a snapshot sees, decoded on demand."""

    def __init__(
        self,
        rows: Rows,
        length: int,
        cache: ByteCache | None,
        size: PageSize,
        wanted: Sequence[int],
    ) -> None:
        """Look at the first `length` fragments; `wanted`: columns that may be asked for."""
        self.rows = rows
        self.page_rows = size.rows
        self.pages = pages_of(rows, length, size)
        self.wanted = wanted
        self._cache = cache
        # Decoded values of pages that the next window may need as well: page -> column -> values.
        self._held: dict[int, dict[int, Decoded]] = {}

    def touching(self, t_min: int, t_max: int) -> Numbers:
        """Return the numbers of the pages that touch an inclusive range."""
        return np.flatnonzero((self.pages.lows <= t_max) & (self.pages.highs >= t_min))

    def cache(self, *, large: bool) -> ByteCache | None:
        """Return where decoded columns are kept."""
        return None if large else self._cache

    def times(self, page: int, *, large: bool) -> tuple[Numbers, bool]:
        """Return a page's times in arrival order, and whether they ascend."""
        return self._arrivals(page, large).times(int(self.pages.starts[page + 1]))

    def _arrivals(self, page: int, large: bool) -> Arrivals:
        rows = self.rows
        start = int(self.pages.starts[page])
        return Arrivals(rows.uid, rows.layout, rows.fragments, self.cache(large=large), start)

    def decoded(
        self, page: int, columns: Sequence[int], *, large: bool, keep: bool
    ) -> Sequence[Decoded]:
        """Decode columns of a page; `keep` them where no cache does."""
        end = int(self.pages.starts[page + 1])
        if not large:
            return self._arrivals(page, large).columns(columns, end, self.wanted)
        known = self._held.get(page)
        if known is None or any(column not in known for column in columns):
            found = self._arrivals(page, large).columns(columns, end)
            known = dict(zip(columns, found, strict=True))
            if keep and self._held_cells() + len(columns) * self.pages.counts[page] < _HELD_CELLS:
                self._held[page] = known
        return [known[column] for column in columns]

    def _held_cells(self) -> int:
        return sum(len(kept) * int(self.pages.counts[page]) for page, kept in self._held.items())

    def forget(self, t_min: int, t_max: int) -> None:
        """Let go of the pages that a window does not touch."""
        pages = self.pages
        for page in [*self._held]:
            if pages.lows[page] > t_max or pages.highs[page] < t_min:
                del self._held[page]


class View:
    """The fragments of one layout in one slot that a snapshot sees, by ranges of time."""

    def __init__(self, source: Source) -> None:
        """Look at all of the source's pages."""
        self.rows = source.rows
        self.source = source
        self.pages = pages = source.pages
        self._page_rows = source.page_rows
        self._part: Part | None = None
        self._block: Part | None = None
        self._borders: Numbers | None = None
        self._spans: Spans | None = None
        if len(pages.lows) == 1:
            self.low, self.high = int(pages.lows[0]), int(pages.highs[0])
            self._cells = int(pages.counts[0]) * (1 + len(source.wanted))
            self._in_order = True
        else:
            self.low, self.high = int(pages.lows.min()), int(pages.highs.max())
            self._cells = int(pages.counts.sum()) * (1 + len(source.wanted))
            self._in_order = _overlap(pages.lows, pages.highs) <= _MILD_OVERLAP

    def touches(self, t_min: int, t_max: int) -> bool:
        """Tell whether some page touches an inclusive range."""
        if self.low > t_max or self.high < t_min:
            return False
        return len(self.pages.lows) == 1 or len(self.source.touching(t_min, t_max)) > 0

    def cells(self, t_min: int, t_max: int) -> int:
        """Return how many values and times are decoded for a range, all columns."""
        if t_min <= self.low and t_max >= self.high:
            return self._cells
        counts = self.pages.counts[self.source.touching(t_min, t_max)]
        return int(counts.sum()) * (1 + len(self.source.wanted))

    def times(self, page: int, *, large: bool) -> tuple[Numbers, bool]:
        """Return a page's times in arrival order, and whether they ascend."""
        return self.source.times(page, large=large)

    def spans(self, columns: int) -> Spans:
        """Return ranges of about a page of rows each."""
        if self._spans is None:
            pages = self.pages
            if self._in_order:
                self._spans = Spans(pages.lows, pages.highs, pages.counts)
            else:
                self._spans = self._cut(columns)
        return self._spans

    def _cut(self, columns: int) -> Spans:
        """Cut time by a sample of the rows, and note where blocks end."""
        pages = range(len(self.pages.lows))
        # copies: a view would keep all of its page
        samples = [self.times(page, large=True)[0][::_SAMPLE_STEP].copy() for page in pages]
        sample = np.sort(np.concatenate(samples))
        total = int(self.pages.counts.sum())
        step = max(1, len(sample) * self._page_rows // total)
        starts = np.unique(np.append(sample[step::step], self.low))
        block = max(1, _BLOCK_CELLS // (1 + columns) // self._page_rows)
        self._borders = starts[block::block]
        highs = np.append(starts[1:] - 1, self.high)
        counts = np.full(len(starts), max(1, total // len(starts)))
        return Spans(starts, highs, counts)

    def parts(self, t_min: int, t_max: int, *, large: bool) -> list[Part] | Iterator[Part]:
        """Return the rows of a range, or of blocks that cover it, in order of time.

        Each is good until the next is asked for.
        """
        source = self.source
        if not self._in_order and len(source.touching(t_min, t_max)) > _MILD_OVERLAP:
            return self._blocks(t_min, t_max, large=large)
        part = self._part
        if part is None or part.t_min != t_min or part.t_max != t_max:
            source.forget(t_min, t_max)
            part = self._part = Part(source, t_min, t_max, large=large, is_block=False)
        return [part]

    def _blocks(self, t_min: int, t_max: int, *, large: bool) -> Iterator[Part]:
        if self._borders is None:
            self.spans(1 if large else len(self.source.wanted))
        borders = self._borders
        assert borders is not None
        first = int(np.searchsorted(borders, t_min, side="right"))
        last = int(np.searchsorted(borders, t_max, side="right"))
        for number in range(first, last + 1):
            low = int(borders[number - 1]) if number else T_MIN
            high = int(borders[number]) - 1 if number < len(borders) else T_MAX
            if self._block is None or self._block.t_min != low:
                self._block = None  # before the next one is made
                self._block = Part(self.source, low, high, large=large, is_block=True)
            yield self._block


def _overlap(lows: Numbers, highs: Numbers) -> float:
    """Return how many pages touch a page's range in the mean, itself included."""
    count = len(lows)
    if count <= _MILD_OVERLAP or bool((lows[1:] > highs[:-1]).all()):
        return 1.0
    begun = np.searchsorted(np.sort(lows), highs, side="right")
    over = np.searchsorted(np.sort(highs), lows)
    return float((begun - over).mean())


class Part:
    """Rows of one layout within a range of time: found when asked for, shared by its columns."""

    def __init__(
        self, source: Source, t_min: int, t_max: int, *, large: bool, is_block: bool
    ) -> None:
        self.t_min = t_min
        self.t_max = t_max
        self._large = large
        self._is_block = is_block
        self._source = source
        self._picks: list[tuple[int, _Pick]] | None = None
        self._times: Numbers | None = None
        self._order: Order | None = None
        self._ordinals: Numbers | None = None
        self._values: dict[int, Decoded] = {}
        self._runs: dict[int, Run] = {}
        self._masks = DeleteMasks(source.rows)

    @property
    def times(self) -> Numbers:
        """Times in arrival order."""
        self._find()
        assert self._times is not None
        return self._times

    def ordinals(self) -> Numbers:
        """Return the ordinal of each row."""
        if self._ordinals is None:
            starts = self._source.pages.starts
            self._ordinals = _joined(
                [
                    _pick(
                        row_ordinals(self._source.rows, int(starts[at]), int(starts[at + 1])), pick
                    )
                    for at, pick in self._find()
                ],
                np.int64,
            )
        return self._ordinals

    def run(self, column: int, deletes: Sequence[MemDelete], together: Sequence[int]) -> Run:
        """Return a column in order of time.

        Args:
            column: position in the layout.
            deletes: of the column's series.
            together: columns that are asked for of the same rows.
        """
        run = self._runs.get(column)
        if run is not None:
            return run
        # Pages are in the cache; of blocks it is the sorting that would be repeated.
        cache = self._source.cache(large=self._large) if self._is_block else None
        key = None
        if cache is not None:
            state = (self._source.rows.uid, self._source.pages.length, len(deletes))
            key = ("sorted", *state, self.t_min, self.t_max, column)
            run = cache.get(key)
        if run is None:
            values, valid = self.cells(column, together)
            run = last_wins(self._in_time(), values, self._masks.apply(self, deletes, valid))
            del self._values[column]
            if cache is not None:
                cache.put(key, run, run_bytes(run))
        self._runs[column] = run
        return run

    def raw(
        self, column: int, deletes: Sequence[MemDelete], together: Sequence[int]
    ) -> tuple[Run, Numbers]:
        """Return a column's rows that have values, in arrival order, and the ordinal of each."""
        values, valid = self.cells(column, together)
        valid = self._masks.apply(self, deletes, valid)
        ordinals = self.ordinals()
        if valid is not None:
            ordinals = ordinals[valid]
        return compact(Run(self.times, values, valid)), ordinals

    def cells(self, column: int, together: Sequence[int]) -> Decoded:
        """Return a column in arrival order."""
        if column not in self._values:
            missing = [at for at in together if at not in self._values and at not in self._runs]
            if column not in missing:
                missing.append(column)
            self._values.update(zip(missing, self._decode(missing), strict=True))
        return self._values[column]

    def _in_time(self) -> Order:
        if self._order is None:
            self._order = order_rows(self.times)
        return self._order

    def _find(self) -> list[tuple[int, _Pick]]:
        """Find the rows: which of each page, None for all."""
        if self._picks is not None:
            return self._picks
        picks: list[tuple[int, _Pick]] = []
        times: list[Numbers] = []
        pages = self._source.pages
        for page in self._source.touching(self.t_min, self.t_max).tolist():
            found, ascending = self._source.times(page, large=self._large)
            pick: _Pick = None
            if pages.lows[page] < self.t_min or pages.highs[page] > self.t_max:
                pick = _between(found, self.t_min, self.t_max, ascending=ascending)
                found = found[pick]
            if len(found):
                picks.append((page, pick))
                times.append(found)
        self._picks, self._times = picks, _joined(times, np.int64)
        return picks

    def _decode(self, columns: Sequence[int]) -> list[Decoded]:
        pieces: list[list[Decoded]] = [[] for _ in columns]
        pages = self._source.pages
        for page, pick in self._find():
            # in blocks every page comes again: to keep some would drive others out
            beyond = not self._is_block and bool(
                pages.highs[page] > self.t_max or pages.lows[page] < self.t_min
            )
            found = self._source.decoded(page, columns, large=self._large, keep=beyond)
            for some, (values, valid) in zip(pieces, found, strict=True):
                some.append(
                    Decoded(_pick(values, pick), None if valid is None else _pick(valid, pick))
                )
        return [joined_cells(some) for some in pieces]


def _between(times: Numbers, t_min: int, t_max: int, *, ascending: bool) -> _Pick:
    if not ascending:
        return np.flatnonzero((times >= t_min) & (times <= t_max))
    return slice(
        int(np.searchsorted(times, t_min)), int(np.searchsorted(times, t_max, side="right"))
    )


def _pick(array: npt.NDArray[Any], pick: _Pick) -> npt.NDArray[Any]:
    return array if pick is None else array[pick]


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def joined_cells(parts: Sequence[Decoded]) -> Decoded:
    """Put pieces of a column one after another."""
    if len(parts) == 1:
        return parts[0]
    valid = None
    if any(part.valid is not None for part in parts):
        valid = np.concatenate([np.ones(len(v), np.bool_) if m is None else m for v, m in parts])
    return Decoded(_joined([part.values for part in parts], np.float64), valid)


def run_bytes(run: Run) -> int:
    """Estimate the memory of a run."""
    size = run.times.nbytes + run.values.nbytes
    if run.valid is not None:
        size += run.valid.nbytes
    if run.values.dtype == object:
        size += sum(map(len, run.values.tolist())) + 40 * len(run.values)
    return size
