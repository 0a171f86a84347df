"""Reading: from chunks, memory tables and tombstones to batches and aggregates.

Problem: sources of one series may overlap in any way, and a scan must hold little at once. Idea:
page tables (80 bytes a page) of all sources are read first; they say where every page begins and
ends. The range is cut at page borders into windows of about one batch (`merge.cut_windows`); in
each window the pages that touch it are decoded, cut, and merged by priority. A window knows all
that there is about its times, so windows are independent, and any interleaving comes out right.
Pages that do not overlap others meet no sorting: they are sliced and passed on.

Priority: the order of a chunk; the frozen table's sequence; then the active table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from iotdb_engine.aggregate import aggregate_pages, aggregate_run, merge_aggregates
from iotdb_engine.bounds import Bound, BoundedSeries
from iotdb_engine.errors import WrongType
from iotdb_engine.index_source import IndexSource, SlotsOf
from iotdb_engine.memtable_read import MemSeries
from iotdb_engine.merge import Aligner, Run, cut_windows, merge_runs, slice_run
from iotdb_engine.page_source import PageSource
from iotdb_engine.sources import ACTIVE_SEQUENCE, Series, Snapshot, no_check
from iotdb_engine.stored import StoredPages
from iotdb_engine.tombstones import Cut
from iotdb_engine.types import T_MAX, T_MIN, Aggregate, Column, ColumnBatch, DataType
from iotdb_engine.windows import Needs, WindowAggregates, Windows

_PASS_BATCHES = 4
"""A pass over one series that hands no batches out takes the rows of so many at a time."""


class Reader:
    """One read of one snapshot; used by one thread, for one pass over time.

    Args:
        snapshot: what to read.
        check: called before every piece of work that takes a while; ends the read by raising.

    Attributes:
        indices: the series' page tables.
        pages: their pages, decoded.
    """

    def __init__(self, snapshot: Snapshot, check: Callable[[], None] = no_check) -> None:
        self.snapshot = snapshot
        self.check = check
        self.indices = IndexSource(snapshot)
        self.pages = PageSource(snapshot)
        # Pages that reach beyond the window just read: the next one needs them again, and the
        # shared cache may be too small for all readers.
        self._held: dict[tuple[bytes, int], tuple[int, int, Run]] = {}

    def load(
        self,
        series_id: int,
        kind: DataType,
        slots_of: SlotsOf,
        t_min: int,
        t_max: int,
        cuts: Sequence[Cut],
    ) -> Series:
        """Find the sources of a series within an inclusive range."""
        index = self.indices.one(series_id, slots_of)
        if index.kind is not None and index.kind is not kind:
            raise WrongType(
                f"series {series_id} is stored as {index.kind.name}, "
                f"and was asked for as {kind.name}"
            )
        first = int(index.top.searchsorted(t_min))
        last = first
        if len(index.top):
            last = max(first, int(index.pages["low"].searchsorted(t_max, side="right")))
        series = Series(
            kind,
            index.chunks,
            index.pages[first:last],
            index.chunk_of[first:last],
            index.number_of[first:last],
            index.top[first:last],
            cuts=cuts,
            floor=t_min,
            disjoint=index.disjoint,
            layout=index.layout_key,
        )
        for sequence, table in self.snapshot.tables:
            rows = table.series(series_id, self.snapshot.cache, t_min, t_max)
            if rows is not None:
                series.memory.append((sequence, rows))
        return series

    def window(self, series: Series, t_min: int, t_max: int) -> Run | None:
        """Return the rows of a series in an inclusive window, merged, or None if it has none."""
        t_min = max(t_min, series.floor)
        if t_min > t_max:
            return None
        pieces: list[tuple[int, Run]] = []
        for page in series.touching(t_min, t_max).tolist():
            sequence, run = self._page(series, page, t_min, t_max)
            if len(run.times):
                pieces.append((sequence, run))
        for sequence, rows in series.memory:
            part = rows.window(t_min, t_max)
            if part is not None:
                pieces.append((sequence, part))
        if not pieces:
            return None
        pieces.sort(key=lambda piece: piece[0])
        return merge_runs([_hide(run, sequence, series.cuts) for sequence, run in pieces])

    def _page(self, series: Series, page: int, t_min: int, t_max: int) -> tuple[int, Run]:
        key, sequence, chunk = series.chunks[int(series.chunk_of[page])]
        number = int(series.number_of[page])
        entry = series.pages[page]
        low, high = int(entry["low"]), int(entry["high"])
        held = self._held.get((key, number))
        run = held[2] if held is not None else self.pages.run(key, chunk, number, entry)
        if low < t_min or high > t_max:
            self._held[(key, number)] = (low, high, run)
        return sequence, slice_run(run, t_min, t_max)

    def _forget(self, t_min: int, t_max: int) -> None:
        """Let go of the pages that lie wholly in a window that was read."""
        self._held = {
            place: page for place, page in self._held.items() if page[0] < t_min or page[1] > t_max
        }
        self.pages.forget_times(4 * len(self._held) + 16)

    def scan(
        self,
        series: Sequence[Series],
        t_min: int,
        t_max: int,
        *,
        descending: bool,
        max_rows: int | None,
        bounds: Sequence[Bound | None] | None = None,
        stored: bool = False,
    ) -> Iterator[ColumnBatch]:
        """Yield the aligned rows of several series; `bounds`, `stored`: see `Region.read`."""
        batch_rows = self.snapshot.batch_rows
        self.pages.large = max_rows is None and self._is_large(series, t_min, t_max)
        left = max_rows if max_rows is not None else 1 << 62
        rows = max(1, min(batch_rows, left))
        kinds = [one.kind for one in series]
        MemSeries.read_together([rows for one in series for _, rows in one.memory])
        bounded = None if bounds is None else BoundedSeries(series, bounds)
        whole = None
        if stored and bounded is None and series and not descending:
            whole = StoredPages.of(self, series, t_min, t_max)
            if whole is not None:
                rows = 0  # a window of its own for each page
        windows = self._windows(series, t_min, t_max, rows, descending=descending)
        if whole is not None:
            whole.cut(windows)
        following = 0
        while following < len(windows):
            self.check()
            number = following
            low, high = windows[number]
            following += 1
            if bounded is not None and bounded.can_skip(low, high):
                self._forget(*((low, T_MAX) if descending else (T_MIN, high)))
                continue
            batch = None if whole is None else whole.batch(number, batch_rows, left)
            if batch is not None:
                following = number + batch.pages
                self._forget(T_MIN, windows[following - 1][1])
                yield batch
                left -= batch.rows
                if left <= 0:
                    return
                continue
            aligner = Aligner([self.window(one, low, high) for one in series], kinds)
            self._forget(*((low, T_MAX) if descending else (T_MIN, high)))
            total = len(aligner.times)
            for done in range(0, total, batch_rows):
                size = min(batch_rows, total - done, left)
                if size <= 0:
                    return
                start = total - done - size if descending else done
                yield aligner.batch(start, start + size, descending=descending)
                left -= size
            if left <= 0:
                return

    def _is_large(self, series: Sequence[Series], t_min: int, t_max: int) -> bool:
        if 8 * self.snapshot.page_points * sum([len(one.top) for one in series]) <= (
            self.snapshot.cache.limit_bytes // 2
        ):
            return False  # in any case, and nearly always
        cells = sum(
            int(one.pages["count"][one.touching(t_min, t_max)].sum())
            for one in series
            if len(one.top)
        )
        return 8 * cells > self.snapshot.cache.limit_bytes // 2

    def _windows(
        self, series: Sequence[Series], t_min: int, t_max: int, rows: int, *, descending: bool
    ) -> list[tuple[int, int]]:
        pages = sum([len(one.top) for one in series])
        if pages * self.snapshot.page_points <= rows * len(series) and not any(
            one.memory for one in series
        ):
            return [(t_min, t_max)] if pages else []  # no more than one window is to hold
        lows, highs, counts = [], [], []
        for one in series:
            if len(one.top):
                lows.append(one.pages["low"])
                highs.append(one.pages["high"])
                counts.append(one.pages["count"].astype(np.int64))
            for _, rows_in_memory in one.memory:
                spans = rows_in_memory.spans(t_min, t_max)
                lows.append(spans.lows)
                highs.append(spans.highs)
                counts.append(spans.counts)
        if not lows:
            return []
        return cut_windows(
            np.concatenate(lows),
            np.concatenate(highs),
            np.concatenate(counts),
            t_min,
            t_max,
            target=max(1, rows * len(series)),
            descending=descending,
        )

    def aggregate(self, series: Series, t_min: int, t_max: int) -> Aggregate:
        """Aggregate a series over an inclusive range, from page statistics wherever they hold."""
        t_min = max(t_min, series.floor)
        result = Aggregate()
        clean = self.clean_pages(series, t_min, t_max)
        if clean.any():
            pages = series.pages[clean]
            result = aggregate_pages(series.kind, pages)
            if series.kind is DataType.TEXT:
                numbers = np.flatnonzero(clean)
                self._fill_texts(series, result, int(numbers[0]), int(numbers[-1]))
        if clean.all() and not series.memory:
            return result
        for run in self.rows(self._without(series, clean), t_min, t_max):
            result = merge_aggregates(result, aggregate_run(series.kind, run))
        return result

    def rows(self, series: Series, t_min: int, t_max: int) -> Iterator[Run]:
        """Yield the rows of one series in an inclusive range, merged, in time order, in pieces."""
        size = _PASS_BATCHES * self.snapshot.batch_rows
        for low, high in self._windows([series], t_min, t_max, size, descending=False):
            self.check()
            run = self.window(series, low, high)
            self._forget(T_MIN, high)
            if run is not None:
                yield run
        self._held.clear()

    @staticmethod
    def _without(series: Series, pages: npt.NDArray[np.bool_]) -> Series:
        """Return the sources of a series but for some pages."""
        left = np.flatnonzero(~pages)
        table = series.pages[left]
        return replace(
            series,
            pages=table,
            chunk_of=series.chunk_of[left],
            number_of=series.number_of[left],
            top=np.maximum.accumulate(table["high"]) if len(left) else left,
        )

    def aggregate_windows(self, series: Series, windows: Windows, needs: Needs) -> WindowAggregates:
        """Aggregate a series over many windows in one pass over its pages.

        A page that lies in one window, and that nothing else touches, is not decoded.
        """
        result = WindowAggregates.empty(series.kind, len(windows.lows), needs)
        t_min, t_max = max(int(windows.lows[0]), series.floor), int(windows.highs[-1])
        if t_min > series.floor or series.floor > T_MIN:
            windows = windows.clipped(t_min, t_max)
        rest = series
        texts = series.kind is DataType.TEXT and needs & (Needs.FIRST | Needs.LAST)
        if len(series.pages) and not texts:
            found, inside = windows.containing(series.pages["low"], series.pages["high"])
            if inside.any():
                inside &= self.clean_pages(series, t_min, t_max)
            if inside.any():
                result.add_pages(found[inside], series.pages[inside])
                rest = self._without(series, inside)
        part = result if rest is series else result.blank()
        for run in self.rows(rest, t_min, t_max):
            part.add_rows(windows, run.times, Column(series.kind, run.values, run.valid))
        if part is not result:
            result.merge(part)
        return result

    def _fill_texts(self, series: Series, result: Aggregate, early: int, late: int) -> None:
        """Read `first` and `last` of texts from the outermost of the clean pages.

        Clean pages do not overlap, so those with the lowest and the highest `low`.
        """
        first = aggregate_run(series.kind, self._page(series, early, T_MIN, T_MAX)[1])
        last = first
        if late != early:
            last = aggregate_run(series.kind, self._page(series, late, T_MIN, T_MAX)[1])
        result.first, result.last = first.first, last.last

    @staticmethod
    def clean_pages(series: Series, t_min: int, t_max: int) -> npt.NDArray[np.bool_]:
        """Tell which pages lie inside the range, untouched by other sources and tombstones."""
        count = len(series.top)
        if not count:
            return np.zeros(0, np.bool_)
        lows, highs = series.pages["low"], series.pages["high"]
        clean = (lows >= t_min) & (highs <= t_max)
        if not series.disjoint:
            clean[1:] &= series.top[:-1] < lows[1:]
            clean[:-1] &= lows[1:] > highs[:-1]
        for _, rows in series.memory:
            clean &= ~rows.touched(lows, highs)
        if series.cuts:
            sequences = [sequence for _, sequence, _ in series.chunks]
            of_page = np.array(sequences, np.uint64)[series.chunk_of]
            for sequence, low, high in series.cuts:
                hit = (lows <= high) & (highs >= low)
                if sequence < ACTIVE_SEQUENCE:
                    hit &= of_page < np.uint64(sequence)
                clean &= ~hit
        return clean


def _hide(run: Run, sequence: int, cuts: Sequence[Cut]) -> Run:
    """Return the run without what later deletes hide."""
    valid = run.valid
    for cut in cuts:
        if cut.sequence <= sequence:
            continue
        first = int(np.searchsorted(run.times, cut.t_min))
        last = int(np.searchsorted(run.times, cut.t_max, side="right"))
        if first == last:
            continue
        valid = np.ones(len(run.times), np.bool_) if valid is None else valid.copy()
        valid[first:last] = False
    return Run(run.times, run.values, valid)
