"""Where the other nodes can be reached now.

A node's identity is its id; its addresses may change between restarts. Sources, newest wins: the
seed list (meta endpoint only), the stored node registry, and what nodes say of themselves in
heartbeats and start-up checks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from cluster.errors import ClusterError, StatusCode
from cluster.partition.node_info import NodeInfo
from cluster.raft.types import NodeId

logger = logging.getLogger(__name__)


class AddressBook:
    """Node infos by id; thread-safe."""

    def __init__(self, own: NodeInfo) -> None:
        self._lock = threading.Lock()
        self._own = own
        self._infos: dict[NodeId, NodeInfo] = {own.node_id: own}
        self._heard: set[NodeId] = set()
        self._learned: list[Callable[[NodeInfo], None]] = []

    @property
    def own(self) -> NodeInfo:
        """This node, with the ports it really listens on."""
        return self._own

    def set_own(self, own: NodeInfo) -> None:
        """Replace this node's entry (a port 0 in the settings is known only after bind)."""
        with self._lock:
            self._own = own
            self._infos[own.node_id] = own

    def add_seed(self, node_id: NodeId, host: str, meta_port: int) -> None:
        """Record a seed's meta endpoint unless the node is known already."""
        with self._lock:
            self._infos.setdefault(node_id, NodeInfo(node_id, host, meta_port))

    def recall(self, info: NodeInfo) -> bool:
        """Take what a file, the registry or another node says of a node, for want of better.

        What the node itself has said since this process started counts for more. True when news.
        """
        return self._take(info, first_hand=False)

    def learn(self, info: NodeInfo) -> bool:
        """Take what a known node says of itself; True when news. Strangers are not believed.

        A known node with another incarnation is not believed: its data folder is not the one
        that the cluster knows.
        """
        return self._take(info, first_hand=True)

    def _take(self, info: NodeInfo, *, first_hand: bool) -> bool:
        with self._lock:
            if info.node_id == self._own.node_id:
                return False
            if info.node_id in self._heard and not first_hand:
                return False
            old = self._infos.get(info.node_id)
            if old is None and first_hand:
                return False  # a stranger: members are known by seed list, file or registry
            if old is not None and old.incarnation and old.incarnation != info.incarnation:
                logger.warning(
                    "node %d at %s:%d has another data folder than the node known by that id; "
                    "its address is not taken",
                    info.node_id,
                    info.internal_ip,
                    info.meta_port,
                )
                return False
            if first_hand:
                self._heard.add(info.node_id)
            if old == info:
                return False
            self._infos[info.node_id] = info
            listeners = list(self._learned)
        for listener in listeners:
            listener(info)
        return True

    def on_learned(self, listener: Callable[[NodeInfo], None]) -> None:
        """Call `listener` (outside the lock) with every news from now on."""
        with self._lock:
            self._learned.append(listener)

    def get(self, node_id: NodeId) -> NodeInfo | None:
        """Return what is known of a node, or None."""
        with self._lock:
            return self._infos.get(node_id)

    def all(self) -> list[NodeInfo]:
        """Return every known node, this one included, ordered by address."""
        with self._lock:
            infos: Iterable[NodeInfo] = list(self._infos.values())
        return sorted(infos, key=lambda info: (info.internal_ip, info.meta_port))

    def meta_endpoint(self, node_id: NodeId) -> tuple[str, int]:
        """Return (host, internal meta port) of a node; raises ClusterError when unknown."""
        info = self.get(node_id)
        if info is None or not info.meta_port:
            raise ClusterError(
                StatusCode.NO_CONNECTION, f"the meta address of node {node_id} is not known yet"
            )
        return info.internal_ip, info.meta_port

    def data_endpoint(self, node_id: NodeId) -> tuple[str, int]:
        """Return (host, internal data port) of a node; raises ClusterError when unknown."""
        info = self.get(node_id)
        if info is None or not info.data_port:
            raise ClusterError(
                StatusCode.NO_CONNECTION, f"the data address of node {node_id} is not known yet"
            )
        return info.internal_ip, info.data_port
