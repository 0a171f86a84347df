"""SlotPartitionTable: which data group owns which slot, and who is in the groups.

Byte form, big-endian, sealed by a CRC-32 of everything before it:

    format u8 (1) | version u64 | replica number u16
    ring size u16 | node ids i64[]
    group count u16 | for each: group id i32 | header i64 | member count u16 | members i64[]
    run count u16 | for each run of slots of one group: slot count u16 | number of the group u16
    crc u32
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from cluster.partition.partition_group import PartitionGroup
from cluster.partition.slots import SLOT_COUNT
from cluster.raft.types import GroupId, NodeId

FORMAT_VERSION = 1
FOUNDING_VERSION = 1

_HEADER = struct.Struct(">BQHH")
_GROUP = struct.Struct(">iqH")
_RUN = struct.Struct(">HH")
_U16 = struct.Struct(">H")
_CRC = struct.Struct(">I")
_NODE_SIZE = 8


@dataclass(frozen=True)
class SlotPartitionTable:
    """Immutable; a change makes a new table with a higher version.

    Invariants, checked on construction:
        1. the ring is not empty and its nodes are unique;
        2. group ids are unique and positive; a group's members are unique nodes of the ring, the
           header first;
        3. every slot has a group.

    Attributes:
        version: higher replaces lower.
        replica_num: members of a group, at most the size of the ring.
        ring: node ids in ring order.
        groups: in the order of their headers in the ring.
        slots: for each of SLOT_COUNT slots the number (in `groups`) of its group.
    """

    version: int
    replica_num: int
    ring: tuple[NodeId, ...]
    groups: tuple[PartitionGroup, ...]
    slots: tuple[int, ...]

    def __post_init__(self) -> None:
        nodes = set(self.ring)
        if not nodes or len(nodes) != len(self.ring):
            raise ValueError("the nodes of a ring are unique, and at least one")
        ids = {group.group_id for group in self.groups}
        if len(ids) != len(self.groups) or min(ids, default=0) < 1:
            raise ValueError("group ids are unique and positive, and there is at least one")
        for group in self.groups:
            members = set(group.members)
            if not members <= nodes or len(members) != len(group.members):
                raise ValueError(f"members of group {group.group_id} are not unique nodes")
            if not group.members or group.members[0] != group.header:
                raise ValueError(f"the header of group {group.group_id} is not its first member")
        if len(self.slots) != SLOT_COUNT:
            raise ValueError(f"{len(self.slots)} slots instead of {SLOT_COUNT}")
        if min(self.slots) < 0 or max(self.slots) >= len(self.groups):
            raise ValueError("a slot has no group")

    @classmethod
    def founding(cls, ring: Sequence[NodeId], replica_num: int) -> SlotPartitionTable:
        """Return the first table of a cluster (cluster-design 4.3).

        Every node heads one group of `replica_num` consecutive nodes (of all of them when the ring
        is shorter), with group id 1 + its place in the ring, and an equal run of slots; the last
        one takes the remainder.

        Args:
            ring: nodes in ring order, unique, at most SLOT_COUNT.
            replica_num: at least 1.
        """
        count = len(ring)
        if not 1 <= count <= SLOT_COUNT or replica_num < 1:
            raise ValueError(f"no table for {count} nodes and {replica_num} replicas")
        size = min(replica_num, count)
        groups = tuple(
            PartitionGroup(
                GroupId(1 + place),
                ring[place],
                tuple(ring[(place + step) % count] for step in range(size)),
            )
            for place in range(count)
        )
        per_node = SLOT_COUNT // count
        slots = tuple(min(slot // per_node, count - 1) for slot in range(SLOT_COUNT))
        return cls(FOUNDING_VERSION, size, tuple(ring), groups, slots)

    def group_of_slot(self, slot: int) -> PartitionGroup:
        """Return the group that owns a slot in [0, SLOT_COUNT)."""
        return self.groups[self.slots[slot]]

    def group_by_id(self, group_id: GroupId) -> PartitionGroup | None:
        """Return a group, or None when there is none with that id. O(groups)."""
        for group in self.groups:
            if group.group_id == group_id:
                return group
        return None

    def groups_of_node(self, node_id: NodeId) -> list[PartitionGroup]:
        """Return the groups that a node is a member of, in table order."""
        return [group for group in self.groups if node_id in group.members]

    def slots_of_group(self, group_id: GroupId) -> list[tuple[int, int]]:
        """Return a group's slots as half-open ranges, ascending. O(slots)."""
        ranges = []
        at = 0
        for number, run in groupby(self.slots):
            end = at + sum(1 for _ in run)
            if self.groups[number].group_id == group_id:
                ranges.append((at, end))
            at = end
        return ranges

    def encode(self) -> bytes:
        """Return the byte form; equal tables have equal bytes."""
        parts = [
            _HEADER.pack(FORMAT_VERSION, self.version, self.replica_num, len(self.ring)),
            struct.pack(f">{len(self.ring)}q", *self.ring),
            _U16.pack(len(self.groups)),
        ]
        for group in self.groups:
            parts.append(_GROUP.pack(group.group_id, group.header, len(group.members)))
            parts.append(struct.pack(f">{len(group.members)}q", *group.members))
        runs = [_RUN.pack(sum(1 for _ in run), number) for number, run in groupby(self.slots)]
        parts.append(_U16.pack(len(runs)))
        parts.extend(runs)
        body = b"".join(parts)
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def decode(cls, data: bytes) -> SlotPartitionTable:
        """Read a table back.

        Raises:
            ValueError: damaged, or of a format that this release does not know.
        """
        if len(data) < _HEADER.size + _CRC.size:
            raise ValueError(f"partition table cut off: {len(data)} bytes")
        body = data[: -_CRC.size]
        if _CRC.unpack_from(data, len(body))[0] != zlib.crc32(body):
            raise ValueError("partition table damaged: its checksum does not match")
        if body[0] != FORMAT_VERSION:
            raise ValueError(
                f"partition table of format {body[0]}; this release knows {FORMAT_VERSION}"
            )
        try:
            return cls._decode_body(body)
        except struct.error as error:
            raise ValueError(f"partition table cut off: {error}") from error

    @classmethod
    def _decode_body(cls, body: bytes) -> SlotPartitionTable:
        _, version, replica_num, ring_size = _HEADER.unpack_from(body)
        at = _HEADER.size

        def nodes(count: int) -> tuple[NodeId, ...]:
            nonlocal at
            found = struct.unpack_from(f">{count}q", body, at)
            at += count * _NODE_SIZE
            return found

        ring = nodes(ring_size)
        (group_count,) = _U16.unpack_from(body, at)
        at += _U16.size
        groups = []
        for _ in range(group_count):
            group_id, header, member_count = _GROUP.unpack_from(body, at)
            at += _GROUP.size
            groups.append(PartitionGroup(GroupId(group_id), NodeId(header), nodes(member_count)))
        (run_count,) = _U16.unpack_from(body, at)
        at += _U16.size
        slots: list[int] = []
        for _ in range(run_count):
            count, number = _RUN.unpack_from(body, at)
            at += _RUN.size
            if len(slots) + count > SLOT_COUNT:
                raise ValueError("partition table has too many slots")
            slots.extend([number] * count)
        if at != len(body):
            raise ValueError(f"partition table has {len(body) - at} bytes too many")
        return cls(version, replica_num, ring, tuple(groups), tuple(slots))
