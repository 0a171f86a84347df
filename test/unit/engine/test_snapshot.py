"""A region travels from one engine to another: whole, resumable, and switched in at once."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.fragments import make_fragment, make_layout
from iotdb_engine import DataType, Engine, EngineOptions, Region
from iotdb_engine.errors import Closed
from iotdb_engine.picture import RegionPicture, points_digest
from iotdb_engine.snapshot import RegionExport, RegionImport
from iotdb_engine.staging import MemoryStaging, Staging
from iotdb_engine.store import Batch, MemoryStore, RocksStore
from iotdb_engine.verify import verify

SMALL = EngineOptions(
    page_points=10, chunk_points=50, read_batch_rows=7, batch_bytes=2000, transfer_file_bytes=2000
)
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


def take_over(source: Engine, target: Engine) -> Region:
    """Have a region of one engine take the place of the other's."""
    export = source.export(1)
    transfer = target.begin_import(1, "state")
    ship(export, transfer)
    try:
        return target.finish_import(
            transfer, index=export.index, sequence=export.sequence, origin=b"origin"
        )
    finally:
        export.close()


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


class PicturedStore(MemoryStore):
    """Keeps what a crash could leave, after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.survivors: list[MemoryStore] = []

    def picture(self) -> None:
        for keep in range(self.unsynced_count() + 1):
            self.survivors.append(self.crash(keep))
            self._open = True

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self.picture()

    def write_durably(self, batch: Batch) -> None:
        super().write_durably(batch)
        self.picture()

    def flush(self) -> None:
        super().flush()
        self.picture()

    def staging(self, name: str) -> Staging:
        staging = super().staging(name)
        assert isinstance(staging, MemoryStaging)
        complete, ingest = staging.complete, staging.ingest

        def complete_too(note: bytes) -> None:
            complete(note)
            self.picture()

        def ingest_too(lo: bytes, hi: bytes) -> None:
            ingest(lo, hi)
            self.picture()

        staging.complete, staging.ingest = complete_too, ingest_too  # type: ignore[method-assign]
        return staging


@pytest.mark.parametrize("is_held", [False, True])
def test_a_crash_between_any_two_steps_leaves_the_old_or_the_new_state(
    monkeypatch: pytest.MonkeyPatch, *, is_held: bool
) -> None:
    """The store keeps any prefix of the batches that were not flushed yet, and all whole files."""
    options = replace(SMALL, transfer_file_bytes=1 << 20) if is_held else SMALL
    monkeypatch.setattr("iotdb_engine.snapshot._HELD_BATCH_BYTES", 4000)
    with Engine(":memory:", SMALL) as source:
        make_state(source.region(1))
        export = source.export(1)
        new = content(source.region(1))
        store = PicturedStore()
        engine = Engine("", options, store=store)
        engine.region(1).put({b"old": b"1"}, 1)
        engine.region(2).put({b"other": b"1"}, 1)
        engine.region(1).flush()
        engine.region(2).flush()
        old = content(engine.region(1))
        store.survivors = []
        transfer = engine.begin_import(1, "s")
        ship(export, transfer)
        engine.finish_import(transfer, index=export.index, sequence=export.sequence, origin=b"o")
        survivors = store.survivors
        engine.close()
        assert len(survivors) > 6
        seen, resumed = set(), set()
        for survivor in survivors:
            engine = Engine("", options, store=survivor)
            found = content(engine.region(1))
            assert found in (old, new)
            seen.add(found == new)
            assert content(engine.region(2)) == {"index": 1, b"other": b"1"}
            # and the transfer goes on from what survived, or is done
            if found == old:
                again = engine.begin_import(1, "s")
                resumed.add(again.progress.records)
                ship(export, again)
                assert again.progress == transfer.progress
                engine.finish_import(
                    again, index=export.index, sequence=export.sequence, origin=b"o"
                )
                assert content(engine.region(1)) == new
            spaces = {key[:2] for key in survivor._keys}
            assert len(spaces) == 3  # two regions, and the directory
            assert survivor.stagings() == []
            engine.close()
        assert seen == {True, False}
        assert resumed == {0} if is_held else len(resumed) > 4
        export.close()


_KILLED = """
import os, runpy, sys
sys.path[:0] = sys.argv[4:]
from iotdb_engine import Engine
from iotdb_engine.store import RocksStore

here = runpy.run_path(sys.argv[3])
SMALL, ship = here["SMALL"], here["ship"]
with Engine(sys.argv[1], SMALL) as source:
    export = source.export(1)
    target = Engine(sys.argv[2], SMALL)
    target.region(1).put({b"old": b"1"}, 1)
    target.region(1).flush()
    target.region(2).put({b"lost": b"1"}, 1)
    target.region(2).flush(wait=False)
    RocksStore.flush = lambda self: None  # nothing but what the answer stands for
    transfer = target.begin_import(1, "s")
    ship(export, transfer)
    target.finish_import(transfer, index=export.index, sequence=export.sequence, origin=b"o")
    os._exit(7)
