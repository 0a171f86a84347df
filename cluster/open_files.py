"""How many files and sockets the process may have open.

Shells hand out a soft limit of 1024, which is fewer than a node has connections; a process may
raise it to the hard limit by itself.
"""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

_FILES = 4096
"""For the engine, the log and connections to other nodes."""


def allow_connections(count: int) -> int:
    """Raise the soft limit so that `count` connections fit beside the node's files.

    Args:
        count: connections of all servers together.

    Returns:
        The limit now. A hard limit below what is wanted is told in the log: further connections
        wait then until others close.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if reachable > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    if reachable < wanted:
        logger.warning(
            "at most %d files and sockets can be open (ulimit -Hn), %d would be needed for the "
            "connections that are configured",
            reachable,
            wanted,
        )
    return max(soft, reachable)
