"""Snapshots on their way between simulated nodes: checksummed pieces, one at a time, resumable.

A stand-in for the product's stream: what matters here is when it is cut, and what is left then.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from cluster.raft.effects import SendSnapshot
from cluster.raft.events import SnapshotFailed, SnapshotSent
from cluster.raft.types import NodeId, SnapshotMeta, Term
from harness.sim.states import PIECES

if TYPE_CHECKING:
    from harness.sim.node import SimNode

_RETRY_US = 60_000
_TRIES = 4


class Piece(NamedTuple):
    """Part `number` of a snapshot."""

    frm: NodeId
    to: NodeId
    term: Term
    meta: SnapshotMeta
    number: int
    data: bytes
    crc: int
    source: str


class PieceAnswer(NamedTuple):
    """What the receiver wants next; PIECES: nothing, it is `done` with it."""

    frm: NodeId
    to: NodeId
    term: Term
    meta: SnapshotMeta
    wanted: int
    done: bool


class Sender:
    """Streams one ordered snapshot; lives and dies with its node's incarnation."""

    def __init__(self, node: SimNode, order: SendSnapshot) -> None:
        self._node = node
        self._order = order
        # a copy: the state goes on, the snapshot doesn't
        self.meta = node.core_meta(node.machine.index)
        self._source, self._pieces = node.disk.states.pieces(node.machine, self.meta)
        self._wanted = 0
        self._tries = 0
        self.is_over = False

    def send(self) -> None:
        """Send the wanted piece, and again if nothing comes back; give up after some tries."""
        if self.is_over:
            return
        if self._tries == _TRIES:
            self.is_over = True
            self._node.step(SnapshotFailed(self._order.to, self._order.term))
            return
        self._tries += 1
        node = self._node
        data = self._pieces[self._wanted]
        node.cluster.network.send(
            Piece(
                node.node_id,
                self._order.to,
                self._order.term,
                self.meta,
                self._wanted,
                node.cluster.maybe_flip(data),
                zlib.crc32(data),
                self._source,
            )
        )
        node.after(_RETRY_US, self._again, self._wanted, self._tries)

    def _again(self, wanted: int, tries: int) -> None:
        if (self._wanted, self._tries) == (wanted, tries):
            self.send()

    def on_answer(self, answer: PieceAnswer) -> None:
        """Go on, or report success."""
        if self.is_over or answer.meta != self.meta or answer.term != self._order.term:
            return
        if answer.done:
            self.is_over = True
            self._node.step(SnapshotSent(self._order.to, self._order.term, self.meta.index))
        elif answer.wanted > self._wanted:
            self._wanted = min(answer.wanted, PIECES - 1)
            self._tries = 0
            self.send()


class Receiver:
    """Collects the pieces of one snapshot at a time; what it has survives a new stream of the same
    snapshot, and a crash only once it is whole (staged)."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._meta: SnapshotMeta | None = None
        self._source = ""
        self._pieces: list[bytes] = []

    def on_piece(self, piece: Piece) -> None:
        """Take a piece if it is the next and whole; install when it was the last."""
        node = self._node
        if not node.wants(piece.meta):
            self._answer(piece, PIECES, done=not node.is_installing)
            return
        if (self._meta, self._source) != (piece.meta, piece.source):
            self._meta, self._source = piece.meta, piece.source
            self._pieces = []
        if piece.number == len(self._pieces) < PIECES and node.cluster.accepts(piece):
            self._pieces.append(piece.data)
        if len(self._pieces) == PIECES:
            node.install(piece, node.disk.states.stage(self._pieces, piece))
            self._meta = None
        else:
            self._answer(piece, len(self._pieces), done=False)

    def _answer(self, piece: Piece, wanted: int, *, done: bool) -> None:
        self._node.cluster.network.send(
            PieceAnswer(self._node.node_id, piece.frm, piece.term, piece.meta, wanted, done)
        )

    def installed(self, piece: Piece) -> None:
        """Tell the sender."""
        self._answer(piece, PIECES, done=True)


def is_whole(piece: Piece) -> bool:
    """Whether the checksum holds; a mutation replaces this."""
    return zlib.crc32(piece.data) == piece.crc
