"""Watches the other nodes for groups that sleep (`cluster.raft.quiescence`).

An idle group exchanges nothing. That its leader's node still lives is watched here, once for all
groups that two nodes share: each sends the other an empty batch of heartbeats, and looks how long
it has heard nothing. A node that is silent, that was started anew and so has forgotten that it
led, or that is back from a silence, wakes the groups concerned; from there on their own time-outs
decide.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.member.raft_member import RaftMember
from cluster.raft.events import PeerSilent
from cluster.raft.types import NodeId

logger = logging.getLogger(__name__)

_WAKE_AT_A_TIME = 32
_WAKE_PAUSE_S = 0.02
"""Very many groups that all campaign at once keep one another from ending."""


class Pinger(Protocol):
    """What the watch needs of the links."""

    def ping(self, peer: NodeId) -> None:
        """Send a sign of life, and get one back; returns at once."""
        ...


class NodeWatch:
    """The nodes that share groups with this one; thread-safe.

    Args:
        node_id: this node.
        process: names this run of the node.
        members: of this node, now.
        links: to the other nodes.
        interval_s: between two signs of life.
        tick_s: of the members' cores.
        silent_ticks: so long may a node say nothing before it wakes its groups.
        election_ticks: of the members' cores.
        beside: called before each look; must not block.
    """

    def __init__(
        self,
        *,
        node_id: NodeId,
        process: int,
        members: Callable[[], Sequence[RaftMember]],
        links: Pinger,
        interval_s: float,
        tick_s: float,
        silent_ticks: int,
        election_ticks: int,
        beside: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.process = process
        self._node_id = node_id
        self._members = members
        self._links = links
        self._interval_s = interval_s
        self._tick_s = tick_s
        self._silent_ticks = silent_ticks
        self._election_ticks = election_ticks
        self._beside = beside
        self._now = now
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._heard: dict[NodeId, float] = {}
        self._processes: dict[NodeId, int] = {}
        self._restarted: set[NodeId] = set()
        self._known_silent: set[NodeId] = set()
        self._looked = self._pinged = now()

    def heard(self, node_id: NodeId, process: int) -> None:
        """Take note of a sign of life of a node, and of which run of it."""
        with self._lock:
            self._heard[node_id] = self._now()
            before = self._processes.get(node_id)
            if before is not None and before != process:
                self._restarted.add(node_id)
            self._processes[node_id] = process

    def stop(self) -> None:
        """Make `run` return."""
        self._stopped.set()

    def run(self) -> None:
        """Thread body."""
        while not self._stopped.wait(self._interval_s):
            self._beside()
            self.look()

    def look(self) -> None:
        """Send signs of life where groups sleep, and wake those whose nodes give none."""
        sleepers = [member for member in self._members() if not member.awake.is_set()]
        peers = {peer for member in sleepers for peer in member.membership.members()}
        peers.discard(self._node_id)
        self._ping(peers)
        found = self._silent(peers)
        for event in found:
            if event.is_back:
                logger.info("node %d is back: groups shared with it wake up", event.peer)
            elif event.peer not in self._known_silent:
                logger.info("node %d is silent: groups that need it wake up", event.peer)
            concerned = [m for m in sleepers if event.peer in m.membership.members()]
            for number, member in enumerate(concerned, 1):
                member.step(event)
                if number % _WAKE_AT_A_TIME == 0 and self._stopped.wait(_WAKE_PAUSE_S):
                    return
                if self._now() - self._pinged >= self._interval_s:
                    self._ping(peers)  # or others take this node for silent
        self._known_silent = {event.peer for event in found if not event.is_back}

    def _ping(self, peers: set[NodeId]) -> None:
        self._pinged = self._now()
        for peer in peers:
            self._links.ping(peer)

    def _silent(self, peers: set[NodeId]) -> list[PeerSilent]:
        now = self._now()
        with self._lock:
            was_stopped = now - self._looked > self._silent_ticks * self._tick_s
            self._looked = now
            if was_stopped:
                # this process heard nothing because it did not run
                self._heard = dict.fromkeys(self._heard, now)
            restarted, self._restarted = self._restarted, set()
            found = []
            for peer in sorted(peers):
                silent = int((now - self._heard.setdefault(peer, now)) / self._tick_s)
                if peer in restarted:
                    silent = max(silent, self._election_ticks)
                if silent >= self._silent_ticks:
                    found.append(PeerSilent(peer, silent, is_back=peer in restarted))
                elif peer in self._known_silent:
                    # not restarted: it was stopped, or cut off, and may sleep with an old log
                    found.append(PeerSilent(peer, silent, is_back=True))
            return found
