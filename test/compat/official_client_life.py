"""Run by an official apache-iotdb client's Python: the whole life of a client, values compared.

usage: official_client_life.py RELEASE PORT ROWS

ROWS is how many are paged. Each operation runs on its own; one line of JSON for each goes to
stdout: [operation, outcome], where the outcome is "ok", "absent: WHY" or the error.
"""

import json
import math
import sys
import traceback
import warnings

import numpy as np
from iotdb.Session import Session
from iotdb.utils.IoTDBConstants import Compressor, TSDataType, TSEncoding
from iotdb.utils.Tablet import Tablet

RELEASE, PORT, ROWS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
VERSION = tuple(map(int, RELEASE.split(".")))
SG = "root.c" + RELEASE.replace(".", "_")

BOOLEAN, INT32, INT64 = TSDataType.BOOLEAN, TSDataType.INT32, TSDataType.INT64
FLOAT, DOUBLE, TEXT = TSDataType.FLOAT, TSDataType.DOUBLE, TSDataType.TEXT
TIMESTAMP = getattr(TSDataType, "TIMESTAMP", None)
TYPES = [BOOLEAN, INT32, INT64, FLOAT, DOUBLE, TEXT]
NAMES = ["b", "i", "l", "f", "d", "t"]
COLUMNS = ", ".join(NAMES)
F32_MAX = float(np.finfo(np.float32).max)
F32_TINY = float(np.float32(1e-45))
EXTREMES = [
    [True, -(2**31), -(2**63), 1.5, -sys.float_info.max, "ünïcödé 测试 \U0001f600"],
    [False, 2**31 - 1, 2**63 - 1, -0.0, math.nan, ""],
    [True, 0, 2**53 + 1, math.inf, -math.inf, "a'b\"c\\d\n\te\0f"],
    [False, -1, -1, -F32_MAX, 5e-324, "x" * 70_000],
    [True, 1, 1, F32_TINY, 0.1 + 0.2, " "],
]


class Absent(Exception):
    """The release has no such call."""


OPERATIONS = []


def operation(name, since=(0,), why="not in this release"):
    def add(function):
        def run(session):
            if since > VERSION:
                raise Absent(why)
            function(session)

        OPERATIONS.append((name, run))
        return function

    return add


def ok(result):
    assert result in (0, None), f"call returned {result!r}"


def fails(call, *words):
    """A refused call raises with the server's message, or answers -1 (0.12)."""
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - whatever the release raises
        text = str(error)
        for word in words:
            assert word in text, f"{word!r} is not in the message {text!r}"
        assert VERSION >= (0, 13) or "NoneType" in text, text
    else:
        assert result == -1, f"the call was not refused: {result!r}"


def cell(field):
    """A value as Python, None for null."""
    if field is None or field.get_data_type() is None:
        return None
    kind = field.get_data_type()
    if field.is_null() or str(field) in ("None", "null", "<NA>"):
        return None
    if kind == BOOLEAN:
        return bool(field.get_bool_value())
    if kind == INT32:
        return int(field.get_int_value())
    if kind == INT64 or (TIMESTAMP is not None and kind == TIMESTAMP):
        return int(field.get_long_value())
    if kind == FLOAT:
        return float(field.get_float_value())
    if kind == DOUBLE:
        return float(field.get_double_value())
    value = field.get_binary_value()
    return value.decode() if isinstance(value, bytes) else value


def rows_of_data(data, timed=True):
    rows = []
    while data.has_next():
        record = data.next()
        cells = [cell(field) for field in record.get_fields()]
        rows.append((record.get_timestamp(), cells) if timed else cells)
    data.close_operation_handle()
    return rows


def rows_of(session, sql, timed=True):
    return rows_of_data(session.execute_query_statement(sql), timed)


def same(a, b):
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and repr(a) == repr(b))
    return type(a) is type(b) and a == b


def expect(session, sql, expected, timed=True):
    got = rows_of(session, sql, timed)
    assert same(got, expected), f"{sql}\n got {got!r:.2000}\nwant {expected!r:.2000}"


def expect_names(session, sql, names):
    data = session.execute_query_statement(sql)
    got = list(data.get_column_names())
    data.close_operation_handle()
    assert got == names, f"{sql}: columns {got!r}, not {names!r}"


