"""Reading a region: its key-value state, rows, aggregates and latest points."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from iotdb_engine.aggregate_table import AggregateTable
from iotdb_engine.bounds import Bound
from iotdb_engine.cache import ByteCache
from iotdb_engine.key_format import Kind, kind_prefix, prefix_end
from iotdb_engine.memtable_pages import PageSize
from iotdb_engine.memtable_read import MemSnapshot, capture
from iotdb_engine.open_read import Cuts, OpenRead, SeriesList
from iotdb_engine.region_state import RegionState
from iotdb_engine.sources import ACTIVE_SEQUENCE, Snapshot, no_check
from iotdb_engine.types import Aggregate, ColumnBatch
from iotdb_engine.windows import Needs, Windows


class RegionReads:
    """What may be asked of a region, from any thread, while it changes.

    Attributes:
        state: of the region.
    """

    def __init__(self, state: RegionState, cache: ByteCache, cache_id: int) -> None:
        """Read nothing yet.

        Args:
            state: of the region.
            cache: of what is decoded.
            cache_id: names the region in the cache's keys; never reused in a process.
        """
        self.state = state
        self._cache = cache
        self._cache_id = cache_id
        self._page = PageSize(state.options.page_points, state.options.page_text_bytes)

    def get(self, key: bytes) -> bytes | None:
        """Return a value of the key-value state, or None."""
        with self.state.lock:
            self.state.check_open()
            for table in (self.state.active, self.state.frozen):
                if table is not None and key in table.puts:
                    return table.puts[key]
        return self.state.store.get(kind_prefix(self.state.id, Kind.KEY_VALUE) + key)

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Return keys with a prefix, and their values, sorted by key."""
        with self.state.lock:
            self.state.check_open()
            view = self.state.store.view()
            newer: dict[bytes, bytes | None] = {}
            for table in (self.state.frozen, self.state.active):
                if table is not None:
                    newer.update((k, v) for k, v in table.puts.items() if k.startswith(prefix))
        try:
            own = kind_prefix(self.state.id, Kind.KEY_VALUE)
            lo = own + prefix
            found: dict[bytes, bytes | None] = {
                key[len(own) :]: value for key, value in view.scan(lo, prefix_end(lo))
            }
        finally:
            view.release()
        found.update(newer)
        return sorted((key, value) for key, value in found.items() if value is not None)

    def read(
        self,
        series: SeriesList,
        t_min: int,
        t_max: int,
        *,
        slots: Sequence[int] | None = None,
        descending: bool = False,
        max_rows: int | None = None,
        bounds: Sequence[Bound | None] | None = None,
        stored: bool = False,
        check: Callable[[], None] = no_check,
    ) -> Iterator[ColumnBatch]:
        """Read rows: the union of the series' timestamps, aligned.

        Args:
            series: ids and types; a column each in the batches, in this order.
            t_min: inclusive.
            t_max: inclusive.
            slots: where to look; None: in every slot.
            descending: latest first.
            max_rows: stop after that many rows.
            bounds: parallel to `series`: the caller wants no row in which a series has no value
                within its bounds. Rows where statistics alone say so may be left out; the caller
                judges the others.
            stored: where batches are whole pages, hand them out as `StoredBatch`.
            check: called before every piece of work that takes a while, from the thread that
                iterates; it may raise to end the read.

        Returns:
            An iterator of batches of at most `read_batch_rows` rows, over the state of this call:
            a later write or flush does not change it. It belongs to one thread at a time, and
            should be closed or run to its end.

        Raises:
            Closed, WrongType, Corruption: here, or while iterating.
        """
        return self.open_read(series, slots, check=check).scan(
            series, t_min, t_max, descending, max_rows, bounds, stored
        )

    def aggregate(
        self, series: SeriesList, t_min: int, t_max: int, *, slots: Sequence[int] | None = None
    ) -> list[Aggregate]:
        """Aggregate each series over [t_min, t_max], both inclusive.

        Pages that lie inside the range, and that nothing else touches, are not decoded.
        """
        with self.open_read(series, slots) as read:
            return [read.aggregate(one, t_min, t_max) for one in series]

    def aggregate_windows(
        self,
        series: SeriesList,
        windows: Windows,
        needs: Needs = Needs.EVERYTHING,
        *,
        slots: Sequence[int] | None = None,
        check: Callable[[], None] = no_check,
    ) -> AggregateTable:
        """Aggregate each series over many windows of time, in one pass over its pages.

        Args:
            series: ids and types.
            windows: see `Windows`; they may overlap and leave gaps.
            needs: which parts are wanted besides the count.
            slots: where to look; None: in every slot.
            check: see `read`.
        """
        if not len(windows.lows):
            return AggregateTable([kind for _, kind in series], 0, needs)
        with self.open_read(series, slots, check=check) as read:
            return read.aggregate_windows(series, windows, needs)

    def last(
        self,
        series: SeriesList,
        *,
        slots: Sequence[int] | None = None,
        check: Callable[[], None] = no_check,
    ) -> list[tuple[int, Any] | None]:
        """Return the latest time and value of each series, or None where there is none."""
        with self.open_read(series, slots, check=check) as read:
            return read.last(series)

    def open_read(
        self,
        series: SeriesList,
        slots: Collection[int] | None = None,
        *,
        stored_only: bool = False,
        now: int | None = None,
        check: Callable[[], None] = no_check,
    ) -> OpenRead:
        """Take the state of now, to be read by one thread; `close` it.

        Args:
            series: those of which memory tables are captured.
            slots: where to look; None: in every slot.
            stored_only: the state of the last durable flush, without what was applied since.
            now: the time by which points are expired; None: the present.
            check: see `read`.
        """
        state = self.state  # a read of a few rows pays for each look-up here
        options, store = state.options, state.store
        ids = [series_id for series_id, _ in series]
        within = None if slots is None else frozenset(slots)
        with state.lock:
            state.check_open()
            dropped, frozen, active = state.dropped, state.frozen, state.active
            alive = [i for i in ids if i not in dropped] if dropped else ids
            tables: list[tuple[int, MemSnapshot]] = []
            for sequence, table in (
                (0 if frozen is None else frozen.sequence, frozen),
                (ACTIVE_SEQUENCE, active),
            ):
                if table is not None and table.by_series:
                    found = capture(table, alive, within, self._page)
                    if found is not None:
                        tables.append((sequence, found))
            cuts = Cuts(
                dropped,
                state.tombstones,
                () if frozen is None or stored_only else tuple(frozen.deletes),
                0 if frozen is None else frozen.sequence,
                () if stored_only else tuple(active.deletes),
            )
            snapshot = Snapshot(
                region=state.id,
                cache_id=self._cache_id,
                view=store.view(),
                path=store.path,
                committed=state.committed,
                aborted=state.aborted,
                tables=tuple(tables),
                cache=self._cache,
                epochs=None if stored_only else state.epochs.copy(),
                slots_key=None if slots is None else tuple(slots),
                page_points=options.page_points,
                batch_rows=options.read_batch_rows,
            )
            rules = state.ttl
            where = state.slot_map() if slots is None else sorted(slots)
        if now is None:
            now = options.now() if rules else 0
        return OpenRead(snapshot, cuts, where, rules, now, check)
