"""A region: one Raft group's replica of its data, inside an engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from iotdb_engine.budget import MemoryBudget
from iotdb_engine.cache import ByteCache
from iotdb_engine.compaction import Compactor
from iotdb_engine.flush import Flushed
from iotdb_engine.flush_pace import FlushPace
from iotdb_engine.key_format import Kind, kind_prefix
from iotdb_engine.options import EngineOptions
from iotdb_engine.region_flush import RegionFlush
from iotdb_engine.region_reads import RegionReads
from iotdb_engine.region_state import RegionState
from iotdb_engine.store import Store
from iotdb_engine.types import Fragment

logger = logging.getLogger(__name__)


def _no_wait(cpu_s: float) -> None:
    """Go on at once."""


class _Entry:
    """What `Region.entry` returns; every entry of a log passes through one, so no generator."""

    __slots__ = ("_region",)

    def __init__(self, region: Region) -> None:
        self._region = region

    def __enter__(self) -> None:
        region = self._region
        if region._budget.over:
            region._make_room(region.state.applied_index + 1)
        region.state.lock.acquire()
        region._entry_depth += 1

    def __exit__(self, *_: object) -> None:
        region = self._region
        region._entry_depth -= 1
        region.state.lock.release()


class Region(RegionReads):
    """Data, deletes and key-value state of one replica; made by `Engine.region`.

    Calls with an `index` come from one thread (the applier), in ascending order of index; several
    calls may share one. Reads come from any thread at the same time. After a crash the caller
    applies every entry after `applied_index` again.

    A flush takes what was applied up to a border between two indices (`RegionFlush`). An entry
    whose calls may lie 50 ms apart is put in `entry()`.

    Invariants:
        1. durable_index <= index of the frozen table (if any) <= applied_index.
        2. There is at most one frozen table; it is readable until its flush is durable.
        3. Sequences are given out once, in the whole life of the region.

    Attributes:
        flushing: its flushes.
        compactor: its compaction.
        written_points: of all writes since it was opened.
    """

    def __init__(
        self,
        region_id: int,
        store: Store,
        options: EngineOptions,
        cache: ByteCache,
        budget: MemoryBudget,
        pace: FlushPace,
        cache_id: int,
        request_flush: Callable[[Region], None],
        pressure: Callable[[], None],
        request_compaction: Callable[[Region, bool], None],
    ) -> None:
        """Open the region from the store; only `Engine` does.

        `region_id` is the number that its keys begin with; see `RegionState`.
        """
        super().__init__(RegionState(region_id, store, options), cache, cache_id)
        self._budget = budget
        self._request = request_flush
        self._pressure = pressure
        self._request_compaction = request_compaction
        self._entry_depth = 0
        self.flushing = RegionFlush(self.state, budget, pace, self._request_flush, self._flushed)
        self.compactor = Compactor(self.state, lambda: self.open_read([], stored_only=True))
        self.written_points = 0

    @property
    def id(self) -> int:
        """The number that its keys begin with."""
        return self.state.id

    @property
    def store(self) -> Store:
        """Where the records are."""
        return self.state.store

    @property
    def applied_index(self) -> int:
        """Index of the last entry."""
        return self.state.applied_index

    @property
    def durable_index(self) -> int:
        """Index of the last entry whose effect is stored."""
        return self.state.durable_index

    @property
    def failure(self) -> Exception | None:
        """Why nothing more can be stored; None: all is well."""
        return self.state.failure

    @property
    def is_closed(self) -> bool:
        """Tell whether everything is refused."""
        return self.state.closed

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
        with self.state.lock:
            self._begin_locked(index)
            size = self.state.active.append(fragments)
            for fragment in fragments:
                self.written_points += fragment.row_count * len(fragment.layout.series_ids)
        self._count(size)

    def delete(self, series_ids: Sequence[int], t_min: int, t_max: int, index: int) -> None:
        """Remove what was written before to some series in [t_min, t_max], both inclusive."""
        with self.state.lock:
            self._begin_locked(index)
            size = self.state.active.delete(series_ids, t_min, t_max) if series_ids else 0
        self._count(size)

    def drop_series(self, ranges: Sequence[tuple[int, int]], index: int) -> None:
        """Remove whole series for good: half-open ranges of ids that will never be used again."""
        with self.state.lock:
            self._begin_locked(index)
            size = self.state.active.drop(ranges)
            self.state.dropped = self.state.dropped.with_ranges(ranges)
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
        with self.state.lock:
            rules = self.state.ttl.with_rule(lo, hi, ttl)
            self._begin_locked(index)
            size = self.state.active.set_ttl(lo, hi, ttl)
            self.state.ttl = rules
        self._count(size)

    def put(self, puts: Mapping[bytes, bytes | None], index: int) -> None:
        """Change the region's own key-value state; None deletes a key. Reads see it at once."""
        with self.state.lock:
            self._begin_locked(index)
            size = self.state.active.put(puts)
            many = self.state.active.put_count >= self.state.options.kv_flush_puts
        self._count(size)
        if many:
            self._request_flush()

    def mark_applied(self, index: int) -> None:
        """Note that an entry without effect here was applied."""
        with self.state.lock:
            self._begin_locked(index)

    def entry(self) -> AbstractContextManager[None]:
        """Make the calls inside one step: for readers, and for flushes.

        For entries that need several calls with one index. Holds the region's lock: no waiting, and
        no callbacks, inside.
        """
        return _Entry(self)

    def _begin_locked(self, index: int) -> None:
        state = self.state
        state.check_writable()
        if index < state.applied_index:
            raise ValueError(f"index {index} after {state.applied_index}: indices must ascend")
        if index > state.applied_index:
            self.flushing.cut()
            state.applied_index = index
        self.flushing.applier = threading.get_ident()

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
        with self.state.lock:
            if index > self.state.applied_index:
                self.flushing.cut()
        if not self._budget.hold_back(self.state.options.stall_s):
            logger.warning(
                "region %d writes on over the memory budget after waiting %.1f s",
                self.state.id,
                self.state.options.stall_s,
            )

    def memtable_bytes(self) -> int:
        """Return the estimate of the active table's memory."""
        return self.state.active.bytes

    def unstored_bytes(self) -> int:
        """Return the estimate of what is not in the store yet."""
        with self.state.lock:
            frozen = self.state.frozen
            return self.state.active.bytes + (frozen.bytes if frozen else 0)

    # Flushing

    def flush(self, *, wait: bool = True, meanwhile: Callable[[], object] = bool) -> None:
        """Make everything applied so far durable.

        Args:
            wait: return only when `durable_index` has reached the present `applied_index`;
                otherwise only ask for it. Not to be True inside `entry()` or a callback.
            meanwhile: called when it has been asked for, before the wait.

        Raises:
            EngineError: storing failed; what was applied is still readable.
        """
        self.flushing.run(wait=wait, in_entry=self._entry_depth > 0, meanwhile=meanwhile)

    def on_durable(self, callback: Callable[[int], None]) -> None:
        """Have a function called from the flush thread with each new durable index."""
        self.flushing.on_durable(callback)

    def on_freeze(self, late_puts: Callable[[], Mapping[bytes, bytes | None]]) -> None:
        """Have a function asked for more puts whenever a memory table is complete.

        For state that changes with every entry and is small: it is stored once per flush. The
        function is called with the region's lock held, by the applier or the flush thread, at the
        border between two indices; what it returns belongs to the older one.
        """
        self.flushing.on_freeze(late_puts)

    def _request_flush(self) -> None:
        self._request(self)

    def _flushed(self, flushed: Flushed) -> None:
        for group in flushed.groups:
            self.compactor.note(group.slot, group.owner, group.layers)
        if flushed.groups:
            self._request_compaction(self, False)

    @property
    def origin(self) -> bytes:
        """What was noted when the region was taken over from another engine; b"": it was not."""
        return self.state.store.get(kind_prefix(self.state.id, Kind.ORIGIN)) or b""

    # Compacting

    def request_compaction(self, *, full: bool) -> None:
        """Have the chunks merged in the background; nothing happens where that is switched off."""
        self._request_compaction(self, full)

    def compact(self, *, full: bool = False, pace: Callable[[float], None] = _no_wait) -> bool:
        """Merge chunks now, in this thread; see `Compactor.run`. `Engine.compact` does it aside."""
        return self.compactor.run(pace, full=full)
