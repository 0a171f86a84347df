"""A process with one node's members of very many data groups, over real sockets.

    python -m harness.idle_groups_node FOLDER NODE GROUPS PORT1 PORT2 PORT3

A cluster has one data group per node, so that many groups need many nodes. This builds only what
groups need: engine, log, members, links, the data server. It prints a line when every group has a
leader and sleeps, and ends when its input ends.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path

from cluster.log.node_log import LogOptions, NodeLog
from cluster.member.address_book import AddressBook, NodeInfo
from cluster.member.courier import Couriers
from cluster.member.data_groups import DataGroups
from cluster.member.node_watch import NodeWatch
from cluster.member.peer_link import PeerLink, PeerLinks
from cluster.member.raft_member import MemberDeps
from cluster.partition.partition_group import PartitionGroup
from cluster.raft.types import GroupId, NodeId, RaftConfig
from cluster.rpc.client_pool import RpcChannel
from cluster.rpc.gen.cluster import DataGroupService
from cluster.rpc.server import ServerLimits
from cluster.server.data_cluster_server import DataClusterServer
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine

TICK_S = 0.1
ELECTION_TICKS = 30
HEARTBEAT_TICKS = 5
"""As who runs so many groups would have it: every half second; elections after three."""
NODES = (NodeId(1), NodeId(2), NodeId(3))


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
    engine = Engine(folder / "engine")
    log = NodeLog(folder / "raft-log", threads, LogOptions())
    limits = ServerLimits(max_connections=4 * count)
    process = random.getrandbits(63)

    def make_channel(peer: NodeId) -> RpcChannel:
        return RpcChannel(lambda: book.data_endpoint(peer), DataGroupService.Client, 5.0, limits)

    links = PeerLinks(
        lambda peer: PeerLink(
            peer=peer,
            channel=make_channel(peer),
            call_timeout_s=5.0,
            address_book=book,
            process=process,
            on_heard=lambda node_id, run: watch.heard(node_id, run),
        ),
        lambda name, run: threads.spawn(f"link-data-{name}", run),
    )
    couriers = Couriers(
        make_channel, 5.0, lambda name, run: threads.spawn(f"courier-data-{name}", run)
    )
    groups = DataGroups(
        node_id=own,
        log=log,
        engine=engine,
        deps=MemberDeps(
            threads=threads,
            links=links,
            make_channel=make_channel,
            append_timeout_s=5.0,
            on_failure=lambda _group, error: failures.append(error),
            engine=engine,
            tick_s=TICK_S,
            couriers=couriers,
        ),
        threads=threads,
        tick_s=TICK_S,
        raft_config=lambda favoured: RaftConfig(
            node_id=own,
            heartbeat_ticks=HEARTBEAT_TICKS,
            election_ticks=ELECTION_TICKS,
            max_clock_drift_ticks=ELECTION_TICKS // 3 - 1,
            first_campaign_ticks=2 if favoured else 0,
            quiesce_after_ticks=30,
            lease_reads=True,
        ),
        rng=random.Random(own),
    )
    watch = NodeWatch(
        node_id=own,
        process=process,
        members=groups.all,
        links=links,
        interval_s=0.2,
        tick_s=TICK_S,
        silent_ticks=ELECTION_TICKS // 2,
        election_ticks=ELECTION_TICKS,
    )
    groups.build(ManyGroups(count))  # type: ignore[arg-type]
    server = DataClusterServer(
        groups=groups,
        address_book=book,
        answer_timeout_s=5.0,
        host="127.0.0.1",
        port=ports[own],
        threads=threads,
        limits=limits,
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
