"""MetaMember: this node's replica of the meta group, owner of the partition table."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any

from cluster.log.node_log import GroupLog
from cluster.member.member_deps import MemberDeps
from cluster.member.meta_machine import MetaMachine
from cluster.member.raft_member import RaftMember
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.raft.types import GroupId, Membership, NodeId, RaftConfig
from cluster.schema.meta_state import MetaState
from iotdb_engine import Region

logger = logging.getLogger(__name__)

META_GROUP_ID = GroupId(0)


class TableShipping:
    """The partition table that a meta leader's heartbeats carry to followers with an older one.

    Args:
        applied: the applied table's byte form, b"" while there is none.
    """

    def __init__(self, applied: Callable[[], bytes]) -> None:
        self._applied = applied
        self._shipped: tuple[int, bytes] | None = None
        self._follower_versions: dict[NodeId, int] = {}

    def refresh(self) -> None:
        """Take the newest applied table as the one to ship."""
        data = self._applied()
        if data and (self._shipped is None or self._shipped[1] is not data):
            self._shipped = (SlotPartitionTable.decode(data).version, data)

    def decorate(self, peer: NodeId, wire: Any) -> None:  # noqa: ANN401
        """Ship version, and the table to a follower that has an older one."""
        shipped = self._shipped
        if shipped is None:
            return
        wire.tableVersion = shipped[0]
        if self._follower_versions.get(peer, shipped[0]) < shipped[0]:
            wire.partitionTable = shipped[1]

    def answered(self, peer: NodeId, wire: Any) -> None:  # noqa: ANN401
        """Note the follower's table version."""
        if wire.tableVersion is not None:
            self._follower_versions[peer] = wire.tableVersion


class MetaMember(RaftMember):
    """Replicates storage groups, users, the node registry and the partition table on all nodes.

    The table reaches a follower in two ways, whichever is first: as a log entry, and inside the
    leader's heartbeat when the follower says that its own is older (0.13). Only a table that the
    leader has applied, hence committed, is ever shipped.
    """

    def __init__(
        self,
        *,
        seeds: tuple[NodeId, ...],
        config: RaftConfig,
        log: GroupLog,
        region: Region,
        rng: random.Random,
        deps: MemberDeps,
    ) -> None:
        self.machine = MetaMachine(region)
        stored = self.machine.state.partition_table
        voters = SlotPartitionTable.decode(stored).ring if stored else seeds
        super().__init__(
            name="meta",
            group_id=META_GROUP_ID,
            membership=Membership(voters=tuple(sorted(voters))),
            config=config,
            log=log,
            machine=self.machine,
            rng=rng,
            deps=deps,
        )
        self.machine.on_durable(lambda _index: self.maybe_compact())
        self.heartbeat_cargo = self._shipping = TableShipping(
            lambda: self.machine.state.partition_table
        )
        self._table_lock = threading.Lock()
        self._table: SlotPartitionTable | None = None
        self.machine.on_table_changed(self._adopt_applied)

    @property
    def state(self) -> MetaState:
        """The applied meta state."""
        return self.machine.state

    @property
    def table(self) -> SlotPartitionTable | None:
        """The newest partition table known here, applied or from a heartbeat."""
        return self._table

    def load_stored_table(self) -> SlotPartitionTable | None:
        """Take the table of the stored meta state, if there is one (start-up step 6)."""
        data = self.machine.state.partition_table
        if data:
            self.adopt_table(data)
        return self._table

    def adopt_table(self, data: bytes) -> bool:
        """Take a table unless the present one is as new; True when taken."""
        table = SlotPartitionTable.decode(data)
        with self._table_lock:
            if self._table is not None and self._table.version >= table.version:
                return False
            self._table = table
        return True

    def refresh_shipped_table(self) -> None:
        """Take the newest applied table as the one that heartbeats ship."""
        self._shipping.refresh()

    def heartbeat_received(self, wire: Any) -> int:  # noqa: ANN401
        """Take what a leader's heartbeat ships; return the version now held (0: none)."""
        if wire.partitionTable and self.adopt_table(wire.partitionTable):
            logger.info("partition table taken from the leader's heartbeat")
        return self._table.version if self._table is not None else 0

    def _adopt_applied(self) -> None:
        self.adopt_table(self.machine.state.partition_table)
