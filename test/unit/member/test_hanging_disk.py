"""A leader whose own disk hangs has another node lead, where the others can go on without it."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.errors import ClusterError, NotLeader, OutcomeUnknown, Unavailable
from cluster.member import disk_watch
from cluster.member.disk_watch import DiskWatch
from cluster.member.operations import give_way, transfer_leadership
from cluster.raft.effects import Effects, Persist
from cluster.raft.events import TransferLeadership
from cluster.raft.types import NO_INDEX, GroupId
from cluster.rpc.deadline import Deadline
from harness.group_cluster import GroupCluster, GroupNode, insert, wait_until
from harness.raft_log import make_entry

SOON_S = 10.0
LOOKS = 15
"""So many looks at the disk are longer than an election time-out of the group here."""


class Writer:
    """Puts one plan on a node in a thread; `error` is what came of it."""

    def __init__(self, node: GroupNode, lo: int, hi: int) -> None:
        self.error: BaseException | None = None
        self._node, self._plan = node, insert(lo, hi)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._node.put(self._plan)
        except ClusterError as error:
            self.error = error

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()


def others(group: GroupCluster, node: GroupNode) -> list[GroupNode]:
    return [other for other in group.nodes.values() if other is not node]


def wait_for_other(group: GroupCluster, old: GroupNode) -> GroupNode:
    found: list[GroupNode] = []

    def look() -> bool:
        found[:] = [node for node in others(group, old) if node.member.is_leader]
        return bool(found) and not old.member.is_leader

    wait_until(look, SOON_S)
    return found[0]


def test_another_node_leads_while_the_leaders_disk_hangs(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, gives_way=True) as group:
        old = group.leader()
        old.put(insert(0, 10))
        old.disk.hold()
        writer = Writer(old, 10, 20)
        assert old.disk.waiting.wait(SOON_S)
        waiting = Writer(old, 20, 30)  # behind the write under way
        new = wait_for_other(group, old)
        new.put(insert(30, 40))
        assert old.disk.waiting.is_set(), "its disk hangs still"
        # who waited behind the write is told at once, and may ask the new leader
        wait_until(lambda: waiting.has_ended, SOON_S)
        assert isinstance(waiting.error, (NotLeader, OutcomeUnknown))
        wait_until(lambda: old.member.leader == new.node_id, SOON_S)
        old.disk.release()
        writer.join()
        new.put(insert(40, 50))
        group.wait_applied(new.member.applied_index)
        assert len({digest.root for digest in group.digests()}) == 1
        assert old.count() in (40, 50)  # 20 to 30 were appended, or refused
        assert not [failure for node in group.nodes.values() for failure in node.failures]


class OtherGroup:
    """A write of a group that nobody else is in, which hangs until the disk is released."""

    def __init__(self, node: GroupNode) -> None:
        self._group = node.log.group(GroupId(9))
        self._thread = threading.Thread(target=self._group.write_here)
        self.durable = threading.Event()
        node.disk.hold()
        self._group.submit(Persist(None, NO_INDEX, (make_entry(1),)), self.durable.set, wake=False)
        self._thread.start()
        assert node.disk.waiting.wait(SOON_S)
        wait_until(lambda: node.member.disk_hangs, SOON_S)

    def join(self) -> None:
        self._thread.join()


class Looks:
    """Counts how often a node's watch has looked at its member."""

    def __init__(self, node: GroupNode) -> None:
        self.count = 0
        self._real = node.member.append_meanwhile
        node.member.append_meanwhile = self._look  # type: ignore[method-assign]

    def _look(self) -> None:
        self.count += 1
        self._real()


def test_a_sleeping_group_moves_when_it_is_wanted(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, gives_way=True, quiesce_after_ticks=5) as group:
        old = group.leader()
        old.put(insert(0, 10))
        wait_until(lambda: not any(n.member.awake.is_set() for n in group.nodes.values()))
        looks = Looks(old)
        other = OtherGroup(old)  # the group itself has nothing in the write under way
        wait_until(lambda: looks.count > LOOKS)
        assert old.member.is_leader, "nobody waits for it"
        assert not old.member.awake.is_set()
        waiting = Writer(old, 10, 20)
        new = wait_for_other(group, old)
        wait_until(lambda: waiting.has_ended, SOON_S)
        assert isinstance(waiting.error, OutcomeUnknown)  # it was sent to the others
        new.put(insert(20, 30))
        assert new.count() == 30
        assert not other.durable.is_set()
        old.disk.release()
        other.join()
        wait_until(lambda: old.count() == 30)


def test_where_no_quorum_has_more_nothing_moves(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, gives_way=True) as group:
        old = group.leader()
        old.put(insert(0, 10))
        group.wait_applied(old.member.applied_index)
        terms: list[int] = []
        for node in group.nodes.values():
            node.member.on_role_changed(lambda changed: terms.append(changed.term))
            node.disk.hold()
        looks = Looks(old)
        writer = Writer(old, 10, 20)
        wait_until(lambda: looks.count > LOOKS)
        assert not terms
        for node in group.nodes.values():
            node.disk.release()
        writer.join()
        assert writer.error is None
        group.wait_applied(old.member.applied_index)
        assert old.member.is_leader


def test_who_is_alone_waits_for_its_disk(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, 1, gives_way=True) as group:
        alone = group.leader()
        alone.put(insert(0, 10))
        looks = Looks(alone)
        other = OtherGroup(alone)
        writer = Writer(alone, 10, 20)
        wait_until(lambda: looks.count > LOOKS)
        assert len(alone.member._appender.inbox) == 1  # it may still be told to be not done
        alone.disk.release()
        other.join()
        writer.join()
        assert writer.error is None
        assert alone.count() == 20


