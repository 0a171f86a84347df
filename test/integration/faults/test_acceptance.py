"""Acceptance tests 1, 3, 4, 5 and 12 of the cluster's design, by the weaknesses of the original."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from thrift.Thrift import TException

from harness import namespaces
from harness.faults.nemeses import restart_dead, wait_until
from harness.faults.serving import Prober, storage_groups
from harness.faults.workloads import Registers, SetCheck, Sets
from harness.history import longest_gap_s, now_ns
from harness.linearizable import Verdict, check
from harness.namespaces import Network
from harness.node_status import node_status
from harness.process_cluster import Node, ProcessCluster, process_cluster
from harness.replicas import assert_replicas_equal
from harness.wire import StatusError, WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

SCALE = float(os.environ.get("TEST_TIME_SCALE", "1"))
PARTITION_S = float(os.environ.get("TEST_PARTITION_S", "8"))
ELECTION_S = 1.2
NO_ANSWER = (OSError, TException, EOFError)

needs_network = pytest.mark.skipif(
    bool(namespaces.unavailable()), reason=namespaces.unavailable() or "-"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """Three nodes for all tests that need no network of their own: a start takes seconds."""
    with process_cluster(tmp_path_factory.mktemp("shared"), 3) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: ProcessCluster) -> ProcessCluster:
    """The shared nodes, all up, whatever an earlier test left behind."""
    for node in shared.nodes:
        if node.process is not None and node.process.poll() is None:
            node.resume()
    restart_dead(shared)
    return shared


def insert_rows(node: Node, device: str, first: int, count: int) -> None:
    with WireClient(node.rpc_port, node.host, timeout_s=60) as client:
        for row in range(first, first + count):
            client.insert_row(device, ["v"], row, [float(row)])


def in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run calls side by side; their results, or the first exception."""
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []

    def run(number: int, call: Callable[[], Any]) -> None:
        try:
            results[number] = call()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def test_01_kill_all_nodes_right_after_10000_acknowledged_inserts(cluster: ProcessCluster) -> None:
    """All rows are present at every node, and the replicas' digests are equal."""
    clients, each = 40, 250
    names = [name for [name] in storage_groups(cluster, per_group=1).values()]
    devices = [f"{names[number % len(names)]}.first{number}" for number in range(clients)]
    in_threads(
        [
            lambda n=number: insert_rows(cluster.nodes[n % 3], devices[n], 0, each)  # type: ignore[misc]
            for number in range(clients)
        ]
    )
    cluster.kill_all()
    for node in cluster.nodes:
        node.start()
    for node in cluster.nodes:
        node.wait_ready()
    for node in cluster.nodes:
        with WireClient(node.rpc_port, node.host, timeout_s=60) as client:
            for device in devices:
                rows = client.query(f"select v from {device}")
                assert rows == [[row, float(row)] for row in range(each)], (node.number, device)
    assert_replicas_equal(cluster)


@pytest.mark.quiet
@pytest.mark.parametrize("how", ["kill", "pause"])
def test_03_a_node_is_lost_under_load(cluster: ProcessCluster, how: str) -> None:
    """The write gap is below 5 s if it led, and there is none (< 0.2 s) otherwise.

    Writes go on about as before. That it is 90 % of the rate is for `bench/failover.py` to measure:
    here other work on the machine decides.
    """
    group_id, [name] = next(iter(storage_groups(cluster, per_group=1).items()))
    leader = cluster.leader_of(group_id)
    follower = next(node for node in cluster.nodes if node is not leader)
    stay = [node for node in cluster.nodes if node is not follower]
    # so many that some are surely at another node than the one that will hang
    first = {"kill": 1, "pause": 101}[how]  # the nodes are shared, the devices are not
    load = Sets(stay, name, first, seed=3, clients=9, pause_s=0.002)
    load.start()
    time.sleep(1.5 * SCALE)  # until caches are warm

    def lose(victim: Node, limit_s: float, for_s: float) -> float:
        """Lose a node for a while and get it back; what is left of the throughput."""
        began = now_ns()
        time.sleep(2.5)
        lost = now_ns()
        victim.kill() if how == "kill" else victim.pause()
        time.sleep(for_s)
        until = now_ns()
        acknowledged = list(load.acknowledged_ns)
        assert longest_gap_s(acknowledged, lost, until) < limit_s, victim.number
        if how == "kill":
            victim.start()
            victim.wait_ready()
        else:
            victim.resume()
        Prober(cluster.nodes, {group_id: name}).probe()
        before = sum(began < at < lost for at in acknowledged) / (lost - began)
        return sum(lost < at < until for at in acknowledged) / (until - lost) / before

    assert lose(follower, 0.2 * SCALE, 2.5) > 0.5
    lose(cluster.leader_of(group_id), 5.0, 5.0)
    load.stop()
    assert not load.crashes
    assert not load.stale, load.stale[:3]
    found = SetCheck()
    for node in cluster.nodes:
        found.at(node, load)
    assert not found.lost
    assert not found.invented
    assert found.read >= 3 * sum(len(times) for times in load.acknowledged.values()) > 0