def opened(compact=False, **options):
    session = Session("127.0.0.1", PORT, "root", "root", **options)
    session.open(compact)
    return session


# ---- sessions ----


@operation("open and close, binary protocol")
def _(session):
    other = opened()
    assert other.is_open()
    expect(other, "show version", rows_of(session, "show version", False), False)
    other.close()
    assert not other.is_open()


@operation("open and close, compact protocol")
def _(session):
    other = opened(compact=True)
    ok(other.insert_record(SG + ".compact", 1, NAMES, TYPES, EXTREMES[0]))
    expect(other, f"select {COLUMNS} from {SG}.compact", [(1, EXTREMES[0])])
    other.close()


@operation("wrong password")
def _(session):
    def call():
        other = Session("127.0.0.1", PORT, "root", "wrong")
        other.open(False)
        # releases up to 0.13 do not look at the answer: the first statement fails
        return other.execute_non_query_statement("set storage group to root.stolen")

    fails(call)
    assert not [row for row in rows_of(session, "show storage group", False) if "stolen" in row[0]]


@operation("time zone")
def _(session):
    other = opened(zone_id="+05:00")
    assert other.get_time_zone() == "+05:00"
    for zone in ("+08:00", "Asia/Shanghai", "UTC+8", "Z"):
        other.set_time_zone(zone)
        assert other.get_time_zone() == zone
    other.set_time_zone("+08:00")
    sql = "insert into %s.zone(time, s) values (%s, 1)"
    ok(other.execute_non_query_statement(sql % (SG, "2020-01-01T08:00:00")))
    expect(session, f"select s from {SG}.zone", [(1_577_836_800_000, [1.0])])
    other.close()


# ---- schema ----


@operation("storage groups")
def _(session):
    names = [f"{SG}_sg{number}" for number in range(4)]
    for name in names:
        ok(session.set_storage_group(name))
    fails(lambda: session.set_storage_group(names[0]), "already")
    shown = {row[0] for row in rows_of(session, "show storage group", False)}
    assert shown >= set(names), shown
    ok(session.delete_storage_group(names[0]))
    ok(session.delete_storage_groups(names[1:]))
    shown = {row[0] for row in rows_of(session, "show storage group", False)}
    assert not shown & set(names), shown


@operation("create time series")
def _(session):
    options = {}
    if VERSION >= (0, 13):
        options = {
            "props": {"owner": "x"},
            "tags": {"unit": "°C"},
            "attributes": {"place": "east"},
            "alias": "temperature",
        }
    ok(
        session.create_time_series(
            SG + ".made.s", INT64, TSEncoding.RLE, Compressor.SNAPPY, **options
        )
    )
    ok(
        session.create_multi_time_series(
            [SG + ".made.x", SG + ".made.y"],
            [FLOAT, TEXT],
            [TSEncoding.GORILLA, TSEncoding.PLAIN],
            [Compressor.SNAPPY, Compressor.LZ4],
        )
    )
    assert session.check_time_series_exists(SG + ".made.s")
    assert not session.check_time_series_exists(SG + ".made.none")
    fails(
        lambda: session.create_time_series(
            SG + ".made.s", INT64, TSEncoding.RLE, Compressor.SNAPPY
        ),
        "exist",
    )
    shown = {row[0]: row for row in rows_of(session, f"show timeseries {SG}.made.*", False)}
    assert sorted(shown) == [SG + ".made." + name for name in "sxy"], shown
    assert shown[SG + ".made.y"][3:6] == ["TEXT", "PLAIN", "LZ4"], shown
    if options:
        assert "temperature" in shown[SG + ".made.s"], shown
        assert any("°C" in str(item) for item in shown[SG + ".made.s"]), shown


@operation("create aligned time series", since=(0, 13))
def _(session):
    ok(
        session.create_aligned_time_series(
            SG + ".amade",
            ["x", "y"],
            [FLOAT, TEXT],
            [TSEncoding.GORILLA, TSEncoding.PLAIN],
            [Compressor.SNAPPY, Compressor.LZ4],
        )
    )
    shown = {row[0] for row in rows_of(session, f"show timeseries {SG}.amade.*", False)}
    assert shown == {SG + ".amade.x", SG + ".amade.y"}, shown
    devices = rows_of(session, f"show devices {SG}.amade", False)
    assert devices[0][:2] == [SG + ".amade", "true"], devices


