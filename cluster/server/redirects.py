"""Where a client's writes would be served without a detour (client-protocol 4.6).

A hint never replaces the write: it was carried out already. Clients that follow hints keep the
node of a device and send its next write there, so a hint must name an address that the client
can reach, and a wrong one costs a reconnect with every write.
"""

from __future__ import annotations

from ipaddress import ip_address

from cluster.coordinator.coordinator import Coordinator
from cluster.coordinator.inserter import InsertItem
from cluster.raft.types import NodeId

Address = tuple[str, int]


class Redirects:
    """Thread-safe; asks nobody: what this node knows of leaders is good enough for a hint."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def hint(self, item: InsertItem, peer: str) -> Address | None:
        """Return the client address of the node that leads the group of an item's last row.

        Args:
            item: what was written.
            peer: address of the client, as this node sees it.

        Returns:
            None when that is this node, when it is not known, and when the client could not reach
            it: a node that listens on loopback only is there for clients on loopback.
        """
        return self.address_of(self._coordinator.inserter.better_node(item), peer)

    def address_of(self, node_id: NodeId, peer: str) -> Address | None:
        """Return the client address of a node as `hint` does; None for node 0."""
        node = self._coordinator.meta_state.node(node_id) if node_id else None
        if node is None or not node.rpc_port:
            return None
        # listens everywhere: then also where the other nodes find it
        host = node.internal_ip if _is(node.rpc_address, "unspecified") else node.rpc_address
        if _is(host, "unspecified") or (_is(host, "loopback") and not _is(peer, "loopback")):
            return None
        return host, node.rpc_port


def _is(host: str, what: str) -> bool:
    """Whether an address is loopback or unspecified; a name is neither, but for localhost."""
    try:
        return bool(getattr(ip_address(host), f"is_{what}"))
    except ValueError:
        return what == "loopback" and host.lower() == "localhost"
