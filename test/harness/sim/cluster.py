"""One simulated run: a group, its faults, its clients, and a quiet end in which it must recover."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from cluster.raft.core import RaftCore
from cluster.raft.events import Unreachable
from cluster.raft.types import (
    EntryKind,
    Membership,
    NodeId,
    RaftConfig,
    Role,
)
from harness.sim import transfer
from harness.sim.checkers import Checkers, SimViolation
from harness.sim.clients import Client
from harness.sim.disk import SimDisk
from harness.sim.engine_states import EngineKind
from harness.sim.faults import Faults
from harness.sim.network import SimNetwork
from harness.sim.node import SimNode
from harness.sim.plan import CLIENTS, Plan
from harness.sim.scheduler import Scheduler
from harness.sim.states import Kind, StubKind
from harness.sim.transfer import Piece

_RECOVERY_ELECTIONS = 30
"""After the last fault the group must have a leader, commit a write and apply it everywhere
within so many (shortest) election time-outs."""


@dataclass
class SimResult:
    """What a run saw."""

    seed: int
    steps: int = 0
    virtual_us: int = 0
    elections: int = 0
    commits: int = 0
    written: int = 0
    reads: int = 0
    snapshots: int = 0
    memberships: int = 0
    crashes: int = 0
    pauses: int = 0
    partitions: int = 0
    flips: int = 0
    damaged_pieces: int = 0
    messages: int = 0
    lost: int = 0
    recovery_us: int = 0

    def add(self, other: SimResult) -> None:
        """Sum up a tally."""
        for name, value in vars(other).items():
            if name != "seed":
                setattr(self, name, getattr(self, name) + value)


class SimCluster:
    """A group under one plan.

    Args:
        core_class, disk_class: replaced by broken ones in mutation tests.
        trace: whether to record a line per step.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        core_class: type[RaftCore] = RaftCore,
        disk_class: type[SimDisk] = SimDisk,
        trace: bool = False,
    ) -> None:
        self.plan = plan
        self.settings = settings = plan.settings
        self.core_class = core_class
        self.scheduler = Scheduler()
        self.network = SimNetwork(self.scheduler, settings)
        self.network.deliver = self._deliver
        self.network.undeliverable = self._undeliverable
        self.steps = 0
        self.trace: list[str] | None = [] if trace else None
        self.nodes: dict[NodeId, SimNode] = {}
        self.founding = Membership(tuple(NodeId(i + 1) for i in range(settings.nodes)))
        self.kind: Kind = EngineKind() if settings.engine else StubKind()
        self.checkers = Checkers(self.nodes, self.founding, self.kind)
        self.result = SimResult(settings.seed)
        self._disk_class = disk_class
        self._chance = random.Random(f"cluster/{settings.seed}").random
        self._clients = [Client(self, i) for i in range(CLIENTS + 1)]
        self.faults = Faults(self, self._chance)
        self.is_quiet = False
        for node_id in self.founding.voters:
            self.make_node(node_id, self.founding)

    def make_node(self, node_id: NodeId, membership: Membership) -> SimNode:
        """Make a node that has nothing yet; the caller starts it."""
        settings = self.settings
        config = RaftConfig(
            node_id,
            heartbeat_ticks=settings.heartbeat_ticks,
            election_ticks=settings.election_ticks,
            max_append_bytes=settings.append,
            max_inflight_bytes=settings.inflight,
            max_uncommitted_bytes=settings.uncommitted,
            lease_reads=bool(settings.lease),
            max_clock_drift_ticks=settings.drift_ticks,
            quiesce_after_ticks=settings.quiesce_ticks,
            first_campaign_ticks=1 if node_id == 1 and settings.favoured else 0,
            max_campaign_backlog=3,
        )
        drift = random.Random(f"clock/{settings.seed}/{node_id}").uniform(-1, 1)
        rate = 1 + drift * settings.drift_permille / 1000
        disk = self._disk_class(self.scheduler, settings, node_id, membership, self.kind)
        node = self.nodes[node_id] = SimNode(self, config, disk, rate)
        return node

    # ---- the run ----

    def run(self) -> SimResult:
        """Run to the end.

        Raises:
            SimViolation: a rule was broken.
            AssertionError: a core found one of its invariants broken.
        """
        try:
            return self._run()
        finally:
            for node in self.nodes.values():
                node.disk.states.close()

    def _run(self) -> SimResult:
        scheduler = self.scheduler
        settings = self.settings
        for node in list(self.nodes.values()):
            node.start()
        if settings.quiesce_ticks:
            scheduler.after(0, self._exchange_signs_of_life)
        if settings.housekeeping_us:
            scheduler.after(settings.housekeeping_us, self._keep_house)
        for at_us, name, args in self.plan.actions:
            scheduler.at(at_us, self._act, name, args)
        scheduler.run(settings.chaos_us)
        self._heal()
        election_us = settings.election_ticks * settings.tick_us
        limit_us = settings.chaos_us + _RECOVERY_ELECTIONS * election_us
        scheduler.run(limit_us, self._is_recovered)
        if not self._is_recovered():
            raise SimViolation("liveness", f"not recovered after {limit_us - settings.chaos_us} us")
        self.checkers.at_end()
        result = self.result
        checkers = self.checkers
        result.steps = self.steps
        result.virtual_us = scheduler.now_us
        result.recovery_us = scheduler.now_us - settings.chaos_us
        result.elections = checkers.elections
        result.commits = len(checkers.committed)
        result.written = checkers.written
        result.reads = checkers.reads
        result.snapshots = checkers.snapshots
        result.memberships = len(checkers.memberships)
        result.messages = self.network.sent
        result.lost = self.network.lost
        return result

    def note(self, line: str) -> None:
        """Add a line to the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.scheduler.now_us:>9} {line}")

    def _act(self, name: str, args: tuple[Any, ...]) -> None:
        self.note(f"{name} {' '.join(map(str, args))}")
        owner = self if name in ("write", "read") else self.faults
        getattr(owner, "do_" + name.replace("-", "_"))(*args)

    # ---- network ----

    def _deliver(self, message: Any) -> None:
        node = self.nodes.get(message.to)
        if node is not None and node.core is not None:
            if node.paused:
                node.enter(node.receive, message)
            else:
                node.receive(message)

    def _undeliverable(self, message: Any) -> None:
        node = self.nodes[message.frm]
        if node.core is not None:
            node.enter(node.step, Unreachable(message.to))

    def maybe_flip(self, data: bytes) -> bytes:
        """Perhaps flip a bit of a piece of a snapshot on its way."""
        if self.is_quiet or not data or self._chance() * 100 >= self.settings.chunk_flip:
            return data
        self.result.damaged_pieces += 1
        # digits stay digits, so that only the checksum can tell
        flipped = bytearray(data)
        at = int(self._chance() * len(flipped))
        flipped[at] = ord("1") if flipped[at] == ord("0") else ord("0")
        return bytes(flipped)

    def accepts(self, piece: Piece) -> bool:
        """Whether a receiver takes a piece."""
        return transfer.is_whole(piece)

    def _exchange_signs_of_life(self) -> None:
        """What nodes send one another when groups may sleep, some in each election time-out."""
        interval_us = self.settings.tick_us * self.settings.election_ticks // 4
        self.scheduler.after(interval_us, self._exchange_signs_of_life)
        for node in list(self.nodes.values()):
            if node.core is None or node.paused:
                continue
            for other in list(self.nodes.values()):
                if other is node or other.core is None:
                    continue
                if not self.network.is_cut(node.node_id, other.node_id):
                    is_new = other.known_boots.get(node.node_id, node.boots) != node.boots
                    other.known_boots[node.node_id] = node.boots
                    other.enter(other.hear, node.node_id, is_new)

    def _keep_house(self) -> None:
        """Each node stores its state and compacts its log now and then."""
        interval_us = self.settings.housekeeping_us
        self.scheduler.after(int(interval_us * (0.5 + self._chance())), self._keep_house)
        nodes = [n for n in self.nodes.values() if n.core is not None and not n.paused]
        if nodes:
            nodes[int(self._chance() * len(nodes))].maybe_compact()

    # ---- actions: clients ----

    def do_write(self, client: int, key: int, node: int, size: int) -> None:
        """A client adds to a counter."""
        self._clients[client].submit("write", key, node, size)

    def do_read(self, client: int, key: int, node: int, level: str) -> None:
        """A client reads a counter."""
        self._clients[client].submit("read", key, node, level)

    # ---- the group ----

    def a_leader(self) -> SimNode | None:
        """Return the newest of those that believe to lead."""
        leaders = [n for n in self.nodes.values() if n.core and n.core.role is Role.LEADER]
        return max(leaders, key=lambda n: n.core.term if n.core else 0) if leaders else None

    def on_membership(self, node: SimNode, membership: Membership) -> None:
        """A membership took effect on a node."""
        self.note(f"n{node.node_id} goes by {membership}")

    # ---- the end ----

    def _heal(self) -> None:
        self.note("heal")
        self.is_quiet = True
        self.network.heal()
        for node in list(self.nodes.values()):
            node.disk.calm()
            node.disk.trap = None
            if node.paused:
                node.resume(0)
            self.faults.restart(node)
        self._final_write()

    def _final_write(self) -> None:
        """Keep writing until one write is through."""
        self.scheduler.after(self.settings.tick_us * 2, self._final_write)
        self._clients[CLIENTS].submit("write", 0, 0, 0)

    def _is_recovered(self) -> bool:
        committed = self.checkers.committed
        if not committed or committed[-1].kind != EntryKind.PLAN:
            return False
        if self.kind.decode(committed[-1].data).client != CLIENTS:
            return False
        last = len(committed)
        membership = self.checkers.memberships[-1][1]
        if membership.is_joint:
            return False
        for node_id in membership.members():
            node = self.nodes[node_id]
            if not node.is_dead and (node.core is None or node.machine.index != last):
                return False
        return True
