"""What a region holds: its memory tables, and what is known of its records on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from iotdb_engine.errors import Closed, Corruption, EngineError
from iotdb_engine.flush import decode_commit, decode_intent
from iotdb_engine.key_format import (
    Kind,
    commit_key,
    intent_key,
    kind_prefix,
    prefix_end,
    record_sequence,
)
from iotdb_engine.memtable import Memtable
from iotdb_engine.options import EngineOptions
from iotdb_engine.series_index import Epochs
from iotdb_engine.slot_map import SlotMap
from iotdb_engine.store import Batch, Store, View
from iotdb_engine.tombstones import DroppedSeries, Tombstone, decode_drop, decode_tombstone
from iotdb_engine.ttl import TtlRules, decode_rule

_T = TypeVar("_T")


class RegionState:
    """The state of one region, shared by what applies, flushes, reads and compacts it.

    Attributes:
        id: the number that its keys begin with, which is another one than the caller's for a region
            that was taken over (`iotdb_engine.snapshot`).
        lock: guards every field below it. Lock order: this, then the budget's or the worker's.
        structure_lock: held while records are removed whose series may be dropped, or whose space
            may be given up, at the same time. Innermost: nothing but the store is called with it.
        changed: told when a table is frozen, or a flush ends in whatever way.
        active: what is being written to.
        frozen: what is being flushed, if anything is; readable until that is durable.
        expired: how often each slot was emptied of expired points; of the structure lock.
        committed: highest sequence whose flush is durable.
        next_sequence: given out once, in the whole life of the region.
        aborted: sequences that were begun and never committed.
        applied_index: of the caller's last entry.
        durable_index: of the last entry whose effect is stored.
        failure: why nothing more can be stored.
        closed: everything is refused.
    """

    def __init__(self, region_id: int, store: Store, options: EngineOptions) -> None:
        """Read from the store what there is of the region.

        Raises:
            Corruption: a record that is needed is damaged.
        """
        self.id = region_id
        self.store = store
        self.options = options
        self.structure_lock = threading.Lock()
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.active = Memtable()
        self.frozen: Memtable | None = None
        self.tombstones: tuple[Tombstone, ...] = ()
        self.dropped = DroppedSeries()
        self.pending_drops: list[tuple[bytes, int, int]] = []
        self.ttl = TtlRules()
        self.epochs = Epochs()
        self.slots: SlotMap | None = None
        self.expired: dict[int, int] = {}
        self.committed = 0
        self.next_sequence = 1
        self.aborted: frozenset[int] = frozenset()
        self.applied_index = 0
        self.durable_index = 0
        self.failure: Exception | None = None
        self.closed = False
        view = store.view()
        try:
            self._load(view)
        finally:
            view.release()

    def _load(self, view: View) -> None:
        data = view.get(commit_key(self.id))
        if data is not None:
            self.committed, self.durable_index = self.parse(
                commit_key(self.id), decode_commit, data
            )
        data = view.get(intent_key(self.id))
        begun = self.committed
        if data is not None:
            begun, self.aborted = self.parse(intent_key(self.id), decode_intent, data)
            if begun > self.committed:
                self.aborted |= {begun}
        self.next_sequence = max(begun, self.committed) + 1
        for key, value in self._records(view, Kind.TOMBSTONE):
            parse = partial(decode_tombstone, record_sequence(key))
            self.add_tombstones([self.parse(key, parse, value)])
        for key, value in self._records(view, Kind.DROP):
            lo, hi = self.parse(key, decode_drop, value)
            self.pending_drops.append((key, lo, hi))
        self.dropped = DroppedSeries((lo, hi) for _, lo, hi in self.pending_drops)
        for key, value in self._records(view, Kind.TTL):
            hi, ttl = self.parse(key, decode_rule, value)
            self.ttl = self.ttl.with_rule(record_sequence(key), hi, ttl)
        self.applied_index = self.durable_index

    def _records(self, view: View, kind: Kind) -> Iterator[tuple[bytes, bytes]]:
        prefix = kind_prefix(self.id, kind)
        return view.scan(prefix, prefix_end(prefix))

    def parse(self, key: bytes, parse: Callable[[bytes], _T], data: bytes) -> _T:
        """Return what a record says.

        Raises:
            Corruption: naming it.
        """
        try:
            return parse(data)
        except ValueError as error:
            raise Corruption(self.store.path, key, "a sound record", error) from error

    def add_tombstones(self, new: Sequence[Tombstone]) -> None:
        """Heed deletes that are stored now; needs the lock."""
        kept = self.tombstones
        for tombstone in new:
            kept = (*(old for old in kept if not tombstone.covers(old)), tombstone)
        self.tombstones = kept

    def check_open(self) -> None:
        """Raise Closed if the region is."""
        if self.closed:
            raise Closed(f"region {self.id} is closed")

    def check_writable(self) -> None:
        """Raise Closed, or EngineError if nothing more can be stored."""
        self.check_open()
        if self.failure is not None:
            raise EngineError(f"region {self.id} cannot store: {self.failure}") from self.failure

    def is_dirty(self) -> bool:
        """Tell whether there is something that no flush has taken; needs the lock."""
        stored = self.durable_index if self.frozen is None else self.frozen.index
        return not self.active.is_empty() or self.applied_index > stored

    def slot_map(self) -> SlotMap:
        """Return where chunks are: from the store once, then kept."""
        slots = self.slots
        if slots is not None:  # mostly
            return slots
        with self.lock:
            if self.slots is None:
                view = self.store.view()
                try:
                    self.slots = SlotMap.load(self.id, view)
                finally:
                    view.release()
            return self.slots

    def known_slots(self) -> Sequence[int]:
        """Return the slots that have chunks, or had, ascending."""
        return self.slot_map().every

    # For the compaction

    @contextmanager
    def changing(self, series_ids: Sequence[int]) -> Iterator[None]:
        """Keep reads from caching where chunks of some series are, while a merge changes that."""
        with self.lock:
            self.epochs.bump(series_ids, 1)
        try:
            yield
        finally:
            with self.lock:
                self.epochs.bump(series_ids, 1)

    def stored_tombstones(self, view: View) -> Iterator[tuple[bytes, Tombstone]]:
        """Yield key and content of each TOMBSTONE record."""
        for key, value in self._records(view, Kind.TOMBSTONE):
            yield key, self.parse(key, partial(decode_tombstone, record_sequence(key)), value)

    def retire_tombstones(self, idle: Sequence[tuple[bytes, Tombstone]]) -> None:
        """Remove tombstones that hide nothing."""
        if not idle:
            return
        batch = Batch()
        for key, _ in idle:
            batch.delete(key)
        with self.structure_lock:
            if self.closed:
                return
            self.store.write(batch)
        with self.lock:
            self.tombstones = tuple(
                kept
                for kept in self.tombstones
                if not any(kept.equals(tombstone) for _, tombstone in idle)
            )
