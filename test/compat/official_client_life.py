"""Run by an official apache-iotdb client's Python: one life of a client, values compared.

usage: official_client_life.py RELEASE PORT

Prints one line for each operation: `ok NAME`, or `-- NAME` where the release does not have it.
"""

import math
import sys

import numpy as np
from iotdb.Session import Session
from iotdb.utils.IoTDBConstants import Compressor, TSDataType, TSEncoding
from iotdb.utils.Tablet import Tablet

release, port = sys.argv[1], int(sys.argv[2])
generation = tuple(map(int, release.split(".")[:2]))
session = Session("127.0.0.1", port, "root", "root")

TYPES = [
    TSDataType.BOOLEAN,
    TSDataType.INT32,
    TSDataType.INT64,
    TSDataType.FLOAT,
    TSDataType.DOUBLE,
    TSDataType.TEXT,
]
NAMES = ["b", "i", "l", "f", "d", "t"]
SG = "root.official" + release.replace(".", "_")
EXTREMES = [
    [True, -(2**31), -(2**63), 1.5, -1.7976931348623157e308, "ünïcödé 测试"],
    [False, 2**31 - 1, 2**63 - 1, -0.0, math.nan, ""],
]
OPERATIONS = []


def operation(name, since=(0, 12)):
    def add(function):
        OPERATIONS.append((name, since, function))
        return function

    return add


def ok(result):
    assert result in (0, None), f"call returned {result}"


def cell(field):
    """A value as Python, None for null."""
    if field is None or field.get_data_type() is None:
        return None
    kind = field.get_data_type()
    text = str(field)
    if text in ("None", "null"):
        return None
    if kind == TSDataType.BOOLEAN:
        return field.get_bool_value()
    if kind == TSDataType.INT32:
        return int(field.get_int_value())
    if kind == TSDataType.INT64:
        return int(field.get_long_value())
    if kind == TSDataType.FLOAT:
        return float(field.get_float_value())
    if kind == TSDataType.DOUBLE:
        return float(field.get_double_value())
    value = field.get_binary_value()
    return value.decode() if isinstance(value, bytes) else value


def drained(data):
    rows = []
    while data.has_next():
        record = data.next()
        rows.append((record.get_timestamp(), [cell(field) for field in record.get_fields()]))
    data.close_operation_handle()
    return rows


def rows_of(sql):
    return drained(session.execute_query_statement(sql))


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or a == b
    return type(a) is type(b) and a == b


def expect_rows(what, got, expected):
    fits = len(got) == len(expected) and all(
        g[0] == e[0] and len(g[1]) == len(e[1]) and all(map(same, g[1], e[1]))
        for g, e in zip(got, expected)  # noqa: B905 - equal lengths; old Pythons run this
    )
    assert fits, f"{what}\n got {got}\nwant {expected}"


def expect(sql, expected):
    expect_rows(sql, rows_of(sql), expected)


@operation("open")
def _():
    session.open(False)
    assert session.is_open()


@operation("storage groups")
def _():
    ok(session.set_storage_group(SG))
    ok(session.set_storage_group(SG + "x"))
    ok(session.set_storage_group(SG + "y"))
    ok(session.delete_storage_group(SG + "x"))
    ok(session.delete_storage_groups([SG + "y"]))
    assert [row[1][0] for row in rows_of("show storage group " + SG)] == [SG]


@operation("create series, one and many")
def _():
    ok(
        session.create_time_series(
            f"{SG}.made.s", TSDataType.INT64, TSEncoding.RLE, Compressor.SNAPPY
        )
    )
    ok(
        session.create_multi_time_series(
            [f"{SG}.made.x", f"{SG}.made.y"],
            [TSDataType.FLOAT, TSDataType.TEXT],
            [TSEncoding.GORILLA, TSEncoding.PLAIN],
            [Compressor.SNAPPY, Compressor.LZ4],
        )
    )
    assert session.check_time_series_exists(f"{SG}.made.s")
    assert not session.check_time_series_exists(f"{SG}.made.none")
    shown = rows_of(f"show timeseries {SG}.made.*")
    assert sorted(row[1][0] for row in shown) == [f"{SG}.made.{name}" for name in "sxy"], shown


@operation("create aligned series", (0, 13))
def _():
    ok(
        session.create_aligned_time_series(
            f"{SG}.al",
            ["a", "b"],
            [TSDataType.INT32, TSDataType.DOUBLE],
            [TSEncoding.PLAIN, TSEncoding.GORILLA],
            [Compressor.SNAPPY, Compressor.SNAPPY],
        )
    )
    assert session.check_time_series_exists(f"{SG}.al.b")


