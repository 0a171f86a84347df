"""What SHOW statements tell of this node and its cluster: the server's NodeView."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cluster.config.settings import Settings
from cluster.coordinator.coordinator import Coordinator
from cluster.query.node_view import KnownNode, RunningQuery
from cluster.rpc.deadline import Deadline
from cluster.server.running_queries import RunningQueries

_PING_S = 1.0


class NodeReport:
    """Thread-safe."""

    def __init__(
        self,
        *,
        settings: Settings,
        coordinator: Coordinator,
        running: RunningQueries,
        node_id: int,
        engine_stats: Callable[[], Mapping[str, int]],
    ) -> None:
        self._settings = settings
        self._coordinator = coordinator
        self._running = running
        self._node_id = node_id
        self._engine_stats = engine_stats

    @property
    def node_id(self) -> int:
        """Id of this node."""
        return self._node_id

    def running_queries(self) -> Sequence[RunningQuery]:
        """Return this node's queries, by id."""
        return self._running.running()

    def nodes(self) -> Sequence[KnownNode]:
        """Return the registered nodes, by id, and which of them answer now."""
        answering = self._coordinator.answering_nodes(Deadline.after(_PING_S))
        return [
            KnownNode(
                node_id=info.node_id,
                internal_ip=info.internal_ip,
                internal_port=info.meta_port,
                rpc_address=info.rpc_address,
                rpc_port=info.rpc_port,
                running=info.node_id in answering,
            )
            for info in self._coordinator.meta_state.nodes()
        ]

    def variables(self) -> Sequence[tuple[str, str]]:
        """Return the settings that all nodes share, by name."""
        return sorted(self._settings.cluster.as_map().items())

    def flush_tasks(self) -> tuple[int, int]:
        """Return whether the flush thread works; it takes all that waits at once."""
        return (1 if self._engine_stats()["memtable_frozen_bytes"] else 0), 0
