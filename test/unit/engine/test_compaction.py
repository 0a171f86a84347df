from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.fragments import make_fragment, make_layout, plain_rows
from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions, Region
from iotdb_engine.compaction_merge import GuardedWriter
from iotdb_engine.errors import EngineError
from iotdb_engine.flush import ChunkWriter
from iotdb_engine.key_format import Kind, kind_prefix, prefix_end, split_chunk_key
from iotdb_engine.store import Batch, MemoryStore
from iotdb_engine.times_record import unpack_times, unpack_times_page

MIXED = make_layout({1: DataType.INT64, 2: DataType.DOUBLE, 3: DataType.TEXT, 4: DataType.BOOLEAN})
SERIES = list(zip(MIXED.series_ids, MIXED.types, strict=True))
NOW = [0]
OPTIONS = EngineOptions(
    page_points=20, chunk_points=100, read_batch_rows=30, compaction=False, now=lambda: NOW[0]
)


@pytest.fixture
def region() -> Iterator[Region]:
    NOW[0] = 0
    with Engine(":memory:", OPTIONS) as engine:
        yield engine.region(1)


def row(n: int, add: int = 0) -> tuple[int, list[Any]]:
    text = None if n % 5 == 0 else b"text %d" % (n % 9)
    return n, [n + add, None if n % 3 == 0 else n / 4 + add, text, n % 2 == 0]


def fill(region: Region, lo: int, hi: int, index: int, add: int = 0) -> None:
    region.write([make_fragment(MIXED, [row(n, add) for n in range(lo, hi)])], index)
    region.flush()


def read(region: Region) -> list[Any]:
    return plain_rows(region.read(SERIES, T_MIN, T_MAX))


def records(region: Region) -> Counter[str]:
    view = region.store.view()
    counts: Counter[str] = Counter()
    for kind in Kind:
        prefix = kind_prefix(region.id, kind)
        counts[kind.name] = sum(1 for _ in view.scan(prefix, prefix_end(prefix)))
    view.release()
    return counts


def test_many_small_chunks_become_few(region: Region) -> None:
    for n in range(40):
        fill(region, 10 * n, 10 * n + 10, n + 1)
    before = read(region)
    assert records(region)["TIMES"] == 40
    assert region.compact()
    assert read(region) == before
    few = records(region)
    assert few["TIMES"] == 4
    assert few["CHUNK"] == 4 * few["TIMES"]
    assert region.compact(full=True)
    assert read(region) == before
    assert records(region)["TIMES"] == 4
    region.compact(full=True)
    assert region.compactor.stats.removed_chunks == 4 * 40


