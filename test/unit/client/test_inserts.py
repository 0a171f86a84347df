from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import iotdb_client
from iotdb_client.inserts import is_repeatable
from iotdb_client.types import DataType

SQL = "insert into root.a.d(time, i, t) values (?, ?, ?)"


@pytest.fixture
def local():
    with iotdb_client.connect(":memory:", zone="UTC") as made:
        yield made


@pytest.fixture
def sent(local, monkeypatch):
    """What went out: ("tablet", rows) or ("text", statements)."""
    calls = []
    tablet, batch = local.session.insert_tablet, local.session.execute_batch

    def note_tablet(*arguments, **options):
        calls.append(("tablet", len(arguments[3])))
        return tablet(*arguments, **options)

    def note_batch(statements, **options):
        calls.append(("text", len(statements)))
        return batch(statements, **options)

    monkeypatch.setattr(local.session, "insert_tablet", note_tablet)
    monkeypatch.setattr(local.session, "execute_batch", note_batch)
    return calls


def rows_of(connection):
    return connection.execute("select i, t from root.a.d").fetchall()


def test_the_first_row_makes_the_series_and_the_rest_is_a_tablet(local, sent):
    cursor = local.cursor().executemany(SQL, [(n, n * 2, f"x{n}") for n in range(100)])
    assert sent == [("text", 1), ("tablet", 99)]
    assert cursor.rowcount == 100
    assert rows_of(local) == [(n, n * 2.0, f"x{n}") for n in range(100)]
    types = local.execute("show timeseries root.a.d.i").fetchall()
    assert types[0][3] == "FLOAT"  # as the server infers for INSERT


def test_types_are_those_of_the_series(local, sent):
    local.execute("create aligned timeseries root.a.d(i INT32, t TEXT)")
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
    local.cursor().executemany(SQL, [(moment, 7, None), (5, None, "x")])
    assert sent == [("tablet", 2)]
    assert rows_of(local) == [(5, None, "x"), (int(moment.timestamp() * 1000), 7, None)]


def test_named_parameters(local, sent):
    local.execute("create timeseries root.a.d.i INT64")
    local.execute("create timeseries root.a.d.t TEXT")
    local.cursor().executemany(
        "insert into root.a.d(time, i, t) values (:when, :i, :t)",
        [{"t": "x", "i": 1, "when": 1, "more": 0}, {"t": "y", "i": 2, "when": 2}],
    )
    assert sent == [("tablet", 2)]
    assert rows_of(local) == [(1, 1, "x"), (2, 2, "y")]
    found = local.execute("select i from root.a.d where time = :t and t = ':x'", {"t": 2})
    assert found.fetchall() == []
    with pytest.raises(iotdb_client.ProgrammingError, match=":missing"):
        local.execute("select i from root.a.d where time > :missing", {})


@pytest.mark.parametrize(
    "row",
    [
        (1, 1.5, "x"),  # SQL refuses it for an INT64
        (1, "7", "x"),  # SQL reads it
        (1, True, "x"),
        (1, 2**63, "x"),
    ],
)
def test_what_a_tablet_would_do_otherwise_goes_as_text(local, sent, row):
    local.execute("create timeseries root.a.d.i INT64")
    local.execute("create timeseries root.a.d.t TEXT")

    def outcome(run):
        try:
            run()
        except iotdb_client.DatabaseError as error:
            return str(error).rpartition("row 1: ")[2]
        return rows_of(local)

    by_many = outcome(lambda: local.cursor().executemany(SQL, [row]))
    assert sent[-1] == ("text", 1)
    local.execute("delete from root.a.d.*")
    assert by_many == outcome(lambda: local.execute(SQL, row))


@pytest.mark.parametrize(
    "sql",
    [
        "insert into root.a.d(time, i) values (?, 1)",
        "insert into root.a.d(i) values (?)",
        "insert into root.a.d(time, `i`) values (?, ?)",
        "insert into root.a.d(time, i, i) values (?, ?, ?)",
        "delete from root.a.d.i where time = ?",
    ],
)
def test_other_statements_go_as_text(local, sent, sql):
    try:
        local.cursor().executemany(sql, [tuple(range(1, sql.count("?") + 1))])
    except iotdb_client.DatabaseError:
        assert "i, i" in sql or "`" in sql
    assert sent == [("text", 1)]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into root.a.d(i) values (?)",
        "INSERT INTO root.a.d ( `time of day`, i ) VALUES (?, 1)",
        "insert into root.a.`a (b`(i) aligned values (?)",
        "insert into root.a.d(time, i) values (now(), ?)",
    ],
)
def test_rows_without_times_of_their_own_are_refused(local, sent, sql):
    """The clock gives the same time to many of them, and of these one would stay."""
    with pytest.raises(iotdb_client.ProgrammingError, match="a time of their own") as caught:
        local.cursor().executemany(sql, [(1,), (2,), (3,)])
    assert caught.value.definite
    assert sent == []


