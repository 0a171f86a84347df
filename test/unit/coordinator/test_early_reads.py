"""What is read before the leaders have answered is told only if it had everything."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from cluster.coordinator.groups_access import GroupsAccess
from cluster.rpc.client_pool import RpcError
from cluster.rpc.deadline import Deadline
from harness.forwarders import forwarder
from harness.group_cluster import GROUP, GroupCluster, insert
from harness.joining import join_all


def soon() -> Deadline:
    return Deadline.after(10.0)


def access_of_follower(group: GroupCluster) -> tuple[GroupsAccess, Any, Any]:
    """A follower's access with all that there is, the follower, and the leader."""
    leader = group.leader()
    follower = next(n for n in group.nodes.values() if n is not leader)
    leader.put(insert(0, 8))
    group.wait_applied(leader.member.applied_index, follower)
    return GroupsAccess(forwarder(group, follower.node_id), None), follower, leader  # type: ignore[arg-type]


def test_a_replica_that_has_everything_is_read_at_once(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        access, *_ = access_of_follower(group)
        reads = access.reads(soon())
        early = reads.confirm([GROUP], early=True)
        assert early is not None
        assert reads.confirmed == {GROUP}
        assert early.settle()
        access.close()


def test_what_the_replica_got_after_the_question_does_no_harm(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        access, follower, leader = access_of_follower(group)
        answers: list[int] = []

        def answered(frm: Any, to: Any, method: str, request: Any) -> Any:
            if method == "executeRead":
                answers.append(leader.member.applied_index)
            return request

        group.network.tap = answered
        early = access.reads(soon()).confirm([GROUP], early=True)
        assert early is not None
        assert early.settle()
        leader.put(insert(8, 9))
        group.wait_applied(leader.member.applied_index, follower)
        assert len(answers) == 1  # and it is asked no more
        access.close()


def test_a_replica_that_lacked_something_is_found_out(tmp_path: Path) -> None:
    """Also when it has it by the time the leader answers: it may have been read before."""
    with GroupCluster(tmp_path) as group:
        access, follower, leader = access_of_follower(group)
        reads = access.reads(soon())
        early = reads.confirm([GROUP], early=True)
        assert early is not None
        leader.put(insert(8, 9))  # the pool of the harness asks when the answer is waited for
        group.wait_applied(leader.member.applied_index, follower)
        assert not early.settle()
        # for a while the leader is waited for, as something is under way
        reads = access.reads(soon())
        assert reads.confirm([GROUP], early=True) is None
        assert reads.confirmed == {GROUP}
        access.close()


def test_reads_that_no_leader_vouches_for_are_not_told(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        access, *_ = access_of_follower(group)

        def cut(frm: Any, to: Any, method: str, request: Any) -> Any:
            if method == "executeRead":
                raise RpcError("not reached", definitely_not_sent=True)
            return request

        group.network.tap = cut
        early = access.reads(soon()).confirm([GROUP], early=True)
        assert early is not None
        assert not early.settle()
        access.close()


def test_what_is_told_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    """While somebody writes: most reads are too early, none that is told lacks anything."""
    with GroupCluster(tmp_path) as group:
        access, follower, leader = access_of_follower(group)
        acknowledged = 8
        done = threading.Event()

        def write() -> None:
            nonlocal acknowledged
            while not done.is_set():
                leader.put(insert(acknowledged, acknowledged + 1))
                acknowledged += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(100):
                access._own._behind.clear()
                before = acknowledged
                early = access.reads(soon()).confirm([GROUP], early=True)
                assert early is not None
                found = follower.count()
                if early.settle():
                    assert found >= before
        finally:
            done.set()
            join_all(writer)
        access._own._behind.clear()
        group.wait_applied(leader.member.applied_index, follower)
        early = access.reads(soon()).confirm([GROUP], early=True)
        assert early is not None
        assert follower.count() == acknowledged
        assert early.settle()
        access.close()


@pytest.mark.parametrize("early", [False, True])
def test_nothing_is_asked_for_what_is_led_here(tmp_path: Path, early: bool) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        access = GroupsAccess(forwarder(group, leader.node_id), None)  # type: ignore[arg-type]
        assert access.reads(soon()).confirm([GROUP], early=early) is None
        access.close()
