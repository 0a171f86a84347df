"""Faults put into the engine on purpose: each must be noticed by the model.

Run all of them with `TEST_MUTANTS=all pytest test/engine_model/test_model.py -k notices`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from iotdb_engine import compaction_merge, flush, memtable_view, reader, region_flush, region_state
from iotdb_engine.engine import Engine
from iotdb_engine.flush import BatchWriter, ChunkWriter
from iotdb_engine.open_read import Cuts, OpenRead
from iotdb_engine.series_index import Epochs
from iotdb_engine.store import Batch, MemoryStore
from iotdb_engine.tombstones import make_tombstone

Mutant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Mutant] = {}


def mutant(name: str) -> Callable[[Mutant], Mutant]:
    def add(put: Mutant) -> Mutant:
        MUTANTS[name] = put
        return put

    return add


@mutant("a dropped fsync")
def _dropped_fsync(patch: pytest.MonkeyPatch) -> None:
    original = Engine._flush_regions

    def without_sync(self: Engine, regions: Any) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self._store, "flush", lambda: None)
            yield from original(self, regions)

    patch.setattr(Engine, "_flush_regions", without_sync)


@mutant("a swapped sequence")
def _swapped_sequence(patch: pytest.MonkeyPatch) -> None:
    """Chunks of odd flushes rank below those of the even one before."""
    original = ChunkWriter.__init__

    def swapped(self: Any, *args: Any, order: int, **more: Any) -> None:
        original(self, *args, order=order - 2 if order % 2 else order, **more)

    patch.setattr(ChunkWriter, "__init__", swapped)


@mutant("the index is stored before the data")
def _index_first(patch: pytest.MonkeyPatch) -> None:
    original = flush.write_table

    def index_first(store: Any, region_id: int, table: Any, **more: Any) -> Any:
        batch = Batch()
        batch.put(flush.commit_key(region_id), flush.encode_commit(table.sequence, table.index))
        store.write(batch)
        return (yield from original(store, region_id, table, **more))

    patch.setattr(region_flush, "write_table", index_first)


@mutant("the sequence of a flush that was cut off is used again")
def _ghosts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(region_state, "decode_intent", lambda data: (0, frozenset()))


@mutant("a merge ranks above what came later")
def _high_merge(patch: pytest.MonkeyPatch) -> None:
    original = compaction_merge.ChunkWriter

    def higher(*args: Any, order: int, **more: Any) -> Any:
        return original(*args, order=order + 2, **more)

    patch.setattr(compaction_merge, "ChunkWriter", higher)


@mutant("a merge removes its inputs first")
def _inputs_first(patch: pytest.MonkeyPatch) -> None:
    original = compaction_merge.Merge.write_outputs

    def removed_first(self: Any, writer: BatchWriter, *args: Any) -> None:
        self.delete_inputs(writer)
        writer.finish()
        original(self, writer, *args)

    patch.setattr(compaction_merge.Merge, "write_outputs", removed_first)


@mutant("a delete hides what is written after it")
def _late_tombstone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        flush, "make_tombstone", lambda sequence, *rest: make_tombstone(sequence + 1, *rest)
    )


@mutant("a delete is forgotten when it is stored")
def _lost_tombstone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flush, "make_tombstone", lambda sequence, *rest: make_tombstone(0, *rest))


@mutant("deletes in memory do not heed their place")
def _unordered_deletes(patch: pytest.MonkeyPatch) -> None:
    original = memtable_view.DeleteMasks.apply

    def late(self: Any, part: Any, deletes: Any, valid: Any) -> Any:
        return original(self, part, [one._replace(ordinal=1 << 60) for one in deletes], valid)

    patch.setattr(memtable_view.DeleteMasks, "apply", late)


@mutant("reads see page tables of before a flush")
def _stale_index(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Epochs, "bump", lambda self, ids, by: None)


@mutant("a read is not kept from what comes later")
def _moving_view(patch: pytest.MonkeyPatch) -> None:
    original = MemoryStore.write

    def in_place(self: MemoryStore, batch: Batch) -> None:
        self._shared = False
        original(self, batch)

    patch.setattr(MemoryStore, "write", in_place)


@mutant("statistics hold for pages that are overwritten")
def _dirty_statistics(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        reader.Reader,
        "clean_pages",
        staticmethod(lambda series, low, high: np.ones(len(series.top), np.bool_)),
    )


@mutant("points do not expire")
def _no_expiry(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OpenRead, "floor_of", lambda self, series_id: -(1 << 63))


@mutant("deletes of the table that is being stored are passed over")
def _frozen_deletes(patch: pytest.MonkeyPatch) -> None:
    original = Cuts.__init__

    def without(self: Any, dropped: Any, stored: Any, frozen: Any, *more: Any) -> None:
        original(self, dropped, stored, (), *more)

    patch.setattr(Cuts, "__init__", without)


@mutant("a page in memory is taken to end too early")
def _short_pages(patch: pytest.MonkeyPatch) -> None:
    original = memtable_view.pages_of

    def short(*args: Any) -> Any:
        pages = original(*args)
        return pages._replace(highs=np.maximum(pages.lows, pages.highs - 1))

    patch.setattr(memtable_view, "pages_of", short)


@mutant("a block of rows without order loses its last row")
def _short_blocks(patch: pytest.MonkeyPatch) -> None:
    original = memtable_view.Part.__init__

    def short(self: Any, source: Any, t_min: int, t_max: int, **more: Any) -> None:
        original(self, source, t_min, t_max - more["is_block"], **more)

    patch.setattr(memtable_view.Part, "__init__", short)
