"""How many snapshots a node sends at once.

Problem: a node that comes back may need the states of hundreds of groups, from leaders that have
them all ready. A thread, a connection, an open state and some pieces for each would be hundreds of
all of these, and none of them would be done soon.

So a few are sent at a time, and the rest wait, in the order in which they were asked for. At most
half of them go to one node: one that hangs does not keep the others waiting.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from cluster.raft.types import NodeId

logger = logging.getLogger(__name__)

MOST_TO_ONE = 2
MOST = 2 * MOST_TO_ONE


class _Waiting(NamedTuple):
    peer: NodeId
    begin: Callable[[], bool]


class SnapshotTurns:
    """The turns of a node's senders. Thread-safe."""

    def __init__(self, most: int = MOST, most_to_one: int = MOST_TO_ONE) -> None:
        self._most = most
        self._most_to_one = most_to_one
        self._lock = threading.Lock()
        self._running: Counter[NodeId] = Counter()
        self._waiting: deque[_Waiting] = deque()

    @property
    def waiting(self) -> int:
        """So many have not begun."""
        with self._lock:
            return len(self._waiting)

    def ask(self, peer: NodeId, begin: Callable[[], bool]) -> None:
        """Have `begin` called when there is a turn, now or by whoever ends one.

        Args:
            peer: to whom is sent.
            begin: returns at once; True: `end` will be called, once. False: nobody wants the turn
                any more. A RuntimeError says that there is no room for a thread.
        """
        with self._lock:
            self._waiting.append(_Waiting(peer, begin))
        self.look()

    def end(self, peer: NodeId) -> None:
        """Give a turn back."""
        self._give_back(peer)
        self.look()

    def look(self) -> None:
        """Have those begin whose turn it is; called now and then, too."""
        while (waiting := self._next()) is not None:
            begun = False
            try:
                begun = waiting.begin()
            except RuntimeError as error:
                logger.warning("a snapshot for node %d has to wait: %s", waiting.peer, error)
                with self._lock:
                    self._waiting.appendleft(waiting)
                return
            finally:
                if not begun:
                    self._give_back(waiting.peer)

    def _give_back(self, peer: NodeId) -> None:
        with self._lock:
            self._running[peer] -= 1

    def _next(self) -> _Waiting | None:
        with self._lock:
            if self._running.total() >= self._most:
                return None
            for at, waiting in enumerate(self._waiting):
                if self._running[waiting.peer] < self._most_to_one:
                    del self._waiting[at]
                    self._running[waiting.peer] += 1
                    return waiting
            return None
