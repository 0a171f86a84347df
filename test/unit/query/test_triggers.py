from __future__ import annotations

import json
import logging
import re
import shutil
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cluster.coordinator import insert_triggers
from cluster.coordinator.inserter import InsertItem
from cluster.coordinator.prepared import Prepared
from cluster.coordinator.schema_cache import LayoutKey
from cluster.errors import ClusterError
from cluster.query.udf import triggers as triggers_module
from cluster.query.udf.process import UdfError
from cluster.query.udf.triggers import TriggerBatch, TriggerRuntime
from cluster.rpc.deadline import Deadline
from cluster.schema.registry import Trigger
from harness.local_database import LocalDatabase
from iotdb_engine import DataType

MODULES = Path(__file__).parent / "udf_modules"
NEVER_MS = "600000"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(MODULES, tmp_path / "udf"))


@pytest.fixture
def database(folder):
    # a machine that has no time for the worker must not fail what works
    with LocalDatabase(udf_dir=str(folder), udf_timeout_ms=NEVER_MS) as made:
        made.execute("CREATE TIMESERIES root.sg.d.s(alias) WITH DATATYPE=DOUBLE")
        made.execute("CREATE TIMESERIES root.sg.d.t WITH DATATYPE=TEXT")
        yield made
        made.coordinator.triggers.close()


class Written:
    """What triggers of class Records were told: [name, batches so far, device, times, cells]."""

    def __init__(self, path):
        self.path = path

    def lines(self):
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def told(tmp_path):
    return Written(tmp_path / "told")


def create(database, told, name, event, path):
    database.execute(
        f"CREATE TRIGGER {name} {event} INSERT ON {path} AS 'sample:Records' "
        f"WITH ('file'='{told.path}', 'name'='{name}')"
    )


def rows_of(database):
    return database.execute("SELECT s FROM root.sg.d")[1]


def test_it_sees_batches_of_rows_with_their_nulls(database, told):
    create(database, told, "a", "AFTER", "root.sg.d")
    database.execute("INSERT INTO root.sg.d(time, s, t) VALUES (2, 2.5, 'x'), (1, null, 'y')")
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (3, 3)")
    assert told.lines() == [
        ["a", 1, "root.sg.d", [2, 1], {"s": [2.5, None], "t": ["x", "y"]}],
        ["a", 2, "root.sg.d", [3], {"s": [3.0]}],
    ]


def test_tablets_fire_once_with_the_names_of_the_series(database, told):
    create(database, told, "a", "BEFORE", "root.sg.d.s")
    count = 1000
    times = np.arange(count, dtype=">i8")
    item = InsertItem(
        "root.sg.d",
        ("alias",),
        (DataType.DOUBLE,),
        count,
        times.tobytes(),
        times.astype(">f8").tobytes(),
        b"",
        aligned=False,
    )
    for _ in range(2):
        (status,) = database.coordinator.inserter.insert([item], Deadline.after(60))
        assert status.ok
    cells = {"s": [float(n) for n in range(count)]}
    assert [line[4] for line in told.lines()] == [cells, cells]


def test_inserts_that_were_seen_before_fire_too(database, told):
    names, types = ("s",), (DataType.DOUBLE,)
    prepared = Prepared(LayoutKey("root.sg.d", names, types, False))
    value = np.array([1.0], ">f8").tobytes()
    for at in range(5):
        if at == 3:
            create(database, told, "a", "BEFORE", "root.sg.d")
        stamp = np.array([at], ">i8").tobytes()
        item = InsertItem(
            "root.sg.d", names, types, 1, stamp, value, b"", aligned=False, prepared=prepared
        )
        status, _ = database.coordinator.inserter.insert_one(item, Deadline.after(60))
        assert status.ok
    assert prepared.resolved is not None
    assert [line[3] for line in told.lines()] == [[3], [4]]


