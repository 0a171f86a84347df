"""A region: one Raft group's replica of its data, inside an engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from iotdb_engine.aggregate_table import AggregateTable
from iotdb_engine.bounds import Bound
from iotdb_engine.budget import MemoryBudget
from iotdb_engine.cache import ByteCache
from iotdb_engine.compaction import Compactor, decode_number
from iotdb_engine.errors import Closed, Corruption, EngineError
from iotdb_engine.flush import Flushed, decode_commit, decode_intent, write_table
from iotdb_engine.key_format import (
    Kind,
    commit_key,
    compaction_key,
    intent_key,
    kind_prefix,
    prefix_end,
    record_key,
    record_sequence,
    series_range,
    slot_start,
    split_chunk_key,
)
from iotdb_engine.memtable import Memtable
from iotdb_engine.memtable_pages import PageSize
from iotdb_engine.memtable_read import MemSnapshot, capture
from iotdb_engine.options import EngineOptions
from iotdb_engine.reader import ACTIVE_SEQUENCE, Snapshot, no_check
from iotdb_engine.region_read import Cuts, RegionRead, SeriesList
from iotdb_engine.series_index import Epochs
from iotdb_engine.store import Batch, Store, View
from iotdb_engine.tombstones import DroppedSeries, Tombstone, decode_drop, decode_tombstone
from iotdb_engine.ttl import TtlRules, decode_rule
from iotdb_engine.types import Aggregate, ColumnBatch, Fragment
from iotdb_engine.windows import Needs, Windows

_T = TypeVar("_T")
logger = logging.getLogger(__name__)

_ENTRY_GRACE_S = 0.05
"""How long a flush waits for the applier to come with a new index, in seconds."""
_CLEAN_SEEKS = 20_000
"""Most slots x drops looked at in one flush when the data of dropped series is removed."""


def _no_wait(cpu_s: float) -> None:
    """Go on at once."""


class Region:
    """Data, deletes and key-value state of one replica; made by `Engine.region`.

    Calls with an `index` come from one thread (the applier), in ascending order of index; several
    calls may share one. Reads come from any thread at the same time. After a crash the caller
    applies every entry after `applied_index` again.

    A background flush takes the region's memory at a border between two indices: the applier makes
    the cut itself when it comes with a new index. Where it does not come for 50 ms, the flush takes
    its last index for complete. An entry whose calls may lie further apart is put in `entry()`.

    Invariants:
        1. durable_index <= index of the frozen table (if any) <= applied_index.
        2. There is at most one frozen table; it is readable until its flush is durable.
        3. Sequences are given out once, in the whole life of the region.
    """

    def __init__(
        self,
        region_id: int,
        store: Store,
        options: EngineOptions,
        cache: ByteCache,
        budget: MemoryBudget,
        cache_id: int,
        request_flush: Callable[[Region], None],
        pressure: Callable[[], None],
        request_compaction: Callable[[Region, bool], None],
    ) -> None:
        """Open the region from the store; only `Engine` does.

        `region_id` is the number that its keys begin with, which is another one than the caller's
        for a region that was taken over (`iotdb_engine.snapshot`).
        """
        self.id = region_id
        self._store = store
        self._options = options
        self._cache = cache
        self._budget = budget
        self._cache_id = cache_id
        self._request_flush = request_flush
        self._pressure = pressure
        self._request_compaction = request_compaction
        # Held while records are removed whose series may be dropped, or whose space may be given
        # up, at the same time. Innermost: nothing but the store is called with it.
        self.structure_lock = threading.Lock()
        # Guards every field below. Lock order: this, then the budget's or the worker's.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._active = Memtable()
        self._frozen: Memtable | None = None
        self._tombstones: tuple[Tombstone, ...] = ()
        self._dropped = DroppedSeries()
        self._pending_drops: list[tuple[bytes, int, int]] = []
        self._ttl = TtlRules()
        self._epochs = Epochs()
        self._slots: set[int] | None = None
        self._committed = 0
        self._next_sequence = 1
        self._aborted: frozenset[int] = frozenset()
        self._freeze_wanted = False
        self._flush_target = 0
        self._entry_depth = 0
        self._applier: int | None = None
        self._applier_waits = False
        self.failure: Exception | None = None
        self._closed = False
        self._callbacks: list[Callable[[int], None]] = []
        self._late_puts: Callable[[], Mapping[bytes, bytes | None]] = dict
        self._flushing: tuple[Memtable, Flushed] | None = None
        self.written_points = 0
        self.flush_count = 0
        self.flushed_bytes = 0
        self.flushed_chunks = 0
        self.applied_index = 0
        self.durable_index = 0
        self._open()

    def _open(self) -> None:
        view = self._store.view()
        try:
            data = view.get(commit_key(self.id))
            if data is not None:
                self._committed, self.durable_index = self._parse(
                    commit_key(self.id), decode_commit, data
                )
            data = view.get(intent_key(self.id))
            begun = self._committed
            if data is not None:
                begun, self._aborted = self._parse(intent_key(self.id), decode_intent, data)
                if begun > self._committed:
                    self._aborted |= {begun}
            data = view.get(compaction_key(self.id))
            number = 0
            if data is not None:
                number = self._parse(compaction_key(self.id), decode_number, data)
            self.compactor = Compactor(self, number)
            self._next_sequence = max(begun, self._committed) + 1
            for key, value in self._records(view, Kind.TOMBSTONE):
                parse = partial(decode_tombstone, record_sequence(key))
                self._add_tombstones([self._parse(key, parse, value)])
            for key, value in self._records(view, Kind.DROP):
                lo, hi = self._parse(key, decode_drop, value)
                self._pending_drops.append((key, lo, hi))
            self._dropped = DroppedSeries((lo, hi) for _, lo, hi in self._pending_drops)
            for key, value in self._records(view, Kind.TTL):
                hi, ttl = self._parse(key, decode_rule, value)
                self._ttl = self._ttl.with_rule(record_sequence(key), hi, ttl)
        finally:
            view.release()
        self.applied_index = self.durable_index

    def _records(self, view: View, kind: Kind) -> Iterator[tuple[bytes, bytes]]:
        prefix = kind_prefix(self.id, kind)
        return view.scan(prefix, prefix_end(prefix))

    def _parse(self, key: bytes, parse: Callable[[bytes], _T], data: bytes) -> _T:
        try:
            return parse(data)
        except ValueError as error:
            raise Corruption(self._store.path, key, "a sound record", error) from error

    def _add_tombstones(self, new: Sequence[Tombstone]) -> None:
        kept = self._tombstones
        for tombstone in new:
            kept = (*(old for old in kept if not tombstone.covers(old)), tombstone)
        self._tombstones = kept

    # Applying

    def write(self, fragments: Sequence[Fragment], index: int) -> None:
        """Apply rows; all of them become visible together. About 2 us a fragment.

        Waits (up to `stall_s`) while the memory of all regions is over its budget.

        Args:
            fragments: checked with `check_fragment`; their bytes are kept, not copied.
            index: of the caller's log entry.

        Raises:
            Closed: nothing happened.
            EngineError: an earlier flush failed, so that nothing more can become durable; nothing
                happened.
        """
        if self._budget.over:
            self._make_room(index)
        with self._lock:
            self._begin_locked(index)
            size = self._active.append(fragments)
            for fragment in fragments:
                self.written_points += fragment.row_count * len(fragment.layout.series_ids)
        self._count(size)

    def delete(self, series_ids: Sequence[int], t_min: int, t_max: int, index: int) -> None:
        """Remove what was written before to some series in [t_min, t_max], both inclusive."""
        with self._lock:
            self._begin_locked(index)
            size = self._active.delete(series_ids, t_min, t_max) if series_ids else 0
        self._count(size)

    def drop_series(self, ranges: Sequence[tuple[int, int]], index: int) -> None:
        """Remove whole series for good: half-open ranges of ids that will never be used again."""
        with self._lock:
            self._begin_locked(index)
            size = self._active.drop(ranges)
            self._dropped = self._dropped.with_ranges(ranges)
        self._count(size)

    def set_ttl(self, lo: int, hi: int, ttl: int | None, index: int) -> None:
        """Have the points of the series [lo, hi) expire; reads leave expired points out at once.

        Args:
            lo: lowest series id.
            hi: lowest id after the range.
            ttl: how long a point stays, in units of its time stamps; None: for good. It takes the
                place of what was set before for the same range.
            index: of the caller's log entry.

        Raises:
            ValueError: the range partly overlaps another one, or `ttl` is below 1; nothing
                happened.
        """
        with self._lock:
            rules = self._ttl.with_rule(lo, hi, ttl)
            self._begin_locked(index)
            size = self._active.set_ttl(lo, hi, ttl)
            self._ttl = rules
        self._count(size)

    def put(self, puts: Mapping[bytes, bytes | None], index: int) -> None:
        """Change the region's own key-value state; None deletes a key. Reads see it at once."""
        with self._lock:
            self._begin_locked(index)
            size = self._active.put(puts)
            many = self._active.put_count >= self._options.kv_flush_puts
        self._count(size)
        if many:
            self._request_flush(self)

    def mark_applied(self, index: int) -> None:
        """Note that an entry without effect here was applied."""
        with self._lock:
            self._begin_locked(index)

    @contextmanager
    def entry(self) -> Iterator[None]:
        """Make the calls inside one step: for readers, and for flushes.

        For entries that need several calls with one index. Holds the region's lock: no waiting, and
        no callbacks, inside.
        """
        if self._budget.over:
            self._make_room(self.applied_index + 1)
        with self._lock:
            self._entry_depth += 1
            try:
                yield
            finally:
                self._entry_depth -= 1

    def _begin_locked(self, index: int) -> None:
        if self._closed:
            raise Closed(f"region {self.id} is closed")
        if self.failure is not None:
            raise EngineError(f"region {self.id} cannot store: {self.failure}") from self.failure
        if index < self.applied_index:
            raise ValueError(f"index {index} after {self.applied_index}: indices must ascend")
        if index > self.applied_index:
            if self._freeze_wanted:
                self._freeze_locked()
            self.applied_index = index
        self._applier = threading.get_ident()

    def _count(self, size: int) -> None:
        if size and self._budget.add(size):
            self._pressure()

    @property
    def holds_back(self) -> bool:
        """Whether a write would have to wait now, because memory is over its budget."""
        return self._budget.over

    def _make_room(self, index: int) -> None:
        if self._entry_depth:
            return
        with self._lock:
            if self._freeze_wanted and index > self.applied_index:
                self._freeze_locked()
        if not self._budget.hold_back(self._options.stall_s):
            logger.warning(
                "region %d writes on over the memory budget after waiting %.1f s",
                self.id,
                self._options.stall_s,
            )

    # The key-value state

    def get(self, key: bytes) -> bytes | None:
        """Return a value of the key-value state, or None."""
        with self._lock:
            self._check_open()
            for table in (self._active, self._frozen):
                if table is not None and key in table.puts:
                    return table.puts[key]
        return self._store.get(kind_prefix(self.id, Kind.KEY_VALUE) + key)

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Return keys with a prefix, and their values, sorted by key."""
        with self._lock:
            self._check_open()
            view = self._store.view()
            newer: dict[bytes, bytes | None] = {}
            for table in (self._frozen, self._active):
                if table is not None:
                    newer.update((k, v) for k, v in table.puts.items() if k.startswith(prefix))
        try:
            own = kind_prefix(self.id, Kind.KEY_VALUE)
            lo = own + prefix
            found: dict[bytes, bytes | None] = {
                key[len(own) :]: value for key, value in view.scan(lo, prefix_end(lo))
            }
        finally:
            view.release()
        found.update(newer)
        return sorted((key, value) for key, value in found.items() if value is not None)

    # Flushing

    def flush(self, *, wait: bool = True) -> None:
        """Make everything applied so far durable.

        Args:
            wait: return only when `durable_index` has reached the present `applied_index`;
                otherwise only ask for it. Not to be True inside `entry()` or a callback.

        Raises:
            EngineError: storing failed; what was applied is still readable.
        """
        with self._lock:
            self._check_open()
            if self._dirty_locked():
                target = self._next_sequence
            else:
                target = self._frozen.sequence if self._frozen else self._committed
            if target <= self._committed:
                return
            self._flush_target = max(self._flush_target, target)
            by_applier = self._applier in (None, threading.get_ident())
            if by_applier and not self._entry_depth:
                self._freeze_locked()
            self._request_flush(self)
            if wait:
                self._wait_locked(target, by_applier=by_applier)

    def _wait_locked(self, target: int, *, by_applier: bool) -> None:
        self._applier_waits |= by_applier
        try:
            self._changed.wait_for(
                lambda: self._committed >= target or self.failure or self._closed
            )
        finally:
            if by_applier:
                self._applier_waits = False
        if self._committed >= target:
            return
        if self.failure:
            raise EngineError(f"region {self.id}: {self.failure}") from self.failure
        raise Closed(f"region {self.id} was closed")

    def expect_no_more(self) -> None:
        """Take the last index for complete: the engine is closing."""
        with self._lock:
            self._applier = None

    def on_durable(self, callback: Callable[[int], None]) -> None:
        """Have a function called from the flush thread with each new durable index."""
        with self._lock:
            self._callbacks.append(callback)

    def on_freeze(self, late_puts: Callable[[], Mapping[bytes, bytes | None]]) -> None:
        """Have a function asked for more puts whenever a memory table is complete.

        For state that changes with every entry and is small: it is stored once per flush. The
        function is called with the region's lock held, by the applier or the flush thread, at the
        border between two indices; what it returns belongs to the older one.
        """
        with self._lock:
            self._late_puts = late_puts

    @property
    def origin(self) -> bytes:
        """What was noted when the region was taken over from another engine; b"": it was not."""
        return self._store.get(kind_prefix(self.id, Kind.ORIGIN)) or b""

    def _dirty_locked(self) -> bool:
        stored = self.durable_index if self._frozen is None else self._frozen.index
        return not self._active.is_empty() or self.applied_index > stored

    def _freeze_locked(self) -> None:
        if self._frozen is not None or not self._dirty_locked():
            return
        table = self._active
        table.puts.update(self._late_puts())
        table.sequence = self._next_sequence
        table.index = self.applied_index
        self._next_sequence += 1
        self._frozen, self._active = table, Memtable()
        self._freeze_wanted = False
        self._budget.freeze(table.bytes)
        self._changed.notify_all()

    def store_frozen(self) -> bool:
        """Write the memory to the store; return whether there is something to be made durable.

        Called by the engine's worker only, as are the three below.
        """
        with self._lock:
            if self._closed or self.failure is not None:
                return False
            if self._frozen is None and self._dirty_locked():
                if not self._applier_waits and self._applier is not None:
                    self._freeze_wanted = True
                    self._changed.wait_for(lambda: self._frozen is not None, _ENTRY_GRACE_S)
                self._freeze_locked()
                self._freeze_wanted = False
            table, aborted = self._frozen, self._aborted
        if table is None:
            return False
        flushed = write_table(self._store, self.id, table, aborted=aborted, options=self._options)
        with self._lock:
            self.flushed_bytes += flushed.written_bytes
            self.flushed_chunks += sum(
                group.layers * len(group.members) for group in flushed.groups
            )
            if self._slots is not None:
                self._slots.update(slot for slot, _ in table.entries)
            self._flushing = (table, flushed)
            for number, (lo, hi) in enumerate(table.drops):
                key = record_key(self.id, Kind.DROP, table.sequence, number)
                self._pending_drops.append((key, lo, hi))
        self._remove_dropped()
        return True

    def finish_flush(self) -> None:
        """Take the flush for durable: let go of the frozen table, and tell who waits."""
        with self._lock:
            if self._flushing is None or self._closed:
                return
            table, flushed = self._flushing
            self._flushing = None
            self._committed = table.sequence
            self.durable_index = table.index
            self._add_tombstones(flushed.tombstones)
            self._epochs.bump((i for group in flushed.groups for i in group.members), 2)
            self._frozen = None
            self.flush_count += 1
            again = self._flush_target > self._committed
            callbacks = list(self._callbacks)
            self._changed.notify_all()
        self._budget.release(frozen=table.bytes)
        for group in flushed.groups:
            self.compactor.note(group.slot, group.owner, group.layers)
        if again:
            self._request_flush(self)
        if flushed.groups:
            self._request_compaction(self, False)
        for callback in callbacks:
            try:
                callback(table.index)
            except Exception:
                logger.exception("a durable-index callback of region %d failed", self.id)

    def fail(self, error: Exception) -> None:
        """Stop storing: the memory stays readable, and every further write is refused."""
        with self._lock:
            self.failure = error
            self._changed.notify_all()
        logger.error("region %d cannot store any more: %s", self.id, error)

    def close(self) -> None:
        """Refuse everything from now on, and wake who waits."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            frozen = self._frozen.bytes if self._frozen else 0
            self._budget.release(active=self._active.bytes, frozen=frozen)
            self._changed.notify_all()
        # A batch of a compaction that is under way is the last one.
        with self.structure_lock:
            pass

    def _remove_dropped(self) -> None:
        """Remove chunks of dropped series, for which a DROP record is stored.

        A drop is done when its ranges are deleted; its record goes in the same batch.
        """
        if not self._pending_drops:
            return
        slots = self._known_slots()
        view = self._store.view()
        left = _CLEAN_SEEKS
        try:
            while self._pending_drops and left > 0:
                key, lo, hi = self._pending_drops[0]
                left -= max(1, len(slots))
                batch = Batch()
                for slot in slots:
                    chunks = series_range(self.id, Kind.CHUNK, slot, lo, hi)
                    if view.first_key(*chunks) is not None:
                        batch.delete_range(*chunks)
                        batch.delete_range(*series_range(self.id, Kind.DATA, slot, lo, hi))
                batch.delete(key)
                with self.structure_lock:
                    self._store.write(batch)
                self._pending_drops.pop(0)
        finally:
            view.release()

    def _known_slots(self) -> list[int]:
        """Return the slots that have chunks, or had: from the store once, then kept."""
        with self._lock:
            if self._slots is None:
                found: set[int] = set()
                view = self._store.view()
                try:
                    prefix = kind_prefix(self.id, Kind.CHUNK)
                    lo, end = prefix, prefix_end(prefix)
                    while (key := view.first_key(lo, end)) is not None:
                        slot = split_chunk_key(key).slot
                        found.add(slot)
                        if slot == 0xFFFF:
                            break
                        lo = slot_start(self.id, Kind.CHUNK, slot + 1)
                finally:
                    view.release()
                self._slots = found
            return sorted(self._slots)

    # Compacting

    def request_compaction(self, *, full: bool) -> None:
        """Have the chunks merged in the background; nothing happens where that is switched off."""
        self._request_compaction(self, full)

    def compact(self, *, full: bool = False, pace: Callable[[float], None] = _no_wait) -> bool:
        """Merge chunks now, in this thread; see `Compactor.run`. `Engine.compact` does it aside."""
        return self.compactor.run(pace, full=full)

    @property
    def store(self) -> Store:
        """Where the records are."""
        return self._store

    @property
    def options(self) -> EngineOptions:
        """Sizes."""
        return self._options

    @property
    def is_closed(self) -> bool:
        """Tell whether everything is refused."""
        return self._closed

    @property
    def committed(self) -> int:
        """Highest sequence whose flush is durable."""
        return self._committed

    @property
    def dropped(self) -> DroppedSeries:
        """Series removed for good; the same object until another one is."""
        return self._dropped

    @contextmanager
    def changing(self, series_ids: Sequence[int]) -> Iterator[None]:
        """Keep reads from caching where chunks of some series are, while a merge changes that."""
        with self._lock:
            self._epochs.bump(series_ids, 1)
        try:
            yield
        finally:
            with self._lock:
                self._epochs.bump(series_ids, 1)

    def stored_tombstones(self, view: View) -> Iterator[tuple[bytes, Tombstone]]:
        """Yield key and content of each TOMBSTONE record."""
        for key, value in self._records(view, Kind.TOMBSTONE):
            yield key, self._parse(key, partial(decode_tombstone, record_sequence(key)), value)

    def retire_tombstones(self, idle: Sequence[tuple[bytes, Tombstone]]) -> None:
        """Remove tombstones that hide nothing; by the compaction."""
        if not idle:
            return
        batch = Batch()
        for key, _ in idle:
            batch.delete(key)
        with self.structure_lock:
            if self._closed:
                return
            self._store.write(batch)
        with self._lock:
            self._tombstones = tuple(
                kept
                for kept in self._tombstones
                if not any(kept.equals(tombstone) for _, tombstone in idle)
            )

    # Reading

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
        check: Callable[[], None] = no_check,
    ) -> RegionRead:
        """Take the state of now, to be read by one thread; `close` it.

        Args:
            series: those of which memory tables are captured.
            slots: where to look; None: in every slot.
            stored_only: the state of the last durable flush, without what was applied since.
            check: see `read`.
        """
        ids = [series_id for series_id, _ in series]
        within = None if slots is None else frozenset(slots)
        page = PageSize(self._options.page_points, self._options.page_text_bytes)
        with self._lock:
            self._check_open()
            dropped = self._dropped
            alive = [i for i in ids if i not in dropped] if dropped else ids
            tables: list[tuple[int, MemSnapshot]] = []
            frozen = self._frozen
            if frozen is not None:
                found = capture(frozen, alive, within, page)
                if found is not None:
                    tables.append((frozen.sequence, found))
            found = capture(self._active, alive, within, page)
            if found is not None:
                tables.append((ACTIVE_SEQUENCE, found))
            cuts = Cuts(
                dropped,
                self._tombstones,
                () if frozen is None or stored_only else tuple(frozen.deletes),
                0 if frozen is None else frozen.sequence,
                () if stored_only else tuple(self._active.deletes),
            )
            snapshot = Snapshot(
                region=self.id,
                cache_id=self._cache_id,
                view=self._store.view(),
                path=self._store.path,
                committed=self._committed,
                aborted=self._aborted,
                tables=tuple(tables),
                cache=self._cache,
                epochs=None if stored_only else self._epochs.copy(),
                slots_key=None if slots is None else tuple(slots),
                page_points=self._options.page_points,
                batch_rows=self._options.read_batch_rows,
            )
            rules = self._ttl
        where = self._known_slots() if slots is None else sorted(slots)
        return RegionRead(snapshot, cuts, where, rules, self._options.now(), check)

    def memtable_bytes(self) -> int:
        """Return the estimate of the active table's memory."""
        return self._active.bytes

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"region {self.id} is closed")
