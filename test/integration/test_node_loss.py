"""kill -9 under load: nothing acknowledged is lost, on no replica, and writing goes on soon."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest
from thrift.transport.TTransport import TTransportException

from harness.node_status import node_status
from harness.process_cluster import Node, ProcessCluster, process_cluster
from harness.wire import StatusError, WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("TEST_KILL_ROUNDS", "20"))
MEASUREMENTS = [f"s{number}" for number in range(10)]
ROWS = 10
DEVICE_COUNT = 4
PACE_S = 0.05
"""Between a writer's tablets: what is written must be read back in the end, several times over."""
MAX_GAP_S = 5.0
RETRYABLE = (OSError, TTransportException, StatusError, EOFError)


def value_of(time_: int, column: int) -> float:
    return time_ * 10.0 + column


class Workload:
    """Writers of tablets, or of single rows, with ever new timestamps, one per device; a reader."""

    def __init__(self, cluster: ProcessCluster, rows: int) -> None:
        self._cluster = cluster
        self._row_count = rows
        self._stop = threading.Event()
        self.lock = threading.Lock()
        self.acknowledged: dict[str, set[int]] = {}
        self.ack_times: dict[str, list[float]] = {}
        self.problems: list[str] = []
        self.reads = 0
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Workload:
        for number in range(DEVICE_COUNT):
            device = f"root.sg{number}.d"
            self.acknowledged[device] = set()
            self.ack_times[device] = []
            self._threads.append(
                threading.Thread(target=self._write, args=(device, number), daemon=True)
            )
        self._threads.append(threading.Thread(target=self._read, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def wait_for_progress(self, tablets: int, timeout_s: float = 60) -> None:
        """Until every writer had that many further tablets acknowledged."""
        start = {device: len(times) for device, times in self.ack_times.items()}
        end = time.monotonic() + timeout_s
        while any(len(self.ack_times[device]) < start[device] + tablets for device in start):
            assert time.monotonic() < end, "writers are stuck"
            time.sleep(0.02)

    def _write(self, device: str, number: int) -> None:
        client: WireClient | None = None
        at = number
        time_ = 0
        while not self._stop.is_set():
            times = list(range(time_, time_ + self._row_count))
            columns = [[value_of(t, c) for t in times] for c in range(len(MEASUREMENTS))]
            try:
                if client is None:
                    client = self._connect(at)
                if self._row_count == 1:
                    client.insert_row(device, MEASUREMENTS, time_, [one for (one,) in columns])
                else:
                    client.insert_tablet(device, MEASUREMENTS, times, columns)
            except RETRYABLE:
                # unknown or failed: these timestamps are never counted as acknowledged
                at += 1
                if client is not None:
                    client.close()
                client = None
                self._stop.wait(0.05)
            else:
                now = time.monotonic()
                with self.lock:
                    self.acknowledged[device].update(times)
                    self.ack_times[device].append(now)
                self._stop.wait(PACE_S)
            time_ += self._row_count
        if client is not None:
            client.close()

    def _read(self) -> None:
        client: WireClient | None = None
        at = 0
        while not self._stop.is_set():
            device = f"root.sg{self.reads % DEVICE_COUNT}.d"
            with self.lock:
                known = len(self.acknowledged[device])
            try:
                if client is None:
                    client = self._connect(at)
                rows = client.query(f"select count(s0) from {device}")
            except RETRYABLE:
                at += 1
                if client is not None:
                    client.close()
                client = None
                self._stop.wait(0.05)
                continue
            self.reads += 1
            seen = rows[0][0] if rows else 0
            if seen < known:
                self.problems.append(f"{device}: read {seen} points, {known} were acknowledged")
            self._stop.wait(0.05)
        if client is not None:
            client.close()

    def _connect(self, at: int) -> WireClient:
        return WireClient(self._cluster.nodes[at % len(self._cluster.nodes)].rpc_port, timeout_s=8)


def wait_caught_up(cluster: ProcessCluster, timeout_s: float = 30) -> None:
    """Until every member of every group has applied the same index, with writers stopped."""
    end = time.monotonic() + timeout_s
    while True:
        applied: dict[int, list[int]] = defaultdict(list)
        for node in cluster.nodes:
            for member in node_status(node.meta_port).members:
                applied[member.groupId].append(member.appliedIndex)
        if all(len(indices) == 3 and len(set(indices)) == 1 for indices in applied.values()):
            return
        assert time.monotonic() < end, f"replicas do not meet: {dict(applied)}"
        time.sleep(0.1)


def longest_gap(times: list[float], since: float) -> float:
    """The longest time without an acknowledgement from `since` on."""
    points = [since, *[time_ for time_ in times if time_ >= since]]
    return max((b - a for a, b in itertools.pairwise(points)), default=0.0)


def check_acknowledged(node: Node, acknowledged: dict[str, set[int]]) -> None:
    """Every acknowledged point, with its value, is read back through `node`."""
    with WireClient(node.rpc_port, timeout_s=60) as client:
        for device, times in acknowledged.items():
            rows = client.query(f"select {', '.join(MEASUREMENTS)} from {device}")
            found = {row[0]: row[1:] for row in rows}
            missing = times - found.keys()
            assert not missing, (
                f"node {node.number}, {device}: {len(missing)} of {len(times)} acknowledged rows "
                f"missing, first {sorted(missing)[:5]}"
            )
            wrong = [
                time_
                for time_ in times
                if found[time_] != [value_of(time_, column) for column in range(len(MEASUREMENTS))]
            ]
            assert not wrong, f"{device}: other values at {wrong[:5]}"


def check_each_replica_alone(cluster: ProcessCluster, acknowledged: dict[str, set[int]]) -> None:
    """Every replica holds everything: with each node down in turn, the other two serve it all.

    Any two nodes must form a quorum whose leader alone answers, so each node's own copy is read.
    """
    for node in cluster.nodes:
        node.kill()
        check_acknowledged(cluster.nodes[node.number % len(cluster.nodes)], acknowledged)
        node.start()
        node.wait_ready()
    wait_caught_up(cluster)


@pytest.mark.parametrize(
    ("rows", "rounds"), [(1, max(1, ROUNDS // 4)), (ROWS, ROUNDS)], ids=["rows", "tablets"]
)
def test_kill_leaders_in_turn_under_load(tmp_path: Path, rows: int, rounds: int) -> None:
    with process_cluster(tmp_path, 3) as cluster:
        groups = sorted(
            member.groupId for member in node_status(cluster.nodes[0].meta_port).members
        )
        gaps = []
        with Workload(cluster, rows) as load:
            load.wait_for_progress(10)
            for round_ in range(rounds):
                victim = cluster.leader_of(groups[round_ % len(groups)])
                killed_at = time.monotonic()
                victim.kill()
                load.wait_for_progress(10)
                with load.lock:
                    gaps.append(
                        max(longest_gap(times, killed_at) for times in load.ack_times.values())
                    )
                victim.start()
                victim.wait_ready()
        print(f"write gaps after kill -9, s: {[round(gap, 2) for gap in gaps]}")
        assert not load.problems, load.problems[:3]
        assert load.reads > rounds
        assert max(gaps) < MAX_GAP_S, gaps
        wait_caught_up(cluster)
        check_each_replica_alone(cluster, load.acknowledged)
        cluster.stop()


@pytest.mark.parametrize(
    ("nodes", "rows"),
    [(3, 1), (3, ROWS), (1, ROWS)],
    ids=["rows", "tablets", "tablets of a node that is alone"],
)
def test_all_nodes_killed_at_once_lose_nothing_acknowledged(
    tmp_path: Path, nodes: int, rows: int
) -> None:
    with process_cluster(tmp_path, nodes) as cluster:
        for _ in range(3):
            with Workload(cluster, rows) as load:
                load.wait_for_progress(20)
                cluster.kill_all()
            for node in cluster.nodes:
                node.start()
            for node in cluster.nodes:
                node.wait_ready()
            for node in cluster.nodes:
                check_acknowledged(node, load.acknowledged)
        cluster.stop()