def test_those_of_the_series_fire_first_then_upwards(database, told):
    for name, path in (
        ("group", "root.sg"),
        ("series", "root.sg.d.s"),
        ("device", "root.sg.d"),
        ("other", "root.sg.d.t"),
    ):
        create(database, told, name, "AFTER", path)
    create(database, told, "early", "BEFORE", "root.sg")
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    assert [line[0] for line in told.lines()] == ["early", "series", "device", "group"]


def test_a_pattern_watches_series(database, told):
    database.execute("CREATE TIMESERIES root.sg.e.s WITH DATATYPE=DOUBLE")
    create(database, told, "p", "AFTER", "root.sg.*.s")
    database.execute("INSERT INTO root.sg.d(time, s, t) VALUES (1, 1, 'x')")
    database.execute("INSERT INTO root.sg.e(time, s) VALUES (1, 2)")
    database.execute("INSERT INTO root.sg.e.below(time, s) VALUES (1, 3)")
    assert [line[2:] for line in told.lines()] == [
        ["root.sg.d", [1], {"s": [1.0]}],
        ["root.sg.e", [1], {"s": [2.0]}],
    ]


def test_before_refuses_the_insert_and_nothing_else(database):
    database.execute(
        "CREATE TRIGGER guard BEFORE INSERT ON root.sg.d.s AS 'sample:Guards' WITH ('limit'='5')"
    )
    with pytest.raises(ClusterError, match=r"guard failed: ValueError: s is above 5") as caught:
        database.execute("INSERT INTO root.sg.d(time, s, t) VALUES (1, 1, 'x'), (2, 9, 'y')")
    assert caught.value.status == 506  # a status for each of the two rows
    assert rows_of(database) == []
    with pytest.raises(ClusterError) as caught:
        database.execute("INSERT INTO root.sg.d(time, s) VALUES (2, 9)")
    assert caught.value.status == 313
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    database.execute("INSERT INTO root.sg.d(time, t) VALUES (9, 'z')")
    assert rows_of(database) == [[1, 1.0]]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("FiresTooLong", "took too long (udf_timeout_ms)"), ("FiresAndEnds", "its process ended")],
)
def test_a_bad_trigger_fails_its_insert_only(database, kind, text):
    if kind == "FiresTooLong":
        database.coordinator.triggers._timeout_s = 0.05
    database.execute(f"CREATE TRIGGER bad BEFORE INSERT ON root.sg.d.s AS 'sample:{kind}'")
    with pytest.raises(ClusterError) as caught:
        database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    assert text in caught.value.message
    database.execute("STOP TRIGGER bad")
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    assert rows_of(database) == [[1, 1.0]]


def test_after_is_logged_and_the_rows_stay(database, caplog):
    database.execute("CREATE TRIGGER bad AFTER INSERT ON root.sg AS 'sample:FiresAndEnds'")
    with caplog.at_level(logging.WARNING):
        database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
        database.execute("INSERT INTO root.sg.d(time, s) VALUES (2, 2)")
    assert rows_of(database) == [[1, 1.0], [2, 2.0]]
    (told,) = [r.getMessage() for r in caplog.records if "trigger bad failed" in r.getMessage()]
    assert "its process ended" in told


def test_what_can_not_be_written_does_not_fire(database, told):
    create(database, told, "b", "BEFORE", "root.sg")
    create(database, told, "a", "AFTER", "root.sg")
    with pytest.raises(ClusterError, match=r"failed to insert measurements \[s\]"):
        database.execute("INSERT INTO root.sg.d(time, s, t) VALUES (1, 'word', 'x')")
    database.execute("SET TTL TO root.sg 1000")
    with pytest.raises(ClusterError, match="ttl"):
        database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    assert [[line[0], line[4]] for line in told.lines()] == [
        ["b", {"t": ["x"]}],
        ["a", {"t": ["x"]}],
    ]


