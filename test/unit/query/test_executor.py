from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError, StatusCode
from cluster.query.context import QueryContext
from cluster.query.executor import execute_query
from cluster.sql.context import ParseContext
from cluster.sql.parser import parse
from cluster.sql.statements.utility import Flush
from harness.memory_database import MemoryDatabase, Unlimited, slow_aggregate
from iotdb_engine.types import T_MAX, T_MIN, Column, ColumnBatch, DataType

CONTEXT = QueryContext(Unlimited(), "1.2.3")


class Left:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def remaining_s(self) -> float:
        return self.seconds


@pytest.fixture
def database():
    db = MemoryDatabase()
    db.execute("insert into root.a.d(time,x,y) values(1,1,10),(2,2,20),(3,3,30),(4,4,null)")
    db.execute("insert into root.b.d(time,x) values(2,-2),(3,-3),(5,-5)")
    db.calls.clear()
    return db


def run(db, sql, context=CONTEXT):
    return execute_query(parse(sql, db.context), db, context)


def reads(db):
    return [call[1] for call in db.calls if call[0] == "read"]


# ---- what is pushed down ----


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("", [(T_MIN, T_MAX, None)]),
        ("where time > 1 and time <= 9", [(2, 9, None)]),
        ("where time > 1 limit 2 offset 1", [(2, T_MAX, 3)]),
        ("where time > 1 and x > 0 limit 2", [(2, T_MAX, 2)]),
        ("where time >= 1 and (x > 0 or time = 3)", [(1, T_MAX, None)]),
        ("where (time = 1 and x > 0) or (time = 3 and y > 0)", [(1, 1, None), (3, 3, None)]),
        ("where time in (3, 1, 2)", [(1, 3, None)]),
        ("where time = 3 or time = 1 order by time desc", [(3, 3, None), (1, 1, None)]),
        ("where time < 1 and time > 1", []),
    ],
)
def test_time_ranges_and_limits_reach_the_backend(database, tail, expected):
    list(run(database, f"select x from root.a.d {tail}").batches)
    assert reads(database) == expected


def test_many_intervals_become_one_read(database):
    times = ",".join(str(n) for n in range(1, 400, 2))
    result = run(database, f"select x from root.a.d where time in ({times})")
    assert [batch.times.tolist() for batch in result.batches] == [[1, 3]]
    assert reads(database) == [(1, 399, None)]


def test_aggregates_without_value_filter_read_no_rows(database):
    list(run(database, "select count(x), avg(x) from root.*.d where time > 2").batches)
    assert [call for call in database.calls if call[0] != "match_series"] == [
        ("aggregate", (1, ((3, T_MAX),), None))
    ]


def test_each_pattern_is_looked_up_once(database):
    run(database, "select x, x, count, x from root.a.d, root.b.d where x > 1 and x < 3")
    looked_up = [call[1] for call in database.calls if call[0] == "match_series"]
    assert looked_up == ["root.a.d.x", "root.b.d.x", "root.a.d.count", "root.b.d.count"]


def test_limit_stops_reading(database):
    result = run(database, "select x from root.a.d where x > 0 limit 1")
    assert sum(len(batch.times) for batch in result.batches) == 1


# ---- the result ----


def test_batches_carry_each_distinct_column_once(database):
    result = run(database, "select x as a, y, x from root.a.d where root.b.d.x < 0")
    assert result.columns == ["a", "root.a.d.y", "root.a.d.x"]
    assert result.column_index == [0, 1, 0]
    assert result.types == [DataType.FLOAT] * 3
    batches = list(result.batches)
    assert {len(batch.columns) for batch in batches} == {2}
    assert np.concatenate([batch.times for batch in batches]).tolist() == [2, 3]


def test_aggregates_of_one_series_are_distinct_by_function(database):
    result = run(database, "select count(x), max_time(x), COUNT(x), sum(x) from root.a.d")
    assert result.columns[2] == "COUNT(root.a.d.x)"
    assert result.column_index == [0, 1, 0, 2]
    assert result.types == [DataType.INT64, DataType.INT64, DataType.INT64, DataType.DOUBLE]
    (batch,) = result.batches
    assert result.ignore_time
    assert [column.values.tolist() for column in batch.columns] == [[4], [4], [10.0]]


