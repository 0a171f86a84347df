"""Each piece of a snapshot is taken once, in order and whole; what else comes changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest

from cluster.member.meta_machine import MetaMachine
from cluster.member.snapshot_receiver import SnapshotReceiver
from cluster.plan.codec import encode_plan
from cluster.plan.plans import SetUserPlan
from cluster.raft.membership import Membership
from cluster.raft.types import Entry, EntryKind, GroupId, LogIndex, NodeId, SnapshotMeta, Term
from cluster.rpc.convert_snapshot import (
    SnapshotEnd,
    SnapshotPart,
    SnapshotVerdict,
    pack_records,
)
from iotdb_engine import Engine, Region

GROUP = GroupId(1)
META = SnapshotMeta(LogIndex(20), Term(2), Membership((NodeId(1), NodeId(2))))


class Follower:
    """A member that takes what it is sent, and remembers what it was switched to."""

    term = Term(3)
    wants = True

    def __init__(self) -> None:
        self.regions: list[Region] = []

    def wants_snapshot(self, meta: SnapshotMeta) -> bool:
        return self.wants

    def replacing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def take_over(self, region: Region, meta: SnapshotMeta) -> None:
        self.regions.append(region)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(":memory:") as made:
        yield made


@pytest.fixture
def pieces() -> list[list[tuple[bytes, bytes]]]:
    """Return the records of a region with 20 users, in pieces of some records each."""
    with Engine(":memory:") as leader:
        machine = MetaMachine(leader.region(GROUP))
        for index in range(1, 21):
            payload = encode_plan(SetUserPlan(f"user{index}", "hash"))
            machine.apply(Entry(LogIndex(index), Term(2), EntryKind.PLAN, payload))
        export = leader.export(GROUP)
        found, after = [], b""
        while piece := export.piece(after, 200):
            found.append(piece)
            after = piece[-1][0]
        export.close()
    assert len(found) >= 3
    return found


def part(
    after: bytes = b"",
    records: list[tuple[bytes, bytes]] | None = None,
    *,
    end: SnapshotEnd | None = None,
    is_damaged: bool = False,
    term: int = 3,
) -> SnapshotPart:
    data = b"" if records is None else b"".join(pack_records(records))
    return SnapshotPart(
        GROUP, NodeId(1), NodeId(2), Term(term), "source", META, 7, after, data, end, is_damaged
    )


def end_of(pieces: list[list[tuple[bytes, bytes]]]) -> SnapshotEnd:
    """Return what the leader says of the whole."""
    with Engine(":memory:") as engine:
        receiver = engine.begin_import(GROUP, "reference")
        for piece in pieces:
            receiver.write(piece)
        progress = receiver.progress
        return SnapshotEnd(progress.records, progress.total_bytes, progress.crc)


def test_pieces_that_come_twice_early_or_damaged_are_not_taken(
    engine: Engine, pieces: list[list[tuple[bytes, bytes]]]
) -> None:
    follower = Follower()
    receiver = SnapshotReceiver(follower, engine)
    assert receiver.take(part())[:3] == (SnapshotVerdict.GOING_ON, 3, b"")
    last = b""
    for number, piece in enumerate(pieces):
        broken = [(key, value + b"?") for key, value in piece]
        damaged = receiver.take(part(last, broken, is_damaged=True))
        assert (damaged.verdict, damaged.last_key) == (SnapshotVerdict.DAMAGED, last)
        if number + 1 < len(pieces):  # one before it was lost
            early = receiver.take(part(piece[-1][0], pieces[number + 1]))
            assert (early.verdict, early.last_key) == (SnapshotVerdict.GOING_ON, last)
        assert receiver.take(part(last, piece)).last_key == piece[-1][0]
        again = receiver.take(part(last, piece))  # its answer was lost
        assert (again.verdict, again.last_key) == (SnapshotVerdict.GOING_ON, piece[-1][0])
        last = piece[-1][0]
    end = end_of(pieces)
    early_end = receiver.take(part(b"x", end=end))
    assert (early_end.verdict, follower.regions) == (SnapshotVerdict.GOING_ON, [])
    assert receiver.take(part(last, end=end)).verdict is SnapshotVerdict.INSTALLED
    (region,) = follower.regions
    assert region.applied_index == META.index


def test_the_last_piece_may_bring_the_end(
    engine: Engine, pieces: list[list[tuple[bytes, bytes]]]
) -> None:
    follower = Follower()
    receiver = SnapshotReceiver(follower, engine)
    end = end_of(pieces)
    last = b""
    for piece in pieces[:-1]:
        last = receiver.take(part(last, piece)).last_key
    damaged = receiver.take(part(last, pieces[-1], end=end, is_damaged=True))
    assert (damaged.verdict, damaged.last_key) == (SnapshotVerdict.DAMAGED, last)
    early = receiver.take(part(pieces[-1][0][0], pieces[-1], end=end))
    assert (early.verdict, early.last_key) == (SnapshotVerdict.GOING_ON, last)
    assert receiver.take(part(last, pieces[-1], end=end)).verdict is SnapshotVerdict.INSTALLED
    (region,) = follower.regions
    assert region.applied_index == META.index


def test_a_sum_that_differs_at_the_end_installs_nothing(
    engine: Engine, pieces: list[list[tuple[bytes, bytes]]]
) -> None:
    follower = Follower()
    receiver = SnapshotReceiver(follower, engine)
    last = b""
    for piece in pieces:
        last = receiver.take(part(last, piece)).last_key
    right = end_of(pieces)
    answer = receiver.take(part(last, end=right._replace(crc=right.crc ^ 1)))
    assert (answer.verdict, answer.last_key) == (SnapshotVerdict.DAMAGED, b"")
    assert follower.regions == []


def test_whose_turn_it_is_not_is_told_so(
    engine: Engine, pieces: list[list[tuple[bytes, bytes]]]
) -> None:
    follower = Follower()
    receiver = SnapshotReceiver(follower, engine)

    assert receiver.take(part(term=2)).verdict is SnapshotVerdict.STALE_TERM
    assert receiver.take(part(term=4)).verdict is SnapshotVerdict.BUSY
    assert receiver.take(part(b"", pieces[0])).last_key == pieces[0][-1][0]
    follower.wants = False
    given_up = receiver.take(part(pieces[0][-1][0], pieces[1]))
    assert (given_up.verdict, given_up.last_key) == (SnapshotVerdict.NOT_NEEDED, b"")
    follower.wants = True
    assert receiver.take(part(b"", pieces[0])).last_key == pieces[0][-1][0]
    another = receiver.take(part()._replace(source="another"))  # of another leader, say
    assert (another.verdict, another.last_key) == (SnapshotVerdict.GOING_ON, b"")
