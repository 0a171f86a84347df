"""The driver against the official client, on the same server in one run; prints one JSON line.

Reads 1 000 000 rows of 10 DOUBLE columns into a pandas DataFrame, and writes a DataFrame of 10
columns, with `iotdb_client` and with apache-iotdb 2.0.11 in an environment of its own. The official
client is taken at its best: NumPy tablets for writing, of the same number of rows.

    python bench/driver.py [--rows 1000000] [--official-python PATH] [--old-python PATH]

PATH: the Python of an environment with `apache-iotdb==2.0.11` (and `==0.13.5`) and pandas; by
default those of the compatibility tests, `.venvs/apache-iotdb-2.0.11/bin/python` …

Beside them, in the same run:

- `loopback_s`: the bytes of the values and times, from a bare socket of another process into fresh
  memory: less time than that no client can need that gets the values as they are;
- `memory`: the same read while the rows are in the server's memory, so that there are no stored
  pages yet: values go as they are;
- `old`: the client of 0.13.5 and ours, 864 000 rows, where PATH is there: it needs some 10 s.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import psutil  # noqa: E402
from report import report  # noqa: E402

import iotdb_client  # noqa: E402
from harness.process_cluster import process_cluster  # noqa: E402

COLUMNS = [f"s{number}" for number in range(10)]
TABLET_ROWS = 10_000
SELECT = f"select {', '.join(COLUMNS)} from root.bench.read"

READ_ONLY = """
import sys, time
from iotdb.Session import Session

session = Session("127.0.0.1", int(sys.argv[1]), "root", "root")
session.open(False)
began = time.perf_counter()
read = session.execute_query_statement(sys.argv[2]).todf()
print(time.perf_counter() - began, len(read), read.iloc[:, 1].sum())
"""

SENDER = """
import socket, sys
sender = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
data = memoryview(bytearray(b"x") * int(sys.argv[2]))
while sender.recv(1):
    sender.sendall(data)
"""

OFFICIAL = """
import json, sys, time
import numpy as np, pandas as pd
from iotdb.Session import Session
from iotdb.utils.IoTDBConstants import TSDataType
from iotdb.utils.NumpyTablet import NumpyTablet

port, path, rows, step = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
select = sys.argv[5]
session = Session("127.0.0.1", port, "root", "root")
session.open(False)
stored = np.load(path)
frame = pd.DataFrame({f"s{n}": stored["values"][:, n] for n in range(10)}, index=stored["index"])
names, types = list(frame.columns), [TSDataType.DOUBLE] * len(frame.columns)
began = time.perf_counter()
times = frame.index.to_numpy()
for start in range(0, len(frame), step):
    part = frame.iloc[start : start + step]
    columns = [part[name].to_numpy().astype(TSDataType.DOUBLE.np_dtype()) for name in names]
    stamps = times[start : start + step].astype(TSDataType.INT64.np_dtype())
    session.insert_tablet(NumpyTablet("root.bench.official", names, types, columns, stamps))
write_s = time.perf_counter() - began
began, cpu = time.perf_counter(), time.process_time()
read = session.execute_query_statement(select, 600000).todf()
read_s, read_cpu_s = time.perf_counter() - began, time.process_time() - cpu
assert read.shape == (rows, 11), read.shape
found = {"read_s": read_s, "read_cpu_s": read_cpu_s, "write_s": write_s}
print(json.dumps({**found, "sum": float(read.iloc[:, 1].sum())}))
"""


def frame_of(rows: int) -> pd.DataFrame:
    """Random walks of two decimals, a row a second."""
    rng = np.random.default_rng(1)
    walks = np.round(np.cumsum(rng.normal(0, 1, (rows, len(COLUMNS))), axis=0), 2)
    index = np.arange(rows, dtype=np.int64) * 1000 + 1_700_000_000_000
    return pd.DataFrame({name: walks[:, n] for n, name in enumerate(COLUMNS)}, index=index)


def own(port: int, frame: pd.DataFrame, rows: int) -> dict[str, float]:
    """Write and read with the driver."""
    with iotdb_client.connect(f"127.0.0.1:{port}", fetch_size=100_000, timeout_s=600) as connection:
        began = time.perf_counter()
        connection.insert_dataframe("root.bench.own", frame)
        write_s = time.perf_counter() - began
        began, cpu = time.perf_counter(), time.process_time()
        read = connection.execute(SELECT).to_pandas()
        read_s, read_cpu_s = time.perf_counter() - began, time.process_time() - cpu
    assert read.shape == (rows, 11), read.shape
    return {
        "read_s": read_s,
        "read_cpu_s": read_cpu_s,
        "write_s": write_s,
        "sum": float(read.iloc[:, 1].sum()),
    }


def read_only(port: int, rows: int) -> float:
    """Seconds of one read with the driver."""
    with iotdb_client.connect(f"127.0.0.1:{port}", timeout_s=600) as connection:
        began = time.perf_counter()
        read = connection.execute(f"{SELECT} limit {rows}").to_pandas()
        read_s = time.perf_counter() - began
    assert len(read) == rows
    return read_s


def loopback(size: int) -> float:
    """Seconds in which so many bytes come from another process into fresh memory; best of 5."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        sender = subprocess.Popen([sys.executable, "-c", SENDER, port, str(size)])
        receiver, _ = listener.accept()
        times = []
        with receiver:
            for _ in range(5):
                began = time.perf_counter()
                receiver.sendall(b"x")
                target, at = memoryview(np.empty(size, np.uint8)), 0
                while at < size:
                    at += receiver.recv_into(target[at : at + (1 << 20)])
                times.append(time.perf_counter() - began)
        sender.wait(timeout=30)
    return min(times)


