"""One data group on several nodes in one process: real members, logs and engines, no sockets.

Calls between nodes go through `Network`, which can lose, refuse or change them.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport.TTransport import TMemoryBuffer

from cluster.heartbeat.data_heartbeat_thread import DataHeartbeatThread
from cluster.log.file_ops import FileOps
from cluster.log.node_log import LogOptions, NodeLog
from cluster.member.address_book import AddressBook
from cluster.member.data_member import DataMember
from cluster.member.digest import ReplicaDigest
from cluster.member.disk_watch import DiskWatch
from cluster.member.member_deps import LogKeep, MemberDeps
from cluster.member.node_watch import NodeWatch
from cluster.member.peer_link import PeerLink, PeerLinks
from cluster.member.shipment import SnapshotOptions
from cluster.partition.node_info import NodeInfo
from cluster.partition.partition_group import PartitionGroup
from cluster.plan.codec import encode_plan
from cluster.plan.plans import DigestPlan, InsertPlan, Plan
from cluster.raft.types import GroupId, NodeId, RaftConfig
from cluster.rpc.client_pool import RpcError
from cluster.rpc.deadline import Deadline
from cluster.server.raft_handler import RaftHandler
from cluster.threads import ThreadRegistry
from harness.fragments import make_fragment, make_layout
from iotdb_engine import DataType, Engine, EngineOptions
from iotdb_engine.errors import Closed

GROUP = GroupId(1)
TICK_S = 0.02
WAIT_S = 30.0
STEADY: dict[str, Any] = {"election_ticks": 500}
"""Of a group in which nobody is to be elected but node 1, at the start: it may get no time from the
machine for ten seconds before it does. For tests of what a leader does while it leads."""
COLUMN = make_layout({1: DataType.INT64})

Tap = Callable[[NodeId, NodeId, str, Any], Any]


def insert(lo: int, hi: int) -> InsertPlan:
    return InsertPlan((make_fragment(COLUMN, [(n, [n]) for n in range(lo, hi)]),))


class Network:
    """Who reaches whom.

    `tap(frm, to, method, request)` may raise RpcError, or return another request.
    """

    def __init__(self) -> None:
        self.handlers: dict[NodeId, RaftHandler] = {}
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.tap: Tap | None = None

    def isolate(self, node: NodeId, others: list[NodeId]) -> None:
        for other in others:
            self.cut |= {(node, other), (other, node)}

    def heal(self) -> None:
        self.cut.clear()

    def call(self, frm: NodeId, to: NodeId, method: str, args: tuple[Any, ...]) -> Any:
        handler = self.handlers.get(to)
        if (frm, to) in self.cut or handler is None:
            raise RpcError(f"node {to} is not reached", definitely_not_sent=True)
        if self.tap is not None:
            args = (self.tap(frm, to, method, args[0]), *args[1:])
        try:
            answer = getattr(handler, method)(*map(sent, args))
        except Exception as error:
            raise RpcError(f"the node answered: {error}", definitely_not_sent=False) from error
        if (to, frm) in self.cut:
            raise RpcError("the answer was lost", definitely_not_sent=False)
        return sent(answer)


def sent(wire: Any) -> Any:
    """What the other side reads of a struct."""
    if not hasattr(wire, "thrift_spec"):
        return wire
    out = TMemoryBuffer()
    wire.write(TBinaryProtocolAccelerated(out))
    read = type(wire)()
    read.read(TBinaryProtocolAccelerated(TMemoryBuffer(out.getvalue())))
    return read


class FakeChannel:
    """RpcChannel's interface over the network."""

    def __init__(self, network: Network, frm: NodeId, to: NodeId) -> None:
        self._network = network
        self._frm = frm
        self._to = to
        self._closed = threading.Event()
        self._answers: deque[Any] = deque()

    def call(self, method: str, *args: Any, timeout_s: float) -> Any:
        if self._closed.is_set():
            raise RpcError("closed", definitely_not_sent=True)
        return self._network.call(self._frm, self._to, method, args)

    def connect(self, timeout_s: float) -> None:
        pass

    def post(
        self,
        method: str,
        *args: Any,
        timeout_s: float,
        tail: tuple[int, list[bytes]] | None = None,
    ) -> None:
        if tail is not None:
            field, parts = tail
            setattr(args[0], args[0].thrift_spec[field][2], b"".join(parts))
        try:
            self._answers.append(self.call(method, *args, timeout_s=timeout_s))
        except RpcError as error:
            if error.definitely_not_sent:
                self._answers.clear()
                raise
            self._answers.append(error)

    def answer(self, method: str, *, timeout_s: float) -> Any:
        if self._closed.is_set() or not self._answers:
            raise RpcError("closed", definitely_not_sent=False)
        answer = self._answers.popleft()
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def close(self) -> None:
        self._closed.set()


