"""Whole pages as they are stored: the same rows, and only where nothing else touches them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.fragments import make_fragment, make_layout, plain_rows
from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions, Fragment, Region
from iotdb_engine.encoding import decode_pages_into, decode_values
from iotdb_engine.errors import Corruption
from iotdb_engine.key_format import Kind, kind_prefix, prefix_end
from iotdb_engine.page_source import PageSource
from iotdb_engine.store import Batch, MemoryStore
from iotdb_engine.stored import StoredBatch, StoredColumn
from iotdb_engine.types import BATCH_DTYPES

KINDS = list(DataType)
LAYOUT = make_layout(dict(enumerate(KINDS, start=1)))
SERIES = list(zip(LAYOUT.series_ids, LAYOUT.types, strict=True))
SMALL = EngineOptions(page_points=10, chunk_points=40, read_batch_rows=10, compaction=False)


def cells(n: int) -> list[Any]:
    return [n % 2 == 0, n - 7, n << 40, n / 4, round(n * 0.37, 2), b"t%d" % (n % 3)]


@pytest.fixture(autouse=True)
def small_pages_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotdb_engine.stored._WORTH_ROWS", 1)


@pytest.fixture
def region() -> Iterator[Region]:
    with Engine(":memory:", SMALL) as engine:
        yield engine.region(1)


def write(region: Region, lo: int, hi: int, index: int, *, step: int = 1) -> None:
    rows = [(n, cells(n)) for n in range(lo, hi, step)]
    region.write([make_fragment(LAYOUT, rows)], index)


def batches(region: Region, t_min: int = T_MIN, t_max: int = T_MAX, **more: Any) -> list[Any]:
    found = list(region.read(SERIES, t_min, t_max, stored=True, **more))
    assert plain_rows(found) == plain_rows(region.read(SERIES, t_min, t_max, **more))
    return found


def stored_rows(found: list[Any]) -> int:
    return sum(len(batch.times) for batch in found if isinstance(batch, StoredBatch))


def test_pages_come_as_they_are_stored(region: Region) -> None:
    write(region, 0, 100, 1)
    region.flush()
    found = list(region.read(SERIES, T_MIN, T_MAX, stored=True))
    assert [type(batch) for batch in found] == [StoredBatch] * 3  # one for each chunk
    assert [batch.pages for batch in found] == [4, 4, 2]
    assert [batch.rows_after for batch in found] == [60, 20, 0]
    assert not any("times" in batch.__dict__ for batch in found)
    expected = plain_rows(region.read(SERIES, T_MIN, T_MAX))
    check_pages(found, expected)
    alone = [page for batch in found for page in batch.each_page()]
    assert [batch.pages for batch in alone] == [1] * 10
    assert [batch.last_time for batch in alone] == list(range(9, 100, 10))
    assert [batch.rows_after for batch in alone] == list(range(90, -1, -10))
    check_pages(alone, expected)


def check_pages(found: list[Any], expected: list[Any]) -> None:
    """What each batch has stored, and has decoded, are the next of some rows."""
    at = 0
    for batch in found:
        times = np.empty(batch.rows, np.int64)
        decode_pages_into(DataType.INT64, batch.stored_times, times)
        assert (
            times.tolist()
            == batch.times.tolist()
            == [time for time, _ in expected[at:]][: batch.rows]
        )
        assert batch.last_time == times[-1]
        for column in batch.columns:
            assert isinstance(column, StoredColumn)
            assert "values" not in column.__dict__
            place = KINDS.index(column.type)
            wanted = [row[place] for _, row in expected[at : at + batch.rows]]
            values: list[Any] = []
            for page in column.stored:
                values += decode_values(
                    column.type, page.encoding, page.data, sum(page.page_rows)
                ).tolist()
            assert values == wanted
            if column.type is not DataType.TEXT:
                out = np.empty(batch.rows, BATCH_DTYPES[column.type])
                triples = [(one.encoding, one.data, sum(one.page_rows)) for one in column.stored]
                decode_pages_into(column.type, triples, out)
                assert out.tolist() == wanted
            assert column.values.tolist() == wanted
        at += batch.rows
    assert at == len(expected)


def test_a_batch_is_split_between_pages(region: Region) -> None:
    write(region, 0, 40, 1)
    region.flush()
    (whole,) = region.read(SERIES, T_MIN, T_MAX, stored=True)
    expected = plain_rows([whole])
    for rows, count in ((1, 1), (10, 1), (19, 1), (20, 2), (39, 3)):
        first, rest = whole.split(rows)
        assert (first.pages, rest.pages) == (count, 4 - count)
        assert (first.rows_after, rest.rows_after) == (rest.rows, 0)
        assert first.stored_bytes + rest.stored_bytes >= whole.stored_bytes
        check_pages([first, rest], expected)
    assert whole.split(40) == (whole, None)
    middle = whole.split(10)[1].split(20)[0]
    check_pages([middle], expected[10:30])


def test_pages_that_are_not_alike_are_not_joined() -> None:
    options = replace(SMALL, page_points=8, chunk_points=64, read_batch_rows=8)
    layout = make_layout({1: DataType.DOUBLE, 2: DataType.INT64})
    with Engine(":memory:", options) as engine:
        region = engine.region(1)
        rng = np.random.default_rng(3)
        floats = [
            *np.round(rng.normal(0, 3, 24), 2),  # hundredths
            *np.round(rng.normal(0, 3, 8), 1),  # tenths
            *rng.normal(0, 3, 8),  # no decimals
            *np.round(rng.normal(0, 3000, 24), 2),  # in wider integers
        ]
        whole = [*range(32), *range(1 << 20, (1 << 20) + 16), *range(16)]
        rows = [(n, [floats[n], whole[n]]) for n in range(64)]
        region.write([make_fragment(layout, rows)], 1)
        region.flush()
        series = list(zip(layout.series_ids, layout.types, strict=True))
        (batch,) = region.read(series, T_MIN, T_MAX, stored=True)
        counts = [[len(one.ends) for one in pages] for pages in batch.stored]
        assert [sum(one) for one in counts] == [8, 8]
        assert len(counts[0]) > 2
        assert counts[1] == [4, 2, 2]
        assert plain_rows([batch]) == plain_rows(region.read(series, T_MIN, T_MAX))
        for rows_wanted in range(8, 64, 8):
            first, rest = batch.split(rows_wanted)
            assert first.rows == rows_wanted
            assert plain_rows([first, rest]) == plain_rows([batch])


def test_wide_batches_stay_short(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotdb_engine.stored.MOST_CELLS", 25 * len(SERIES))
    write(region, 0, 100, 1)
    region.flush()
    assert [batch.rows for batch in batches(region)] == [20, 20, 20, 20, 20]


def test_what_something_else_touches_comes_merged(region: Region) -> None:
    write(region, 0, 100, 1)
    region.flush()
    assert stored_rows(batches(region)) == 100
    write(region, 35, 36, 2)  # in memory: the page of 30 to 39
    assert stored_rows(batches(region)) == 90
    region.delete([2], 50, 52, 3)
    assert stored_rows(batches(region)) == 80
    assert stored_rows(batches(region, 5, 94)) == 60
    region.flush()
    assert stored_rows(batches(region)) < 80


def test_rows_between_pages_are_not_lost(region: Region) -> None:
    write(region, 0, 1000, 1, step=10)
    region.flush()
    write(region, 95, 96, 2)  # between the first page and the second
    found = batches(region)
    assert sum(len(batch.times) for batch in found) == 101
    assert stored_rows(found) >= 80


def test_order_and_limits(region: Region) -> None:
    write(region, 0, 100, 1)
    region.flush()
    assert stored_rows(batches(region, descending=True)) == 0
    found = batches(region, max_rows=25)
    assert (stored_rows(found), sum(len(batch.times) for batch in found)) == (20, 25)
    assert [(batch.rows, batch.rows_after) for batch in found[:1]] == [(20, 5)]


def test_pages_with_nulls_and_series_cut_otherwise_come_merged(region: Region) -> None:
    write(region, 0, 20, 1)
    rows = [(n, [None, *cells(n)[1:]]) for n in range(20, 40)]
    region.write([make_fragment(LAYOUT, rows)], 2)
    region.flush()
    assert stored_rows(batches(region)) == 0
    other = make_layout({9: DataType.DOUBLE})
    region.write([make_fragment(other, [(n, [n / 2]) for n in range(5, 300)])], 3)
    region.flush()
    series = [SERIES[1], (9, DataType.DOUBLE)]
    found = list(region.read(series, T_MIN, T_MAX, stored=True))
    assert stored_rows(found) == 0
    assert plain_rows(found) == plain_rows(region.read(series, T_MIN, T_MAX))


def test_small_pages_are_not_worth_it(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    write(region, 0, 100, 1)
    region.flush()
    monkeypatch.setattr("iotdb_engine.stored._WORTH_ROWS", 11)
    assert stored_rows(batches(region)) == 0


def test_values_can_be_asked_for_after_the_read_is_over(region: Region) -> None:
    write(region, 0, 30, 1)
    region.flush()
    expected = plain_rows(region.read(SERIES, T_MIN, T_MAX))
    found = list(region.read(SERIES, T_MIN, T_MAX, stored=True))
    region.delete([1, 2, 3, 4, 5, 6], T_MIN, T_MAX, 2)
    region.flush()
    assert plain_rows(found) == expected


def test_a_damaged_page_is_refused() -> None:
    layout = make_layout({1: DataType.DOUBLE})
    values = np.random.default_rng(1).random(3000).astype(">f8")  # too large to lie inline
    times = np.arange(3000, dtype=">i8")
    store = MemoryStore()
    with Engine(":memory:", store=store) as engine:
        region = engine.region(1)
        region.write([Fragment(0, layout, 3000, times.tobytes(), values.tobytes())], 1)
        region.flush()
        prefix = kind_prefix(1, Kind.DATA)
        ((key, body),) = store.view().scan(prefix, prefix_end(prefix))
        damage = Batch()
        damage.put(key, body[:-1] + bytes((body[-1] ^ 1,)))
        store.write(damage)
        with pytest.raises(Corruption, match="page 0"):
            list(region.read([(1, DataType.DOUBLE)], T_MIN, T_MAX, stored=True))


@pytest.mark.parametrize("few", [1, 32])
def test_pages_that_were_read_are_kept_without_their_chunks(
    monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("iotdb_engine.stored._FEW_SERIES", few)
    layout = make_layout({1: DataType.DOUBLE, 2: DataType.DOUBLE})
    values = np.random.default_rng(1).random((2, 20_000)).astype(">f8")
    times = np.arange(20_000, dtype=">i8")
    with Engine(":memory:") as engine:
        region = engine.region(1)
        region.write([Fragment(0, layout, 20_000, times.tobytes(), values.tobytes())], 1)
        region.flush()
        series = [(1, DataType.DOUBLE), (2, DataType.DOUBLE)]
        first = list(region.read(series, T_MIN, T_MAX, stored=True))
        with monkeypatch.context() as patch:
            patch.setattr(PageSource, "_record", None)
            again = list(region.read(series, T_MIN, T_MAX, stored=True))
        assert [batch.stored for batch in again] == [batch.stored for batch in first]
        assert stored_rows(again) == 20_000
        for batch in again:
            assert all(type(one.data) is bytes for pages in batch.stored for one in pages)
        plain = region.read(series, T_MIN, T_MAX)
        assert plain_rows(again) == plain_rows(plain)
    with Engine(":memory:", replace(SMALL, read_cache_bytes=0)) as engine:
        region = engine.region(1)
        write(region, 0, 100, 1)
        region.flush()
        for _ in range(2):
            assert stored_rows(batches(region)) == 100


def test_any_history_reads_the_same() -> None:
    seen = []
    for seed in range(20):
        rng = random.Random(seed)
        with Engine(":memory:", SMALL) as engine:
            seen.append(stored_rows_of_a_history(engine.region(1), rng))
    assert sum(count > 0 for count in seen) > 10, seen


def stored_rows_of_a_history(region: Region, rng: random.Random) -> int:
    found = end = 0
    for index in range(1, 25):
        lo = end if rng.random() < 0.9 else rng.randrange(0, 400)
        action = rng.random()
        if action < 0.5:
            hi = lo + rng.randrange(1, 80)
            write(region, lo, hi, index, step=rng.choice((1, 1, 3)))
            end = max(end, hi)
        elif action < 0.6:
            chosen = rng.sample(LAYOUT.series_ids, rng.randrange(1, 7))
            region.delete(chosen, lo - 40, lo - rng.randrange(0, 40), index)
        else:
            region.flush()
        t_min = rng.choice((T_MIN, rng.randrange(0, 300)))
        t_max = rng.choice((T_MAX, 300 + rng.randrange(0, 300)))
        found += stored_rows(batches(region, t_min, t_max))
    return found
