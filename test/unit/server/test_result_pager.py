from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from cluster.query.result import ResultSet, limited
from cluster.server import result_pager
from cluster.server.result_pager import ResultPager
from harness.fragments import make_fragment, make_layout
from iotdb_engine import T_MAX, T_MIN, Column, ColumnBatch, DataType, Engine, EngineOptions
from iotdb_engine.stored import StoredBatch


def batches(sizes: list[int]) -> list[ColumnBatch]:
    """Rows numbered through: a number column, and a text column with every third row null."""
    found = []
    at = 0
    for size in sizes:
        times = np.arange(at, at + size, dtype=np.int64)
        texts = np.empty(size, dtype=object)
        texts[:] = [b"x" * (int(t) % 50) for t in times]
        valid = times % 3 != 0
        found.append(
            ColumnBatch(times, (Column(DataType.INT64, times), Column(DataType.TEXT, texts, valid)))
        )
        at += size
    return found


def result(sizes: list[int]) -> ResultSet:
    return ResultSet(
        columns=["n", "t"],
        types=[DataType.INT64, DataType.TEXT],
        column_index=[0, 1],
        batches=iter(batches(sizes)),
    )


def stored(rows: int) -> list[Any]:
    """Rows numbered through, as batches of stored pages: 10 rows each, up to 4 a batch."""
    layout = make_layout({1: DataType.INT64})
    options = EngineOptions(page_points=10, chunk_points=40, read_batch_rows=10, compaction=False)
    with Engine(":memory:", options) as engine:
        region = engine.region(1)
        region.write([make_fragment(layout, [(n, [n]) for n in range(rows)])], 1)
        region.flush()
        return list(region.read([(1, DataType.INT64)], T_MIN, T_MAX, stored=True))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotdb_engine.stored._WORTH_ROWS", 1)
    monkeypatch.setattr("cluster.query.result.MAX_BATCH_ROWS", 10)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(
    ("page_rows", "expected"),
    [
        (40, [40, 40, 15]),
        (100, [95]),
        (50, [40, 40, 15]),
        (79, [40, 55]),
        (25, [20, 20, 20, 20, 15]),
        (10, [10] * 9 + [5]),
        (7, [7, 3] * 9 + [5]),
    ],
)
def test_stored_pages_go_whole_where_they_fit(page_rows: int, expected: list[int]) -> None:
    pager = ResultPager(ResultSet(["n"], [DataType.INT64], [0], iter(stored(95))))
    found = []
    while pager.has_more():
        found.append(pager.next_batches(page_rows))
    assert [sum(batch.rows for batch in page) for page in found] == expected
    whole = [isinstance(batch, StoredBatch) for page in found for batch in page]
    assert all(whole) or page_rows < 10
    times = [time for page in found for batch in page for time in batch.times.tolist()]
    assert times == list(range(95))


@pytest.mark.usefixtures("small_pages")
def test_stored_pages_that_are_too_large_together_are_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = stored(95)
    monkeypatch.setattr(result_pager, "MAX_PAGE_BYTES", whole[0].stored_bytes * 3 // 5)
    pager = ResultPager(ResultSet(["n"], [DataType.INT64], [0], iter(whole)))
    found = []
    while pager.has_more():
        found.append(pager.next_batches(1000))
    assert [sum(batch.rows for batch in page) for page in found[:4]] == [20, 20, 20, 20]
    assert all(isinstance(batch, StoredBatch) for page in found for batch in page)
    times = [time for page in found for batch in page for time in batch.times.tolist()]
    assert times == list(range(95))


@pytest.mark.usefixtures("small_pages")
def test_the_first_page_of_stored_pages_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_pager, "_FIRST_ROWS", 20)
    pager = ResultPager(ResultSet(["n"], [DataType.INT64], [0], iter(stored(95))))
    assert pager.first_rows(60) == 20
    rows = [sum(batch.rows for batch in pager.next_batches(size)) for size in (20, 60, 60)]
    assert rows == [20, 60, 15]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("offset", [0, 5, 10, 40, 44, 90, 95, 200])
@pytest.mark.parametrize("limit", [None, 0, 1, 10, 15, 40, 50, 1000])
def test_some_rows_of_stored_pages(offset: int, limit: int | None) -> None:
    found = list(limited(iter(stored(95)), offset, limit))
    end = None if limit is None else offset + limit
    times = [time for batch in found for time in batch.times.tolist()]
    assert times == list(range(95))[offset:end]
    values = [value for batch in found for value in batch.columns[0].values.tolist()]
    assert values == times
    for batch in found:
        assert isinstance(batch, StoredBatch) or batch.rows <= 10


@pytest.mark.parametrize("seed", range(20))
def test_pages_hold_every_row_once_and_are_full(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.choice([0, 1, 3, 10, 40]) for _ in range(rng.randint(0, 10))]
    page_rows = rng.randint(1, 30)
    pager = ResultPager(result(sizes))
    pages = []
    while pager.has_more():
        page = pager.next_page(page_rows)
        assert page is not None
        pages.append(page)
    assert pager.next_page(page_rows) is None
    times = [time for page in pages for time in page.times.tolist()]
    assert times == list(range(sum(sizes)))
    assert all(len(page.times) == page_rows for page in pages[:-1])
    for page in pages:
        number, text = page.columns
        assert number.values.tolist() == page.times.tolist()
        valid = text.valid if text.valid is not None else np.ones(len(page.times), bool)
        assert valid.tolist() == [time % 3 != 0 for time in page.times.tolist()]


def test_a_page_is_cut_by_bytes_but_a_huge_row_still_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(result_pager, "MAX_PAGE_BYTES", 200)
    pager = ResultPager(result([100]))
    sizes = []
    while (page := pager.next_page(1000)) is not None:
        sizes.append(len(page.times))
    assert sum(sizes) == 100
    assert max(sizes) < 15
    monkeypatch.setattr(result_pager, "MAX_PAGE_BYTES", 1)
    pager = ResultPager(result([3]))
    assert [len(pager.next_page(10).times) for _ in range(3)] == [1, 1, 1]  # type: ignore[union-attr]
