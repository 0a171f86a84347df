"""Slots whose every point is expired are removed as ranges, whatever is in them.

Problem: a slot of an old time partition may have a million chunks, and going through them one by
one to remove each costs as much as merging them. Idea: RocksDB removes a range of keys in one step.
What is needed is to know that no chunk of a rule's series in the slot reaches the time from which
points live: the first chunk that does ends the search, and says until when it need not be repeated.

Only the region's flushes call this, so that no chunk is written meanwhile but by a merge; a merge
in the same slot notices, and gives up (`compaction_merge.GuardedWriter`). Points that are expired
are not there for any read, so nothing changes but the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iotdb_engine.key_format import Kind, series_range
from iotdb_engine.page import unpack_chunk
from iotdb_engine.region_state import RegionState
from iotdb_engine.store import Batch, View
from iotdb_engine.types import T_MAX

_ALL = 1 << 64


class SlotExpiry:
    """Removes the expired slots of one region.

    Attributes:
        removed: slots so far, counted for each rule.
    """

    def __init__(self, state: RegionState) -> None:
        """Know nothing of any slot."""
        self._state = state
        # (slot, lowest series of a rule) → a time that some chunk there reaches; T_MAX: no chunk
        self._reached: dict[tuple[int, int], int] = {}
        self.removed = 0

    def written(self, slots: Iterable[int]) -> None:
        """Note that chunks are about to come."""
        for key in [key for key in self._reached if self._reached[key] == T_MAX]:
            if key[0] in slots:
                del self._reached[key]

    def run(self) -> None:
        """Remove what is expired now.

        Raises:
            Corruption: a chunk's record is damaged.
        """
        state = self._state
        with state.lock:
            rules = state.ttl
        if not rules:
            return
        now = state.options.now()
        slots = state.known_slots()
        view: View | None = None
        try:
            for lo, hi, floor in rules.ranges(now):
                for slot in slots:
                    if self._reached.get((slot, lo), floor - 1) >= floor:
                        continue
                    view = view or state.store.view()
                    reached = self._reach(view, slot, lo, hi, floor)
                    if reached is None:
                        self._remove(view, slot, lo, hi)
                        reached = T_MAX
                    self._reached[(slot, lo)] = reached
        finally:
            if view is not None:
                view.release()

    def _reach(self, view: View, slot: int, lo: int, hi: int, floor: int) -> int | None:
        """Return a time at `floor` or later that a chunk reaches; T_MAX: there is no chunk.

        None: there are chunks, and all of them are expired.
        """
        found = False
        for key, record in view.scan(*series_range(self._state.id, Kind.CHUNK, slot, lo, hi)):
            last = self._state.parse(key, unpack_chunk, record).last
            if last >= floor:
                return last
            found = True
        return None if found else T_MAX

    def _remove(self, view: View, slot: int, lo: int, hi: int) -> None:
        state = self._state
        kinds: Sequence[Kind] = (Kind.CHUNK, Kind.DATA)
        others = ((0, lo), (hi, _ALL))
        if not any(
            low < high
            and view.first_key(*series_range(state.id, Kind.CHUNK, slot, low, high)) is not None
            for low, high in others
        ):
            # Times may be shared with series outside the range. Where there are some, compaction
            # removes the times that nobody names.
            kinds = (*kinds, Kind.TIMES)
        batch = Batch()
        for kind in kinds:
            batch.delete_range(*series_range(state.id, kind, slot, lo, hi))
        with state.structure_lock:
            if state.closed:
                return
            state.expired[slot] = state.expired.get(slot, 0) + 1
            state.store.write(batch)
        with state.lock:
            state.epochs.bump_all()
        self.removed += 1
