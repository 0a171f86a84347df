"""Query times through the wire, one node or three; prints one JSON line.

Data: the shape of TSBS cpu-only (hosts x 10 metrics, every 10 s, integer random walks clamped to
0 .. 100), in DOUBLE series; and that of iot-benchmark (20 devices x 200 sensors x 1000 rows of 100
values over and over, six types). Statements: the TSBS queries and some of a console's, and Q1 to
Q10; medians over random windows after `--warm` others at each node, the result fetched to its end
and turned into NumPy arrays. For each: the time, that of the very first one (which decodes what it
reads), the CPU time of the servers (which tells more on a machine that does other work, too), the
time that Thrift alone needs for the same answer from a server that does nothing else, and the
wanted time (reference A.2: the best of the peers, or the original).

With `--nodes 3` the same statements go to one node, too, in turn with each of the three: `ratio` is
what the cluster costs.

`point-8-clients` is a rate: single values by exact timestamp, 8 client processes.

    python bench/query.py [--nodes 1|3] [--hosts 100] [--hours 24] [--rounds 30] [NAME …]

`--port P` measures a server that runs already and holds the data (`--load` to load it first).
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test"), str(ROOT / "bench")]

import numpy as np  # noqa: E402
from query_workloads import (  # noqa: E402
    WANTED_MS,
    WANTED_POINTS_PER_S,
    Statements,
    load,
)
from report import report  # noqa: E402
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAcceleratedFactory  # noqa: E402
from thrift.server.TServer import TThreadedServer  # noqa: E402
from thrift.transport import TSocket, TTransport  # noqa: E402

from cluster.rpc.gen.client import IClientRPCService  # noqa: E402
from cluster.rpc.gen.client import ttypes as t  # noqa: E402
from harness.process_cluster import process_cluster  # noqa: E402
from harness.wire import WireClient, check  # noqa: E402

FETCH = 100_000
DTYPES = {"INT32": ">i4", "INT64": ">i8", "FLOAT": ">f4", "DOUBLE": ">f8", "BOOLEAN": "|u1"}
POINT_CLIENTS = 8

Answers = list[Any]


class Running(NamedTuple):
    """Servers that run.

    Attributes:
        ports: of the nodes of one cluster.
        pids: of their processes, as far as known.
        single: port of a node that is alone with the same data, to compare with.
    """

    ports: list[int]
    pids: list[int]
    single: int | None


def fetch(client: Any, sql: str, session: int = 1, statement: int = 1) -> tuple[int, Answers]:
    """Run a query, decode all of it; return its number of cells, and what the server answered."""
    response = client.executeStatement(
        t.TSExecuteStatementReq(session, sql, statement, fetchSize=FETCH, timeout=0)
    )
    check(response.status)
    answers: Answers = [response]
    kinds = {
        response.columnNameIndexMap[name]: kind
        for name, kind in zip(response.columns, response.dataTypeList, strict=True)
    }
    cells = 0
    dataset = response.queryDataSet
    while dataset is not None and dataset.time:
        rows = len(np.frombuffer(dataset.time, ">i8").astype(np.int64))
        for number, values in enumerate(dataset.valueList):
            kind = kinds[number]
            if kind != "TEXT":
                np.frombuffer(values, DTYPES[kind]).astype(DTYPES[kind][1:])
        cells += rows * len(kinds)
        answer = client.fetchResults(
            t.TSFetchResultsReq(session, sql, FETCH, response.queryId, True)
        )
        check(answer.status)
        answers.append(answer)
        dataset = answer.queryDataSet if answer.hasResultSet else None
    return cells, answers


class Replay:
    """Answers what it was given, in order: the cost of Thrift and nothing else."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._next = 0

    def executeStatement(self, req: Any) -> Any:  # noqa: N802
        """Return the first answer."""
        self._next = 1
        return self._answers[0]

    def fetchResults(self, req: Any) -> Any:  # noqa: N802
        """Return the next one."""
        self._next += 1
        return self._answers[self._next - 1]


def replay(answers: Answers, pipe: Any) -> None:
    """Serve the answers to one client."""
    transport = TSocket.TServerSocket("127.0.0.1", 0)
    transport.listen()
    pipe.send(transport.handle.getsockname()[1])
    transport.listen = lambda: None
    TThreadedServer(
        IClientRPCService.Processor(Replay(answers)),
        transport,
        TTransport.TFramedTransportFactory(),
        TBinaryProtocolAcceleratedFactory(),
        daemon=True,
    ).serve()


def floor_ms(answers: Answers, rounds: int) -> float:
    """Return the median time in which the same answer comes from a server that does nothing."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=replay, args=(answers, theirs))
    process.start()
    try:
        transport = TTransport.TFramedTransport(TSocket.TSocket("127.0.0.1", ours.recv()))
        client = IClientRPCService.Client(
            TBinaryProtocolAcceleratedFactory().getProtocol(transport)
        )
        transport.open()
        spent = []
        for _ in range(rounds):
            start = time.perf_counter()
            fetch(client, "")
            spent.append(time.perf_counter() - start)
        transport.close()
    finally:
        process.kill()
        process.join()
    return round(1000 * float(np.median(spent)), 2)


def cpu_s(pids: list[int]) -> float:
    """Return the CPU time that processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def timed(client: Any, sql: str) -> tuple[float, int, Answers]:
    """Run a query; return the milliseconds that it took, its cells, and what came."""
    start = time.perf_counter()
    cells, answers = fetch(client, sql)
    return 1000 * (time.perf_counter() - start), cells, answers


