"""The arithmetic of majorities against slow twins."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from cluster.raft.quorum import (
    VoteResult,
    committed_index,
    has_quorum,
    joint_committed_index,
    vote_result,
)
from cluster.raft.types import Membership


def slow_committed(acked, voters):
    """The highest index such that more than half of the voters have it, by trying them all."""
    for index in range(max([0, *acked.values()]), -1, -1):
        if len([v for v in voters if acked.get(v, 0) >= index]) > len(voters) / 2:
            return index
    raise AssertionError


def slow_result(votes, voters):
    """Won if it is won however the rest votes; lost if it can't be won any more."""
    open_voters = [v for v in voters if v not in votes]
    outcomes = []
    for rest in product([False, True], repeat=len(open_voters)):
        full = {**votes, **dict(zip(open_voters, rest, strict=True))}
        outcomes.append(len([v for v in voters if full[v]]) > len(voters) / 2)
    if all(outcomes):
        return VoteResult.WON
    return VoteResult.PENDING if any(outcomes) else VoteResult.LOST


def test_committed_index_exhaustively_for_up_to_five_voters():
    for size in range(1, 6):
        voters = tuple(range(1, size + 1))
        for indices in product(range(4), repeat=size):
            acked = {v: i for v, i in zip(voters, indices, strict=True) if i}
            assert committed_index(acked, voters) == slow_committed(acked, voters)


_voter_sets = st.sets(st.integers(1, 9), min_size=1, max_size=7).map(lambda s: tuple(sorted(s)))


@given(st.dictionaries(st.integers(1, 9), st.integers(0, 50)), _voter_sets, _voter_sets)
def test_joint_committed_index_needs_both_sets(acked, voters, outgoing):
    expected = min(slow_committed(acked, voters), slow_committed(acked, outgoing))
    assert joint_committed_index(acked, Membership(voters, outgoing)) == expected
    assert joint_committed_index(acked, Membership(voters)) == slow_committed(acked, voters)


def test_vote_result_exhaustively_for_up_to_five_voters():
    for size in range(1, 6):
        voters = tuple(range(1, size + 1))
        for answers in product([None, False, True], repeat=size):
            votes = {v: a for v, a in zip(voters, answers, strict=True) if a is not None}
            assert vote_result(votes, Membership(voters)) is slow_result(votes, voters)


@given(st.dictionaries(st.integers(1, 9), st.booleans()), _voter_sets, _voter_sets)
def test_joint_vote_result_is_the_worse_of_both(votes, voters, outgoing):
    both = [slow_result(votes, voters), slow_result(votes, outgoing)]
    expected = next(
        result for result in (VoteResult.LOST, VoteResult.PENDING, VoteResult.WON) if result in both
    )
    assert vote_result(votes, Membership(voters, outgoing)) is expected


@given(st.sets(st.integers(1, 9)), _voter_sets, _voter_sets)
def test_has_quorum_counts_voters_only(nodes, voters, outgoing):
    present = dict.fromkeys(nodes, True)
    expected = all(
        len(set(voter_set) & nodes) > len(voter_set) / 2 for voter_set in (voters, outgoing)
    )
    assert has_quorum(present, Membership(voters, outgoing)) == expected
