"""PartitionGroup: who replicates a part of the slots."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.raft.types import GroupId, NodeId


@dataclass(frozen=True)
class PartitionGroup:
    """A data group: its header names it and is favoured as its first leader (0.13).

    Attributes:
        group_id: 1 and up; 0 is the meta group, which is in no table.
        header: first of `members`.
        members: consecutive nodes of the ring, beginning with the header; unique.
    """

    group_id: GroupId
    header: NodeId
    members: tuple[NodeId, ...]
