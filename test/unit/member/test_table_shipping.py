"""Heartbeats carry the partition table to who says that its own is older, and to nobody else."""

from __future__ import annotations

from cluster.member.meta_member import TableShipping
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.raft.types import NodeId
from cluster.rpc.gen.cluster.ttypes import Heartbeat, HeartbeatResponse

OLD, SAME, NEW, SILENT = (NodeId(number) for number in (2, 3, 4, 5))


def test_only_an_older_table_is_replaced() -> None:
    table = SlotPartitionTable.founding((NodeId(1), OLD, SAME), 3)
    data = table.encode()
    shipping = TableShipping(lambda: data)

    def carried(peer: NodeId) -> bytes | None:
        wire = Heartbeat()
        shipping.decorate(peer, wire)
        assert wire.tableVersion == (table.version if shipped else None)
        return wire.partitionTable

    shipped = False
    assert carried(OLD) is None
    shipping.refresh()
    shipped = True
    for peer, version in ((OLD, table.version - 1), (SAME, table.version), (NEW, 99)):
        shipping.answered(peer, HeartbeatResponse(tableVersion=version))
    shipping.answered(SILENT, HeartbeatResponse())
    assert [carried(peer) for peer in (OLD, SAME, NEW, SILENT)] == [data, None, None, None]
    shipping.answered(OLD, HeartbeatResponse(tableVersion=table.version))
    assert carried(OLD) is None
