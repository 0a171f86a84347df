"""Ingestion against a bare Thrift echo server with the same frames, in one run.

Shapes: 100 x 100 DOUBLE tablets from 4 client processes; rows of 10 columns from 8
(`--row-clients`). The server under test is a real node process (or three), with
raft_log_sync=always. Prints one JSON line.

    python bench/ingest.py [--seconds 8] [--nodes 1|3] [--columns 100] [--row-clients 8]
        [--record]
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import numpy as np  # noqa: E402
from report import report  # noqa: E402
from thrift.protocol.TBinaryProtocol import (  # noqa: E402
    TBinaryProtocolAccelerated,
    TBinaryProtocolAcceleratedFactory,
)
from thrift.server.TServer import TThreadedServer  # noqa: E402
from thrift.transport import TSocket, TTransport  # noqa: E402

from cluster.rpc.gen.client import IClientRPCService  # noqa: E402
from cluster.rpc.gen.client import ttypes as t  # noqa: E402
from harness.process_cluster import process_cluster  # noqa: E402
from harness.wire import WireClient, tablet  # noqa: E402

ROWS = 100
BLOCKS = 64


class Echo:
    """Answers success to everything: the cost of Thrift and nothing else."""

    def insertTablet(self, req: t.TSInsertTabletReq) -> t.TSStatus:  # noqa: N802
        return t.TSStatus(code=200, message="")

    insertRecord = insertTablet  # noqa: N815


def serve_echo(pipe) -> None:
    transport = TSocket.TServerSocket("127.0.0.1", 0)
    transport.listen()
    pipe.send(transport.handle.getsockname()[1])
    transport.listen = lambda: None
    server = TThreadedServer(
        IClientRPCService.Processor(Echo()),
        transport,
        TTransport.TFramedTransportFactory(),
        TBinaryProtocolAcceleratedFactory(),
        daemon=True,
    )
    server.serve()


def tablets(columns: int, port: int, number: int, seconds: float, echo: bool, out) -> None:
    """One client: random walks of 2 decimals, ever later times; requests are made beforehand."""
    rng = np.random.default_rng(number)
    names = [f"s{column}" for column in range(columns)]
    walks = np.round(np.cumsum(rng.normal(0, 1, (columns, BLOCKS * ROWS)), axis=1) + 50, 2)
    blocks = [
        walks[:, block * ROWS : (block + 1) * ROWS].astype(">f8").tobytes()
        for block in range(BLOCKS)
    ]
    client = raw_client(port) if echo else WireClient(port, timeout_s=60).raw
    request = tablet(1, f"root.bench{number}.d", names, [], [])
    request.types = [4] * columns
    request.size = ROWS
    count = 0
    latencies = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        request.timestamps = np.arange(count * ROWS, (count + 1) * ROWS, dtype=">i8").tobytes()
        request.values = blocks[count % BLOCKS]
        begin = time.monotonic()
        status = client.insertTablet(request)
        latencies.append(time.monotonic() - begin)
        assert status.code == 200, status
        count += 1
    out.put((count * columns * ROWS, latencies))


def rows(port: int, number: int, seconds: float, echo: bool, out) -> None:
    names = [f"s{column}" for column in range(10)]
    client = raw_client(port) if echo else WireClient(port, timeout_s=60).raw
    values = b"".join(b"\x04" + np.float64(v).astype(">f8").tobytes() for v in range(10))
    count = 0
    latencies = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        status = client.insertRecord(
            t.TSInsertRecordReq(1, f"root.rows{number}.d", names, values, count, False)
        )
        latencies.append(time.monotonic() - begin)
        assert status.code == 200, status
        count += 1
    out.put((count, latencies))


def raw_client(port: int) -> IClientRPCService.Client:
    transport = TTransport.TFramedTransport(TSocket.TSocket("127.0.0.1", port))
    transport.open()
    return IClientRPCService.Client(TBinaryProtocolAccelerated(transport))


def drive(work, ports: list[int], clients: int, seconds: float, echo: bool) -> dict[str, float]:
    """Run `clients` processes; the rate is over the common time."""
    out: multiprocessing.Queue = multiprocessing.Queue()
    processes = [
        multiprocessing.Process(
            target=work, args=(ports[number % len(ports)], number, seconds, echo, out)
        )
        for number in range(clients)
    ]
    begin = time.monotonic()
    for process in processes:
        process.start()
    results = [out.get(timeout=seconds * 10 + 60) for _ in processes]
    elapsed = time.monotonic() - begin
    for process in processes:
        process.join()
    latencies = np.sort(np.concatenate([np.array(result[1]) for result in results])) * 1000
    return {
        "per_s": round(sum(result[0] for result in results) / min(elapsed, seconds * 1.2)),
        "p50_ms": round(float(latencies[len(latencies) // 2]), 2),
        "p99_ms": round(float(latencies[int(len(latencies) * 0.99)]), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--columns", type=int, default=100, help="of a tablet of 100 rows")
    parser.add_argument("--row-clients", type=int, default=8)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    options = parser.parse_args()
    some_tablets = functools.partial(tablets, options.columns)
    parent, child = multiprocessing.Pipe()
    echo = multiprocessing.Process(target=serve_echo, args=(child,), daemon=True)
    echo.start()
    echo_port = parent.recv()
    result: dict[str, Any] = {
        "nodes": options.nodes,
        "seconds": options.seconds,
        "columns": options.columns,
        "row_clients": options.row_clients,
        "raft_log_sync": "always",
    }
    result["echo_tablets"] = drive(some_tablets, [echo_port], 4, options.seconds, True)
    result["echo_rows"] = drive(rows, [echo_port], options.row_clients, options.seconds, True)
    echo.terminate()
    with (
        tempfile.TemporaryDirectory(dir=ROOT) as folder,
        process_cluster(Path(folder), options.nodes) as cluster,
    ):
        ports = [node.rpc_port for node in cluster.nodes]
        result["rows"] = drive(rows, ports, options.row_clients, options.seconds, False)
        result["tablets"] = drive(some_tablets, ports, 4, options.seconds, False)
        cluster.stop()
    for kind in ("tablets", "rows"):
        ratio = result[kind]["per_s"] / result[f"echo_{kind}"]["per_s"]
        result[f"{kind}_ratio"] = round(ratio, 3)
    report("ingest", result, record=options.record)


if __name__ == "__main__":
    main()
