"""Every damaged byte is found, nothing sound is called damaged, and what is damaged is named."""

from __future__ import annotations

import os
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import rocksdict

from harness.engine_store import OPTIONS, REGIONS, SERIES, contents, fill
from harness.fragments import make_fragment, make_layout, plain_rows
from iotdb_engine import T_MAX, T_MIN, DataType, Engine, errors
from iotdb_engine.key_format import (
    Kind,
    chunk_key,
    commit_key,
    compaction_key,
    intent_key,
    kind_prefix,
    prefix_end,
    split_chunk_key,
    with_kind,
)
from iotdb_engine.page import unpack_chunk
from iotdb_engine.repair import repair
from iotdb_engine.rocks_files import check_table, data_files
from iotdb_engine.store import Batch, MemoryStore, RocksStore
from iotdb_engine.times_record import unpack_times
from iotdb_engine.verify import verify, verify_store
from iotdb_engine.verify_report import FaultKind, Report

CORRUPTIONS = int(os.environ.get("TEST_CORRUPTIONS", "60"))
pytestmark = pytest.mark.timeout(300 + CORRUPTIONS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path / "data")
    return tmp_path / "data"


def flip(path: Path, rng: random.Random) -> Callable[[], None]:
    """Change one byte of a file; return what changes it back."""
    raw = path.read_bytes()
    at = rng.randrange(len(raw))
    broken = bytearray(raw)
    broken[at] ^= rng.randrange(1, 256)
    path.write_bytes(broken)
    return lambda: path.write_bytes(raw) and None


def test_an_intact_store_has_no_faults(folder: Path) -> None:
    report = verify(folder)
    assert report.faults == []
    assert report.regions == len(REGIONS)
    assert report.chunks > 20
    assert report.points > 10_000
    assert report.files > 2
    with Engine(folder, OPTIONS) as engine:
        assert engine.verify().intact


def test_every_damaged_byte_is_found(folder: Path) -> None:
    """Half of the bytes by size, half by file, so that the small ones have their share."""
    rng = random.Random(7)
    files = data_files(folder)
    sizes = [path.stat().st_size for path in files]
    assert {path.suffix for path in files} == {".sst", "", ".json"}
    for number in range(CORRUPTIONS):
        path = rng.choices(files, sizes)[0] if number % 2 else rng.choice(files)
        restore = flip(path, rng)
        assert not verify(folder).intact, (path.name, number)
        restore()
    assert verify(folder).intact


def test_an_open_store_finds_damaged_tables(folder: Path) -> None:
    with Engine(folder, OPTIONS) as engine:
        restore = flip(
            max(folder.glob("*.sst"), key=lambda path: path.stat().st_size), random.Random(1)
        )
        report = engine.verify()
        restore()
        assert [fault.kind for fault in report.faults].count(FaultKind.FILE) == 1


def test_a_store_in_use_is_refused(folder: Path) -> None:
    with Engine(folder, OPTIONS), pytest.raises(errors.Locked, match="in use"):
        verify(folder)
    assert verify(folder).intact


def test_a_store_that_is_being_verified_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def open_too(store: RocksStore, report: Report) -> None:
        with pytest.raises(errors.Locked):
            Engine(folder, OPTIONS)
        seen.append(1)

    monkeypatch.setattr("iotdb_engine.verify.verify_store", open_too)
    verify(folder)
    assert seen


def test_a_folder_without_a_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(errors.EngineError, match="not a data folder"):
        verify(tmp_path)


@pytest.mark.parametrize("checksum", ["crc32c", "xxhash64"])
@pytest.mark.parametrize("level", ["none", "lz4"])
def test_tables_whose_index_is_compressed(tmp_path: Path, level: str, checksum: str) -> None:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(getattr(rocksdict.DBCompressionType, level)())
    table = rocksdict.BlockBasedOptions()
    table.set_block_size(256)
    table.set_format_version(6)
    table.set_bloom_filter(10, False)
    table.set_checksum_type(getattr(rocksdict.ChecksumType, checksum)())
    options.set_block_based_table_factory(table)
    base = rocksdict.Rdict(str(tmp_path), options)
    for number in range(3000):
        base[b"a long common prefix %08d" % number] = b"%d" % number * 3
    base.flush(True)
    base.close()
    (path,) = tmp_path.glob("*.sst")
    assert list(check_table(path)) == []
    rng = random.Random(3)
    for _ in range(60):
        restore = flip(path, rng)
        assert len(list(check_table(path))) >= 1
        restore()


