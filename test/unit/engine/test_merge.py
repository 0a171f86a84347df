from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.fragments import plain_rows
from iotdb_engine import T_MAX, T_MIN, DataType
from iotdb_engine.merge import Aligner, Run, cut_windows, last_wins, merge_runs, order_rows

times = st.integers(0, 12) | st.sampled_from([T_MIN, T_MAX])
cells = st.none() | st.integers(0, 99)


def make_run(data: dict[int, int | None]) -> Run:
    keys = sorted(data)
    valid = np.array([data[t] is not None for t in keys], bool)
    values = np.array([data[t] or 0 for t in keys], np.int64)
    return Run(np.array(keys, np.int64), values, None if valid.all() else valid)


def plain(run: Run) -> dict[int, int]:
    valid = np.ones(len(run.times), bool) if run.valid is None else run.valid
    return dict(zip(run.times[valid].tolist(), run.values[valid].tolist(), strict=True))


@given(st.lists(st.tuples(times, cells), max_size=30))
def test_of_equal_times_the_last_value_wins(rows: list[tuple[int, int | None]]) -> None:
    raw = np.array([t for t, _ in rows], np.int64)
    valid = np.array([v is not None for _, v in rows], bool)
    values = np.array([v or 0 for _, v in rows], np.int64)
    run = last_wins(order_rows(raw), values, None if valid.all() else valid)
    assert (np.diff(run.times.astype(object)) > 0).all()
    expected = {time: value for time, value in rows if value is not None}
    assert plain(run) == expected


@given(st.lists(st.dictionaries(times, cells, max_size=8), min_size=1, max_size=5))
def test_merging_is_updating_a_dictionary_in_order_of_priority(
    sources: list[dict[int, int | None]],
) -> None:
    merged = merge_runs([make_run(source) for source in sources])
    expected = {}
    for source in sources:
        expected.update({t: v for t, v in source.items() if v is not None})
    assert plain(merged) == expected
    assert (np.diff(merged.times.astype(object)) > 0).all()


@given(
    st.lists(st.tuples(times, times, st.integers(1, 9)), max_size=12),
    times,
    times,
    st.integers(1, 30),
    st.booleans(),
)
def test_windows_cover_the_range_exactly(
    pages: list[tuple[int, int, int]], a: int, b: int, target: int, descending: bool
) -> None:
    t_min, t_max = min(a, b), max(a, b)
    pages = [(min(p), max(p), n) for *p, n in pages]
    pages = [p for p in pages if p[1] >= t_min and p[0] <= t_max]
    columns = [np.array([p[i] for p in pages], np.int64) for i in range(3)]
    windows = cut_windows(*columns, t_min, t_max, target=target, descending=descending)
    if not pages:
        assert windows == []
        return
    if descending:
        windows = windows[::-1]
    assert windows[0][0] == t_min
    assert windows[-1][1] == t_max
    for (_, end), (start, _) in pairwise(windows):
        assert start == end + 1
    assert all(low <= high for low, high in windows)


def test_windows_end_where_pages_do() -> None:
    lows = np.arange(0, 1000, 100)
    windows = cut_windows(lows, lows + 99, np.full(10, 50), 0, 2000, target=100, descending=False)
    assert windows == [(0, 99), (100, 299), (300, 499), (500, 699), (700, 899), (900, 2000)]


@given(
    st.lists(st.none() | st.dictionaries(times, cells, max_size=8), min_size=1, max_size=4),
    st.booleans(),
)
def test_alignment_is_the_union_of_rows_with_a_value(
    sources: list[dict[int, int | None] | None], descending: bool
) -> None:
    runs = [None if source is None else make_run(source) for source in sources]
    aligner = Aligner(runs, [DataType.INT64] * len(runs))
    size = len(aligner.times)
    steps = [(lo, min(lo + 3, size)) for lo in range(0, size, 3)]
    if descending:
        steps.reverse()
    found = plain_rows(aligner.batch(lo, hi, descending=descending) for lo, hi in steps)
    present = [{t: v for t, v in (s or {}).items() if v is not None} for s in sources]
    union = sorted({t for source in present for t in source}, reverse=descending)
    assert found == [(t, tuple(source.get(t) for source in present)) for t in union]


def test_columns_with_the_same_times_are_passed_on_without_copying() -> None:
    shared = np.arange(100)
    runs = [Run(shared, np.arange(100.0), None), Run(shared, np.arange(100.0) * 2, None)]
    batch = Aligner(runs, [DataType.DOUBLE] * 2).batch(10, 20, descending=False)
    assert batch.columns[1].values.base is runs[1].values
    assert batch.columns[0].valid is None
