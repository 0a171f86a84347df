"""Linearizable reads without writing to the log (thesis 6.4).

Problem: a leader that was replaced without knowing would serve old state. Writing an entry per
read is right, but costs a disk write. Idea: note the commit index, then let a majority confirm,
after that moment, that this leader's term is still theirs. Reads that come while a confirmation
is under way can't use it (it may have been confirmed before they were issued): they share the
next one.
"""

from __future__ import annotations

from cluster.raft.effects import ReadReady
from cluster.raft.types import LogIndex, NodeId


class ReadRounds:
    """Reads of one leadership, in rounds.

    A round is named by the number of the first heartbeat that is sent after it began. The number
    can't be mistaken for one of an earlier leadership: answers carry the term, and a node leads
    a term at most once.
    """

    __slots__ = ("_acks", "_context", "_index", "_round", "_waiting")

    def __init__(self) -> None:
        self._context = 0
        self._index = LogIndex(0)
        self._round: list[int] = []
        self._waiting: list[int] = []
        self._acks: dict[NodeId, bool] = {}

    @property
    def is_round_open(self) -> bool:
        """Whether a round is under way."""
        return bool(self._round)

    @property
    def has_waiting(self) -> bool:
        """Whether reads wait for the next round."""
        return bool(self._waiting)

    @property
    def acks(self) -> dict[NodeId, bool]:
        """Who has confirmed the open round."""
        return self._acks

    def add(self, read_id: int) -> None:
        """Let a read wait for the next round."""
        self._waiting.append(read_id)

    def open_round(self, own_id: NodeId, commit: LogIndex, context: int) -> None:
        """Start a round for all that wait.

        Args:
            own_id: confirms at once.
            commit: what they will read at.
            context: number of the next heartbeat.
        """
        assert not self._round
        assert self._waiting
        self._context = context
        self._round, self._waiting = self._waiting, []
        self._index = commit
        self._acks = {own_id: True}

    def ack(self, node_id: NodeId, context: int) -> bool:
        """Take a confirmation; returns whether it concerns the open round."""
        if not self._round or context < self._context:
            return False
        self._acks[node_id] = True
        return True

    def close_round(self) -> list[ReadReady]:
        """End the open round as confirmed."""
        ready = [ReadReady(read_id, self._index) for read_id in self._round]
        self._round = []
        return ready

    def drain(self) -> list[int]:
        """Return and forget every read: leadership is gone."""
        ids = self._round + self._waiting
        self._round = []
        self._waiting = []
        return ids