# ---- records that are damaged below RocksDB's checksums ----


def keys_of(store: RocksStore, kind: Kind, region: int = 0) -> list[bytes]:
    view = store.view()
    try:
        prefix = kind_prefix(region, kind)
        return [key for key, _ in view.scan(prefix, prefix_end(prefix))]
    finally:
        view.release()


def change(folder: Path, act: Callable[[RocksStore, Batch], None]) -> Report:
    """Change records, and return what verifying says."""
    store = RocksStore(folder)
    batch = Batch()
    act(store, batch)
    store.write(batch)
    store.flush()
    store.close()
    return verify(folder)


def spoil(store: RocksStore, batch: Batch, key: bytes, at: int) -> None:
    value = bytearray(store.get(key) or b"")
    value[at] ^= 0x10
    batch.put(key, bytes(value))


def data_key(store: RocksStore, series_id: int) -> bytes:
    return next(
        key for key in keys_of(store, Kind.DATA) if split_chunk_key(key).series_id == series_id
    )


@pytest.mark.parametrize(
    "key", [commit_key(0), intent_key(0), compaction_key(0)], ids=["commit", "intent", "compaction"]
)
def test_a_damaged_record_of_state(folder: Path, key: bytes) -> None:
    report = change(folder, lambda store, batch: spoil(store, batch, key, 9))
    assert FaultKind.RECORD in {fault.kind for fault in report.faults}
    assert key in {fault.key for fault in report.faults}
    with pytest.raises(errors.Corruption, match="region 0"):
        Engine(folder, OPTIONS)
    done = repair(folder)
    assert done.left == []
    assert verify(folder).intact
    with Engine(folder, OPTIONS) as engine:
        assert len(contents(engine)[0, 2]) == 1500


@pytest.mark.parametrize("kind", [Kind.TOMBSTONE, Kind.TTL])
def test_a_damaged_delete_or_time_to_live(folder: Path, kind: Kind) -> None:
    report = change(folder, lambda store, batch: spoil(store, batch, keys_of(store, kind)[0], 9))
    assert [fault.kind for fault in report.faults] == [FaultKind.RECORD]
    done = repair(folder)
    assert len(done.lost) == 1
    assert kind.name in done.lost[0]
    assert verify(folder).intact


def test_a_damaged_page_is_an_error_that_names_it_and_costs_that_page_only(folder: Path) -> None:
    with Engine(folder, OPTIONS) as engine:
        before = contents(engine)
    span: list[int] = []

    def act(store: RocksStore, batch: Batch) -> None:
        key = data_key(store, 2)
        record = unpack_chunk(store.get(with_kind(key, Kind.CHUNK)) or b"")
        page = record.pages[1]
        span.extend((int(page["low"]), int(page["high"])))
        spoil(store, batch, key, int(page["offset"]) + 5)

    report = change(folder, act)
    (fault,) = report.faults
    assert (fault.kind, fault.page, fault.span) == (FaultKind.PAGE, 1, tuple(span))
    with Engine(folder, OPTIONS) as engine:
        region = engine.region(0)
        for ask in (
            lambda: list(region.read([(2, SERIES[2])], T_MIN, T_MAX)),
            lambda: list(region.read([(1, SERIES[1]), (2, SERIES[2])], span[0], span[0])),
            lambda: region.aggregate([(2, SERIES[2])], span[0] + 1, T_MAX),
        ):
            with pytest.raises(errors.Corruption, match=f"series 2.*times {span[0]} to {span[1]}"):
                ask()
    done = repair(folder)
    assert done.left == []
    assert len(done.lost) == 1
    assert f"times {span[0]} to {span[1]}" in done.lost[0]
    assert len(done.aside) == 1
    assert Path(done.aside[0]).read_text().count("\n") == 2
    with Engine(folder, OPTIONS) as engine:
        after = contents(engine)
    gone = before[0, 2].keys() - after[0, 2].keys()
    assert gone == {t for t in before[0, 2] if span[0] <= t <= span[1]}
    before[0, 2] = after[0, 2]
    assert after == before
    assert verify(folder).intact


