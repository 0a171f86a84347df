"""Writes are tried again until the deadline, and applied once (acceptance test 11)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.coordinator import own_replicas
from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.groups_access import GroupsAccess
from cluster.coordinator.index_round import IndexRound
from cluster.coordinator.reach import Reach
from cluster.errors import (
    ClusterError,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    StatusCode,
    Unavailable,
)
from cluster.member.meta_member import META_GROUP_ID
from cluster.plan.codec import decode_result
from cluster.plan.reads import AppliedIndexRead, Consistency, LastRead, decode_last, encode_read
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.client_pool import RpcError
from cluster.rpc.deadline import Deadline
from cluster.scan.region_reads import last_points
from harness.forwarders import forwarder, write
from harness.group_cluster import GROUP, STEADY, WAIT_S, GroupCluster, insert, wait_until
from harness.joining import join_all
from iotdb_engine import DataType
from iotdb_engine.errors import Closed
from iotdb_engine.sources import no_check


@contextmanager
def watching(group: GroupCluster, at: NodeId) -> Iterator[Forwarder]:
    """A forwarder whose calls hang where links are cut, and that looks who answers."""

    def ping(node_id: NodeId) -> None:
        if not {(at, node_id), (node_id, at)} & group.network.cut:
            reach.answered(node_id)

    reach = Reach(ping)
    sender = forwarder(group, at, hangs=True, reach=reach)
    thread = threading.Thread(target=sender.watch.run)
    thread.start()
    try:
        yield sender
    finally:
        sender.watch.stop()
        join_all(thread)


def test_11_an_answer_that_was_lost_is_asked_for_again(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        sender = forwarder(group, NodeId(99))
        lost = []
        answer = group.network.handlers[leader.node_id].executeNonQueryPlan

        def apply_and_lose(request: Any) -> Any:
            result = answer(request)
            if len(lost) < 2:
                lost.append(request.plan)
                raise RpcError("the connection broke", definitely_not_sent=False)
            return result

        group.network.handlers[leader.node_id].executeNonQueryPlan = apply_and_lose  # type: ignore[method-assign]
        assert write(sender, "a") is StatusCode.SUCCESS
        assert len(lost) == 2
        assert lost[0] == lost[1]  # the same request
        assert write(sender, "b") is StatusCode.SUCCESS
        assert write(sender, "a") is StatusCode.PATH_ALREADY_EXISTS  # another request


def test_11_a_leader_that_is_cut_off_is_replaced_and_the_write_applied_once(
    tmp_path: Path,
) -> None:
    with GroupCluster(tmp_path) as group:
        old = group.leader()
        sender = forwarder(group, old.node_id)
        assert write(sender, "a") is StatusCode.SUCCESS
        others = [node_id for node_id in group.ids if node_id != old.node_id]
        group.network.isolate(old.node_id, others)
        outcomes: list[Any] = []
        thread = threading.Thread(target=lambda: outcomes.append(write(sender, "b")))
        thread.start()
        wait_until(lambda: any(group.nodes[n].member.is_leader for n in others))
        wait_until(lambda: not old.member.is_leader)
        assert not outcomes
        group.network.heal()
        join_all(thread)
        assert outcomes == [StatusCode.SUCCESS]
        assert write(sender, "b") is StatusCode.PATH_ALREADY_EXISTS
        assert len({digest.root for digest in group.digests()}) == 1


def test_a_first_member_that_is_gone_is_passed_over_by_who_is_not_in_the_group(
    tmp_path: Path,
) -> None:
    with GroupCluster(tmp_path) as group:
        first = group.ids[0]
        group.leader()
        group.nodes[first].stop()
        group.leader()
        assert write(forwarder(group, NodeId(99)), "a") is StatusCode.SUCCESS


def test_a_leader_that_refuses_is_not_asked_without_pause(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        follower = next(n for n in group.ids if n != leader.node_id)
        wait_until(lambda: group.nodes[follower].member.leader == leader.node_id)
        asked = []

        def refuse(frm: NodeId, to: NodeId, method: str, request: Any) -> Any:
            if method == "executeNonQueryPlan":
                asked.append(to)
                raise RpcError("refused", definitely_not_sent=True)
            return request

        group.network.tap = refuse
        with pytest.raises(Unavailable):
            write(forwarder(group, follower), "a", 0.5)
        assert 1 < len(asked) <= 12


@pytest.mark.parametrize("place", ["at a follower", "at a node outside the group"])
@pytest.mark.parametrize("kind", ["write", "read"])
def test_a_leader_out_of_reach_is_reached_by_way_of_others(
    tmp_path: Path, place: str, kind: str
) -> None:
    with GroupCluster(tmp_path, **STEADY) as group:
        leader = group.leader()
        follower = next(n for n in group.ids if n != leader.node_id)
        at = follower if place == "at a follower" else NodeId(99)
        for node_id in group.ids:
            group.network.handlers[node_id].relay = forwarder(group, node_id).relay
        group.network.isolate(at, [leader.node_id])
        with watching(group, at) as sender:
            if kind == "write":
                assert write(sender, "a", 600) is StatusCode.SUCCESS
                # whoever led meanwhile: it was applied once
                assert write(sender, "a", 600) is StatusCode.PATH_ALREADY_EXISTS
            else:
                index = sender.read(
                    GROUP,
                    lambda: encode_read(AppliedIndexRead()),
                    Deadline.after(600),
                    lambda member: pytest.fail("this node does not lead"),
                    decode_result,
                )
                assert index >= 1
        assert leader.member.is_leader


def test_a_node_that_is_cut_off_says_so_soon(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        follower = next(n for n in group.ids if n != leader.node_id)
        group.network.isolate(follower, [n for n in group.ids if n != follower])
        with watching(group, follower) as sender:  # a deadline would come after this test's
            # the first try hung: what became of it is not known
            with pytest.raises((OutcomeUnknown, Unavailable)):
                write(sender, "a", 600)
            with pytest.raises(Unavailable, match="ask another node") as refused:
                write(sender, "b", 600)
            assert refused.value.definite
            group.network.heal()
            assert write(sender, "c") is StatusCode.SUCCESS


@pytest.mark.parametrize(
    ("members", "mute", "is_cut_off"),
    [(1, 1, True), (2, 1, True), (3, 1, False), (3, 2, True), (4, 1, False), (4, 2, True)],
)
def test_a_node_that_reaches_a_majority_waits_for_it_to_elect_a_leader(
    monkeypatch: pytest.MonkeyPatch, members: int, mute: int, is_cut_off: bool
) -> None:
    def nobody_leads(*_: Any, **__: Any) -> None:
        raise RpcError("refused", definitely_not_sent=True)

    monkeypatch.setattr("cluster.coordinator.forwarder._PATIENCE_S", 0.05)
    monkeypatch.setattr("cluster.coordinator.forwarder.LONG_S", 0.05)
    pool: Any = SimpleNamespace(call=nobody_leads)
    reach: Any = SimpleNamespace(
        is_mute=lambda node_id: node_id <= mute, probe=lambda _: None, answers=lambda _: False
    )
    sender = Forwarder(
        node_id=NodeId(99),
        find_member=lambda _group: None,
        members_of=lambda _group: [NodeId(number) for number in range(1, members + 1)],
        meta_pool=pool,
        data_pool=pool,
        wait=threading.Event().wait,
        reach=reach,
    )
    with pytest.raises(Unavailable) as refused:
        write(sender, "a", 0.5)
    assert ("ask another node" in str(refused.value)) is is_cut_off


def test_what_is_unknown_at_the_deadline_says_so(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        old = group.leader()
        sender = forwarder(group, old.node_id)
        group.network.isolate(old.node_id, [n for n in group.ids if n != old.node_id])
        with pytest.raises(OutcomeUnknown) as caught:
            write(sender, "a", 0.2)
        assert not caught.value.definite
        assert caught.value.status is StatusCode.TIME_OUT
        wait_until(lambda: not old.member.is_leader)
        with pytest.raises(Unavailable) as refused:
            write(sender, "a", 0.2)
        assert refused.value.definite


@pytest.mark.parametrize(
    "refusal", [Unavailable("not taken in time; nothing was done"), Overloaded("too much waits")]
)
def test_a_refusal_after_a_try_of_unknown_outcome_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: ClusterError
) -> None:
    """The first try may still be applied, though the second was refused for certain."""
    with GroupCluster(tmp_path, 1) as group:
        leader = group.leader()
        answers: list[ClusterError] = [refusal, OutcomeUnknown("not applied in time")]

        def propose(_payload: bytes, _deadline: Deadline, _plan: object = None) -> Any:
            raise answers.pop()

        monkeypatch.setattr(leader.member, "propose", propose)
        with pytest.raises(OutcomeUnknown, match="not applied in time"):
            write(forwarder(group, leader.node_id), "a")
        assert not answers


def test_a_plan_too_large_for_the_way_to_other_nodes_is_refused(tmp_path: Path) -> None:
    """Once appended it could be sent to no follower, and nothing behind it either."""
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        sender = forwarder(group, leader.node_id, max_plan_bytes=2000)
        last = leader.member.status()["last"]
        with pytest.raises(ClusterError, match="larger than the 2000") as refused:
            write(sender, "a" * 2000)
        assert refused.value.status is StatusCode.ILLEGAL_PARAMETER
        assert leader.member.status()["last"] == last
        assert write(sender, "a" * 100) is StatusCode.SUCCESS


def test_a_node_whose_member_has_stopped_says_so_at_once(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        sender = forwarder(group, leader.node_id)
        leader.member.stop()
        with pytest.raises(Unavailable, match="stopping"):
            write(sender, "a", 60)


def test_settled_outcomes_are_forgotten(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, size=1) as group:
        sender = forwarder(group, NodeId(1))
        for number in range(50):
            write(sender, f"m{number}")
        table = group.leader().member.machine._requests
        assert table.digest()[0] == 1  # only the last one may still be asked for


def read_counts(group: GroupCluster, at: NodeId, level: Consistency) -> Callable[[], int]:
    """A read of the number of points at a level, from a node's coordinator."""
    series = ((1, DataType.INT64),)

    def request() -> LastRead:
        return LastRead(series, None)

    access = GroupsAccess(forwarder(group, at), None)  # type: ignore[arg-type]

    def read() -> int:
        return access.reads(Deadline.after(10.0), level).read(
            GROUP,
            request,
            lambda member: int(last_points(member.machine.region, series, None, no_check)[0][0]),  # type: ignore[index]
            lambda data: int(decode_last(data)[0][0]),  # type: ignore[index]
        )

    return read