@operation("record, records, records of one device")
def _():
    ok(session.insert_record(f"{SG}.rec", 1, NAMES, TYPES, EXTREMES[0]))
    ok(
        session.insert_records(
            [f"{SG}.rec", f"{SG}.rec2"],
            [2, 2],
            [NAMES, NAMES[:2]],
            [TYPES, TYPES[:2]],
            [EXTREMES[1], [True, 7]],
        )
    )
    ok(
        session.insert_records_of_one_device(
            f"{SG}.rec2", [4, 3], [NAMES[:1], NAMES[1:2]], [TYPES[:1], TYPES[1:2]], [[False], [9]]
        )
    )
    expect(f"select b, i, l, f, d, t from {SG}.rec", [(1, EXTREMES[0]), (2, EXTREMES[1])])
    expect(f"select b, i from {SG}.rec2", [(2, [True, 7]), (3, [None, 9]), (4, [False, None])])


@operation("aligned record, records, records of one device", (0, 13))
def _():
    ok(session.insert_aligned_record(f"{SG}.arec", 1, NAMES, TYPES, EXTREMES[0]))
    ok(session.insert_aligned_records([f"{SG}.arec"], [2], [NAMES], [TYPES], [EXTREMES[1]]))
    ok(
        session.insert_aligned_records_of_one_device(
            f"{SG}.arec", [4, 3], [NAMES[:1], NAMES[1:2]], [TYPES[:1], TYPES[1:2]], [[False], [9]]
        )
    )
    expect(
        f"select b, i, l, f, d, t from {SG}.arec",
        [
            (1, EXTREMES[0]),
            (2, EXTREMES[1]),
            (3, [None, 9, None, None, None, None]),
            (4, [False, None, None, None, None, None]),
        ],
    )


@operation("string record")
def _():
    ok(session.insert_str_record(f"{SG}.str", 5, ["flag", "n", "t"], ["true", "1.5", "abc"]))
    expect(f"select flag, n, t from {SG}.str", [(5, [True, 1.5, "abc"])])


@operation("string records of one device", (1, 0))
def _():
    ok(
        session.insert_string_records_of_one_device(
            f"{SG}.strs", [1, 2], [["a", "b"]] * 2, [["1.5", "x"], ["2.5", "y"]]
        )
    )
    expect(f"select a, b from {SG}.strs", [(1, [1.5, "x"]), (2, [2.5, "y"])])


@operation("tablet")
def _():
    values = [[False, 10, 11, 1.25, 10011.1, "test01"], [True, 0, 0, 0.0, 1000.1, "t"]]
    ok(session.insert_tablet(Tablet(f"{SG}.full", NAMES, TYPES, values, [16, 17])))
    expect(
        f"select b, i, l, f, d, t from {SG}.full",
        [(16 + row, cells) for row, cells in enumerate(values)],
    )


@operation("tablet with nulls, aligned and not", (0, 13))
def _():
    values = [
        [False, 10, 11, 1.25, 10011.1, "test01"],
        [None, 100, None, 1.5, 101.0, None],
        [False, None, 1, None, None, "test03"],
        [True, 0, 0, 0.0, 1000.1, "t"],
    ]
    for number, device in enumerate((f"{SG}.tab", f"{SG}.atab")):
        tablet = Tablet(device, NAMES, TYPES, values, [16, 17, 18, 19])
        ok(session.insert_aligned_tablet(tablet) if number else session.insert_tablet(tablet))
        expect(
            f"select b, i, l, f, d, t from {device}",
            [(16 + row, cells) for row, cells in enumerate(values)],
        )


@operation("tablets")
def _():
    tablets = [
        Tablet(f"{SG}.many{number}", ["v"], [TSDataType.INT32], [[1], [2]], [1, 2])
        for number in range(3)
    ]
    ok(session.insert_tablets(tablets))
    for number in range(3):
        expect(f"select v from {SG}.many{number}", [(1, [1]), (2, [2])])