def test_what_waits_is_refused_at_once_when_leadership_is_lost(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:  # nobody watches the disk
        old = group.leader()
        old.put(insert(0, 10))
        group.wait_applied(old.member.applied_index)
        other = OtherGroup(old)
        waiting = Writer(old, 10, 20)
        wait_until(lambda: len(old.member._appender.inbox) == 1)
        new = others(group, old)[0]
        transfer_leadership(old.member, new.node_id, Deadline.after(SOON_S))
        wait_until(lambda: waiting.has_ended, SOON_S)
        assert isinstance(waiting.error, NotLeader)
        assert not other.durable.is_set()
        old.disk.release()
        other.join()
        new.put(insert(20, 30))
        assert new.count() == 20


def test_what_came_just_when_leadership_was_lost_is_refused(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, gives_way=True) as group:
        leader = group.leader()
        leader.put(insert(0, 10))
        follower = others(group, leader)[0]
        other = OtherGroup(follower)
        # as a proposal that was looked at while the member led, and got here when it did not
        waiter, _ = follower.member._appender.inbox.add(b"late")
        assert waiter.wait(SOON_S)
        with pytest.raises(NotLeader):
            waiter.result()
        assert not other.durable.is_set()
        follower.disk.release()
        other.join()


def test_whose_disk_hangs_is_not_made_leader(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, gives_way=True, election_ticks=20) as group:
        leader = group.leader()
        leader.put(insert(0, 10))
        target = others(group, leader)[0]
        group.wait_applied(leader.member.applied_index)
        term = leader.member.term
        other = OtherGroup(target)
        with pytest.raises(Unavailable):
            transfer_leadership(leader.member, target.node_id, Deadline.after(1.0))
        assert (leader.member.is_leader, leader.member.term) == (True, term)
        target.disk.release()
        other.join()
        transfer_leadership(leader.member, target.node_id, Deadline.after(SOON_S))
        assert target.member.is_leader


# ---- when a transfer is begun ----


class LedMember:
    """As much of a leader as `give_way` looks at."""

    group_id = GroupId(1)

    def __init__(self, **status: Any) -> None:
        self.is_leader = True
        self.begun: list[TransferLeadership] = []
        self._status = {
            "transfer_to": 0,
            "commit": 12,
            "persisted": 11,
            "last": 12,
            "voters": [1, 2, 3],
            "followers": {2: {"match": 11, "active": True}, 3: {"match": 12, "active": True}},
            **status,
        }

    def status(self) -> dict[str, Any]:
        return self._status

    def step(self, event: TransferLeadership) -> Effects:
        self.begun.append(event)
        return Effects()


def test_the_heir_is_who_has_all_that_there_is() -> None:
    member: Any = LedMember()
    assert give_way(member)
    assert member.begun == [TransferLeadership(3)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "status",
    [
        {"transfer_to": 2},
        {"commit": 11},  # no quorum has more than this disk
        {"last": 13},  # nobody has all of it yet
        {"voters": [1, 2]},
        {"followers": {2: {"match": 11, "active": True}, 3: {"match": 12, "active": False}}},
        {"followers": {}},
    ],
)
def test_a_transfer_that_would_not_end_at_once_is_not_begun(status: dict[str, Any]) -> None:
    member: Any = LedMember(**status)
    assert not give_way(member)
    assert not member.begun


def test_a_member_that_does_not_lead_gives_nothing_away() -> None:
    member: Any = LedMember()
    member.is_leader = False
    assert not give_way(member)
    assert not member.begun


# ---- how long a write has taken ----


class Watched:
    """A watch with a clock and a disk of its own, and one member."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.since = 0.0
        self.seen: list[str] = []
        member: Any = SimpleNamespace(append_meanwhile=lambda: self.seen.append("append"))
        monkeypatch.setattr(disk_watch, "give_way", lambda _member: self.seen.append("give way"))
        self._watch = DiskWatch(
            waits_since=lambda: self.since,
            members=lambda: [member],
            most_s=1.2,
            interval_s=0.2,
            now=lambda: self.now,
        )

    def look(self, after_s: float = 0.2) -> list[str]:
        self.now += after_s
        self.seen.clear()
        self._watch.look()
        return list(self.seen)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_a_group_is_given_away_after_an_election_time_out_and_not_before(watched: Watched) -> None:
    assert watched.look() == []
    watched.since = watched.now + 0.1
    quiet = [watched.look() for _ in range(3)]  # 0.1, 0.3, 0.5 s
    assert quiet == [[]] * 3
    appended = [watched.look() for _ in range(3)]  # 0.7, 0.9, 1.1 s
    assert appended == [["append"]] * 3
    assert watched.look() == ["give way", "append"]
    assert watched.look() == ["give way", "append"]  # a transfer may come to nothing
    watched.since = 0.0
    assert watched.look() == []


def test_each_write_has_its_own_time(watched: Watched) -> None:
    for _ in range(10):
        watched.since = watched.now
        assert [watched.look(), watched.look()] == [[], []]


def test_time_in_which_the_process_stood_still_does_not_count(watched: Watched) -> None:
    watched.look()
    watched.since = watched.now + 0.1
    assert watched.look() == []
    assert watched.look(60.0) == []
    watched.since = watched.now - 30.0
    assert watched.look(60.0) == []