@operation("delete time series")
def _(session):
    for name in "abc":
        ok(
            session.create_time_series(
                SG + ".gone." + name, INT32, TSEncoding.PLAIN, Compressor.SNAPPY
            )
        )
    ok(session.delete_time_series([SG + ".gone.a", SG + ".gone.b"]))
    assert not session.check_time_series_exists(SG + ".gone.a")
    assert session.check_time_series_exists(SG + ".gone.c")
    fails(lambda: session.delete_time_series([SG + ".gone.a"]))


# ---- inserts ----


@operation("insert record")
def _(session):
    for time, row in enumerate(EXTREMES):
        ok(session.insert_record(SG + ".rec", time - 2, NAMES, TYPES, row))
    expected = [(time - 2, row) for time, row in enumerate(EXTREMES)]
    expect(session, f"select {COLUMNS} from {SG}.rec", expected)
    fails(lambda: session.insert_record(SG + ".rec", 9, ["i"], [TEXT], ["no number"]))


@operation("insert records")
def _(session):
    ok(
        session.insert_records(
            [SG + ".recs", SG + ".recs2", SG + ".recs"],
            [2, 2, 1],
            [NAMES, NAMES[:2], NAMES],
            [TYPES, TYPES[:2], TYPES],
            [EXTREMES[1], [True, 7], EXTREMES[0]],
        )
    )
    sql = f"select {COLUMNS} from {SG}.recs"
    expect(session, sql, [(1, EXTREMES[0]), (2, EXTREMES[1])])
    expect(session, f"select b, i from {SG}.recs2", [(2, [True, 7])])
    fails(
        lambda: session.insert_records(
            [SG + ".recs", SG + ".recs"],
            [3, 4],
            [["i"], ["i"]],
            [[TEXT], [INT32]],
            [["bad"], [5]],
        )
    )
    expect(session, f"select i from {SG}.recs where time > 2", [(4, [5])])


@operation("insert records of one device")
def _(session):
    ok(
        session.insert_records_of_one_device(
            SG + ".one", [4, 3], [["b"], ["i"]], [[BOOLEAN], [INT32]], [[False], [9]]
        )
    )
    expect(session, f"select b, i from {SG}.one", [(3, [None, 9]), (4, [False, None])])


@operation("insert string record")
def _(session):
    ok(session.insert_str_record(SG + ".str", 5, ["flag", "n", "t"], ["true", "1.5", "测试"]))
    expect(session, f"select flag, n, t from {SG}.str", [(5, [True, 1.5, "测试"])])


@operation("insert string records of one device", since=(1, 0))
def _(session):
    ok(
        session.insert_string_records_of_one_device(
            SG + ".strs", [1, 2], [["a"], ["a", "b"]], [["1"], ["2", "x"]]
        )
    )
    expect(session, f"select a, b from {SG}.strs", [(1, [1.0, None]), (2, [2.0, "x"])])


FULL = [
    [False, 10, 11, 1.25, 10011.1, "test01"],
    [True, 100, -5, 1.5, 101.0, ""],
    [False, 0, 1, 0.0, math.nan, "test03"],
]
GAPS = [
    [False, 10, 11, 1.25, 10011.1, "test01"],
    [None, 100, None, 1.5, 101.0, None],
    [False, None, 1, None, None, "test03"],
    [None] * 5 + ["alone"],
    *([True, n, n, 0.5, 0.5, "n"] for n in range(4)),
    [True, 0, 0, 0.0, math.nan, None],
]


def tablet(device, rows, start=16):
    return Tablet(device, NAMES, TYPES, rows, list(range(start, start + len(rows))))


def timed(rows, start=16):
    return [(start + number, row) for number, row in enumerate(rows)]


@operation("insert tablet")
def _(session):
    rows = EXTREMES + FULL
    ok(session.insert_tablet(tablet(SG + ".tab", rows)))
    expect(session, f"select {COLUMNS} from {SG}.tab", timed(rows))
    for size in (1, 7, 8, 9, 16):
        device = f"{SG}.size{size}"
        rows = [[n % 2 == 0, n] for n in range(size)]
        part = Tablet(device, ["b", "i"], [BOOLEAN, INT32], rows, list(range(size)))
        ok(session.insert_tablet(part))
        expect(session, "select b, i from " + device, list(enumerate(rows)))