class Insistent:
    """Asks one node for one thing again and again; notes when it was served."""

    def __init__(self, node: Node, ask: Callable[[WireClient, int], Any]) -> None:
        self.served: list[tuple[int, Any]] = []
        """When the call was made, and its result."""
        self.refused = 0
        self._node = node
        self._ask = ask
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Insistent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        client = None
        for number in itertools.count(1):
            if self._stop.wait(0.01):
                break
            called = now_ns()
            try:
                if client is None:
                    client = WireClient(self._node.rpc_port, self._node.host, timeout_s=2)
                self.served.append((called, self._ask(client, number)))
            except (*NO_ANSWER, StatusError) as error:
                self.refused += 1
                if client is not None and not isinstance(error, StatusError):
                    client.close()
                    client = None
        if client is not None:
            client.close()


def terms(nodes: list[Node]) -> dict[int, int]:
    """The highest term of each group that any of the nodes knows."""
    known: dict[int, int] = {}
    for node in nodes:
        for member in node_status(node.meta_port, node.host).members:
            known[member.groupId] = max(known.get(member.groupId, 0), member.term)
    return known


@needs_network
def test_04_leader_partitioned_away_and_healed(tmp_path: Path) -> None:
    """Cut off, it serves nothing after one election time-out; healed, no term jumps.

    TEST_PARTITION_S=60 is the long form.
    """
    with Network(3) as network, process_cluster(tmp_path, 3, network) as cluster:
        group_id, [name] = next(iter(storage_groups(cluster, per_group=1).items()))
        Prober(cluster.nodes, {group_id: name}).probe()
        old = cluster.leader_of(group_id)
        majority = [node for node in cluster.nodes if node is not old]

        def write(client: WireClient, number: int) -> int:
            client.insert_row(f"{name}.w", ["v"], number, [float(number)])
            return number

        with (
            Insistent(old, write) as writes,
            Insistent(
                old, lambda client, _: client.query(f"select count(v) from {name}.w")
            ) as reads,
        ):
            time.sleep(1)
            cut = now_ns()
            network.cut_off({old.number})
            time.sleep(PARTITION_S)
            members = node_status(old.meta_port, old.host).members
            assert all(member.role != "LEADER" for member in members)
            before = terms(majority)
            assert all(member.term <= before[member.groupId] for member in members)
            healed = now_ns()
            network.heal()
            Prober(cluster.nodes, {group_id: name}).probe()
            time.sleep(2 * ELECTION_S * SCALE)
            assert terms(cluster.nodes) == before
        for served in (writes.served, reads.served):
            late = [
                (called - cut) / 1e9
                for called, _ in served
                if cut + ELECTION_S * SCALE * 1e9 < called < healed - 2.5e9
            ]
            assert not late, late
            assert any(called < cut for called, _ in served)
            assert any(called > healed for called, _ in served)


@needs_network
def test_05_strong_reads_during_partition_and_failover(tmp_path: Path) -> None:
    """Strong reads at all nodes, the cut-off leader's too, are linearizable throughout."""
    with Network(3) as network, process_cluster(tmp_path, 3, network) as cluster:
        group_id, [name] = next(iter(storage_groups(cluster, per_group=1).items()))
        load = Registers(cluster.nodes, name, 1, seed=5, clients=6)
        counts = Sets(cluster.nodes, name, 20, seed=5)
        first = cluster.nodes[0]
        with WireClient(first.rpc_port, first.host) as client:
            load.prepare(client)
        load.start()
        counts.start()
        time.sleep(1)
        network.cut_off({cluster.leader_of(group_id).number})
        time.sleep(4)
        network.heal()
        time.sleep(1)
        paused = cluster.leader_of(group_id)
        paused.pause()
        time.sleep(3)
        paused.resume()
        time.sleep(1)
        victim = cluster.leader_of(group_id)
        victim.kill()
        time.sleep(3)
        # enough for the checks below to mean something, however busy the machine is
        wait_until(
            lambda: load.history.tally()["ok"] > 500 / SCALE and counts.counts > 20,
            "too few operations succeed",
            60,
        )
        load.stop()
        counts.stop()
        assert not load.crashes + counts.crashes
        assert not counts.stale, counts.stale[:3]
        for key, operations in load.history.by_key().items():
            result = check(operations)
            assert result.verdict is Verdict.LINEARIZABLE, (key, result.explanation)