def test_a_merge_ends_with_the_columns_in_hand_once_its_region_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not when a batch is full: of columns that hardly vary, that may be all of the merge."""
    original = ChunkWriter.put_block
    engine = Engine(":memory:", OPTIONS)
    region = engine.region(1)
    for n in range(10):
        fill(region, 10 * n, 10 * n + 10, n + 1)
    blocks = []

    def put_block(*args: Any, **more: Any) -> None:
        blocks.append(args)
        region.flushing.close()
        original(*args, **more)

    monkeypatch.setattr(ChunkWriter, "put_block", put_block)
    assert not region.compact()
    engine.close(flush=False)
    assert len(blocks) == 1


def test_what_is_settled_is_left_alone(region: Region) -> None:
    for n in range(10):
        fill(region, 60 * n, 60 * n + 60, n + 1)
    region.compact(full=True)
    merges = region.compactor.stats.merges
    assert merges
    region.compact(full=True)
    region.compact()
    assert region.compactor.stats.merges == merges


def test_overwritten_deleted_and_expired_rows_go_from_the_disk(region: Region) -> None:
    fill(region, 0, 300, 1)
    fill(region, 50, 150, 2, add=1000)
    region.delete([1, 2, 3, 4], 200, 249, 3)
    region.delete([2], 250, 260, 3)
    region.flush()
    NOW[0] = 1000
    region.set_ttl(1, 5, 990, 4)
    region.flush()
    before = read(region)
    assert len(before) == 240
    region.compact(full=True)
    assert read(region) == before
    count = records(region)
    assert count["TOMBSTONE"] == 0
    assert count["TTL"] == 1
    stored = []
    view = region.store.view()
    prefix = kind_prefix(region.id, Kind.TIMES)
    for _, value in view.scan(prefix, prefix_end(prefix)):
        head = unpack_times(value)
        for number in range(len(head.pages)):
            stored.extend(unpack_times_page(value, head, number).tolist())
    view.release()
    assert sorted(stored) == [time for time, _ in before]


def test_everything_expired_is_removed_without_being_read(region: Region) -> None:
    fill(region, 0, 300, 1)
    region.set_ttl(1, 5, 100, 2)
    NOW[0] = 10_000
    assert read(region) == []
    region.compact()
    assert records(region)["CHUNK"] == records(region)["TIMES"] == records(region)["DATA"] == 0
    assert region.compactor.stats.read_rows == 0


def test_a_delete_that_is_not_durable_removes_nothing() -> None:
    store = MemoryStore()
    engine = Engine(":memory:", OPTIONS, store=store)
    region = engine.region(1)
    fill(region, 0, 300, 1)
    region.delete([1, 2, 3, 4], 0, 299, 2)
    region.compact(full=True)
    assert read(region) == []
    survivor = store.crash(store.unsynced_count())
    engine.close(flush=False)
    with Engine(":memory:", OPTIONS, store=survivor) as again:
        assert len(read(again.region(1))) == 300


def test_a_sparse_column_gets_times_of_its_own(region: Region) -> None:
    layout = make_layout({1: DataType.INT64, 2: DataType.INT64})
    rows = [(n, [n, n if n % 10 == 0 else None]) for n in range(100)]
    region.write([make_fragment(layout, rows)], 1)
    region.flush()
    region.compact(full=True)
    assert records(region)["TIMES"] == 2
    found = plain_rows(region.read([(2, DataType.INT64)], T_MIN, T_MAX))
    assert found == [(n, (n,)) for n in range(0, 100, 10)]


def test_series_in_several_layouts_end_up_without_overlaps(region: Region) -> None:
    rng = random.Random(1)
    layouts = [make_layout(dict.fromkeys(ids, DataType.INT64)) for ids in ((1, 2), (2, 3), (1, 3))]
    expected: dict[int, list[int | None]] = {}
    for index in range(1, 60):
        layout = rng.choice(layouts)
        rows = [(rng.randrange(500), [index, index]) for _ in range(9)]
        region.write([make_fragment(layout, rows)], index)
        for time, cells in rows:
            line = expected.setdefault(time, [None] * 3)
            for series_id, cell in zip(layout.series_ids, cells, strict=True):
                line[series_id - 1] = cell
        region.flush()
    series = [(i, DataType.INT64) for i in (1, 2, 3)]
    region.compact(full=True)
    found = plain_rows(region.read(series, T_MIN, T_MAX))
    assert found == [(time, tuple(expected[time])) for time in sorted(expected)]
    merges = region.compactor.stats.merges
    region.compact(full=True)
    assert region.compactor.stats.merges == merges


def test_a_read_that_began_before_goes_on(region: Region) -> None:
    for n in range(20):
        fill(region, 30 * n, 30 * n + 30, n + 1)
    expected = read(region)
    batches = region.read(SERIES, T_MIN, T_MAX)
    first = next(batches)
    region.compact(full=True)
    assert plain_rows([first, *batches]) == expected


def test_a_series_dropped_in_the_middle_of_its_merge_stays_dropped(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(10):
        fill(region, 10 * n, 10 * n + 10, n + 1)
    original = GuardedWriter.finish

    def drop_first(self: GuardedWriter) -> None:
        if not region.state.dropped:
            region.drop_series([(1, 2)], 11)
            region.flush()
        original(self)

    monkeypatch.setattr(GuardedWriter, "finish", drop_first)
    region.compact(full=True)
    monkeypatch.setattr(GuardedWriter, "finish", original)
    assert 1 in region.state.dropped
    prefix = kind_prefix(region.id, Kind.CHUNK)
    view = region.store.view()
    assert {key[12] for key, _ in view.scan(prefix, prefix_end(prefix))} == {2, 3, 4}
    view.release()
    assert region.compact(full=True)
    assert records(region)["TIMES"] == 1


def test_what_an_unfinished_flush_left_is_removed() -> None:
    store = MemoryStore()
    closed = Engine(":memory:", OPTIONS, store=store)
    region = closed.region(1)
    fill(region, 0, 100, 1)
    fill(region, 100, 200, 2)
    region.write([make_fragment(MIXED, [row(n) for n in range(200, 300)])], 3)
    with region.state.lock:
        region.flushing.freeze()
    for _ in region.flushing.store():
        pass
    survivor = store.crash(store.unsynced_count() - 1)
    closed.close(flush=False)
    with Engine(":memory:", OPTIONS, store=survivor) as engine:
        again = engine.region(1)
        fill(again, 300, 310, 3)
        assert records(again)["TIMES"] == 4
        again.compact(full=True)
        assert records(again)["TIMES"] == 3
        assert [time for time, _ in read(again)] == [*range(200), *range(300, 310)]


def test_it_runs_by_itself_and_can_be_asked_for_and_watched(tmp_path: Path) -> None:
    options = replace(OPTIONS, compaction=True, compaction_share=1.0)
    with Engine(tmp_path / "data", options) as engine:
        region = engine.region(1)
        for n in range(40):
            fill(region, 10 * n, 10 * n + 10, n + 1)
        engine.compact(1, wait=True)
        stats = engine.stats()
        assert stats["compactions"] > 0
        assert stats["compaction_bytes"] > 0
        assert stats["compaction_debt"] < 10
        before = read(region)
        engine.compact(1, full=True, wait=True)
        assert read(region) == before
        assert 4 <= records(region)["TIMES"] <= 8
        state = engine.merge_state()
        assert state is not None
        assert not state.running
        assert state.failure is None
    with Engine(tmp_path / "data", OPTIONS) as engine:
        assert read(engine.region(1)) == before
        with pytest.raises(EngineError, match="switched off"):
            engine.compact(1)


def test_damage_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    store = MemoryStore()
    with Engine(":memory:", OPTIONS, store=store) as engine:
        region = engine.region(1)
        fill(region, 0, 100, 1)
        prefix = kind_prefix(region.id, Kind.TIMES)
        view = region.store.view()
        key, value = next(iter(view.scan(prefix, prefix_end(prefix))))
        view.release()
        batch = Batch()
        batch.put(key, value[:-1] + bytes((value[-1] ^ 1,)))
        region.store.write(batch)
    options = replace(OPTIONS, compaction=True)
    with Engine(":memory:", options, store=store.reopen()) as engine:
        region = engine.region(1)
        with pytest.raises(EngineError, match="checksum"):
            engine.compact(1, full=True, wait=True)
        assert records(region)["CHUNK"] == 4


def test_closing_ends_a_merge(tmp_path: Path) -> None:
    options = replace(OPTIONS, compaction=True, compaction_share=0.001, chunk_points=20)
    engine = Engine(tmp_path / "data", options)
    region = engine.region(1)
    for n in range(30):
        fill(region, 20 * n, 20 * n + 20, n + 1)
    stop = threading.Event()
    waiter = threading.Thread(target=stop.wait)
    waiter.start()
    expected = read(region)
    engine.compact(1, full=True)
    engine.close()
    stop.set()
    waiter.join()
    with Engine(tmp_path / "data", OPTIONS) as again:
        assert read(again.region(1)) == expected


def test_wide_groups_and_long_series_are_merged_in_pieces(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iotdb_engine.compaction_merge._BLOCK_BYTES", 2000)
    monkeypatch.setattr("iotdb_engine.compaction_merge._WINDOW_CHUNKS", 2)
    ids = range(1, 40)
    layout = make_layout(dict.fromkeys(ids, DataType.DOUBLE))
    rng = np.random.default_rng(1)
    for n in range(25):
        rows = [(int(t), [float(t * i + n) for i in ids]) for t in rng.integers(0, 900, 60)]
        region.write([make_fragment(layout, rows)], n + 1)
        region.flush()
    series = [(i, DataType.DOUBLE) for i in ids]
    before = plain_rows(region.read(series, T_MIN, T_MAX))
    region.compact(full=True)
    assert plain_rows(region.read(series, T_MIN, T_MAX)) == before
    assert len(before) // 100 < records(region)["TIMES"] < len(before) // 50
    merges = region.compactor.stats.merges
    region.compact(full=True)
    assert region.compactor.stats.merges == merges


def test_a_series_dropped_after_a_merge_has_read_it_does_not_come_back(region: Region) -> None:
    """Its chunks are removed by range once: what is written later would stay, and be exported."""
    for number in range(4):
        fill(region, number * 10, number * 10 + 15, number + 1)
    opened, merge = region.compactor._open, region.compactor._merge
    merging: list[int] = []

    def merge_noted(*args: Any) -> None:
        merging.append(1)
        merge(*args)

    def open_then_drop() -> Any:
        found = opened()
        if len(merging) == 1 and 4 not in region.state.dropped:
            region.drop_series([(4, 5)], 9)
            region.flush()
        return found

    region.compactor._merge = merge_noted  # type: ignore[method-assign]
    region.compactor._open = open_then_drop  # type: ignore[method-assign]
    region.compact(full=True)
    view = region.store.view()
    prefix = kind_prefix(region.id, Kind.CHUNK)
    stored = {split_chunk_key(key).series_id for key, _ in view.scan(prefix, prefix_end(prefix))}
    view.release()
    assert stored == {1, 2, 3}


def stored_rows(region: Region) -> int:
    view = region.store.view()
    prefix = kind_prefix(region.id, Kind.TIMES)
    rows = sum(unpack_times(value).rows for _, value in view.scan(prefix, prefix_end(prefix)))
    view.release()
    return rows


def test_what_expires_of_a_chunk_that_is_settled_goes_from_the_disk(region: Region) -> None:
    fill(region, 0, 100, 1)
    region.compact(full=True)
    NOW[0] = 1000
    region.set_ttl(1, 5, 950, 2)
    region.flush()
    region.compact(full=True)
    assert stored_rows(region) == 50
    NOW[0] = 1010
    region.compact(full=True)
    assert stored_rows(region) == 40
    assert [time for time, *_ in read(region)] == list(range(60, 100))


@pytest.mark.parametrize(("first", "hit"), [(98, True), (99, True), (100, False)])
def test_a_tombstone_that_hides_the_last_row_of_a_chunk_is_not_idle(
    region: Region, first: int, hit: bool
) -> None:
    fill(region, 0, 100, 1)
    region.delete([1], first, 200, 2)
    region.flush()
    (tombstone,) = region.state.tombstones
    compactor = region.compactor
    with compactor._open() as one:
        assert compactor._is_hit(one, 1, tombstone.sequence, (first, 200)) is hit
        assert not compactor._is_hit(one, 1, 0, (first, 200))
