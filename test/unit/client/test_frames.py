from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import iotdb_client
from harness.fake_database import Table
from iotdb_client import frames
from iotdb_client.types import DataType

TYPES = ["BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE", "TEXT"]
FULL = (True, 1, 2**62 + 1, 1.5, 0.1, "hä")


@pytest.fixture
def connection(port):
    with iotdb_client.connect(f"127.0.0.1:{port}", fetch_size=2, zone="UTC") as made:
        yield made


@pytest.fixture
def local():
    with iotdb_client.connect(":memory:", zone="UTC") as made:
        yield made


def result(database, rows, types=TYPES):
    names = [f"c{number}" for number in range(len(types))]
    database.results["select"] = Table(names, types, rows, times=list(range(len(rows))))


def test_pandas_without_nulls_has_plain_types(database, connection):
    result(database, [FULL] * 5)
    frame = connection.execute("select").to_pandas()
    assert [str(kind) for kind in frame.dtypes[:6]] == [
        "datetime64[ms, UTC]",
        "bool",
        "int32",
        "int64",
        "float32",
        "float64",
    ]
    assert frame["c2"].tolist() == [2**62 + 1] * 5
    assert frame["c5"].tolist() == ["hä"] * 5
    assert frame["Time"][3] == pd.Timestamp(3, unit="ms", tz="UTC")
    assert connection.execute("select").to_pandas(times="int")["Time"].tolist() == [0, 1, 2, 3, 4]


def test_pandas_with_nulls_loses_nothing(database, connection):
    result(database, [FULL, (None,) * 6, FULL])
    frame = connection.execute("select").to_pandas()
    assert [str(kind) for kind in frame.dtypes[1:6]] == [
        "boolean",
        "Int32",
        "Int64",
        "float32",
        "float64",
    ]
    assert frame["c2"][2] == 2**62 + 1
    assert frame.iloc[1, 1:].isna().all()
    assert frame["c5"][0] == "hä"


def test_arrow_and_polars(database, connection):
    result(database, [FULL, (None,) * 6, FULL])
    table = connection.execute("select").to_arrow()
    assert table.schema.field("Time").type == pa.timestamp("ms", "UTC")
    assert [str(table.schema.field(f"c{n}").type) for n in range(6)] == [
        "bool",
        "int32",
        "int64",
        "float",
        "double",
        "string",
    ]
    assert table.column("c2").to_pylist() == [2**62 + 1, None, 2**62 + 1]
    assert table.column("c5").to_pylist() == ["hä", None, "hä"]
    frame = connection.execute("select").to_polars(times="int")
    assert isinstance(frame, pl.DataFrame)
    assert frame["c0"].to_list() == [True, None, True]
    assert frame["Time"].to_list() == [0, 1, 2]


def test_an_empty_result_and_columns_named_twice(database, connection):
    result(database, [])
    assert connection.execute("select").to_arrow().num_rows == 0
    empty = connection.execute("select").to_pandas()
    assert list(empty.columns)[:2] == ["Time", "c0"]
    result(database, [FULL])
    assert connection.execute("select").to_pandas().dtypes.equals(empty.dtypes)
    database.results["select"] = Table(["a", "a"], ["INT32"] * 2, [(1, 1)], times=[0])
    assert connection.execute("select").to_pandas().to_numpy().tolist()[0][1:] == [1, 1]
    assert connection.execute("select").to_arrow().column_names == ["Time", "a", "a"]
    with pytest.raises(iotdb_client.ProgrammingError, match="use AS"):
        connection.execute("select").to_polars()


def test_a_table_is_of_all_rows(database, connection):
    result(database, [FULL] * 3)
    cursor = connection.execute("select")
    cursor.fetchone()
    with pytest.raises(iotdb_client.ProgrammingError, match="fetched already"):
        cursor.to_pandas()


def test_a_missing_library_is_named(database, connection, monkeypatch):
    result(database, [FULL])

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(frames.importlib, "import_module", missing)
    with pytest.raises(iotdb_client.NotSupportedError, match="-m pip install pyarrow"):
        connection.execute("select").to_arrow()


