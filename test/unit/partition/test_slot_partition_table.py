from __future__ import annotations

import dataclasses
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.partition.partition_group import PartitionGroup
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.partition.slots import SLOT_COUNT
from cluster.raft.types import GroupId, NodeId

A, B, C = NodeId(11), NodeId(7), NodeId((1 << 48) - 1)


def test_three_nodes_two_replicas() -> None:
    table = SlotPartitionTable.founding((A, B, C), 2)
    assert table.version == 1
    assert table.groups == (
        PartitionGroup(GroupId(1), A, (A, B)),
        PartitionGroup(GroupId(2), B, (B, C)),
        PartitionGroup(GroupId(3), C, (C, A)),
    )
    assert table.slots_of_group(GroupId(1)) == [(0, 3333)]
    assert table.slots_of_group(GroupId(2)) == [(3333, 6666)]
    assert table.slots_of_group(GroupId(3)) == [(6666, 10000)]
    assert table.group_of_slot(0).header == A
    assert table.group_of_slot(9999).header == C
    assert [group.group_id for group in table.groups_of_node(A)] == [1, 3]
    assert table.groups_of_node(NodeId(99)) == []
    assert table.group_by_id(GroupId(2)) == table.groups[1]
    assert table.group_by_id(GroupId(0)) is None


def test_more_replicas_than_nodes() -> None:
    table = SlotPartitionTable.founding((A, B), 3)
    assert table.replica_num == 2
    assert all(len(group.members) == 2 for group in table.groups)


@given(st.integers(1, 60), st.integers(1, 7))
def test_founding_gives_every_slot_and_equal_shares(count: int, replicas: int) -> None:
    ring = tuple(NodeId(1000 - number) for number in range(count))
    table = SlotPartitionTable.founding(ring, replicas)
    ranges = [table.slots_of_group(group.group_id) for group in table.groups]
    assert all(len(found) == 1 for found in ranges)
    flat = [found[0] for found in ranges]
    assert flat[0][0] == 0
    assert flat[-1][1] == SLOT_COUNT
    assert all(one[1] == two[0] for one, two in itertools.pairwise(flat))
    for node in ring:
        assert len(table.groups_of_node(node)) == min(replicas, count)
    data = table.encode()
    assert SlotPartitionTable.decode(data) == table
    assert SlotPartitionTable.decode(data).encode() == data


def test_every_damaged_byte_is_noticed() -> None:
    data = SlotPartitionTable.founding((A, B, C), 3).encode()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(ValueError, match="partition table"):
            SlotPartitionTable.decode(bytes(damaged))
    for length in range(len(data)):
        with pytest.raises(ValueError, match="partition table"):
            SlotPartitionTable.decode(data[:length])


@given(st.binary(max_size=120))
def test_garbage_with_a_good_checksum_is_refused(body: bytes) -> None:
    body = b"\x01" + body
    with pytest.raises(ValueError, match=r".+"):
        SlotPartitionTable.decode(body + zlib.crc32(body).to_bytes(4, "big"))


@pytest.mark.parametrize(
    "change",
    [
        {"ring": ()},
        {"ring": (A, A, B, C)},
        {"ring": (A, B)},
        {"groups": ()},
        {"slots": (0,)},
        {"slots": (3,) * SLOT_COUNT},
        {"slots": (-1,) * SLOT_COUNT},
        {"groups": (PartitionGroup(GroupId(0), A, (A,)),), "slots": (0,) * SLOT_COUNT},
        {"groups": (PartitionGroup(GroupId(1), A, (B, A)),), "slots": (0,) * SLOT_COUNT},
        {"groups": (PartitionGroup(GroupId(1), A, (A, A)),), "slots": (0,) * SLOT_COUNT},
    ],
)
def test_invariants(change: dict[str, object]) -> None:
    table = SlotPartitionTable.founding((A, B, C), 2)
    with pytest.raises(ValueError, match=r".+"):
        dataclasses.replace(table, **change)  # type: ignore[arg-type]


def test_founding_refuses_nonsense() -> None:
    for ring, replicas in (((), 1), ((A,), 0), ((A, A), 1)):
        with pytest.raises(ValueError, match=r".+"):
            SlotPartitionTable.founding(ring, replicas)
