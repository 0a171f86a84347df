"""Ranges taken from filters never exclude a value that passes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scan.bounds import are_all_passing, value_bounds
from cluster.scan.filters import AllOf, AnyOf, RowFilter, TimeFilter, ValueFilter
from cluster.scan.region_reads import RowsQuery, stream_rows
from cluster.scan.time_set import ALL_TIMES
from cluster.scan.value_tests import CompareTest, ContainsTest, InTest, Operator, compiled
from harness.fragments import make_fragment, make_layout
from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions
from iotdb_engine.page_source import PageSource
from iotdb_engine.sources import no_check
from iotdb_engine.types import BATCH_DTYPES

GE, LT, LE = Operator.GE, Operator.LT, Operator.LE
NUMBERS = [DataType.INT32, DataType.INT64, DataType.FLOAT, DataType.DOUBLE]


def compare(op: Operator, constant: float, column: int = 0) -> ValueFilter:
    return ValueFilter(column, CompareTest(DataType.DOUBLE, op, constant))


@given(st.sampled_from(NUMBERS), st.sampled_from(Operator), st.data())
def test_what_passes_is_within_the_bounds(
    kind: DataType, op: Operator, data: st.DataObject
) -> None:
    floats = kind in (DataType.FLOAT, DataType.DOUBLE)
    values = (
        st.floats(width=32) | st.sampled_from([0.1, 0.7])
        if floats
        else st.integers(-(1 << 31), (1 << 31) - 1)
    )
    constant, value = data.draw(values), data.draw(values)
    test = CompareTest(kind, op, constant)
    found = value_bounds(ValueFilter(0, test), 1)
    array = np.array([value]).astype(BATCH_DTYPES[kind])
    if found is None or not compiled(test)(array)[0] or math.isnan(array[0]):
        return
    assert found[0] is not None
    low, high = found[0]
    assert low is None or array[0].item() >= low
    assert high is None or array[0].item() <= high


@given(st.sampled_from(NUMBERS), st.sampled_from(Operator), st.booleans(), st.data())
def test_what_is_within_a_span_that_passes_does(
    kind: DataType, op: Operator, negated: bool, data: st.DataObject
) -> None:
    floats = kind in (DataType.FLOAT, DataType.DOUBLE)
    one = (
        st.floats(width=32) | st.sampled_from([0.1, 0.7])
        if floats
        else st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-3, 3)
    )
    constant = data.draw(one)
    values = np.array(data.draw(st.lists(one, min_size=1))).astype(BATCH_DTYPES[kind])
    if np.isnan(values.astype(np.float64)).any():
        return
    row_filter = ValueFilter(0, CompareTest(kind, op, constant), negated)
    if are_all_passing(row_filter, (values.min().item(), values.max().item())):
        assert compiled(row_filter.test)(values).all()
        assert not negated


def test_a_span_passes() -> None:
    above, below = compare(Operator.GT, -5.0), compare(Operator.LE, 9.0)
    assert are_all_passing(AllOf((above, below)), (-4.0, 9.0))
    assert not are_all_passing(AllOf((above, below)), (-5.0, 9.0))
    assert not are_all_passing(AllOf((above, TimeFilter(ALL_TIMES))), (-4.0, 9.0))
    assert not are_all_passing(AnyOf((above, below)), (-4.0, 9.0))
    assert not are_all_passing(compare(Operator.GT, math.nan), (1.0, 2.0))


@pytest.mark.parametrize(
    ("row_filter", "bounds"),
    [
        (None, None),
        (TimeFilter(ALL_TIMES), None),
        (compare(Operator.GT, 3.0), [(3.0, None), None]),
        (compare(Operator.NE, 3.0), None),
        (compare(Operator.GT, math.nan), None),
        (ValueFilter(0, CompareTest(DataType.DOUBLE, Operator.GT, 3.0), negated=True), None),
        (ValueFilter(1, InTest(DataType.INT32, (4, 2, 9))), [None, (2, 9)]),
        (ValueFilter(0, ContainsTest(b"x")), None),
        (AnyOf((compare(Operator.GT, 3.0), compare(Operator.LT, 1.0))), None),
        (
            AllOf(
                (compare(Operator.GE, 3.0), compare(Operator.LT, 8.0), compare(Operator.LE, 9.0))
            ),
            [(3.0, 8.0), None],
        ),
        (
            AllOf((compare(Operator.EQ, 3.0, 1), AnyOf((compare(Operator.LT, 0.0),)))),
            [None, (3.0, 3.0)],
        ),
    ],
)
def test_bounds_of_filters(row_filter: RowFilter | None, bounds: object) -> None:
    assert value_bounds(row_filter, 2) == bounds


def test_a_filtered_scan_leaves_pages_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {1: DataType.DOUBLE, 2: DataType.DOUBLE}
    options = EngineOptions(page_points=10, chunk_points=50, read_batch_rows=7, compaction=False)
    with Engine(":memory:", options) as engine:
        region = engine.region(1)
        rows = [(n, [math.nan if n == 55 else n, -n]) for n in range(200)]
        region.write([make_fragment(make_layout(kinds), rows)], 1)
        region.flush()
        decoded = set()
        original = PageSource.values
        monkeypatch.setattr(
            PageSource,
            "values",
            lambda self, key, chunk, number, *more: (
                decoded.add((key, number)) or original(self, key, chunk, number, *more)
            ),
        )
        query = RowsQuery(tuple(kinds.items()), 2, T_MIN, T_MAX, False, compare(Operator.GT, 184.0))
        found = [
            time
            for batch in stream_rows(region, query, None, None, no_check)
            for time in batch.times.tolist()
        ]
        assert found == [55, *range(185, 200)]  # NaN is above every number
        assert 0 < len(decoded) <= 8  # of 40 pages
