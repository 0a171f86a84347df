"""Statements at the edges of numbers and of time: right, or refused with a reason for people."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cluster.errors import ClusterError, StatusCode
from cluster.query import aggregation
from cluster.query.fill import FilledRows, Reach, fill_column, on_line
from cluster.query.result import held_cells
from cluster.query.segments import find_segments
from cluster.rpc.status import Generation
from cluster.sql.statements.select import FillMethod, FillMode, SegmentKind, Segments
from harness.local_database import LocalDatabase
from iotdb_engine.types import T_MAX, T_MIN, Column, ColumnBatch, DataType

INT32_MAX, INT32_MIN = 2**31 - 1, -(2**31)
MANY_NINES = "9" * 5000

SETUP = [
    "CREATE TIMESERIES root.sg.d.i INT32",
    "CREATE TIMESERIES root.sg.d.l INT64",
    "CREATE TIMESERIES root.sg.d.t TEXT",
    "CREATE TIMESERIES root.sg.e.i INT32",
    f"INSERT INTO root.sg.d(time, i, l, t) VALUES (1, {INT32_MIN}, {T_MIN}, 'x')",
    f"INSERT INTO root.sg.d(time, i, l) VALUES (5, {INT32_MAX}, {T_MAX})",
    "INSERT INTO root.sg.e(time, i) VALUES (1, 7)",
]


@pytest.fixture
def database():
    with LocalDatabase() as made:
        for sql in SETUP:
            made.execute(sql)
        yield made


@pytest.fixture
def modern():
    with LocalDatabase(generation=Generation.V1) as made:
        for sql in SETUP:
            made.execute(sql)
        yield made


def refusal(database, sql):
    with pytest.raises(ClusterError) as caught:
        database.execute(sql)
    assert caught.value.status in (StatusCode.METADATA_ERROR, StatusCode.QUERY_PROCESS_ERROR)
    assert "4300" not in caught.value.message
    assert "set_int_max_str_digits" not in caught.value.message
    return caught.value.message


# ---- windows ----


@pytest.mark.parametrize("windows", ["2ms, 0ms", "1mo, 0ms", "1mo, 0mo", "1ms, 0mo"])
def test_windows_that_do_not_move_are_refused(modern, windows):
    message = refusal(modern, f"SELECT count(i) FROM root.sg.d GROUP BY ([0, 10), {windows})")
    assert "sliding step should be a positive integer" in message


@pytest.mark.parametrize("windows", ["2mo, 1mo", "31d, 1mo", "1mo, 30d", "1mo1d, 1mo"])
def test_windows_longer_than_their_step_are_refused_up_to_0_13(database, windows):
    message = refusal(database, f"SELECT count(i) FROM root.sg.d GROUP BY ([0, 10), {windows})")
    assert "sliding step shouldn't be smaller" in message


def test_windows_longer_than_their_step_overlap_in_1_x(modern):
    _, rows = modern.execute("SELECT count(i) FROM root.sg.d GROUP BY ([0, 9), 5ms, 3ms)")
    assert rows == [[0, 1], [3, 1], [6, 0]]


# ---- numbers with very many digits ----


@pytest.mark.parametrize(
    "grouping",
    [
        f"COUNT(i, {MANY_NINES})",
        f"COUNT(i, {2**64})",
        f"CONDITION(i > 0, keep >= {MANY_NINES})",
        f"([0, 10), {MANY_NINES}ms)",
    ],
)
def test_sizes_beyond_64_bits_are_refused(modern, grouping):
    refusal(modern, f"SELECT count(i) FROM root.sg.d GROUP BY {grouping}")


@pytest.mark.parametrize("threshold", [MANY_NINES, f"keep >= {MANY_NINES}"])
def test_thresholds_of_many_digits_are_refused(modern, threshold):
    refusal(modern, f"SELECT count_if(i > 0, {threshold}) FROM root.sg.d")


def test_a_size_that_no_group_reaches(modern):
    _, rows = modern.execute(f"SELECT count(i) FROM root.sg.d GROUP BY COUNT(i, {T_MAX})")
    assert rows == []


@pytest.mark.parametrize(
    "condition", [f"time > now() - {MANY_NINES}d", f"time > {MANY_NINES}-01-01T00:00:00"]
)
def test_times_of_many_digits_are_refused(database, condition):
    refusal(database, f"SELECT i FROM root.sg.d WHERE {condition}")


@pytest.mark.parametrize("bound", ["--5", "-", "5-", "²"])
def test_bounds_of_a_dead_band_that_are_no_numbers(database, bound):
    with pytest.raises(ClusterError, match="time formatting error"):
        database.execute(
            "CREATE TIMESERIES root.sg.d.n WITH DATATYPE=INT32, ENCODING=PLAIN, LOSS=SDT, "
            f"COMPDEV=1, COMPMINTIME='{bound}'"
        )


# ---- texts ----


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        (r"'\ud83d\ude00'", "😀"),
        (r"'\ud83d'", "?"),
        (r"'a\ude00\ud83db'", "a??b"),
        (r"'\u00e4'", "ä"),
    ],
)
def test_escapes_of_characters_outside_the_basic_plane(database, literal, text):
    database.execute(f"INSERT INTO root.sg.d(time, t) VALUES (9, {literal})")
    _, rows = database.execute(f"SELECT t FROM root.sg.d WHERE t = {literal}")
    assert rows == [[9, text.encode()]]


# ---- FILL ----


def test_lines_between_the_ends_of_a_type(database):
    _, rows = database.execute("SELECT i, l FROM root.sg.d WHERE time = 4 FILL(LINEAR)")
    share = 0.75 * (2**32 - 1)
    assert rows == [[4, INT32_MIN + math.trunc(share), 2**62]]


def test_a_line_over_all_times():
    times = [np.array([time], np.int64) for time in (0, T_MIN, T_MAX)]
    values = [np.array([value], np.float64) for value in (0.0, 8.0)]
    assert on_line(*times, *values).tolist() == [4.0]


def test_a_distance_longer_than_64_bits_is_no_distance_back():
    rows = FilledRows(np.array([T_MIN, T_MAX], np.int64), 0, 1)
    column = Column(DataType.INT32, np.array([1, 0], np.int32), np.array([True, False]))
    for mode in (FillMethod.PREVIOUS, FillMethod.PREVIOUS_UNTIL_LAST):
        filled = fill_column(rows, column, FillMode(mode), Reach(5, None))
        assert filled.valid is not None
        assert filled.valid.tolist() == [True, False]


@pytest.mark.parametrize("value", ["7", "'x'", "true"])
def test_a_constant_is_for_cells_not_for_columns_that_a_device_lacks(database, value):
    sql = f"SELECT last_value(t), last_value(i), last_value(none) FROM root.sg.* GROUP BY ([0, 2), 1ms) FILL({value}) ALIGN BY DEVICE"  # noqa: E501
    _, rows = database.execute(sql)
    by_device = {}
    for _, device, text, number, nothing in rows:
        assert nothing is None
        by_device.setdefault(device, []).append((text, number))
    assert [text for text, _ in by_device[b"root.sg.e"]] == [None, None]
    assert [number for _, number in by_device[b"root.sg.e"]] == [7 if value == "7" else None, 7]
    assert [text for text, _ in by_device[b"root.sg.d"]] == [value.encode(), b"x"]


# ---- sessions ----


def test_rows_as_far_apart_as_can_be_are_two_sessions():
    times = np.array([T_MIN, T_MAX], np.int64)
    found = find_segments(Segments(SegmentKind.SESSION), 1000, iter([(times, None)]))
    (piece,) = found.pieces(10)
    assert piece.times.tolist() == [T_MIN, T_MAX]


def test_distances_of_fill_in_descending_order(modern):
    for sql in ("(1, 1, null)", "(4, null, 4)", "(6, null, 6)", "(20, 20, null)"):
        modern.execute(f"INSERT INTO root.sg.f(time, i, l) VALUES {sql}")
    _, rows = modern.execute("SELECT i, l FROM root.sg.f FILL(PREVIOUS, 3ms)")
    assert rows == [[1, 1.0, None], [4, 1.0, 4.0], [6, None, 6.0], [20, 20.0, None]]
    _, rows = modern.execute("SELECT i, l FROM root.sg.f ORDER BY TIME DESC FILL(PREVIOUS, 14ms)")
    assert rows == [[20, 20.0, None], [6, 20.0, 6.0], [4, None, 4.0], [1, 1.0, 4.0]]


def test_a_text_fills_without_its_quotes_in_1_x(modern):
    _, rows = modern.execute("SELECT i, t FROM root.sg.d FILL('it''s')")
    assert rows == [[1, INT32_MIN, b"x"], [5, INT32_MAX, b"it's"]]


def test_the_ends_of_the_distances_of_lines(database):
    for time in (100, 110):
        database.execute(f"INSERT INTO root.sg.f(time, i) VALUES ({time}, {time})")
    point = "SELECT i FROM root.sg.f WHERE time = 104 FILL(LINEAR, {}ms, {}ms)"
    for before, after, value in ((4, 6, 104.0), (3, 6, None), (4, 5, None)):
        assert database.execute(point.format(before, after))[1] == [[104, value]]
    windows = "SELECT sum(i) FROM root.sg.f GROUP BY ([100, 111), 1ms) FILL(LINEAR, {}ms, {}ms)"
    for before, after, value in ((4, 6, 104.0), (3, 6, None), (4, 5, None)):
        assert database.execute(windows.format(before, after))[1][4] == [104, value]


def test_a_column_of_levels_may_have_one_name_twice(database):
    sql = "SELECT count(i) AS n, count(i) AS n FROM root.sg.d, root.sg.e GROUP BY LEVEL=1"
    assert database.execute(sql) == (["n"], [[3]])


# ---- what is held in memory ----


def test_long_texts_count_for_more_than_a_cell():
    texts = Column(DataType.TEXT, np.array([b"x" * 160, b"", 0], object))
    numbers = Column(DataType.INT32, np.zeros(3, np.int32))
    batch = ColumnBatch(np.arange(3, dtype=np.int64), (texts, numbers))
    assert held_cells(batch) == 6 + 10


@pytest.mark.parametrize("items", ["i + 1, l + 1, i - l", "upper(t), t"])
def test_wide_rows_are_put_in_descending_order_up_to_a_limit_of_cells(database, monkeypatch, items):
    database.execute(f"INSERT INTO root.sg.d(time, t) VALUES (5, '{'x' * 200}')")
    sql = f"SELECT {items} FROM root.sg.d ORDER BY TIME DESC"
    assert len(database.execute(sql)[1]) == 2
    monkeypatch.setattr(aggregation, "_MAX_REVERSED_CELLS", 5)
    with pytest.raises(ClusterError, match=r"more than 5 cells .* descending order"):
        database.execute(sql)
