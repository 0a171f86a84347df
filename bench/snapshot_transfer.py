"""One region's state from one process into another, as a follower takes it over; where it goes.

Two processes over loopback, each with an engine of its own on disk: the real sender, server,
receiver and engine, without the rest of a node. Beside each transfer, in turn with it: a file of as
many bytes written and synced, and a connection that takes as many. Prints one JSON line; with
`--trace` also when each step of the median transfer began and ended, on both sides.

Run: python bench/snapshot_transfer.py [--points 1000000] [--times 15] [--path DIR] [--trace]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from engine_data import ROOT, layouts
from report import report

sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import numpy as np  # noqa: E402

from cluster.allocator import tune_allocator  # noqa: E402
from cluster.member.shipment import SnapshotOptions  # noqa: E402
from cluster.member.snapshot_receiver import SnapshotReceiver  # noqa: E402
from cluster.member.snapshot_sender import SnapshotSenders  # noqa: E402
from cluster.member.snapshot_turns import SnapshotTurns  # noqa: E402
from cluster.raft.effects import SendSnapshot  # noqa: E402
from cluster.raft.events import SnapshotSent  # noqa: E402
from cluster.raft.membership import Membership  # noqa: E402
from cluster.raft.types import GroupId, LogIndex, NodeId, SnapshotMeta, Term  # noqa: E402
from cluster.rpc import convert_snapshot  # noqa: E402
from cluster.rpc.client_pool import RpcChannel  # noqa: E402
from cluster.rpc.gen.cluster import DataGroupService  # noqa: E402
from cluster.rpc.server import ServerLimits, ThriftServer  # noqa: E402
from cluster.threads import ThreadRegistry  # noqa: E402
from harness.machine_rates import disk_s, loopback_s  # noqa: E402
from iotdb_engine import DataType, Engine, Fragment  # noqa: E402

GROUP = GroupId(1)
TERM = Term(1)
MEMBERS = Membership((NodeId(1), NodeId(2)))
COLUMNS = 10
ROWS = 1000

Step = tuple[str, float, float, float]
"""What, when it began and ended (monotonic seconds, the same clock in both processes), and the
processor time of the thread meanwhile."""


class Trace:
    """Notes when functions begin and end."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def wrap(self, owner: Any, name: str, label: str) -> None:
        inner = getattr(owner, name)

        def traced(*args: Any, **more: Any) -> Any:
            began, used = time.monotonic(), time.thread_time()
            try:
                return inner(*args, **more)
            finally:
                self.steps.append((label, began, time.monotonic(), time.thread_time() - used))

        setattr(owner, name, traced)

    def take(self) -> list[Step]:
        steps, self.steps = self.steps, []
        return steps


class Member:
    """What senders and receivers ask of a member."""

    name = "data-1"
    group_id = GROUP
    term = TERM

    def __init__(self, index: int) -> None:
        self._index = index
        self.done = threading.Event()
        self.sent = False

    def step(self, event: object) -> None:
        self.sent = isinstance(event, SnapshotSent)
        self.done.set()

    def meta_of(self, index: LogIndex) -> SnapshotMeta | None:
        return SnapshotMeta(index, TERM, MEMBERS)

    def wants_snapshot(self, meta: SnapshotMeta) -> bool:
        return True

    def replacing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def take_over(self, region: object, meta: SnapshotMeta) -> None:
        pass


def receive(folder: str, *, traced: bool) -> None:
    """Body of the receiving process: says its port, then one line for each line that it is sent."""
    tune_allocator()
    trace = Trace()
    if traced:
        trace_receiver(trace)
    with Engine(folder) as engine:
        receiver = SnapshotReceiver(Member(0), engine)

        class Handler:
            def installSnapshot(self, request: Any) -> Any:  # noqa: N802
                part = convert_snapshot.part_from_wire(request)
                return convert_snapshot.reply_to_wire(receiver.take(part))

        handler = Handler()
        if traced:
            trace.wrap(handler, "installSnapshot", "part")
        server = ThriftServer(
            "data", DataGroupService.Processor(handler), "127.0.0.1", 0, ThreadRegistry(),
            ServerLimits(),
        )  # fmt: skip
        server.start()
        print(server.port, flush=True)
        for _ in sys.stdin:
            print(json.dumps([time.process_time(), trace.take()]), flush=True)
        server.stop()


def trace_receiver(trace: Trace) -> None:
    from cluster.rpc import framing, server
    from iotdb_engine import engine, snapshot, staging, store

    trace.wrap(framing.FrameReader, "read", "receive")
    trace.wrap(server, "send_frame", "answer")
    trace.wrap(convert_snapshot, "part_from_wire", "decode")
    trace.wrap(engine.Engine, "begin_import", "begin")
    trace.wrap(snapshot.RegionImport, "write", "write")
    trace.wrap(staging.TableStaging, "ingest", "ingest")
    trace.wrap(engine.Engine, "finish_import", "install")
    trace.wrap(snapshot.Directory, "switch", "switch")
    trace.wrap(store.RocksStore, "_take_in", "take in")
    trace.wrap(store.RocksStore, "flush", "flush")
    trace.wrap(os, "fdatasync", "fdatasync")