@operation("insert tablet with nulls", since=(0, 13), why="its tablets have no empty cells")
def _(session):
    for size in (1, 2, 4, 8, 9):
        device = f"{SG}.gaps{size}"
        rows = GAPS[-size:]
        ok(session.insert_tablet(tablet(device, rows)))
        expect(session, f"select {COLUMNS} from {device}", timed(rows))


@operation("insert tablets")
def _(session):
    devices = [f"{SG}.many{number}" for number in range(3)]
    ok(session.insert_tablets([tablet(device, FULL) for device in devices]))
    for device in devices:
        expect(session, f"select {COLUMNS} from {device}", timed(FULL))


@operation("insert NumPy tablet", since=(0, 13))
def _(session):
    from iotdb.utils.NumpyTablet import NumpyTablet

    kinds = [np.dtype(kind) for kind in (">?", ">i4", ">i8", ">f4", ">f8")]
    values = [np.array([row[n] for row in FULL], kind) for n, kind in enumerate(kinds)]
    values.append(np.array([row[5] for row in FULL]))
    times = np.array([16, 17, 18], np.dtype(">i8"))
    ok(session.insert_tablet(NumpyTablet(SG + ".np", NAMES, TYPES, values, times)))
    expect(session, f"select {COLUMNS} from {SG}.np", timed(FULL))


@operation("aligned inserts", since=(0, 13))
def _(session):
    device = SG + ".al"
    ok(session.insert_aligned_record(device, 1, NAMES, TYPES, EXTREMES[0]))
    ok(
        session.insert_aligned_records(
            [device, SG + ".al2"],
            [2, 2],
            [NAMES, NAMES[:2]],
            [TYPES, TYPES[:2]],
            [EXTREMES[1], [True, 7]],
        )
    )
    ok(
        session.insert_aligned_records_of_one_device(
            device, [4, 3], [["b"], ["i"]], [[BOOLEAN], [INT32]], [[False], [9]]
        )
    )
    ok(session.insert_aligned_str_record(SG + ".al3", 5, ["flag", "n"], ["true", "1.5"]))
    ok(session.insert_aligned_tablet(tablet(device, GAPS)))
    ok(session.insert_aligned_tablets([tablet(SG + ".al4", FULL), tablet(SG + ".al5", FULL)]))
    gap = [None] * 6
    expected = [(1, EXTREMES[0]), (2, EXTREMES[1])]
    expected += [(3, [gap[0], 9, *gap[2:]]), (4, [False, *gap[1:]]), *timed(GAPS)]
    expect(session, f"select {COLUMNS} from {device}", expected)
    expect(session, f"select b, i from {SG}.al2", [(2, [True, 7])])
    expect(session, f"select flag, n from {SG}.al3", [(5, [True, 1.5])])
    for name in ("al4", "al5"):
        expect(session, f"select {COLUMNS} from {SG}.{name}", timed(FULL))
    # a device is aligned or it is not
    fails(lambda: session.insert_record(device, 1, ["b"], [BOOLEAN], [True]))


@operation("test inserts")
def _(session):
    device = SG + ".tested"
    ok(session.test_insert_record(device, 1, NAMES, TYPES, EXTREMES[0]))
    ok(session.test_insert_records([device], [1], [NAMES], [TYPES], [EXTREMES[0]]))
    ok(session.test_insert_tablet(tablet(device, FULL)))
    ok(session.test_insert_tablets([tablet(device, FULL)]))
    assert not session.check_time_series_exists(device + ".b")


# ---- SQL ----


@operation("SQL that changes")
def _(session):
    device = SG + ".sql"
    for sql in (
        f"create timeseries {device}.s with datatype=DOUBLE, encoding=GORILLA",
        f"insert into {device}(timestamp, s) values(1, 2.5)",
        f"insert into {device}(timestamp, s) values(2, 3.5), (3, 4.5)",
        f"delete from {device}.s where time = 2",
    ):
        ok(session.execute_non_query_statement(sql))
    expect(session, f"select s from {device} where s > 2", [(1, [2.5]), (3, [4.5])])
    fails(lambda: session.execute_non_query_statement("this is no SQL"))
    fails(lambda: session.execute_query_statement("select s frm x").has_next())
    expect(session, f"select s from {device} where s > 4", [(3, [4.5])])


