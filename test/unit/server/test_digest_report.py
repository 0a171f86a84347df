"""`nodetool digest` finds the replica that differs, and what is different."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.plan.plans import CreateSeriesPlan
from cluster.raft.types import NodeId
from cluster.rpc.client_pool import RpcError
from cluster.rpc.gen.cluster.ttypes import NodeInfo
from cluster.schema.series import SeriesSpec
from cluster.server.digest_report import DigestAsker, GroupDigest, digest_lines
from cluster.server.nodetool import _table
from harness.group_cluster import GROUP, GroupCluster, insert
from iotdb_engine import DataType


class Asker(DigestAsker):
    """Over the harness' network."""

    def __init__(self, group: GroupCluster) -> None:
        nodes = {n: NodeInfo(n, "h", 1, 1, "h", 1, "x") for n in group.ids}
        super().__init__(nodes, 10.0)
        self._group = group

    def _call(self, group: int, node: int, method: str, *args: Any) -> Any:
        return self._group.network.call(NodeId(99), NodeId(node), method, args)


def compare(group: GroupCluster) -> GroupDigest:
    return Asker(group).compare(GROUP, list(group.ids), group.leader().node_id)


def text(found: GroupDigest) -> str:
    return "\n".join(digest_lines([found], lambda node: f"node{node}", _table))


def test_replicas_that_are_alike_whatever_they_have_flushed(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        leader.put(insert(0, 100))
        group.nodes[group.ids[1]].member.machine.region.flush()
        leader.put(insert(50, 150))
        found = compare(group)
        assert found.verdict == "alike"
        assert len({replica.digest for replica in found.replicas}) == 1
        assert found.replicas[0].parts == 2
        assert "alike" in text(found)
        # asked at a node that does not lead, and with one node away
        other = next(n for n in group.nodes.values() if n is not leader)
        asked = Asker(group).compare(GROUP, list(group.ids), other.node_id)
        assert asked.verdict == "alike"
        other.stop()
        found = compare(group)
        assert found.verdict == "incomplete"
        assert "is not reached" in text(found)


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        specs = (SeriesSpec("a", DataType.INT64, 0, 1), SeriesSpec("b", DataType.INT64, 0, 1))
        create = CreateSeriesPlan(
            sg_id=0,
            sg_path="root.sg",
            device="root.sg.d",
            aligned=False,
            specs=specs,
            if_absent=False,
        )
        outcomes = leader.put(create)
        assert outcomes[1].info.series_id in (1, 2)
        leader.put(insert(0, 100))
        bad = next(n for n in group.nodes.values() if n is not leader)
        group.wait_applied(leader.member.applied_index)
        # a point that no entry wrote
        bad.member.machine.region.write(insert(500, 501).fragments, bad.member.applied_index)
        found = compare(group)
        assert found.verdict == "DIFFERENT"
        assert found.difference is not None
        assert found.difference.part.startswith("points of series 1 (root.sg.d.")
        assert found.difference.by_node[bad.node_id].startswith("101 x ")
        assert found.difference.by_node[leader.node_id].startswith("100 x ")
        assert "first difference: points of series 1" in text(found)
        bad.member.machine.region.put({b"extra": b"1"}, bad.member.applied_index)
        found = compare(group)
        assert found.difference is not None
        assert found.difference.part == "key extra"
        assert found.difference.by_node[leader.node_id] == "missing"


def test_a_group_that_can_not_be_asked_says_why(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        group.leader()

        def deaf(*_call: Any) -> Any:
            raise RpcError("no route", definitely_not_sent=True)

        group.network.tap = deaf
        found = Asker(group).compare(GROUP, list(group.ids), 1)
        assert (found.verdict, found.index) == ("failed", None)
        assert "no route" in text(found)
