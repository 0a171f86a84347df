"""One read of a region: a state that does not change, and what may be asked of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import compress
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from iotdb_engine.aggregate_table import AggregateTable
from iotdb_engine.bounds import Bound
from iotdb_engine.memtable import MemDelete
from iotdb_engine.reader import Reader
from iotdb_engine.series_index import SeriesIndex
from iotdb_engine.slot_map import SlotMap
from iotdb_engine.sources import ACTIVE_SEQUENCE, Series, Snapshot
from iotdb_engine.tombstones import Cut, DroppedSeries, Tombstone, cuts_for
from iotdb_engine.ttl import TtlRules
from iotdb_engine.types import BATCH_DTYPES, T_MAX, T_MIN, Aggregate, Column, ColumnBatch, DataType
from iotdb_engine.window_pass import aggregate_alike, can_be_alike
from iotdb_engine.windows import Needs, WindowAggregates, Windows

SeriesList = Sequence[tuple[int, DataType]]
_NO_TIMES = np.empty(0, np.int64)
_FEW_DELETES = 8
"""Up to so many it takes less to ask each whether it concerns a series than to heed them all."""


class OpenRead:
    """A region's state at one moment; made by `Region.open_read`. One thread; close it.

    While it is open, RocksDB keeps the files that it reads.

    Attributes:
        snapshot: what is in memory and on disk.
        slots: where it looks on disk at most.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        cuts: Cuts,
        slots: SlotMap | Sequence[int],
        ttl: TtlRules,
        now: int,
        check: Callable[[], None],
    ) -> None:
        self.snapshot = snapshot
        self.slots = slots.every if isinstance(slots, SlotMap) else slots
        self._slots = slots
        self._cuts = cuts
        self._ttl = ttl
        self._now = now
        self._reader = Reader(snapshot, check)

    def is_dropped(self, series_id: int) -> bool:
        """Tell whether a series was removed for good."""
        return series_id in self._cuts.dropped

    def cuts_of(self, series_id: int) -> list[Cut]:
        """Return the deletes that hide rows of a series."""
        return self._cuts.of(series_id)

    def floor_of(self, series_id: int) -> int:
        """Return the lowest time of a series that is not expired."""
        return self._ttl.floor(series_id, self._now) if self._ttl else T_MIN

    def load(
        self,
        reader: Reader,
        series_id: int,
        kind: DataType,
        t_min: int,
        t_max: int,
        slots: Sequence[int] | None = None,
    ) -> Series:
        """Find the sources of a series within an inclusive range."""
        if self.is_dropped(series_id):
            return Series(kind)
        where = self._slots_of if slots is None else lambda _: slots
        floor = max(t_min, self.floor_of(series_id))
        return reader.load(series_id, kind, where, floor, t_max, self.cuts_of(series_id))

    def _slots_of(self, series_id: int) -> Sequence[int]:
        slots = self._slots
        return slots.of(series_id, self.snapshot.view) if isinstance(slots, SlotMap) else slots

    def scan(
        self,
        series: SeriesList,
        t_min: int,
        t_max: int,
        descending: bool,
        max_rows: int | None,
        bounds: Sequence[Bound | None] | None = None,
        stored: bool = False,
    ) -> Iterator[ColumnBatch]:
        """Yield aligned rows, and close the read afterwards."""
        with self:
            if len(series) == 1 and bounds is None and not stored:
                found = self._within_a_page(series[0], t_min, t_max)
                if found is not None:
                    times, values = found
                    if max_rows is not None and max_rows < len(times):
                        kept = slice(len(times) - max_rows, None) if descending else slice(max_rows)
                        times, values = times[kept], values[kept]
                    if descending:
                        times, values = times[::-1].copy(), values[::-1].copy()
                    if len(times):
                        yield ColumnBatch(times, (Column(series[0][1], values),))
                    return
            loaded = [self._load(one, t_min, t_max) for one in series]
            yield from self._reader.scan(
                loaded,
                t_min,
                t_max,
                descending=descending,
                max_rows=max_rows,
                bounds=bounds,
                stored=stored,
            )

    def _within_a_page(
        self, series: tuple[int, DataType], t_min: int, t_max: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]] | None:
        """Return the rows in an inclusive range where a page without nulls has all there is.

        None: it takes more than to cut a page. What this saves is half of what reading a few rows
        takes.
        """
        index = self._plain_index(series[0])
        if index is None or index.layout_key is None or index.kind is not series[1]:
            return None
        first = int(index.top.searchsorted(t_min))
        pages = int(index.pages["low"].searchsorted(t_max, side="right")) - first
        if pages > 1:
            return None
        if pages < 1:
            return _NO_TIMES, np.empty(0, BATCH_DTYPES[series[1]])
        self._reader.check()
        times = self._reader.pages.times_of(index, first)
        low, high = times.searchsorted(t_min), times.searchsorted(t_max, side="right")
        if high - low > self.snapshot.batch_rows:
            return None
        (values,) = self._reader.pages.columns_of((index,), first)
        if len(values) != len(times):
            return None  # which is for the general way to report
        return times[low:high], values[low:high]

    def aggregate(self, series: tuple[int, DataType], t_min: int, t_max: int) -> Aggregate:
        """Aggregate one series over an inclusive range."""
        whole = self._whole(series, t_min, t_max)
        if whole is not None:
            return replace(whole)
        return self._reader.aggregate(self._load(series, t_min, t_max), t_min, t_max)

    def aggregate_windows(
        self, series: SeriesList, windows: Windows, needs: Needs
    ) -> AggregateTable:
        """Aggregate series over at least one window; those that are stored alike together."""
        if len(series) == 1:
            kinds = [series[0][1]]
            block = self._of_one(series[0], windows, needs).as_table()
            return AggregateTable(kinds, len(windows.lows), needs, block)
        table = AggregateTable([kind for _, kind in series], len(windows.lows), needs)
        alike: dict[tuple[DataType, object], list[tuple[int, SeriesIndex]]] = {}
        wholes: dict[DataType, list[tuple[int, Aggregate]]] = {}
        span = (int(windows.lows[0]), int(windows.highs[0])) if len(windows.lows) == 1 else None
        indices = self._plain_indices(series)
        for number, ((series_id, kind), index) in enumerate(zip(series, indices, strict=True)):
            if index is not None:
                whole = None if span is None else _whole_of(index, kind, *span)
                if whole is not None:
                    wholes.setdefault(kind, []).append((number, whole))
                    continue
                if can_be_alike(index, kind, needs):
                    alike.setdefault((kind, index.layout_key), []).append((number, index))
                    continue
            table.put(number, self._one_by_one((series_id, kind), windows, needs))
        for of_kind in wholes.values():
            table.put_wholes([number for number, _ in of_kind], [whole for _, whole in of_kind])
        for (kind, _), some in alike.items():
            self._reader.check()
            part = aggregate_alike(self._reader, kind, [one for _, one in some], windows, needs)
            table.put_alike([number for number, _ in some], part)
        return table

    def _of_one(
        self, series: tuple[int, DataType], windows: Windows, needs: Needs
    ) -> WindowAggregates:
        series_id, kind = series
        index = self._plain_index(series_id)
        if index is not None:
            if len(windows.lows) == 1:
                whole = _whole_of(index, kind, int(windows.lows[0]), int(windows.highs[0]))
                if whole is not None:
                    result = WindowAggregates.empty(kind, 1, needs)
                    result.put(0, whole)
                    return result
            if can_be_alike(index, kind, needs):
                return aggregate_alike(self._reader, kind, [index], windows, needs)
        return self._one_by_one(series, windows, needs)

    def _plain_index(self, series_id: int) -> SeriesIndex | None:
        """Return the page table of a series if it tells everything."""
        if not self._is_plain(series_id):
            return None
        index = self._reader.indices.one(series_id, self._slots_of)
        return index if not self._ttl or self._is_alive(series_id, index) else None

    def _plain_indices(self, series: SeriesList) -> list[SeriesIndex | None]:
        """Return the page tables of the series of which they tell everything, None of others."""
        ids = [series_id for series_id, _ in series]
        if not self.snapshot.tables and not self._cuts.dropped and not self._cuts.any:
            plain = [True] * len(ids)
        else:
            plain = [self._is_plain(series_id) for series_id in ids]
        found = iter(self._reader.indices.several([*compress(ids, plain)], self._slots_of))
        indices = [next(found) if one else None for one in plain]
        if not self._ttl:
            return indices
        return [
            index if index is not None and self._is_alive(series_id, index) else None
            for series_id, index in zip(ids, indices, strict=True)
        ]

    def _one_by_one(
        self, series: tuple[int, DataType], windows: Windows, needs: Needs
    ) -> WindowAggregates:
        if len(windows.lows) == 1:
            result = WindowAggregates.empty(series[1], 1, needs)
            result.put(0, self.aggregate(series, int(windows.lows[0]), int(windows.highs[0])))
            return result
        loaded = self._load(series, int(windows.lows[0]), int(windows.highs[-1]))
        return self._reader.aggregate_windows(loaded, windows, needs)

    def value_span(self, series: tuple[int, DataType]) -> tuple[Any, Any] | None:
        """Return the lowest and the highest value of a series, if statistics alone tell.

        None: they don't, there is no value, or one is NaN.
        """
        index = self._plain_index(series[0])
        if index is None or not _is_sound(index, series[1]):
            return None
        whole = index.whole()
        if whole.total is None or math.isnan(whole.total):
            return None
        return whole.minimum, whole.maximum

    def last(self, series: SeriesList) -> list[tuple[int, Any] | None]:
        """Return the latest time and value of each series, or None where there is none."""
        found: list[tuple[int, Any] | None] = []
        few = len(series) == 1
        indices = [self._plain_index(series[0][0])] if few else self._plain_indices(series)
        for one, index in zip(series, indices, strict=True):
            if index is None or not _is_sound(index, one[1]):
                found.append(self._last(one))
            elif one[1] is DataType.TEXT:
                found.append(self._reader.pages.last_of(index))
            else:
                found.append(index.last())
        return found

    def _last(self, series: tuple[int, DataType]) -> tuple[int, Any] | None:
        loaded = self._load(series, T_MIN, T_MAX)
        newest = _newest_in_memory(loaded)
        if newest is not None:
            return newest
        for batch in self._reader.scan([loaded], T_MIN, T_MAX, descending=True, max_rows=1):
            value = batch.columns[0].values[0]
            return int(batch.times[0]), value if loaded.kind is DataType.TEXT else value.item()
        return None

    def _load(self, series: tuple[int, DataType], t_min: int, t_max: int) -> Series:
        self._reader.check()
        return self.load(self._reader, *series, t_min, t_max)

    def _whole(self, series: tuple[int, DataType], t_min: int, t_max: int) -> Aggregate | None:
        """Return the aggregate of all that a series has, if its pages' statistics are just that.

        None: there may be rows in memory, deletes, overlaps, or rows outside the range.
        """
        index = self._plain_index(series[0])
        return None if index is None else _whole_of(index, series[1], t_min, t_max)

    def _is_plain(self, series_id: int) -> bool:
        """Tell whether what is on disk is all that there is to know about a series."""
        if self.is_dropped(series_id) or self._cuts.may_hide(series_id):
            return False
        return not any(table.holds(series_id) for _, table in self.snapshot.tables)

    def _is_alive(self, series_id: int, index: SeriesIndex) -> bool:
        """Tell whether no row of a series is expired."""
        return not len(index.pages) or int(index.pages["low"][0]) >= self.floor_of(series_id)

    def close(self) -> None:
        """Let go of the state; may be repeated."""
        self.snapshot.view.release()

    def __enter__(self) -> OpenRead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_sound(index: SeriesIndex, kind: DataType) -> bool:
    """Tell whether there are pages, of a type, that do not overlap."""
    return index.disjoint and index.kind is kind and len(index.pages) > 0