def test_wrong_numbers_of_parameters(local):
    with pytest.raises(iotdb_client.ProgrammingError, match=r"row 2: .*3 placeholders, 2"):
        local.cursor().executemany(SQL, [(1, 2, "x"), (1, 2)])
    with pytest.raises(iotdb_client.ProgrammingError, match="sequence"):
        local.cursor().executemany(SQL, [{"a": 1}])


@pytest.mark.parametrize("row", [5, None, {1, 2.5, "x"}, iter((1, 2, "x"))])
def test_rows_that_are_no_rows(local, sent, row):
    """A set has no order: its values went to any column."""
    with pytest.raises(iotdb_client.ProgrammingError, match="row 1: parameters are a sequence"):
        local.cursor().executemany(SQL, [row])
    assert sent == []


def test_a_series_that_was_made_anew_with_another_type(local):
    local.execute("create timeseries root.a.d.i INT32")
    local.execute("create timeseries root.a.d.t TEXT")
    local.cursor().executemany(SQL, [(1, 1, "x")])
    local.execute("delete timeseries root.a.d.i")
    local.execute("create timeseries root.a.d.i DOUBLE")
    with pytest.raises(iotdb_client.DatabaseError):
        local.cursor().executemany(SQL, [(2, 2, "x")])
    local.cursor().executemany(SQL, [(2, 2, "x")])  # it has looked again
    assert (2, 2.0, "x") in rows_of(local)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select * from root.**", True),
        (" SHOW timeseries", True),
        ("count devices", True),
        ("select a into b from root.d", False),
        ("insert into root.d(time, a) values (1, 2)", True),
        ("INSERT INTO root.d(timestamp, a) ALIGNED VALUES (1, 'x'), (2, 'y');", True),
        ("insert into root.d(time, a) values (now() + 1d, 2)", False),
        ("insert into root.d(a) values (2)", False),
        ("create storage group root.x", False),
        ("delete from root.d.a", False),
        ("tracing select * from root.**", True),
    ],
)
def test_what_is_repeatable(sql, expected):
    assert is_repeatable(sql) is expected


def test_rows_of_numpy_and_pandas_go_as_tablets(local, monkeypatch):
    local.execute("create timeseries root.a.d.i INT32")
    local.execute("create timeseries root.a.d.t TEXT")
    monkeypatch.setattr(local.session, "execute_batch", None)
    frame = pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=3, freq="1ms"),
            "i": pd.array([1, None, 3], dtype="Int32"),
            "t": ["a", None, "c"],
        }
    )
    local.cursor().executemany(SQL, frame.itertuples(index=False, name=None))
    start = 1704067200000
    expected = [(start, 1, "a"), (start + 2, 3, "c")]
    assert rows_of(local) == expected
    rows = [(np.int64(5), np.int32(6), np.str_("x"))]
    local.cursor().executemany(SQL, rows)
    assert rows_of(local) == [(5, 6, "x"), *expected]


@pytest.mark.parametrize(
    ("rows", "number", "definite"),
    [
        ([(1, "wrong", "x"), (2, 2, "x")], 1, False),
        ([(1, 1, "x"), (2, "wrong", "x"), (3, 3, "x")], 2, False),
        ([(n, n, "x") for n in range(30_000)] + [(30_000, "wrong", "x")], 30_001, False),
        ([(1, 1, "x"), (2, float("inf"), "x")], None, None),
    ],
)
def test_a_row_that_can_not_be_written_is_told_by_its_number(local, rows, number, definite):
    local.execute("create timeseries root.a.d.i DOUBLE")
    cursor = local.cursor()
    if number is None:
        local.execute("create timeseries root.a.d.t TEXT")
        cursor.executemany(SQL, rows)
        assert rows_of(local)[1] == (2, float("inf"), "x")
        return
    with pytest.raises(iotdb_client.DataError, match=rf"^row {number}: .*wrong") as caught:
        cursor.executemany(SQL, rows)
    assert caught.value.definite is definite
    with pytest.raises(iotdb_client.DataError, match="executemany"):
        local.execute(SQL, (1, float("inf"), "x"))


