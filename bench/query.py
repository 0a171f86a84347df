"""Query times through the wire on TSBS cpu-only data, one node or three; prints one JSON line.

Data: the shape of TSBS cpu-only (hosts x 10 metrics, every 10 s, integer random walks clamped to
0 .. 100), in DOUBLE series. Statements: the TSBS queries and some of a console's; medians over
random windows, the result fetched to its end and turned into NumPy arrays.

    python bench/query.py [--nodes 1|3] [--hosts 100] [--hours 24] [--rounds 30] [NAME …]

`--port P` measures a server that runs already and holds the data (`--load` to load it first).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import numpy as np  # noqa: E402

from cluster.rpc.gen.client import ttypes as t  # noqa: E402
from harness.process_cluster import process_cluster  # noqa: E402
from harness.wire import WireClient, check, tablet  # noqa: E402

METRICS = [
    f"usage_{name}"
    for name in (
        "user",
        "system",
        "idle",
        "nice",
        "iowait",
        "irq",
        "softirq",
        "steal",
        "guest",
        "guest_nice",
    )
]
START_MS = 1_451_606_400_000
STEP_MS = 10_000
HOUR_MS = 3_600_000
TABLET_ROWS = 1000
DTYPES = {"INT32": ">i4", "INT64": ">i8", "FLOAT": ">f4", "DOUBLE": ">f8", "BOOLEAN": "u1"}


def load(client: WireClient, hosts: int, hours: int) -> None:
    rng = np.random.default_rng(123)
    rows = hours * HOUR_MS // STEP_MS
    times = START_MS + STEP_MS * np.arange(rows)
    for host in range(hosts):
        walk = rng.uniform(0, 100, (len(METRICS), 1)) + np.zeros((len(METRICS), rows))
        steps = rng.normal(0, 1, (len(METRICS), rows))
        for row in range(1, rows):
            walk[:, row] = np.clip(walk[:, row - 1] + steps[:, row], 0, 100)
        values = np.floor(walk)
        for at in range(0, rows, TABLET_ROWS):
            part = slice(at, min(at + TABLET_ROWS, rows))
            request = tablet(
                client.session_id,
                f"root.cpu.host_{host}",
                METRICS,
                times[part].tolist(),
                list(values[:, part]),
            )
            check(client.raw.insertTablet(request))
    client.run("flush")


def fetch(client: WireClient, sql: str) -> int:
    """Run a query, decode all of it, and return its number of cells."""
    response = client.raw.executeStatement(
        t.TSExecuteStatementReq(
            client.session_id, sql, client.statement_id, fetchSize=100_000, timeout=0
        )
    )
    check(response.status)
    kinds = {
        response.columnNameIndexMap[name]: kind
        for name, kind in zip(response.columns, response.dataTypeList, strict=True)
    }
    cells = 0
    dataset = response.queryDataSet
    more = True
    while dataset is not None and dataset.time:
        rows = len(np.frombuffer(dataset.time, ">i8").astype(np.int64))
        for number, values in enumerate(dataset.valueList):
            kind = kinds[number]
            if kind != "TEXT":
                np.frombuffer(values, DTYPES[kind]).astype(DTYPES[kind][1:])
        cells += rows * len(kinds)
        more = rows >= 100_000 or getattr(response, "moreData", True)
        if not more:
            break
        answer = client.raw.fetchResults(
            t.TSFetchResultsReq(client.session_id, sql, 100_000, response.queryId, True)
        )
        check(answer.status)
        dataset = answer.queryDataSet if answer.hasResultSet else None
    return cells


class Statements:
    """The statements, each with a random window and random hosts."""

    def __init__(self, hosts: int, hours: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._hosts = hosts
        self._end = START_MS + hours * HOUR_MS

    def window(self, hours: float) -> tuple[int, int]:
        length = int(hours * HOUR_MS)
        low = int(self._rng.integers(START_MS, max(START_MS + 1, self._end - length)))
        return low, low + length

    def host(self) -> str:
        return f"root.cpu.host_{self._rng.integers(self._hosts)}"

    def some_hosts(self, count: int) -> str:
        chosen = self._rng.choice(self._hosts, min(count, self._hosts), replace=False)
        return ", ".join(f"root.cpu.host_{host}" for host in chosen)

    def grouped(self, function: str, metrics: int, hosts: str, hours: float, by: str) -> str:
        low, high = self.window(hours)
        items = ", ".join(f"{function}({name})" for name in METRICS[:metrics])
        return f"select {items} from {hosts} group by ([{low}, {high}), {by})"

    def high_cpu(self, hosts: str) -> str:
        low, high = self.window(12)
        return (
            f"select * from {hosts} where usage_user > 90 and time >= {low} and time < {high} "
            "align by device"
        )

    def last_minutes(self) -> str:
        end = int(self._rng.integers(START_MS + HOUR_MS, self._end))
        return (
            f"select max_value(usage_user) from {self.host()} "
            f"group by ([{START_MS}, {end}), 1m) order by time desc limit 5"
        )

    def all(self) -> dict[str, Callable[[], str]]:
        def exact() -> str:
            low = START_MS + STEP_MS * int(self._rng.integers((self._end - START_MS) // STEP_MS))
            return f"select * from {self.host()} where time = {low}"

        return {
            "single-groupby-1-1-1": lambda: self.grouped("max_value", 1, self.host(), 1, "1m"),
            "single-groupby-1-1-12": lambda: self.grouped("max_value", 1, self.host(), 12, "1m"),
            "single-groupby-5-8-1": lambda: self.grouped(
                "max_value", 5, self.some_hosts(8), 1, "1m"
            ),
            "cpu-max-all-8": lambda: self.grouped("max_value", 10, self.some_hosts(8), 8, "1h"),
            "double-groupby-1": lambda: self.grouped("avg", 1, "root.cpu.*", 12, "1h"),
            "double-groupby-all": lambda: self.grouped("avg", 10, "root.cpu.*", 12, "1h"),
            "high-cpu-all": lambda: self.high_cpu("root.cpu.*"),
            "high-cpu-1": lambda: self.high_cpu(self.host()),
            "lastpoint": lambda: "select last * from root.cpu.*",
            "groupby-orderby-limit": self.last_minutes,
            "count-all": lambda: "select count(*) from root.cpu.*",
            "raw-day": lambda: f"select usage_user from {self.host()}",
            "exact-timestamp": exact,
        }


def measure(port: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    client = WireClient(port, timeout_s=120)
    found = {}
    statements = Statements(options.hosts, options.hours, seed=7).all()
    for name in options.names or statements:
        fetch(client, statements[name]())
        spent = []
        cells = 0
        began = time.monotonic()
        for _ in range(options.rounds):
            sql = statements[name]()
            start = time.perf_counter()
            cells = fetch(client, sql)
            spent.append(time.perf_counter() - start)
            if time.monotonic() - began > options.seconds:
                break
        spent.sort()
        found[name] = {
            "p50_ms": round(1000 * spent[len(spent) // 2], 2),
            "min_ms": round(1000 * spent[0], 2),
            "rounds": len(spent),
            "cells": cells,
        }
        print(f"{name:24} {found[name]}", file=sys.stderr, flush=True)
    client.close()
    return found


@contextlib.contextmanager
def server(options: argparse.Namespace) -> Iterator[int]:
    """A server that holds the data."""
    if options.port:
        if options.load:
            load(WireClient(options.port, timeout_s=120), options.hosts, options.hours)
        yield options.port
        return
    with (
        tempfile.TemporaryDirectory(prefix="bench-query-") as folder,
        process_cluster(Path(folder), options.nodes) as started,
    ):
        port = started.nodes[0].rpc_port
        load(WireClient(port, timeout_s=120), options.hosts, options.hours)
        time.sleep(options.settle)  # flushes go on in the background
        yield port
        started.stop()


def commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=10, help="most time for one statement")
    parser.add_argument("--settle", type=float, default=10, help="wait after loading, in seconds")
    parser.add_argument("--port", type=int)
    parser.add_argument("--load", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    with server(options) as port:
        figures = measure(port, options)
    print(
        json.dumps(
            {
                "bench": "query",
                "commit": commit(),
                "machine": f"{platform.machine()}, {os.cpu_count()} cpus",
                "python": platform.python_version(),
                "nodes": options.nodes,
                "hosts": options.hosts,
                "hours": options.hours,
                "statements": figures,
            }
        )
    )


if __name__ == "__main__":
    main()