def _whole_of(index: SeriesIndex, kind: DataType, t_min: int, t_max: int) -> Aggregate | None:
    """Return the aggregate of all pages, if they are in the range and tell everything."""
    if kind is DataType.TEXT or not _is_sound(index, kind):
        return None
    whole = index.whole()
    inside = t_min <= whole.min_time and whole.max_time <= t_max
    return whole if inside and whole.count else None


def _newest_in_memory(series: Series) -> tuple[int, Any] | None:
    """Return the latest point if memory has it for sure; None: it takes a scan to know."""
    if series.cuts:
        return None
    newest: tuple[int, Any] | None = None
    for _, rows in series.memory:  # by ascending priority
        found = rows.newest(series.floor)
        if found is not None and (newest is None or found[0] >= newest[0]):
            time, value = found
            newest = time, value if series.kind is DataType.TEXT else value.item()
    if newest is not None and len(series.top) and newest[0] < int(series.top[-1]):
        return None
    return newest


class Cuts:
    """The deletes that a read has to heed, from disk and from memory."""

    def __init__(
        self,
        dropped: DroppedSeries,
        stored: Sequence[Tombstone],
        frozen: Sequence[MemDelete],
        frozen_sequence: int,
        active: Sequence[MemDelete],
    ) -> None:
        self.dropped = dropped
        self._stored = stored
        self._frozen = frozen
        self._frozen_sequence = frozen_sequence
        self._active = active

    @property
    def any(self) -> bool:
        """Tell whether there are any, of any series."""
        return bool(self._stored or self._frozen or self._active)

    def may_hide(self, series_id: int) -> bool:
        """Tell whether some delete may concern a series; sure only where deletes are few."""
        if not self.any:
            return False
        if len(self._stored) + len(self._frozen) + len(self._active) > _FEW_DELETES:
            return True
        return bool(self.of(series_id))

    def of(self, series_id: int) -> list[Cut]:
        """Return the cuts of one series."""
        if not self.any:
            return []
        found = list(cuts_for(self._stored, series_id))
        for deletes, sequence in (
            (self._frozen, self._frozen_sequence),
            (self._active, ACTIVE_SEQUENCE),
        ):
            found.extend(
                Cut(sequence, delete.t_min, delete.t_max)
                for delete in deletes
                if series_id in delete.series_ids
            )
        return found