@operation("results: raw, filtered, limited, empty, repeated columns")
def _(session):
    device = SG + ".shape"
    ok(session.insert_tablet(tablet(device, FULL)))
    ok(session.insert_record(SG + ".shape2", 17, ["i"], [INT32], [7]))
    expect(
        session, "select i, t, i from " + device, [(t, [r[1], r[5], r[1]]) for t, r in timed(FULL)]
    )
    expect(session, f"select i from {device} where i > 5 limit 1 offset 1", [(17, [100])])
    expect(session, f"select i from {device} where time > 1000", [])
    expect(session, f"select nothing from {device}", [])
    expect(
        session,
        f"select i from {device}, {device}2",
        [(16, [10, None]), (17, [100, 7]), (18, [0, None])],
    )
    expect(
        session, f"select i from {device} order by time desc", [(18, [0]), (17, [100]), (16, [10])]
    )
    expect_names(
        session, "select i, t, i from " + device, ["Time"] + [device + "." + n for n in "iti"]
    )


@operation("results: aggregates, windows, fill, last, by device")
def _(session):
    device = SG + ".agg"
    for time in range(6):
        names, kinds = ["v", "t"], [INT64, TEXT]
        ok(session.insert_record(device, time * 10, names, kinds, [time, f"t{time}"]))
    expect(
        session,
        "select count(v), sum(v), avg(v), min_time(v), max_value(v), last_value(t) from " + device,
        [[6, 15.0, 2.5, 0, 5, "t5"]],
        False,
    )
    expect(
        session,
        f"select count(v), max_value(v) from {device} group by ([0, 80), 20ms)",
        [(0, [2, 1]), (20, [2, 3]), (40, [2, 5]), (60, [0, None])],
    )
    expect(session, "select last v from " + device, [(50, [device + ".v", "5", "INT64"])])
    expect(
        session,
        f"select v from {device} where time < 20 align by device",
        [(0, [device, 0]), (10, [device, 1])],
    )
    if VERSION >= (0, 13):  # 0.12 had no constants
        expect(session, f"select v + 1 from {device} where time = 10", [(10, [2.0])])


@operation("results: SHOW, COUNT, LIST")
def _(session):
    device = SG + ".shown"
    ok(session.insert_record(device, 1, ["a", "b"], [INT32, TEXT], [1, "x"]))
    expect(
        session,
        "show devices " + device,
        [rows_of(session, "show devices " + device, False)[0]],
        False,
    )
    assert rows_of(session, "show devices " + device, False)[0][0] == device
    expect(session, f"count timeseries {device}.*", [[2]], False)
    expect(session, "count devices " + device, [[1]], False)
    children = [row[0] for row in rows_of(session, "show child paths " + device, False)]
    assert children == [device + ".a", device + ".b"], children
    assert ["root"] in rows_of(session, "list user", False)
    assert rows_of(session, "show version", False)
    assert rows_of(session, "show ttl on " + SG, False)[0][0].startswith(SG)
    assert rows_of(session, f"show timeseries {SG}.none.*", False) == []
    for sql in ("show storage group", "show functions", "show query processlist"):
        data = session.execute_query_statement(sql)
        assert data.get_column_names(), sql
        data.close_operation_handle()


@operation("raw, last and aggregation queries by paths", since=(0, 13))
def _(session):
    device = SG + ".paths"
    for time in range(4):
        ok(session.insert_record(device, time, ["v"], [INT64], [time]))
    path = [device + ".v"]
    got = rows_of_data(session.execute_raw_data_query(path, 1, 3))
    assert got == [(1, [1]), (2, [2])], got
    got = rows_of_data(session.execute_last_data_query(path, 0))
    assert [(t, c[:3]) for t, c in got] == [(3, [path[0], "3", "INT64"])], got


@operation("execute_statement", since=(1, 0))
def _(session):
    assert session.execute_statement(f"insert into {SG}.ex(time, s) values (1, 1)") is None
    got = rows_of_data(session.execute_statement(f"select s from {SG}.ex"))
    assert got == [(1, [1.0])], got


