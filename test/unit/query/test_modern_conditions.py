"""Conditions of 1.x: a test means the same whether it can be made where the points are or not."""

from __future__ import annotations

import math

import pytest

from cluster.errors import ClusterError
from cluster.rpc.status import Generation
from harness.local_database import LocalDatabase

ROWS = [  # time, i INT32, l INT64, f FLOAT, d DOUBLE, t TEXT
    (1, 2, 2**53, "0.1", "0.1", "'a'"),
    (2, 3, 2**53 + 1, "3.4e38", "NaN", "'b'"),
    (3, -3, -(2**63), "-2.5", "-1e300", "'ä'"),
    (4, None, 2**63 - 1, "NaN", "2.5", "''"),
    (5, 2**31 - 1, None, None, None, None),
]


@pytest.fixture(scope="module")
def database():
    with LocalDatabase(generation=Generation.V1) as made:
        for name, kind in (
            ("i", "INT32"),
            ("l", "INT64"),
            ("f", "FLOAT"),
            ("d", "DOUBLE"),
            ("t", "TEXT"),
        ):
            made.execute(f"CREATE TIMESERIES root.sg.d.{name} {kind}")
        for row in ROWS:
            cells = ", ".join("null" if cell is None else str(cell) for cell in row)
            made.execute(f"INSERT INTO root.sg.d(time, i, l, f, d, t) VALUES ({cells})")
        made.execute("CREATE TIMESERIES root.sg.e.i INT32")
        made.execute("INSERT INTO root.sg.e(time, i) VALUES (1, 5), (2, 1), (3, 1)")
        yield made


@pytest.mark.parametrize(
    ("condition", "times"),
    [
        ("i > 2.5", [2, 5]),
        ("i >= 2.5", [2, 5]),
        ("i < 2.5", [1, 3]),
        ("i <= -2.5", [3]),
        ("i = 2.5", []),
        ("i != 2.5", [1, 2, 3, 5]),
        ("NOT i = 2.5", [1, 2, 3, 5]),
        ("2.5 < i", [2, 5]),
        ("i = 2.0", [1]),
        ("i IN (2.0, 2.5, 3)", [1, 2]),
        ("i NOT IN (2.0, 2.5, 1e99)", [2, 3, 5]),
        ("i BETWEEN 1.5 AND 2.5", [1]),
        ("i NOT BETWEEN 1.5 AND 2.5", [2, 3, 5]),
        ("i < 1e99", [1, 2, 3, 5]),
        ("i > -9e18", [1, 2, 3, 5]),
        ("i >= 2147483648", []),
        ("i < NaN", [1, 2, 3, 5]),
        ("i >= NaN", []),
        (f"l = {2**53}", [1]),
        (f"l > {2**53}", [2, 4]),
        (f"l <= {2**63}", [1, 2, 3, 4]),
        (f"l < -{2**63}", []),
        ("l < 1e400", [1, 2, 3, 4]),
        ("f = 0.1", [1]),
        ("f > 0.1", [2, 4]),
        ("f < 1e39", [1, 2, 3]),
        ("f > 1e39", [4]),
        ("f >= NaN", [4]),
        ("d = NaN", [2]),
        ("d > 0", [1, 2, 4]),
        ("d <= NaN", [1, 2, 3, 4]),
        ("d > -1e999", [1, 2, 3, 4]),
        ("t > 'a'", [2, 3]),
        ("t <= 'a'", [1, 4]),
        ("t != 'a'", [2, 3, 4]),
        ("true", [1, 2, 3, 4, 5]),
        ("false", []),
    ],
)
def test_the_same_rows_whichever_way(database, condition, times):
    plain = f"SELECT i, l, t FROM root.sg.d WHERE {condition}"
    _, rows = database.execute(plain)
    assert [row[0] for row in rows] == times
    if condition in ("true", "false"):
        return
    # what is behind OR can't be tested where the points are, and is never met
    _, rows = database.execute(f"{plain} OR i + 0 > 1e99")
    assert [row[0] for row in rows] == times
    _, rows = database.execute(f"SELECT ({condition}) AS met FROM root.sg.d")
    assert [row[0] for row in rows if row[1]] == times


def test_columns_are_compared_as_constants_are(database):
    _, rows = database.execute("SELECT d > i, d = d, d < d, d != d, d <= f FROM root.sg.d")
    assert rows[0][1:] == [False, True, False, False, True]
    assert rows[1][1:] == [True, True, False, False, False]
    assert math.isnan(database.execute("SELECT d FROM root.sg.d WHERE time = 2")[1][0][1])


def test_a_negation_holds_for_each_series(database):
    sql = "SELECT i FROM root.sg.d, root.sg.e WHERE {} AND time < 4"
    for condition in ("NOT i > 2", "NOT (i > 2 OR i + 0 > 1e99)", "i <= 2", "NOT (i + 0 > 2)"):
        _, rows = database.execute(sql.format(condition))
        assert [row[0] for row in rows] == [3], condition


def test_conditions_of_having_that_are_of_no_series_are_refused(database):
    sql = "SELECT count(i) FROM root.sg.d HAVING count(none) > 1"
    with pytest.raises(ClusterError, match=r"Unknown time series .*none.* in `having clause`"):
        database.execute(sql)


def test_devices_that_lack_what_having_looks_at_are_left_out(database):
    sql = "SELECT count(i) FROM root.sg.* HAVING count(t) > 1 ALIGN BY DEVICE"
    assert database.execute(sql)[1] == [[b"root.sg.d", 4]]