def test_the_first_page_of_a_chunk(folder: Path) -> None:
    """The chunk's key names its first value, so the chunk moves."""
    report = change(folder, lambda store, batch: spoil(store, batch, data_key(store, 2), 5))
    (fault,) = report.faults
    assert (fault.kind, fault.page) == (FaultKind.PAGE, 0)
    assert fault.span is not None
    assert repair(folder).left == []
    assert verify(folder).intact
    with Engine(folder, OPTIONS) as engine:
        assert min(contents(engine)[0, 2]) == fault.span[1] + 1


def test_a_page_of_times_costs_that_page_of_all_columns(folder: Path) -> None:
    rows = 0

    def act(store: RocksStore, batch: Batch) -> None:
        nonlocal rows
        key = keys_of(store, Kind.TIMES)[0]
        head = unpack_times(store.get(key) or b"")
        rows = int(head.pages["rows"][1])
        spoil(store, batch, key, head.body_at + int(head.pages["offset"][1]) + 3)

    report = change(folder, act)
    assert {fault.kind for fault in report.faults} == {FaultKind.TIMES_PAGE, FaultKind.PAGE}
    with Engine(folder, OPTIONS) as engine, pytest.raises(errors.Corruption, match=r"TIMES.*times"):
        contents(engine)
    assert repair(folder).left == []
    assert verify(folder).intact
    with Engine(folder, OPTIONS) as engine:
        assert len(contents(engine)[0, 2]) == 1500 - rows
        engine.region(0).compact(full=True)
        assert len(contents(engine)[0, 2]) == 1500 - rows
        assert engine.verify().intact


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        # A chunk that is missing leaves what a merge may leave too; the file's checksums notice.
        (Kind.CHUNK, "spoiled"),
        (Kind.DATA, "spoiled"),
        (Kind.DATA, "missing"),
        (Kind.TIMES, "spoiled"),
        (Kind.TIMES, "missing"),
    ],
)
def test_a_whole_record(folder: Path, kind: Kind, how: str) -> None:
    def act(store: RocksStore, batch: Batch) -> None:
        key = data_key(store, 2) if kind is Kind.DATA else keys_of(store, kind)[0]
        if how == "missing":
            batch.delete(key)
        else:
            spoil(store, batch, key, 12)

    report = change(folder, act)
    assert not report.intact
    with Engine(folder, OPTIONS) as engine, pytest.raises(errors.Corruption, match="slot 2"):
        contents(engine)
    done = repair(folder)
    assert done.left == []
    assert done.lost
    assert verify(folder).intact
    with Engine(folder, OPTIONS) as engine:
        found = contents(engine)
        assert len(found[3, 2]) == 1500
        assert 1000 < len(found[0, 2]) <= 1500


