"""Aggregates of many series at once, against the same one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.plan.reads import decode_aggregates, encode_aggregates
from cluster.query.aggregates import AGGREGATE_FUNCTIONS, FunctionCells
from cluster.scan.region_reads import AggregatesQuery
from cluster.scan.windows import NUMERIC_TYPES, AggregateTable, Needs, WindowAggregates, Windows
from harness.memory_database import column_of
from iotdb_engine import DataType

FIELDS = ("count", "min_time", "max_time", "first", "last", "minimum", "maximum", "total")
WINDOWS = Windows(np.array([0, 10, 20], np.int64), np.array([9, 14, 29], np.int64))
KINDS = st.lists(st.sampled_from([*DataType]), min_size=1, max_size=6)


def value_of(kind: DataType, number: int) -> Any:
    if kind is DataType.TEXT:
        return str(number).encode()
    return number % 2 == 0 if kind is DataType.BOOLEAN else number


def one(kind: DataType, times: list[int], needs: Needs) -> WindowAggregates:
    """Aggregates of points whose values are their times, or tell them."""
    result = WindowAggregates.empty(kind, len(WINDOWS.lows), needs)
    values = column_of(kind, [value_of(kind, time) for time in times])
    result.add_rows(WINDOWS, np.array(times, np.int64), values)
    return result


def cells(part: WindowAggregates) -> list[Any]:
    """What the arrays say, where there are points."""
    hit = part.count > 0
    arrays = [getattr(part, name) for name in FIELDS[1:]]
    return [part.count.tolist()] + [None if a is None else a[hit].tolist() for a in arrays]


times_of = st.lists(st.integers(0, 29), unique=True, max_size=8).map(sorted)


@given(st.data(), KINDS, st.sampled_from([Needs.NOTHING, Needs.TOTAL, Needs.EVERYTHING]))
@settings(max_examples=200, deadline=None)
def test_a_table_equals_its_series_one_by_one(data: st.DataObject, kinds: Any, needs: Any) -> None:
    early = [data.draw(times_of) for _ in kinds]
    chosen = data.draw(st.lists(st.sampled_from(range(len(kinds))), unique=True))
    late = [data.draw(times_of) for _ in chosen]
    parts = [one(kind, times, needs) for kind, times in zip(kinds, early, strict=True)]
    table = AggregateTable.of(parts, len(WINDOWS.lows), needs)
    others = [one(kinds[at], times, needs) for at, times in zip(chosen, late, strict=True)]
    table.merge(AggregateTable.of(others, len(WINDOWS.lows), needs), chosen)
    for at, other in zip(chosen, others, strict=True):
        parts[at].merge(other)
    assert [cells(part) for part in table] == [cells(part) for part in parts]

    query = AggregatesQuery(tuple(enumerate(kinds)), len(kinds), WINDOWS, (), needs)
    back = decode_aggregates(encode_aggregates(table), query)
    assert [cells(part) for part in back] == [cells(part) for part in parts]

    found = FunctionCells(table)
    for function in AGGREGATE_FUNCTIONS.values():
        if function.needs & ~needs:
            continue
        for number, part in enumerate(parts):
            if function.numeric_only and part.data_type not in NUMERIC_TYPES:
                continue
            mine, theirs = found.column(function, number), function.column(part)
            assert (mine.type, mine.valid is None) == (theirs.type, theirs.valid is None)
            hit = slice(None) if mine.valid is None else mine.valid
            assert mine.values[hit].tolist() == theirs.values[hit].tolist()


@given(st.lists(times_of, min_size=1, max_size=4), st.integers(1, 5))
@settings(deadline=None)
def test_columns_of_one_time_array_equal_rows_added_one_by_one(
    given_times: Any, count: int
) -> None:
    """Several batches, each of the same times for all series, windows with gaps between."""
    kind = DataType.INT64
    together = WindowAggregates.empty(kind, len(WINDOWS.lows), Needs.EVERYTHING, series=count)
    alone = [
        WindowAggregates.empty(kind, len(WINDOWS.lows), Needs.EVERYTHING) for _ in range(count)
    ]
    last = -1
    for times in given_times:
        later = np.array([time for time in times if time > last], np.int64)
        if not len(later):
            continue
        last = int(later[-1])
        columns = [later * (number + 1) for number in range(count)]
        together.add_values(WINDOWS, later, columns)
        for part, column in zip(alone, columns, strict=True):
            part.add_values(WINDOWS, later, column)
    table = AggregateTable([kind] * count, len(WINDOWS.lows), Needs.EVERYTHING)
    table.put_alike(range(count), together)
    assert [cells(part) for part in table] == [cells(part) for part in alone]