def measure(running: Running, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return by statement what it took."""
    clients = [WireClient(port, timeout_s=120) for port in running.ports]
    single = None if running.single is None else WireClient(running.single, timeout_s=120)
    pids = running.pids
    found = {}
    statements = Statements(options.hosts, options.hours, seed=7).all()
    for name in options.names or statements:
        if name == "point-8-clients":
            continue
        first, _, _ = timed(clients[0].raw, statements[name]())
        for _ in range(options.warm):
            sql = statements[name]()
            for client in [*clients, *([single] if single else [])]:
                fetch(client.raw, sql)
        spent: list[float] = []
        alone: list[float] = []
        cells = 0
        answers: Answers = []
        began = time.monotonic()
        used = cpu_s(pids)
        while time.monotonic() - began < options.seconds and len(spent) < options.rounds:
            sql = statements[name]()
            took, cells, answers = timed(clients[len(spent) % len(clients)].raw, sql)
            spent.append(took)
            if single is not None:
                alone.append(timed(single.raw, sql)[0])
        found[name] = {
            "p50_ms": round(float(np.median(spent)), 2),
            "min_ms": round(min(spent), 2),
            "first_ms": round(first, 2),
            "server_cpu_ms": round(1000 * (cpu_s(pids) - used) / len(spent), 2),
            "thrift_ms": floor_ms(answers, min(20, options.rounds)),
            "rounds": len(spent),
            "cells": cells,
        }
        if alone:
            median = float(np.median(alone))
            found[name]["one_node_ms"] = round(median, 2)
            found[name]["ratio"] = round(float(np.median(spent)) / median, 2)
        if name in WANTED_MS:
            found[name]["wanted_ms"] = WANTED_MS[name]
        print(f"{name:24} {found[name]}", file=sys.stderr, flush=True)
    for client in [*clients, *([single] if single else [])]:
        client.close()
    return found


def ask_points(port: int, number: int, options: argparse.Namespace, out: Any) -> None:
    """One client of the rate."""
    statements = Statements(options.hosts, options.hours, seed=random.Random(number).randrange(999))
    asked = [statements.point() for _ in range(2000)]
    with WireClient(port, timeout_s=120) as client:
        end = time.monotonic() + options.point_seconds
        count = 0
        while time.monotonic() < end:
            assert fetch(client.raw, asked[count % len(asked)])[0] == 1
            count += 1
        out.put(count)


def point_rate(running: Running, options: argparse.Namespace) -> dict[str, Any]:
    """Return how many single values are read a second, by exact timestamp."""
    out: Any = multiprocessing.Queue()
    ports, pids = running.ports, running.pids
    used = cpu_s(pids)
    clients = [
        multiprocessing.Process(
            target=ask_points, args=(ports[number % len(ports)], number, options, out)
        )
        for number in range(POINT_CLIENTS)
    ]
    for process in clients:
        process.start()
    total = sum(out.get() for _ in clients)
    for process in clients:
        process.join()
    found = {
        "per_s": round(total / options.point_seconds),
        "server_cpu_ms": round(1000 * (cpu_s(pids) - used) / total, 3),
        "wanted_per_s": WANTED_POINTS_PER_S,
    }
    print(f"{'point-8-clients':24} {found}", file=sys.stderr, flush=True)
    return found


@contextlib.contextmanager
def server(options: argparse.Namespace) -> Iterator[Running]:
    """Servers that hold the data."""
    if options.port:
        if options.load:
            load(WireClient(options.port, timeout_s=120), options.hosts, options.hours)
        yield Running([options.port], options.pids, None)
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-query-")))
        clusters = [stack.enter_context(process_cluster(folder / "cluster", options.nodes))]
        if options.nodes > 1:
            clusters.append(stack.enter_context(process_cluster(folder / "single", 1)))
        for started in clusters:
            port = started.nodes[0].rpc_port
            load(WireClient(port, timeout_s=120), options.hosts, options.hours)
        time.sleep(options.settle)  # flushes go on in the background
        yield Running(
            [node.rpc_port for node in clusters[0].nodes],
            [node.process.pid for node in clusters[0].nodes if node.process is not None],
            clusters[1].nodes[0].rpc_port if options.nodes > 1 else None,
        )
        for started in clusters:
            started.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--warm", type=int, default=30, help="statements before the timed ones")
    parser.add_argument("--seconds", type=float, default=10, help="most time for one statement")
    parser.add_argument("--settle", type=float, default=10, help="wait after loading, in seconds")
    parser.add_argument("--port", type=int)
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--pids", type=int, nargs="*", default=[], help="of the nodes of --port")
    parser.add_argument("--point-seconds", type=float, default=5)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    with server(options) as running:
        figures = measure(running, options)
        if not options.names or "point-8-clients" in options.names:
            figures["point-8-clients"] = point_rate(running, options)
    setting = {
        "nodes": options.nodes,
        "hosts": options.hosts,
        "hours": options.hours,
        "warm": options.warm,
    }
    report("query", {**setting, "statements": figures}, record=options.record)


if __name__ == "__main__":
    main()
