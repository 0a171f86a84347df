"""What the members of one node share: timings, connections to other nodes, housekeeping."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from cluster.closers import Closers
from cluster.config.settings import Settings
from cluster.errors import ClusterError, StatusCode
from cluster.log.node_log import NodeLog
from cluster.member.address_book import AddressBook
from cluster.member.courier import Couriers
from cluster.member.disk_watch import DiskWatch
from cluster.member.log_keeper import FLUSH_AFTER_ENTRIES, LogKeeper
from cluster.member.member_deps import LogKeep, MemberDeps
from cluster.member.node_watch import NodeWatch
from cluster.member.peer_link import PeerLink, PeerLinks
from cluster.member.raft_member import RaftMember
from cluster.member.shipment import SnapshotOptions
from cluster.member.snapshot_turns import SnapshotTurns
from cluster.member.stream import PeerStream, PeerStreams
from cluster.partition.node_info import NodeInfo
from cluster.raft.types import GroupId, NodeId, RaftConfig
from cluster.rpc.client_pool import Ask, ClientPool, Greet, RpcChannel
from cluster.rpc.convert_raft import heartbeat_batch, node_info_from_wire
from cluster.rpc.gen.cluster import DataGroupService, MetaGroupService
from cluster.rpc.loop import FrameLoop
from cluster.rpc.server import ServerLimits
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine

logger = logging.getLogger(__name__)

_FIRST_CAMPAIGN_TICKS = 2
_FRAME_EXTRA_BYTES = 16 << 20
"""A client's largest frame becomes a slightly larger one between nodes."""
PLAN_EXTRA_BYTES = _FRAME_EXTRA_BYTES // 2
"""So much larger than that may a plan be: what is around it in a message has room, too."""
_FLUSH_AFTER_LOG_BYTES = 512 << 20
"""At least that much log may be unflushed; more where the memory tables hold more."""
_LEAST_ELECTION_TICKS = 5
_LEAST_SNAPSHOT_CALL_S = 10.0