def wide_frame(rows):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "b": rng.random(rows) > 0.5,
            "i": rng.integers(-(2**31), 2**31, rows).astype("int32"),
            "l": rng.integers(-(2**63), 2**63 - 1, rows),
            "f": rng.random(rows).astype("float32"),
            "d": rng.random(rows),
            "t": [f"ü{number}" for number in range(rows)],
        },
        index=pd.date_range("2024-01-01", periods=rows, freq="1s", unit="ms"),
    )
    frame["n"] = pd.array([None if n % 3 else n for n in range(rows)], dtype="Int64")
    frame.loc[frame.index[1], ["d", "t"]] = [np.nan, None]
    return frame


def test_a_dataframe_goes_in_and_comes_out(local, monkeypatch):
    monkeypatch.setattr("iotdb_client.connection._TABLET_BYTES", 20_000)
    frame = wide_frame(1000)
    seen = []
    done = local.insert_dataframe(
        "root.a.d", frame, progress=lambda rows, of: seen.append((rows, of))
    )
    assert done == 1000
    assert seen[-1] == (1000, 1000)
    assert len(seen) > 3
    back = local.execute("select b, i, l, f, d, t, n from root.a.d").to_pandas()
    back.columns = [name.rpartition(".")[2] for name in back.columns]
    assert back["Time"].dt.tz_localize(None).tolist() == frame.index.tolist()
    for name in frame.columns:
        left, right = back[name], frame[name].reset_index(drop=True)
        assert left.isna().tolist() == right.isna().tolist(), name
        assert left.dropna().tolist() == right.dropna().tolist(), name


def test_an_arrow_table_goes_in_and_comes_out(local):
    table = pa.table(
        {
            "Time": pa.array([10, 20, 30], pa.timestamp("ms", "UTC")),
            "b": pa.array([True, None, False]),
            "i": pa.array([1, None, 3], pa.int32()),
            "l": pa.array([2**62 + 1, None, -1], pa.int64()),
            "f": pa.array([0.5, None, 1.5], pa.float32()),
            "d": pa.array([0.1, None, float("nan")], pa.float64()),
            "t": pa.array(["ä", None, ""]),
            "k": pa.array(["x", "y", "x"]).dictionary_encode(),
        }
    )
    assert local.insert_arrow("root.a.d", table) == 3
    names = ", ".join(table.column_names[1:])
    back = local.execute(f"select {names} from root.a.d").to_arrow()
    assert back.column(0).to_pylist() == table.column("Time").to_pylist()
    for number, name in enumerate(table.column_names[1:], start=1):
        # NaN equals nothing, itself included
        assert str(back.column(number).to_pylist()) == str(table.column(name).to_pylist())


def test_times_finer_than_the_servers_are_refused_where_rows_would_replace_one_another(local):
    start = np.datetime64("2024-05-01T00:00:00.000000")
    apart = start + np.array([1, 1001, 2001], "timedelta64[us]")
    together = start + np.array([1, 2, 2001], "timedelta64[us]")
    table = pa.table({"Time": pa.array(apart), "x": [1.0, 2.0, 3.0]})
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=apart)
    assert local.insert_dataframe("root.a.d", frame) == 3
    assert local.insert_arrow("root.a.e", table) == 3
    for device in ("d", "e"):
        assert local.execute(f"select count(x) from root.a.{device}").fetchall() == [(3,)]
    frame.index = pd.DatetimeIndex(together)
    with pytest.raises(iotdb_client.DataError, match=r"less than a unit .*ms"):
        local.insert_dataframe("root.a.d", frame)
    with pytest.raises(iotdb_client.DataError, match=r"less than a unit .*ms"):
        local.insert_arrow("root.a.e", table.set_column(0, "Time", pa.array(together)))
    # two rows of one time, and fine moments as values, are the caller's business
    frame.index = pd.DatetimeIndex([apart[0], apart[0], apart[1]])
    frame["seen"] = together
    assert local.insert_dataframe("root.a.f", frame) == 3


