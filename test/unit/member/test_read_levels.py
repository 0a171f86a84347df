"""What a member gives at each consistency level, and when it refuses."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from cluster.errors import ClusterError, NotLeader, OutcomeUnknown, Unavailable
from cluster.plan.reads import Consistency
from cluster.raft.events import SnapshotInstalled
from cluster.raft.types import LogIndex
from cluster.rpc.deadline import Deadline
from harness.group_cluster import TICK_S, WAIT_S, GroupCluster, GroupNode, insert, wait_until

STRONG, MID, WEAK = Consistency.STRONG, Consistency.MID, Consistency.WEAK


def count(node: GroupNode, level: Consistency, seconds: float = 5.0) -> int:
    node.member.read_barrier(Deadline.after(seconds), level)
    return node.count()


def follower(group: GroupCluster) -> GroupNode:
    leader = group.leader()
    return next(n for n in group.nodes.values() if n is not leader)


@pytest.mark.parametrize("lease", [True, False])
def test_a_strong_read_sees_every_acknowledged_write(tmp_path: Path, *, lease: bool) -> None:
    with GroupCluster(tmp_path, lease_reads=lease) as group:
        number = 0
        while number < 20:
            leader = group.leader()
            try:
                leader.put(insert(number, number + 1))
                seen = count(leader, STRONG, WAIT_S)
            except (NotLeader, OutcomeUnknown, Unavailable):
                continue  # another was elected meanwhile: once more, the same point
            assert seen == number + 1
            number += 1

        def refuses() -> bool:
            node = follower(group)
            term = node.member.term
            try:
                count(node, STRONG)
            except NotLeader:
                return True
            assert node.member.term > term, "a follower answered"
            return False

        wait_until(refuses)


def test_with_a_lease_a_strong_read_asks_nobody(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, lease_reads=True) as group:
        leader = group.leader()
        leader.put(insert(0, 1))
        wait_until(lambda: leader.member.status()["lease"])
        calls = []
        group.network.tap = lambda frm, to, method, request: calls.append(method) or request
        began = time.monotonic()
        for _ in range(200):
            count(leader, STRONG)
        beats = (time.monotonic() - began) / (2 * TICK_S)
        # heartbeats go on as always; none was sent for a read
        assert len(calls) <= 2 * (beats + 2)


def test_a_leader_that_is_cut_off_refuses_strong_reads_within_an_election_time_out(
    tmp_path: Path,
) -> None:
    """Acceptance tests 4 and 5, in small: no read is older than the last acknowledged write."""
    with GroupCluster(tmp_path, lease_reads=True) as group:
        old = group.leader()
        old.put(insert(0, 1))
        others = [n for n in group.ids if n != old.node_id]
        group.network.isolate(old.node_id, others)
        new = None
        while new is None or old.member.is_leader:
            new = next((group.nodes[n] for n in others if group.nodes[n].member.is_leader), None)
            if new is not None:
                new.put(insert(1, 2))
            try:
                seen = count(old, STRONG, 0.05)
            except ClusterError:
                continue
            # answered before the new leader could acknowledge anything, or not at all
            assert seen == 1
            assert new is None
        with pytest.raises(NotLeader):
            count(old, STRONG, 0.05)


def test_mid_reads_at_a_follower_are_as_new_as_its_leaders_last_word(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        leader.put(insert(0, 10))
        node = follower(group)
        wait_until(lambda: count(node, MID) == 10)
        group.network.isolate(node.node_id, [n for n in group.ids if n != node.node_id])
        leader.put(insert(10, 20))
        # it may answer for one election time-out more, then it says that it can't know
        end = time.monotonic() + 10 * TICK_S * 30
        while time.monotonic() < end:
            try:
                assert count(node, MID, 0.05) == 10
            except NotLeader:
                break
        with pytest.raises(NotLeader):
            count(node, MID, 0.05)
        assert count(node, WEAK) == 10
        group.network.heal()
        wait_until(lambda: count(node, WEAK) == 20)
        wait_until(lambda: node.member.leader)
        assert count(node, MID) == 20


def test_who_waits_for_an_entry_is_told_when_a_snapshot_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with GroupCluster(tmp_path, 1) as group:
        member = group.leader().member
        index = LogIndex(member.applied_index + 5)
        ended = threading.Event()

        def wait() -> None:
            member.await_applied(index, Deadline.after(1000 * WAIT_S))
            ended.set()

        threading.Thread(target=wait, daemon=True).start()
        wait_until(lambda: member._applied_news._waiting)
        monkeypatch.setattr(member.machine, "_applied", index)  # as another region does
        applied = member._core.applied
        member.step(SnapshotInstalled(member._core.snapshot_meta(applied)))
        assert ended.wait(WAIT_S)
