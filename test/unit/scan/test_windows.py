from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.scan.windows import Needs, WindowAggregates, Windows
from harness.memory_database import column_of, slow_aggregate
from iotdb_engine.types import T_MAX, T_MIN, Aggregate, DataType

NUMBERS = st.integers(-5, 5)
VALUES = {
    DataType.INT32: NUMBERS,
    DataType.INT64: NUMBERS,
    DataType.FLOAT: st.one_of(NUMBERS.map(float), st.just(math.nan)),
    DataType.DOUBLE: st.one_of(NUMBERS.map(lambda n: n + 0.5), st.just(math.nan)),
    DataType.BOOLEAN: st.booleans(),
    DataType.TEXT: st.sampled_from([b"", b"a", b"bb"]),
}
FIELDS = ("min_time", "max_time", "first", "last", "minimum", "maximum", "total")


@st.composite
def points(draw):
    data_type = draw(st.sampled_from(list(DataType)))
    cells = draw(
        st.dictionaries(st.integers(-10, 20), st.one_of(st.none(), VALUES[data_type]), max_size=15)
    )
    return data_type, sorted(cells.items())


@st.composite
def window_lists(draw):
    start, count = draw(st.integers(-12, 10)), draw(st.integers(1, 8))
    step, length = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    lows = [start + n * step for n in range(count)]
    return Windows(np.array(lows, np.int64), np.array([low + length - 1 for low in lows], np.int64))


def same(a, b):
    return a == b or (a != a and b != b)


def check(result: WindowAggregates, windows: Windows, data_type: DataType, given_points) -> None:
    for number, (low, high) in enumerate(zip(*windows, strict=True)):
        inside = [(t, v) for t, v in given_points if v is not None and low <= t <= high]
        expected = slow_aggregate(data_type, inside)
        assert result.count[number] == expected.count
        if not expected.count:
            continue
        for field in FIELDS:
            array = getattr(result, field)
            wanted = getattr(expected, field)
            assert (array is None) == (wanted is None)
            if array is not None:
                assert same(array[number], wanted), field


@given(points(), window_lists(), st.integers(1, 4))
@settings(max_examples=400, deadline=None)
def test_rows_added_batch_by_batch_equal_the_slow_twin(given_points, windows, size):
    data_type, cells = given_points
    result = WindowAggregates.empty(data_type, len(windows.lows), Needs.EVERYTHING)
    for start in range(0, len(cells), size):
        part = cells[start : start + size]
        times = np.array([time for time, _ in part], np.int64)
        result.add_rows(windows, times, column_of(data_type, [value for _, value in part]))
    check(result, windows, data_type, cells)


@given(points(), window_lists(), st.randoms())
@settings(max_examples=300, deadline=None)
def test_merging_parts_in_any_order_equals_the_slow_twin(given_points, windows, random):
    data_type, cells = given_points
    parts = [[], [], []]
    for cell in cells:
        random.choice(parts).append(cell)
    random.shuffle(parts)
    result = WindowAggregates.empty(data_type, len(windows.lows), Needs.EVERYTHING)
    for part in parts:
        one = WindowAggregates.empty(data_type, len(windows.lows), Needs.EVERYTHING)
        times = np.array([time for time, _ in part], np.int64)
        one.add_rows(windows, times, column_of(data_type, [value for _, value in part]))
        result.merge(one)
    check(result, windows, data_type, cells)


@given(points(), window_lists(), st.integers(-8, 8), st.integers(0, 15))
def test_clipped_windows_see_their_part_only(given_points, windows, low, length):
    data_type, cells = given_points
    clipped = windows.clipped(low, low + length)
    result = WindowAggregates.empty(data_type, len(windows.lows), Needs.EVERYTHING)
    times = np.array([time for time, _ in cells], np.int64)
    result.add_rows(clipped, times, column_of(data_type, [value for _, value in cells]))
    inside = [(t, v) for t, v in cells if low <= t <= low + length]
    check(result, windows, data_type, inside)


def test_only_what_is_needed_is_held():
    result = WindowAggregates.empty(DataType.INT32, 2, Needs.TOTAL)
    assert (result.first, result.last, result.minimum) == (None, None, None)
    whole = WindowAggregates.empty(DataType.INT32, 1, Needs.EVERYTHING)
    whole.put(0, Aggregate(1, 2, 2, 3, 3, 3, 3, 3.0))
    slim = whole.only(Needs.LAST)
    assert (slim.first, slim.total, slim.minimum) == (None, None, None)
    assert slim.last is not None
    slim.last[0] = 9
    assert whole.last is not None
    assert whole.last.tolist() == [3]


def test_a_window_number_out_of_range_is_refused():
    whole = WindowAggregates.empty(DataType.INT32, 5, Needs.NOTHING)
    whole.count[4] = 1
    with pytest.raises(ValueError, match="out of range"):
        WindowAggregates.empty(DataType.INT32, 4, Needs.NOTHING).fill(whole.to_batch())


def test_the_widest_window():
    windows = Windows.single()
    result = WindowAggregates.empty(DataType.INT64, 1, Needs.EVERYTHING)
    result.add_rows(
        windows, np.array([T_MIN, 0, T_MAX], np.int64), column_of(DataType.INT64, [1, 2, 3])
    )
    assert result.count.tolist() == [3]