@operation("paging")
def _(session):
    device = SG + ".page"
    for start in range(0, ROWS, 25_000):
        times = list(range(start, min(start + 25_000, ROWS)))
        values = [[n, f"row {n}"] for n in times]
        ok(session.insert_tablet(Tablet(device, ["v", "t"], [INT64, TEXT], values, times)))
    got = rows_of(session, "select v, t from " + device)
    assert len(got) == ROWS, len(got)
    assert got == [(n, [n, f"row {n}"]) for n in range(ROWS)]
    # a result that is given up, and another beside it
    data = session.execute_query_statement("select v from " + device)
    assert data.has_next()
    expect(session, "select count(v) from " + device, [[ROWS]], False)
    data.close_operation_handle()


@operation("DataFrame")
def _(session):
    device = SG + ".frame"
    if VERSION < (0, 13):
        data = session.execute_query_statement(f"select v from {device} where time < 0")
        assert len(data.todf()) == 0
        raise Absent("its todf() fails on any row")
    ok(session.insert_tablet(tablet(device, FULL)))
    frame = session.execute_query_statement(f"select {COLUMNS} from {device}").todf()
    assert list(frame["Time"]) == [16, 17, 18], frame
    for number, name in enumerate(NAMES):
        got = [
            value.item() if hasattr(value, "item") else value
            for value in frame[device + "." + name]
        ]
        assert same(got, [row[number] for row in FULL]), (name, got)
    more = session.execute_query_statement(f"select v from {SG}.page").todf()
    assert list(more[SG + ".page.v"]) == list(range(ROWS))


# ---- deletion ----


@operation("delete data")
def _(session):
    device = SG + ".del"
    for time in range(10):
        ok(session.insert_record(device, time, ["v", "w"], [INT64, INT64], [time, time]))
    ok(session.delete_data([device + ".v", device + ".w"], 3))
    expect(session, "select v from " + device, [(n, [n]) for n in range(4, 10)])
    if VERSION >= (0, 13):
        ok(session.delete_data_in_range([device + ".v"], 5, 6))
        expect(session, "select v from " + device, [(n, [n]) for n in (4, 7, 8, 9)])
        expect(session, "select count(w) from " + device, [[6]], False)


# ---- templates ----


@operation("templates by SQL", since=(0, 13), why="its SQL has none")
def _(session):
    name = "sql" + RELEASE.replace(".", "_")
    for sql in (
        f"create schema template {name} (s1 INT32, s2 TEXT)",
        f"set schema template {name} to {SG}.tsql",
        f"create timeseries of schema template on {SG}.tsql.d",
    ):
        ok(session.execute_non_query_statement(sql))
    assert [name] in rows_of(session, "show schema templates", False)
    ok(session.insert_record(SG + ".tsql.d", 1, ["s1"], [INT32], [5]))
    expect(session, f"select s1, s2 from {SG}.tsql.d", [(1, [5, None])])


@operation("templates by calls", since=(1, 0), why="its Session has none")
def _(session):
    from iotdb.template.MeasurementNode import MeasurementNode
    from iotdb.template.Template import Template

    name = "call" + RELEASE.replace(".", "_")
    where = SG + ".tcall"
    template = Template(name=name, share_time=False)
    template.add_template(MeasurementNode("s1", INT32, TSEncoding.RLE, Compressor.SNAPPY))
    template.add_template(MeasurementNode("s2", TEXT, TSEncoding.PLAIN, Compressor.LZ4))
    ok(session.create_schema_template(template))
    assert name in session.show_all_templates()
    session.add_measurements_in_template(
        name, ["s3"], [DOUBLE], [TSEncoding.GORILLA], [Compressor.SNAPPY], False
    )
    assert session.count_measurements_in_template(name) == 3
    assert sorted(session.show_measurements_in_template(name)) == ["s1", "s2", "s3"]
    assert session.is_measurement_in_template(name, "s3")
    assert session.is_path_exist_in_template(name, "s3")
    session.delete_node_in_template(name, "s3")
    assert not session.is_path_exist_in_template(name, "s3")
    session.set_schema_template(name, where)
    assert session.show_paths_template_set_on(name) == [where]
    ok(session.insert_record(where + ".d", 1, ["s1", "s2"], [INT32, TEXT], [5, "x"]))
    expect(session, f"select s1, s2 from {where}.d", [(1, [5, "x"])])
    fails(lambda: session.drop_schema_template(name))
    free = Template(name=name + "_free", share_time=True)
    free.add_template(MeasurementNode("s1", INT32, TSEncoding.RLE, Compressor.SNAPPY))
    ok(session.create_schema_template(free))
    session.set_schema_template(name + "_free", SG + ".tfree")
    session.unset_schema_template(name + "_free", SG + ".tfree")
    assert session.show_paths_template_set_on(name + "_free") == []
    session.drop_schema_template(name + "_free")
    assert name + "_free" not in session.show_all_templates()


