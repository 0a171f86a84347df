from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.scan.time_set import ALL_TIMES, TimeSet
from iotdb_engine.types import T_MAX, T_MIN

PROBES = [T_MIN, T_MIN + 1, *range(-6, 14), T_MAX - 1, T_MAX]
ends = st.sampled_from([T_MIN - 1, *PROBES, T_MAX + 1])
interval_lists = st.lists(st.tuples(ends, ends), max_size=5)


def members(times: TimeSet) -> set[int]:
    return {t for t in PROBES if any(low <= t <= high for low, high in times.intervals)}


def slow(intervals):
    return {t for t in PROBES if any(low <= t <= high for low, high in intervals)}


@given(interval_lists)
def test_union_of_any_intervals_is_normal(intervals):
    times = TimeSet.of(intervals)
    assert members(times) == slow(intervals)
    flat = [end for interval in times.intervals for end in interval]
    assert flat == sorted(flat)
    assert all(T_MIN <= end <= T_MAX for end in flat)
    gaps = zip(times.intervals, times.intervals[1:], strict=False)
    assert all(a[1] + 1 < b[0] for a, b in gaps)


@given(interval_lists, interval_lists)
def test_set_operations(first, second):
    a, b = TimeSet.of(first), TimeSet.of(second)
    assert members(a.union(b)) == slow(first) | slow(second)
    assert members(a.intersection(b)) == slow(first) & slow(second)
    assert members(a.complement()) == set(PROBES) - slow(first)
    assert a.complement().complement() == a
    assert a.union(a.complement()) == ALL_TIMES


@given(interval_lists)
def test_mask_and_hull(intervals):
    times = TimeSet.of(intervals)
    mask = times.mask(np.array(PROBES, dtype=np.int64))
    assert {t for t, inside in zip(PROBES, mask, strict=True) if inside} == members(times)
    hull = times.hull()
    assert len(hull.intervals) <= 1
    assert members(times) <= members(hull)
