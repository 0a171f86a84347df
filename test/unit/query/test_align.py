from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.query.align import align_streams
from harness.memory_database import column_of
from iotdb_engine.types import T_MAX, T_MIN, ColumnBatch, DataType

TYPES = [DataType.INT64, DataType.TEXT, DataType.BOOLEAN]
EDGES = [T_MIN, T_MIN + 1, -1, 0, 1, T_MAX - 1, T_MAX]

times = st.one_of(st.integers(-5, 25), st.sampled_from(EDGES))
cells = {
    DataType.INT64: st.integers(-9, 9),
    DataType.TEXT: st.binary(max_size=2),
    DataType.BOOLEAN: st.booleans(),
}


@st.composite
def tables(draw):
    """Rows (time → cells) of one stream, and how they are cut into batches."""
    types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3))
    rows = draw(
        st.dictionaries(
            times, st.tuples(*(st.one_of(st.none(), cells[t]) for t in types)), max_size=12
        )
    )
    cuts = draw(st.lists(st.integers(0, 12), max_size=4))
    return types, rows, sorted(set(cuts))


def stream(table, descending):
    types, rows, cuts = table
    ordered = sorted(rows, reverse=descending)
    for start, stop in zip([0, *cuts], [*cuts, len(ordered)], strict=True):
        part = ordered[start:stop]
        yield ColumnBatch(
            np.array(part, dtype=np.int64),
            tuple(
                column_of(data_type, [rows[time][number] for time in part])
                for number, data_type in enumerate(types)
            ),
        )


def slow_align(tables, descending):
    """One row at a time: the specification."""
    union = sorted({time for _, rows, _ in tables for time in rows}, reverse=descending)
    result = []
    for time in union:
        row = [time]
        for types, rows, _ in tables:
            row.extend(rows.get(time, [None] * len(types)))
        result.append(row)
    return result


def rows_of(batches):
    result = []
    for batch in batches:
        assert len(batch.times)
        for n, time in enumerate(batch.times.tolist()):
            row = [time]
            for column in batch.columns:
                assert len(column.values) == len(batch.times)
                valid = column.valid is None or column.valid[n]
                row.append(column.values[n] if valid else None)
            result.append(row)
    return result


@given(st.lists(tables(), min_size=1, max_size=4), st.booleans())
@settings(max_examples=300, deadline=None)
def test_equals_the_slow_twin(tables, descending):
    streams = [stream(table, descending) for table in tables]
    merged = align_streams(streams, [table[0] for table in tables], descending=descending)
    assert rows_of(merged) == slow_align(tables, descending)


def test_takes_from_the_streams_only_as_rows_are_taken():
    taken = []

    def counting(name):
        for time in range(100):
            taken.append(name)
            yield ColumnBatch(
                np.array([time], dtype=np.int64), (column_of(DataType.INT64, [time]),)
            )

    merged = align_streams([counting("a"), counting("b")], [[DataType.INT64]] * 2)
    for _ in range(3):
        next(merged)
    assert len(taken) <= 8


def test_equal_times_are_not_copied():
    at = np.arange(5, dtype=np.int64)
    a, b = column_of(DataType.INT64, range(5)), column_of(DataType.INT64, range(5))
    (batch,) = align_streams(
        [iter([ColumnBatch(at, (a,))]), iter([ColumnBatch(at.copy(), (b,))])],
        [[DataType.INT64]] * 2,
    )
    assert batch.columns[0] is a
    assert batch.columns[1] is b
