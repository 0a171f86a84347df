"""The arithmetic of majorities, as plain functions; joint configurations included (thesis 4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from cluster.raft.types import LogIndex, Membership, NodeId


class VoteResult(Enum):
    """State of a poll."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def committed_index(acked: Mapping[NodeId, LogIndex], voters: Sequence[NodeId]) -> LogIndex:
    """Return the highest index that a majority of voters has made durable.

    Args:
        acked: last index each voter reported as persisted; a missing voter counts as 0.
        voters: unique, at least one.

    Returns:
        An index in [0, max(acked)]; the caller still checks that its term is current
        (thesis 3.6.2).
    """
    zero = LogIndex(0)
    reached = sorted([acked.get(voter, zero) for voter in voters])
    return reached[(len(reached) - 1) // 2]


def joint_committed_index(acked: Mapping[NodeId, LogIndex], membership: Membership) -> LogIndex:
    """Return the highest index durable on a majority of the new, and of the old, voters."""
    index = committed_index(acked, membership.voters)
    if membership.outgoing:
        return min(index, committed_index(acked, membership.outgoing))
    return index


def has_quorum(nodes: Mapping[NodeId, object], membership: Membership) -> bool:
    """Whether the keys of `nodes` contain a majority of every voter set."""
    return _has_majority(nodes, membership.voters) and (
        not membership.outgoing or _has_majority(nodes, membership.outgoing)
    )


def vote_result(votes: Mapping[NodeId, bool], membership: Membership) -> VoteResult:
    """Return how a poll stands; votes of nodes that are no voters don't count."""
    result = _majority_result(votes, membership.voters)
    if membership.outgoing:
        old = _majority_result(votes, membership.outgoing)
        if VoteResult.LOST in (result, old):
            return VoteResult.LOST
        if VoteResult.PENDING in (result, old):
            return VoteResult.PENDING
    return result


def _has_majority(nodes: Mapping[NodeId, object], voters: Sequence[NodeId]) -> bool:
    return sum([voter in nodes for voter in voters]) * 2 > len(voters)


def _majority_result(votes: Mapping[NodeId, bool], voters: Sequence[NodeId]) -> VoteResult:
    granted = sum([votes.get(voter, False) for voter in voters])
    answered = sum([voter in votes for voter in voters])
    if granted * 2 > len(voters):
        return VoteResult.WON
    # those who have not answered may still grant
    if (granted + len(voters) - answered) * 2 > len(voters):
        return VoteResult.PENDING
    return VoteResult.LOST