@pytest.mark.parametrize("event", ["BEFORE", "AFTER"])
def test_an_insert_of_which_a_part_is_written_fires_once(folder, told, event):
    with LocalDatabase(udf_dir=str(folder), enable_auto_create_schema="false") as database:
        database.execute("SET STORAGE GROUP TO root.sg")
        database.execute("CREATE TIMESERIES root.sg.d.s WITH DATATYPE=DOUBLE")
        create(database, told, "a", event, "root.sg.d")
        with pytest.raises(ClusterError, match="none"):
            database.execute("INSERT INTO root.sg.d(time, s, none) VALUES (1, 2.5, 3)")
        database.coordinator.triggers.close()
        assert [line[2:] for line in told.lines()] == [["root.sg.d", [1], {"s": [2.5]}]]
        assert rows_of(database) == [[1, 2.5]]


@pytest.mark.parametrize("event", ["BEFORE", "AFTER"])
def test_an_insert_that_meets_a_type_changed_elsewhere_fires_once(database, told, event):
    create(database, told, "a", event, "root.sg.d")
    database.execute("INSERT INTO root.sg.d(time, s, t) VALUES (1, 1, 'x')")
    cache = database.coordinator.inserter._cache
    # as another node would: what is remembered here stays as it was
    remembered = cache.device("root.sg.d")
    key = LayoutKey("root.sg.d", ("s", "t"), (DataType.DOUBLE, DataType.TEXT), False)
    layout = cache.layout(key)
    database.execute("DELETE TIMESERIES root.sg.d.s")
    database.execute("CREATE TIMESERIES root.sg.d.s WITH DATATYPE=INT32")
    cache.remember_device("root.sg.d", remembered)
    cache.remember_layout(key, layout)
    database.execute("INSERT INTO root.sg.d(time, s, t) VALUES (2, 2, 'y')")
    assert [line[2:4] for line in told.lines()] == [["root.sg.d", [1]], ["root.sg.d", [2]]]
    assert database.execute("SELECT s, t FROM root.sg.d")[1] == [[1, None, b"x"], [2, 2, b"y"]]


def test_results_of_queries_fire_too(database, told):
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    database.execute("CREATE TIMESERIES root.sg.copy.s WITH DATATYPE=DOUBLE")
    create(database, told, "a", "AFTER", "root.sg.copy")
    database.execute("SELECT s INTO root.sg.copy.s FROM root.sg.d")
    assert [line[2:] for line in told.lines()] == [["root.sg.copy", [1], {"s": [1.0]}]]


def test_stopped_and_started_and_dropped(database, told):
    create(database, told, "a", "AFTER", "root.sg")
    assert database.execute("SHOW TRIGGERS")[1][0][:5] == [
        b"a",
        b"started",
        b"after insert",
        b"root.sg",
        b"sample:Records",
    ]
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    database.execute("STOP TRIGGER a")
    assert database.execute("SHOW TRIGGERS")[1][0][1] == b"stopped"
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (2, 1)")
    assert not database.coordinator.triggers._running
    database.execute("START TRIGGER a")
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (3, 1)")
    assert [line[1:4] for line in told.lines()] == [
        [1, "root.sg.d", [1]],
        [1, "root.sg.d", [3]],
    ]
    database.execute("DROP TRIGGER a")
    assert database.execute("SHOW TRIGGERS")[1] == []
    for sql in ("DROP TRIGGER a", "START TRIGGER a", "STOP TRIGGER a"):
        with pytest.raises(ClusterError, match="Trigger a does not exist"):
            database.execute(sql)


def test_stopping_ends_the_wait_for_one_that_hangs(folder):
    with LocalDatabase(udf_dir=str(folder), udf_timeout_ms=NEVER_MS) as database:
        database.execute("CREATE TIMESERIES root.sg.d.s WITH DATATYPE=DOUBLE")
        database.execute("CREATE TRIGGER bad BEFORE INSERT ON root.sg.d.s AS 'sample:FiresTooLong'")
        triggers = database.coordinator.triggers
        insert = threading.Thread(
            target=database.execute, args=["INSERT INTO root.sg.d(time, s) VALUES (1, 1)"]
        )
        insert.start()
        wait_for(lambda: triggers._running and triggers._running["bad"].process is not None)
        database.execute("STOP TRIGGER bad")
        insert.join(30)
        assert not insert.is_alive()
        assert not triggers._running
        assert rows_of(database) == [[1, 1.0]]


