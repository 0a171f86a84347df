"""Names of nodes to addresses, within a time.

`getaddrinfo` has no time limit: while no name server answers, it keeps its caller for ten seconds
and more. The heartbeats of a whole node would wait for it, though the addresses are most likely
what they were. So a name is looked up on a thread of its own, anew for each connection; who waits
in vain goes on with what the name meant last.
"""

from __future__ import annotations

import logging
import socket
import threading
from functools import partial
from typing import Any

from cluster.threads import ThreadRegistry

logger = logging.getLogger(__name__)

Addresses = list[tuple[Any, Any, int, str, tuple[Any, ...]]]
"""As of `socket.getaddrinfo`."""


class Resolver:
    """Lookups under way, and the last answer for each name and port. Thread-safe.

    Args:
        max_wait_s: so long is an answer waited for at most.
    """

    def __init__(self, max_wait_s: float = 1.0) -> None:
        self._max_wait_s = max_wait_s
        # of its own: nothing can end a lookup, and nobody waits for one at the node's end
        self._threads = ThreadRegistry()
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], Addresses] = {}
        self._under_way: dict[tuple[str, int], _Lookup] = {}

    def addresses(self, host: str, port: int, timeout_s: float) -> Addresses:
        """Return where a host is; at least one address.

        Waits for half of the time at most, so that there is some left to connect.

        Raises:
            OSError: the name has no address, or none was found in time and none is known.
        """
        try:
            # an address needs nobody to be asked
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except (socket.gaierror, UnicodeError):
            pass
        with self._lock:
            lookup = self._under_way.get((host, port))
            if lookup is None:
                lookup = _Lookup()
                try:
                    self._threads.spawn(
                        f"resolve-{host}", partial(self._look_up, host, port, lookup)
                    )
                except RuntimeError as error:
                    raise OSError(f"{host}: no thread can be started: {error}") from error
                self._under_way[host, port] = lookup
        in_time = lookup.done.wait(min(self._max_wait_s, timeout_s / 2))
        if lookup.found:
            return lookup.found
        if not in_time:
            problem: OSError = TimeoutError(f"{host}: no name server answers")
        else:
            problem = lookup.error or ConnectionError(f"{host}: the name has no address")
        is_told = in_time and getattr(problem, "errno", None) != socket.EAI_AGAIN
        with self._lock:
            known = None if is_told else self._known.get((host, port))
        if known is None:
            raise problem
        logger.info("%s; it is tried where it was last", problem)
        return known

    def _look_up(self, host: str, port: int, lookup: _Lookup) -> None:
        try:
            lookup.found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            lookup.error = error
        except UnicodeError as error:
            lookup.error = OSError(f"{host} is no name: {error}")
        with self._lock:
            del self._under_way[host, port]
            if lookup.found:
                self._known[host, port] = lookup.found
        lookup.done.set()


class _Lookup:
    """One question under way; several may wait for the answer."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.found: Addresses = []
        self.error: OSError | None = None


RESOLVER = Resolver()
"""Of this process."""
