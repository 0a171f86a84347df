"""Reads out of a leader's lease: thesis 6.4.1."""

from __future__ import annotations

import random

import pytest

from cluster.raft.core import RaftCore
from cluster.raft.effects import RejectReason
from cluster.raft.events import (
    Propose,
    ReadRequest,
    Received,
    Tick,
    TransferLeadership,
)
from cluster.raft.messages import (
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.types import (
    EntryMeta,
    HardState,
    Membership,
    RaftConfig,
    Role,
    SnapshotMeta,
)
from harness.sim.lockstep import Peer

FIVE = Membership((1, 2, 3, 4, 5))
ELECTION, DRIFT = 10, 2
LEASE = ELECTION - 1 - DRIFT


def config(node_id, **more):
    values = {
        "heartbeat_ticks": 3,
        "election_ticks": ELECTION,
        "lease_reads": True,
        "max_clock_drift_ticks": DRIFT,
    }
    return RaftConfig(node_id, **{**values, **more})


def leader(**more):
    """Return node 1 of five, just elected, its no-op committed, no heartbeat answered yet."""
    peer = Peer(1, FIVE, config=config(1, **more))
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    for pre in (True, False):
        for voter in (2, 3):
            peer.step(Received(VoteResponse(voter, 1, 1, True, pre)))
    for voter in (2, 3):
        peer.step(Received(AppendResponse(voter, 1, 1, True, 1, 1)))
    assert peer.core.commit == 1
    return peer


def beats(peer):
    return [m.read_context for m in peer.sent if isinstance(m, Heartbeat)]


def answer(peer, frm, context):
    return peer.step(Received(HeartbeatResponse(frm, 1, 1, context, 1)))


def is_read_at_once(peer, late_ticks=0):
    """Whether a read is; what is said without a step must be the same."""
    told = peer.core.readable_index(late_ticks)
    ready = peer.step(ReadRequest(random.getrandbits(60), late_ticks)).reads
    assert [index for _, index in ready] == ([] if told is None else [told])
    return bool(ready)


def test_a_lease_lasts_from_when_the_confirmed_heartbeat_was_sent():
    peer = leader()
    assert not peer.core.holds_lease()
    peer.step(Tick())
    peer.step(Tick())
    answer(peer, 2, 1)
    assert not peer.core.holds_lease()  # two of five
    answer(peer, 3, 1)
    for _ in range(LEASE - 2):
        assert is_read_at_once(peer)
        assert peer.core.status()["lease"]
        peer.step(Tick())
    assert not is_read_at_once(peer)


def test_a_lease_read_sends_nothing():
    peer = leader()
    answer(peer, 2, 1)
    answer(peer, 3, 1)
    peer.sent.clear()
    assert peer.step(ReadRequest(4)).reads == [(4, 1)]
    assert peer.sent == []


def test_later_heartbeats_renew_the_lease():
    peer = leader()
    for _ in range(40):
        peer.sent.clear()
        peer.step(Tick())
        for number in beats(peer)[:1]:
            answer(peer, 2, number)
            answer(peer, 4, number)
        peer.step(Propose((b"a",)))
    assert is_read_at_once(peer)


def test_time_that_no_tick_has_told_of_yet_counts():
    """A process that was stopped must not read out of a lease that has run out meanwhile."""
    peer = leader()
    answer(peer, 2, 1)
    answer(peer, 3, 1)
    assert is_read_at_once(peer, LEASE - 1)
    assert not is_read_at_once(peer, LEASE)
    assert is_read_at_once(peer)
    peer.step(Tick(LEASE))
    assert not is_read_at_once(peer)


def test_without_a_lease_a_quorum_is_asked():
    peer = leader(lease_reads=False)
    answer(peer, 2, 1)
    answer(peer, 3, 1)
    peer.sent.clear()
    assert peer.step(ReadRequest(4)).reads == []
    assert beats(peer) == [2, 2, 2, 2]
    answer(peer, 2, 2)
    assert answer(peer, 3, 2).reads == [(4, 1)]


def test_answers_to_forgotten_or_unsent_heartbeats_renew_nothing():
    peer = leader()
    for number in (0, 7):
        answer(peer, 2, number)
        answer(peer, 3, number)
    assert not peer.core.holds_lease()


def test_no_lease_before_the_term_has_committed_something():
    peer = Peer(1, FIVE, config=config(1))
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    for pre in (True, False):
        for voter in (2, 3):
            peer.step(Received(VoteResponse(voter, 1, 1, True, pre)))
    answer(peer, 2, 1)
    answer(peer, 3, 1)
    assert not peer.core.holds_lease()


def test_a_transfer_suspends_the_lease_and_its_message_ends_it():
    peer = leader()
    answer(peer, 2, 1)
    answer(peer, 3, 1)
    peer.step(Propose((b"a",)))
    peer.step(TransferLeadership(4))
    assert not peer.core.holds_lease()
    assert peer.step(Propose((b"b",))).rejected.reason is RejectReason.TRANSFERRING
    for _ in range(ELECTION):
        peer.step(Tick())
        for voter in (2, 3):
            answer(peer, voter, beats(peer)[-1])
    assert peer.core.transfer_target == 0  # given up: node 4 never had all
    assert peer.core.holds_lease()
    peer.step(TransferLeadership(4))
    peer.step(Received(AppendResponse(4, 1, 1, True, 2, 2)))
    assert [m.to for m in peer.sent if isinstance(m, TimeoutNow)] == [4]
    for _ in range(ELECTION):
        peer.step(Tick())
        for voter in (2, 3):
            answer(peer, voter, beats(peer)[-1])
    assert peer.core.role is Role.LEADER
    assert peer.core.transfer_target == 0
    assert not peer.core.holds_lease()  # the message may still arrive
    assert peer.step(Propose((b"b",))).proposed is not None


def test_a_sole_voter_always_holds_it():
    peer = Peer(1, Membership((1,)), config=config(1))
    peer.step(Tick())
    assert is_read_at_once(peer)
    peer.step(Tick(1_000))
    assert is_read_at_once(peer)


# ---- the promise of those who are led ----


def test_who_hears_a_leader_votes_for_nobody_during_an_election_time_out():
    peer = Peer(2, FIVE, config=config(2))
    peer.step(Received(Heartbeat(1, 2, 1, 0)))
    for _ in range(ELECTION - 1):
        peer.step(Tick())
        peer.step(Received(VoteRequest(3, 2, 2, 9, 9)))
        assert not peer.sent.pop().granted
    peer.step(Tick())
    peer.step(Received(VoteRequest(3, 2, 2, 9, 9)))
    assert peer.sent.pop().granted


def test_a_clock_that_leaps_leaves_the_promise_as_long_as_the_lease_that_rests_on_it():
    peer = Peer(2, FIVE, config=config(2))
    peer.step(Received(Heartbeat(1, 2, 1, 0)))
    ahead = peer.core.ticks_until_due
    # at that moment: the leap, and behind it the border between two ticks
    peer.step(Tick(1000, counted=ahead))
    ticks_of_real_time = -1
    granted = False
    while not granted:
        peer.step(Tick())
        ticks_of_real_time += 1
        peer.step(Received(VoteRequest(3, 2, 2, 9, 9)))
        granted = peer.sent.pop().granted
    assert ticks_of_real_time >= LEASE


def test_the_promise_stands_when_a_higher_term_shows_up():
    """A late refusal of our own pre-vote may bring one; the lease goes by the clock alone."""
    peer = Peer(2, FIVE, config=config(2))
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    peer.step(Received(Heartbeat(1, 2, 1, 0)))
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    # hears the leader again, and only then what it was answered
    peer.step(Received(VoteResponse(3, 2, 2, False, True)))
    assert peer.core.term == 2
    peer = Peer(2, FIVE, term=1, config=config(2, lease_reads=False))
    peer.step(Received(Heartbeat(1, 2, 1, 0)))
    peer.step(Received(AppendResponse(3, 2, 5, False, 0)))  # any message may carry it
    assert (peer.core.term, peer.core.leader) == (5, 0)
    peer.step(Received(VoteRequest(3, 2, 6, 9, 9)))
    assert not peer.sent.pop().granted


@pytest.mark.parametrize(
    ("lease", "term", "voters", "promised"),
    [
        (True, 3, (1, 2, 3), True),
        (False, 3, (1, 2, 3), False),
        (True, 0, (1, 2, 3), False),  # it has never followed anybody
        (True, 3, (2,), False),
    ],
)
def test_a_member_that_starts_keeps_what_it_may_have_promised(lease, term, voters, promised):
    core = RaftCore(
        config(2, lease_reads=lease, first_campaign_ticks=1),
        SnapshotMeta(0, 0, Membership(voters)),
        HardState(term, 0),
        [EntryMeta(i + 1, 1, 5) for i in range(min(term, 1))],
        0,
        random.Random(0),
    )
    effects = core.step(Received(VoteRequest(3, 2, term + 1, 9, 9, pre=True)))
    assert (effects.send + effects.send_after_persist)[0].granted is not promised
    core.step(Tick())
    assert (core.role is Role.FOLLOWER) is promised
    for _ in range(2 * ELECTION):
        core.step(Tick())
    assert core.role is not Role.FOLLOWER


def test_who_is_alone_reads_at_once_when_its_first_entry_is_committed():
    peer = Peer(1, Membership((1,)), config=RaftConfig(1))
    assert peer.core.readable_index() is None
    while peer.core.role is not Role.LEADER:
        assert peer.core.readable_index() is None
        peer.step(Tick())
    while peer.core.commit < peer.core.last_index:
        assert peer.core.readable_index() is None
        peer.step(Tick())
    assert is_read_at_once(peer)
    peer.step(Propose((b"a",)))
    assert peer.core.readable_index() == peer.core.commit
