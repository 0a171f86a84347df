"""What must hold in a Raft group, checked from outside after every step.

The checkers see effects, disks, messages and answers, never the inside of a core, and they are slow
and dumb on purpose. Their one piece of state is the group's history, as nodes report it committed.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from cluster.raft.membership import decode_membership
from cluster.raft.messages import VoteResponse
from cluster.raft.types import Entry, EntryKind, LogIndex, Membership, NodeId, Role, SnapshotMeta
from harness.sim.machine import Request
from harness.sim.states import Kind

if TYPE_CHECKING:
    from harness.sim.clients import Op
    from harness.sim.node import SimNode


class SimViolation(AssertionError):
    """A rule is broken; `rule` names it."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


class Checkers:
    """The rules, over the whole history of a group.

    Attributes:
        committed: entry i of the group's one true history is committed[i - 1]; grows as nodes
            report commits, and is the reference for everything else.
        digests: digests[i] is the digest of the first i committed entries.
        memberships: (index, membership) of those committed, the founding first.
    """

    def __init__(self, nodes: dict[NodeId, SimNode], founding: Membership, kind: Kind) -> None:
        self.nodes = nodes
        self.kind = kind
        self._reference = kind.reference()
        self.committed: list[Entry] = []
        self.digests: list[int] = [0]
        self.memberships: list[tuple[int, Membership]] = [(0, founding)]
        self.elections = 0
        self.reads = 0
        self.written = 0
        self.snapshots = 0
        self._entries: dict[tuple[int, int], tuple[int, EntryKind, bytes]] = {}
        # in which term the entry was committed, by the first node that said so; they never fall
        self._commit_terms: list[int] = []
        self._leaders: dict[int, tuple[NodeId, int]] = {}
        self._votes: dict[tuple[NodeId, int], NodeId] = {}
        # the reference state machine: by key, at which index it took which value; by request, where
        # it took effect
        self._values: dict[int, tuple[list[int], list[int]]] = {}
        self._effects: dict[tuple[int, int], int] = {}
        self._newest: dict[int, int] = {}

    # ---- elections ----

    def on_role(self, node: SimNode, role: Role, term: int) -> None:
        """One leader a term; a leader has everything that earlier terms have committed.

        A leader of an old term may be elected late, when a newer one has committed more.
        """
        if role is not Role.LEADER:
            return
        self.elections += 1
        # A sole voter leads before its term is durable, and may lead that term again after a
        # crash; nobody else has seen anything of it.
        assert node.core is not None
        is_alone = node.core.membership.voters == (node.node_id,)
        mine = (node.node_id, 0 if is_alone else node.boots)
        known = self._leaders.setdefault(term, mine)
        if known != mine:
            self._fail("one leader a term", f"term {term}: {known} and {mine}")
        # Not by the terms of the entries: those of an old leader may be committed by a newer one.
        at = bisect_left(self._commit_terms, term)
        if at:
            last = self.committed[at - 1]
            if last.index > node.base_index and node.term_at(last.index) != last.term:
                self._fail(
                    "leader completeness",
                    f"node {node.node_id} leads term {term} without committed entry "
                    f"{last.index} of term {last.term}",
                )

    def on_vote(self, node: SimNode, vote: VoteResponse) -> None:
        """One vote a term, ever, and durable when it leaves."""
        if vote.pre or not vote.granted:
            return
        key = (node.node_id, int(vote.term))
        if self._votes.setdefault(key, vote.to) != vote.to:
            self._fail("one vote a term", f"{key} voted {self._votes[key]} and {vote.to}")
        durable = node.disk.hard_state
        if durable.term < vote.term or (durable.term == vote.term and durable.vote != vote.to):
            self._fail("durable votes", f"vote {vote} leaves, on disk is {durable}")

    # ---- logs ----

    def on_entries(self, prev_term: int, entries: Iterable[Entry]) -> None:
        """Log matching: an (index, term) names one entry, with one predecessor.

        Seen when they leave a leader: what it appends and loses in a crash before anybody has
        it has never been.
        """
        for entry in entries:
            mine = (prev_term, entry.kind, entry.data)
            known = self._entries.setdefault((entry.index, entry.term), mine)
            if known != mine:
                self._fail("log matching", f"entry {entry.index}/{entry.term}: {known} and {mine}")
            prev_term = entry.term

    def on_truncate(self, node: SimNode, index: int) -> None:
        """Nobody drops an entry that is committed."""
        if index <= len(self.committed):
            entry = self.committed[index - 1]
            if node.term_at(index) == entry.term:
                self._fail("committed entries stay", f"node {node.node_id} drops {entry}")

    def on_restart_log(self, node: SimNode, meta: SnapshotMeta) -> None:
        """Nor when a snapshot replaces the log."""
        for index in range(meta.index + 1, node.base_index + len(node.entries) + 1):
            self.on_truncate(node, index)

    def on_commit(self, node: SimNode, old: int, new: int) -> None:
        """Committed entries never differ, and are durable on a majority and on the node itself."""
        term = node.term_at(new)
        assert term is not None
        if not node.disk.has(new, term):
            self._fail("durable before applied", f"node {node.node_id} may apply up to {new}")
        committed = self.committed
        for index in range(old + 1, new + 1):
            entry = node.entry_at(index)
            if index <= len(committed):
                if committed[index - 1] != entry:
                    self._fail(
                        "state machine safety",
                        f"node {node.node_id} commits {entry}, others have {committed[index - 1]}",
                    )
            else:
                self._check_durable(entry)
                self._commit(entry)
                assert node.core is not None
                self._commit_terms.append(max([*self._commit_terms[-1:], int(node.core.term)]))

    def _check_durable(self, entry: Entry) -> None:
        """A majority has it, of the voters of the newest membership or of the one before it.

        Which of them is in force at the leader depends on what it has applied.
        """
        holders = {n.node_id: True for n in self.nodes.values() if n.disk.has(*entry[:2])}
        for _, membership in self.memberships[-2:]:
            if all(
                sum([voter in holders for voter in voters]) * 2 > len(voters)
                for voters in (membership.voters, membership.outgoing)
                if voters
            ):
                return
        self._fail("durable commits", f"{entry} is committed, but only on {list(holders)}")

    def _commit(self, entry: Entry) -> None:
        """Add to the history, and apply to the reference, which remembers every request."""
        self.committed.append(entry)
        digest = b"%d %d %d " % (entry.index, entry.term, entry.kind) + entry.data
        self.digests.append(zlib.crc32(digest, self.digests[-1]))
        if entry.kind == EntryKind.MEMBERSHIP:
            self.memberships.append((entry.index, decode_membership(entry.data)))
        elif entry.kind == EntryKind.PLAN:
            request = self.kind.decode(entry.data)
            name = (request.client, request.seq)
            # a request takes effect at its first copy, unless its client has gone on meanwhile
            if name not in self._effects and request.seq > self._newest.get(request.client, 0):
                self._newest[request.client] = request.seq
                self._effects[name] = entry.index
                for key, value in self._reference.apply(request).items():
                    indices, values = self._values.setdefault(key, ([0], [0]))
                    indices.append(entry.index)
                    values.append(value)

    # ---- states ----

    def on_applied(self, node: SimNode) -> None:
        """States are those of the one history; also after snapshots, and after restarts."""
        machine = node.machine
        index = machine.index
        if index > len(self.committed) or self.digests[index] != machine.digest:
            self._fail("applied states equal", f"node {node.node_id} differs at {index}")
        for key in sorted({*machine.state, *self._values}):
            expected = self._value_at(key, index)
            if machine.state.get(key, 0) != expected:
                self._fail(
                    "requests applied once",
                    f"node {node.node_id} at {index}: key {key} is {machine.state.get(key)}, "
                    f"{expected} writes were asked for",
                )

    def on_installed(self, node: SimNode, meta: SnapshotMeta) -> None:
        """A snapshot says truly what it is."""
        self.snapshots += 1
        if node.machine.index != meta.index or self.committed[meta.index - 1].term != meta.term:
            self._fail("applied states equal", f"node {node.node_id} installed {meta}")
        if self._membership_at(meta.index) != meta.membership:
            self._fail("memberships equal", f"node {node.node_id} installed {meta}")
        self.on_applied(node)

    def on_membership(self, node: SimNode, membership: Membership) -> None:
        """The membership in force is the one that the applied history says."""
        assert node.core is not None
        expected = self._membership_at(node.core.applied)
        if membership != expected:
            self._fail(
                "memberships equal", f"node {node.node_id} goes by {membership}, not by {expected}"
            )

    def _membership_at(self, index: int) -> Membership:
        position = bisect_right(self.memberships, index, key=lambda item: item[0]) - 1
        return self.memberships[position][1]

    def _value_at(self, key: int, index: int) -> int:
        known = self._values.get(key)
        if known is None:
            return 0
        indices, values = known
        return values[bisect_right(indices, index) - 1]

    # ---- clients ----

    def on_written(self, op: Op, request: Request, index: LogIndex) -> None:
        """An acknowledged write is in the history, behind all that was committed before it."""
        self.written += 1
        if index > len(self.committed) or self.committed[index - 1].data != self.kind.encode(
            request
        ):
            self._fail("acknowledged writes stay", f"{request} at {index}")
        effect = self._effects.get((request.client, request.seq))
        if effect is None or not op.floor < effect <= index:
            self._fail("requests applied once", f"{request} took effect at {effect}")

    def on_read_index(self, node: SimNode, op: Op, index: int) -> None:
        """A strong read sees everything that was committed before it was issued."""
        if index < op.floor:
            self._fail(
                "linearizable reads",
                f"node {node.node_id} serves a read at {index}; {op.floor} was committed before it",
            )

    def on_read(self, node: SimNode, op: Op, value: int) -> None:
        """A read returns what the history has at some index: a strong one not before its issue."""
        self.reads += 1
        key, _, level = op.args
        index = node.machine.index
        if level != "weak" and index < op.floor:
            self._fail("linearizable reads", f"read at {index}, {op.floor} was committed before it")
        if value != self._value_at(key, index):
            self._fail("reads see the history", f"node {node.node_id}, key {key} at {index}")

    def at_end(self) -> None:
        """Every node that lives has applied what it has as all others have."""
        for node in self.nodes.values():
            if node.core is not None:
                self.on_applied(node)
                problem = ""
                if node.machine.index == len(self.committed):
                    problem = self._reference.check(node.machine)
                if problem:
                    self._fail("applied states equal", f"node {node.node_id}: {problem}")

    def _fail(self, rule: str, what: str) -> NoReturn:
        raise SimViolation(rule, what)
