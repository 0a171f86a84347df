"""One simulated run: a group, its faults, its clients, and a quiet end in which it must recover."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.raft.core import RaftCore
from cluster.raft.effects import RejectReason
from cluster.raft.events import ChangeMembership, TransferLeadership, Unreachable
from cluster.raft.membership import decode_membership
from cluster.raft.types import (
    UNKNOWN_MEMBERSHIP,
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
        self._traps: dict[str, list[tuple[Any, ...]]] = {
            "vote": [],
            "elected": [],
            "install": [],
            "handover": [],
        }
        self.is_quiet = False
        self._done_index = 0
        for node_id in self.founding.voters:
            self._make_node(node_id, self.founding)

    def _make_node(self, node_id: NodeId, membership: Membership) -> SimNode:
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
        getattr(self, "do_" + name.replace("-", "_"))(*args)

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

    # ---- actions: processes ----

    def _node(self, node_id: int) -> SimNode | None:
        return self.nodes.get(NodeId(node_id))

    def a_leader(self) -> SimNode | None:
        """Return the newest of those that believe to lead."""
        leaders = [n for n in self.nodes.values() if n.core and n.core.role is Role.LEADER]
        return max(leaders, key=lambda n: n.core.term if n.core else 0) if leaders else None

    def crash(self, node: SimNode, down_us: int) -> None:
        """Kill a process; it comes back after a while."""
        if node.core is None:
            return
        self.result.crashes += 1
        node.crash()
        self.note(f"n{node.node_id} crashes")
        self.scheduler.after(down_us, self._restart, node)

    def _restart(self, node: SimNode) -> None:
        if node.core is None and not node.is_dead:
            node.start()

    def do_crash(self, node_id: int, down_us: int) -> None:
        """Kill one."""
        node = self._node(node_id)
        if node is not None:
            self.crash(node, down_us)

    def do_crash_leader(self, down_us: int) -> None:
        """Kill the leader."""
        leader = self.a_leader()
        if leader is not None:
            self.crash(leader, down_us)

    def do_crash_all(self, down_us: int) -> None:
        """Power off."""
        for node in list(self.nodes.values()):
            self.crash(node, down_us)

    def _stop(self, node: SimNode | None, stopped_us: int, *, frozen: bool = False) -> None:
        if node is None or node.core is None or node.paused:
            return
        self.result.pauses += 1
        node.pause()
        self.scheduler.after(stopped_us, self._go_on, node, node.boots, stopped_us if frozen else 0)

    def _go_on(self, node: SimNode, boots: int, frozen_us: int) -> None:
        if node.core is not None and node.boots == boots and node.paused:
            self.note(f"n{node.node_id} goes on")
            node.resume(frozen_us)

    def do_pause(self, node_id: int, stopped_us: int) -> None:
        """SIGSTOP, SIGCONT."""
        self._stop(self._node(node_id), stopped_us)

    def do_pause_leader(self, stopped_us: int) -> None:
        """The same for the leader."""
        self._stop(self.a_leader(), stopped_us)

    def do_freeze_leader(self, stopped_us: int) -> None:
        """Stop a leader and its clock, as a virtual machine may be: beyond the bound."""
        self._stop(self.a_leader(), stopped_us, frozen=True)

    def do_jump(self, node_id: int, ticks: int) -> None:
        """Let a clock leap ahead; late ticks are told at once, so this is within the bound."""
        node = self._node(node_id)
        if node is not None:
            node.jump(ticks)

    def do_stall(self, node_id: int, stall_us: int) -> None:
        """Make the next sync slow."""
        node = self._node(node_id)
        if node is not None:
            node.disk.stall_us = stall_us

    def do_flip(self, node_id: int) -> None:
        """Flip a bit in a node's durable log, and kill it: it will not start again.

        The fault atlas: once in a run, and only where every membership that is or may come into
        force has at least three voters, whose majority is left.
        """
        node = self._node(node_id)
        if node is None or self._dead() or node.core is None:
            return
        for membership in self._possible_memberships():
            voters = [v for v in (membership.voters, membership.outgoing) if v]
            if min(len(v) for v in voters) < 3:
                return
        if node.disk.flip():
            self.result.flips += 1
            self.crash(node, 0)

    def do_flip_leader(self) -> None:
        """The same to the leader, or to one that led last."""
        leader = self.a_leader()
        if leader is not None:
            self.do_flip(leader.node_id)

    def _dead(self) -> list[NodeId]:
        return [n.node_id for n in self.nodes.values() if n.is_dead or n.disk.is_corrupt]

    def _possible_memberships(self) -> list[Membership]:
        """Return the memberships from the last that a leader told to be done, in any log."""
        memberships = self.checkers.memberships
        done = max([index for index, _ in memberships if index <= self._done_index])
        found = [membership for index, membership in memberships if index >= done]
        index, _ = memberships[-1]
        for node in self.nodes.values():
            entries = node.entries if node.core is not None else node.disk.entries
            found += [
                decode_membership(entry.data)
                for entry in entries
                if entry.kind == EntryKind.MEMBERSHIP and entry.index > index
            ]
        return found

    # ---- actions: network ----

    def do_split(self, mask: int) -> None:
        """Cut the group in two: those in the mask, and the others."""
        self.result.partitions += 1
        self._block(lambda a, b: bool(mask >> (a - 1) & 1) != bool(mask >> (b - 1) & 1))

    def do_isolate(self, node_id: int) -> None:
        """Cut one off."""
        self.result.partitions += 1
        self._block(lambda a, b: node_id in (a, b))

    def do_isolate_leader(self) -> None:
        """Cut the leader off."""
        leader = self.a_leader()
        if leader is not None:
            self.do_isolate(leader.node_id)

    def do_depose(self, spread_us: int) -> None:
        """Cut the leader off, and start all the others anew: they may forget that they heard it."""
        leader = self.a_leader()
        if leader is None:
            return
        self.do_isolate(leader.node_id)
        for node in list(self.nodes.values()):
            if node is not leader:
                self.scheduler.after(
                    int(self._chance() * spread_us), self._unless_quiet, self.crash, node, 0
                )

    def do_one_way(self, node_id: int, how: str) -> None:
        """Let a node hear nobody, or be heard by nobody."""
        self.result.partitions += 1
        self._block(lambda a, b: (b if how == "deaf" else a) == node_id)

    def do_mend(self) -> None:
        """End every partition."""
        self.network.blocked.clear()

    def _block(self, is_cut: Callable[[NodeId, NodeId], bool]) -> None:
        blocked = self.network.blocked
        blocked.clear()
        ids = [NodeId(i + 1) for i in range(self.settings.nodes + 2)]
        for a in ids:
            for b in ids:
                if a != b and is_cut(a, b):
                    blocked[a, b] = True

    # ---- actions: operators ----

    def do_transfer(self, node_id: int) -> None:
        """Ask the leader to hand over."""
        leader = self.a_leader()
        if leader is not None:
            leader.enter(leader.step, TransferLeadership(NodeId(node_id)))

    def do_compact(self, mask: int) -> None:
        """Let the nodes in the mask store their state and drop what log they can."""
        for node in list(self.nodes.values()):
            if node.core is not None and not node.paused and mask >> (node.node_id - 1) & 1:
                node.maybe_compact()

    def do_change(self, how: str, a: int, b: int) -> None:
        """Change the membership, if that makes sense now.

        Never to one that dead nodes keep from having a majority.
        """
        leader = self.a_leader()
        if leader is None or leader.core is None or leader.paused:
            return
        present = leader.core.membership
        spare = [i for i in range(1, self.settings.nodes + 3) if i not in present.members()]
        voters, learners = changed(present, how, a, b, [NodeId(i) for i in spare])
        dead = self._dead()
        if not voters or sum([v in dead for v in voters]) * 2 >= len(voters):
            return
        for node_id in (*voters, *learners):
            if node_id not in self.nodes:
                self._make_node(node_id, UNKNOWN_MEMBERSHIP).start()
        force = how == "grow" and len(voters) > 2
        rejected = leader.step(
            ChangeMembership(tuple(voters), tuple(learners), present, even_if_behind=force)
        ).rejected
        assert rejected is None or rejected.reason in (
            RejectReason.CHANGE_PENDING,
            RejectReason.NOT_CAUGHT_UP,
            RejectReason.TRANSFERRING,
            RejectReason.UNCHANGED,
        ), rejected

    def on_change_done(self, index: int) -> None:
        """A leader that has applied `index` says that no change is under way.

        From here on whoever asked for the last one relies on it.
        """
        self._done_index = max(self._done_index, index)

    def on_membership(self, node: SimNode, membership: Membership) -> None:
        """A membership took effect on a node."""
        self.note(f"n{node.node_id} goes by {membership}")

    # ---- traps ----

    def do_trap_vote(self, delay_us: int, down_us: int) -> None:
        """Kill the next who votes, just after."""
        self._traps["vote"].append((delay_us, down_us))

    def do_trap_elected(self, how: str, delay_us: int, down_us: int) -> None:
        """Fell the next leader when it has hardly begun: figure 8 of the Raft paper needs that."""
        self._traps["elected"].append((how, delay_us, down_us))

    def do_trap_write(self, node_id: int, how: str, down_us: int) -> None:
        """Kill a node when it hands its next write to the disk, which is lost, torn, or kept."""
        node = self._node(node_id)
        if node is not None:
            node.disk.trap = how
            node.trap_down_us = down_us

    def do_trap_install(self, stage: str, down_us: int) -> None:
        """Kill the next who installs a snapshot, at that stage."""
        self._traps["install"].append((stage, down_us))

    def do_trap_handover(self, delay_us: int) -> None:
        """Cut the next leader off that asks another one to take over, just after."""
        self._traps["handover"].append((delay_us,))

    def after_handover(self, node: SimNode) -> None:
        """Spring a trap."""
        if self._traps["handover"] and not self.is_quiet:
            (delay_us,) = self._traps["handover"].pop(0)
            self.scheduler.after(delay_us, self._unless_quiet, self.do_isolate, int(node.node_id))

    def after_vote(self, node: SimNode) -> None:
        """Spring a trap."""
        if self._traps["vote"] and not self.is_quiet:
            delay_us, down_us = self._traps["vote"].pop(0)
            self.scheduler.after(delay_us, self._unless_quiet, self.crash, node, down_us)

    def after_election(self, node: SimNode) -> None:
        """Spring a trap."""
        if self._traps["elected"] and not self.is_quiet:
            how, delay_us, down_us = self._traps["elected"].pop(0)
            if how == "crash":
                self.scheduler.after(delay_us, self._unless_quiet, self.crash, node, down_us)
            else:
                self.scheduler.after(
                    delay_us, self._unless_quiet, self.do_isolate, int(node.node_id)
                )

    def at_install(self, node: SimNode, stage: str) -> bool:
        """Spring a trap; whether it killed the node."""
        for trap in self._traps["install"]:
            if trap[0] == stage and not self.is_quiet:
                self._traps["install"].remove(trap)
                self.crash(node, trap[1])
                return True
        return False

    def _unless_quiet(self, fault: Callable[..., None], *args: object) -> None:
        if not self.is_quiet:
            fault(*args)

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
            self._restart(node)
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


def changed(
    present: Membership, how: str, a: int, b: int, spare: list[NodeId]
) -> tuple[list[NodeId], list[NodeId]]:
    """Return voters and learners after a change; `a` and `b` choose who, in some way.

    What makes no sense now becomes something that does: there is always a new membership.
    """
    voters, learners = list(present.voters), list(present.learners)
    if how in ("promote", "swap", "forget") and not learners:
        how = "learn"
    if how in ("learn", "grow") and not spare:
        how = "promote" if learners else "remove"
    if how in ("remove", "demote") and len(voters) < 2:
        how = "promote" if learners else "grow"
    if how == "learn":
        learners.append(spare[a % len(spare)])
    elif how == "grow":
        voters.append(spare[a % len(spare)])
    elif how == "promote":
        voters.append(learners.pop(a % len(learners)))
    elif how == "swap":
        voters[a % len(voters)] = learners.pop(b % len(learners))
    elif how == "forget":
        learners.pop(a % len(learners))
    elif how == "demote":
        learners.append(voters.pop(a % len(voters)))
    elif how == "remove":
        voters.pop(a % len(voters))
    return voters, learners
