"""What SHOW statements ask of the node that answers, besides the schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class RunningQuery(NamedTuple):
    """A query that is being computed or fetched. `started` in units of the precision."""

    query_id: int
    started: int
    elapsed_s: float
    sql: str


class KnownNode(NamedTuple):
    """A node of the cluster."""

    node_id: int
    internal_ip: str
    internal_port: int
    rpc_address: str
    rpc_port: int
    running: bool


class NodeView(Protocol):
    """Implemented by the server."""

    @property
    def node_id(self) -> int:
        """Id of the node that answers."""
        ...

    def running_queries(self) -> Sequence[RunningQuery]:
        """Return this node's queries, by id."""
        ...

    def nodes(self) -> Sequence[KnownNode]:
        """Return the nodes of the cluster, by id."""
        ...

    def variables(self) -> Sequence[tuple[str, str]]:
        """Return the settings that all nodes share."""
        ...

    def flush_tasks(self) -> tuple[int, int]:
        """Return how many regions are being flushed, and how many wait for it."""
        ...