def trace_sender(trace: Trace) -> None:
    from cluster.member import shipment
    from iotdb_engine import engine, snapshot

    trace.wrap(shipment.Shipment, "ship", "ship")
    trace.wrap(snapshot.RegionExport, "piece", "read piece")
    trace.wrap(RpcChannel, "post", "post")
    trace.wrap(RpcChannel, "answer", "await answer")
    trace.wrap(RpcChannel, "_connected", "connected")
    trace.wrap(engine.Engine, "export", "make")


def fill(engine: Engine, points: int) -> None:
    """Values that hardly compress, as those of the test of a rejoin."""
    rng = np.random.default_rng(6)
    [layout] = layouts(1, COLUMNS, DataType.DOUBLE)
    region = engine.region(GROUP)
    for index, first in enumerate(range(0, points // COLUMNS, ROWS), 1):
        times = np.arange(first, first + ROWS).astype(">i8").tobytes()
        values = rng.random((COLUMNS, ROWS)).astype(">f8").tobytes()
        region.write([Fragment(0, layout, ROWS, times, values)], index)
    region.flush()


class Transfers:
    """The sending side."""

    def __init__(self, engine: Engine, port: int, options: SnapshotOptions) -> None:
        self.member = Member(0)
        self._senders = SnapshotSenders(
            member=self.member,
            node_id=NodeId(1),
            engine=engine,
            threads=ThreadRegistry(),
            make_channel=lambda _peer: RpcChannel(
                lambda: ("127.0.0.1", port), DataGroupService.Client, 2.0
            ),
            options=options,
            turns=SnapshotTurns(),
        )

    def once(self) -> float:
        """Return how long it took from the order to the report to the core, in seconds."""
        self.member.done.clear()
        began = time.monotonic()
        self._senders.order(SendSnapshot(NodeId(2), TERM, LogIndex(0)))
        assert self.member.done.wait(60)
        assert self.member.sent
        return time.monotonic() - began


def cpu_of(ask: Callable[[], tuple[float, list[Step]]]) -> tuple[float, float, list[Step]]:
    used, steps = ask()
    return time.process_time(), used, steps


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    traced = arguments.trace
    child = subprocess.Popen(
        [sys.executable, __file__, "--receive", str(folder / "follower")]
        + ["--trace"] * traced,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    stdin, stdout = child.stdin, child.stdout

    def ask() -> tuple[float, list[Step]]:
        stdin.write("\n")
        stdin.flush()
        used, steps = json.loads(stdout.readline())
        return used, [tuple(step) for step in steps]

    trace = Trace()
    if traced:
        trace_sender(trace)
    sizes: list[int] = []
    with Engine(folder / "leader") as engine:
        fill(engine, arguments.points)
        export = engine.export(GROUP)
        after = b""
        while piece := export.piece(after, 1 << 20):
            sizes += [len(key) + len(value) for key, value in piece]
            after = piece[-1][0]
        export.close()
        size = sum(sizes)
        transfers = Transfers(engine, int(stdout.readline()), SnapshotOptions())
        runs: list[tuple[float, float, float, float, float]] = []
        traces: list[list[tuple[str, Step]]] = []
        for _ in range(arguments.times):
            trace.take()
            own, other, _ = cpu_of(ask)
            took = transfers.once()
            own_after, other_after, steps = cpu_of(ask)
            traces.append(
                [("sender", step) for step in trace.take()] + [("receiver", step) for step in steps]
            )
            runs.append(
                (took, own_after - own, other_after - other, disk_s(folder, size),
                 loopback_s(size))
            )  # fmt: skip
    stdin.close()
    child.wait(30)
    columns = list(zip(*runs, strict=True))
    took = statistics.median(columns[0])
    if traced:
        order = sorted(range(len(runs)), key=lambda number: runs[number][0])
        show(traces[order[len(order) // 2]])
    disk, loopback = statistics.median(columns[3]), statistics.median(columns[4])
    return {
        "points": arguments.points,
        "bytes": size,
        "records": len(sizes),
        "all_ms": round(took * 1e3, 2),
        "least_ms": round(min(columns[0]) * 1e3, 2),
        "MB_per_s": round(size / took / 1e6),
        "raw_MB_per_s": round(16 * arguments.points / took / 1e6),
        "sender_cpu_ms": round(statistics.median(columns[1]) * 1e3, 2),
        "receiver_cpu_ms": round(statistics.median(columns[2]) * 1e3, 2),
        "disk_MB_per_s": round(size / disk / 1e6),
        "loopback_MB_per_s": round(size / loopback / 1e6),
        "share_of_the_slower": round(max(disk, loopback) / took, 2),
    }


def show(steps: list[tuple[str, Step]]) -> None:
    """Print the steps in the order in which they began, in ms since the first."""
    steps.sort(key=lambda item: item[1][1])
    start = next(begun for _, (label, begun, _, _) in steps if label == "make")
    for side, (label, began, ended, used) in steps:
        if ended < start:
            continue
        print(
            f"{(began - start) * 1e3:8.2f} {(ended - start) * 1e3:8.2f}  "
            f"took {(ended - began) * 1e3:6.2f}  cpu {used * 1e3:6.2f}  "
            f"{'' if side == 'sender' else '                    '}{label}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--path")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.receive:
        receive(arguments.receive, traced=arguments.trace)
        return
    tune_allocator()
    with tempfile.TemporaryDirectory(dir=arguments.path) as folder:
        figures = measure(arguments, Path(folder))
    report("snapshot_transfer", {"times": arguments.times, **figures}, record=arguments.record)


if __name__ == "__main__":
    main()
