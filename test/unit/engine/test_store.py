"""Both stores behind the engine keep the same promises."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iotdb_engine.errors import Closed, Locked, OutOfSpace
from iotdb_engine.store import Batch, MemoryStore, RocksStore, Store


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    made: Store = MemoryStore() if request.param == "memory" else RocksStore(tmp_path / "db")
    yield made
    made.close()


def batch(fill: Callable[[Batch], None]) -> Batch:
    made = Batch()
    fill(made)
    return made


def keys(store: Store) -> list[bytes]:
    view = store.view()
    try:
        return [key for key, _ in view.scan(b"", b"\xff")]
    finally:
        view.release()


def put(*pairs: tuple[bytes, bytes]) -> Batch:
    made = Batch()
    for key, value in pairs:
        made.put(key, value)
    return made


def test_a_view_that_was_not_looked_into_does_not_change_either(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "db")
    store.write(put((b"a", b"1")))
    views = [store.view() for _ in range(4)]
    views[3].release()
    assert [view.iterator for view in views] == [None] * 4
    store.write(put((b"a", b"2")))
    staging = store.staging("x")
    staging.add(b"b", b"1")
    staging.complete(b"all")
    staging.ingest(b"b", b"c")
    assert store.get(b"b") == b"1"
    for view in views[:3]:
        assert view.get(b"a") == b"1"
        assert view.get(b"b") is None
    with pytest.raises(Closed):
        views[3].get(b"a")
    unseen = store.view()
    store.close()
    with pytest.raises(Closed):
        unseen.get(b"a")


def test_a_view_made_within_a_change_sees_one_state(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "db")
    store.write(put((b"a", b"1")))
    with store._views.change():
        view = store.view()
        store._db[b"a"] = b"2"
    assert view.get(b"a") == b"1"
    store.close()


@pytest.mark.parametrize("is_flushed", [False, True])
def test_files_are_taken_in_where_a_range_was_deleted(tmp_path: Path, *, is_flushed: bool) -> None:
    """Also where there was nothing in it: then a plain merge moves the mark, and keeps it."""
    store = RocksStore(tmp_path / "db")
    for lo, hi in ((b"b", b"c"), (b"d", b"e")):
        made = Batch()
        made.delete_range(lo, hi)
        store.write(made)
    if is_flushed:
        store.flush()
    take_in(store, b"b1", b"b2")
    store.write(put((b"b3", b"later")))
    assert keys(store) == [b"b1", b"b2", b"b3"]
    store.close()


def test_files_are_taken_in_while_the_store_merges(tmp_path: Path) -> None:
    """RocksDB refuses them for as long as a merge runs whose keys are around theirs."""
    store = RocksStore(tmp_path / "db")
    for first in range(0, 40_000, 10_000):
        lo, hi = b"a", b"z"  # each file has keys on both sides
        rows = [(lo + b"%06d" % number, bytes(400)) for number in range(first, first + 10_000)]
        store.write(put(*rows, (hi, b"")))
        store.flush()
    merge = threading.Thread(target=store.compact)
    merge.start()
    while store._db.property_int_value("rocksdb.num-running-compactions") == 0:
        assert merge.is_alive(), "the merge was over before it was seen"
    for number in range(8):
        take_in(store, b"b%d1" % number, b"b%d2" % number)
    merge.join()
    assert [key for key in keys(store) if key.startswith(b"b")] == [
        b"b%d%d" % (number, record) for number in range(8) for record in (1, 2)
    ]
    store.close()


def take_in(store: Store, *names: bytes) -> None:
    """Have files with these keys taken in; the range is that of their first two bytes."""
    staging = store.staging(names[0].hex())
    for name in names:
        staging.add(name, b"new")
        staging.complete(name)
    lo = names[0][:-1]
    staging.ingest(lo, lo + b"\xff")


def test_a_batch_deletes_ranges_then_keys_then_puts(store: Store) -> None:
    store.write(put((b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4")))
    change = Batch()
    change.put(b"b", b"new")
    change.delete_range(b"b", b"d")
    change.delete(b"a")
    store.write(change)
    assert keys(store) == [b"b", b"d"]
    assert store.get(b"b") == b"new"
    assert store.get(b"c") is None


def test_a_view_does_not_change(store: Store) -> None:
    store.write(put((b"a", b"1"), (b"c", b"3")))
    view = store.view()
    later = put((b"b", b"2"), (b"a", b"9"))
    later.delete(b"c")
    store.write(later)
    assert list(view.scan(b"", b"\xff")) == [(b"a", b"1"), (b"c", b"3")]
    assert view.get(b"b") is None
    assert view.get(b"c") == b"3"
    assert view.first_key(b"b", b"d") == b"c"
    assert view.first_key(b"b", b"c") is None
    assert view.first_key(b"d", b"e") is None
    view.release()
    with pytest.raises(Closed):
        view.get(b"a")


def test_a_scan_goes_on_after_other_calls(store: Store) -> None:
    store.write(put(*((bytes([n]), bytes([n])) for n in range(6))))
    view = store.view()
    found = []
    for key, value in view.scan(b"\x01", b"\x05"):
        assert view.get(b"\x00") == b"\x00"
        found.append((key, value, [k for k, _ in view.scan(key, b"\x03")]))
    assert [(key, value) for key, value, _ in found] == [(bytes([n]),) * 2 for n in range(1, 5)]
    assert found[0][2] == [b"\x01", b"\x02"]
    view.release()


def test_scan_is_half_open(store: Store) -> None:
    store.write(put(*((bytes([n]), b"") for n in range(5))))
    view = store.view()
    assert [k for k, _ in view.scan(b"\x01", b"\x03")] == [b"\x01", b"\x02"]
    view.release()


def test_after_close_everything_is_refused(store: Store) -> None:
    view = store.view()
    store.close()
    store.close()
    for call in (
        lambda: store.write(put((b"a", b""))),
        lambda: store.get(b"a"),
        store.view,
        store.flush,
        lambda: view.get(b"a"),
        lambda: list(view.scan(b"", b"\xff")),
    ):
        with pytest.raises(Closed):
            call()


def test_a_crash_keeps_a_prefix() -> None:
    store = MemoryStore()
    store.write(put((b"a", b"1")))
    store.flush()
    store.write(put((b"b", b"2")))
    store.write(put((b"c", b"3")))
    assert store.unsynced_count() == 2
    survivor = store.crash(keep=1)
    assert keys(survivor) == [b"a", b"b"]
    with pytest.raises(Closed):
        store.get(b"a")
    assert keys(survivor.crash()) == [b"a", b"b"]


def test_what_was_written_durably_survives_without_what_was_before() -> None:
    store = MemoryStore()
    store.write(put((b"a", b"1")))
    store.write_durably(put((b"b", b"2")))
    store.write(put((b"c", b"3")))
    store.write_durably(put((b"c", b"4")))
    assert store.get(b"c") == b"4"
    survivor = store.crash()
    assert keys(survivor) == [b"b", b"c"]
    assert survivor.get(b"c") == b"4"
    assert keys(store.crash(keep=1)) == [b"a", b"b", b"c"]


def test_rocks_keeps_what_was_flushed_and_its_folder_locked(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "db")
    store.write(put((b"a", b"1")))
    store.flush()
    with pytest.raises(Locked, match="in use"):
        RocksStore(tmp_path / "db")
    # A view that nobody released must not keep the folder locked.
    view = store.view()
    store.close()
    again = RocksStore(tmp_path / "db")
    assert again.get(b"a") == b"1"
    assert again.stats()["store_keys"] == 1
    again.close()
    with pytest.raises(Closed):
        view.get(b"a")


class _FullDisk:
    """RocksDB on a full disk: it is closed, and what was in its memory could not be written."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def close(self) -> None:
        self._db.close()
        raise Exception("IO error: No space left on device: While appending to file: 8.sst")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def test_a_store_that_was_closed_on_a_full_disk_can_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RocksStore(tmp_path / "db")
    store.write(put((b"a", b"1")))
    monkeypatch.setattr(store, "_db", _FullDisk(store._db))
    with pytest.raises(OutOfSpace, match="No space left"):
        store.close()
    store.close()
    again = RocksStore(tmp_path / "db")
    assert again.get(b"a") == b"1"
    again.close()


