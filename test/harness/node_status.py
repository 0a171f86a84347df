"""Asks a node's meta port what its members are doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport import TSocket, TTransport

from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.gen.cluster.ttypes import NodeStatus


@contextmanager
def meta_client(
    port: int, timeout_s: float = 5.0, host: str = "127.0.0.1"
) -> Iterator[MetaGroupService.Client]:
    socket = TSocket.TSocket(host, port)
    socket.setTimeout(timeout_s * 1000)
    transport = TTransport.TFramedTransport(socket)
    transport.open()
    try:
        yield MetaGroupService.Client(TBinaryProtocolAccelerated(transport))
    finally:
        transport.close()


def node_status(port: int, host: str = "127.0.0.1", timeout_s: float = 5.0) -> NodeStatus:
    with meta_client(port, timeout_s, host) as client:
        return client.queryNodeStatus()


def led_groups(port: int, host: str = "127.0.0.1", timeout_s: float = 5.0) -> set[int]:
    """Groups whose leader this node is, by its own account."""
    members = node_status(port, host, timeout_s).members
    return {member.groupId for member in members if member.role == "LEADER"}
