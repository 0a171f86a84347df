"""Which slots have chunks of which series: so that a read does not look where nothing is.

Problem: a region may have thousands of slots, one for each time partition of each storage group,
and a look into one takes 6 us. Idea: ids of series that belong together share their upper half; of
each such family it is found out once, in the store, which slots have any of it.

A map is of one moment, as the view of the store that is looked into: each flush makes a new one. It
may name slots that have nothing any more, never too few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iotdb_engine.key_format import (
    Kind,
    kind_prefix,
    prefix_end,
    series_range,
    slot_start,
    split_chunk_key,
)
from iotdb_engine.store import View

_FAMILY_BITS = 32
_LAST_SLOT = 0xFFFF


class SlotMap:
    """The slots of one region at one moment; thread-safe.

    Args:
        region: id, for keys.
        every: the slots that have chunks, or had, ascending.
        families: those of some families, likewise.
    """

    def __init__(
        self, region: int, every: Sequence[int], families: dict[int, tuple[int, ...]]
    ) -> None:
        self._region = region
        self.every = every
        self._families = families

    @classmethod
    def load(cls, region: int, view: View) -> SlotMap:
        """Return the map of what is stored: one seek for each slot."""
        found = []
        prefix = kind_prefix(region, Kind.CHUNK)
        lo, end = prefix, prefix_end(prefix)
        while (key := view.first_key(lo, end)) is not None:
            slot = split_chunk_key(key).slot
            found.append(slot)
            if slot == _LAST_SLOT:
                break
            lo = slot_start(region, Kind.CHUNK, slot + 1)
        return cls(region, found, {})

    def with_chunks(self, written: Iterable[tuple[int, Iterable[int]]]) -> SlotMap:
        """Return the map after a flush.

        Args:
            written: slots, and series that got chunks there.
        """
        every = set(self.every)
        families = {family: set(slots) for family, slots in self._families.copy().items()}
        for slot, members in written:
            every.add(slot)
            for family in {member >> _FAMILY_BITS for member in members}:
                if family in families:
                    families[family].add(slot)
        return SlotMap(
            self._region,
            sorted(every),
            {family: tuple(sorted(slots)) for family, slots in families.items()},
        )

    def of(self, series_id: int, view: View) -> Sequence[int]:
        """Return the slots that may have chunks of a series.

        Args:
            series_id: of the series.
            view: of the store when the map was the region's.
        """
        family = series_id >> _FAMILY_BITS
        found = self._families.get(family)
        if found is None:
            lo, hi = family << _FAMILY_BITS, family + 1 << _FAMILY_BITS
            found = tuple(
                slot
                for slot in self.every
                if view.first_key(*series_range(self._region, Kind.CHUNK, slot, lo, hi)) is not None
            )
            self._families[family] = found
        return found
