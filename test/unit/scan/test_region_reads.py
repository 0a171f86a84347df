"""Reads of a real region against a dictionary: filters, pages, windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.scan.filters import AllOf, AnyOf, RowFilter, TimeFilter, ValueFilter
from cluster.scan.region_reads import (
    AggregatesQuery,
    RowsQuery,
    aggregates,
    last_points,
    rows_page,
    stream_rows,
)
from cluster.scan.time_set import TimeSet
from cluster.scan.value_tests import CompareTest, Operator
from cluster.scan.windows import Needs, Windows
from harness.memory_database import slow_aggregate
from iotdb_engine import Engine, EngineOptions, Fragment, Layout
from iotdb_engine.sources import no_check
from iotdb_engine.types import T_MAX, T_MIN, DataType

KEYS = ((1, DataType.INT32), (2, DataType.INT32))
TABLE = st.dictionaries(
    st.integers(-6, 12),
    st.tuples(*[st.one_of(st.none(), st.integers(-3, 3))] * 2).filter(any),
    max_size=14,
)
LEAF = st.one_of(
    st.builds(
        ValueFilter,
        st.integers(0, 1),
        st.builds(
            CompareTest, st.just(DataType.INT32), st.sampled_from(Operator), st.integers(-3, 3)
        ),
        st.booleans(),
    ),
    st.tuples(st.integers(-6, 12), st.integers(0, 9)).map(
        lambda pair: TimeFilter(TimeSet(((pair[0], pair[0] + pair[1]),)))
    ),
)
FILTER = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: AllOf(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
    ),
    max_leaves=5,
)
COMPARE = {
    Operator.EQ: lambda a, b: a == b,
    Operator.NE: lambda a, b: a != b,
    Operator.LT: lambda a, b: a < b,
    Operator.LE: lambda a, b: a <= b,
    Operator.GT: lambda a, b: a > b,
    Operator.GE: lambda a, b: a >= b,
}


def holds(row_filter: RowFilter | None, time, cells) -> bool:
    match row_filter:
        case None:
            return True
        case TimeFilter():
            return any(low <= time <= high for low, high in row_filter.times.intervals)
        case ValueFilter():
            value = cells[row_filter.column]
            passed = value is not None and COMPARE[row_filter.test.op](
                value, row_filter.test.constant
            )
            return value is not None and passed is not row_filter.negated
        case AllOf():
            return all(holds(part, time, cells) for part in row_filter.parts)
        case AnyOf():
            return any(holds(part, time, cells) for part in row_filter.parts)


@pytest.fixture(scope="module")
def engine():
    with Engine(":memory:", EngineOptions(page_points=4, chunk_points=8, read_batch_rows=3)) as e:
        yield e


def filled(engine, table, flush):
    engine.drop_region(1)
    region = engine.region(1)
    rows = list(table.items())
    for index, part in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :]), start=1):
        if not part:
            continue
        times = np.array([time for time, _ in part], ">i8").tobytes()
        columns = list(zip(*(cells for _, cells in part), strict=True))
        values = b"".join(
            np.array([0 if v is None else v for v in column], ">i4").tobytes() for column in columns
        )
        nulls = b"".join(
            np.packbits([v is None for v in column], bitorder="little").tobytes()
            for column in columns
        )
        layout = Layout((1, 2), (DataType.INT32, DataType.INT32))
        region.write([Fragment(0, layout, len(part), times, values, nulls)], index)
        if flush and index == 1:
            region.flush()
    if flush == "whole":
        region.flush()
    return region


def rows_of(batches):
    found = []
    for batch in batches:
        assert len(batch.times)
        columns = [
            [
                int(value) if ok else None
                for value, ok in zip(
                    column.values.tolist(),
                    [True] * len(batch.times) if column.valid is None else column.valid.tolist(),
                    strict=True,
                )
            ]
            for column in batch.columns
        ]
        found += list(zip(batch.times.tolist(), *columns, strict=True))
    return found


def expected_rows(table, query):
    rows = [
        (time, *cells[: query.selected])
        for time, cells in sorted(table.items(), reverse=query.descending)
        if query.t_min <= time <= query.t_max and holds(query.row_filter, time, cells)
    ]
    return [row for row in rows if any(cell is not None for cell in row[1:])]


QUERIES = st.builds(
    RowsQuery,
    st.just(KEYS),
    st.integers(1, 2),
    st.one_of(st.just(T_MIN), st.integers(-7, 5)),
    st.one_of(st.just(T_MAX), st.integers(5, 12)),
    st.booleans(),
    st.one_of(st.none(), FILTER),
)


@example(
    table={0: (1, None), 1: (0, 1), 3: (None, 1), 4: (None, 1), 2: (0, 1), -1: (None, 1)},
    query=RowsQuery(
        KEYS,
        1,
        T_MIN,
        T_MAX,
        False,
        ValueFilter(1, CompareTest(DataType.INT32, Operator.EQ, 1), False),
    ),
    flush=False,
    max_rows=1,
    max_scanned=1,
    max_bytes=1000,
)  # a page was full where a batch of its stretch ended
@given(
    table=TABLE,
    query=QUERIES,
    flush=st.booleans(),
    max_rows=st.integers(1, 5),
    max_scanned=st.integers(1, 5),
    max_bytes=st.integers(1, 100),
)
@settings(max_examples=150, deadline=None)
def test_pages_chained_equal_the_stream_and_the_slow_twin(
    engine, table, query, flush, max_rows, max_scanned, max_bytes
):
    region = filled(engine, table, flush)
    expected = expected_rows(table, query)
    assert rows_of(stream_rows(region, query, None, None, no_check)) == expected
    found, at = [], query
    for _ in range(100):
        page = rows_page(region, at, None, max_rows, max_scanned, no_check, max_bytes=max_bytes)
        rows = rows_of(page.batches)
        assert len(rows) <= max_rows
        assert len(rows) <= 1 or 8 * len(rows) <= max_bytes
        found += rows
        if page.resume is None:
            break
        bound = {"t_max": page.resume} if at.descending else {"t_min": page.resume}
        at = RowsQuery(**{**vars(at), **bound})
    assert found == expected


@given(
    TABLE,
    st.integers(-8, 6),
    st.integers(1, 6),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(-8, 12), st.integers(0, 6)), max_size=3),
    st.one_of(st.none(), FILTER),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_aggregates_equal_the_slow_twin(engine, table, start, length, count, ranges, given, flush):
    region = filled(engine, table, flush)
    lows = start + length * np.arange(count, dtype=np.int64)
    windows = Windows(lows, lows + length - 1)
    intervals = TimeSet.of((low, low + size) for low, size in ranges).intervals
    query = AggregatesQuery(KEYS, 2, windows, intervals, Needs.EVERYTHING, given)
    for number, result in enumerate(aggregates(region, query, None, no_check)):
        for window in range(count):
            low, high = int(windows.lows[window]), int(windows.highs[window])
            inside = [
                (time, cells[number])
                for time, cells in sorted(table.items())
                if low <= time <= high
                and any(first <= time <= last for first, last in intervals)
                and cells[number] is not None
                and holds(given, time, cells)
            ]
            expected = slow_aggregate(DataType.INT32, inside)
            assert result.count[window] == expected.count
            if expected.count:
                for name in ("min_time", "max_time", "first", "last", "minimum", "total"):
                    assert getattr(result, name)[window] == getattr(expected, name)


COMPARISON = st.builds(
    ValueFilter,
    st.just(0),
    st.builds(CompareTest, st.just(DataType.INT32), st.sampled_from(Operator), st.integers(-4, 4)),
    st.booleans(),
)


@given(
    TABLE,
    st.one_of(COMPARISON, st.lists(COMPARISON, min_size=2, max_size=3).map(tuple).map(AllOf)),
    st.integers(-8, 6),
    st.integers(0, 12),
    st.sampled_from([False, True, "whole"]),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_filters_of_one_series_by_itself(engine, table, given, low, size, flush, descending):
    """Where statistics tell that all pass, the filter is left out."""
    region = filled(engine, table, flush)
    high = low + size
    query = RowsQuery(KEYS[:1], 1, low, high, descending, given)
    expected = expected_rows(table, query)
    assert rows_of(stream_rows(region, query, None, None, no_check)) == expected
    few = rows_of(stream_rows(region, query, None, 2, no_check))
    assert few[:2] == expected[:2]
    windows = Windows.single(low, high)
    for needs in (Needs.NOTHING, Needs.EVERYTHING):
        counted = AggregatesQuery(KEYS[:1], 1, windows, ((T_MIN, T_MAX),), needs, given)
        (result,) = aggregates(region, counted, None, no_check)
        assert result.count[0] == len(expected)
        if expected and needs:
            values = [value for _, value in expected]
            assert (result.minimum[0], result.total[0]) == (min(values), sum(values))
            assert result.max_time[0] == max(time for time, _ in expected)


@given(TABLE, st.sampled_from([False, True, "whole"]))
@settings(max_examples=50, deadline=None)
def test_last_points(engine, table, flush):
    region = filled(engine, table, flush)
    expected = [
        max(
            ((time, cells[n]) for time, cells in table.items() if cells[n] is not None),
            default=None,
        )
        for n in range(2)
    ]
    assert last_points(region, KEYS, None, no_check) == expected


def test_rows_are_read_once_where_the_filter_looks_at_every_column(engine, monkeypatch):
    region = filled(engine, {time: (time, time) for time in range(6)}, flush=True)
    reads = []
    read = region.read

    def counted(series, *arguments, **options):
        reads.append(len(series))
        return read(series, *arguments, **options)

    monkeypatch.setattr(region, "read", counted)
    first, second = (
        ValueFilter(n, CompareTest(DataType.INT32, Operator.GE, 3), False) for n in range(2)
    )
    query = RowsQuery(KEYS, 2, T_MIN, T_MAX, False, AllOf((first, second)))
    assert len(rows_of(stream_rows(region, query, None, None, no_check))) == 3
    assert reads == [2]
    reads.clear()
    query = RowsQuery(KEYS, 2, T_MIN, T_MAX, False, first)
    assert len(rows_of(stream_rows(region, query, None, None, no_check))) == 3
    assert reads == [1, 2]  # the filter's column, then the rows that pass
