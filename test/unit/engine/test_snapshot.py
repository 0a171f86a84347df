"""A region travels from one engine to another: whole, resumable, and switched in at once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.fragments import make_fragment, make_layout
from iotdb_engine import DataType, Engine, EngineOptions, Region
from iotdb_engine.picture import RegionPicture, points_digest
from iotdb_engine.snapshot import RegionExport, RegionImport
from iotdb_engine.store import Batch, MemoryStore

SMALL = EngineOptions(page_points=10, chunk_points=50, read_batch_rows=7, batch_bytes=2000)
MIXED = make_layout({1: DataType.INT64, 2: DataType.TEXT, 3: DataType.DOUBLE, 4: DataType.BOOLEAN})


NO_BOOLEAN = make_layout({1: DataType.INT64, 2: DataType.TEXT, 3: DataType.DOUBLE})


def fill(region: Region, lo: int, hi: int, index: int, slot: int = 0) -> None:
    """Write rows; series 4 only at first, since it is dropped later and its id never used again."""
    layout = MIXED if index <= 3 else NO_BOOLEAN
    rows = [
        (n, [n, b"text %d" % (n % 7), n / 3, n % 2 == 0][: len(layout.types)])
        for n in range(lo, hi)
    ]
    random.Random(lo).shuffle(rows)
    region.write([make_fragment(layout, rows, slot)], index)


def make_state(region: Region) -> None:
    fill(region, 0, 300, 1)
    region.put({b"a": b"1", b"b": b"2", b"gone": b"x"}, 2)
    region.flush()
    fill(region, 200, 400, 3, slot=5)
    region.delete([1, 3], 50, 60, 4)
    region.drop_series([(4, 5)], 5)
    region.put({b"gone": None, b"b": b"3"}, 6)


def content(region: Region) -> dict[Any, Any]:
    picture = RegionPicture(region)
    try:
        found: dict[Any, Any] = dict(picture.key_values())
        for series_id, kind in picture.series():
            count, digest = points_digest(kind, picture.read(series_id, kind))
            if count:
                found[series_id] = (count, digest)
        return {"index": picture.index, **found}
    finally:
        picture.close()


def ship(export: RegionExport, transfer: RegionImport, piece_bytes: int = 3000) -> int:
    pieces = 0
    while records := export.piece(transfer.progress.last_key, piece_bytes):
        transfer.write(records)
        pieces += 1
    return pieces


def test_a_picture_does_not_depend_on_flushes() -> None:
    with Engine(":memory:", SMALL) as one, Engine(":memory:") as other:
        make_state(one.region(1))
        twin = other.region(1)
        make_state(twin)
        before = content(one.region(1))
        assert before == content(twin)
        assert set(before) == {"index", b"a", b"b", 1, 2, 3}
        one.region(1).flush()
        assert content(one.region(1)) == before
        fill(twin, 0, 1, 7)  # the same row again
        assert {**content(twin), "index": 6} == before
        twin.write([make_fragment(make_layout({1: DataType.INT64}), [(5, [6])])], 8)
        assert content(twin)[1] != before[1]


def test_a_picture_stays_while_the_region_goes_on() -> None:
    with Engine(":memory:", SMALL) as engine:
        region = engine.region(1)
        make_state(region)
        picture = RegionPicture(region)
        before = {s: points_digest(k, picture.read(s, k)) for s, k in picture.series()}
        region.delete([1, 2, 3], 0, 1000, 7)
        fill(region, 1000, 1100, 8)
        region.put({b"new": b"1"}, 9)
        region.flush()
        after = {s: points_digest(k, picture.read(s, k)) for s, k in picture.series()}
        assert before == after
        assert [key for key, _ in picture.key_values()] == [b"a", b"b"]
        picture.close()


@pytest.mark.parametrize("piece_bytes", [1, 700, 1 << 20])
def test_a_region_arrives_whole(piece_bytes: int) -> None:
    with Engine(":memory:", SMALL) as source, Engine(":memory:", SMALL) as target:
        make_state(source.region(7))
        expected = content(source.region(7))
        old = target.region(7)
        fill(old, 0, 10, 1)
        old.put({b"stale": b"1"}, 2)
        old.flush()
        export = source.export(7)
        assert export.index == 6
        fill(source.region(7), 5000, 5100, 7)  # later than the state that travels
        source.region(7).flush()
        transfer = target.begin_import(7, "state 6")
        ship(export, transfer, piece_bytes)
        assert content(old)[b"stale"] == b"1"  # nothing is seen before the switch
        region = target.finish_import(
            transfer, index=export.index, sequence=export.sequence, origin=b"6/1"
        )
        export.close()
        assert content(region) == expected
        assert (region.applied_index, region.durable_index, region.origin) == (6, 6, b"6/1")
        assert target.regions() == [7]
        assert target.region(7) is region
        fill(region, 5000, 5100, 7)
        assert content(region) == content(source.region(7))


def test_a_region_that_was_taken_over_lives_on_and_can_travel_again() -> None:
    store = MemoryStore()
    with Engine(":memory:", SMALL) as source:
        make_state(source.region(1))
        target = Engine("", SMALL, store=store)
        for round_number in range(3):
            export = source.export(1)
            transfer = target.begin_import(1, f"round {round_number}")
            ship(export, transfer)
            target.finish_import(transfer, index=export.index, sequence=export.sequence, origin=b"")
            export.close()
            assert content(target.region(1)) == content(source.region(1))
            fill(source.region(1), round_number, round_number + 9, 10 + round_number)
        fill(target.region(1), 0, 9, 50)
        expected = content(target.region(1))
        target.close()
        again = Engine("", SMALL, store=store.reopen())
        assert content(again.region(1)) == expected
        assert again.regions() == [1]
        again.drop_region(1)
        assert again.regions() == []
        assert content(again.region(1)) == {"index": 0}
        again.close()


def test_records_out_of_order_are_refused() -> None:
    with Engine(":memory:", SMALL) as source, Engine(":memory:", SMALL) as target:
        make_state(source.region(1))
        export = source.export(1)
        records = export.piece(b"", 1 << 20)
        export.close()
        transfer = target.begin_import(1, "x")
        transfer.write(records[:3])
        for wrong in (records[:1], records[2:4], [(b"", b"")], [(bytes([2]) + b"x", b"commit")]):
            with pytest.raises(ValueError, match="can't follow"):
                transfer.write(wrong)
        transfer.write(records[3:])
        assert transfer.progress.records == len(records)


class CountingStore(MemoryStore):
    """Remembers after which batch it was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self.batches.append(batch)


