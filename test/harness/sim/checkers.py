"""What must hold in a Raft group, checked from outside after every step.

The checkers see effects, disks and messages, never the inside of a core, and they are slow and dumb
on purpose.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NoReturn

from cluster.raft.messages import Message, VoteResponse
from cluster.raft.types import Entry, EntryKind, LogIndex, NodeId, Role

if TYPE_CHECKING:
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
        chain: chain[i] is the hash of the first i committed entries.
    """

    def __init__(self, nodes: dict[NodeId, SimNode]) -> None:
        self.nodes = nodes
        self.committed: list[Entry] = []
        self.chain: list[int] = [0]
        self.acked: dict[bytes, LogIndex] = {}
        self._entries: dict[tuple[int, int], tuple[int, EntryKind, bytes]] = {}
        self._leaders: dict[int, tuple[NodeId, int]] = {}
        self._votes: dict[tuple[NodeId, int], NodeId] = {}
        self._reads: dict[tuple[NodeId, int, int], int] = {}
        self.elections = 0
        self.reads_served = 0

    def on_start(self, node: SimNode) -> None:
        """What a sole voter had not made durable was seen by nobody, and never happened."""
        if len(self.nodes) == 1:
            last = node.disk.last_index
            self._entries = {key: e for key, e in self._entries.items() if key[0] <= last}

    # ---- elections ----

    def on_leader(self, node: SimNode, term: int) -> None:
        """One leader a term; a leader has everything that is committed."""
        self.elections += 1
        # A sole voter leads before its term is durable, and may lead that term again after a
        # crash; nobody else has seen anything of it.
        mine = (node.node_id, node.boots if len(self.nodes) > 1 else 0)
        known = self._leaders.setdefault(term, mine)
        if known != mine:
            self._fail("one leader a term", f"term {term}: {known} and {mine}")
        if self.committed:
            last = self.committed[-1]
            if node.term_at(last.index) != last.term:
                self._fail(
                    "leader completeness",
                    f"node {node.node_id} leads term {term} without committed entry "
                    f"{last.index} of term {last.term}",
                )

    def on_sent(self, node: SimNode, message: Message) -> None:
        """One vote a term, ever, and durable when it leaves."""
        if not isinstance(message, VoteResponse) or message.pre or not message.granted:
            return
        key = (node.node_id, int(message.term))
        if self._votes.setdefault(key, message.to) != message.to:
            self._fail("one vote a term", f"{key} voted {self._votes[key]} and {message.to}")
        durable = node.disk.hard_state
        if durable.term < message.term or (
            durable.term == message.term and durable.vote != message.to
        ):
            self._fail("durable votes", f"vote {message} leaves, on disk is {durable}")

    # ---- logs ----

    def on_append(self, node: SimNode, entry: Entry) -> None:
        """Log matching: an (index, term) names one entry, with one predecessor."""
        prev_term = node.term_at(entry.index - 1)
        assert prev_term is not None
        mine = (prev_term, entry.kind, entry.data)
        known = self._entries.setdefault((entry.index, entry.term), mine)
        if known != mine:
            self._fail("log matching", f"entry {entry.index}/{entry.term}: {known} and {mine}")

    def on_truncate(self, node: SimNode, index: int) -> None:
        """Nobody drops an entry that is committed."""
        if index <= len(self.committed):
            entry = self.committed[index - 1]
            if node.term_at(index) == entry.term:
                self._fail("committed entries stay", f"node {node.node_id} drops {entry}")

    def on_commit(self, node: SimNode, old: int, new: int) -> None:
        """Committed entries never differ, and are durable on a majority and on the node itself."""
        if node.disk.term_of(new) != node.term_at(new):
            self._fail("durable before applied", f"node {node.node_id} may apply up to {new}")
        for index in range(old + 1, new + 1):
            entry = node.entry_at(index)
            if index <= len(self.committed):
                if self.committed[index - 1] != entry:
                    self._fail(
                        "state machine safety",
                        f"node {node.node_id} commits {entry}, others have "
                        f"{self.committed[index - 1]}",
                    )
                continue
            holders = [
                other.node_id
                for other in self.nodes.values()
                if other.disk.term_of(index) == entry.term
            ]
            if len(holders) * 2 <= len(self.nodes):
                self._fail("durable commits", f"{entry} is committed, but only on {holders}")
            self.committed.append(entry)
            self.chain.append(next_hash(self.chain[-1], entry))

    def on_applied(self, node: SimNode, index: int, state: int) -> None:
        """Applied histories are prefixes of one another."""
        if index > len(self.committed) or self.chain[index] != state:
            self._fail("applied prefix", f"node {node.node_id} differs at {index}")

    def on_compact_to(self, node: SimNode, index: int) -> None:
        """What may be compacted is durable everywhere."""
        for other in self.nodes.values():
            if other.disk.last_index < index:
                self._fail(
                    "compaction", f"node {node.node_id}: {index}, but {other.node_id} lacks it"
                )

    # ---- clients ----

    def on_acknowledged(self, payload: bytes, index: LogIndex) -> None:
        """A client was told that its write is done."""
        self.acked[payload] = index

    def on_read_issued(self, node: SimNode, read_id: int) -> None:
        """Remember what the group had committed when the read began."""
        self._reads[node.node_id, node.boots, read_id] = len(self.committed)

    def on_read_ready(self, node: SimNode, read_id: int, index: int) -> None:
        """A read sees everything that was committed before it began."""
        self.reads_served += 1
        floor = self._reads.pop((node.node_id, node.boots, read_id))
        if index < floor:
            self._fail(
                "linearizable reads",
                f"node {node.node_id} serves a read at {index}; {floor} was committed before it",
            )

    def at_end(self) -> None:
        """Every acknowledged write is in the history; every node has applied the same."""
        for payload, index in self.acked.items():
            if self.committed[index - 1].data != payload:
                self._fail("acknowledged writes stay", f"{payload!r} at {index}")
        for node in self.nodes.values():
            self.on_applied(node, node.machine_index, node.machine_hash)

    def on_role(self, node: SimNode, role: Role, term: int) -> None:
        """Dispatch a change of role."""
        if role is Role.LEADER:
            self.on_leader(node, term)

    def _fail(self, rule: str, what: str) -> NoReturn:
        raise SimViolation(rule, what)


def next_hash(state: int, entry: Entry) -> int:
    """Return the state-machine hash after applying `entry`."""
    return zlib.crc32(b"%d %d %d " % (entry.index, entry.term, entry.kind) + entry.data, state)
