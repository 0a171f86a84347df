from __future__ import annotations

import random
from typing import Any

import pytest

from harness.fragments import make_fragment, make_layout
from iotdb_engine import T_MAX, T_MIN, DataType, memtable_flush
from iotdb_engine.memtable import Memtable
from iotdb_engine.memtable_flush import flush_groups
from iotdb_engine.memtable_pages import PageSize
from iotdb_engine.memtable_read import MemSnapshot, capture
from iotdb_engine.merge import Run
from iotdb_engine.tombstones import DroppedSeries

A = make_layout({1: DataType.INT64, 2: DataType.INT64})
B = make_layout({2: DataType.INT64, 3: DataType.INT64})
PAGE = PageSize(8192, 1 << 20)


def whole(snapshot: MemSnapshot, series_id: int) -> Run | None:
    series = snapshot.series(series_id, None)
    return None if series is None else series.window(T_MIN, T_MAX)


def rows_of(table: Memtable, series_id: int) -> dict[int, int]:
    snapshot = capture(table, [series_id], None, PAGE)
    if snapshot is None:
        return {}
    run = whole(snapshot, series_id)
    assert run is not None
    ok = [True] * len(run.times) if run.valid is None else run.valid.tolist()
    pairs = zip(run.times.tolist(), run.values.tolist(), ok, strict=True)
    return {t: v for t, v, good in pairs if good}


def test_equal_layouts_share_rows_whichever_object_they_are() -> None:
    table = Memtable()
    again = make_layout({1: DataType.INT64, 2: DataType.INT64})
    assert again is not A
    table.append([make_fragment(A, [(1, [1, 1])]), make_fragment(again, [(2, [2, 2])])])
    assert len(table.entries) == 1
    assert rows_of(table, 1) == {1: 1, 2: 2}


def test_the_same_layout_in_two_slots_is_kept_apart() -> None:
    table = Memtable()
    table.append([make_fragment(A, [(n, [n, n])], slot=n % 2) for n in range(4)])
    assert {slot for slot, _ in table.entries} == {0, 1}
    assert rows_of(table, 1) == {n: n for n in range(4)}
    snapshot = capture(table, [1], {1}, PAGE)
    assert snapshot is not None
    run = whole(snapshot, 1)
    assert run is not None
    assert run.times.tolist() == [1, 3]


def test_many_unshared_layouts_do_not_pile_up() -> None:
    table = Memtable()
    for n in range(3000):
        fresh = make_layout({1: DataType.INT64, 2: DataType.INT64})
        table.append([make_fragment(fresh, [(n, [n, n])])])
    assert len(table.entries) == 1
    assert len(table._pins) < 1500
    assert len(rows_of(table, 2)) == 3000


def test_order_of_arrival_decides_between_layouts_and_deletes() -> None:
    table = Memtable()
    table.append([make_fragment(A, [(1, [10, 10]), (2, [20, 20])])])
    table.append([make_fragment(B, [(1, [11, 11]), (3, [31, 31])])])
    table.delete([2], 2, 3)
    table.append([make_fragment(A, [(3, [32, 32])])])
    assert rows_of(table, 2) == {1: 11, 3: 32}
    assert rows_of(table, 1) == {1: 10, 2: 20, 3: 32}


def test_a_snapshot_does_not_see_what_comes_later() -> None:
    table = Memtable()
    table.append([make_fragment(A, [(1, [1, 1])])])
    snapshot = capture(table, [1], None, PAGE)
    assert snapshot is not None
    table.append([make_fragment(A, [(1, [9, 9]), (2, [9, 9])])])
    table.delete([1], 0, 9)
    run = whole(snapshot, 1)
    assert run is not None
    assert (run.times.tolist(), run.values.tolist()) == ([1], [1])


def test_flush_groups_hold_each_series_once_a_slot() -> None:
    table = Memtable()
    table.append([make_fragment(A, [(2, [20, 20]), (1, [10, 10])])])
    table.append([make_fragment(B, [(1, [11, 11])])])
    found = []
    for group in flush_groups(table, DroppedSeries([(3, 4)])):
        for block in group.blocks:
            assert block.valid is None
            for series_id, values in zip(block.series_ids, block.values.tolist(), strict=True):
                found.append((series_id, group.times.tolist(), values))
    assert sorted(found) == [(1, [1, 2], [10, 20]), (2, [1, 2], [11, 20])]


def test_columns_of_a_layout_share_their_times() -> None:
    table = Memtable()
    table.append([make_fragment(A, [(n, [n, None]) for n in (3, 1, 2)])])
    snapshot = capture(table, [1, 2], None, PAGE)
    assert snapshot is not None
    one, two = whole(snapshot, 1), whole(snapshot, 2)
    assert one is not None
    assert two is not None
    assert one.times.tolist() == two.times.tolist() == [1, 2, 3]
    assert two.valid is not None
    assert not two.valid.any()


@pytest.mark.parametrize("with_texts", [False, True])
def test_a_large_layout_is_flushed_in_pieces_that_follow_each_other(
    with_texts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memtable_flush, "_PIECE_PAGES", 2)
    monkeypatch.setattr(memtable_flush, "_PAGE", PageSize(4, 1000))
    kinds = {1: DataType.INT64, 2: DataType.TEXT if with_texts else DataType.INT64}
    layout = make_layout(kinds)
    rng = random.Random(4)
    table = Memtable()
    expected: dict[int, dict[int, Any]] = {1: {}, 2: {}}
    for number in range(60):
        time = number + rng.choice((0, 0, 0, -3))
        cells: list[Any] = [number, b"%d" % number if with_texts else -number]
        cells[1] = rng.choice((cells[1], cells[1], None))
        table.append([make_fragment(layout, [(time, cells)])])
        for series_id, cell in zip((1, 2), cells, strict=True):
            if cell is not None:
                expected[series_id][time] = cell
        if number == 40:
            table.delete([2], 10, 38)
            expected[2] = {t: v for t, v in expected[2].items() if not 10 <= t <= 38}
    found: dict[int, dict[int, Any]] = {1: {}, 2: {}}
    highest, groups = -100, 0
    for group in flush_groups(table, DroppedSeries([])):
        groups += 1
        assert group.times[0] > highest
        highest = int(group.times[-1])
        for block in group.blocks:
            ok = [True] * len(group.times) if block.valid is None else block.valid.tolist()
            for series_id, values in zip(block.series_ids, block.values.tolist(), strict=True):
                cells = zip(group.times.tolist(), values, ok, strict=True)
                found[series_id].update({t: v for t, v, good in cells if good})
    assert found == expected
    assert groups > 3
