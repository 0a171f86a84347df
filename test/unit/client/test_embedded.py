from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import iotdb_client
from cluster.config.settings import ConfigError, Settings
from cluster.embedded import EmbeddedNode
from cluster.main import ClusterMain
from harness.ports import free_ports
from harness.process_cluster import ROOT
from iotdb_client import embedded
from iotdb_client.types import DataType


def python(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        # with byte code, as users have it
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def values(connection, sql="select s from root.a.d"):
    return connection.execute(sql).fetchall()


def test_what_was_written_is_there_at_the_next_start(tmp_path):
    folder = tmp_path / "db"
    with iotdb_client.connect(folder) as connection:
        connection.execute("create timeseries root.a.d.s INT64")
        connection.execute("insert into root.a.d(time, s) values (1, 10), (2, 20)")
        connection.insert_tablet("root.a.d", ["s"], [DataType.INT64], [3], [[30]])
    with iotdb_client.connect(str(folder)) as connection:
        assert values(connection) == [(1, 10), (2, 20), (3, 30)]
        connection.execute("delete from root.a.d.s where time < 2")
    with iotdb_client.connect(f"{folder}/") as connection:
        assert values(connection) == [(2, 20), (3, 30)]


def test_memory_is_a_database_of_its_own_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        iotdb_client.connect(":memory:") as one,
        iotdb_client.connect(":memory:") as other,
    ):
        one.execute("insert into root.a.d(time, s) values (1, 10)")
        assert values(one) == [(1, 10.0)]
        assert values(other) == []
    assert list(tmp_path.iterdir()) == []


def test_no_thread_is_left_after_close(tmp_path):
    before = set(threading.enumerate())
    with iotdb_client.connect(tmp_path / "db") as connection:
        connection.execute("insert into root.a.d(time, s) values (1, 10)")
        connection.execute("flush")
        assert len(connection.execute("select * from root.**").fetchall()) == 1
        assert len(set(threading.enumerate()) - before) > 3
    assert set(threading.enumerate()) == before
    assert embedded._open == {}


def test_connections_of_a_process_share_a_folder(tmp_path):
    one = iotdb_client.connect(tmp_path / "db")
    other = iotdb_client.connect(tmp_path / "x" / ".." / "db")
    one.execute("insert into root.a.d(time, s) values (1, 10)")
    one.close()
    assert values(other) == [(1, 10.0)]
    other.close()
    with pytest.raises(iotdb_client.InterfaceError, match="closed"):
        other.cursor()


def test_threads_share_a_connection(tmp_path):
    with iotdb_client.connect(tmp_path / "db") as connection:

        def write(number):
            for time_ in range(50):
                connection.execute(
                    f"insert into root.a.d{number}(time, s) values (?, ?)", (time_, number)
                )

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = connection.execute("select count(s) from root.a.*").fetchall()
        assert found == [(50,) * 4]


HOLD = """
import sys, iotdb_client
connection = iotdb_client.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_one_process_at_a_time(tmp_path):
    folder = tmp_path / "db"
    holder = python(HOLD, folder, stdin=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(iotdb_client.OperationalError) as caught:
            iotdb_client.connect(folder)
        holder.stdin.close()
    assert holder.returncode == 0
    assert f"{folder} is in use by process {holder.pid}" in str(caught.value)
    assert "start-node.sh" in str(caught.value)
    iotdb_client.connect(folder).close()


FORK = """
import os, sys, warnings, iotdb_client
warnings.simplefilter("ignore")  # of later Pythons, about what is done here
folder, end = sys.argv[1:]
connection = iotdb_client.connect(folder)
connection.execute("insert into root.a.d(time, s) values (1, 10)")
memory = iotdb_client.connect(":memory:")
memory.execute("insert into root.a.d(time, s) values (1, 10)")

def tell(what, attempt):
    try:
        print(what, attempt(), flush=True)
    except iotdb_client.Error as error:
        print(what, type(error).__name__, error, flush=True)

def select(one):
    return one.execute("select s from root.a.d").fetchall()

