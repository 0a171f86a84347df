"""Idle groups sleep, and wake up for work, for silent nodes, and for nodes started anew."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cluster.member.node_watch import NodeWatch
from cluster.plan.reads import Consistency
from cluster.raft.events import PeerSilent
from cluster.rpc.deadline import Deadline
from harness.group_cluster import TICK_S, GroupCluster, insert, wait_until


def sleeping(folder: Path, **more: Any) -> GroupCluster:
    return GroupCluster(folder, quiesce_after_ticks=5, **more)


def all_asleep(group: GroupCluster) -> None:
    running = [node for node in group.nodes.values() if node.running]
    wait_until(lambda: not any(node.member.awake.is_set() for node in running))


def test_an_idle_group_exchanges_nothing_and_has_no_threads_but_its_heartbeats(
    tmp_path: Path,
) -> None:
    with sleeping(tmp_path) as group:
        leader = group.leader()
        leader.put(insert(0, 10))
        all_asleep(group)
        seen: Counter[str] = Counter()

        def tap(_frm: int, _to: int, method: str, request: Any) -> Any:
            seen[method] += len(request.heartbeats) if method == "sendHeartbeat" else 1
            return request

        group.network.tap = tap
        wait_until(lambda: "sendHeartbeat" in seen)  # signs of life go on
        ticks: Counter[int] = Counter()
        for node_id, node in group.nodes.items():

            def tick(node_id: int = node_id, tick: Any = node.member.tick) -> int:
                ticks[node_id] += 1
                return int(tick())

            node.member.tick = tick  # type: ignore[method-assign]
        time.sleep(20 * TICK_S)  # for nothing to happen in
        assert sum(seen.values()) == 0
        # one may have been due when the group fell asleep
        assert max(ticks.values(), default=0) <= 1
        names = [name for node in group.nodes.values() for name in node.threads.names()]
        assert not [name for name in names if name.startswith("dispatcher")]
        # and it is there at once when it is needed
        assert leader.member.is_leader
        term = leader.member.term
        leader.put(insert(10, 20))
        group.wait_applied(leader.member.applied_index)
        assert leader.member.term == term
        all_asleep(group)
        leader.member.read_barrier(Deadline.after(5.0), Consistency.STRONG)
        assert leader.count() == 20


def test_a_sleeping_group_notices_the_loss_of_its_leaders_node(tmp_path: Path) -> None:
    with sleeping(tmp_path) as group:
        leader = group.leader()
        leader.put(insert(0, 10))
        all_asleep(group)
        leader.stop()
        new = group.leader()
        assert new is not leader
        new.put(insert(10, 20))
        back = group.start(leader.node_id)
        wait_until(lambda: back.count() == 20)
        all_asleep(group)


def test_a_sleeping_group_notices_that_its_leaders_node_was_restarted_at_once(
    tmp_path: Path,
) -> None:
    with sleeping(tmp_path) as group:
        for _ in range(3):
            leader = group.leader()
            leader.put(insert(0, 10))
            all_asleep(group)
            leader.stop()
            back = group.start(leader.node_id)
            group.leader().put(insert(10, 20))
            wait_until(lambda back=back: back.count() == 20)
        all_asleep(group)


def test_a_group_that_is_cut_in_two_while_it_sleeps(tmp_path: Path) -> None:
    with sleeping(tmp_path) as group:
        old = group.leader()
        old.put(insert(0, 10))
        all_asleep(group)
        others = [n for n in group.ids if n != old.node_id]
        group.network.isolate(old.node_id, others)
        wait_until(lambda: any(group.nodes[n].member.is_leader for n in others))
        wait_until(lambda: not old.member.is_leader)
        group.network.heal()
        new = group.leader()
        new.put(insert(10, 20))
        wait_until(lambda: old.count() == 20)
        all_asleep(group)


class FakeMember:
    def __init__(self, *peers: int) -> None:
        self.awake = type("Flag", (), {"is_set": staticmethod(lambda: False)})()
        self.membership = type("M", (), {"members": staticmethod(lambda: peers)})()
        self.stepped: list[PeerSilent] = []

    def step(self, event: PeerSilent) -> None:
        self.stepped.append(event)


@pytest.fixture
def watched() -> tuple[NodeWatch, FakeMember, list[int], list[float]]:
    member, pings, clock = FakeMember(1, 2, 3), [], [100.0]
    watch = NodeWatch(
        node_id=1,  # type: ignore[arg-type]
        process=7,
        members=lambda: [member],  # type: ignore[list-item]
        links=type("Links", (), {"ping": staticmethod(pings.append)})(),
        interval_s=0.2,
        tick_s=0.1,
        silent_ticks=6,
        election_ticks=12,
        now=lambda: clock[0],
    )
    return watch, member, pings, clock


def test_waking_very_many_groups_does_not_make_this_node_silent() -> None:
    clock, pings = [100.0], []

    class SlowMember(FakeMember):
        def step(self, event: Any) -> None:
            super().step(event)
            clock[0] += 0.03

    members = [SlowMember(1, 2, 3) for _ in range(100)]
    watch = NodeWatch(
        node_id=1,  # type: ignore[arg-type]
        process=7,
        members=lambda: members,  # type: ignore[arg-type,return-value]
        links=type("Links", (), {"ping": staticmethod(lambda peer: pings.append(clock[0]))})(),
        interval_s=0.2,
        tick_s=0.1,
        silent_ticks=6,
        election_ticks=12,
        now=lambda: clock[0],
    )
    for _ in range(3):
        watch.heard(2, 1)
        watch.look()
        clock[0] += 0.4
    assert all(len(member.stepped) == 1 for member in members)
    last = [at for at in pings if at > 100.7]
    assert last[-1] - last[0] > 2.7
    assert max(later - at for at, later in pairwise(last)) < 0.3


def test_the_watch_tells_of_silence_again_and_again(watched: Any) -> None:
    watch, member, pings, clock = watched
    watch.look()
    assert sorted(pings) == [2, 3]
    for _ in range(10):
        clock[0] += 0.2
        watch.heard(2, 1)
        watch.look()
    assert {event.peer for event in member.stepped} == {3}
    ticks = [event.ticks for event in member.stepped]
    assert ticks == sorted(ticks)
    assert len(ticks) > 5


def test_the_watch_tells_of_another_process_once(watched: Any) -> None:
    watch, member, _, clock = watched
    watch.heard(2, 1)
    watch.heard(3, 1)
    watch.look()
    assert not member.stepped
    clock[0] += 0.1
    watch.heard(2, 99)
    watch.look()
    watch.look()
    assert member.stepped == [PeerSilent(2, 12, is_back=True)]


def test_the_watch_tells_once_of_a_node_that_is_back_from_a_silence(watched: Any) -> None:
    """Stopped while it slept, it does not know what the others did without it."""
    watch, member, _, clock = watched
    for node in (2, 3):
        watch.heard(node, 1)
    watch.look()
    for _ in range(4):
        clock[0] += 0.2
        watch.heard(2, 1)
        watch.look()
    assert [event.is_back for event in member.stepped] == [False, False]
    member.stepped.clear()
    for _ in range(3):
        for node in (2, 3):
            watch.heard(node, 1)
        watch.look()
    assert member.stepped == [PeerSilent(3, 0, is_back=True)]


def test_a_process_that_was_stopped_blames_nobody(watched: Any) -> None:
    watch, member, _, clock = watched
    watch.heard(2, 1)
    watch.heard(3, 1)
    watch.look()
    clock[0] += 60.0
    watch.look()
    assert not member.stepped


def test_the_end_of_a_sleeper_wakes_who_waits_for_it(tmp_path: Path) -> None:
    with sleeping(tmp_path) as group:
        node = group.leader()
        all_asleep(group)
        # its heartbeat thread may just have been told to end when the group fell asleep
        node.member.stop()
        assert node.member.awake.is_set()
