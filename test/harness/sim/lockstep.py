"""A few cores, driven by hand: for tests of single rules.

Disks are instant unless a node's `hold_disk` is set; messages wait in `inbox` until delivered.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from cluster.raft.core import RaftCore
from cluster.raft.effects import Effects, SendAppend, SendSnapshot
from cluster.raft.events import (
    Applied,
    Event,
    Persisted,
    Propose,
    Received,
    Tick,
)
from cluster.raft.membership import decode_membership
from cluster.raft.messages import AppendRequest, Message
from cluster.raft.types import (
    Entry,
    EntryKind,
    EntryMeta,
    HardState,
    LogIndex,
    Membership,
    NodeId,
    RaftConfig,
    Role,
    SnapshotMeta,
    Term,
)


class Peer:
    """One core with a log in memory and a disk that may be held back.

    Attributes:
        entries: the log behind `base`.
        snapshots: orders for snapshots, as they came.
    """

    def __init__(
        self,
        node_id: int,
        membership: Membership,
        *,
        terms: Sequence[int] = (),
        term: int = 0,
        vote: int = 0,
        applied: int = 0,
        config: RaftConfig | None = None,
        base: SnapshotMeta | None = None,
        entries: Sequence[Entry] = (),
    ) -> None:
        self.base = base or SnapshotMeta(LogIndex(0), Term(0), membership)
        self.entries = list(entries) or [
            Entry(LogIndex(i), Term(t), EntryKind.PLAN, b"%d/%d" % (i, t))
            for i, t in enumerate(terms, self.base.index + 1)
        ]
        terms = [self.base.term, *(entry.term for entry in self.entries)]
        self.core = RaftCore(
            config or RaftConfig(NodeId(node_id), heartbeat_ticks=1, election_ticks=10),
            self.base,
            HardState(Term(max([term, *terms])), NodeId(vote)),
            [meta_of(e) for e in self.entries],
            LogIndex(applied or self.base.index),
            random.Random(node_id),
        )
        self.hold_disk = False
        self.hold_apply = False
        self.sent: list[Message] = []
        self.snapshots: list[SendSnapshot] = []
        self.last = Effects()
        self.told = applied
        self._writes: list[tuple[tuple[LogIndex, Term] | None, list[Message]]] = []

    def step(self, event: Event) -> Effects:
        """Step, and do what is asked; messages end in `sent`."""
        fx = self.last = self.core.step(event)
        if fx.persist is not None:
            if fx.persist.snapshot is not None:
                self.base = fx.persist.snapshot
                self.entries.clear()
            if fx.persist.truncate_from:
                del self.entries[fx.persist.truncate_from - self.base.index - 1 :]
            self.entries.extend(fx.persist.entries)
            last = fx.persist.entries[-1] if fx.persist.entries else fx.persist.snapshot
            last = None if last is None else (last.index, last.term)
            self._writes.append((last, list(fx.send_after_persist)))
        elif fx.send_after_persist:
            self._writes.append((None, list(fx.send_after_persist)))
        self.sent.extend(fx.send)
        self.sent.extend(self._request(order) for order in fx.appends)
        self.snapshots.extend(fx.snapshots)
        if fx.commit is not None:
            self.told = fx.commit
            if not self.hold_apply:
                self.step(Applied(fx.commit))
        if not self.hold_disk:
            self.sync()
        return fx

    def sync(self) -> None:
        """Make durable what is held."""
        while self._writes:
            last, messages = self._writes.pop(0)
            self.sent.extend(messages)
            if last is not None:
                self.step(Persisted(*last))

    def compact(self, up_to: int) -> None:
        """Drop the log up to there, as a shell does."""
        self.base = self.core.snapshot_meta(LogIndex(up_to))
        self.core.compact(LogIndex(up_to))
        self.entries = [entry for entry in self.entries if entry.index > up_to]

    def terms(self) -> list[int]:
        """Terms of the log in memory."""
        return [int(e.term) for e in self.entries]

    def _request(self, order: SendAppend) -> AppendRequest:
        return AppendRequest(
            self.core.node_id,
            order.to,
            order.term,
            order.prev_index,
            order.prev_term,
            tuple(e for e in self.entries if order.lo <= e.index < order.hi),
            order.commit,
            order.compact_to,
        )


def meta_of(entry: Entry) -> EntryMeta:
    """Return what a log tells the core of an entry at a start."""
    is_membership = entry.kind == EntryKind.MEMBERSHIP
    membership = decode_membership(entry.data) if is_membership else None
    return EntryMeta(entry.index, entry.term, len(entry.data), membership)


class Lockstep:
    """Several peers and the messages between them."""

    def __init__(self, *peers: Peer) -> None:
        self.peers = {peer.core.node_id: peer for peer in peers}
        self.down: list[NodeId] = []

    def __getitem__(self, node_id: int) -> Peer:
        return self.peers[NodeId(node_id)]

    def deliver(self, change: Callable[[Message], Message | None] = lambda message: message) -> int:
        """Deliver until nothing is on its way; returns how many messages were delivered.

        What `change` turns into None, or goes to or comes from one who is down, is lost.
        """
        count = 0
        while True:
            batch: list[Message] = []
            for peer in self.peers.values():
                batch.extend(peer.sent)
                peer.sent = []
            if not batch:
                return count
            for message in batch:
                changed = change(message)
                if changed is None or message.to in self.down or message.frm in self.down:
                    continue
                self.peers[message.to].step(Received(changed))
                count += 1

    def forget_leader(self) -> None:
        """Let those who are up and don't lead hear nothing for an election time."""
        for node_id, peer in self.peers.items():
            if node_id not in self.down and peer.core.role is not Role.LEADER:
                for _ in range(10):
                    peer.step(Tick())
                peer.sent.clear()

    def tick(self, *node_ids: int, times: int = 1) -> None:
        """Tick the given nodes (default all that are up) and deliver after each round."""
        for _ in range(times):
            for node_id in node_ids or [n for n in self.peers if n not in self.down]:
                self[node_id].step(Tick())
            self.deliver()

    def elect(self, node_id: int) -> Peer:
        """Let a node's time-out pass until it leads."""
        peer = self[node_id]
        for _ in range(200):
            peer.step(Tick())
            self.deliver()
            if peer.core.role is Role.LEADER:
                return peer
        raise AssertionError(f"node {node_id} was not elected: {peer.core.status()}")

    def propose(self, node_id: int, *payloads: bytes) -> Effects:
        """Propose and deliver."""
        effects = self[node_id].step(Propose(payloads))
        self.deliver()
        return effects


def group(size: int = 3, **config: int) -> Lockstep:
    """Return a group of empty nodes 1..size."""
    ids = tuple(NodeId(i + 1) for i in range(size))
    return Lockstep(
        *(
            Peer(
                i,
                Membership(ids),
                config=RaftConfig(i, **{"heartbeat_ticks": 1, "election_ticks": 10, **config}),
            )
            for i in ids
        )
    )
