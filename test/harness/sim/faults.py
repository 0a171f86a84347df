"""What a plan does to a simulated group: kills, pauses, cuts, changes of members, and traps.

Faults keep to an atlas: never more copies are destroyed than the group can do without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cluster.raft.effects import RejectReason
from cluster.raft.events import ChangeMembership, TransferLeadership
from cluster.raft.membership import decode_membership
from cluster.raft.types import UNKNOWN_MEMBERSHIP, EntryKind, Membership, NodeId

if TYPE_CHECKING:
    from harness.sim.cluster import SimCluster
    from harness.sim.node import SimNode


class Faults:
    """The actions `do_…` of one run, and the traps that they set.

    Args:
        cluster: what they are done to.
        chance: its stream of chances.
    """

    def __init__(self, cluster: SimCluster, chance: Callable[[], float]) -> None:
        self._cluster = cluster
        self._chance = chance
        self._traps: dict[str, list[tuple[Any, ...]]] = {
            "vote": [],
            "elected": [],
            "install": [],
            "handover": [],
        }
        self._done_index = 0

    # ---- processes ----

    def _node(self, node_id: int) -> SimNode | None:
        return self._cluster.nodes.get(NodeId(node_id))

    def crash(self, node: SimNode, down_us: int) -> None:
        """Kill a process; it comes back after a while."""
        if node.core is None:
            return
        self._cluster.result.crashes += 1
        node.crash()
        self._cluster.note(f"n{node.node_id} crashes")
        self._cluster.scheduler.after(down_us, self.restart, node)

    def restart(self, node: SimNode) -> None:
        if node.core is None and not node.is_dead:
            node.start()

    def do_crash(self, node_id: int, down_us: int) -> None:
        """Kill one."""
        node = self._node(node_id)
        if node is not None:
            self.crash(node, down_us)

    def do_crash_leader(self, down_us: int) -> None:
        """Kill the leader."""
        leader = self._cluster.a_leader()
        if leader is not None:
            self.crash(leader, down_us)

    def do_crash_all(self, down_us: int) -> None:
        """Power off."""
        for node in list(self._cluster.nodes.values()):
            self.crash(node, down_us)

    def _stop(self, node: SimNode | None, stopped_us: int, *, frozen: bool = False) -> None:
        if node is None or node.core is None or node.paused:
            return
        self._cluster.result.pauses += 1
        node.pause()
        self._cluster.scheduler.after(
            stopped_us, self._go_on, node, node.boots, stopped_us if frozen else 0
        )

    def _go_on(self, node: SimNode, boots: int, frozen_us: int) -> None:
        if node.core is not None and node.boots == boots and node.paused:
            self._cluster.note(f"n{node.node_id} goes on")
            node.resume(frozen_us)

    def do_pause(self, node_id: int, stopped_us: int) -> None:
        """SIGSTOP, SIGCONT."""
        self._stop(self._node(node_id), stopped_us)

    def do_pause_leader(self, stopped_us: int) -> None:
        """The same for the leader."""
        self._stop(self._cluster.a_leader(), stopped_us)

    def do_freeze_leader(self, stopped_us: int) -> None:
        """Stop a leader and its clock, as a virtual machine may be: beyond the bound."""
        self._stop(self._cluster.a_leader(), stopped_us, frozen=True)

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
            self._cluster.result.flips += 1
            self.crash(node, 0)

    def do_flip_leader(self) -> None:
        """The same to the leader, or to one that led last."""
        leader = self._cluster.a_leader()
        if leader is not None:
            self.do_flip(leader.node_id)

    def _dead(self) -> list[NodeId]:
        return [n.node_id for n in self._cluster.nodes.values() if n.is_dead or n.disk.is_corrupt]

    def _possible_memberships(self) -> list[Membership]:
        """Return the memberships from the last that a leader told to be done, in any log."""
        memberships = self._cluster.checkers.memberships
        done = max([index for index, _ in memberships if index <= self._done_index])
        found = [membership for index, membership in memberships if index >= done]
        index, _ = memberships[-1]
        for node in self._cluster.nodes.values():
            entries = node.entries if node.core is not None else node.disk.entries
            found += [
                decode_membership(entry.data)
                for entry in entries
                if entry.kind == EntryKind.MEMBERSHIP and entry.index > index
            ]
        return found

    # ---- network ----

    def do_split(self, mask: int) -> None:
        """Cut the group in two: those in the mask, and the others."""
        self._cluster.result.partitions += 1
        self._block(lambda a, b: bool(mask >> (a - 1) & 1) != bool(mask >> (b - 1) & 1))

    def do_isolate(self, node_id: int) -> None:
        """Cut one off."""
        self._cluster.result.partitions += 1
        self._block(lambda a, b: node_id in (a, b))

    def do_isolate_leader(self) -> None:
        """Cut the leader off."""
        leader = self._cluster.a_leader()
        if leader is not None:
            self.do_isolate(leader.node_id)

    def do_depose(self, spread_us: int) -> None:
        """Cut the leader off, and start all the others anew: they may forget that they heard it."""
        leader = self._cluster.a_leader()
        if leader is None:
            return
        self.do_isolate(leader.node_id)
        for node in list(self._cluster.nodes.values()):
            if node is not leader:
                self._cluster.scheduler.after(
                    int(self._chance() * spread_us), self._unless_quiet, self.crash, node, 0
                )

    def do_one_way(self, node_id: int, how: str) -> None:
        """Let a node hear nobody, or be heard by nobody."""
        self._cluster.result.partitions += 1
        self._block(lambda a, b: (b if how == "deaf" else a) == node_id)

    def do_mend(self) -> None:
        """End every partition."""
        self._cluster.network.blocked.clear()

    def _block(self, is_cut: Callable[[NodeId, NodeId], bool]) -> None:
        blocked = self._cluster.network.blocked
        blocked.clear()
        ids = [NodeId(i + 1) for i in range(self._cluster.settings.nodes + 2)]
        for a in ids:
            for b in ids:
                if a != b and is_cut(a, b):
                    blocked[a, b] = True

    # ---- operators ----

    def do_transfer(self, node_id: int) -> None:
        """Ask the leader to hand over."""
        leader = self._cluster.a_leader()
        if leader is not None:
            leader.enter(leader.step, TransferLeadership(NodeId(node_id)))

    def do_compact(self, mask: int) -> None:
        """Let the nodes in the mask store their state and drop what log they can."""
        for node in list(self._cluster.nodes.values()):
            if node.core is not None and not node.paused and mask >> (node.node_id - 1) & 1:
                node.maybe_compact()

    def do_change(self, how: str, a: int, b: int) -> None:
        """Change the membership, if that makes sense now.

        Never to one that dead nodes keep from having a majority.
        """
        leader = self._cluster.a_leader()
        if leader is None or leader.core is None or leader.paused:
            return
        present = leader.core.membership
        spare = [
            i for i in range(1, self._cluster.settings.nodes + 3) if i not in present.members()
        ]
        voters, learners = changed(present, how, a, b, [NodeId(i) for i in spare])
        dead = self._dead()
        if not voters or sum([v in dead for v in voters]) * 2 >= len(voters):
            return
        for node_id in (*voters, *learners):
            if node_id not in self._cluster.nodes:
                self._cluster.make_node(node_id, UNKNOWN_MEMBERSHIP).start()
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
        if self._traps["handover"] and not self._cluster.is_quiet:
            (delay_us,) = self._traps["handover"].pop(0)
            self._cluster.scheduler.after(
                delay_us, self._unless_quiet, self.do_isolate, int(node.node_id)
            )

    def after_vote(self, node: SimNode) -> None:
        """Spring a trap."""
        if self._traps["vote"] and not self._cluster.is_quiet:
            delay_us, down_us = self._traps["vote"].pop(0)
            self._cluster.scheduler.after(delay_us, self._unless_quiet, self.crash, node, down_us)

    def after_election(self, node: SimNode) -> None:
        """Spring a trap."""
        if self._traps["elected"] and not self._cluster.is_quiet:
            how, delay_us, down_us = self._traps["elected"].pop(0)
            if how == "crash":
                self._cluster.scheduler.after(
                    delay_us, self._unless_quiet, self.crash, node, down_us
                )
            else:
                self._cluster.scheduler.after(
                    delay_us, self._unless_quiet, self.do_isolate, int(node.node_id)
                )

    def at_install(self, node: SimNode, stage: str) -> bool:
        """Spring a trap; whether it killed the node."""
        for trap in self._traps["install"]:
            if trap[0] == stage and not self._cluster.is_quiet:
                self._traps["install"].remove(trap)
                self.crash(node, trap[1])
                return True
        return False

    def _unless_quiet(self, fault: Callable[..., None], *args: object) -> None:
        if not self._cluster.is_quiet:
            fault(*args)


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
