"""Asks a node's meta port what its members are doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport import TSocket, TTransport

from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.gen.cluster.ttypes import NodeStatus


@contextmanager
def meta_client(port: int, timeout_s: float = 5.0) -> Iterator[MetaGroupService.Client]:
    socket = TSocket.TSocket("127.0.0.1", port)
    socket.setTimeout(timeout_s * 1000)
    transport = TTransport.TFramedTransport(socket)
    transport.open()
    try:
        yield MetaGroupService.Client(TBinaryProtocolAccelerated(transport))
    finally:
        transport.close()


def node_status(port: int) -> NodeStatus:
    with meta_client(port) as client:
        return client.queryNodeStatus()


def led_groups(port: int) -> set[int]:
    """Groups whose leader this node is, by its own account."""
    return {member.groupId for member in node_status(port).members if member.role == "LEADER"}