class FakeProcess:
    """A worker whose start takes 7 s of a clock of its own, and who notes how long it may take."""

    now = 100.0
    while_starting = staticmethod(lambda: None)

    def __init__(self, _folder):
        self.asked = []
        self.alive = True

    def ask(self, request, timeout_s):
        self.asked.append(timeout_s)
        if b"make_trigger" in request:
            FakeProcess.now += 7.0
            self.while_starting()

    def close(self):
        self.alive = False

    kill = close


@pytest.fixture
def fake_processes(monkeypatch):
    monkeypatch.setattr(FakeProcess, "now", 100.0)
    monkeypatch.setattr(triggers_module, "WorkerProcess", FakeProcess)
    clock = SimpleNamespace(monotonic=lambda: FakeProcess.now)
    monkeypatch.setattr(triggers_module, "time", clock)


WATCH = Trigger("a", "before insert", "root.sg.d", "sample:Records", (("file", "/dev/null"),))
BATCH = TriggerBatch("root.sg.d", [], np.array([1]), [])


def test_how_long_its_process_takes_to_start_is_no_doing_of_the_batch(folder, fake_processes):
    runtime = TriggerRuntime(folder, 2.0)
    runtime.fire(WATCH, BATCH, 60.0)
    process = runtime._place("a").process
    assert process.asked == [20.0, 2.0]
    runtime.fire(WATCH, BATCH, 60.0)
    assert process.asked == [20.0, 2.0, 2.0]
    # the insert's own time counts all of it
    runtime.keep(())
    runtime.fire(WATCH, BATCH, 8.0)
    assert runtime._place("a").process.asked == [8.0, 1.0]


def test_one_that_is_stopped_while_its_process_starts_does_not_fire(
    folder, fake_processes, monkeypatch
):
    runtime = TriggerRuntime(folder, 2.0)
    place = runtime._place("a")
    started = []

    def stop():
        started.append(place.process)
        runtime.keep(())

    monkeypatch.setattr(FakeProcess, "while_starting", staticmethod(stop))
    runtime.fire(WATCH, BATCH, 60.0)
    (process,) = started
    assert process.asked == [20.0]
    assert not process.alive
    assert place.process is None


def test_what_is_being_stopped_lets_no_row_past_a_trigger_that_is_not_asked(
    folder, fake_processes, monkeypatch
):
    runtime = TriggerRuntime(folder, 2.0)
    monkeypatch.setattr(FakeProcess, "while_starting", staticmethod(runtime.close))
    with pytest.raises(UdfError, match="the server is being stopped"):
        runtime.fire(WATCH, BATCH, 60.0)


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_those_of_a_series_go_with_it(database, told):
    for name, path in (("s", "root.sg.d.s"), ("t", "root.sg.d.t"), ("d", "root.sg.d")):
        create(database, told, name, "AFTER", path)
    database.execute("DELETE TIMESERIES root.sg.d.s")
    assert [row[0] for row in database.execute("SHOW TRIGGERS")[1]] == [b"d", b"t"]
    database.execute("DELETE STORAGE GROUP root.sg")
    assert database.execute("SHOW TRIGGERS")[1] == []