class HeldDisk(FileOps):
    """Real files; while `hold` is in force, writes of the log begin and do not end."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._go.set()
        self.waiting = threading.Event()

    def hold(self) -> None:
        self.waiting.clear()
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    def pwritev_durably(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        if not self._go.is_set():
            self.waiting.set()
            self._go.wait()
        return super().pwritev_durably(fd, parts, offset)


class GroupNode:
    """One node with its member of the group."""

    def __init__(
        self,
        node_id: NodeId,
        members: tuple[NodeId, ...],
        folder: Path,
        network: Network,
        *,
        keep: LogKeep,
        snapshots: SnapshotOptions,
        raft: dict[str, Any],
        segment_bytes: int,
        gives_way: bool,
    ) -> None:
        self.node_id = node_id
        self.network = network
        self.threads = ThreadRegistry()
        self.failures: list[BaseException] = []
        self.engine = Engine(folder / "engine", EngineOptions(page_points=100, chunk_points=1000))
        self.disk = HeldDisk()
        self.log = NodeLog(
            folder / "raft-log",
            self.threads,
            LogOptions(segment_bytes=segment_bytes),
            files=self.disk,
        )
        self.book = AddressBook(NodeInfo(node_id, "h", 1, 1, "h", 1, f"i{node_id}"))

        def make_channel(peer: NodeId) -> Any:
            return FakeChannel(network, node_id, peer)

        self.links = PeerLinks(
            lambda peer: PeerLink(
                peer=peer,
                channel=make_channel(peer),
                call_timeout_s=1.0,
                address_book=self.book,
                process=self.watch.process,
                on_heard=self.watch.heard,
            ),
            lambda name, run: self.threads.spawn(f"link-data-{name}", run),
        )
        self.member = DataMember(
            group=PartitionGroup(GROUP, node_id, members),
            config=RaftConfig(
                node_id=node_id,
                first_campaign_ticks=2 if members[:1] == (node_id,) else 0,
                **{"election_ticks": 10, **raft},
            ),
            log=self.log.group(GROUP),
            region=self.engine.region(GROUP),
            rng=random.Random(node_id),
            deps=MemberDeps(
                threads=self.threads,
                links=self.links,
                make_channel=make_channel,
                append_timeout_s=1.0,
                on_failure=lambda _group, error: self.failures.append(error),
                engine=self.engine,
                tick_s=TICK_S,
                log_keep=keep,
                snapshots=snapshots,
            ),
        )
        self.watch = NodeWatch(
            node_id=node_id,
            process=random.getrandbits(63),
            members=lambda: [self.member],
            links=self.links,
            interval_s=2 * TICK_S,
            tick_s=TICK_S,
            silent_ticks=5,
            election_ticks=10,
            beside=DiskWatch(
                waits_since=lambda: self.log.waits_since,
                members=lambda: [self.member] if gives_way else [],
                most_s=raft.get("election_ticks", 10) * TICK_S,
                interval_s=2 * TICK_S,
            ).look,
        )
        self.heartbeat = DataHeartbeatThread(self.member, TICK_S)
        self.running = False

    def start(self) -> None:
        self.network.handlers[self.node_id] = RaftHandler(
            find_member=lambda group: self.member if group == GROUP else None,
            address_book=self.book,
            answer_timeout_s=1.0,
            process=self.watch.process,
            on_heard=self.watch.heard,
        )
        self.heartbeat.start(self.threads)
        self.threads.spawn("node-watch", self.watch.run)
        self.running = True

    def stop(self, *, flush: bool = False) -> None:
        """Stop; without a flush, what is not in the log or stored is lost as in a kill."""
        self.disk.release()
        self.network.handlers.pop(self.node_id, None)
        self.heartbeat.stop()
        self.watch.stop()
        self.member.stop()
        self.links.stop()
        self.log.close()
        self.engine.close(flush=flush)
        left = self.threads.join_all(WAIT_S)
        assert not left, left
        self.running = False

    def put(self, plan: Plan) -> Any:
        return self.member.propose(encode_plan(plan), Deadline.after(WAIT_S))

    def count(self) -> int:
        """Points of the one series here; -1 while the region is being replaced."""
        try:
            return self.member.machine.region.aggregate([(1, DataType.INT64)], 0, 1 << 40)[0].count
        except Closed:
            return -1


class GroupCluster:
    """Nodes 1 to `size`; node 1 is favoured as the first leader.

    With `gives_way` a leader whose disk hangs is replaced, after 0.2 s with the default ticks: so
    long does the disk of a busy machine take now and then, and other tests count on their leader.
    """

    def __init__(
        self,
        folder: Path,
        size: int = 3,
        *,
        keep: LogKeep = LogKeep(),  # noqa: B008 frozen
        snapshots: SnapshotOptions = SnapshotOptions(),  # noqa: B008 frozen
        segment_bytes: int = 1 << 20,
        gives_way: bool = False,
        **raft: Any,
    ) -> None:
        self.folder = folder
        self.network = Network()
        self.ids = tuple(NodeId(number) for number in range(1, size + 1))
        self._options: dict[str, Any] = {
            "keep": keep,
            "snapshots": snapshots,
            "raft": raft,
            "segment_bytes": segment_bytes,
            "gives_way": gives_way,
        }
        self.nodes = {node_id: self._make(node_id) for node_id in self.ids}

    def _make(self, node_id: NodeId) -> GroupNode:
        return GroupNode(
            node_id, self.ids, self.folder / f"node{node_id}", self.network, **self._options
        )

    def add(self, node_id: NodeId) -> GroupNode:
        """Start a node that is in no group yet; the leader has to make it a member."""
        self.nodes[node_id] = GroupNode(
            node_id, (), self.folder / f"node{node_id}", self.network, **self._options
        )
        self.nodes[node_id].start()
        return self.nodes[node_id]

    def start(self, node_id: NodeId) -> GroupNode:
        """Start a node, again after `stop`."""
        if not self.nodes[node_id].running:
            self.nodes[node_id] = self._make(node_id)
        self.nodes[node_id].start()
        return self.nodes[node_id]

    def __enter__(self) -> GroupCluster:
        for node in reversed(self.nodes.values()):  # node 1 asks for votes at once
            node.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for node in self.nodes.values():
            if node.running:
                node.stop()

    def leader(self) -> GroupNode:
        found: list[GroupNode] = []

        def look() -> bool:
            found[:] = [n for n in self.nodes.values() if n.running and n.member.is_leader]
            term = max(n.member.term for n in self.nodes.values() if n.running)
            found[:] = [n for n in found if n.member.term == term]
            return bool(found)

        wait_until(look)
        return found[0]

    def wait_applied(self, index: int, *nodes: GroupNode) -> None:
        for node in nodes or [n for n in self.nodes.values() if n.running]:
            wait_until(lambda node=node: node.member.applied_index >= index)

    def digests(self) -> list[ReplicaDigest]:
        """The digests of all running replicas at one index."""
        index = self.leader().put(DigestPlan())
        found = []
        for node in self.nodes.values():
            if node.running:
                digest = node.member.group_machine.digests.get(index, Deadline.after(WAIT_S))
                assert digest is not None, f"node {node.node_id} has no digest at {index}"
                found.append(digest)
        return found


def wait_until(condition: Callable[[], Any], timeout_s: float = WAIT_S) -> None:
    """Wait for a condition; the test fails when it does not come true.

    Time in which the whole process stood still does not count: nothing could come true in it.
    """
    left_s, looked = timeout_s, time.monotonic()
    while not condition():
        now = time.monotonic()
        left_s -= min(now - looked, 1.0)
        looked = now
        assert left_s > 0, "the condition did not come true in time"
        time.sleep(0.005)
