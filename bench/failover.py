"""What a client notices when a node is lost under load: write gaps and throughput.

Three nodes, replica 3, raft_log_sync=always; writers of single rows in processes of their own, all
into one storage group, spread over the nodes.

* leader: the node that leads the group is lost, once a round. The gap of a round is the longest
  time, from the loss on, without an acknowledgement to any writer; `writer` is the same for the
  writer that waited longest among those whose own node survived.
* follower: a node that does not lead the group is lost. The largest gap as above over the time
  that it is away, and the rate of acknowledgements then, against that of the same writers before.
  Writers are connected to the other two nodes.

`--how kill` is kill -9, `--how pause` SIGSTOP: the node hangs with its connections open. Prints one
JSON line.

    python bench/failover.py [--rounds 10] [--how kill|pause] [--writers 6] [--follower-seconds 6]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from report import report  # noqa: E402
from thrift.Thrift import TException  # noqa: E402

from harness.faults.serving import Prober, storage_groups  # noqa: E402
from harness.process_cluster import Node, ProcessCluster, process_cluster  # noqa: E402
from harness.wire import StatusError, WireClient  # noqa: E402

_ERRORS = (OSError, TException, StatusError, EOFError)
_SETTLE_S = 1.5
_ROWS_AT_A_NODE = 100


class Ack(NamedTuple):
    """When which writer had a row acknowledged, and through which node."""

    at: float
    writer: int
    node: int


def write(ports: list[int], writer: int, storage_group: str, out, stop) -> None:
    """Insert rows at ever new times until told to stop; another node after each lost connection."""
    logging.disable()
    acks: list[Ack] = []
    at = writer
    client = None
    device = f"{storage_group}.d{writer}"
    for row in itertools.count():
        if stop.is_set():
            break
        try:
            if client is None:
                client = WireClient(ports[at % len(ports)], timeout_s=30)
            client.insert_row(device, ["v"], row, [float(row)])
        except StatusError:
            continue  # the node answers: it is not this one that was lost
        except _ERRORS:
            if client is not None:
                client.close()
            client = None
            at += 1
            time.sleep(0.01)
            continue
        acks.append(Ack(time.monotonic(), writer, at % len(ports)))
        if row % _ROWS_AT_A_NODE == 0:
            # so that nodes that are back get writers again, and each round finds some at all nodes
            client.close()
            client = None
            at += 1
        if len(acks) == 64:
            out.put(acks)
            acks = []
    out.put(acks)


class Writers:
    """Writer processes and what they report."""

    def __init__(self, nodes: list[Node], storage_group: str, count: int) -> None:
        self._out: multiprocessing.Queue = multiprocessing.Queue()
        self._stop = multiprocessing.Event()
        ports = [node.rpc_port for node in nodes]
        self._processes = [
            multiprocessing.Process(
                target=write, args=(ports, number, storage_group, self._out, self._stop)
            )
            for number in range(count)
        ]
        self.acks: list[Ack] = []
        self._reader = threading.Thread(target=self._gather, daemon=True)

    def __enter__(self) -> Writers:
        for process in self._processes:
            process.start()
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for process in self._processes:
            process.join(60)
        self._out.put(None)
        self._reader.join(60)

    def _gather(self) -> None:
        while (acks := self._out.get()) is not None:
            self.acks += acks


def gap(acks: list[Ack], since: float, until: float) -> float:
    """The longest time in [since, until] without an acknowledgement."""
    points = sorted([since, until, *(ack.at for ack in acks if since < ack.at < until)])
    return max(b - a for a, b in itertools.pairwise(points))


def worst_writer(acks: list[Ack], since: float, until: float, lost: int) -> float:
    """The longest gap of a single writer, of those who were at another node than the lost one."""
    last_node = {}
    for ack in acks:
        if ack.at < since:
            last_node[ack.writer] = ack.node
    return max(
        (
            gap([ack for ack in acks if ack.writer == writer], since, until)
            for writer, node in last_node.items()
            if node != lost
        ),
        default=float("nan"),
    )


@contextmanager
def lost(node: Node, how: str) -> Iterator[float]:
    """The node is away; yields since when. Back and ready afterwards."""
    began = time.monotonic()
    if how == "kill":
        node.kill()
    else:
        node.pause()
    try:
        yield began
    finally:
        if how == "kill":
            node.start()
            node.wait_ready()
        else:
            node.resume()


def leader_rounds(
    cluster: ProcessCluster, group_id: int, name: str, options: argparse.Namespace
) -> dict[str, object]:
    intervals = []
    prober = Prober(cluster.nodes, {group_id: name})
    with Writers(cluster.nodes, name, options.writers) as writers:
        time.sleep(2)
        for _ in range(options.rounds):
            node = cluster.leader_of(group_id)
            with lost(node, options.how) as began:
                time.sleep(options.away)
            intervals.append((began, began + options.away, cluster.nodes.index(node)))
            prober.probe()
            time.sleep(_SETTLE_S)
    gaps = [gap(writers.acks, since, until) for since, until, _ in intervals]
    single = [worst_writer(writers.acks, *interval) for interval in intervals]
    return {
        "rounds": len(gaps),
        "gap_s_p50": round(statistics.median(gaps), 2),
        "gap_s_max": round(max(gaps), 2),
        "writer_gap_s_p50": round(statistics.median(single), 2),
        "writer_gap_s_max": round(max(single), 2),
        "gaps_s": [round(value, 2) for value in gaps],
    }


def follower_rounds(
    cluster: ProcessCluster, group_id: int, name: str, options: argparse.Namespace
) -> dict[str, object]:
    gaps, single, ratios, usual = [], [], [], []
    for _ in range(options.follower_rounds):
        leader = cluster.leader_of(group_id)
        victim = next(node for node in reversed(cluster.nodes) if node is not leader)
        others = [node for node in cluster.nodes if node is not victim]
        away = options.follower_seconds
        with Writers(others, name, options.writers) as writers:
            time.sleep(2 + away)
            with lost(victim, options.how) as began:
                time.sleep(away)
        before = sum(began - away < ack.at < began for ack in writers.acks) / away
        after = sum(began < ack.at < began + away for ack in writers.acks) / away
        usual.append(gap(writers.acks, began - away, began))
        gaps.append(gap(writers.acks, began, began + away))
        single.append(worst_writer(writers.acks, began, began + away, -1))
        ratios.append(after / before)
    return {
        "rounds": len(gaps),
        "gap_ms_max": round(max(gaps) * 1000),
        "gap_ms_max_before_loss": round(max(usual) * 1000),
        "writer_gap_ms_max": round(max(single) * 1000),
        "throughput_ratio_min": round(min(ratios), 3),
        "rows_per_s_after": round(after),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="losses of the leader")
    parser.add_argument("--follower-rounds", type=int, default=3)
    parser.add_argument("--follower-seconds", type=float, default=6.0)
    parser.add_argument("--how", choices=("kill", "pause"), default="kill")
    parser.add_argument("--away", type=float, default=5.0, help="seconds that a leader is away")
    parser.add_argument("--writers", type=int, default=6)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    options = parser.parse_args()
    logging.getLogger("thrift").setLevel(logging.CRITICAL)
    result: dict[str, object] = {
        "how": options.how,
        "writers": options.writers,
        "raft_log_sync": "always",
    }
    with (
        tempfile.TemporaryDirectory(dir=ROOT) as folder,
        process_cluster(Path(folder), 3) as cluster,
    ):
        (group_id, [name]), *_ = storage_groups(cluster, per_group=1).items()
        Prober(cluster.nodes, {group_id: name}).probe()
        if options.rounds:
            result["leader"] = leader_rounds(cluster, group_id, name, options)
        if options.follower_rounds:
            result["follower"] = follower_rounds(cluster, group_id, name, options)
        cluster.stop()
    report("failover", result, record=options.record)


if __name__ == "__main__":
    main()
