"""GroupsAccess: a replica that is taken away under a read is no error of the client's."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.groups_access import GroupsAccess
from cluster.errors import NotLeader, StatusCode
from cluster.member.data_member import DataMember
from cluster.plan.reads import AppliedIndexRead
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.client_pool import RpcError
from cluster.rpc.deadline import Deadline
from harness.group_cluster import WAIT_S
from iotdb_engine.errors import Closed


class Leader(DataMember):
    """A member that leads, and may answer at once."""

    def __init__(self) -> None:  # no RaftMember behind it
        pass

    def read_barrier(self, deadline: Deadline, level: Any = None) -> None:
        pass


def test_a_leader_that_is_replaced_by_a_snapshot_is_asked_elsewhere() -> None:
    def read(_group: GroupId, _payload: Any, _deadline: Deadline, local: Any, _decode: Any) -> Any:
        return local(Leader())

    forwarder: Any = SimpleNamespace(read=read, member_here=lambda _: None)
    access = GroupsAccess(forwarder, SimpleNamespace())  # type: ignore[arg-type]

    def closed(_: DataMember) -> None:
        raise Closed("region 3 is closed")

    with pytest.raises(NotLeader):
        access.reads(Deadline.after(1)).read(GroupId(3), AppliedIndexRead, closed, lambda _: None)


class Nodes:
    """Stands for the connections to the others, of which one says nothing until all are asked."""

    def __init__(self, hangs: NodeId, count: int) -> None:
        self._hangs = hangs
        self._count = count
        self._asked: set[NodeId] = set()
        self._all_asked = threading.Event()

    def call(self, node_id: NodeId, _method: str, _request: Any, *, deadline: Deadline) -> Any:
        self._asked.add(node_id)
        if len(self._asked) == self._count:
            self._all_asked.set()
        if node_id == self._hangs:
            self._all_asked.wait(deadline.remaining_s())
            raise RpcError("no answer", definitely_not_sent=False)
        return SimpleNamespace(status=StatusCode.SUCCESS)


@pytest.mark.parametrize("hangs", [2, 3, 4])
def test_a_node_that_hangs_does_not_make_others_look_as_if_they_did(hangs: int) -> None:
    """They were asked one after the other, and it used up the time of those behind it."""
    nodes: Any = Nodes(NodeId(hangs), 3)
    forwarder = Forwarder(
        node_id=NodeId(1),
        find_member=lambda _: None,
        members_of=lambda _: [NodeId(number) for number in (1, 2, 3, 4)],
        meta_pool=nodes,
        data_pool=nodes,
        wait=lambda _: False,
    )
    access = GroupsAccess(forwarder, SimpleNamespace())  # type: ignore[arg-type]
    assert access.answering_nodes(Deadline.after(WAIT_S)) == {1, 2, 3, 4} - {hangs}
    access.close()
