from __future__ import annotations

import math

import numpy as np
import pytest

from cluster.plan.reads import (
    AggregatesRead,
    AppliedIndexRead,
    LastRead,
    MatchDevicesRead,
    MatchSeriesRead,
    Read,
    ResolveRead,
    RowsRead,
    SeriesQuery,
    decode_aggregates,
    decode_last,
    decode_read,
    decode_rows_page,
    encode_aggregates,
    encode_last,
    encode_read,
    encode_rows_page,
)
from cluster.scan.filters import AllOf, AnyOf, TimeFilter, ValueFilter
from cluster.scan.region_reads import AggregatesQuery, RowsPage, RowsQuery
from cluster.scan.time_set import TimeSet
from cluster.scan.value_tests import (
    CompareTest,
    ContainsTest,
    InTest,
    LikeTest,
    Operator,
    RegexpTest,
)
from cluster.scan.windows import AggregateTable, Needs, WindowAggregates, Windows
from iotdb_engine.types import T_MAX, T_MIN, Aggregate, Column, ColumnBatch, DataType

SERIES = ((1 << 40 | 7, DataType.DOUBLE), (3, DataType.TEXT))
FILTER = AnyOf(
    (
        AllOf(
            (
                TimeFilter(TimeSet(((T_MIN, 5), (7, T_MAX)))),
                ValueFilter(0, CompareTest(DataType.DOUBLE, Operator.GE, math.inf)),
                ValueFilter(1, LikeTest("%ü\\_"), negated=True),
            )
        ),
        ValueFilter(1, InTest(DataType.TEXT, (b"\xff", b""))),
        ValueFilter(1, RegexpTest("a+")),
        ValueFilter(1, ContainsTest(b"x")),
        ValueFilter(0, CompareTest(DataType.BOOLEAN, Operator.NE, True)),
    )
)


@pytest.mark.parametrize(
    "read",
    [
        AppliedIndexRead(),
        ResolveRead(5, "root.sg.'a.b'", ("s1", "ü")),
        MatchSeriesRead(
            (SeriesQuery((1, 2), ("root", "**"), True), SeriesQuery((), ("root", "ü"), False))
        ),
        MatchDevicesRead((), ("root", "a*"), False),
        RowsRead(RowsQuery(SERIES, 2, -5, 2**63 - 1, True), (1, 2), 10, 100),
        RowsRead(RowsQuery(SERIES, 1, -(2**63), 0, False, FILTER), None, 1, 2),
        LastRead(SERIES, (3,)),
    ],
)
def test_reads_survive(read: Read) -> None:
    assert decode_read(encode_read(read)) == read


def windows(*pairs: tuple[int, int]) -> Windows:
    return Windows(*(np.array(bounds, np.int64) for bounds in zip(*pairs, strict=True)))


@pytest.mark.parametrize(
    "given",
    [
        windows((T_MIN, T_MAX)),
        windows((0, 9), (10, 19), (20, 29), (30, 33)),
        windows((0, 4), (10, 14), (20, 24)),
        windows((0, 30), (31, 58), (59, 89)),
        windows((5, 4), (6, 7)),
    ],
)
def test_aggregate_reads_survive(given: Windows) -> None:
    query = AggregatesQuery(SERIES, 1, given, ((T_MIN, 3), (5, T_MAX)), Needs.TOTAL, FILTER)
    read = decode_read(encode_read(AggregatesRead(query, None)))
    assert isinstance(read, AggregatesRead)
    back = read.query
    assert back.windows.lows.tolist() == given.lows.tolist()
    assert back.windows.highs.tolist() == given.highs.tolist()
    assert (back.series, back.selected, back.intervals) == (SERIES, 1, query.intervals)
    assert (back.needs, back.row_filter, read.slots) == (Needs.TOTAL, FILTER, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'["Nothing", {}]',
        b'["RowsRead", {"x": 1}]',
        b'["AggregatesRead", {"series": 3}]',
        b'["LastRead", {"series": [[1, 99]], "slots": null}]',
        b"\xff",
        b'["RowsRead", ' + b"[" * 100_000,
    ],
)
def test_malformed_reads_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text, but no other kind of error
        decode_read(data)


def test_a_filter_that_is_nested_too_deeply_is_refused() -> None:
    nested: AllOf | AnyOf | TimeFilter = TimeFilter(TimeSet(()))
    for _ in range(300):
        nested = AllOf((nested, TimeFilter(TimeSet(()))))
    data = encode_read(RowsRead(RowsQuery(SERIES, 2, 0, 1, False, nested), None, 1, 1))
    with pytest.raises(ValueError, match="nested too deeply"):
        decode_read(data)


def test_rows_pages_survive() -> None:
    batch = ColumnBatch(
        np.array([3, 4], np.int64),
        (Column(DataType.INT32, np.array([1, 2], np.int32), np.array([True, False])),),
    )
    for resume in (None, T_MIN, 5):
        page = decode_rows_page(encode_rows_page(RowsPage([batch], resume)))
        assert page.resume == resume
        (back,) = page.batches
        assert back.times.tolist() == [3, 4]
        assert back.columns[0].valid is not None
        assert back.columns[0].valid.tolist() == [True, False]


def test_aggregates_survive() -> None:
    query = AggregatesQuery(SERIES, 2, windows((0, 1), (2, 3)), (), Needs.EVERYTHING)
    doubles = WindowAggregates.empty(DataType.DOUBLE, 2, Needs.EVERYTHING)
    doubles.put(1, Aggregate(3, -1, 5, 1.5, math.inf, -math.inf, 2.5, 1e300))
    texts = WindowAggregates.empty(DataType.TEXT, 2, Needs.EVERYTHING)
    texts.put(0, Aggregate(1, 0, 0, b"\x00\xff", "ü".encode(), None, None, None))
    table = AggregateTable.of([doubles, texts], 2, Needs.EVERYTHING)
    back = decode_aggregates(encode_aggregates(table), query)
    for one, other in zip(back, (doubles, texts), strict=True):
        assert one.count.tolist() == other.count.tolist()
        for name in ("min_time", "max_time", "first", "last", "minimum", "maximum", "total"):
            mine, theirs = getattr(one, name), getattr(other, name)
            assert (mine is None) == (theirs is None)
            assert mine is None or mine.tolist() == theirs.tolist()


def test_last_points_survive() -> None:
    points = [None, (-5, 1.5), (T_MAX, b"\xff"), (0, True)]
    assert decode_last(encode_last(points)) == points