@pytest.mark.parametrize("level", [Consistency.MID, Consistency.WEAK])
@pytest.mark.parametrize("place", ["at a follower", "at a node without a replica"])
def test_reads_below_strong_need_no_leader_nearby(
    tmp_path: Path, level: Consistency, place: str
) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        leader.put(insert(0, 8))
        group.wait_applied(leader.member.applied_index)
        other = next(n for n in group.ids if n != leader.node_id)
        at = other if place == "at a follower" else NodeId(99)
        group.network.isolate(at, [leader.node_id])  # the coordinator's own way to the leader
        assert read_counts(group, at, level)() == 7


def test_mid_reads_fall_back_to_the_leader_where_no_replica_hears_it(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        leader.put(insert(0, 8))
        group.wait_applied(leader.member.applied_index)
        away = next(n for n in group.nodes.values() if n is not leader)
        group.network.isolate(away.node_id, [n for n in group.ids if n != away.node_id])

        def hears_nobody() -> bool:
            try:
                away.member.read_barrier(Deadline.after(1.0), Consistency.MID)
            except NotLeader:
                return True
            return False

        wait_until(hears_nobody)
        # calls of the coordinator still go through, only the member hears nothing
        group.network.cut.clear()
        assert read_counts(group, away.node_id, Consistency.MID)() == 7


@pytest.mark.parametrize("way", ["near", "lagging", "closed"])
def test_strong_reads_are_of_the_replica_here_if_it_has_what_the_leader_had(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the replica, a read sees all that was acknowledged before it began."""
    monkeypatch.setattr(own_replicas, "_CATCH_UP_S", WAIT_S)
    with GroupCluster(tmp_path, **STEADY) as group:
        leader = group.leader()
        follower = next(n for n in group.nodes.values() if n is not leader)
        series = ((1, DataType.INT64),)
        access = GroupsAccess(forwarder(group, follower.node_id), None)  # type: ignore[arg-type]
        here = 0

        def local(member: Any) -> int:
            nonlocal here
            assert member is follower.member
            if way == "closed":
                raise Closed("a snapshot is being taken over")
            here += 1
            return int(last_points(member.machine.region, series, None, no_check)[0][0])  # type: ignore[index]

        if way == "lagging":

            def not_yet(index: int, deadline: Deadline) -> None:
                raise Unavailable("not applied in time")

            monkeypatch.setattr(follower.member, "await_applied", not_yet)
        for count in range(1, 30):
            leader.put(insert(0, count))
            reads = access.reads(Deadline.after(WAIT_S))
            for _ in range(2):
                found = reads.read(
                    GROUP,
                    lambda: LastRead(series, None),
                    local,
                    lambda data: int(decode_last(data)[0][0]),  # type: ignore[index]
                )
                assert found == count - 1
            assert reads.confirmed == ({GROUP} if way == "near" else set())
        assert here == (58 if way == "near" else 0)


@pytest.mark.parametrize("state", ["near", "lagging", "cut off", "leading"])
def test_replicas_here_are_confirmed_in_one_trip_as_far_as_their_leaders_answer(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_replicas, "_CATCH_UP_S", WAIT_S)
    monkeypatch.setattr(own_replicas, "_LAG_S", WAIT_S)
    with GroupCluster(tmp_path, **STEADY) as group:
        leader = group.leader()
        other = next(n for n in group.nodes.values() if n is not leader)
        leader.put(insert(0, 8))
        wait_until(lambda: other.member.leader == leader.node_id)
        at = leader if state == "leading" else other
        if state == "lagging":

            def not_yet(index: int, deadline: Deadline) -> None:
                raise Unavailable("not applied in time")

            monkeypatch.setattr(other.member, "await_applied", not_yet)
        if state == "cut off":
            group.network.cut.add((at.node_id, leader.node_id))
        asked: list[str] = []
        group.network.tap = lambda frm, to, method, request: (
            (asked.append(method) if method == "executeRead" else None) or request
        )
        access = GroupsAccess(forwarder(group, at.node_id), None)  # type: ignore[arg-type]
        reads = access.reads(Deadline.after(10.0))
        reads.confirm([GROUP])
        assert reads.confirmed == ({GROUP} if state == "near" else set())
        assert len(asked) == (0 if state == "leading" else 1) or state == "cut off"
        if state == "near":
            assert at.count() == 8
            reads.confirm([GROUP])
            assert len(asked) == 1  # not again for the same query
        if state == "lagging":
            reads.confirm([GROUP])
            assert len(asked) == 1  # it is left alone for a while


def test_reads_of_this_nodes_replicas_are_computed_by_the_thread_that_asks(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        access = GroupsAccess(forwarder(group, leader.node_id), None)  # type: ignore[arg-type]
        me = threading.get_ident()
        far = GroupId(77)

        def refuse() -> int:
            raise Unavailable("nothing was done")

        reads = access.reads(Deadline.after(WAIT_S))
        assert reads.read_each([(GROUP, threading.get_ident)] * 3) == [me] * 3
        reads.confirmed.add(far)
        assert reads.read_each([(far, threading.get_ident)] * 2) == [me] * 2
        reads.confirmed.remove(far)
        with pytest.raises(Unavailable):
            reads.read_each([(GROUP, threading.get_ident), (far, refuse)])
        access.close()


def test_one_node_is_asked_for_all_that_it_leads_in_one_request(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        leader.put(insert(0, 8))
        other = next(n for n in group.ids if n != leader.node_id)
        meta: Any = SimpleNamespace(
            group_id=META_GROUP_ID, applied_index=41, read_barrier=lambda _deadline: None
        )
        group.network.handlers[leader.node_id].beside = meta
        sent: list[Any] = []
        group.network.tap = lambda frm, to, method, request: (
            (sent.append(request) if method == "executeRead" else None) or request
        )
        unknown = GroupId(99)
        finish = IndexRound(forwarder(group, other)).begin(
            dict.fromkeys((unknown, GROUP, META_GROUP_ID), leader.node_id),
            Deadline.after(10.0),
        )
        found = finish()
        assert found == {GROUP: leader.member.applied_index, META_GROUP_ID: 41}
        assert len(sent) == 1
