"""The memory table: what was applied and is not on disk yet.

Writing appends fragments as they came, to the rows of their (slot, layout): no decoding, no
sorting. Reading and flushing decode with NumPy, lazily. Within the table, order of arrival is a
number per fragment or delete (an ordinal), so any interleaving of layouts and deletes resolves
exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from iotdb_engine.types import Fragment, Layout

if TYPE_CHECKING:
    from iotdb_engine.memtable_pages import Pages

_FRAGMENT_OVERHEAD = 260
"""Bytes of Python objects a fragment: a tuple, three `bytes` headings, places in lists."""
_COLUMN_OVERHEAD = 200
_PUT_OVERHEAD = 250

_uids = itertools.count(1)


class Rows:
    """The fragments of one layout in one slot. The lists only grow: (rows, length) is a state."""

    __slots__ = ("columns", "fragments", "layout", "ordinals", "pages", "slot", "uid")

    def __init__(self, slot: int, layout: Layout) -> None:
        self.slot = slot
        self.layout = layout
        self.uid = next(_uids)
        self.fragments: list[Fragment] = []
        self.ordinals: list[int] = []
        self.columns = {series_id: at for at, series_id in enumerate(layout.series_ids)}
        # Of readers, about some first part of the fragments; see `memtable_pages`.
        self.pages: Pages | None = None

    def deletes_after(self, deletes: Sequence[MemDelete]) -> list[MemDelete]:
        """Return those deletes that came after the first of the rows."""
        first = self.ordinals[0]
        return [delete for delete in deletes if delete.ordinal > first]


class MemDelete(NamedTuple):
    """A delete in the memory table; hides rows of a lower ordinal. Bounds inclusive."""

    ordinal: int
    series_ids: frozenset[int]
    t_min: int
    t_max: int


class Memtable:
    """One generation of a region's memory. Guarded by the region's lock while it is written.

    Attributes:
        sequence: of the flush that stores it; set when frozen.
        index: applied index that the table is complete up to; set when frozen.
        bytes: estimate of the memory held.
    """

    def __init__(self) -> None:
        self.uid = next(_uids)
        self.sequence = 0
        self.index = 0
        self.bytes = 0
        self.entries: dict[tuple[int, Layout], Rows] = {}
        self.by_series: dict[int, list[Rows]] = {}
        self.deletes: list[MemDelete] = []
        self.drops: list[tuple[int, int]] = []
        self.ttls: dict[int, tuple[int, int | None]] = {}
        self.puts: dict[bytes, bytes | None] = {}
        self.put_count = 0
        self._ordinal = 0
        # Hashing a layout of a hundred columns costs more than all the rest of a write: the same
        # object is found by identity. `_pins` keeps the objects alive, so an id names one of them.
        self._by_identity: dict[int, Rows] = {}
        self._pins: list[Layout] = []

    def is_empty(self) -> bool:
        """Tell whether there is nothing to store."""
        return not (self.entries or self.deletes or self.drops or self.ttls or self.puts)

    def append(self, fragments: Sequence[Fragment]) -> int:
        """Add fragments; return the bytes they take. About 1 us each."""
        size = 0
        ordinal = self._ordinal
        known = self._by_identity
        for fragment in fragments:
            layout = fragment.layout
            rows = known.get(id(layout))
            if rows is None or rows.slot != fragment.slot:
                rows, new = self._find(fragment.slot, layout)
                size += new
            ordinal += 1
            rows.fragments.append(fragment)
            rows.ordinals.append(ordinal)
            size += len(fragment.times) + len(fragment.values) + len(fragment.nulls)
        self._ordinal = ordinal
        size += _FRAGMENT_OVERHEAD * len(fragments)
        self.bytes += size
        return size

    def _find(self, slot: int, layout: Layout) -> tuple[Rows, int]:
        key = (slot, layout)
        rows = self.entries.get(key)
        size = 0
        if rows is None:
            rows = self.entries[key] = Rows(slot, layout)
            for series_id in layout.series_ids:
                self.by_series.setdefault(series_id, []).append(rows)
            size = 1000 + _COLUMN_OVERHEAD * len(layout.series_ids)
        if len(self._pins) > 4 * len(self.entries) + 1024:
            # The caller does not share its layouts: do not collect them.
            self._by_identity.clear()
            self._pins.clear()
        self._by_identity[id(layout)] = rows
        self._pins.append(layout)
        return rows, size

    def delete(self, series_ids: Sequence[int], t_min: int, t_max: int) -> int:
        """Add a delete; return the bytes it takes."""
        self._ordinal += 1
        self.deletes.append(MemDelete(self._ordinal, frozenset(series_ids), t_min, t_max))
        size = 500 + 100 * len(series_ids)
        self.bytes += size
        return size

    def drop(self, ranges: Iterable[tuple[int, int]]) -> int:
        """Add dropped series; return the bytes they take."""
        before = len(self.drops)
        self.drops.extend(ranges)
        size = 200 * (len(self.drops) - before)
        self.bytes += size
        return size

    def set_ttl(self, lo: int, hi: int, ttl: int | None) -> int:
        """Add a rule of expiry; return the bytes it takes."""
        self.ttls[lo] = (hi, ttl)
        self.bytes += _PUT_OVERHEAD
        return _PUT_OVERHEAD

    def put(self, puts: Mapping[bytes, bytes | None]) -> int:
        """Add changes of the key-value state; return the bytes they take."""
        self.puts.update(puts)
        self.put_count += len(puts)
        size = sum(len(key) + len(value or b"") + _PUT_OVERHEAD for key, value in puts.items())
        self.bytes += size
        return size
