"""GroupsAccess: a replica that is taken away under a read is no error of the client's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.coordinator.groups_access import GroupsAccess
from cluster.errors import NotLeader
from cluster.member.data_member import DataMember
from cluster.plan.reads import AppliedIndexRead
from cluster.raft.types import GroupId
from cluster.rpc.deadline import Deadline
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
        access.read(GroupId(3), AppliedIndexRead, Deadline.after(1), closed, lambda _: None)