def old(python: str, port: int, rows: int) -> dict[str, float]:
    """The client of 0.13 and ours, the same rows."""
    found = run_official(python, READ_ONLY, str(port), f"{SELECT} limit {rows}")
    seconds, count, _ = found.split()
    assert int(count) == rows
    mine = min(read_only(port, rows) for _ in range(2))
    return {"rows": rows, "official_s": float(seconds), "own_s": mine}


def wait_until_idle(process: psutil.Process) -> None:
    """Wait until the server has nothing to do: FLUSH goes on in the background."""
    spent = -1.0
    while (now := sum(process.cpu_times()[:2])) - spent > 0.05:
        spent = now
        time.sleep(1)


def official(python: str, port: int, path: Path, rows: int) -> dict[str, float]:
    """The same with the official client, in its own process."""
    arguments = (str(port), str(path), str(rows), str(TABLET_ROWS), SELECT)
    answer: dict[str, float] = json.loads(run_official(python, OFFICIAL, *arguments))
    return answer


def run_official(python: str, program: str, *arguments: str) -> str:
    """The last line that a program prints in an official client's environment."""
    found = subprocess.run(
        [python, "-W", "ignore", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    if found.returncode:
        raise SystemExit(f"the official client failed:\n{found.stderr[-2000:]}")
    return found.stdout.splitlines()[-1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    arguments.add_argument("--write-rows", type=int, default=200_000)
    arguments.add_argument(
        "--official-python", default=str(ROOT / ".venvs/apache-iotdb-2.0.11/bin/python")
    )
    arguments.add_argument(
        "--old-python", default=str(ROOT / ".venvs/apache-iotdb-0.13.5/bin/python")
    )
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-driver-") as scratch:
        folder = Path(scratch)
        with process_cluster(folder, 1) as cluster:
            port = cluster.nodes[0].rpc_port
            with iotdb_client.connect(f"127.0.0.1:{port}") as connection:
                connection.insert_dataframe("root.bench.read", frame_of(given.rows))
            memory_s = min(read_only(port, given.rows) for _ in range(3))
            with iotdb_client.connect(f"127.0.0.1:{port}") as connection:
                connection.execute("flush")
            assert cluster.nodes[0].process is not None
            wait_until_idle(psutil.Process(cluster.nodes[0].process.pid))
            frame = frame_of(given.write_rows)
            stored = folder / "frame.npz"
            np.savez(stored, values=frame.to_numpy(), index=frame.index.to_numpy())
            theirs, ours = [], []
            for _ in range(3):  # the best of each: caches and code are warm for both
                ours.append(own(port, frame, given.rows))
                theirs.append(official(given.official_python, port, stored, given.rows))
            loopback_s = loopback(given.rows * 8 * (len(COLUMNS) + 1))
            before = None
            if Path(given.old_python).exists():
                before = old(given.old_python, port, min(864_000, given.rows))
            cluster.stop()
    best = {
        side: {key: min(run[key] for run in runs) for key in ("read_s", "read_cpu_s", "write_s")}
        for side, runs in (("own", ours), ("official", theirs))
    }
    assert ours[0]["sum"] == theirs[0]["sum"]
    figures = {
        "rows": given.rows,
        "columns": len(COLUMNS),
        "write_rows": given.write_rows,
        **{
            side: {key: round(value, 3) for key, value in times.items()}
            for side, times in best.items()
        },
        "read_ratio": round(best["official"]["read_s"] / best["own"]["read_s"], 2),
        # what is left on a busy machine: the clients' own work
        "read_cpu_ratio": round(best["official"]["read_cpu_s"] / best["own"]["read_cpu_s"], 2),
        "write_ratio": round(best["official"]["write_s"] / best["own"]["write_s"], 2),
        "loopback_s": round(loopback_s, 3),
        "memory": {"own_read_s": round(memory_s, 3)},
        "old": before and {key: round(value, 3) for key, value in before.items()},
    }
    report("driver", figures, record=given.record)


if __name__ == "__main__":
    main()
