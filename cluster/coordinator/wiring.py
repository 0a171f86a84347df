"""Builds a node's Coordinator over its members and its connections to the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.config.settings import Settings
from cluster.coordinator.coordinator import Coordinator
from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.groups_access import GroupsAccess
from cluster.coordinator.reach import Reach
from cluster.member.data_groups import DataGroups
from cluster.member.meta_member import META_GROUP_ID, MetaMember
from cluster.member.raft_member import RaftMember
from cluster.member.services import PLAN_EXTRA_BYTES
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.client_pool import ClientPool
from cluster.threads import ThreadRegistry


def cluster_coordinator(
    *,
    settings: Settings,
    node_id: NodeId,
    meta_member: MetaMember,
    data_groups: DataGroups,
    meta_pool: ClientPool,
    data_pool: ClientPool,
    wait: Callable[[float], bool],
    threads: ThreadRegistry,
    reach: Reach,
) -> Coordinator:
    """Return the coordinator of a node of a cluster.

    Args:
        settings: of the node.
        node_id: of the node.
        meta_member: its replica of the meta group.
        data_groups: its replicas of data groups.
        meta_pool: connections to the meta services.
        data_pool: connections to the data services.
        wait: see Forwarder.
        threads: takes the watch over calls to former leaders.
        reach: which nodes answer.
    """

    def find_member(group_id: GroupId) -> RaftMember | None:
        return meta_member if group_id == META_GROUP_ID else data_groups.get(group_id)

    def members_of(group_id: GroupId) -> Sequence[NodeId]:
        if group_id == META_GROUP_ID:
            return meta_member.membership.voters
        group = coordinator.router.table().group_by_id(group_id)
        return group.members if group is not None else ()

    forwarder = Forwarder(
        node_id=node_id,
        find_member=find_member,
        members_of=members_of,
        meta_pool=meta_pool,
        data_pool=data_pool,
        wait=wait,
        reach=reach,
        max_plan_bytes=settings.node.thrift_max_frame_size + PLAN_EXTRA_BYTES,
    )
    access = GroupsAccess(forwarder, meta_member)
    coordinator = Coordinator(
        settings=settings,
        access=access,
        meta_state=lambda: meta_member.state,
        table=lambda: meta_member.table,
    )
    coordinator.follow_leaders(meta_member)
    threads.spawn("call-watch", forwarder.watch.run)
    return coordinator
