"""DataMember: this node's replica of one data group."""

from __future__ import annotations

import random

from cluster.log.node_log import GroupLog
from cluster.member.data_machine import DataMachine
from cluster.member.member_deps import MemberDeps
from cluster.member.raft_member import RaftMember
from cluster.partition.partition_group import PartitionGroup
from cluster.raft.types import Membership, RaftConfig
from iotdb_engine import Region


class DataMember(RaftMember):
    """One of the k members of a data group; owns the group's schema and points on this node.

    The group is named by its header, the first node of the group, which is favoured as the first
    leader only.
    """

    def __init__(
        self,
        *,
        group: PartitionGroup,
        config: RaftConfig,
        log: GroupLog,
        region: Region,
        rng: random.Random,
        deps: MemberDeps,
    ) -> None:
        self.group = group
        self.machine = DataMachine(region)
        super().__init__(
            name=f"data-{group.group_id}",
            group_id=group.group_id,
            membership=Membership(voters=tuple(sorted(group.members))),
            config=config,
            log=log,
            machine=self.machine,
            rng=rng,
            deps=deps,
        )
        self.machine.on_durable(lambda _index: self.maybe_compact())