def test_a_store_that_is_opened_again_has_the_cache_it_is_given(tmp_path: Path) -> None:
    for _ in range(2):
        store = RocksStore(tmp_path / "db", block_cache_bytes=48 << 20)
        assert store._db.property_value("rocksdb.block-cache-capacity") == str(48 << 20)
        store.close()


FORK = """
import os, sys
from iotdb_engine import Engine
from iotdb_engine.store import Batch, RocksStore

def put(store, key):
    batch = Batch()
    batch.puts.append((key, b"value"))
    store.write(batch)

stores = [RocksStore(folder) for folder in sys.argv[1:]]
put(stores[0], b"before")
view = stores[0].view()
stores.pop().close()
child = os.fork()
if child == 0:
    print("child", end="")
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
put(stores[0], b"after")
stores[0].flush()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "on_exit"), reason="needs glibc")
def test_a_forked_process_ends_in_order_and_leaves_the_store_to_its_parent(tmp_path):
    """RocksDB waited for threads that a forked process does not have: a segmentation fault."""
    run = subprocess.run(
        [sys.executable, "-c", FORK, tmp_path / "store", tmp_path / "closed"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.stdout, run.stderr) == ("child5\n", "")
    store = RocksStore(tmp_path / "store")
    assert [store.get(key) for key in (b"before", b"after")] == [b"value", b"value"]
    store.close()