QUERIES = {
    "raw": "select v, w from {devices}",
    "filter": "select v from {devices} where v > 700 and time < 1900",
    "limit": "select w from {devices} limit 1500 offset 300",
    "aggregates": "select count(v), sum(v), max_value(w), min_time(v), avg(w) from {devices}",
    "filtered aggregate": "select count(v) from {devices} where w > 100",
    "windows": "select sum(v), count(w) from {devices} group by ([0, 2000), 100ms)",
    "fill": "select v from {devices} where time = 1000 fill(double[previous])",
    "last": "select last v, w from {devices}",
    "by device": "select v from {devices} align by device",
    "show series": "show timeseries root.**",
    "count series": "count timeseries root.**",
    "show devices": "show devices",
}


@pytest.mark.parametrize("fetch", [200])
def test_12_a_data_source_is_killed_mid_fetch(cluster: ProcessCluster, fetch: int) -> None:
    """Every kind of query answers completely and correctly, or with an explicit error.

    The source hangs first, so that every query surely waits for it, and is then killed.
    """
    rows = list(range(2000))
    names = [name for [name] in storage_groups(cluster, per_group=1).values()]
    asked, *others = cluster.nodes
    with WireClient(asked.rpc_port, asked.host, timeout_s=60) as client:
        for name in names:
            columns = [[float(row) for row in rows], [row * 0.5 for row in rows]]
            client.insert_tablet(f"{name}.d", ["v", "w"], rows, columns)
    devices = ", ".join(f"{name}.d" for name in names)
    queries = {kind: sql.format(devices=devices) for kind, sql in QUERIES.items()}
    expected = {kind: run(asked, sql, fetch) for kind, sql in queries.items()}
    refused = {kind: answer for kind, answer in expected.items() if isinstance(answer, str)}
    assert not refused
    outcomes: dict[str, list[Any]] = {kind: [] for kind in queries}
    for victim in others:
        victim.pause()
        began = time.monotonic()
        threads = [
            threading.Thread(
                target=lambda k=kind: outcomes[k].append(run(asked, queries[k], fetch)),
                daemon=True,
            )
            for kind in queries
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        victim.kill()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert time.monotonic() - began < 30
        victim.start()
        victim.wait_ready()
    for kind, answers in outcomes.items():
        assert len(answers) == len(others), kind
        for answer in answers:
            assert isinstance(answer, str) or answer == expected[kind], kind
    complete = sum(not isinstance(a, str) for answers in outcomes.values() for a in answers)
    assert complete >= len(queries), outcomes


def test_12_a_data_source_is_killed_between_pages(cluster: ProcessCluster) -> None:
    """A scan whose source dies after the first page goes on at another node, without a seam."""
    rows = list(range(30_000))
    group_id, [name] = next(iter(storage_groups(cluster, per_group=1).items()))
    victim = cluster.leader_of(group_id)
    asked = next(node for node in cluster.nodes if node is not victim)
    with WireClient(asked.rpc_port, asked.host, timeout_s=60) as client:
        for at in range(0, len(rows), 5000):
            part = rows[at : at + 5000]
            client.insert_tablet(f"{name}.pages", ["v"], part, [[float(row) for row in part]])
        victim = cluster.leader_of(group_id)
        assert victim is not asked
        pages = client.pages(f"select v from {name}.pages", fetch=500)
        read = next(pages)
        victim.kill()
        for page in pages:
            read += page
    assert read == [[row, float(row)] for row in rows]


def run(node: Node, sql: str, fetch: int) -> Any:
    """Columns and rows in a fixed order, or the text of an explicit error."""
    try:
        with WireClient(node.rpc_port, node.host, timeout_s=60) as client:
            answer = client.run(sql, fetch)
    except StatusError as error:
        return str(error)
    assert answer is not None
    return answer[0], sorted(answer[1], key=repr)