def test_big_batches_are_cut(database):
    class Big(MemoryDatabase):
        def _read(self, *_):
            for start in (0, 20_000):
                times = np.arange(start, start + 20_000, dtype=np.int64)
                yield ColumnBatch(times, (Column(DataType.FLOAT, times.astype(np.float32)),))

    big = Big()
    big.execute("create timeseries root.a.d.x FLOAT")
    sizes = [len(b.times) for b in run(big, "select x from root.a.d offset 5 limit 39000").batches]
    assert max(sizes) <= 8192
    assert sum(sizes) == 39_000


def test_close_ends_the_stream(database):
    result = run(database, "select x from root.a.d")
    next(result.batches)
    result.close()
    result.close()
    assert list(result.batches) == []


def test_version_and_kind(database):
    result = run(database, "show version")
    assert (result.kind, result.ignore_time) == ("SHOW", True)
    (batch,) = result.batches
    assert batch.columns[0].values.tolist() == [b"1.2.3"]
    assert run(database, "select x from root.a.d").kind == "QUERY"


# ---- ends and limits ----


def test_deadline_and_cancellation_end_a_running_query(database):
    deadline, cancelled = Left(10), threading.Event()
    for stop, status in (
        (lambda: setattr(deadline, "seconds", 0), StatusCode.TIME_OUT),
        (cancelled.set, StatusCode.QUERY_PROCESS_ERROR),
    ):
        deadline.seconds = 10
        context = QueryContext(deadline, "", cancelled=cancelled)
        result = run(database, "select x, y from root.**", context)
        next(result.batches)
        stop()
        with pytest.raises(ClusterError) as caught:
            list(result.batches)
        assert caught.value.status == status


def test_too_many_series(database):
    context = QueryContext(Unlimited(), "", max_series=2)
    with pytest.raises(ClusterError, match=r"allowed max deduplicated path number is 2.*slimit"):
        run(database, "select * from root.**", context)
    assert run(database, "select * from root.** slimit 2", context).columns


@pytest.mark.parametrize("item", ["*", "count(*)"])
def test_too_many_series_of_one_device(item):
    """Devices are read one after the other: each may have so many."""
    database = MemoryDatabase()
    for device in ("d", "e"):
        database.execute(f"insert into root.a.{device}(time, x, y, z) values (1, 1, 2, 3)")
    sql = f"select {item} from root.a.* align by device"
    with pytest.raises(ClusterError, match=r"allowed max deduplicated path number is 2.*slimit"):
        run(database, sql, QueryContext(Unlimited(), "", max_series=2))
    few = QueryContext(Unlimited(), "", max_series=3)
    assert sum(len(batch.times) for batch in run(database, sql, few).batches) == 2
    two = run(database, f"select {item} from root.a.* slimit 2 align by device", few)
    assert len(two.columns) == 3


def test_commands_are_no_queries(database):
    with pytest.raises(ClusterError, match="Statement is not a query statement") as caught:
        execute_query(Flush(), database, CONTEXT)
    assert caught.value.status == StatusCode.EXECUTE_STATEMENT_ERROR


def test_prefix_dialect():
    db = MemoryDatabase(context=ParseContext(prefix_dialect=True))
    db.execute("insert into root.a.b.d(time,x) values(1,1)")
    db.execute("insert into root.a.e(time,1) values(1,2)")
    assert db.execute("select * from root") == (
        ["Time", "root.a.b.d.x", "root.a.e.1"],
        [[1, 1.0, 2.0]],
    )
    assert db.execute("select 1 from root.a.e") == (["Time", "root.a.e.1"], [[1, 2.0]])
    assert db.execute("count timeseries root.a") == (["count"], [[2]])
    assert db.execute("show devices root.a.*")[1] == [
        [b"root.a.b.d", b"false"],
        [b"root.a.e", b"false"],
    ]


# ---- against a slow twin ----

SERIES = {"i": DataType.INT32, "f": DataType.DOUBLE, "t": DataType.TEXT, "o": DataType.INT64}
NUMBERS = st.integers(-3, 3)
CELLS = {
    "i": NUMBERS,
    "f": st.one_of(NUMBERS.map(lambda n: n + 0.5), st.just(math.nan)),
    "t": st.sampled_from(["a", "ab", "b"]),
    "o": NUMBERS,
}
TABLE = st.dictionaries(
    st.integers(-4, 12),
    st.fixed_dictionaries({name: st.one_of(st.none(), cell) for name, cell in CELLS.items()}),
    max_size=12,
)
OPS = {
    "=": lambda c: c == 0,
    "!=": lambda c: c != 0,
    "<": lambda c: c < 0,
    "<=": lambda c: c <= 0,
    ">": lambda c: c > 0,
    ">=": lambda c: c >= 0,
}
INVERSE = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}

