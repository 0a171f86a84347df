"""Table files that are written here are RocksDB's: it takes them in, reads them, merges them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from iotdb_engine.direct_file import DirectFile, Rings
from iotdb_engine.errors import Corruption
from iotdb_engine.rocks_files import _entries, _Table, check_table
from iotdb_engine.store import RocksStore
from iotdb_engine.table_file import BLOCK_BYTES, TableFile

Records = list[tuple[bytes, bytes]]


def large(count: int, size: int) -> Records:
    rng = random.Random(size)
    return [(b"key %06d" % number, rng.randbytes(size)) for number in range(count)]


def mixed() -> Records:
    """Small ones, some of them empty, between large ones; long keys that begin alike."""
    rng = random.Random(5)
    sizes = [0, 1, 100, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 70_000]
    keys = sorted({b"k" * rng.randrange(1, 300) + rng.randbytes(3) for _ in range(500)})
    return [(key, rng.randbytes(rng.choice(sizes))) for key in keys]


SHAPES: dict[str, Callable[[], Records]] = {
    "one small record": lambda: [(b"a", b"1")],
    "one empty value": lambda: [(b"a", b"")],
    "one large record": lambda: large(1, 300_000),
    "records of more than what is written at a time": lambda: large(3, 1_300_000),
    "what a region is like": lambda: [(b"a", b"small"), *large(42, 163_000), (b"z", b"last")],
    "thousands of small ones": lambda: large(5000, 40),
    "thousands of empty ones": lambda: large(5000, 0),
    "hundreds of large ones": lambda: large(900, 5000),
    "all of it": mixed,
    "keys with all bytes": lambda: [(bytes([n, 0, n]), bytes([n]) * n * 40) for n in range(256)],
    "a key of a kilobyte": lambda: [(b"\0" * 1000, b"1" * 5000), (b"\xff" * 1000, b"2")],
}


def table(path: Path, records: Records) -> Path:
    file = TableFile(DirectFile(path, Rings()))
    for key, value in records:
        file.add(key, value)
    file.finish(sync=True)
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_rocksdb_reads_what_was_written(tmp_path: Path, shape: str) -> None:
    records = SHAPES[shape]()
    (tmp_path / "db").mkdir()
    path = table(tmp_path / "own.sst", records)
    assert list(check_table(path)) == []
    store = RocksStore(tmp_path / "db")
    store._take_in([str(path)], b"", b"")

    def check() -> None:
        view = store.view()
        assert list(view.scan(b"", b"\xff" * 2000)) == records
        for key, value in records[:: max(1, len(records) // 50)]:
            assert store.get(key) == view.get(key) == value
            assert store.get(key + b"\0") is None
            assert view.first_key(key, b"\xff" * 2000) == key
        at = len(records) // 2
        assert list(view.scan(records[at][0], b"\xff" * 2000)) == records[at:]
        view.release()

    check()
    store.close()
    store = RocksStore(tmp_path / "db")
    check()
    store.compact()  # reads, and writes, all of it
    check()
    store.close()
    for file in (tmp_path / "db").glob("*.sst"):
        assert list(check_table(file)) == []


def test_a_merge_puts_newer_records_over_those_of_such_a_file(tmp_path: Path) -> None:
    records = large(20, 6000)
    store = RocksStore(tmp_path / "db")
    store._take_in([str(table(tmp_path / "own.sst", records))], b"", b"")
    store._db[records[3][0]] = b"newer"
    store._db.delete(records[4][0])
    store.flush()
    expected = dict(records) | {records[3][0]: b"newer"}
    del expected[records[4][0]]
    for _ in range(2):
        assert dict(store.view().scan(b"", b"\xff")) == expected
        store.compact()
    store.close()


def test_properties_are_in_order_and_the_file_ends_with_a_block_of_the_disk(tmp_path: Path) -> None:
    rng = random.Random(1)
    for number in range(50):
        records = [(b"%03d" % n, rng.randbytes(rng.randrange(9000))) for n in range(number + 1)]
        path = table(tmp_path / f"{number}.sst", records)
        assert path.stat().st_size % 4096 == 0
        with path.open("rb") as file:
            checked = _Table("", file)
            assert list(checked.check()) == []
            parts = checked._named_blocks(checked._read_footer(checked.size - 53))
            block = checked._content(parts[b"rocksdb.properties"], "properties")
        names = [name for name, _ in _entries(block)]
        assert names == sorted(names)


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    rng = random.Random(7)
    path = table(tmp_path / "own.sst", [(b"a", b"small"), *large(3, 5000), (b"z", b"last")])
    sound = path.read_bytes()
    start = 3 * 5000
    places = [*range(start, len(sound)), *(rng.randrange(start) for _ in range(500))]
    for at in places:
        damaged = bytearray(sound)
        damaged[at] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        assert len(list(check_table(path))) >= 1, at


def test_rocksdb_finds_a_damaged_record(tmp_path: Path) -> None:
    records = large(9, 50_000)
    path = table(tmp_path / "own.sst", records)
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[sound.index(records[4][1]) + 30_000] ^= 1
    path.write_bytes(damaged)
    store = RocksStore(tmp_path / "db")
    store._take_in([str(path)], b"", b"")
    assert store.get(records[3][0]) == records[3][1]
    with pytest.raises(Corruption):
        store.get(records[4][0])
    with pytest.raises(Corruption):
        list(store.view().scan(b"", b"\xff"))
    store.close()


def test_rocksdb_refuses_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = table(tmp_path / "own.sst", large(9, 5000))
    path.write_bytes(path.read_bytes()[:-4096])
    store = RocksStore(tmp_path / "db")
    with pytest.raises(Exception, match="Corruption"):
        store._take_in([str(path)], b"", b"")
    assert list(store.view().scan(b"", b"\xff")) == []
    store.close()


def test_keys_must_ascend(tmp_path: Path) -> None:
    file = TableFile(DirectFile(tmp_path / "own.sst", Rings()))
    file.add(b"b", b"1")
    with pytest.raises(AssertionError):
        file.add(b"b", b"2")
    file.drop()