class MemberServices:
    """Makes these parts as the settings say.

    Args:
        settings: of the node.
        node_id: this node.
        process: a number of this run of the node.
        address_book: where other nodes are.
        threads: runs the links.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        node_id: NodeId,
        process: int,
        address_book: AddressBook,
        threads: ThreadRegistry,
    ) -> None:
        node = settings.node
        self._settings = settings
        self._node_id = node_id
        self._process = process
        self._book = address_book
        self._threads = threads
        self._impostors: dict[NodeId, str] = {}
        self.tick_s = node.heartbeat_interval_ms / 1000 / 2
        self.election_ticks = max(
            _LEAST_ELECTION_TICKS, round(node.election_timeout_ms / 1000 / self.tick_s)
        )
        self.limits = ServerLimits(
            max_frame_bytes=node.thrift_max_frame_size + _FRAME_EXTRA_BYTES,
            max_connections=node.internal_max_connections,
        )

    def raft_config(self, *, favoured: bool, sleeps: bool = False) -> RaftConfig:
        """Return a core's configuration.

        Args:
            favoured: campaigns first when the group starts.
            sleeps: an idle group of that kind does.
        """
        quiesce_ticks = round(self._settings.node.group_sleep_after_ms / 1000 / self.tick_s)
        return RaftConfig(
            node_id=self._node_id,
            heartbeat_ticks=2,
            election_ticks=self.election_ticks,
            quiesce_after_ticks=quiesce_ticks if sleeps else 0,
            lease_reads=self._settings.cluster.lease_reads,
            first_campaign_ticks=_FIRST_CAMPAIGN_TICKS if favoured else 0,
        )

    def links(
        self, kind: Literal["meta", "data"], on_heard: Callable[[NodeId, int], None]
    ) -> PeerLinks:
        """Return the links to other nodes' servers of a kind; `stop` them.

        Args:
            kind: of the servers, and of the members that use the links.
            on_heard: called with a node that answered and the number of its run.
        """

        def make_link(peer: NodeId) -> PeerLink:
            return PeerLink(
                peer=peer,
                channel=self._channel(kind, peer),
                call_timeout_s=self._connect_s,
                address_book=self._book,
                process=self._process,
                on_heard=on_heard,
            )

        return PeerLinks(
            make_link, lambda name, run: self._threads.spawn(f"link-{kind}-{name}", run)
        )

    def couriers(self, kind: Literal["meta", "data"]) -> Couriers:
        """Return the couriers to other nodes' servers of a kind; `stop` them."""
        return Couriers(
            lambda peer: self._channel(kind, peer),
            self._append_s,
            lambda name, run: self._threads.spawn(f"courier-{kind}-{name}", run),
        )

    def streams(self, loop: FrameLoop) -> PeerStreams:
        """Return the loop's streams to other nodes' data servers."""

        def connect(peer: NodeId) -> socket.socket:
            return self._channel("data", peer).detach(2 * self._connect_s)

        def make(peer: NodeId) -> PeerStream:
            return PeerStream(
                peer,
                loop,
                partial(connect, peer),
                lambda run: self._threads.spawn(f"stream-{peer}", run),
                self._append_s,
            )

        return PeerStreams(loop, make)

    def pool(self, kind: Literal["meta", "data"]) -> ClientPool:
        """Return the coordinator's connections to other nodes' servers of a kind; `close` it."""
        endpoint = self._book.meta_endpoint if kind == "meta" else self._book.data_endpoint
        return ClientPool(
            endpoint,
            _CLIENTS[kind],
            connect_timeout_s=self._connect_s,
            limits=self.limits,
            greet=self._greeting,
        )

    def connect(
        self,
        kind: Literal["meta", "data"],
        *,
        engine: Engine,
        on_heard: Callable[[NodeId, int], None],
        on_failure: Callable[[GroupId, BaseException], None],
        closers: Closers,
        streams: PeerStreams | None = None,
    ) -> tuple[MemberDeps, ClientPool]:
        """Return what members of a kind are made with, and the coordinator's pool of that kind.

        Args:
            kind: of the members, and of other nodes' servers.
            engine: of the node.
            on_heard: see `links`.
            on_failure: see `MemberDeps`.
            closers: takes what is to be closed.
            streams: see `MemberDeps`.
        """
        links = self.links(kind, on_heard)
        closers.add(links.stop)
        pool = self.pool(kind)
        closers.add(pool.close)
        couriers = self.couriers(kind)
        closers.add(couriers.stop)
        deps = self.deps(
            kind,
            links=links,
            engine=engine,
            couriers=couriers,
            streams=streams,
            on_failure=on_failure,
        )
        return deps, pool

    def deps(
        self,
        kind: Literal["meta", "data"],
        *,
        links: PeerLinks,
        engine: Engine,
        couriers: Couriers,
        on_failure: Callable[[GroupId, BaseException], None],
        streams: PeerStreams | None = None,
    ) -> MemberDeps:
        """Return what members of a kind are made with."""
        node = self._settings.node
        return MemberDeps(
            threads=self._threads,
            links=links,
            couriers=couriers,
            streams=streams,
            make_channel=lambda peer: self._channel(kind, peer),
            append_timeout_s=self._append_s,
            on_failure=on_failure,
            engine=engine,
            tick_s=self.tick_s,
            log_keep=LogKeep(node.raft_log_keep_bytes, node.raft_log_keep_absent_bytes),
            snapshots=SnapshotOptions(
                rate_bytes_per_s=node.snapshot_rate_bytes_per_s,
                call_timeout_s=max(self._connect_s, _LEAST_SNAPSHOT_CALL_S),
            ),
            snapshot_turns=SnapshotTurns(),
        )

    def node_watch(
        self,
        members: Callable[[], Sequence[RaftMember]],
        links: PeerLinks,
        beside: Callable[[], None],
    ) -> NodeWatch:
        """Return the watch over the nodes that share data groups which sleep.

        Args:
            members: of data groups.
            links: of the data service.
            beside: see `NodeWatch`.
        """
        return NodeWatch(
            node_id=self._node_id,
            process=self._process,
            members=members,
            links=links,
            interval_s=self._settings.node.heartbeat_interval_ms / 1000,
            tick_s=self.tick_s,
            silent_ticks=self.election_ticks // 2,
            election_ticks=self.election_ticks,
            beside=beside,
        )

    def disk_watch(self, log: NodeLog, members: Callable[[], Sequence[RaftMember]]) -> DiskWatch:
        """Return the watch over the disk of this node's log; the node watch has it look."""
        return DiskWatch(
            waits_since=lambda: log.waits_since,
            members=members,
            most_s=self.election_ticks * self.tick_s,
            interval_s=self._settings.node.heartbeat_interval_ms / 1000,
        )

    def log_keeper(
        self, log: NodeLog, engine: Engine, members: Callable[[], Sequence[RaftMember]]
    ) -> LogKeeper:
        """Return who keeps the log small."""
        node = self._settings.node
        return LogKeeper(
            log=log,
            members=members,
            flush=lambda group_id: engine.region(group_id).flush(wait=False),
            segment_bytes=node.raft_log_segment_bytes,
            flush_after_bytes=min(
                max(_FLUSH_AFTER_LOG_BYTES, node.memtable_bytes), node.raft_log_max_bytes // 2
            ),
            flush_after_entries=FLUSH_AFTER_ENTRIES,
            max_bytes=node.raft_log_max_bytes,
        )

    @property
    def _connect_s(self) -> float:
        return self._settings.node.connection_timeout_ms / 1000

    @property
    def _append_s(self) -> float:
        return max(self._connect_s, self._settings.node.election_timeout_ms / 1000 * 2)

    def _channel(self, kind: Literal["meta", "data"], peer: NodeId) -> RpcChannel:
        endpoint = self._book.meta_endpoint if kind == "meta" else self._book.data_endpoint
        return RpcChannel(
            lambda: endpoint(peer),
            _CLIENTS[kind],
            self._connect_s,
            self.limits,
            self._greeting(peer),
        )

    def _greeting(self, peer: NodeId) -> Greet:
        """Return what goes first on each connection to a node: is it the one that we know?

        At its address there may be a node of another cluster by now, or one that lost its data and
        founded a cluster anew. It would take our messages for those of its own group.
        """

        def greet(ask: Ask) -> None:
            known = self._book.get(peer)
            if known is None or not known.incarnation:
                return  # not met yet
            answer = ask("sendHeartbeat", heartbeat_batch(self._book.own, (), self._process))
            found = node_info_from_wire(answer.receiver, NodeInfo)
            if (found.node_id, found.incarnation) == (peer, known.incarnation):
                return
            problem = (
                f"node {found.node_id} with another data folder is at {found.internal_ip}:"
                f"{found.meta_port}, in place of node {peer}; nothing is sent to it"
            )
            if self._impostors.get(peer) != found.incarnation:
                self._impostors[peer] = found.incarnation
                logger.warning("%s", problem)
            raise ClusterError(StatusCode.NO_CONNECTION, problem)

        return greet


_CLIENTS = {"meta": MetaGroupService.Client, "data": DataGroupService.Client}
