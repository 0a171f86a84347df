"""The data groups that this node is in (0.13 `DataGroupEngine`)."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from cluster.heartbeat.data_heartbeat_thread import DataHeartbeatThread
from cluster.log.node_log import NodeLog
from cluster.member.data_member import DataMember
from cluster.member.member_deps import MemberDeps
from cluster.partition.partition_group import PartitionGroup
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.raft.types import GroupId, NodeId, RaftConfig
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine

logger = logging.getLogger(__name__)

_ELECTIONS_AT_A_TIME = 32
_LOOK_S = 0.02


class DataGroups:
    """Builds, finds and stops this node's DataMembers; thread-safe.

    Args:
        raft_config: configuration of a member; `favoured` says whether this node heads the group.
        on_made: is told of each member before it starts.
    """

    def __init__(
        self,
        *,
        node_id: NodeId,
        log: NodeLog,
        engine: Engine,
        deps: MemberDeps,
        threads: ThreadRegistry,
        tick_s: float,
        raft_config: Callable[[bool], RaftConfig],
        rng: random.Random,
        on_made: Callable[[DataMember], None] = lambda member: None,
    ) -> None:
        self._node_id = node_id
        self._log = log
        self._engine = engine
        self._deps = deps
        self._threads = threads
        self._tick_s = tick_s
        self._raft_config = raft_config
        self._rng = rng
        self._on_made = on_made
        self._lock = threading.Lock()
        self._members: dict[GroupId, DataMember] = {}
        self._heartbeats: list[DataHeartbeatThread] = []
        self._stopping = threading.Event()

    def build(self, table: SlotPartitionTable) -> list[DataMember]:
        """Create the members of every group of `table` that this node is in (start-up step 13)."""
        with self._lock:
            for group in table.groups_of_node(self._node_id):
                if group.group_id not in self._members:
                    self._members[group.group_id] = self._make(group)
            return list(self._members.values())

    def start_heartbeats(self) -> None:
        """Start every member's DataHeartbeatThread (start-up step 14).

        A node with very many groups starts the first ones at once, and each of the others when an
        earlier one has found a leader, or hasn't for long: a thousand elections at a time take
        longer than their time-outs, and begin again for ever. A member without its thread answers
        others all the same, and nodes go by the same order.
        """
        members = self.all()
        for member in members[:_ELECTIONS_AT_A_TIME]:
            self._start(member)
        if len(members) > _ELECTIONS_AT_A_TIME:
            self._threads.spawn("start-groups", lambda: self._start_in_turn(members))

    def _start_in_turn(self, members: list[DataMember]) -> None:
        patience_s = 2 * self._raft_config(False).election_ticks * self._tick_s
        began = time.monotonic()
        electing = dict.fromkeys(members[:_ELECTIONS_AT_A_TIME], began)
        for member in members[_ELECTIONS_AT_A_TIME:]:
            while len(electing) >= _ELECTIONS_AT_A_TIME:
                now = time.monotonic()
                electing = {
                    other: since
                    for other, since in electing.items()
                    if not other.leader and now - since < patience_s
                }
                if len(electing) >= _ELECTIONS_AT_A_TIME and self._stopping.wait(_LOOK_S):
                    return
            self._start(member)
            electing[member] = time.monotonic()
        logger.info(
            "the last of %d groups was started after %.1f s",
            len(members),
            time.monotonic() - began,
        )

    def _start(self, member: DataMember) -> None:
        heartbeat = DataHeartbeatThread(member, self._tick_s)
        with self._lock:
            if self._stopping.is_set():
                return
            self._heartbeats.append(heartbeat)
        heartbeat.start(self._threads)

    def get(self, group_id: GroupId) -> DataMember | None:
        """Return the member of a group, or None when this node is not in it."""
        return self._members.get(group_id)

    def all(self) -> list[DataMember]:
        """Return every member, by group id."""
        with self._lock:
            return [self._members[group_id] for group_id in sorted(self._members)]

    def stop(self) -> None:
        """Stop heartbeats and members."""
        with self._lock:
            self._stopping.set()
        for heartbeat in self._heartbeats:
            heartbeat.stop()
        for member in self.all():
            member.stop()

    def _make(self, group: PartitionGroup) -> DataMember:
        member = DataMember(
            group=group,
            config=self._raft_config(group.header == self._node_id),
            log=self._log.group(group.group_id),
            region=self._engine.region(group.group_id),
            rng=random.Random(self._rng.getrandbits(64)),
            deps=self._deps,
        )
        self._on_made(member)
        return member