"""


def test_an_installed_state_survives_a_kill_before_any_flush(tmp_path: Path) -> None:
    with Engine(tmp_path / "source", SMALL) as source:
        make_state(source.region(1))
        source.region(1).flush()
        new = content(source.region(1))
    folders = [str(tmp_path / "source"), str(tmp_path / "target")]
    paths = [path for path in sys.path if path]
    ended = subprocess.run([sys.executable, "-c", _KILLED, *folders, __file__, *paths], check=False)
    assert ended.returncode == 7
    for _ in range(2):
        with Engine(tmp_path / "target", SMALL) as target:
            assert content(target.region(1)) == new
            assert target.region(1).origin == b"o"
            assert target.verify().intact
            target.region(1).put({b"more": b"1"}, target.region(1).applied_index + 1)
            target.region(1).flush()
            new = content(target.region(1))


def test_small_states_are_held_in_memory_up_to_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotdb_engine.snapshot._HELD_BYTES", 1000)
    monkeypatch.setattr("iotdb_engine.snapshot._HELD_OF_MORE_BYTES", 800)
    monkeypatch.setattr("iotdb_engine.snapshot._ALL_HELD_BYTES", 1500)
    store = MemoryStore()
    with Engine("", store=store) as target:
        first, second, third = [target.begin_import(n, "s") for n in (1, 2, 3)]

        def in_files(transfer: RegionImport) -> bool:
            return transfer._staging.size > 0

        first.write([(b"\x7fa", bytes(900))], is_last=True)
        second.write([(b"\x7fa", bytes(700))])  # together they are too many
        third.write([(b"\x7fa", bytes(500))])
        assert [in_files(transfer) for transfer in (first, second, third)] == [False, True, False]
        third.write([(b"\x7fb", bytes(400))])  # too many for one, if there may be more
        assert in_files(third)
        assert third.progress.records == 2
        target.cancel_import(first)
        again = target.begin_import(1, "s")
        again.write([(b"\x7fa", bytes(500))])
        again.write([(b"\x7fb", bytes(400))], is_last=True)
        assert not in_files(again)


def test_a_switch_does_not_wait_for_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its priority is low: on a busy machine it comes late."""
    with Engine(":memory:", SMALL) as source, Engine(":memory:", SMALL) as target:
        fill(source.region(1), 0, 300, 1)
        old = target.region(1)
        requested: list[Region] = []
        with monkeypatch.context() as patched:
            patched.setattr(target._worker, "request", requested.append)
            region = take_over(source, target)
        assert content(region) == content(source.region(1))
        assert requested == [old]
        target._worker.request(old)  # for the flush that is still to come


def test_a_switch_waits_for_a_flush_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(":memory:", SMALL) as source, Engine(":memory:", SMALL) as target:
        fill(source.region(1), 0, 300, 1)
        carry_out = target._carry_out
        by: list[str] = []

        def note(*args: Any) -> None:
            by.append(threading.current_thread().name)
            carry_out(*args)

        monkeypatch.setattr(target, "_carry_out", note)
        target._storing = frozenset([target.region(1)])  # as it is during a flush
        region = take_over(source, target)
        assert content(region) == content(source.region(1))
        assert by == ["engine-flush"]


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


def on_disk(folder: Path) -> Engine:
    return Engine(folder, SMALL)