def test_a_crash_between_any_two_steps_leaves_the_old_or_the_new_state() -> None:
    """The store keeps any prefix of the batches that were not flushed yet."""
    with Engine(":memory:", SMALL) as source:
        make_state(source.region(1))
        export = source.export(1)
        new = content(source.region(1))

        def target_store() -> MemoryStore:
            store = MemoryStore()
            engine = Engine("", SMALL, store=store)
            engine.region(1).put({b"old": b"1"}, 1)
            engine.region(2).put({b"other": b"1"}, 1)
            engine.close()
            return store.reopen()

        reference = CountingStore()
        base = target_store()
        reference._data, reference._keys = dict(base._data), list(base._keys)
        reference._synced = dict(base._synced)
        engine = Engine("", SMALL, store=reference)
        old = content(engine.region(1))
        transfer = engine.begin_import(1, "s")
        ship(export, transfer)
        engine.finish_import(transfer, index=export.index, sequence=export.sequence, origin=b"o")
        total = len(reference.batches)
        engine.close()
        assert total > 6
        seen = set()
        for kept in range(total + 1):
            survivor = MemoryStore()
            for batch in [*_as_batch(base), *reference.batches[:kept]]:
                survivor.write(batch)
            survivor.flush()
            engine = Engine("", SMALL, store=survivor)
            found = content(engine.region(1))
            assert found in (old, new)
            seen.add(found == new)
            assert content(engine.region(2)) == {"index": 1, b"other": b"1"}
            # and the transfer goes on from what survived, or is done
            if found == old:
                again = engine.begin_import(1, "s")
                before = again.progress.records
                ship(export, again)
                assert again.progress.records >= before
                assert again.progress == transfer.progress
                engine.finish_import(
                    again, index=export.index, sequence=export.sequence, origin=b"o"
                )
                assert content(engine.region(1)) == new
            engine.close()
        assert seen == {True, False}
        export.close()


def _as_batch(store: MemoryStore) -> list[Batch]:
    batch = Batch()
    for key, value in store._data.items():
        batch.put(key, value)
    return [batch]


def test_another_source_starts_anew_and_nothing_is_left_of_the_first() -> None:
    store = MemoryStore()
    with Engine(":memory:", SMALL) as source:
        make_state(source.region(1))
        target = Engine("", SMALL, store=store)
        export = source.export(1)
        first = target.begin_import(1, "first")
        first.write(export.piece(b"", 500))
        second = target.begin_import(1, "second")
        assert second.progress.records == 0
        ship(export, second)
        target.finish_import(second, index=export.index, sequence=export.sequence, origin=b"")
        export.close()
        target.close()
        spaces = {key[:2] for key in store._keys}
        assert len(spaces) == 2  # the region, and the directory


def test_late_puts_are_stored_with_the_flush(tmp_path: Any) -> None:
    with Engine(tmp_path / "data", SMALL) as engine:
        region = engine.region(1)
        asked = []

        def late() -> dict[bytes, bytes]:
            asked.append(region.applied_index)
            return {b"late": b"%d" % region.applied_index}

        region.on_freeze(late)
        fill(region, 0, 5, 1)
        fill(region, 5, 9, 2)
        region.flush()
        assert asked == [2]
        assert region.get(b"late") == b"2"
    with Engine(tmp_path / "data", SMALL) as engine:
        assert engine.region(1).get(b"late") == b"2"
