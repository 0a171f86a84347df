"""One read of a region: a state that does not change, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from iotdb_engine.memtable import MemDelete
from iotdb_engine.reader import ACTIVE_SEQUENCE, Reader, Series, Snapshot
from iotdb_engine.tombstones import Cut, DroppedSeries, Tombstone, cuts_for
from iotdb_engine.ttl import TtlRules
from iotdb_engine.types import T_MAX, T_MIN, Aggregate, ColumnBatch, DataType

SeriesList = Sequence[tuple[int, DataType]]


class RegionRead:
    """A region's state at one moment; made by `Region.open_read`. One thread; close it.

    While it is open, RocksDB keeps the files that it reads.

    Attributes:
        snapshot: what is in memory and on disk.
        slots: where it looks on disk.
    """

    def __init__(
        self, snapshot: Snapshot, cuts: Cuts, slots: Sequence[int], ttl: TtlRules, now: int
    ) -> None:
        self.snapshot = snapshot
        self.slots = slots
        self._cuts = cuts
        self._ttl = ttl
        self._now = now

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
        where = self.slots if slots is None else slots
        floor = max(t_min, self.floor_of(series_id))
        return reader.load(series_id, kind, where, floor, t_max, self.cuts_of(series_id))

    def scan(
        self,
        series: SeriesList,
        t_min: int,
        t_max: int,
        descending: bool,
        max_rows: int | None,
    ) -> Iterator[ColumnBatch]:
        """Yield aligned rows, and close the read afterwards."""
        with self:
            reader = Reader(self.snapshot)
            loaded = [self.load(reader, one, kind, t_min, t_max) for one, kind in series]
            yield from reader.scan(loaded, t_min, t_max, descending=descending, max_rows=max_rows)

    def aggregate(self, series: tuple[int, DataType], t_min: int, t_max: int) -> Aggregate:
        """Aggregate one series over an inclusive range."""
        reader = Reader(self.snapshot)
        return reader.aggregate(self.load(reader, *series, t_min, t_max), t_min, t_max)

    def last(self, series: tuple[int, DataType]) -> tuple[int, Any] | None:
        """Return the latest time and value of one series, or None where there is none."""
        reader = Reader(self.snapshot)
        loaded = self.load(reader, *series, T_MIN, T_MAX)
        for batch in reader.scan([loaded], T_MIN, T_MAX, descending=True, max_rows=1):
            value = batch.columns[0].values[0]
            return int(batch.times[0]), value if loaded.kind is DataType.TEXT else value.item()
        return None

    def close(self) -> None:
        """Let go of the state; may be repeated."""
        self.snapshot.view.release()

    def __enter__(self) -> RegionRead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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

    def of(self, series_id: int) -> list[Cut]:
        """Return the cuts of one series."""
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
