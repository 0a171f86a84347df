"""Few snapshots are sent at once, the rest wait, and none is forgotten."""

from __future__ import annotations

import random

from cluster.member.snapshot_turns import SnapshotTurns
from cluster.raft.types import NodeId

A, B, C = NodeId(1), NodeId(2), NodeId(3)


class Senders:
    """Those whose turn it is, in the order in which they began."""

    def __init__(self, turns: SnapshotTurns) -> None:
        self.turns = turns
        self.running: list[tuple[NodeId, int]] = []
        self.begun: list[tuple[NodeId, int]] = []
        self.no_room = False
        self.cancelled: set[tuple[NodeId, int]] = set()

    def ask(self, peer: NodeId, number: int) -> None:
        def begin() -> bool:
            if self.no_room:
                raise RuntimeError("can't start new thread")
            if (peer, number) in self.cancelled:
                return False
            self.running.append((peer, number))
            self.begun.append((peer, number))
            return True

        self.turns.ask(peer, begin)

    def end(self, which: tuple[NodeId, int]) -> None:
        self.running.remove(which)
        self.turns.end(which[0])


def test_a_node_that_hangs_does_not_take_all_turns() -> None:
    senders = Senders(SnapshotTurns(most=4, most_to_one=2))
    for number in range(3):
        senders.ask(A, number)
    assert senders.running == [(A, 0), (A, 1)]
    for number in range(3):
        senders.ask(B, number)
    senders.ask(C, 0)
    assert senders.running == [(A, 0), (A, 1), (B, 0), (B, 1)]
    assert senders.turns.waiting == 3
    senders.end((B, 0))  # A's third is older, but A has its share
    assert senders.running == [(A, 0), (A, 1), (B, 1), (B, 2)]
    senders.end((B, 1))
    assert senders.running == [(A, 0), (A, 1), (B, 2), (C, 0)]
    senders.end((A, 1))
    assert senders.running == [(A, 0), (B, 2), (C, 0), (A, 2)]
    assert senders.turns.waiting == 0


def test_whoever_was_cancelled_meanwhile_takes_no_turn() -> None:
    senders = Senders(SnapshotTurns(most=1, most_to_one=1))
    for number in range(4):
        senders.ask(A, number)
    senders.cancelled = {(A, 1), (A, 2)}
    senders.end((A, 0))
    assert senders.running == [(A, 3)]


def test_without_room_for_a_thread_it_begins_later() -> None:
    senders = Senders(SnapshotTurns(most=1, most_to_one=1))
    senders.no_room = True
    senders.ask(A, 0)
    senders.ask(B, 0)
    assert (senders.running, senders.turns.waiting) == ([], 2)
    senders.no_room = False
    senders.turns.look()
    assert (senders.running, senders.turns.waiting) == ([(A, 0)], 1)


def test_all_have_their_turn_whatever_the_order() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        senders = Senders(SnapshotTurns(most=3, most_to_one=2))
        asked = [(rng.choice((A, B, C)), number) for number in range(30)]
        left = list(asked)
        while left or senders.running:
            if left and rng.random() < 0.5:
                senders.ask(*left.pop(0))
            elif senders.running:
                senders.end(rng.choice(senders.running))
            assert len(senders.running) <= 3
            peers = [peer for peer, _ in senders.running]
            assert all(peers.count(peer) <= 2 for peer in peers)
        assert sorted(senders.begun) == sorted(asked)
        for peer in (A, B, C):  # and in the order in which it was asked for
            assert [s for s in senders.begun if s[0] == peer] == [s for s in asked if s[0] == peer]
