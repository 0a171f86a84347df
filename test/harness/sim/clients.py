"""Clients: one request at a time each, repeated under the same id when the outcome is unknown."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

from cluster.raft.events import Propose
from cluster.raft.types import NodeId, Role
from harness.sim.machine import Request
from iotdb_engine.errors import Closed

if TYPE_CHECKING:
    from harness.sim.cluster import SimCluster
    from harness.sim.node import SimNode

_PAUSE_US = 30_000
_ATTEMPTS = 12
_QUEUE = 3


class Op:
    """One request under way.

    Attributes:
        floor: how much of the history was committed when it was issued.
        attempt: which attempt is the present one; answers to earlier ones still count for a write,
            since it is the same request.
    """

    __slots__ = ("args", "attempt", "floor", "is_over", "name")

    def __init__(self, name: str, args: tuple[Any, ...], floor: int) -> None:
        self.name = name
        self.args = args
        self.floor = floor
        self.attempt = 0
        self.is_over = False


class Client:
    """Sends writes and reads to nodes; follows hints to the leader; gives up some time."""

    def __init__(self, cluster: SimCluster, number: int) -> None:
        self._cluster = cluster
        self._number = number
        self._chance = random.Random(f"client/{cluster.settings.seed}/{number}").random
        self._queue: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._op: Op | None = None
        self._seq = 0
        self._timeout_us = cluster.settings.tick_us * cluster.settings.election_ticks

    def submit(self, name: str, *args: Any) -> None:
        """Do this next; dropped when too much waits already."""
        if len(self._queue) < _QUEUE:
            self._queue.append((name, args))
        if self._op is None:
            self._next()

    def _next(self) -> None:
        self._op = None
        if not self._queue:
            return
        name, args = self._queue.popleft()
        cluster = self._cluster
        if name == "write":
            self._seq += 1
        op = self._op = Op(name, args, len(cluster.checkers.committed))
        self._attempt(op, args[1])

    def _attempt(self, op: Op, node_id: int) -> None:
        """Try at a node; 0: the leader if there is one; -1: the oldest that believes to lead."""
        if op.is_over:
            return
        if op.attempt == _ATTEMPTS:
            self._end(op)
            return
        op.attempt += 1
        node = self._pick(node_id)
        self._cluster.scheduler.after(self._timeout_us, self._timed_out, op, op.attempt)
        if node is None or node.core is None:
            self._later(op, 0)
        elif op.name == "write":
            node.enter(self._write, node, op)
        else:
            node.enter(self._read, node, op)

    def _pick(self, node_id: int) -> SimNode | None:
        nodes = self._cluster.nodes
        if node_id > 0:
            return nodes.get(NodeId(node_id))
        leaders = [n for n in nodes.values() if n.core and n.core.role is Role.LEADER]
        if not leaders:
            return None
        if node_id == -1:
            return min(leaders, key=lambda n: n.core.term if n.core else 0)
        return leaders[int(self._chance() * len(leaders))]

    def _later(self, op: Op, node_id: int) -> None:
        delay_us = _PAUSE_US + int(self._chance() * _PAUSE_US)
        self._cluster.scheduler.after(delay_us, self._retry, op, op.attempt, node_id)

    def _retry(self, op: Op, attempt: int, node_id: int) -> None:
        if not op.is_over and op.attempt == attempt:
            self._attempt(op, node_id)

    def _timed_out(self, op: Op, attempt: int) -> None:
        self._retry(op, attempt, 0)

    def _end(self, op: Op) -> None:
        if not op.is_over:
            op.is_over = True
            self._next()

    # ---- writes ----

    def _write(self, node: SimNode, op: Op) -> None:
        key, _, size = op.args
        core = node.core
        assert core is not None
        request = Request(self._number, self._seq, key, size)
        effects = node.step(Propose((self._cluster.kind.encode(request),), expected_term=core.term))
        if effects.rejected is not None:
            self._later(op, effects.rejected.leader)
            return
        proposed = effects.proposed
        assert proposed is not None
        if node.core is not None:

            def decided(outcome: str, index: int) -> None:
                if op.is_over:
                    return
                if outcome == "applied":
                    self._cluster.checkers.on_written(op, request, index)
                    self._end(op)
                else:
                    self._later(op, 0)

            node.propose_done(proposed.first_index, proposed.term, decided)

    # ---- reads ----

    def _read(self, node: SimNode, op: Op) -> None:
        level = op.args[2]
        if level == "weak":
            self._answer(node, op)
        elif level == "follower" and node.core is not None and node.core.leader != node.node_id:
            self._read_at_follower(node, op)
        else:
            self._read_at_leader(node, op)

    def _read_at_leader(self, node: SimNode, op: Op) -> None:
        attempt = op.attempt

        def decided(outcome: str, value: int) -> None:
            if op.is_over or op.attempt != attempt:
                return
            if outcome == "ready":
                self._cluster.checkers.on_read_index(node, op, value)
                node.when_applied(value, lambda *_: self._answer(node, op))
            else:
                self._later(op, value)

        node.read(decided)

    def _read_at_follower(self, node: SimNode, op: Op) -> None:
        """Ask the leader for a read index, and read here once that is applied (thesis 6.4)."""
        cluster = self._cluster
        assert node.core is not None
        leader = cluster.nodes.get(node.core.leader)
        if (
            leader is None
            or leader.core is None
            or cluster.network.is_cut(node.node_id, leader.node_id)
        ):
            self._later(op, 0)
            return
        attempt = op.attempt

        def decided(outcome: str, value: int) -> None:
            if (
                op.is_over
                or op.attempt != attempt
                or cluster.network.is_cut(leader.node_id, node.node_id)
            ):
                return
            if outcome == "ready":
                cluster.checkers.on_read_index(leader, op, value)
                node.after(1_000, node.when_applied, value, lambda *_: self._answer(node, op))
            else:
                self._later(op, value)

        leader.after(1_000, leader.read, decided)

    def _answer(self, node: SimNode, op: Op) -> None:
        if op.is_over:
            return
        try:
            value = node.machine.state.get(op.args[0], 0)
        except Closed:  # a snapshot takes the region's place just now: an error, in the product too
            self._later(op, 0)
            return
        self._cluster.checkers.on_read(node, op, value)
        self._end(op)