LEAF = st.one_of(
    st.tuples(st.just("time"), st.sampled_from(list(OPS)), st.integers(-5, 13)),
    st.tuples(st.sampled_from(["i", "o"]), st.sampled_from(list(OPS)), NUMBERS),
    st.tuples(st.just("f"), st.sampled_from(list(OPS)), NUMBERS.map(lambda n: n + 0.5)),
    st.tuples(st.just("t"), st.sampled_from(["=", "!="]), st.sampled_from(["a", "b"])),
)
CONDITION = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=6,
)


def text_of(node):
    if node[0] == "not":
        return f"not ({text_of(node[1])})"
    if node[0] in ("and", "or"):
        return f"({text_of(node[1])} {node[0]} {text_of(node[2])})"
    name, op, value = node
    shown = f"'{value}'" if isinstance(value, str) else str(value)
    return f"{'root.other.d.o' if name == 'o' else name} {op} {shown}"


def holds(node, time, row, negated=False):
    """Whether a row passes; a null passes no test, negated or not."""
    if node[0] == "not":
        return holds(node[1], time, row, not negated)
    if node[0] in ("and", "or"):
        parts = [holds(part, time, row, negated) for part in node[1:]]
        return all(parts) if (node[0] == "and") is not negated else any(parts)
    name, op, wanted = node
    value = time if name == "time" else row[name]
    if value is None:
        return False
    if value != value or wanted != wanted:
        compared = (value != value) - (wanted != wanted)
    else:
        compared = (value > wanted) - (value < wanted)
    return OPS[INVERSE[op] if negated else op](compared)


def filled(table, batch_rows):
    db = MemoryDatabase(batch_rows)
    for name, data_type in SERIES.items():
        db.execute(
            f"create timeseries root.{'other' if name == 'o' else 'sg'}.d.{name} {data_type.name}"
        )
    for info in db.schema.match(db._pattern("root.**")):
        for time, row in table.items():
            value = row[info.measurement]
            if value is not None:
                db.points[info.series_id][time] = (
                    value.encode() if isinstance(value, str) else value
                )
    return db


def same(a, b):
    return a == b or (a != a and b != b)


@given(TABLE, CONDITION, st.booleans(), st.integers(1, 5), st.integers(0, 3), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_filtered_rows_equal_the_slow_twin(table, condition, descending, size, offset, limit):
    db = filled(table, size)
    order = "desc" if descending else "asc"
    _, rows = db.execute(
        f"select i, f, t from root.sg.d where {text_of(condition)} order by time {order} "
        f"limit {limit} offset {offset}"
    )
    expected = [
        [time, row["i"], row["f"], row["t"] and row["t"].encode()]
        for time, row in sorted(table.items(), reverse=descending)
        if holds(condition, time, row) and any(row[name] is not None for name in "ift")
    ][offset : offset + limit]
    assert len(rows) == len(expected)
    assert all(all(map(same, *pair)) for pair in zip(rows, expected, strict=True))


@given(TABLE, CONDITION, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_filtered_aggregates_equal_the_slow_twin(table, condition, size):
    names = [
        "count",
        "sum",
        "avg",
        "min_value",
        "max_value",
        "extreme",
        "first_value",
        "last_value",
        "min_time",
        "max_time",
    ]
    db = filled(table, size)
    items = [f"{name}(f)" for name in names] + ["count(t)", "last_value(t)", "sum(i)"]
    _, rows = db.execute(f"select {', '.join(items)} from root.sg.d where {text_of(condition)}")

    def aggregate(name):
        points = [
            (time, row[name])
            for time, row in sorted(table.items())
            if row[name] is not None and holds(condition, time, row)
        ]
        return slow_aggregate(SERIES[name], points)

    f, t, i = aggregate("f"), aggregate("t"), aggregate("i")
    extreme = f.maximum
    if f.count and abs(f.minimum) > abs(f.maximum):
        extreme = f.minimum
    expected = [
        f.count,
        f.total,
        None if f.total is None else f.total / f.count,
        f.minimum,
        f.maximum,
        extreme,
        f.first,
        f.last,
        f.min_time if f.count else None,
        f.max_time if f.count else None,
        t.count,
        t.last and t.last.encode(),
        i.total,
    ]
    assert all(map(same, rows[0], expected))
