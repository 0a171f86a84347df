"""One simulated run: a group, its faults, its clients, and a quiet end in which it must recover."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from cluster.raft.core import RaftCore
from cluster.raft.events import Propose, ReadRequest, TransferLeadership, Unreachable
from cluster.raft.messages import Message
from cluster.raft.types import LogIndex, Membership, NodeId, RaftConfig, Role
from harness.sim.checkers import Checkers, SimViolation
from harness.sim.disk import SimDisk
from harness.sim.network import SimNetwork
from harness.sim.node import SimNode
from harness.sim.scheduler import Scheduler

_ELECTION_TICKS = 6
_CHAOS_US = 4_000_000
_RECOVERY_ELECTIONS = 25
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
    acked: int = 0
    reads: int = 0
    crashes: int = 0
    partitions: int = 0
    messages: int = 0
    lost: int = 0
    recovery_us: int = 0

    def add(self, other: SimResult) -> None:
        """Sum up a tally."""
        for name, value in vars(other).items():
            if name != "seed":
                setattr(self, name, getattr(self, name) + value)


class SimCluster:
    """A group of `node_count` cores under one seed.

    Args:
        core_class, disk_class: replaced by broken ones in mutation tests.
        harsh: whether leaders and voters fall at their most delicate moments in any case, and
            not only in a third of the seeds; for mistakes that are hard to provoke.
        trace: whether to record a line per step.
    """

    def __init__(
        self,
        seed: int,
        node_count: int,
        *,
        core_class: type[RaftCore] = RaftCore,
        disk_class: type[SimDisk] = SimDisk,
        harsh: bool = False,
        trace: bool = False,
    ) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.scheduler = Scheduler()
        self.network = SimNetwork(self.scheduler, rng)
        self.network.deliver = self._deliver
        self.network.undeliverable = self._undeliverable
        self.tick_us = 20_000
        self.steps = 0
        self.trace: list[str] | None = [] if trace else None
        self.nodes: dict[NodeId, SimNode] = {}
        self.checkers = Checkers(self.nodes)
        self.result = SimResult(seed)
        self._payloads = 0
        self._reads = 0
        self._quiet = False
        self._voter_crashes = 0.6 if harsh else rng.choice([0.0, 0.0, 0.6])
        self._client_us = 10_000 if harsh else 30_000
        self._leader_falls = 0.7 if harsh else rng.choice([0.0, 0.0, 0.7])
        self._final: dict[bytes, bool] = {}
        ids = tuple(NodeId(i + 1) for i in range(node_count))
        limits = rng.choice(
            [(1, 60, 400), (40, 120, 400), (200, 2_000, 4_000), (1 << 20, 1 << 22, 1 << 22)]
        )
        for node_id in ids:
            config = RaftConfig(
                node_id,
                heartbeat_ticks=rng.choice([1, 2]),
                election_ticks=_ELECTION_TICKS,
                max_append_bytes=limits[0],
                max_inflight_bytes=limits[1],
                max_uncommitted_bytes=limits[2],
                first_campaign_ticks=1 if node_id == 1 and rng.random() < 0.5 else 0,
            )
            disk = disk_class(self.scheduler, rng)
            disk.stall_chance = 0.1 if harsh else rng.choice([0.0, 0.0, 0.05])
            self.nodes[node_id] = SimNode(self, config, Membership(ids), disk, core_class)

    def run(self) -> SimResult:
        """Run to the end.

        Raises:
            SimViolation: a rule was broken.
            AssertionError: a core found one of its invariants broken.
        """
        scheduler = self.scheduler
        for node in self.nodes.values():
            node.start()
        scheduler.after(0, self._client)
        scheduler.after(self.rng.randrange(200_000), self._fault)
        scheduler.run(_CHAOS_US)
        self._heal()
        limit_us = _CHAOS_US + _RECOVERY_ELECTIONS * _ELECTION_TICKS * self.tick_us
        scheduler.run(limit_us, self._is_recovered)
        if not self._is_recovered():
            raise SimViolation("liveness", f"not recovered after {limit_us - _CHAOS_US} us")
        self.checkers.at_end()
        result = self.result
        result.steps = self.steps
        result.virtual_us = scheduler.now_us
        result.recovery_us = scheduler.now_us - _CHAOS_US
        result.elections = self.checkers.elections
        result.commits = len(self.checkers.committed)
        result.acked = len(self.checkers.acked)
        result.reads = self.checkers.reads_served
        result.messages = self.network.sent
        result.lost = self.network.lost
        return result

    def note(self, line: str) -> None:
        """Add a line to the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.scheduler.now_us:>9} {line}")

    def after_vote(self, node: SimNode) -> None:
        """Crash some nodes just after they voted: what they promised must outlive that."""
        if not self._quiet and self.rng.random() < self._voter_crashes:
            self.scheduler.after(
                self.rng.randrange(1_000), self._unless_quiet, self._crash, node, 1_000
            )

    def after_election(self, node: SimNode) -> None:
        """Fell some leaders when they have hardly begun: figure 8 of the Raft paper needs that."""
        if not self._quiet and self.rng.random() < self._leader_falls:
            fall = self.rng.choice([self._crash, self._crash, self._isolate])
            self.scheduler.after(
                self.rng.choice([4_000, 25_000, 120_000]), self._unless_quiet, fall, node
            )

    def _unless_quiet(self, fault: Callable[..., None], *args: object) -> None:
        if not self._quiet:
            fault(*args)

    # ---- network ----

    def _deliver(self, message: Message) -> None:
        node = self.nodes[message.to]
        if node.core is not None:
            node.receive(message)

    def _undeliverable(self, message: Message) -> None:
        node = self.nodes[message.frm]
        if node.core is not None:
            node.step(Unreachable(message.to))

    # ---- faults ----

    def _fault(self) -> None:
        if self._quiet:
            return
        rng = self.rng
        self.scheduler.after(20_000 + rng.randrange(120_000), self._fault)
        node = rng.choice(list(self.nodes.values()))
        action = rng.choice(_FAULTS)
        self.note(f"fault {action.__name__} {node.node_id}")
        action(self, node)

    def _crash(self, node: SimNode, longest_us: int = 300_000) -> None:
        if node.core is not None:
            self.result.crashes += 1
            node.crash()
            self.scheduler.after(self.rng.randrange(longest_us), self._restart, node)

    def _crash_leader(self, node: SimNode) -> None:
        self._crash(self._a_leader() or node)

    def _crash_all(self, node: SimNode) -> None:
        for each in self.nodes.values():
            self._crash(each)

    def _restart(self, node: SimNode) -> None:
        if node.core is None:
            node.start()

    def _split(self, node: SimNode) -> None:
        """Cut the group in two; which side is larger is chance."""
        self.result.partitions += 1
        side = {i: self.rng.random() < 0.5 for i in self.nodes}
        self._block(lambda a, b: side[a] != side[b])

    def _isolate(self, node: SimNode) -> None:
        self.result.partitions += 1
        self._block(lambda a, b: node.node_id in (a, b))

    def _isolate_leader(self, node: SimNode) -> None:
        self._isolate(self._a_leader() or node)

    def _one_way(self, node: SimNode) -> None:
        """Let a node hear nobody, or be heard by nobody."""
        self.result.partitions += 1
        deaf = self.rng.random() < 0.5
        self._block(lambda a, b: (b if deaf else a) == node.node_id)

    def _block(self, is_cut: Callable[[NodeId, NodeId], bool]) -> None:
        blocked = self.network.blocked
        blocked.clear()
        for a in self.nodes:
            for b in self.nodes:
                if a != b and is_cut(a, b):
                    blocked[a, b] = True

    def _mend(self, node: SimNode) -> None:
        self.network.blocked.clear()

    def _stall_disk(self, node: SimNode) -> None:
        node.disk.stall_us = self.rng.randrange(250_000)

    def _transfer(self, node: SimNode) -> None:
        leader = self._a_leader()
        if leader is not None:
            leader.step(TransferLeadership(node.node_id))

    def _flush_and_compact(self, node: SimNode) -> None:
        for each in self.nodes.values():
            if each.core is not None and self.rng.random() < 0.7:
                each.flush_machine()
                each.maybe_compact()

    def _heal(self) -> None:
        self.note("heal")
        self._quiet = True
        self.network.heal()
        for node in self.nodes.values():
            node.disk.stall_us = 0
            node.disk.stall_chance = 0.0
            self._restart(node)
        self._final_write()

    # ---- clients ----

    def _a_leader(self) -> SimNode | None:
        """Return a random one of those that believe to lead: there may be several."""
        leaders = [n for n in self.nodes.values() if n.core and n.core.role is Role.LEADER]
        return self.rng.choice(leaders) if leaders else None

    def _client(self) -> None:
        if self._quiet:
            return
        rng = self.rng
        self.scheduler.after(1_000 + rng.randrange(self._client_us), self._client)
        node = self._a_leader() if rng.random() < 0.8 else rng.choice(list(self.nodes.values()))
        if node is None or node.core is None:
            return
        if rng.random() < 0.3:
            self._read(node)
        else:
            self._write(node, 1 if rng.random() < 0.7 else 1 + rng.randrange(5))
        leader = self._a_leader()
        if leader is not None:
            self._read(leader)

    def _write(self, node: SimNode, count: int) -> list[bytes]:
        payloads = []
        for _ in range(count):
            self._payloads += 1
            payloads.append(b"%d" % self._payloads + b"." * self.rng.randrange(30))
        proposed = node.step(Propose(tuple(payloads))).proposed
        if proposed is not None:
            for index, payload in enumerate(payloads, proposed.first_index):
                node.proposals[LogIndex(index)] = (proposed.term, payload)
        return payloads

    def _read(self, node: SimNode) -> None:
        self._reads += 1
        self.checkers.on_read_issued(node, self._reads)
        node.step(ReadRequest(self._reads))

    def _final_write(self) -> None:
        """Keep trying to write until one write is through."""
        self.scheduler.after(self.tick_us * 2, self._final_write)
        leader = self._a_leader()
        if leader is not None:
            for payload in self._write(leader, 1):
                self._final[payload] = True

    def _is_recovered(self) -> bool:
        committed = self.checkers.committed
        if not committed or not self._final:
            return False
        index = len(committed)
        return (
            all(n.core is not None and n.machine_index == index for n in self.nodes.values())
            and committed[-1].data in self._final
        )


_FAULTS = [
    SimCluster._crash,
    SimCluster._crash_leader,
    SimCluster._crash_all,
    SimCluster._split,
    SimCluster._split,
    SimCluster._isolate_leader,
    SimCluster._isolate_leader,
    SimCluster._one_way,
    SimCluster._mend,
    SimCluster._mend,
    SimCluster._stall_disk,
    SimCluster._transfer,
    SimCluster._flush_and_compact,
    SimCluster._flush_and_compact,
]
