"""What the members of a node are given: shared services, and bounds of their logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cluster.member.courier import Couriers
from cluster.member.peer_link import PeerLinks
from cluster.member.shipment import SnapshotOptions
from cluster.member.snapshot_turns import SnapshotTurns
from cluster.member.stream import PeerStreams
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.client_pool import RpcChannel
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine


class LogKeep(NamedTuple):
    """How many bytes of applied entries a group's log keeps for members that lack them.

    Attributes:
        live_bytes: for members that are heard from. One further behind gets a snapshot.
        absent_bytes: for those that are away.
    """

    live_bytes: int = 256 << 20
    absent_bytes: int = 64 << 20


class MemberDeps(NamedTuple):
    """What every member of a node shares.

    Attributes:
        make_channel: a new connection of this group's service to a peer.
        links: control links of this group's service.
        on_failure: a replica can't go on: (group, error); the node stops.
        tick_s: length of a tick of the cores.
        log_keep: how much log is kept for members that lack it.
        snapshots: how snapshots travel.
        snapshot_turns: bound how many are sent at once; None: a bound for each group.
        couriers: take small appends of groups with little to send; None: there are none.
        streams: take small appends before those; None: there are none.
    """

    threads: ThreadRegistry
    links: PeerLinks
    make_channel: Callable[[NodeId], RpcChannel]
    append_timeout_s: float
    on_failure: Callable[[GroupId, BaseException], None]
    engine: Engine
    tick_s: float
    log_keep: LogKeep = LogKeep()
    snapshots: SnapshotOptions = SnapshotOptions()
    snapshot_turns: SnapshotTurns | None = None
    couriers: Couriers | None = None
    streams: PeerStreams | None = None
