"""The wide IoT shape through a node: 10 000 devices x 10 series, one row each per second.

Every request carries one row of each of some devices, by insertTablets and by insertRecords, with
raft_log_sync=always. Series are created before the clock starts. Afterwards everything is flushed
and fully merged, the node is stopped, and the records that RocksDB holds are counted. Prints one
JSON line.

    python bench/wide.py [--devices 10000] [--seconds 10] [--clients 4] [--batch 500] [--record]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from multiprocessing import Barrier, Process, Queue
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from report import ROOT, report

sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from cluster.rpc.gen.client import ttypes as t  # noqa: E402
from harness.process_cluster import Node, process_cluster  # noqa: E402
from harness.wire import WireClient  # noqa: E402
from iotdb_engine import Engine  # noqa: E402
from iotdb_engine.key_format import Kind, kind_prefix, prefix_end  # noqa: E402

SERIES = 10
NAMES = [f"s{n}" for n in range(SERIES)]
DOUBLE = 4


def paths(lo: int, hi: int) -> list[str]:
    return [f"root.wide.d{device}" for device in range(lo, hi)]


def tablets(devices: list[str], second: int) -> t.TSInsertTabletsReq:
    stamp = np.array([second * 1000], ">i8").tobytes()
    values = np.arange(second % 7, second % 7 + SERIES, dtype=">f8").tobytes()
    count = len(devices)
    return t.TSInsertTabletsReq(
        1,
        devices,
        [NAMES] * count,
        [values] * count,
        [stamp] * count,
        [[DOUBLE] * SERIES] * count,
        [1] * count,
        False,
    )


def records(devices: list[str], second: int) -> t.TSInsertRecordsReq:
    body = b"".join(
        b"\x04" + np.float64(v + second % 7).astype(">f8").tobytes() for v in range(SERIES)
    )
    count = len(devices)
    return t.TSInsertRecordsReq(
        1, devices, [NAMES] * count, [body] * count, [second * 1000] * count, False
    )


def client(port: int, how: str, devices: list[str], batch: int, seconds: float, ready, out) -> None:
    raw = WireClient(port, timeout_s=120).raw
    make, call = {
        "insertTablets": (tablets, raw.insertTablets),
        "insertRecords": (records, raw.insertRecords),
    }[how]
    parts = [devices[lo : lo + batch] for lo in range(0, len(devices), batch)]
    first = 0 if how == "insertTablets" else 1_000_000
    for part in parts:  # creates the series
        status = call(make(part, first))
        assert status.code == 200, status
    ready.wait()
    count, number, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        part = parts[number % len(parts)]
        status = call(make(part, first + 1 + number // len(parts)))
        assert status.code == 200, status
        count += len(part) * SERIES
        number += 1
    out.put(count)


class Driven(NamedTuple):
    """What a run came to: points, points a second, points a CPU second of the node."""

    points: int
    per_s: int
    per_cpu_s: int


def drive(node: Node, how: str, options: argparse.Namespace) -> Driven:
    assert node.process is not None
    server = psutil.Process(node.process.pid)
    share = options.devices // options.clients
    ready, out = Barrier(options.clients + 1), Queue()
    processes = [
        Process(
            target=client,
            args=(
                node.rpc_port,
                how,
                paths(n * share, (n + 1) * share),
                options.batch,
                options.seconds,
                ready,
                out,
            ),
        )
        for n in range(options.clients)
    ]
    for process in processes:
        process.start()
    ready.wait(600)
    before = sum(server.cpu_times()[:2])
    total = sum(out.get(timeout=600) for _ in processes)
    for process in processes:
        process.join()
    busy = sum(server.cpu_times()[:2]) - before
    return Driven(total, round(total / options.seconds), round(total / busy))


def count_records(folder: Path) -> dict[str, int]:
    found = dict.fromkeys(("CHUNK", "DATA", "TIMES"), 0)
    with Engine(folder) as engine:
        for number in engine.regions():
            region = engine.region(number)
            view = region.store.view()
            for name in found:
                prefix = kind_prefix(region.id, Kind[name])
                lo, hi = prefix, prefix_end(prefix)
                while (key := view.first_key(lo, hi)) is not None:
                    found[name] += 1
                    lo = key + b"\0"
            view.release()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--batch", type=int, default=500, help="devices of a request")
    parser.add_argument("--path", default=None)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "devices": options.devices,
        "series": options.devices * SERIES,
        "clients": options.clients,
        "devices_a_request": options.batch,
        "raft_log_sync": "always",
    }
    with (
        tempfile.TemporaryDirectory(dir=options.path) as name,
        process_cluster(Path(name), 1) as cluster,
    ):
        (node,) = cluster.nodes
        for how in ("insertTablets", "insertRecords"):
            found = drive(node, how, options)
            figures[f"{how}_points"] = found.points
            figures[f"{how}_points_s"] = found.per_s
            figures[f"{how}_points_server_cpu_s"] = found.per_cpu_s
        print(figures, file=sys.stderr, flush=True)  # merging takes a while
        with WireClient(node.rpc_port, timeout_s=600) as asking:
            asking.execute("FLUSH")
        node.stop(600)
        folder = node.data_folder / "engine"
        figures["records_before"] = count_records(folder)
        with Engine(folder) as engine:
            for number in engine.regions():
                engine.region(number).compact(full=True)
        records = count_records(folder)
        figures["records_after_full_merge"] = records
        figures["records_per_series"] = round(sum(records.values()) / figures["series"], 2)
    report("wide", figures, record=options.record)


if __name__ == "__main__":
    main()