def test_time_column_and_types_are_the_callers_to_say(local):
    frame = pd.DataFrame({"when": [5, 6], "v": [1, 2]})
    local.insert_dataframe(
        "root.a.d", frame, time_column="when", types={"v": DataType.DOUBLE}, aligned=True
    )
    assert local.execute("select v from root.a.d").fetchall() == [(5, 1.0), (6, 2.0)]
    assert local.execute("show devices").fetchall() == [("root.a.d", "true")]


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (pd.DataFrame({"a": [1.0]}, index=[1.5]), {}, "times are"),
        (pd.DataFrame({"a": [[1]]}), {}, "a: values of type list"),
        (pd.DataFrame({"a": ["x", 1]}), {}, "int, str"),
        (pd.DataFrame({"a": np.array([1], "uint64")}), {}, "uint64"),
        (pd.DataFrame({"a": [1]}), {"time_column": "t"}, "no column 't'"),
        (pd.DataFrame({"Time": [None], "a": [1]}), {}, "time is missing"),
        (pd.DataFrame({"a": [1]}), {"types": {"b": DataType.TEXT}}, "types names b"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), {}, "twice"),
        (pd.DataFrame({"a": [1]}, pd.MultiIndex.from_tuples([(1, 2)])), {}, "index has 2 levels"),
    ],
)
def test_what_can_not_be_stored_is_refused_before_anything_is_sent(local, frame, options, message):
    with pytest.raises(iotdb_client.DataError, match=message):
        local.insert_dataframe("root.a.d", frame, **options)
    assert local.execute("show timeseries").fetchall() == []


@pytest.mark.parametrize("wrong", [{"a": [1]}, pl.DataFrame({"Time": [1], "a": [1]}), [1], None])
def test_another_kind_of_table_is_told_where_it_goes(local, wrong):
    with pytest.raises(iotdb_client.DataError, match=r"pandas\.DataFrame.*insert_polars"):
        local.insert_dataframe("root.a.d", wrong)
    with pytest.raises(iotdb_client.DataError, match=r"pyarrow\.Table"):
        local.insert_arrow("root.a.d", wrong)
    if not isinstance(wrong, pl.DataFrame):
        with pytest.raises(iotdb_client.DataError, match=r"polars\.DataFrame"):
            local.insert_polars("root.a.d", wrong)


def test_a_type_that_is_none_is_told(local):
    for wrong in ("INT32", 1):
        with pytest.raises(iotdb_client.DataError, match=r"a: .* is no DataType"):
            local.insert_dataframe("root.a.d", pd.DataFrame({"a": [1]}), types={"a": wrong})
        with pytest.raises(iotdb_client.DataError, match=r"a: .* is no DataType"):
            local.insert_tablet("root.a.d", ["a"], [wrong], [1], [[1]])


def test_a_word_for_times_that_is_none_is_told(database, connection):
    result(database, [FULL])
    for make in ("to_pandas", "to_arrow", "to_polars"):
        with pytest.raises(iotdb_client.ProgrammingError, match="'datetime' or 'int'"):
            getattr(connection.execute("select"), make)(times="number")


def test_a_polars_frame_goes_in_and_comes_out(local):
    frame = pl.DataFrame(
        {
            "Time": pl.Series([1, 2, 3]).cast(pl.Datetime("ms", "UTC")),
            "b": [True, None, False],
            "i": pl.Series([1, None, 3], dtype=pl.Int32),
            "l": [2**62 + 1, None, -(2**63)],
            "f": pl.Series([1.5, None, float("inf")], dtype=pl.Float32),
            "d": [0.1, None, 0.3],
            "t": ["h\u00e4", "x", None],
        }
    )
    done = []
    progress = lambda rows, of: done.append((rows, of))  # noqa: E731
    assert local.insert_polars("root.a.d", frame, progress=progress) == 3
    assert done == [(3, 3)]
    columns = ", ".join(frame.columns[1:])
    back = local.execute(f"select {columns} from root.a.d").to_polars()
    assert back.rename(lambda name: name.rpartition(".")[2]).equals(frame)
    words = frame.select("Time", kind=pl.Series(["x", None, "y"], dtype=pl.Categorical))
    assert local.insert_polars("root.a.e", words, aligned=True) == 3
    assert local.execute("select kind from root.a.e").fetchall() == [(1, "x"), (3, "y")]
    assert local.insert_polars(None, back) == 3


