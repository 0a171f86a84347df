"""Whether the replicas of each group hold the same state, by their digests at one index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport import TSocket, TTransport

from cluster.member.meta_member import META_GROUP_ID
from cluster.plan.codec import decode_result, encode_plan
from cluster.plan.plans import DigestPlan
from cluster.rpc.gen.cluster import DataGroupService, MetaGroupService
from cluster.rpc.gen.cluster.ttypes import DigestAnswer, ExecuteRequest
from harness.node_status import node_status
from harness.process_cluster import Node, ProcessCluster

_PATIENCE_S = 60.0


@contextmanager
def group_client(node: Node, group_id: int, timeout_s: float = 30.0) -> Iterator[Any]:
    """A client of the service of a node that the group belongs to."""
    meta = group_id == META_GROUP_ID
    socket = TSocket.TSocket(node.host, node.meta_port if meta else node.data_port)
    socket.setTimeout(timeout_s * 1000)
    transport = TTransport.TFramedTransport(socket)
    transport.open()
    service = MetaGroupService if meta else DataGroupService
    try:
        yield service.Client(TBinaryProtocolAccelerated(transport))
    finally:
        transport.close()


def assert_replicas_equal(cluster: ProcessCluster) -> int:
    """Compare every group's replicas, all nodes running; return how many replicas were compared."""
    compared, differences = compare_replicas(cluster)
    assert not differences, differences
    return compared


def compare_replicas(cluster: ProcessCluster) -> tuple[int, list[str]]:
    """How many replicas there are, and for each group whose replicas differ, what they are."""
    differences = []
    holders: dict[int, list[Node]] = {}
    for node in cluster.nodes:
        for member in node_status(node.meta_port, node.host).members:
            holders.setdefault(member.groupId, []).append(node)
    for group_id, nodes in holders.items():
        index = _mark(cluster, group_id)
        roots = {node.number: _root(node, group_id, index) for node in nodes}
        if len(set(roots.values())) != 1:
            differences.append(f"group {group_id} differs at entry {index}, by node: {roots}")
    return sum(map(len, holders.values())), differences


def _mark(cluster: ProcessCluster, group_id: int) -> int:
    """Let every replica remember its state at an entry; its index."""
    leader = cluster.leader_of(group_id)
    request = ExecuteRequest(groupId=group_id, plan=encode_plan(DigestPlan()), timeoutMs=10_000)
    with group_client(leader, group_id) as client:
        response = client.executeNonQueryPlan(request)
    assert response.status == 200, response.message
    return int(decode_result(response.result))


def _root(node: Node, group_id: int, index: int) -> str:
    end = time.monotonic() + _PATIENCE_S
    with group_client(node, group_id, _PATIENCE_S) as client:
        while True:
            answer: DigestAnswer = client.queryDigest(group_id, index, b"", 0, 10_000)
            if answer.known:
                assert answer.root is not None
                return answer.root.hex()
            assert time.monotonic() < end, f"node {node.number} is at {answer.applied} of {index}"
            time.sleep(0.1)
