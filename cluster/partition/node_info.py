"""Who the nodes of the ring are, and where each can be reached."""

from __future__ import annotations

from typing import NamedTuple

from cluster.raft.types import NodeId


class NodeInfo(NamedTuple):
    """A node as others see it; 0 and "" stand for what is not known yet."""

    node_id: NodeId
    internal_ip: str
    meta_port: int
    data_port: int = 0
    rpc_address: str = ""
    rpc_port: int = 0
    incarnation: str = ""