def test_what_only_a_fault_of_the_program_can_break(folder: Path) -> None:
    """Sound checksums, and yet it does not fit together."""
    store = RocksStore(folder, read_only=True)
    view = store.view()
    chunks = [(key, view.get(key) or b"") for key in keys_of(store, Kind.CHUNK)]
    times = [(key, view.get(key) or b"") for key in keys_of(store, Kind.TIMES)]
    view.release()
    store.close()
    key, record = next(item for item in chunks if split_chunk_key(item[0]).series_id == 1)
    parts = split_chunk_key(key)
    elsewhere = chunk_key(**parts._replace(series_id=99)._asdict())
    kinds = {}
    for name, new_key, value in (
        ("statistics", key, with_count(record)),
        ("members", elsewhere, record),
        ("first", chunk_key(**parts._replace(first_time=parts.first_time - 1)._asdict()), record),
        ("times of others", key, times[-1][1]),
    ):
        store = RocksStore(folder)
        old = store.get(new_key)
        batch = Batch()
        batch.put(new_key, value)
        store.write(batch)
        report = Report()
        verify_store(store, report)
        kinds[name] = {fault.kind for fault in report.faults}
        batch = Batch()
        batch.delete(new_key) if old is None else batch.put(new_key, old)
        store.write(batch)
        store.close()
    assert kinds["statistics"] == {FaultKind.STATISTICS}
    assert FaultKind.CHUNK in kinds["members"]
    assert FaultKind.CHUNK in kinds["first"]
    assert FaultKind.CHUNK in kinds["times of others"]
    assert verify(folder).intact


def with_count(record: bytes) -> bytes:
    """Return a CHUNK record whose first page has another total, and a checksum that fits."""
    broken = bytearray(record[:-4])
    broken[40 + 56 : 40 + 64] = b"\1\2\3\4\5\6\7\x40"
    return bytes(broken) + zlib.crc32(broken).to_bytes(4, "little")


# ---- repairing files ----


def test_repairing_damaged_files_keeps_the_rest_and_says_what_is_lost(
    folder: Path, tmp_path: Path
) -> None:
    with Engine(folder, OPTIONS) as engine:
        before = contents(engine)
    rng = random.Random(11)
    files = data_files(folder)
    sizes = [path.stat().st_size for path in files]
    kept = []
    for number in range(max(12, CORRUPTIONS // 10)):
        broken = tmp_path / f"broken {number}"
        shutil.copytree(folder, broken)
        path = rng.choices(files, sizes)[0] if number % 3 else rng.choice(files)
        flip(broken / path.name, rng)
        done = repair(broken)
        assert done.found
        assert done.left == [], (path.name, done.lines())
        assert verify(broken).intact
        with Engine(broken, OPTIONS) as engine:
            after = contents(engine)
        gone = sum(len(points.keys() - after[at].keys()) for at, points in before.items())
        changed = {
            at
            for at, points in before.items()
            if any(points.get(time) != value for time, value in after[at].items())
        }
        # a delete or a time to live that was lost brings points back, and is told
        assert bool(done.lost) >= bool(gone or changed), done.lines()
        kept.append(1 - gone / sum(map(len, before.values())))
        asides = [Path(place) for place in done.aside if not place.endswith(".jsonl")]
        assert len(asides) == (path.suffix != ".json")
        assert not any(verify(aside).intact for aside in asides)
    assert sum(kept) / len(kept) > 0.5, kept


def test_repairing_an_intact_store_changes_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.glob("*.sst")}
    done = repair(folder)
    assert (done.found, done.lost, done.aside) == ([], [], [])
    assert {path: path.read_bytes() for path in folder.glob("*.sst")} == before


def test_a_store_in_use_is_not_repaired(folder: Path) -> None:
    with Engine(folder, OPTIONS), pytest.raises(errors.Locked):
        repair(folder)


def test_a_merge_leaves_the_times_of_a_dropped_series_until_the_drop_is_durable() -> None:
    """A crash may lose the drop; until it is applied again, the series must be readable."""
    layout = make_layout({1: DataType.INT64, 2: DataType.INT64})
    store = MemoryStore()
    engine = Engine(":memory:", OPTIONS, store=store)
    region = engine.region(0)
    region.write([make_fragment(layout, [(5, [1, 2])])], 1)
    region.flush()
    region.drop_series([(1, 3)], 2)
    region.compact(full=True)
    assert engine.verify().intact
    survivor = store.crash(store.unsynced_count())
    engine.close(flush=False)
    with Engine(":memory:", OPTIONS, store=survivor) as engine:
        assert engine.verify().intact
        region = engine.region(0)
        found = plain_rows(region.read([(1, DataType.INT64), (2, DataType.INT64)], T_MIN, T_MAX))
        assert found == [(5, (1, 2))]