child = os.fork()
if child == 0:
    tell("used:", lambda: select(connection))
    tell("closed:", connection.close)
    tell("opened:", lambda: iotdb_client.connect(folder))
    tell("memory:", lambda: select(iotdb_client.connect(":memory:")))
    if end == "last":
        sys.stdin.read(1)
    if end == "sys.exit":
        sys.exit()
    os._exit(7)
if end != "last":
    print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
connection.execute("insert into root.a.d(time, s) values (2, 20)")
print("parent:", select(connection), select(memory), flush=True)
connection.close()
if end == "last":
    # in another process, while the child lives
    os.system(f"{sys.executable} -c 'import iotdb_client; iotdb_client.connect(\\"{folder}\\")'")
    print("child's end")
"""


@pytest.mark.parametrize("end", ["os._exit", "sys.exit", "last"])
def test_a_forked_process_leaves_databases_to_its_parent(tmp_path, end):
    """It neither hangs nor writes, nor keeps the folder when the parent has closed it."""
    folder = tmp_path / "db"
    parent = python(FORK, folder, end, stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
    with parent:
        if end == "last":
            said = []
            while not said or said[-1] != "child's end\n":
                said.append(parent.stdout.readline())
                assert said[-1], said
            parent.stdin.write("x")
            parent.stdin.close()
            text = "".join(said)
        else:
            text = parent.communicate(timeout=60)[0]
    lines = dict(line.partition(": ")[::2] for line in text.splitlines())
    assert "before this process was forked, and is its parent's" in lines["used"]
    assert lines["closed"] == "None"
    assert lines["opened"].startswith("OperationalError")
    assert "spawn" in lines["opened"]
    assert "spawn" in lines["memory"]
    assert lines["parent"] == "[(1, 10.0), (2, 20.0)] [(1, 10.0)]"
    if end != "last":
        assert lines["child"] == ("7" if end == "os._exit" else "0")
    assert "Traceback" not in text
    with iotdb_client.connect(folder) as connection:
        assert values(connection) == [(1, 10.0), (2, 20.0)]


WRITE = """
import sys, iotdb_client
connection = iotdb_client.connect(sys.argv[1])
for number in range(int(sys.argv[2]), 1_000_000):
    connection.execute("insert into root.a.d(time, s) values (?, ?)", (number, number))
    print(number, flush=True)