# ---- around the session ----


@operation("types of 1.x: TIMESTAMP, DATE, BLOB, STRING", since=(1, 3, 3))
def _(session):
    import datetime

    names = ["ts", "day", "blob", "str"]
    kinds = [TSDataType.TIMESTAMP, TSDataType.DATE, TSDataType.BLOB, TSDataType.STRING]
    row = [1_700_000_000_000, datetime.date(2024, 1, 2), b"\xca\xfe", "s"]
    device = SG + ".newer"
    ok(session.insert_record(device, 1, names, kinds, row))
    ok(session.insert_tablet(Tablet(device, names, kinds, [row], [2])))
    data = session.execute_query_statement("select ts, day, str from " + device)
    for time in (1, 2):
        assert data.has_next()
        fields = data.next().get_fields()
        # kept by their physical types (docs/divergence.md)
        assert [cell(field) for field in fields] == [row[0], 20240102, "s"], (time, fields)
    assert not data.has_next()
    data.close_operation_handle()


@operation("session pool", since=(1, 0), why="not in this release")
def _(session):
    from iotdb.SessionPool import PoolConfig, SessionPool

    pool = SessionPool(PoolConfig("127.0.0.1", str(PORT), "root", "root"), 2, 3000)
    one, two = pool.get_session(), pool.get_session()
    ok(one.insert_record(SG + ".pool", 1, ["v"], [INT32], [1]))
    expect(two, f"select v from {SG}.pool", [(1, [1])])
    pool.put_back(one)
    pool.put_back(two)
    pool.close()


@operation("several hosts, redirection", since=(0, 13))
def _(session):
    urls = [f"127.0.0.1:{PORT}", f"127.0.0.1:{PORT}"]
    other = Session.init_from_node_urls(urls, "root", "root")
    other.open(False)
    for number in range(3):
        device = f"{SG}.hosts{number}"
        for time in range(3):
            ok(other.insert_record(device, time, ["v"], [INT32], [time]))
        part = Tablet(device, ["v"], [INT32], [[3], [4]], [3, 4])
        ok(other.insert_tablets([part, Tablet(device + "x", ["v"], [INT32], [[5]], [5])]))
        ok(other.insert_tablet(part))
        expect(other, "select v from " + device, [(n, [n]) for n in range(5)])
    other.close()


@operation("DB-API", since=(1, 0))
def _(session):
    from iotdb.dbapi import connect

    connection = connect("127.0.0.1", PORT, username="root", password="root")
    cursor = connection.cursor()
    cursor.execute(f"insert into {SG}.dbapi(time, v) values (1, 2.5)")
    cursor.execute(f"select v from {SG}.dbapi")
    assert [list(row) for row in cursor.fetchall()] == [[1, 2.5]]
    cursor.close()
    connection.close()


@operation("table model is refused clearly", since=(2, 0))
def _(session):
    from iotdb.table_session import TableSession, TableSessionConfig

    config = TableSessionConfig([f"127.0.0.1:{PORT}"], "root", "root")
    fails(lambda: TableSession(config), "table model")


@operation("delete storage group")
def _(session):
    ok(session.delete_storage_group(SG))
    assert rows_of(session, f"show timeseries {SG}.**", False) == []


def main():
    warnings.simplefilter("ignore")  # the clients' own
    session = opened()
    ok(session.set_storage_group(SG))
    for name, run in OPERATIONS:
        try:
            run(session)
            outcome = "ok"
        except Absent as absent:
            outcome = f"absent: {absent}"
        except Exception:  # noqa: BLE001 - reported
            outcome = traceback.format_exc()[-3000:]
        print(json.dumps([name, outcome]), flush=True)
    session.close()


main()