def test_a_changed_file_is_loaded_anew(database, folder, told):
    create(database, told, "a", "AFTER", "root.sg")
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    path = folder / "sample.py"
    path.write_text(path.read_text().replace("self.batches = 0", "self.batches = 100"))
    database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    assert [line[1] for line in told.lines()] == [1, 101]


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("ON root.sg.x AS 'sample:Records'", "the path root.sg.x does not exist"),
        ("ON root.sg.d AS 'sample:Nothing'", "has no class Nothing with a method fire"),
        ("ON root.sg.d AS 'sample:NoFire'", "has no class NoFire with a method fire"),
        ("ON root.sg.d AS 'nothing:X'", "module nothing: ModuleNotFoundError"),
        ("ON root.sg.d AS 'sample:Records'", "the attribute 'file' is needed"),
    ],
)
def test_what_can_not_be_registered(database, sql, text):
    with pytest.raises(ClusterError) as caught:
        database.execute(f"CREATE TRIGGER x AFTER INSERT {sql}")
    assert caught.value.status == 313
    assert text in caught.value.message
    assert database.execute("SHOW TRIGGERS")[1] == []


def test_a_name_is_given_once(database, told):
    create(database, told, "a", "AFTER", "root.sg")
    with pytest.raises(ClusterError, match="already been registered with the same trigger name"):
        create(database, told, "a", "AFTER", "root.sg.d")


def test_the_example_of_the_page(database, folder):
    page = (Path(__file__).parents[3] / "docs" / "triggers.md").read_text()
    module, statements = re.findall(
        r"(?:^    .*\n|^\n)+(?=and in SQL|## The class)", page, re.MULTILINE
    )
    (folder / "alarms.py").write_text(textwrap.dedent(module))
    database.execute("CREATE TIMESERIES root.plant.line1.speed WITH DATATYPE=DOUBLE")
    for sql in textwrap.dedent(statements).split("\n"):
        if sql.startswith("STOP"):
            with pytest.raises(ClusterError, match=r"speed is above 100\.0 at 5"):
                database.execute("INSERT INTO root.plant.line1(time, speed) VALUES (5, 101)")
        if sql:
            database.execute(sql)
    database.execute("INSERT INTO root.plant.line1(time, speed) VALUES (5, 101)")


def test_they_are_off_by_default():
    with LocalDatabase() as database:
        database.execute("CREATE TIMESERIES root.sg.d.s INT32")
        with pytest.raises(ClusterError, match="switched off"):
            database.execute("CREATE TRIGGER x AFTER INSERT ON root.sg AS 'sample:Records'")


def test_a_process_that_can_not_be_started_is_a_failure_of_its_trigger(database, told, folder):
    create(database, told, "b", "BEFORE", "root.sg.d.s")
    create(database, told, "a", "AFTER", "root.sg.d.t")
    shutil.rmtree(folder)  # where it runs
    with pytest.raises(ClusterError, match="trigger b failed: its process can't be started"):
        database.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1)")
    database.execute("INSERT INTO root.sg.d(time, t) VALUES (2, 'x')")
    assert rows_of(database) == []
    assert database.execute("SELECT t FROM root.sg.d")[1] == [[2, b"x"]]


def test_what_waited_for_a_trigger_that_was_stopped_leaves_no_process_behind(folder, monkeypatch):
    runtime = TriggerRuntime(folder, 600.0)
    runtime.fire(WATCH, BATCH, 600.0)
    place = runtime._place("a")
    runtime.keep(())
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "_place", lambda name: place)  # taken before the end
        runtime.fire(WATCH, BATCH, 600.0)
    assert place.process is None
    runtime.fire(WATCH, BATCH, 600.0)  # started again
    assert runtime._place("a").process is not None
    runtime.close()


def test_what_a_trigger_hits_is_remembered_for_few_columns(monkeypatch):
    monkeypatch.setattr(insert_triggers, "_MAX_COLUMNS", 100)
    watches = insert_triggers._Watches((Trigger("a", "before insert", "root.sg", "m:C", ()),))
    for number in range(50):
        names = tuple(f"s{number}_{column}" for column in range(10))
        assert watches.hits("root.sg.d", names)[0][1] == list(range(10))
    assert sum(len(names) for _, names in watches._known) <= 100
