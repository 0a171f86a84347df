"""Handing leadership over, changing members, and peers that hang."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterError, NotLeader
from cluster.member.member_deps import LogKeep
from cluster.member.operations import change_membership, hand_over, transfer_leadership
from cluster.raft.types import NodeId
from cluster.rpc.client_pool import RpcError
from cluster.rpc.deadline import Deadline
from harness.group_cluster import TICK_S, GroupCluster, insert, wait_until

ELECTION_S = 10 * TICK_S


def soon() -> Deadline:
    return Deadline.after(20.0)


def test_a_clean_stop_hands_leadership_over_at_once(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        leader.put(insert(0, 10))
        elections: list[int] = []
        for node in group.nodes.values():
            node.member.on_role_changed(lambda changed: elections.append(changed.term))
        term = leader.member.term
        began = time.monotonic()
        hand_over([leader.member], 5.0)
        wait_until(lambda: any(n.member.is_leader for n in group.nodes.values()))
        gap_s = time.monotonic() - began
        leader.stop()
        assert group.leader().member.term == term + 1
        assert group.leader() is not leader
        assert max(elections) == term + 1  # nobody else campaigned
        assert gap_s < 5.0
        group.leader().put(insert(10, 20))


def test_leadership_goes_where_it_is_sent(tmp_path: Path) -> None:
    # so long that no leader is lost, and another elected, because the machine is busy
    with GroupCluster(tmp_path, election_ticks=200) as group:
        for target in (2, 3, 1):
            transfer_leadership(group.leader().member, NodeId(target), soon())
            assert group.nodes[NodeId(target)].member.is_leader
        leader = group.leader()
        transfer_leadership(leader.member, leader.node_id, soon())
        with pytest.raises(ClusterError, match="the node has no vote"):
            transfer_leadership(leader.member, NodeId(9), soon())
        other = next(n for n in group.nodes.values() if n is not leader)
        with pytest.raises(NotLeader):
            transfer_leadership(other.member, NodeId(1), soon())


def test_a_transfer_that_the_leader_gave_up_is_asked_for_again(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        target = next(n for n in group.ids if n != leader.node_id)
        unheard: list[Any] = []

        def keep_from_target(_frm: int, _to: int, method: str, request: Any) -> Any:
            if method == "timeoutNow":
                unheard.append(request)
                raise RpcError("timed out", definitely_not_sent=False)
            return request

        group.network.tap = keep_from_target
        operation = threading.Thread(
            target=transfer_leadership, args=(leader.member, target, soon())
        )
        operation.start()
        wait_until(lambda: unheard)
        wait_until(lambda: leader.member.status()["transfer_to"] == 0)  # given up
        assert leader.member.is_leader
        group.network.tap = None
        operation.join()
        assert group.leader().node_id == target


def test_a_transfer_says_who_took_over_instead(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        target = next(n for n in group.ids if n != leader.node_id)

        (third,) = {*group.ids} - {leader.node_id, target}

        def lose_votes(frm: int, _to: int, method: str, request: Any) -> Any:
            if frm != third and method.startswith("startElection"):
                raise RpcError("timed out", definitely_not_sent=False)
            return request

        group.network.tap = lose_votes
        with pytest.raises(NotLeader) as caught:
            transfer_leadership(leader.member, target, soon())
        assert caught.value.leader == third


def test_a_node_is_added_as_learner_by_snapshot_and_then_votes(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        for start in range(0, 3000, 100):
            leader.put(insert(start, start + 100))
        leader.member.machine.region.flush()
        group.wait_applied(leader.member.applied_index)
        leader.member.maybe_compact(LogKeep(0, 0))
        fourth = group.add(NodeId(4))
        change_membership(leader.member, (1, 2, 3), (4,), soon())
        wait_until(lambda: fourth.count() == 3000)
        with pytest.raises(ClusterError, match="members not changed"):
            change_membership(leader.member, (1, 2, 3), (4,), soon())
        leader.put(insert(3000, 3001))
        wait_until(lambda: fourth.count() == 3001)
        change_membership(leader.member, (1, 2, 3, 4), (), soon())
        assert leader.member.change_is_done
        others = [n for n in (1, 2, 3, 4) if n != leader.node_id]
        with pytest.raises(ClusterError, match="must hand its leadership over before"):
            change_membership(leader.member, others, (), soon())
        wait_until(lambda: fourth.member.membership.voters == (1, 2, 3, 4))
        # two at once go through a joint membership
        leader = group.leader()
        keep = [n for n in (1, 2, 3, 4) if n != leader.node_id][-1]
        change_membership(leader.member, (leader.node_id, keep), (), soon())
        assert group.leader().member.membership.voters == tuple(sorted((leader.node_id, keep)))
        # it is in the log: a restart knows it
        survivor = group.nodes[NodeId(keep)]
        wait_until(lambda: len(survivor.member.membership.voters) == 2)
        survivor.stop()
        back = group.start(NodeId(keep))
        wait_until(lambda: len(back.member.membership.voters) == 2)
        group.leader().put(insert(4000, 4001))


def test_a_peer_that_accepts_and_never_answers_slows_nobody(tmp_path: Path) -> None:
    """W6: own queue, own connection, own time-outs per peer."""
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        hung = next(n for n in group.ids if n != leader.node_id)
        release = threading.Event()

        def hang(_frm: int, to: int, _method: str, request: Any) -> Any:
            if to == hung and not release.wait(1.0):
                raise RpcError("timed out", definitely_not_sent=False)
            return request

        def median_s() -> float:
            samples = []
            for number in range(60):
                began = time.monotonic()
                leader.put(insert(number, number + 1))
                samples.append(time.monotonic() - began)
            return sorted(samples)[30]

        before = median_s()
        group.network.tap = hang
        during = median_s()
        assert leader.member.is_leader
        release.set()
        group.network.tap = None
        assert during < 4 * before + 0.02, (before, during)
        wait_until(lambda: group.nodes[hung].count() == 60)