@pytest.fixture(params=["RocksDB's", "written here"])
def tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether table files are written here; then so are those of small records."""
    if request.param == "RocksDB's":
        return False
    monkeypatch.setattr("iotdb_engine.snapshot._LARGE_BYTES", 0)
    return True


@pytest.mark.usefixtures("tables")
def test_a_region_arrives_in_the_files_of_a_store_on_disk(tmp_path: Path) -> None:
    with Engine(":memory:", SMALL) as source:
        make_state(source.region(1))
        expected = content(source.region(1))
        for round_number in range(3):
            with on_disk(tmp_path / "data") as target:
                export = source.export(1)
                transfer = target.begin_import(1, f"round {round_number}")
                ship(export, transfer)
                region = target.finish_import(
                    transfer, index=export.index, sequence=export.sequence, origin=b"o"
                )
                export.close()
                assert content(region) == expected
                fill(region, 600, 700, 10)
                region.flush()
                again = content(region)
                assert not target.verify().faults
            assert not list((tmp_path / "data" / "incoming").iterdir())
            assert not verify(tmp_path / "data").faults
            with on_disk(tmp_path / "data") as target:
                assert content(target.region(1)) == again


@pytest.mark.usefixtures("tables")
def test_a_transfer_to_disk_goes_on_from_its_last_whole_file(tmp_path: Path) -> None:
    with Engine(":memory:", SMALL) as source:
        make_state(source.region(1))
        export = source.export(1)
        records = export.piece(b"", 1 << 30)
        with on_disk(tmp_path / "data") as target:
            transfer = target.begin_import(1, "s")
            for record in records:
                transfer.write([record])
                known = transfer.progress.records
                if known > len(records) // 2 and transfer._staging.size:
                    break  # in the middle of a file
        with on_disk(tmp_path / "data") as target:
            again = target.begin_import(1, "s")
            assert 0 < again.progress.records < known
            assert again.progress.last_key == records[again.progress.records - 1][0]
            ship(export, again)
            target.finish_import(again, index=export.index, sequence=export.sequence, origin=b"")
            assert content(target.region(1)) == content(source.region(1))
        export.close()


def test_files_whose_note_is_damaged_are_not_believed(tmp_path: Path) -> None:
    with Engine(":memory:", SMALL) as source:
        make_state(source.region(1))
        export = source.export(1)
        with on_disk(tmp_path / "data") as target:
            ship(export, target.begin_import(1, "s"))
        [note] = (tmp_path / "data" / "incoming").glob("*/note")
        data = bytearray(note.read_bytes())
        data[len(data) // 2] ^= 1
        note.write_bytes(data)
        with on_disk(tmp_path / "data") as target:
            assert not note.parent.exists()
            assert target.begin_import(1, "s").progress.records == 0
        export.close()


def test_a_store_takes_files_in_where_a_range_was_deleted(tmp_path: Path, *, tables: bool) -> None:
    """Remains of the deleted range have higher sequences than the files: they are merged away."""
    store = RocksStore(tmp_path / "db")
    for step in ("put", "delete"):
        batch = Batch()
        if step == "put":
            batch.put(b"k1", b"old")
            batch.put(b"l", b"stays")
        else:
            batch.delete_range(b"k", b"l")
        store.write(batch)
        store.flush()
    staging = store.staging("5")
    staging.is_dense = tables
    for number in range(3):
        staging.add(b"k%d" % number, b"new")
        staging.complete(b"%d" % number)
    staging.ingest(b"k", b"l")
    assert list(store.view().scan(b"", b"z")) == [
        (b"k0", b"new"),
        (b"k1", b"new"),
        (b"k2", b"new"),
        (b"l", b"stays"),
    ]
    assert store.stagings() == []
    store.close()


def test_an_interrupted_file_is_not_taken_in(tmp_path: Path, *, tables: bool) -> None:
    store = RocksStore(tmp_path / "db")
    staging = store.staging("5")
    staging.is_dense = tables
    staging.add(b"a", b"1")
    staging.complete(b"first")
    staging.add(b"b", b"2")
    staging.close()
    with pytest.raises(Closed):
        staging.add(b"c", b"3")
    again = store.staging("5")
    again.is_dense = tables
    assert (again.note, again.size) == (b"first", 0)
    again.add(b"b", b"2 again")
    again.complete(b"second")
    again.ingest(b"", b"z")
    assert list(store.view().scan(b"", b"z")) == [(b"a", b"1"), (b"b", b"2 again")]
    store.close()


def test_much_of_another_size_gets_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of large records are written here, those of small ones by RocksDB."""
    opened = []
    open_table = RocksStore._open_table

    def noting(store: RocksStore, path: Path, is_dense: bool) -> object:
        opened.append(is_dense)
        return open_table(store, path, is_dense)

    monkeypatch.setattr(RocksStore, "_open_table", noting)
    rng = random.Random(8)
    key = itertools.count(1)

    def piece(*sizes_and_counts: tuple[int, int]) -> list[tuple[bytes, bytes]]:
        return [
            (b"\x03%09d" % next(key), rng.randbytes(size))
            for size, count in sizes_and_counts
            for _ in range(count)
        ]

    small, large = (90, 4000), (90_000, 4)
    pieces = [
        (False, piece(small)),
        (False, piece((90, 10), (5000, 2))),  # little of it
        (True, piece((90, 200), large)),
        (True, piece(large)),
        (True, piece((90, 50))),
        (False, piece(small)),
        (True, piece(large)),
    ]
    with Engine(tmp_path / "data") as target:
        transfer = target.begin_import(1, "s")
        for is_dense, records in pieces:
            transfer.write(records)
            assert opened[-1] == is_dense
        assert opened == [False, True, False, True]
        region = target.finish_import(transfer, index=7, sequence=1, origin=b"")
        picture = RegionPicture(region)
        expected = [(found[1:], value) for _, records in pieces for found, value in records]
        assert list(picture.key_values()) == expected
        picture.close()
        assert target.verify().intact