"""


def test_acknowledged_rows_survive_kill_9(tmp_path):
    folder = tmp_path / "db"
    start = 0
    for _ in range(2):
        writer = python(WRITE, folder, start)
        with writer:
            last = start
            while last < start + 60:
                last = int(writer.stdout.readline())
            writer.kill()
            rest = writer.stdout.read().split("\n")[:-1]
        last = int(rest[-1]) if rest else last
        with iotdb_client.connect(folder) as connection:
            found = [time_ for time_, _ in values(connection)]
        # and perhaps the one whose answer was on its way
        assert found in (list(range(last + 1)), list(range(last + 2)))
        start = len(found)


def test_ctrl_c_ends_a_query_and_spares_the_database(tmp_path):
    with iotdb_client.connect(tmp_path / "db", timeout_s=None) as connection:
        rows = 200_000
        for start in range(0, rows, 50_000):
            times = range(start, start + 50_000)
            connection.insert_tablet(
                "root.a.d", ["s"], [DataType.DOUBLE], times, [[float(n) for n in times]]
            )
        cursor = connection.cursor()

        def run_for_ever():
            while True:
                cursor.execute("select sin(s)+cos(s)*tan(s) from root.a.d").fetchall()

        # what a signal raises while Python runs a callback of the garbage collector is lost
        gc.disable()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        old = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                run_for_ever()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
            gc.enable()
        assert connection.execute("select count(s) from root.a.d").fetchall() == [(rows,)]


START = """
import sys, time
import iotdb_client
wall, cpu = time.perf_counter(), time.process_time()
connection = iotdb_client.connect(sys.argv[1])
print(time.perf_counter() - wall, time.process_time() - cpu)
connection.close()
"""


def test_start_takes_less_than_half_a_second(tmp_path, capsys):
    """Measured in time of a processor, since that is what a quiet machine takes."""
    taken = []
    for folder in (":memory:", tmp_path / "db", tmp_path / "db"):
        process = python(START, folder)
        with process:
            wall, cpu = map(float, process.stdout.read().split())
        taken.append((folder, wall, cpu))
    with capsys.disabled():
        print()
        for folder, wall, cpu in taken:
            print(f"connect({Path(folder).name!r}): {wall:.3f} s, {cpu:.3f} s of a processor")
    assert min(cpu for _, _, cpu in taken) < 1.0  # twice that, for a machine that is shared


def test_a_node_may_take_the_folder_over_and_give_it_back(tmp_path):
    folder = tmp_path / "db"
    with iotdb_client.connect(folder) as connection:
        connection.execute("insert into root.a.d(time, s) values (1, 10)")
    rpc, meta, data = free_ports(3)
    node = ClusterMain(
        Settings.load(
            None,
            {
                "data_dir": str(folder),
                "rpc_port": str(rpc),
                "internal_meta_port": str(meta),
                "internal_data_port": str(data),
                "seed_nodes": f"127.0.0.1:{meta}",
            },
        )
    )
    node.start()
    try:
        with iotdb_client.connect(f"127.0.0.1:{rpc}") as connection:
            assert values(connection) == [(1, 10.0)]
            connection.execute("insert into root.a.d(time, s) values (2, 20)")
        with pytest.raises(iotdb_client.OperationalError, match="in use"):
            iotdb_client.connect(folder)
    finally:
        node.stop()
    with iotdb_client.connect(folder) as connection:
        assert values(connection) == [(1, 10.0), (2, 20.0)]


def test_continuous_queries_run(tmp_path):
    with iotdb_client.connect(tmp_path / "db") as connection:
        connection.execute(
            "create continuous query cq resample every 1s for 2s begin select count(s) into n "
            "from root.a.* group by time(1s) end"
        )
        soon = int(time.time() * 1000) + 500
        connection.execute("insert into root.a.d(time, s) values (?, 1)", (soon,))
        end = time.monotonic() + 20
        while not values(connection, "select n from root.a.d"):
            assert time.monotonic() < end
            time.sleep(0.1)


def test_a_folder_that_is_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(iotdb_client.OperationalError, match=str(path)):
        iotdb_client.connect(path)


def test_a_closed_transport_says_so(tmp_path):
    connection = iotdb_client.connect(tmp_path / "db")
    cursor = connection.cursor()
    connection.close()
    connection.close()
    with pytest.raises(iotdb_client.InterfaceError, match="closed"):
        cursor.execute("show version")


def test_a_folder_keeps_its_unit_of_time(tmp_path):
    EmbeddedNode(tmp_path / "db", {"timestamp_precision": "us"}).close()
    with iotdb_client.connect(tmp_path / "db") as connection:
        assert connection.timestamp_precision == "us"
    with pytest.raises(ConfigError, match=r"timestamp_precision=ms, but .*timestamp_precision=us"):
        EmbeddedNode(tmp_path / "db", {"timestamp_precision": "ms"})


def test_a_folder_keeps_its_partitions(tmp_path):
    parted = {"enable_partition": "true", "partition_interval": "10"}
    EmbeddedNode(tmp_path / "db", parted).close()
    with iotdb_client.connect(tmp_path / "db") as connection:
        connection.execute("insert into root.a.d(time, s) values (1, 1), (20000, 2), (40000, 3)")
    with iotdb_client.connect(tmp_path / "db") as connection:
        rows = connection.execute("select s from root.a.d").fetchall()
        assert [time for time, _ in rows] == [1, 20000, 40000]
    node = EmbeddedNode(tmp_path / "db")
    assert node.settings.cluster.partition_interval == 10
    node.close()
    with pytest.raises(ConfigError, match=r"partition_interval=11, but .*=10: set that"):
        EmbeddedNode(tmp_path / "db", {**parted, "partition_interval": "11"})
