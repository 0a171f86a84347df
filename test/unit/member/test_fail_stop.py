"""A member whose core broke an invariant takes no part any more.

The step that broke it may have changed the core's state without handing it to the log: a vote that
is not on disk, for instance, must not be confirmed later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import NotLeader
from cluster.raft.events import Event, Propose, Received, Tick
from cluster.raft.messages import VoteRequest
from cluster.raft.types import LogIndex, NodeId, Term
from cluster.rpc.deadline import Deadline
from harness.group_cluster import GroupCluster, GroupNode, insert


def break_at(node: GroupNode, kind: type, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Have the core fail after a step with an event of a kind; returns what it is given then."""
    core = node.member._core
    step = core.step
    after: list[Event] = []
    broken = []

    def failing(event: Event) -> Any:
        if broken:
            after.append(event)
        effects = step(event)
        if isinstance(event, kind) and not broken:
            broken.append(event)
            raise AssertionError("an invariant is broken")
        return effects

    monkeypatch.setattr(core, "step", failing)
    return after


def ask_for_vote(node: GroupNode, term: int) -> Any:
    return node.member.peer_requests.handle(
        lambda id_: VoteRequest(
            NodeId(2), node.node_id, Term(term), LogIndex(9), Term(term), transfer=True, id=id_
        ),
        1.0,
    )


def test_a_vote_that_did_not_reach_the_log_is_never_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with GroupCluster(tmp_path, 1) as group:
        node = group.leader()
        term = node.member.term
        after = break_at(node, Received, monkeypatch)
        with pytest.raises(AssertionError):
            ask_for_vote(node, term + 1)
        assert [str(error) for error in node.failures] == ["an invariant is broken"]
        assert node.member._core.vote == NodeId(2)
        assert ask_for_vote(node, term + 1) is None
        assert after == []


def test_it_is_not_stepped_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with GroupCluster(tmp_path, 1) as group:
        node = group.leader()
        after = break_at(node, Received, monkeypatch)
        with pytest.raises(AssertionError):
            ask_for_vote(node, node.member.term + 1)
        assert node.member.is_stopped
        with pytest.raises(NotLeader):
            node.put(insert(0, 1))
        with pytest.raises(NotLeader):
            node.member.read_barrier(Deadline.after(1.0))
        assert node.member.step(Tick()) is None
        node.member.tick()
        assert after == []


def test_a_proposal_that_breaks_it_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with GroupCluster(tmp_path, 1) as group:
        node = group.leader()
        after = break_at(node, Propose, monkeypatch)
        with pytest.raises(AssertionError):
            node.put(insert(0, 1))
        assert [str(error) for error in node.failures] == ["an invariant is broken"]
        assert after == []
