from __future__ import annotations

import gc
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import ClusterError
from cluster.query.udf import wire, worker
from harness.local_database import LocalDatabase

MODULES = Path(__file__).parent / "udf_modules"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(MODULES, tmp_path / "udf"))


@pytest.fixture
def database(folder):
    # a machine that has no time for the worker must not fail what works
    with LocalDatabase(2, udf_dir=str(folder), udf_timeout_ms="600000") as made:
        made.execute(
            "INSERT INTO root.sg.d(time, s, t) VALUES (1, 1, 'a'), (2, 2, null), (3, 3, 'c')"
        )
        made.execute("INSERT INTO root.sg.d(time, t) VALUES (4, 'd')")
        yield made
        functions = made.executor.functions
        functions.close()
        gc.collect()  # runs of failed queries are held by their tracebacks
        assert functions._count == 0


def made(database, name):
    database.execute(f"CREATE FUNCTION {name} AS 'sample:{name.capitalize()}'")


def test_a_function_sees_the_rows_of_a_query_in_order(database):
    made(database, "running")
    _, rows = database.execute("SELECT running(s, 'start'='10'), running(s) + 1, s FROM root.sg.d")
    assert rows == [[1, 11.0, 2.0, 1.0], [2, 13.0, 4.0, 2.0], [3, 16.0, 7.0, 3.0]]


def test_texts_and_nulls(database):
    made(database, "joined")
    columns, rows = database.execute("SELECT joined(t, s, 'glue'='/') FROM root.sg.d")
    assert columns == ["Time", 'joined(root.sg.d.t, root.sg.d.s, "glue"="/")']
    assert rows == [[1, b"a/1.0"], [3, b"c/3.0"]]


def test_functions_over_aggregates_and_inside_of_others(database):
    made(database, "running")
    _, rows = database.execute("SELECT running(count(s)) FROM root.sg.d GROUP BY ([0, 4), 2ms)")
    assert rows == [[0, 1.0], [2, 3.0]]
    _, rows = database.execute("SELECT abs(running(-s)) FROM root.sg.d")
    assert [row[1] for row in rows] == [1.0, 3.0, 6.0]


def test_it_is_shown_and_dropped(database):
    made(database, "running")
    _, rows = database.execute("SHOW FUNCTIONS")
    assert [b"RUNNING", b"external UDTF", b"sample:Running"] in rows
    with pytest.raises(ClusterError, match="already"):
        made(database, "running")
    database.execute("DROP FUNCTION running")
    with pytest.raises(ClusterError, match="has not been registered"):
        database.execute("SELECT running(s) FROM root.sg.d")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("raises", r"failed: KeyError: 'nothing' \(sample.py, line \d+\)"),
        ("ends", r"its process ended"),
        ("hungry", r"failed: .*(MemoryError|Unable to allocate)"),
        ("short", r"compute returned \(2,\) values for 3 rows"),
        ("mangles", "its process answered something else than was asked"),
    ],
)
def test_a_bad_function_fails_its_query_only(database, name, told):
    made(database, name)
    made(database, "running")
    with pytest.raises(ClusterError) as caught:
        database.execute(f"SELECT {name}(s) FROM root.sg.d")
    assert caught.value.status == 411
    assert re.search(told, caught.value.message), caught.value.message
    assert database.execute("SELECT running(s) FROM root.sg.d")[1][-1] == [3, 6.0]


@pytest.mark.parametrize(
    ("kind", "found", "told"),
    [
        ("INT32", np.array([1, 2**40]), "compute returned 1099511627776, which is no INT32"),
        ("INT32", np.array([1.0, 1.5]), "compute returned 1.5, which is no INT32"),
        ("INT64", np.array([1.0, np.nan]), "compute returned nan, which is no INT64"),
        ("INT64", np.array([1, 2**63], "u8"), "which is no INT64"),
        ("INT64", [1, 2.5], "compute returned 2.5, which is no INT64"),
        ("FLOAT", np.array([1.0, 1e300]), r"compute returned 1e\+300, which is no FLOAT"),
        ("INT32", [1, 2**40], "compute returned .* no INT32"),
        ("INT32", [1, None], "compute returned a value that is no INT32: int"),
        ("FLOAT", [1, 1e300], r"compute returned 1e\+300, which is no FLOAT"),
        ("TEXT", [b"x", 5], "compute returned 5, which is no TEXT"),
        ("TEXT", [None, "x"], "compute returned None, which is no TEXT"),
        ("INT32", np.zeros((2, 2)), r"compute returned \(2, 2\) values for 2 rows"),
        ("INT32", ([1, 2], [True]), r"compute returned a mask of \(1,\) for 2 rows"),
    ],
)
def test_values_that_a_result_s_type_has_not_are_refused(kind, found, told):
    """They were cut to size: 2**40 came as 0."""
    with pytest.raises(Exception, match=told):
        worker.result_column(found, kind, 2)