def test_a_statement_that_fails_after_others_is_not_said_to_have_had_no_effect(local):
    local.cursor().executemany("create timeseries root.a.x.s? INT64", [(n,) for n in range(3)])
    rows = [(n,) for n in range(3, 1200)] + [(2,)]
    with pytest.raises(iotdb_client.ProgrammingError, match=r"^row 1198: ") as caught:
        local.cursor().executemany("create timeseries root.a.x.s? INT64", rows)
    assert caught.value.definite is False


def test_a_column_that_does_not_fit_leaves_the_others_and_says_so(local):
    """As in 0.13; so the error is not one of an operation without effect."""
    local.execute("create timeseries root.a.d.i INT64")
    with pytest.raises(iotdb_client.DataError, match="insert measurements") as caught:
        local.execute("insert into root.a.d(time, i, t) values (1, 'wrong', 'x')")
    assert caught.value.definite is False
    assert rows_of(local) == [(1, None, "x")]
    types = [DataType.TEXT, DataType.TEXT]
    with pytest.raises(iotdb_client.DataError, match="insert measurements") as caught:
        local.insert_tablet("root.a.d", ["i", "t"], types, [2], [["y"], ["y"]])
    assert caught.value.definite is False
    assert rows_of(local) == [(1, None, "x"), (2, None, "y")]


@pytest.mark.parametrize("value", [1e39, np.float64(1e39), 10**39, Decimal("1e39")])
@pytest.mark.parametrize("other", ["x", 7])  # a tablet, and what goes as text
def test_a_value_beyond_the_range_of_its_series_is_refused_before_anything_is_sent(
    local, sent, value, other
):
    local.execute("create timeseries root.a.d.i FLOAT")
    local.execute("create timeseries root.a.d.t TEXT")
    with pytest.raises(iotdb_client.DataError) as caught:
        local.cursor().executemany(SQL, [(1, 1.5, other), (2, value, "y")])
    assert str(caught.value).startswith("row 2: root.a.d.i: 1")
    assert str(caught.value).endswith(
        " is outside -3.4028235e+38 to 3.4028235e+38, the range of FLOAT"
    )
    assert caught.value.definite
    assert all(kind == "tablet" for kind, _ in sent)
    assert rows_of(local) == []


def test_a_value_beyond_the_range_of_a_series_that_its_first_row_made(local):
    with pytest.raises(iotdb_client.DataError, match=r"^row 3: root\.a\.d\.i: 1e\+39") as caught:
        local.cursor().executemany(SQL, [(1, 1.5, "x"), (2, 2.5, "y"), (3, 1e39, "z")])
    assert caught.value.definite is False
    assert rows_of(local) == [(1, 1.5, "x")]


@pytest.mark.parametrize(
    ("kind", "column", "number"),
    [
        (DataType.FLOAT, np.float64(1.5), 1e39),
        (DataType.INT32, np.int64(1), 2**31),
    ],
)
def test_a_table_with_a_value_beyond_its_type_is_not_written_in_part(local, kind, column, number):
    frame = pd.DataFrame({"Time": range(100_000), "i": column})
    frame.loc[99_999, "i"] = number
    with pytest.raises(iotdb_client.DataError, match=rf"root\.a\.d\.i: .*range of {kind.name}"):
        local.insert_dataframe("root.a.d", frame, types={"i": kind})
    assert local.execute("show timeseries root.a.d.i").fetchall() == []


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
def test_infinity_is_written_as_it_is(local, kind):
    local.execute(f"create timeseries root.a.d.i {kind}")
    local.execute("create timeseries root.a.d.t TEXT")
    local.cursor().executemany(SQL, [(1, float("inf"), "x"), (2, float("-inf"), "y")])
    assert rows_of(local) == [(1, float("inf"), "x"), (2, float("-inf"), "y")]


def test_tablets_name_the_series(local):
    with pytest.raises(iotdb_client.DataError, match=r"^root\.a\.d\.i: 1e\+39 is outside"):
        local.insert_tablet("root.a.d", ["i"], [DataType.FLOAT], [1], [[1e39]])