@operation("NumPy tablet", (0, 13))
def _():
    from iotdb.utils.NumpyTablet import NumpyTablet

    columns = [
        np.array([False, True], TYPES[0].np_dtype()),
        np.array([-(2**31), 2**31 - 1], TYPES[1].np_dtype()),
        np.array([-(2**63), 2**63 - 1], TYPES[2].np_dtype()),
        np.array([1.5, -0.0], TYPES[3].np_dtype()),
        np.array([0.1, math.nan], TYPES[4].np_dtype()),
        np.array(["测试", ""], TYPES[5].np_dtype()),
    ]
    times = np.array([1, 2], TSDataType.INT64.np_dtype())
    for number, device in enumerate((f"{SG}.np", f"{SG}.anp")):
        tablet = NumpyTablet(device, NAMES, TYPES, columns, times)
        ok(session.insert_aligned_tablet(tablet) if number else session.insert_tablet(tablet))
        expect(
            f"select b, i, l, f, d, t from {device}",
            [
                (1, [False, -(2**31), -(2**63), 1.5, 0.1, "测试"]),
                (2, [True, 2**31 - 1, 2**63 - 1, -0.0, math.nan, ""]),
            ],
        )


@operation("test inserts write nothing")
def _():
    ok(session.test_insert_record(f"{SG}.none", 1, NAMES, TYPES, EXTREMES[0]))
    ok(session.test_insert_tablet(Tablet(f"{SG}.none", ["v"], [TYPES[1]], [[1]], [1])))
    assert not session.check_time_series_exists(f"{SG}.none.v")


@operation("SQL: insert, filter, update errors")
def _():
    ok(session.execute_non_query_statement(f"insert into {SG}.sql(timestamp, s) values(1, 2.5)"))
    expect(f"select s from {SG}.sql where s > 2", [(1, [2.5])])
    try:
        code = session.execute_non_query_statement("create nonsense")
    except Exception as error:  # noqa: BLE001 - each release has another class for it
        code = str(error)
    assert code not in (0, None), code


@operation("SQL: aggregates, windows, fill, by device, last, SHOW, empty")
def _():
    rows = [[n, n * 0.5] for n in range(10)]
    device = f"{SG}.agg"
    ok(session.insert_tablet(Tablet(device, ["a", "b"], [TYPES[2], TYPES[4]], rows, range(10))))
    (row,) = rows_of(f"select count(a), sum(b), max_value(a) from {device}")
    assert row[1] == [10, 22.5, 9], row
    expect(
        f"select count(a), avg(b) from {device} group by ([0, 10), 4ms)",
        [(0, [4, 0.75]), (4, [4, 2.75]), (8, [2, 4.25])],
    )
    expect(f"select a from {device} where time > 100", [])
    assert rows_of(f"select a from {device} where a > 100") == []
    (row,) = rows_of(f"select last a from {device}")
    assert (row[0], row[1][:2]) == (9, [f"{device}.a", "9"]), row
    by_device = rows_of(f"select a from {device} where time < 2 align by device")
    assert [(r[0], r[1]) for r in by_device] == [(0, [device, 0]), (1, [device, 1])], by_device
    expect(f"select a, a + b, b from {device} where time = 3", [(3, [3, 4.5, 1.5])])
    assert [r[1][0] for r in rows_of(f"show devices {device}")] == [device]
    (row,) = rows_of(f"count timeseries {device}.*")
    assert row[1] == [2], row


@operation("paging over 100 000 rows")
def _():
    count = 100_000
    for start in range(0, count, 20_000):
        times = list(range(start, start + 20_000))
        ok(
            session.insert_tablet(
                Tablet(f"{SG}.page", ["v"], [TYPES[2]], [[n] for n in times], times)
            )
        )
    got = rows_of(f"select v from {SG}.page")
    assert [row[0] for row in got] == list(range(count)), len(got)
    assert [row[1][0] for row in got] == list(range(count))
    (row,) = rows_of(f"select count(v) from {SG}.page")
    assert row[1] == [count]


@operation("DataFrame", (0, 13))
def _():
    frame = session.execute_query_statement(f"select v from {SG}.page where time < 30000").todf()
    assert list(frame.columns) == ["Time", f"{SG}.page.v"], frame.columns
    assert frame["Time"].tolist() == frame[f"{SG}.page.v"].tolist() == list(range(30_000))


@operation("raw and last data query", (0, 13))
def _():
    data = drained(session.execute_raw_data_query([f"{SG}.page.v"], 5, 8))
    expect_rows("raw", data, [(n, [n]) for n in (5, 6, 7)])
    (row,) = drained(session.execute_last_data_query([f"{SG}.page.v"], 0))
    assert row[1][:2] == [f"{SG}.page.v", "99999"], row


