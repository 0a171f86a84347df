"""How many files and sockets the process may have open, and how many of them are for connections.

Shells hand out a soft limit of 1024, which is fewer than a node has connections; a process may
raise it to the hard limit by itself. Where that is low, connections must not take the files that
the log and the engine will need: without one the node would have to stop.
"""

from __future__ import annotations

import logging
import resource
from typing import NamedTuple

logger = logging.getLogger(__name__)

_FILES = 4096
"""For the engine, the log and connections to other nodes."""
_FEWEST = 16


class Room(NamedTuple):
    """Connections that fit.

    Attributes:
        clients: of clients.
        nodes: of other nodes, on each of the two internal ports.
    """

    clients: int
    nodes: int


def room_for_connections(clients: int, nodes: int) -> Room:
    """Raise the soft limit so that these connections fit beside the node's files.

    Returns:
        As many as fit. Fewer, where the hard limit leaves no room for them; half of that is for
        files then, and the log tells.
    """
    wanted = clients + 2 * nodes + _FILES
    limit = _raised(wanted)
    if limit >= wanted:
        return Room(clients, nodes)
    files = min(_FILES, limit // 2)
    fitting_nodes = min(nodes, max(_FEWEST, (limit - files) // 8))
    room = Room(min(clients, max(_FEWEST, limit - files - 2 * fitting_nodes)), fitting_nodes)
    logger.warning(
        "at most %d files and sockets can be open (ulimit -Hn), %d would be needed: %d connections "
        "of clients are served, not %d, and %d of other nodes on each port, not %d",
        limit,
        wanted,
        room.clients,
        clients,
        room.nodes,
        nodes,
    )
    return room


def _raised(wanted: int) -> int:
    """Raise the soft limit if it is lower, as far as may be; return what it is (wanted: more)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if reachable > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    return max(soft, reachable)
