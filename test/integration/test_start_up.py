"""The 15 start-up steps, in order, in both flows and at a restart (design.md 6).

Acceptance tests 9 (restart without a minority, and with other addresses) and 10 (seed lists in
another order, and a node that disagrees) of the cluster's design are here.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path

import pytest

from cluster.config.settings import Settings
from cluster.errors import ListenError
from cluster.main import ClusterMain
from harness.ports import free_ports
from harness.process_cluster import Node, ProcessCluster, process_cluster
from harness.wire import WireClient

pytestmark = pytest.mark.integration

COMMON_HEAD = [
    r"ClusterMain starts node \d+",
    r"MetaClusterServer listens on 127\.0\.0\.1:\d+",
    r"configuration agreed by \d of \d nodes",
    r"engine and Raft log open",
    r"MetaMember \(ELECTOR\) and Coordinator created",
]
COMMON_TAIL = [
    r"DataClusterServer listens on 127\.0\.0\.1:\d+",
    r"\d DataMembers: ",
    r"data group leaders elected",
    r"ClientServer listens on 127\.0\.0\.1:\d+: ready",
]
FIRST = [r"no stored partition table", r"MetaHeartbeatThread started"]
RESTART = [r"stored partition table loaded, version \d+", r"MetaHeartbeatThread started"]
FOUNDER = [
    r"election requests sent",
    r"a quorum of \d meta members agreed",
    r"MetaMember is LEADER in term \d+",
    r"partition table made, version 1, \d data groups",
]
LEADER_AGAIN = [*FOUNDER[:3], r"partition table kept, version 1, \d data groups"]
FOLLOWER = [
    r"(heartbeat of meta leader \d+ arrived|election requests sent)",
    r"MetaMember is FOLLOWER of \d+ in term \d+",
    r"partition table version 1: ",
    r"partition table held; this node is in \d data groups",
]


def matches(node: Node, expected: list[str]) -> bool:
    lines = node.startup_lines()
    return len(lines) == 15 and all(
        re.match(rf"startup\[{number}/15\] {pattern}", line)
        for number, (line, pattern) in enumerate(zip(lines, expected, strict=True), start=1)
    )


def check_roles(cluster: ProcessCluster, leader: list[str], follower: list[str]) -> None:
    leaders = [node for node in cluster.nodes if matches(node, leader)]
    followers = [node for node in cluster.nodes if matches(node, follower)]
    lines = "\n\n".join("\n".join(node.startup_lines()) for node in cluster.nodes)
    assert len(leaders) == 1, lines
    assert len(followers) == len(cluster.nodes) - 1, lines


def test_one_node_founds_a_cluster_of_its_own(tmp_path: Path) -> None:
    with process_cluster(tmp_path, 1, own_interpreters=True) as cluster:
        assert matches(cluster.nodes[0], COMMON_HEAD + FIRST + FOUNDER + COMMON_TAIL)
        assert cluster.nodes[0].stop() == 0
        cluster.nodes[0].start()
        cluster.nodes[0].wait_ready()
        assert matches(cluster.nodes[0], COMMON_HEAD + RESTART + LEADER_AGAIN + COMMON_TAIL)


@pytest.mark.parametrize("key", ["rpc_port", "internal_data_port"])
def test_a_port_that_is_taken_is_told_before_other_nodes_are_waited_for(
    tmp_path: Path, key: str
) -> None:
    """It is opened last, when a quorum is there: until then nobody would know."""
    ports = free_ports(3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        keys = ["internal_meta_port", "internal_data_port", "rpc_port"]
        values = dict(zip(keys, map(str, ports), strict=True))
        values[key] = str(taken.getsockname()[1])
        own, alone = values["internal_meta_port"], "127.0.0.1:1,127.0.0.1:2"
        node = ClusterMain(
            Settings.load(
                None,
                {**values, "data_dir": str(tmp_path), "seed_nodes": f"127.0.0.1:{own},{alone}"},
            )
        )
        give_up = threading.Timer(20, node.request_stop)
        give_up.start()
        with pytest.raises(ListenError, match=values[key]):
            node.start()
        give_up.cancel()
    assert not (tmp_path / "raft-log").exists()


def test_three_nodes_found_a_cluster_restart_one_and_restart_all(tmp_path: Path) -> None:
    founder = COMMON_HEAD + FIRST + FOUNDER + COMMON_TAIL
    follower = COMMON_HEAD + FIRST + FOLLOWER + COMMON_TAIL
    follower_again = COMMON_HEAD + RESTART + FOLLOWER + COMMON_TAIL
    with process_cluster(tmp_path, 3, own_interpreters=True) as cluster:
        check_roles(cluster, founder, follower)
        restarted = cluster.nodes[2]
        assert restarted.stop() == 0
        restarted.start()
        restarted.wait_ready()
        again = COMMON_HEAD + RESTART + LEADER_AGAIN + COMMON_TAIL
        assert matches(restarted, follower_again) or matches(restarted, again), "\n".join(
            restarted.startup_lines()
        )
        cluster.stop()
        for node in cluster.nodes:
            node.start()
        for node in cluster.nodes:
            node.wait_ready()
        check_roles(cluster, again, follower_again)


def test_09_a_majority_is_enough_to_found_and_to_restart(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path, 3)
    first, second, third = cluster.nodes
    try:
        second.start()
        third.start()
        second.wait_ready()
        third.wait_ready()
        with WireClient(second.rpc_port) as client:
            client.execute("insert into root.sg.d(timestamp, s) values(1, 1.5)")
        first.start()
        first.wait_ready()
        with WireClient(first.rpc_port) as client:
            assert client.query("select s from root.sg.d") == [[1, 1.5]]
        cluster.stop()
        first.start()
        third.start()
        first.wait_ready()
        third.wait_ready()
        with WireClient(first.rpc_port) as client:
            assert client.query("select s from root.sg.d") == [[1, 1.5]]
    finally:
        cluster.kill_all()


def test_09_addresses_may_change_between_restarts(tmp_path: Path) -> None:
    with process_cluster(tmp_path, 3) as cluster:
        with WireClient(cluster.nodes[0].rpc_port) as client:
            client.execute("insert into root.sg.d(timestamp, s) values(1, 1.5)")
        moved = cluster.nodes[1]
        assert moved.stop() == 0
        spare = ProcessCluster(tmp_path / "spare", 1).nodes[0]
        moved.host = "127.0.0.9"
        moved.meta_port, moved.data_port, moved.rpc_port = (
            spare.meta_port,
            spare.data_port,
            spare.rpc_port,
        )
        moved.start()
        moved.wait_ready()
        with WireClient(moved.rpc_port, moved.host) as client:
            client.execute("insert into root.sg.d(timestamp, s) values(2, 2.5)")
            assert client.query("select s from root.sg.d") == [[1, 1.5], [2, 2.5]]


def test_09_all_addresses_may_change_at_once_when_the_seeds_name_the_new_ones(
    tmp_path: Path,
) -> None:
    with process_cluster(tmp_path, 3) as cluster:
        with WireClient(cluster.nodes[0].rpc_port) as client:
            client.execute("insert into root.sg.d(timestamp, s) values(1, 1.5)")
        cluster.stop()
        spare = ProcessCluster(tmp_path / "spare", 3)
        for node, place in zip(cluster.nodes, spare.nodes, strict=True):
            node.meta_port, node.data_port = place.meta_port, place.data_port
            node.rpc_port = place.rpc_port
            node.overrides["seed_nodes"] = place.overrides["seed_nodes"]
            node.start()
        for node in cluster.nodes:
            node.wait_ready()
        with WireClient(cluster.nodes[2].rpc_port) as client:
            assert client.query("select s from root.sg.d") == [[1, 1.5]]


@pytest.mark.parametrize(
    ("key", "value", "theirs"),
    [
        ("default_replica_num", "2", "3"),
        ("cluster_name", "other", "default"),
        ("timestamp_precision", "us", "ms"),
    ],
)
def test_10_a_node_with_another_setting_is_refused_with_key_and_values(
    tmp_path: Path, key: str, value: str, theirs: str
) -> None:
    cluster = ProcessCluster(tmp_path, 3)
    try:
        for node in cluster.nodes[:2]:
            node.start()
        for node in cluster.nodes[:2]:
            node.wait_ready()
        odd = cluster.nodes[2]
        odd.start({key: value})
        assert odd.wait_exit() == 1
        log = odd.log()
        assert key in log
        assert value in log
        assert theirs in log
        assert "ready: rpc" not in log
        with WireClient(cluster.nodes[0].rpc_port) as client:
            client.execute("insert into root.sg.d(timestamp, s) values(1, 1.5)")
        # nothing of the wrong setting stays in the folder
        odd.start()
        odd.wait_ready()
    finally:
        cluster.kill_all()


@pytest.mark.parametrize("is_late", [False, True], ids=["at first", "by a running cluster"])
def test_10_a_node_with_another_seed_list_is_refused(tmp_path: Path, is_late: bool) -> None:
    cluster = ProcessCluster(tmp_path, 3)
    try:
        for node in cluster.nodes[:2]:
            node.start()
        for node in cluster.nodes[:2] if is_late else ():
            node.wait_ready()
        odd = cluster.nodes[2]
        seeds = odd.overrides["seed_nodes"] + ",127.0.0.1:1"
        odd.start({"seed_nodes": seeds, "default_replica_num": "3"})
        assert odd.wait_exit() == 1
        assert "seed_nodes" in odd.log()
        for node in cluster.nodes[:2]:
            node.wait_ready()
    finally:
        cluster.kill_all()


def test_10_seed_lists_in_another_order_are_the_same(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path, 3)
    odd = cluster.nodes[2]
    odd.overrides["seed_nodes"] = ",".join(reversed(odd.overrides["seed_nodes"].split(",")))
    try:
        cluster.start()
    finally:
        cluster.kill_all()


def test_a_known_identity_with_a_lost_data_folder_is_refused(tmp_path: Path) -> None:
    with process_cluster(tmp_path, 3) as cluster:
        lost = cluster.nodes[2]
        assert lost.stop() == 0
        (lost.folder / "data").rename(lost.folder / "lost")
        lost.start()
        assert lost.wait_exit() == 1
        assert "another data folder" in lost.log()


def test_a_node_of_another_cluster_at_a_lost_nodes_address_is_left_alone(tmp_path: Path) -> None:
    """It has the id of the lost node, since ids are those of addresses, and its groups' ids."""
    with process_cluster(tmp_path, 3) as cluster:
        with WireClient(cluster.nodes[0].rpc_port) as client:
            client.execute("insert into root.sg.d(timestamp, s) values(1, 1.5)")
        lost = cluster.nodes[2]
        lost.kill()
        other = ProcessCluster(tmp_path / "other", 1).nodes[0]
        other.meta_port, other.data_port = lost.meta_port, lost.data_port
        other.overrides = {"seed_nodes": f"{other.host}:{other.meta_port}"}
        try:
            other.start()
            other.wait_ready()
            while not any("another data folder" in node.log() for node in cluster.nodes[:2]):
                time.sleep(0.05)  # until they have tried
            with WireClient(other.rpc_port) as client:
                assert client.query("count devices") == [[0]]
                client.execute("insert into root.sg.d(timestamp, s) values(2, 2.5)")
            with WireClient(cluster.nodes[0].rpc_port) as client:
                assert client.query("select s from root.sg.d") == [[1, 1.5]]
            assert matches(other, COMMON_HEAD + FIRST + FOUNDER + COMMON_TAIL), other.log()
            assert other.stop() == 0
        finally:
            other.kill()