@pytest.mark.parametrize(
    ("kind", "found", "values"),
    [
        ("INT32", np.array([1.0, -2.0]), [1, -2]),
        ("INT64", [2**62 + 1, True], [2**62 + 1, 1]),
        ("INT64", ([None, 7], [False, True]), [0, 7]),
        ("INT32", (np.array([np.nan, 7.0]), [False, True]), [..., 7]),
        ("FLOAT", np.array([0.1, np.inf]), [np.float32(0.1), np.inf]),
        ("DOUBLE", np.array([2**53 + 1, 1]), [2.0**53, 1.0]),
        ("BOOLEAN", np.array([0, 2]), [False, True]),
        ("INT64", [2**62 + 1, 2.0], [2**62 + 1, 2]),
        ("TEXT", [b"a\0", "b"], [b"a\0", b"b"]),
        ("TEXT", (["x", None], [True, False]), [b"x", b""]),
        ("TEXT", np.array(["ä", "b"]), ["ä".encode(), b"b"]),
    ],
)
def test_values_that_a_result_s_type_has_are_taken(kind, found, values):
    column = worker.result_column(found, kind, 2)
    wanted = [column.values[0] if one is ... else one for one in values]
    assert column.values.tolist() == wanted


def test_one_that_takes_too_long_fails_its_query_only(database, monkeypatch):
    made(database, "sleeps")
    made(database, "running")
    with monkeypatch.context() as patch:
        patch.setattr(database.executor.functions, "_timeout_s", 0.05)
        with pytest.raises(ClusterError, match=r"it took too long \(udf_timeout_ms\)") as caught:
            database.execute("SELECT sleeps(s) FROM root.sg.d")
    assert caught.value.status == 411
    assert database.execute("SELECT running(s) FROM root.sg.d")[1][-1] == [3, 6.0]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("CREATE FUNCTION f AS 'nothing:X'", "module nothing: ModuleNotFoundError"),
        ("CREATE FUNCTION f AS 'sample:Nothing'", "has no class Nothing"),
        ("CREATE FUNCTION f AS 'sample:NoCompute'", "with a method compute"),
        ("CREATE FUNCTION f AS 'sample'", "has no class"),
        ("CREATE FUNCTION sin AS 'sample:Running'", "built-in"),
    ],
)
def test_what_can_not_be_registered(database, sql, told):
    with pytest.raises(ClusterError, match=told):
        database.execute(sql)


def test_arguments_that_a_function_refuses(database):
    made(database, "running")
    with pytest.raises(ClusterError, match="one numeric series is needed"):
        database.execute("SELECT running(t) FROM root.sg.d")
    database.execute("CREATE FUNCTION f AS 'sample:NoType'")
    with pytest.raises(ClusterError, match="result_type is None"):
        database.execute("SELECT f(s) FROM root.sg.d")


def test_a_changed_file_is_loaded_anew(database, folder):
    made(database, "running")
    assert database.execute("SELECT running(s) FROM root.sg.d")[1][0] == [1, 1.0]
    path = folder / "sample.py"
    path.write_text(path.read_text().replace("sums = self.total", "sums = 1000 + self.total"))
    assert database.execute("SELECT running(s) FROM root.sg.d")[1][0] == [1, 1001.0]


def test_processes_are_used_again_and_few_are_kept(database):
    made(database, "running")
    for _ in range(5):
        database.execute("SELECT running(s), running(s, 'start'='1') FROM root.sg.d")
    assert len(database.executor.functions._idle) <= 2
    assert database.executor.functions._count <= 2


def test_they_are_off_by_default():
    with LocalDatabase() as database, pytest.raises(ClusterError, match="switched off"):
        database.execute("CREATE FUNCTION f AS 'sample:Running'")


def test_columns_survive_the_wire():
    sent = [
        wire.WireColumn("INT64", np.array([1, -(1 << 62)])),
        wire.WireColumn("TEXT", np.array([b"a", b""], object), np.array([True, False])),
        wire.WireColumn("BOOLEAN", np.array([True, False])),
    ]
    data = wire.encode({"op": "run"}, sent)
    at = 0

    def read(count):
        nonlocal at
        at += count
        return data[at - count : at]

    head, columns = wire.decode(read)
    assert head == {"op": "run"}
    for before, after in zip(sent, columns, strict=True):
        assert (before.type, before.values.tolist()) == (after.type, after.values.tolist())
    assert at == len(data)


def test_a_process_that_can_not_be_started_fails_its_query_only(database, folder):
    made(database, "running")
    shutil.rmtree(folder)
    for _ in range(20):
        with pytest.raises(ClusterError, match="process can't be started"):
            database.execute("SELECT running(s) FROM root.sg.d")
    assert database.executor.functions._count == len(database.executor.functions._idle)


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b"7",
        b"{}",
        b'{"columns": 7}',
        b'{"columns": [7]}',
        b'{"columns": [["INT64"]]}',
        b'{"columns": [["INT64", "1", "8", "0"]]}',
        b'{"columns": [["TEXT", 1000000000000, 4, 0]]}',
        b'{"columns": [["TEXT", -1, 4, 0]]}',
        b"[" * 100_000,
    ],
)
def test_whatever_a_worker_answers_is_a_message_or_a_value_error(head):
    data = io.BytesIO(len(head).to_bytes(4, "big") + head + bytes(16))
    with pytest.raises(ValueError):  # noqa: PT011 - of several makers
        wire.decode(data.read)
