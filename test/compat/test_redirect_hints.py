"""Where nodes say that a write would better have been sent: real nodes, changing leaders."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pytest

from cluster.rpc.gen.client import ttypes as t
from harness.process_cluster import Node, ProcessCluster
from harness.wire import WireClient, check

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

_TIMEOUT_S = 60.0


def hint(node: Node, number: int) -> int:
    """Port that a node names for a device's writes; its own when it names none."""
    with WireClient(node.rpc_port, timeout_s=30) as client:
        status = client.raw.insertRecord(
            t.TSInsertRecordReq(
                0, "root.hints.d", ["s"], b"\x02" + struct.pack(">q", number), number
            )
        )
        check(status)
        if status.redirectNode is None:
            return node.rpc_port
        assert status.redirectNode.ip == "127.0.0.1"
        return int(status.redirectNode.port)


def agreed(nodes: list[Node], but: int = 0) -> int:
    """The port that all nodes name, once it is the same; not `but`, which leads no more."""
    end = time.monotonic() + _TIMEOUT_S
    number = 0
    while True:
        named = {hint(node, number := number + 1) for node in nodes}
        if len(named) == 1 and named != {but}:
            return named.pop()
        assert time.monotonic() < end, f"ports named: {named}"
        time.sleep(0.05)


def test_hints_follow_the_leader(cluster_of: Callable[[int], ProcessCluster]) -> None:
    nodes = cluster_of(3).nodes
    leader = agreed(nodes)
    first = next(node for node in nodes if node.rpc_port == leader)
    rest = [node for node in nodes if node is not first]
    first.stop()
    try:
        assert agreed(rest, but=leader) in {node.rpc_port for node in rest}
    finally:
        first.start()
        first.wait_ready()
    agreed(nodes)
