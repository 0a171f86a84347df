"""Which chunks a series has in a snapshot: page tables, from the shared cache where they are in it.

Finding them takes a seek and some parsing for each slot; most reads ask for series that were asked
for before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iotdb_engine.errors import Corruption
from iotdb_engine.key_format import Kind, is_visible, series_range, split_chunk_key
from iotdb_engine.page import Chunk, unpack_chunk
from iotdb_engine.series_index import Chunks, SeriesIndex
from iotdb_engine.sources import Snapshot
from iotdb_engine.types import DataType

SlotsOf = Callable[[int], Sequence[int]]
"""Returns where chunks of a series may be."""


class IndexSource:
    """Of one read."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def one(self, series_id: int, slots_of: SlotsOf) -> SeriesIndex:
        """Return the page tables of a series, from the cache if they are there."""
        snapshot = self._snapshot
        epoch = None if snapshot.epochs is None else snapshot.epochs.of(series_id)
        if epoch is None:
            return SeriesIndex.of(self._chunks(series_id, slots_of(series_id)))
        key = (snapshot.cache_id, series_id, epoch, snapshot.slots_key)
        found: SeriesIndex | None = snapshot.cache.get(key)
        if found is None:
            found = SeriesIndex.of(self._chunks(series_id, slots_of(series_id)))
            snapshot.cache.put(key, found, found.nbytes)
        return found

    def several(self, series_ids: Sequence[int], slots_of: SlotsOf) -> list[SeriesIndex]:
        """Return the page tables of several series."""
        snapshot = self._snapshot
        if snapshot.epochs is None:
            return [self.one(series_id, slots_of) for series_id in series_ids]
        cache_id, slots_key = snapshot.cache_id, snapshot.slots_key
        epoch_of = snapshot.epochs.of
        found = snapshot.cache.get_many(
            [(cache_id, series_id, epoch_of(series_id), slots_key) for series_id in series_ids]
        )
        return [
            self.one(series_id, slots_of) if one is None else one
            for series_id, one in zip(series_ids, found, strict=True)
        ]

    def _chunks(self, series_id: int, slots: Sequence[int]) -> Chunks:
        snapshot = self._snapshot
        found = []
        for slot in slots:
            lo, hi = series_range(snapshot.region, Kind.CHUNK, slot, series_id, series_id + 1)
            for key, record in snapshot.view.scan(lo, hi):
                sequence = split_chunk_key(key).sequence
                if is_visible(sequence, snapshot.committed, snapshot.aborted):
                    chunk = parse_chunk(snapshot, key, record)
                    found.append((key, chunk.order, chunk))
        return found

    def stored_kind(self, slot: int, series_id: int) -> DataType | None:
        """Return the type that a series has on disk, or None if it has nothing in the slot."""
        view = self._snapshot.view
        lo, hi = series_range(self._snapshot.region, Kind.CHUNK, slot, series_id, series_id + 1)
        for key, record in view.scan(lo, hi):
            return parse_chunk(self._snapshot, key, record).kind
        return None


def parse_chunk(snapshot: Snapshot, key: bytes, record: bytes) -> Chunk:
    """Parse a CHUNK record.

    Raises:
        Corruption: naming it.
    """
    try:
        return unpack_chunk(record)
    except ValueError as error:
        raise Corruption(snapshot.path, key, "a chunk record", error) from error
