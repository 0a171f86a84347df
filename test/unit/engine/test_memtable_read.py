"""Windows of a memory table, whatever order its rows came in, and how much a read of it holds."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from harness.fragments import Row, make_fragment, make_layout
from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions, Fragment, memtable_view
from iotdb_engine.cache import ByteCache
from iotdb_engine.memtable import Memtable
from iotdb_engine.memtable_pages import PageSize, pages_of
from iotdb_engine.memtable_read import MemSeries, capture
from iotdb_engine.memtable_view import Spans

KINDS = {1: DataType.INT64, 2: DataType.DOUBLE, 3: DataType.TEXT, 4: DataType.BOOLEAN}
LAYOUTS = [make_layout({i: KINDS[i] for i in ids}) for ids in ((1, 2, 3), (1, 2), (2, 4), (4,))]
SIZE = PageSize(6, 40)
SPAN = 120


def cell(rng: random.Random, kind: DataType) -> Any:
    if rng.random() < 0.2:
        return None
    number = rng.randrange(1000)
    return {
        DataType.INT64: number,
        DataType.DOUBLE: number / 8,
        DataType.TEXT: b"%d" % number,
        DataType.BOOLEAN: number % 2 == 0,
    }[kind]


class Filled:
    """A memory table, and what it should say."""

    def __init__(self, rng: random.Random, disorder: int, layouts: list[Any]) -> None:
        self.table = Memtable()
        self.rows: dict[int, dict[int, Any]] = {i: {} for i in KINDS}
        clock = 0
        for _ in range(rng.randrange(1, 60)):
            clock += 2
            if rng.random() < 0.08:
                low = rng.randrange(SPAN)
                ids = rng.sample(sorted(KINDS), 2)
                self.table.delete(ids, low, low + 15)
                for i in ids:
                    for time in range(low, low + 16):
                        self.rows[i].pop(time, None)
                continue
            layout = rng.choice(layouts)
            rows: list[Row] = []
            for _ in range(rng.choice((1, 1, 4))):
                time = (clock + rng.randrange(-disorder, disorder + 1)) % SPAN
                cells = [cell(rng, kind) for kind in layout.types]
                rows.append((time, cells))
                for i, value in zip(layout.series_ids, cells, strict=True):
                    if value is not None:
                        self.rows[i][time] = value
            self.table.append([make_fragment(layout, rows)])

    def within(self, series_id: int, low: int, high: int) -> dict[int, Any]:
        return {t: v for t, v in sorted(self.rows[series_id].items()) if low <= t <= high}


def cells_of(series: MemSeries, low: int, high: int) -> dict[int, Any]:
    run = series.window(low, high)
    if run is None:
        return {}
    assert bool((np.diff(run.times) > 0).all())
    ok = [True] * len(run.times) if run.valid is None else run.valid.tolist()
    cells = zip(run.times.tolist(), run.values.tolist(), ok, strict=True)
    return {time: value for time, value, good in cells if good}


@pytest.fixture(params=["as it is", "small blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "small blocks":
        monkeypatch.setattr(memtable_view, "_BLOCK_CELLS", 30)
        monkeypatch.setattr(memtable_view, "_MILD_OVERLAP", 1.2)
        monkeypatch.setattr(memtable_view, "_SAMPLE_STEP", 2)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("disorder", [0, 6, SPAN])
@pytest.mark.parametrize("cache_bytes", [None, 2000, 1 << 20])
@pytest.mark.parametrize("layouts", [LAYOUTS[1:2], LAYOUTS])
def test_windows_hold_what_came_last(
    disorder: int, cache_bytes: int | None, layouts: list[Any]
) -> None:
    for seed in range(6):
        rng = random.Random(seed)
        filled = Filled(rng, disorder, layouts)
        cache = None if cache_bytes is None else ByteCache(cache_bytes)
        for _ in range(2):  # the second time with what the first left in the cache
            snapshot = capture(filled.table, sorted(KINDS), None, SIZE)
            if snapshot is None:
                continue
            found = {i: snapshot.series(i, cache) for i in KINDS}
            present = {i: one for i, one in found.items() if one is not None}
            if rng.random() < 0.5:
                MemSeries.read_together([*present.values()])
            for i in KINDS:
                if i not in present:
                    assert not filled.rows[i]
            for low, high in windows_of(rng):
                for i, one in present.items():
                    assert cells_of(one, low, high) == filled.within(i, low, high)
            for i, one in present.items():
                check_newest(filled, i, one, rng.randrange(SPAN))
                check_spans(filled, i, one.spans(T_MIN, T_MAX))
                check_touched(filled, i, one, rng)


def windows_of(rng: random.Random) -> list[tuple[int, int]]:
    borders = [T_MIN, *sorted(rng.sample(range(SPAN), 6)), T_MAX]
    steps = [(low + 1, high) for low, high in pairwise(borders)]
    return [(T_MIN, T_MAX), *steps, *steps[::-1], (50, 50)]


def check_newest(filled: Filled, series_id: int, series: MemSeries, floor: int) -> None:
    for low in (T_MIN, floor):
        left = filled.within(series_id, low, T_MAX)
        expected = max(left.items()) if left else None
        assert series.newest(low) == expected


def check_spans(filled: Filled, series_id: int, spans: Spans) -> None:
    """Every row lies in a span."""
    for time in filled.rows[series_id]:
        assert bool(((spans.lows <= time) & (spans.highs >= time)).any())


def check_touched(filled: Filled, series_id: int, series: MemSeries, rng: random.Random) -> None:
    lows = np.sort(np.array([rng.randrange(SPAN) for _ in range(8)]))
    highs = lows + np.array([rng.randrange(20) for _ in range(8)])
    touched = series.touched(lows, highs)
    for low, high, hit in zip(lows.tolist(), highs.tolist(), touched.tolist(), strict=True):
        if filled.within(series_id, low, high):
            assert hit


def test_pages_are_the_same_whatever_was_asked_for_before() -> None:
    rng = random.Random(5)
    for _ in range(30):
        filled = Filled(rng, 20, LAYOUTS[:1])
        for rows in filled.table.entries.values():
            for _ in range(12):
                length = rng.randrange(1, len(rows.ordinals) + 1)
                known, rows.pages = rows.pages, None
                expected = pages_of(rows, length, SIZE)
                rows.pages = known
                found = pages_of(rows, length, SIZE)
                assert found.closed == expected.closed
                for got, want in zip(found[:4], expected[:4], strict=True):
                    assert got.tolist() == want.tolist()


ROWS, TABLET = 600_000, 500
BIG = make_layout({1: DataType.DOUBLE, 2: DataType.DOUBLE, 3: DataType.INT64})
OPTIONS = EngineOptions(read_cache_bytes=1 << 20, compaction=False)


def tablet(times: npt.NDArray[np.int64]) -> Fragment:
    body = np.stack([times * 1.0, times * 2.0]).astype(">f8").tobytes()
    packed = times.astype(">i8").tobytes()
    return Fragment(0, BIG, len(times), packed, body + packed)


@pytest.mark.parametrize("how", ["in order", "30 % late", "any order"])
def test_a_read_holds_a_piece_of_the_memory_table_not_all(how: str) -> None:
    """The bytes that a read allocates, counted, do not depend on how much is in memory."""
    rng = np.random.default_rng(3)
    times = np.arange(ROWS)
    if how == "30 % late":
        late = rng.random(ROWS) < 0.3
        times = np.argsort(times + np.where(late, rng.integers(0, 5000, ROWS), 0), kind="stable")
    elif how == "any order":
        times = rng.permutation(ROWS)
    series = list(zip(BIG.series_ids, BIG.types, strict=True))
    with Engine(":memory:", OPTIONS) as engine:
        region = engine.region(0)
        for number, lo in enumerate(range(0, ROWS, TABLET)):
            region.write([tablet(times[lo : lo + TABLET])], number + 1)
        limit = 4 * 8 * ROWS // 5  # a fifth of all, decoded
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memtable_view, "_BLOCK_CELLS", 100_000)
            patch.setattr(memtable_view, "_HELD_CELLS", 60_000)
            for descending in (False, True):
                tracemalloc.start()
                rows, total = 0, 0.0
                for batch in region.read(series, T_MIN, T_MAX, descending=descending):
                    rows += len(batch.times)
                    total += float(batch.columns[1].values.sum())
                    assert len(batch.times) <= OPTIONS.read_batch_rows
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert rows == ROWS
                assert total == ROWS * (ROWS - 1)
                assert peak < limit
            tracemalloc.start()
            sums = region.aggregate(series, T_MIN, T_MAX)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert [one.count for one in sums] == [ROWS] * 3
        assert peak < limit