def test_texts_of_arrow_in_any_layout(local):
    views = [pa.string_view()] if hasattr(pa, "string_view") else []  # since 16
    kinds = [pa.string(), pa.large_string(), *views]
    for number, kind in enumerate(kinds):
        table = pa.table({"Time": [1, 2], "t": pa.array(["h\u00e4", None], kind)})
        assert local.insert_arrow(f"root.a.t{number}", table) == 2
    rows = local.execute("select t from root.a.* align by device").fetchall()
    assert [row[2] for row in rows] == ["h\u00e4"] * len(kinds)


def written(local, device):
    return local.execute(f"select * from {device} align by device").fetchall()


def test_a_result_can_be_written_elsewhere_and_to_where_it_came_from(local):
    frame = wide_frame(50)
    local.insert_dataframe("root.a.d", frame)
    expected = [row[2:] for row in written(local, "root.a.d")]
    query = "select b, i, l, f, d, t, n from root.a.d"
    assert local.insert_dataframe("root.a.copy", local.execute(query).to_pandas()) == 50
    assert local.insert_arrow("root.a.arrow", local.execute(query).to_arrow()) == 50
    for device in ("root.a.copy", "root.a.arrow"):
        assert [row[2:] for row in written(local, device)] == expected
    back = local.execute(query).to_pandas()
    local.execute("delete from root.a.d.*")
    assert local.insert_dataframe(None, back) == 50
    assert [row[2:] for row in written(local, "root.a.d")] == expected


def test_a_result_of_several_devices_goes_back_to_each(local):
    local.execute("insert into root.a.`line 1`(time, x, `y z`) values (1, 1.5, 'a')")
    local.execute("insert into root.a.d2(time, x) values (2, 2.5)")
    expected = local.execute("select * from root.a.* align by device").fetchall()
    wide = local.execute("select * from root.a.*").to_pandas()
    long = local.execute("select * from root.a.* align by device").to_pandas()
    arrow = local.execute("select * from root.a.* align by device").to_arrow()
    for write, table in (
        (local.insert_dataframe, wide),
        (local.insert_dataframe, long),
        (local.insert_arrow, arrow),
        (local.insert_polars, pl.from_arrow(arrow)),
    ):
        local.execute("delete timeseries root.a.**")
        assert write(None, table) == 2
        assert local.execute("select * from root.a.* align by device").fetchall() == expected
        assert local.execute("count timeseries root.a.**").fetchall() == [(3,)]


def test_columns_without_a_type_are_left_out(local):
    frame = pd.DataFrame({"a": [None, None], "b": [1, 2]}, index=[1, 2])
    assert local.insert_dataframe("root.a.d", frame) == 2
    assert local.execute("count timeseries root.a.**").fetchall() == [(1,)]
    local.insert_dataframe("root.a.e", frame, types={"a": DataType.INT32})
    kinds = local.execute("show timeseries root.a.e.a").fetchall()
    assert "INT32" in kinds[0]
    assert local.insert_dataframe("root.a.f", frame[["a"]]) == 0


@pytest.mark.parametrize(
    ("device", "names", "message"),
    [
        ("root.a.d", ["root.b.c.x", "root.b.d.x"], "would both be x: rename"),
        (None, ["root.b.c.x", "count(root.b.d.x)"], r"'count\(root.b.d.x\)' is no full path"),
        (None, ["x", "y"], "'x' is no full path"),
        (None, ["Device", "y"], "the column Device must have"),
    ],
)
def test_it_must_be_clear_where_columns_go(local, device, names, message):
    frame = pd.DataFrame([[1, 2]], columns=names, index=[1])
    with pytest.raises(iotdb_client.DataError, match=message):
        local.insert_dataframe(device, frame)
    assert local.execute("show timeseries").fetchall() == []
