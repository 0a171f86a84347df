"""Flushing a region: its memory is frozen at a border between two entries, stored, and let go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Mapping

from iotdb_engine.budget import MemoryBudget
from iotdb_engine.errors import Closed, Corruption, EngineError
from iotdb_engine.expiry import SlotExpiry
from iotdb_engine.flush import Flushed, write_table
from iotdb_engine.flush_pace import FlushPace
from iotdb_engine.key_format import Kind, record_key, series_range
from iotdb_engine.memtable import Memtable
from iotdb_engine.region_state import RegionState
from iotdb_engine.store import Batch

logger = logging.getLogger(__name__)

_ENTRY_GRACE_S = 0.05
"""How long a flush waits for the applier to come with a new index, in seconds."""
_CLEAN_SEEKS = 20_000
"""Most slots x drops looked at in one flush when the data of dropped series is removed."""


class RegionFlush:
    """The flushes of one region, one at a time.

    A background flush takes the region's memory at a border between two indices: the applier makes
    the cut itself when it comes with a new index (`cut`). Where it does not come for 50 ms, the
    flush takes its last index for complete.

    Attributes:
        expiry: removes slots whose points are all expired.
        applier: the thread that applies, once known.
        count: flushes so far.
        written_bytes: of keys and values, by flushes.
        chunks: written by flushes, about.
    """

    def __init__(
        self,
        state: RegionState,
        budget: MemoryBudget,
        pace: FlushPace,
        request: Callable[[], None],
        flushed: Callable[[Flushed], None],
    ) -> None:
        """Flush nothing yet.

        Args:
            state: of the region.
            budget: of all regions' memory tables.
            pace: of all regions' flushes.
            request: asks the engine for a flush of this region.
            flushed: is told what a flush wrote, once it is durable.
        """
        self._state = state
        self._budget = budget
        self._pace = pace
        self._request = request
        self._flushed = flushed
        # Guarded by the state's lock, as all of this.
        self._wanted = False
        self._target = 0
        self._applier_waits = False
        self._callbacks: list[Callable[[int], None]] = []
        self._late_puts: Callable[[], Mapping[bytes, bytes | None]] = dict
        self._stored: tuple[Memtable, Flushed] | None = None
        self.expiry = SlotExpiry(state)
        self.applier: int | None = None
        self.count = 0
        self.written_bytes = 0
        self.chunks = 0

    def on_durable(self, callback: Callable[[int], None]) -> None:
        """Have a function called from the flush thread with each new durable index."""
        with self._state.lock:
            self._callbacks.append(callback)

    def on_freeze(self, late_puts: Callable[[], Mapping[bytes, bytes | None]]) -> None:
        """Have a function asked for more puts whenever a memory table is complete."""
        with self._state.lock:
            self._late_puts = late_puts

    def expect_no_more(self) -> None:
        """Take the last index for complete: the engine is closing."""
        with self._state.lock:
            self.applier = None

    def cut(self) -> None:
        """Freeze the memory if a flush waits for that; by the applier, between two indices."""
        if self._wanted:
            self.freeze()

    def freeze(self) -> None:
        """Freeze the memory, if there is something to store; needs the state's lock."""
        state = self._state
        if state.frozen is not None or not state.is_dirty():
            return
        table = state.active
        table.puts.update(self._late_puts())
        table.sequence = state.next_sequence
        table.index = state.applied_index
        state.next_sequence += 1
        state.frozen, state.active = table, Memtable()
        self._wanted = False
        self._budget.freeze(table.bytes)
        state.changed.notify_all()

    def run(self, *, wait: bool, in_entry: bool, meanwhile: Callable[[], object] = bool) -> None:
        """Ask for a flush of everything applied so far; see `Region.flush`."""
        state = self._state
        by_applier = self.applier in (None, threading.get_ident())
        with state.lock:
            state.check_open()
            if state.is_dirty():
                target = state.next_sequence
            else:
                target = state.frozen.sequence if state.frozen else state.committed
            if target > state.committed:
                self._target = max(self._target, target)
                if by_applier and not in_entry:
                    self.freeze()
                self._request()
        meanwhile()
        if wait:
            with self._pace.hurry(), state.lock:
                self._wait(target, by_applier=by_applier)

    def _wait(self, target: int, *, by_applier: bool) -> None:
        state = self._state
        self._applier_waits |= by_applier
        try:
            state.changed.wait_for(
                lambda: state.committed >= target or state.failure or state.closed
            )
        finally:
            if by_applier:
                self._applier_waits = False
        if state.committed >= target:
            return
        if state.failure:
            raise EngineError(f"region {state.id}: {state.failure}") from state.failure
        raise Closed(f"region {state.id} was closed")

    # By the engine's worker

    def store(self) -> Generator[None, None, bool]:
        """Write the memory to the store, in steps that different threads may do.

        Returns:
            Whether there is something to be made durable, and then to `finish`.
        """
        state = self._state
        with state.lock:
            if state.closed or state.failure is not None:
                return False
            if state.frozen is None and state.is_dirty():
                if not self._applier_waits and self.applier is not None:
                    self._wanted = True
                    state.changed.wait_for(lambda: state.frozen is not None, _ENTRY_GRACE_S)
                self.freeze()
                self._wanted = False
            table, aborted = state.frozen, state.aborted
        self._remove_expired()
        if table is None:
            return False
        self.expiry.written({slot for slot, _ in table.entries})
        state.options.before_store()
        flushed = yield from write_table(
            state.store, state.id, table, aborted=aborted, options=state.options
        )
        with state.lock:
            self.written_bytes += flushed.written_bytes
            self.chunks += sum(group.layers * len(group.members) for group in flushed.groups)
            if state.slots is not None:
                groups = [(group.slot, group.members) for group in flushed.groups]
                state.slots = state.slots.with_chunks(groups)
            self._stored = (table, flushed)
            for number, (lo, hi) in enumerate(table.drops):
                key = record_key(state.id, Kind.DROP, table.sequence, number)
                state.pending_drops.append((key, lo, hi))
        self._remove_dropped()
        return True

    def finish(self) -> None:
        """Take the flush for durable: let go of the frozen table, and tell who waits."""
        state = self._state
        with state.lock:
            if self._stored is None or state.closed:
                return
            table, flushed = self._stored
            self._stored = None
            state.committed = table.sequence
            state.durable_index = table.index
            state.add_tombstones(flushed.tombstones)
            state.epochs.bump((i for group in flushed.groups for i in group.members), 2)
            state.frozen = None
            self.count += 1
            again = self._target > state.committed
            callbacks = list(self._callbacks)
            state.changed.notify_all()
        self._budget.release(frozen=table.bytes)
        if again:
            self._request()
        self._flushed(flushed)
        for callback in callbacks:
            try:
                callback(table.index)
            except Exception:
                logger.exception("a durable-index callback of region %d failed", state.id)

    def fail(self, error: Exception) -> None:
        """Stop storing: the memory stays readable, and every further write is refused."""
        state = self._state
        with state.lock:
            state.failure = error
            state.changed.notify_all()
        logger.error("region %d cannot store any more: %s", state.id, error)

    def close(self) -> None:
        """Refuse everything from now on, and wake who waits."""
        state = self._state
        with state.lock:
            if state.closed:
                return
            state.closed = True
            frozen = state.frozen.bytes if state.frozen else 0
            self._budget.release(active=state.active.bytes, frozen=frozen)
            state.changed.notify_all()
        # A batch of a compaction that is under way is the last one.
        with state.structure_lock:
            pass

    def _remove_expired(self) -> None:
        try:
            self.expiry.run()
        except Corruption as error:  # what is new can be stored all the same
            logger.warning(
                "region %d: expired slots were not looked for: %s", self._state.id, error
            )

    def _remove_dropped(self) -> None:
        """Remove chunks of dropped series, for which a DROP record is stored.

        A drop is done when its ranges are deleted; its record goes in the same batch.
        """
        state = self._state
        if not state.pending_drops:
            return
        slots = state.known_slots()
        view = state.store.view()
        left = _CLEAN_SEEKS
        try:
            while state.pending_drops and left > 0:
                key, lo, hi = state.pending_drops[0]
                left -= max(1, len(slots))
                batch = Batch()
                for slot in slots:
                    chunks = series_range(state.id, Kind.CHUNK, slot, lo, hi)
                    if view.first_key(*chunks) is not None:
                        batch.delete_range(*chunks)
                        batch.delete_range(*series_range(state.id, Kind.DATA, slot, lo, hi))
                batch.delete(key)
                with state.structure_lock:
                    state.store.write(batch)
                state.pending_drops.pop(0)
        finally:
            view.release()
