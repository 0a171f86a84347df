"""Run by an official apache-iotdb client's Python: one life of a client, values compared.

usage: official_client_life.py RELEASE PORT
"""

import math
import sys

from iotdb.Session import Session
from iotdb.utils.IoTDBConstants import Compressor, TSDataType, TSEncoding
from iotdb.utils.Tablet import Tablet

release, port = sys.argv[1], int(sys.argv[2])
session = Session("127.0.0.1", port, "root", "root")
session.open(False)

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


def rows_of(sql):
    data = session.execute_query_statement(sql)
    rows = []
    while data.has_next():
        record = data.next()
        rows.append((record.get_timestamp(), [cell(field) for field in record.get_fields()]))
    data.close_operation_handle()
    return rows


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or a == b
    return type(a) is type(b) and a == b


def expect(sql, expected):
    got = rows_of(sql)
    fits = len(got) == len(expected) and all(
        g[0] == e[0] and len(g[1]) == len(e[1]) and all(map(same, g[1], e[1]))
        for g, e in zip(got, expected)  # noqa: B905 - equal lengths; old Pythons run this
    )
    assert fits, f"{sql}\n got {got}\nwant {expected}"


ok(session.set_storage_group(SG))
ok(session.create_time_series(f"{SG}.made.s", TSDataType.INT64, TSEncoding.RLE, Compressor.SNAPPY))
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

# one record, records, records of one device
extremes = [
    [True, -(2**31), -(2**63), 1.5, -1.7976931348623157e308, "ünïcödé 测试"],
    [False, 2**31 - 1, 2**63 - 1, -0.0, math.nan, ""],
]
ok(session.insert_record(f"{SG}.rec", 1, NAMES, TYPES, extremes[0]))
ok(
    session.insert_records(
        [f"{SG}.rec", f"{SG}.rec2"],
        [2, 2],
        [NAMES, NAMES[:2]],
        [TYPES, TYPES[:2]],
        [extremes[1], [True, 7]],
    )
)
ok(
    session.insert_records_of_one_device(
        f"{SG}.rec2", [4, 3], [NAMES[:1], NAMES[1:2]], [TYPES[:1], TYPES[1:2]], [[False], [9]]
    )
)
expect(f"select b, i, l, f, d, t from {SG}.rec", [(1, extremes[0]), (2, extremes[1])])
expect(f"select b, i from {SG}.rec2", [(2, [True, 7]), (3, [None, 9]), (4, [False, None])])

# string record
ok(session.insert_str_record(f"{SG}.str", 5, ["flag", "number", "text"], ["true", "1.5", "abc"]))
expect(f"select flag, number, text from {SG}.str", [(5, [True, 1.5, "abc"])])

# tablet of all six types with nulls, aligned and not
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
tablets = [
    Tablet(f"{SG}.many{number}", ["v"], [TSDataType.INT32], [[1], [2]], [1, 2])
    for number in range(3)
]
ok(session.insert_tablets(tablets))
for number in range(3):
    expect(f"select v from {SG}.many{number}", [(1, [1]), (2, [2])])

# SQL: insert, filter, aggregate, paging, delete
ok(session.execute_non_query_statement(f"insert into {SG}.sql(timestamp, s) values(1, 2.5)"))
expect(f"select s from {SG}.sql where s > 2", [(1, [2.5])])
many = Tablet(
    f"{SG}.page", ["v"], [TSDataType.INT64], [[n] for n in range(25_000)], list(range(25_000))
)
ok(session.insert_tablet(many))
got = rows_of(f"select v from {SG}.page")
assert [row[0] for row in got] == list(range(25_000)), len(got)
assert [row[1][0] for row in got] == list(range(25_000))
counts = rows_of(f"select count(v) from {SG}.page")
assert counts[0][1] == [25_000], counts
ok(session.delete_data([f"{SG}.page.v"], 24_990))
expect(f"select v from {SG}.page where time > 24990", [(n, [n]) for n in range(24_991, 25_000)])
shown = rows_of(f"show timeseries {SG}.made.*")
assert sorted(row[1][0] for row in shown) == [f"{SG}.made.{name}" for name in "sxy"], shown
ok(session.delete_time_series([f"{SG}.made.x"]))
assert not session.check_time_series_exists(f"{SG}.made.x")

session.set_time_zone("+08:00")
assert session.get_time_zone() == "+08:00"
ok(session.delete_storage_group(SG))
session.close()
print("life complete")
