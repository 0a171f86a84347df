"""What a read looks at: a region at one moment, and the sources of each series in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.cache import ByteCache
from iotdb_engine.memtable_read import MemSeries, MemSnapshot
from iotdb_engine.series_index import Chunks, EpochView, LayoutKey
from iotdb_engine.store import View
from iotdb_engine.tombstones import Cut
from iotdb_engine.types import T_MIN, DataType

ACTIVE_SEQUENCE = 1 << 64
"""Priority of the active memory table: above every chunk."""


class Snapshot(NamedTuple):
    """What a read looks at; nothing in it changes.

    Attributes:
        region: id, for keys.
        cache_id: names the region in cache keys; never reused in a process.
        view: of the store.
        path: of the store, for messages.
        committed: highest committed sequence.
        aborted: sequences that were never committed.
        tables: (sequence, table) of the frozen and the active memory table.
        epochs: of the series' chunks, for the cache; None: nothing of this state is to be kept.
        slots_key: names the slots that the read looks at.
        page_points: most rows of a page.
        batch_rows: most rows of a batch.
    """

    region: int
    cache_id: int
    view: View
    path: str
    committed: int
    aborted: frozenset[int]
    tables: tuple[tuple[int, MemSnapshot], ...]
    cache: ByteCache
    epochs: EpochView | None
    slots_key: tuple[int, ...] | None
    page_points: int
    batch_rows: int


@dataclass
class Series:
    """The sources of one series, ready to be asked for windows.

    Attributes:
        chunks: all that are there, whatever the range.
        pages: page tables, by ascending `low`; see `SeriesIndex`.
        chunk_of: parallel to `pages`: number of the chunk.
        number_of: parallel to `pages`: number of the page within its chunk.
        top: parallel to `pages`: highest `high` so far, so that a search can skip what is over.
        memory: (sequence, rows) of memory tables.
        cuts: tombstones.
        floor: rows before this time are not there, whatever is asked for.
        disjoint: whether no two pages overlap.
        layout: see `SeriesIndex.layout_key`.
    """

    kind: DataType
    chunks: Chunks = ()
    pages: npt.NDArray[Any] = field(default_factory=lambda: np.empty(0))
    chunk_of: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    number_of: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    top: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    memory: list[tuple[int, MemSeries]] = field(default_factory=list)
    cuts: Sequence[Cut] = ()
    floor: int = T_MIN
    disjoint: bool = True
    layout: LayoutKey | None = None

    def touching(self, t_min: int, t_max: int) -> npt.NDArray[np.int64]:
        """Return the numbers of the pages that touch an inclusive range."""
        if not len(self.top):
            return _NO_PAGE
        if len(self.top) == 1:  # mostly, where little is read
            page = self.pages[0]
            return _FIRST_PAGE if page["low"] <= t_max and page["high"] >= t_min else _NO_PAGE
        first = int(self.top.searchsorted(t_min))
        last = int(self.pages["low"].searchsorted(t_max, side="right"))
        near = np.arange(first, max(first, last))
        return near if self.disjoint else near[self.pages["high"][near] >= t_min]


_NO_PAGE = np.empty(0, np.int64)
_FIRST_PAGE = np.zeros(1, np.int64)


def no_check() -> None:
    """Go on."""