@operation("execute_statement", (1, 0))
def _():
    assert session.execute_statement(f"insert into {SG}.ex(time, s) values(1, 1)") is None
    data = session.execute_statement(f"select s from {SG}.ex")
    expect_rows("execute_statement", drained(data), [(1, [1.0])])


@operation("templates", (1, 0))
def _():
    from iotdb.template.MeasurementNode import MeasurementNode
    from iotdb.template.Template import Template

    name = "t" + release.replace(".", "_")
    template = Template(name=name, share_time=False)
    template.add_template(MeasurementNode("x", TYPES[3], TSEncoding.PLAIN, Compressor.SNAPPY))
    template.add_template(MeasurementNode("y", TYPES[2], TSEncoding.PLAIN, Compressor.SNAPPY))
    session.create_schema_template(template)
    assert name in session.show_all_templates()
    assert session.count_measurements_in_template(name) == 2
    assert session.is_measurement_in_template(name, "x")
    assert sorted(session.show_measurements_in_template(name, "")) == ["x", "y"]
    session.set_schema_template(name, f"{SG}.templated")
    assert session.show_paths_template_set_on(name) == [f"{SG}.templated"]
    ok(session.insert_record(f"{SG}.templated.d", 1, ["x", "y"], [TYPES[3], TYPES[2]], [0.5, 3]))
    expect(f"select x, y from {SG}.templated.d", [(1, [0.5, 3])])
    assert session.show_paths_template_using_on(name) == [f"{SG}.templated.d"]
    ok(session.execute_non_query_statement(f"deactivate template {name} from {SG}.templated.d"))
    session.unset_schema_template(name, f"{SG}.templated")
    session.drop_schema_template(name)
    assert name not in session.show_all_templates()


@operation("session pool", (1, 0))
def _():
    from iotdb.SessionPool import PoolConfig, SessionPool

    config = PoolConfig(host="127.0.0.1", port=str(port), user_name="root", password="root")
    pool = SessionPool(config, 2, 3000)
    for _ in range(3):
        taken = pool.get_session()
        data = taken.execute_query_statement(f"select s from {SG}.sql")
        expect_rows("pool", drained(data), [(1, [2.5])])
        pool.put_back(taken)
    pool.close()


@operation("the client's own DB-API", (1, 0))
def _():
    from iotdb.dbapi import connect

    connection = connect("127.0.0.1", port, "root", "root")
    cursor = connection.cursor()
    cursor.execute(f"select v from {SG}.page where time < 3")
    assert [tuple(row) for row in cursor.fetchall()] == [(0, 0), (1, 1), (2, 2)]
    cursor.close()
    connection.close()


@operation("delete data, series")
def _():
    ok(session.delete_data([f"{SG}.page.v"], 99_989))
    expect(f"select v from {SG}.page", [(n, [n]) for n in range(99_990, 100_000)])
    ok(session.delete_time_series([f"{SG}.made.x"]))
    assert not session.check_time_series_exists(f"{SG}.made.x")


@operation("delete data in a range", (0, 13))
def _():
    ok(session.delete_data_in_range([f"{SG}.page.v"], 99_991, 99_998))
    expect(f"select v from {SG}.page", [(n, [n]) for n in (99_990, 99_999)])


@operation("time zone")
def _():
    session.set_time_zone("+08:00")
    assert session.get_time_zone() == "+08:00"
    expect(f"select s from {SG}.sql where time < 1970-01-01T08:00:01", [(1, [2.5])])


@operation("compact protocol")
def _():
    compact = Session("127.0.0.1", port, "root", "root")
    compact.open(True)
    data = compact.execute_query_statement(f"select s from {SG}.sql")
    expect_rows("compact", drained(data), [(1, [2.5])])
    compact.close()


@operation("wrong password")
def _():
    refused = Session("127.0.0.1", port, "root", "wrong")
    try:
        refused.open(False)
        refused.close()
    except Exception as error:  # noqa: BLE001
        assert any(part in str(error) for part in ("Authentication", "600", "801")), error  # noqa: PT017
    else:
        assert generation < (1, 0), "a wrong password was taken"  # the old ones only print it


@operation("close")
def _():
    ok(session.delete_storage_group(SG))
    session.close()


for name, since, function in OPERATIONS:
    if generation < since:
        print(f"-- {name}")
        continue
    try:
        function()
    except Exception:
        print(f"!! {name}", flush=True)
        raise
    print(f"ok {name}", flush=True)
print("life complete")
