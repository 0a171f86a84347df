"""Reading a memory table: some series at one moment, decoded piece by piece.

Problem: the rows of a series in memory may be as many as fit into the budget of all memory tables;
decoding them all takes as much again. Idea: rows lie in pages (`memtable_pages`), and a window of
time is answered from the pages that touch it.

Rows that came in about the order of time lie in pages that hardly overlap, and a scan decodes each
once. Of rows in any order every page touches every window. Those are taken in *blocks* of time: one
pass over the pages collects the rows of a block, which is sorted and serves the windows within. As
many passes as there are blocks; one block in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iotdb_engine.cache import ByteCache
from iotdb_engine.fragment import Decoded
from iotdb_engine.memtable import MemDelete, Memtable, Rows
from iotdb_engine.memtable_pages import PageSize
from iotdb_engine.memtable_view import Numbers, Source, Spans, View, joined_cells
from iotdb_engine.merge import Run, last_wins, order_rows, slice_run
from iotdb_engine.types import T_MAX, T_MIN

_NEWEST_SPANS = 64


def capture(
    table: Memtable, series_ids: Iterable[int], slots: Collection[int] | None, page: PageSize
) -> MemSnapshot | None:
    """Capture the present state of some series, or None if the table has nothing of them.

    Needs the region's lock; O(series x layouts that hold them).
    """
    wanted: dict[int, list[tuple[Rows, int]]] = {}
    for series_id in series_ids:
        found = table.by_series.get(series_id)
        if found is None:
            continue
        states = [
            (rows, len(rows.ordinals)) for rows in found if slots is None or rows.slot in slots
        ]
        if states:
            wanted[series_id] = states
    return MemSnapshot(wanted, tuple(table.deletes), page) if wanted else None


class MemSnapshot:
    """Some series of a memory table at one moment; for one thread at a time."""

    def __init__(
        self,
        wanted: Mapping[int, Sequence[tuple[Rows, int]]],
        deletes: Sequence[MemDelete],
        page: PageSize,
    ) -> None:
        self._wanted = wanted
        self._deletes = deletes
        self._page = page
        self._views: dict[int, View] = {}
        self._columns: dict[int, list[int]] | None = None

    def holds(self, series_id: int) -> bool:
        """Tell whether there may be rows of a series."""
        return series_id in self._wanted

    def series(
        self, series_id: int, cache: ByteCache | None, t_min: int = T_MIN, t_max: int = T_MAX
    ) -> MemSeries | None:
        """Return a series' rows, or None if there are none near an inclusive range.

        Args:
            series_id: one of those captured.
            cache: where what is decoded is kept.
            t_min: of the times that will be asked for.
            t_max: likewise. Where they are many, the cache is left to others.
        """
        sources = []
        for rows, length in self._wanted.get(series_id, ()):
            view = self._view(rows, length, cache)
            if view.touches(t_min, t_max):
                sources.append((view, rows.columns[series_id]))
        if not sources:
            return None
        deletes = self._deletes
        if deletes:
            deletes = tuple(delete for delete in deletes if series_id in delete.series_ids)
        return MemSeries(sources, deletes, cache, (t_min, t_max))

    def _view(self, rows: Rows, length: int, cache: ByteCache | None) -> View:
        view = self._views.get(rows.uid)
        if view is None:
            if self._columns is None:
                self._columns = self._wanted_columns()
            view = View(Source(rows, length, cache, self._page, self._columns[rows.uid]))
            self._views[rows.uid] = view
        return view

    def _wanted_columns(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for series_id, states in self._wanted.items():
            for rows, _ in states:
                found.setdefault(rows.uid, []).append(rows.columns[series_id])
        return found


class MemSeries:
    """The rows of one series in one memory table."""

    def __init__(
        self,
        sources: Sequence[tuple[View, int]],
        deletes: Sequence[MemDelete],
        cache: ByteCache | None,
        span: tuple[int, int],
    ) -> None:
        """Take the rows of (view, column) pairs; `span`: that may be asked for, inclusive."""
        self._sources = sources
        self._deletes = deletes
        self._span = span
        # What would drive out all else is not kept in the cache.
        self._kept_cells = 0 if cache is None else cache.limit_bytes // 16
        self._large = any(view.cells(*span) > self._kept_cells for view, _ in sources)
        self._together: dict[int, list[int]] = {}

    @staticmethod
    def read_together(several: Sequence[MemSeries]) -> None:
        """Have columns of the same rows decoded together, in every window."""
        columns: dict[int, list[int]] = {}
        cells = 0
        for series in several:
            for view, column in series._sources:
                if view.rows.uid not in columns:
                    columns[view.rows.uid] = []
                    cells += view.cells(*series._span)
                columns[view.rows.uid].append(column)
        for series in several:
            series._together = columns
            series._large |= cells > series._kept_cells

    def spans(self, t_min: int, t_max: int) -> Spans:
        """Return ranges of time that have about a page of rows each, where they touch a range."""
        found = [view.spans(self._columns(view)) for view, _ in self._sources]
        lows, highs, counts = found[0]
        if len(found) > 1:
            lows, highs, counts = map(np.concatenate, zip(*found, strict=True))
        near = (lows <= t_max) & (highs >= t_min)
        return Spans(lows[near], highs[near], counts[near])

    def _columns(self, view: View) -> int:
        return max(1, len(self._together.get(view.rows.uid, ())))

    def window(self, t_min: int, t_max: int) -> Run | None:
        """Return the rows in an inclusive window, in order of time, or None if there are none."""
        return self._window(t_min, t_max, large=self._large)

    def _window(self, t_min: int, t_max: int, *, large: bool) -> Run | None:
        if len(self._sources) > 1:
            return self._merged(t_min, t_max, large=large)
        view, column = self._sources[0]
        together = self._together.get(view.rows.uid, ())
        runs = []
        for part in view.parts(t_min, t_max, large=large):
            run = slice_run(part.run(column, self._deletes, together), t_min, t_max)
            if len(run.times):
                runs.append(run)
        if not runs:
            return None
        return runs[0] if len(runs) == 1 else _in_a_row(runs)

    def _merged(self, t_min: int, t_max: int, *, large: bool) -> Run | None:
        pieces = []
        for view, column in self._sources:
            together = self._together.get(view.rows.uid, ())
            for part in view.parts(t_min, t_max, large=large):
                run, ordinals = part.raw(column, self._deletes, together)
                if part.t_min < t_min or part.t_max > t_max:
                    inside = (run.times >= t_min) & (run.times <= t_max)
                    run = Run(run.times[inside], run.values[inside], None)
                    ordinals = ordinals[inside]
                if len(run.times):
                    pieces.append((run, ordinals))
        return merge_by_ordinal(pieces) if pieces else None

    def newest(self, floor: int) -> tuple[int, Any] | None:
        """Return time and value of the latest row at `floor` or later, or None."""
        top = max([view.high for view, _ in self._sources])
        if top < floor:
            return None
        found = _last_of(self._window(top, top, large=False))
        if found is not None:
            return found
        spans = self.spans(floor, T_MAX)
        lows = np.minimum.accumulate(spans.lows[np.argsort(spans.highs, kind="stable")[::-1]])
        high = top
        # most often the first span has it
        for low in (lows[0], *lows[_NEWEST_SPANS:-1:_NEWEST_SPANS], lows[-1]):
            low = max(floor, int(low))
            found = _last_of(self._window(low, high, large=self._large))
            if found is not None or low == floor:
                return found
            high = min(high, low - 1)
        return None

    def touched(self, lows: Numbers, highs: Numbers) -> npt.NDArray[np.bool_]:
        """Tell which of some inclusive ranges have a row's time in them; `lows` ascend."""
        found = np.zeros(len(lows), np.bool_)
        if not len(found):
            return found
        tops = np.maximum.accumulate(highs)
        for view, _ in self._sources:
            first = np.searchsorted(tops, view.pages.lows)
            last = np.searchsorted(lows, view.pages.highs, side="right")
            for page in np.flatnonzero(first < last).tolist():
                near = slice(int(first[page]), int(last[page]))
                if found[near].all():
                    continue
                times, ascending = view.times(page, large=self._large)
                if not ascending:
                    times = np.sort(times)
                found[near] |= np.searchsorted(times, lows[near]) < np.searchsorted(
                    times, highs[near], side="right"
                )
        return found


def _last_of(run: Run | None) -> tuple[int, Any] | None:
    if run is None:
        return None
    at = len(run.times) - 1
    if run.valid is not None:
        rows = np.flatnonzero(run.valid)
        at = int(rows[-1]) if len(rows) else -1
    return None if at < 0 else (int(run.times[at]), run.values[at])


def _in_a_row(runs: Sequence[Run]) -> Run:
    """Join runs that follow each other in time."""
    values, valid = joined_cells([Decoded(run.values, run.valid) for run in runs])
    return Run(np.concatenate([run.times for run in runs]), values, valid)


def merge_by_ordinal(pieces: Sequence[tuple[Run, Numbers]]) -> Run:
    """Merge rows of one series from several layouts; of equal times the highest ordinal wins.

    Args:
        pieces: compact rows in arrival order (times in any order), and the ordinal of each row.
    """
    times = np.concatenate([run.times for run, _ in pieces])
    values = np.concatenate([run.values for run, _ in pieces])
    # Ordinals are unique to a fragment, and a fragment's rows are in row order already.
    arrival = np.argsort(np.concatenate([ordinals for _, ordinals in pieces]), kind="stable")
    order = order_rows(times[arrival])
    return last_wins(order, values[arrival], None)
