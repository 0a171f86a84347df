"""Which other nodes answer this one: what a coordinator goes by when a leader does not.

A call that gets no answer says nothing of why: its leader may wait for a disk, or no packet may
reach it. So while a call takes long, every node is sent a ping over its control link
(`cluster.member.peer_link`), and what does not answer that is mute. Nothing is sent while nobody
waits for anything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from cluster.raft.types import NodeId

MUTE_S = 0.7
MUTE_PINGS = 3
"""A node that left so many pings unanswered, the first of them for so long, is mute."""
FRESH_S = 1.5
"""An answer is worth something for so long."""
_FORGET_S = 3.0


class Reach:
    """Who answers pings; thread-safe.

    Args:
        ping: has a ping sent to a node; returns at once.
        now: monotonic clock.
    """

    def __init__(
        self, ping: Callable[[NodeId], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._ping = ping
        self._now = now
        self._lock = threading.Lock()
        self._asked: dict[NodeId, tuple[float, int]] = {}
        """When the first unanswered ping was sent, and how many there are."""
        self._answered: dict[NodeId, float] = {}
        self._looked = now()

    def probe(self, nodes: Iterable[NodeId]) -> None:
        """Ping `nodes`; to be repeated several times a second for as long as it matters."""
        now = self._now()
        nodes = list(nodes)
        with self._lock:
            if now - self._looked > _FORGET_S:
                # nobody pinged meanwhile, or this process did not run: silence proves nothing
                self._asked.clear()
            self._looked = now
            for node_id in nodes:
                first, count = self._asked.get(node_id, (now, 0))
                self._asked[node_id] = (first, count + 1)
        for node_id in nodes:
            self._ping(node_id)

    def answered(self, node_id: NodeId) -> None:
        """Take note that a node answered something on its control link."""
        with self._lock:
            self._asked.pop(node_id, None)
            self._answered[node_id] = self._now()

    def is_mute(self, node_id: NodeId) -> bool:
        """Whether a node is being pinged, and has not answered for a while."""
        now = self._now()
        with self._lock:
            first, count = self._asked.get(node_id, (now, 0))
            long = count >= MUTE_PINGS and now - first >= MUTE_S
            return long and now - self._looked <= _FORGET_S

    def answers(self, node_id: NodeId) -> bool:
        """Whether a node has answered lately."""
        with self._lock:
            answered = self._answered.get(node_id)
            return answered is not None and self._now() - answered <= FRESH_S
