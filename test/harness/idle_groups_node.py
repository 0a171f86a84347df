"""A process with one node's members of very many data groups, over real sockets.

    python -m harness.idle_groups_node FOLDER NODE GROUPS PORT1 PORT2 PORT3

A cluster has one data group per node, so that many groups need many nodes. This builds only what
groups need: engine, log, members, links, the data server, with the default settings. It prints a
line when every group has a leader and sleeps, and ends when its input ends.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path

from cluster.config.settings import Settings
from cluster.log.node_log import LogOptions, NodeLog
from cluster.member.address_book import AddressBook
from cluster.member.data_groups import DataGroups
from cluster.member.services import MemberServices
from cluster.partition.node_info import NodeInfo
from cluster.partition.partition_group import PartitionGroup
from cluster.raft.types import GroupId, NodeId
from cluster.server.data_cluster_server import DataClusterServer
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine

NODES = (NodeId(1), NodeId(2), NodeId(3))
# "key=value …": settings that are not to have their defaults
CHANGED = dict(pair.split("=", 1) for pair in os.environ.get("IDLE_GROUPS_SETTINGS", "").split())


class ManyGroups:
    """A partition table of many groups of three nodes, headed by each in turn."""

    def __init__(self, count: int) -> None:
        self._groups = [
            PartitionGroup(GroupId(number), NODES[number % 3], NODES)
            for number in range(1, count + 1)
        ]

    def groups_of_node(self, _node_id: NodeId) -> list[PartitionGroup]:
        return self._groups


def main() -> None:
    folder, own, count = Path(sys.argv[1]), NodeId(int(sys.argv[2])), int(sys.argv[3])
    ports = dict(zip(NODES, map(int, sys.argv[4:]), strict=True))
    threads = ThreadRegistry()
    failures: list[BaseException] = []
    book = AddressBook(NodeInfo(own, "127.0.0.1", 1, ports[own], "127.0.0.1", 1, f"i{own}"))
    for node_id, port in ports.items():
        book.recall(NodeInfo(node_id, "127.0.0.1", 1, port, "127.0.0.1", 1, f"i{node_id}"))
    settings = Settings.load(None, {"internal_ip": "127.0.0.1", **CHANGED})
    services = MemberServices(
        settings=settings,
        node_id=own,
        process=random.getrandbits(63),
        address_book=book,
        threads=threads,
    )
    engine = Engine(folder / "engine")
    log = NodeLog(folder / "raft-log", threads, LogOptions())
    links = services.links("data", lambda node_id, run: watch.heard(node_id, run))
    couriers = services.couriers("data")
    groups = DataGroups(
        node_id=own,
        log=log,
        engine=engine,
        deps=services.deps(
            "data",
            links=links,
            engine=engine,
            couriers=couriers,
            on_failure=lambda _group, error: failures.append(error),
        ),
        threads=threads,
        tick_s=services.tick_s,
        raft_config=lambda favoured: services.raft_config(favoured=favoured, sleeps=True),
        rng=random.Random(own),
    )
    disk_watch = services.disk_watch(log, groups.all)
    watch = services.node_watch(groups.all, links, beside=disk_watch.look)
    groups.build(ManyGroups(count))  # type: ignore[arg-type]
    server = DataClusterServer(
        groups=groups,
        address_book=book,
        answer_timeout_s=5.0,
        host="127.0.0.1",
        port=ports[own],
        threads=threads,
        limits=services.limits,
        watch=watch,
    )
    server.start()
    print("listening", flush=True)
    sys.stdin.readline()
    groups.start_heartbeats()
    threads.spawn("node-watch", watch.run)
    while any(member.awake.is_set() or not member.leader for member in groups.all()):
        time.sleep(0.1)
    print("asleep", flush=True)
    for line in sys.stdin:
        if line.strip() == "threads":
            print(threading.active_count(), flush=True)
        elif line.strip() == "awake":
            print(sum(member.awake.is_set() for member in groups.all()), flush=True)
        elif line.startswith("led by"):
            leader = int(line.split()[-1])
            print(sum(member.leader in (0, leader) for member in groups.all()), flush=True)
    print("failed" if failures else "well", flush=True)
    groups.stop()
    watch.stop()
    links.stop()
    couriers.stop()
    server.stop()
    log.close()
    engine.close()


if __name__ == "__main__":
    main()
