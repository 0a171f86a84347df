from __future__ import annotations

import random

import numpy as np
import pytest

from cluster.query.result import ResultSet
from cluster.server import result_pager
from cluster.server.result_pager import ResultPager
from iotdb_engine import Column, ColumnBatch, DataType


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
