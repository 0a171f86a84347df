"""Elections: thesis 3.4, 3.6.1, 3.8, 3.10, 4.2.3, 6.2, 9.6."""

from __future__ import annotations

import random

import pytest

from cluster.raft.core import RaftCore
from cluster.raft.effects import RejectReason
from cluster.raft.events import Applied, Propose, Received, Tick, TransferLeadership
from cluster.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.types import (
    INITIAL_HARD_STATE,
    Entry,
    EntryKind,
    HardState,
    Membership,
    RaftConfig,
    Role,
    SnapshotMeta,
)
from harness.sim.lockstep import Lockstep, Peer, group

THREE = Membership((1, 2, 3))


def test_a_group_elects_one_leader_and_all_know_it():
    net = group(3)
    leader = net.elect(2)
    assert [p.core.leader for p in net.peers.values()] == [2, 2, 2]
    assert [p.core.role for p in net.peers.values()] == [Role.FOLLOWER, Role.LEADER, Role.FOLLOWER]
    assert leader.core.term == 1
    assert leader.core.commit == 1  # its no-op


def test_time_outs_are_random_within_one_and_two_election_times():
    seen = []
    for seed in range(200):
        core = RaftCore(
            RaftConfig(1, 1, 10),
            SnapshotMeta(0, 0, THREE),
            INITIAL_HARD_STATE,
            [],
            0,
            random.Random(seed),
        )
        ticks = 0
        while core.role is Role.FOLLOWER:
            core.step(Tick())
            ticks += 1
        seen.append(ticks)
    assert sorted(set(seen)) == list(range(10, 20))


def campaigns(peer, count):
    """Return after how many ticks each the next campaigns begin."""
    pauses = []
    for _ in range(count):
        ticks = 0
        peer.sent.clear()
        while not peer.sent:
            peer.step(Tick())
            ticks += 1
        assert all(m.pre for m in peer.sent)
        pauses.append(ticks)
    return pauses


def test_the_favoured_one_campaigns_first_but_only_once():
    config = RaftConfig(1, 1, 10, first_campaign_ticks=2)
    peer = Peer(1, THREE, config=config)
    assert campaigns(peer, 1) == [2]
    peer.step(Received(VoteResponse(2, 1, 0, False, True)))
    peer.step(Received(VoteResponse(3, 1, 0, False, True)))
    assert campaigns(peer, 1)[0] >= 10


def test_a_pre_vote_that_came_to_nothing_is_soon_repeated_and_then_with_patience():
    seen = [set() for _ in range(6)]
    for seed in range(1, 80):
        peer = Peer(seed, Membership((seed, 1000, 1001)), config=RaftConfig(seed, 1, 12))
        for pause, among in zip(campaigns(peer, 6), seen, strict=True):
            among.add(pause)
    late = {*range(12, 24)}
    assert seen == [late, {3, 4, 5}, {*range(6, 12)}, late, late, late]


@pytest.mark.parametrize(("terms", "other_terms", "first"), [((), (), 2), ((1,), (1, 1), 3)])
def test_of_two_that_ask_for_pre_votes_at_once_one_gives_way(terms, other_terms, first):
    """Else each would vote for itself, and the third, who could decide, is away."""
    peers = [Peer(2, THREE, terms=terms), Peer(3, THREE, terms=other_terms)]
    net = Lockstep(Peer(1, THREE), *peers)
    net.down = [1]
    for peer in peers:
        while peer.core.role is not Role.ELECTOR:
            peer.step(Tick())
    net.deliver()
    roles = {number: net[number].core.role for number in (2, 3)}
    assert roles == {first: Role.LEADER, 5 - first: Role.FOLLOWER}


def test_who_goes_first_and_is_not_heard_does_not_keep_the_others_from_electing():
    net = group(3)
    for peer in (net[1], net[2]):
        while peer.core.role is not Role.ELECTOR:
            peer.step(Tick())
    for _ in range(60):
        net[1].step(Tick())
        net[3].step(Tick())
        # what 1 asks for is lost, and what it answers is not; 2 hears nobody
        net.deliver(lambda m: None if (m.frm == 1 and type(m) is VoteRequest) or m.to == 2 else m)
    assert net[3].core.role is Role.LEADER


@pytest.mark.parametrize(("backlog", "first", "last"), [(5, 10, 19), (6, 20, 29)])
def test_a_member_with_much_to_apply_lets_others_campaign_first(backlog, first, last):
    waited = set()
    for seed in range(1, 100):
        config = RaftConfig(seed, 1, 10, max_campaign_backlog=5)
        peer = Peer(seed, Membership((seed, 1000, 1001)), config=config)
        peer.hold_apply = True
        entries = tuple(Entry(i, 1, EntryKind.PLAN, b"") for i in range(1, backlog + 1))
        peer.step(Received(AppendRequest(1000, seed, 1, 0, 0, entries, backlog)))
        assert peer.told == backlog
        ticks = 0
        while peer.core.role is Role.FOLLOWER:
            peer.step(Tick())
            ticks += 1
        waited.add(ticks)
    assert first <= min(waited) < max(waited) <= last


def test_a_member_that_has_caught_up_is_patient_no_longer():
    peer = Peer(1, THREE, config=RaftConfig(1, 1, 10, max_campaign_backlog=5))
    peer.hold_apply = True
    entries = tuple(Entry(i, 1, EntryKind.PLAN, b"") for i in range(1, 10))
    peer.step(Received(AppendRequest(2, 1, 1, 0, 0, entries, 9)))
    for _ in range(19):
        peer.step(Tick())
    assert peer.core.role is Role.FOLLOWER
    peer.step(Applied(4))
    peer.step(Tick())
    assert peer.core.role is Role.ELECTOR


def test_a_pre_vote_touches_no_term():
    net = group(3)
    net.down = [2, 3]
    net.tick(1, times=200)
    assert net[1].core.role is Role.ELECTOR
    assert net[1].core.term == 0
    assert net[1].last.persist is None


def test_a_returning_member_does_not_depose_the_leader():
    net = group(3)
    net.elect(1)
    net.down = [3]
    net.tick(times=50)
    net[3].step(Tick())
    for _ in range(50):
        net[3].step(Tick())
    net[3].sent.clear()
    net.down = []
    net.tick(times=50)
    assert net[1].core.role is Role.LEADER
    assert net[1].core.term == 1
    assert net[3].core.leader == 1


@pytest.mark.parametrize("pre", [True, False])
def test_votes_are_refused_while_a_leader_is_heard(pre):
    net = group(3)
    net.elect(1)
    term = net[2].core.term
    request = VoteRequest(3, 2, term + 5, 99, 99, pre=pre, id=7)
    net[2].step(Received(request))
    answer = net[2].sent.pop()
    assert answer == VoteResponse(2, 3, term, False, pre, 7, commit=1, commit_term=1)
    assert net[2].core.term == term
    net[1].step(Received(request._replace(to=1)))
    assert net[1].core.role is Role.LEADER
    # a transfer is the leader's own wish
    net[2].step(Received(request._replace(transfer=True)))
    assert net[2].sent.pop().granted


def test_votes_are_given_again_once_the_leader_is_silent():
    net = group(3)
    net.elect(1)
    for _ in range(10):
        net[2].step(Tick())
    if net[2].core.role is Role.ELECTOR:
        net[2].sent.clear()
    net[2].step(Received(VoteRequest(3, 2, 9, 99, 99)))
    assert net[2].sent.pop() == VoteResponse(2, 3, 9, True, commit=1, commit_term=1)


def test_a_vote_waits_for_the_disk_and_is_given_once_a_term():
    peer = Peer(2, THREE)
    peer.hold_disk = True
    effects = peer.step(Received(VoteRequest(1, 2, 1, 0, 0, id=5)))
    assert effects.persist.hard_state == HardState(1, 1)
    assert effects.send == []
    assert effects.send_after_persist == [VoteResponse(2, 1, 1, True, id=5)]
    effects = peer.step(Received(VoteRequest(3, 2, 1, 9, 9)))
    assert effects.send_after_persist == [VoteResponse(2, 3, 1, False)]
    effects = peer.step(Received(VoteRequest(1, 2, 1, 0, 0)))
    assert effects.send_after_persist == [VoteResponse(2, 1, 1, True)]
    assert effects.persist is None


def test_a_vote_survives_a_restart():
    peer = Peer(2, THREE, term=4, vote=1)
    peer.step(Received(VoteRequest(3, 2, 4, 99, 99)))
    assert not peer.sent.pop().granted
    peer.step(Received(VoteRequest(1, 2, 4, 99, 99)))
    assert peer.sent.pop().granted


@pytest.mark.parametrize("pre", [True, False])
@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(3, 2, True), (2, 2, False), (9, 1, False), (1, 3, True)],
)
def test_only_an_up_to_date_log_gets_a_vote(pre, last_index, last_term, granted):
    peer = Peer(2, THREE, terms=[1, 2, 2])
    peer.step(Received(VoteRequest(1, 2, 3, last_index, last_term, pre=pre)))
    answer = peer.sent.pop()
    assert answer.granted is granted
    assert answer.term == (3 if granted or not pre else 2)
    if pre:
        assert peer.core.term == 2


def test_a_pre_vote_for_a_past_term_is_refused_with_the_present_one():
    peer = Peer(2, THREE, term=6)
    peer.step(Received(VoteRequest(1, 2, 6, 0, 0, pre=True)))
    assert peer.sent.pop() == VoteResponse(2, 1, 6, False, True)
    asker = Peer(1, THREE, term=5)
    while asker.core.role is not Role.ELECTOR:
        asker.step(Tick())
    asker.step(Received(VoteResponse(2, 1, 6, False, True)))
    assert (asker.core.role, asker.core.term) == (Role.FOLLOWER, 6)


def test_vote_requests_leave_only_after_term_and_own_vote_are_durable():
    net = group(3)
    candidate = net[1]
    while candidate.core.role is not Role.ELECTOR:
        candidate.step(Tick())
    candidate.sent.clear()
    candidate.hold_disk = True
    effects = candidate.step(Received(VoteResponse(2, 1, 1, True, True)))
    assert effects.persist.hard_state == HardState(1, 1)
    assert candidate.sent == []
    candidate.sync()
    assert [(m.to, m.term, m.pre) for m in candidate.sent] == [(2, 1, False), (3, 1, False)]


def test_answers_of_another_campaign_do_not_count():
    peer = Peer(1, Membership((1, 2, 3, 4, 5)), term=3)
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    peer.step(Received(VoteResponse(2, 1, 3, True, True)))  # for term 3, we ask for 4
    peer.step(Received(VoteResponse(3, 1, 3, True, False)))  # a real vote, we ask for pre-votes
    peer.step(Received(VoteResponse(9, 1, 4, True, True)))  # no member
    peer.step(Received(VoteResponse(4, 1, 4, True, True)))
    assert (peer.core.role, peer.core.term) == (Role.ELECTOR, 3)
    peer.step(Received(VoteResponse(5, 1, 4, True, True)))
    assert (peer.core.role, peer.core.term) == (Role.ELECTOR, 4)
    peer.step(Received(VoteResponse(2, 1, 3, True, False)))
    peer.step(Received(VoteResponse(3, 1, 4, True, False)))
    peer.step(Received(VoteResponse(3, 1, 4, True, False)))
    assert peer.core.role is Role.ELECTOR
    peer.step(Received(VoteResponse(4, 1, 4, True, False)))
    assert peer.core.role is Role.LEADER


def test_a_lost_election_makes_a_follower():
    peer = Peer(1, THREE)
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    peer.step(Received(VoteResponse(2, 1, 0, False, True)))
    assert peer.core.role is Role.ELECTOR
    peer.step(Received(VoteResponse(3, 1, 0, False, True)))
    assert peer.core.role is Role.FOLLOWER


def test_a_leader_that_hears_no_majority_steps_down():
    net = group(5)
    leader = net.elect(1)
    net.down = [3, 4]
    net.tick(times=40)
    assert leader.core.role is Role.LEADER
    net.down = [3, 4, 5]
    net.tick(1, 2, times=21)
    assert leader.core.role is not Role.LEADER
    assert (leader.core.leader, leader.core.term) == (0, 1)


@pytest.mark.parametrize("kind", ["append", "heartbeat"])
def test_a_deposed_leader_learns_the_term_from_the_answer(kind):
    peer = Peer(2, THREE, term=7)
    message = AppendRequest(1, 2, 3, 0, 0, (), 0) if kind == "append" else Heartbeat(1, 2, 3, 0)
    peer.step(Received(message))
    answer = peer.sent.pop()
    assert answer.term == 7
    assert peer.core.leader == 0
    leader = group(3).elect(1)
    leader.step(Received(answer._replace(to=1)))
    assert (leader.core.role, leader.core.term) == (Role.FOLLOWER, 7)
    assert leader.last.persist.hard_state == HardState(7, 0)


def test_a_sole_voter_leads_at_once_and_commits_when_durable():
    peer = Peer(1, Membership((1,)))
    peer.hold_disk = True
    effects = peer.step(Tick())
    assert peer.core.role is Role.LEADER
    assert effects.persist.hard_state == HardState(1, 1)
    assert len(effects.persist.entries) == 1
    assert peer.core.commit == 0
    peer.sync()
    assert peer.core.commit == 1


def test_a_sole_voter_sends_learners_nothing_before_its_term_is_durable():
    peer = Peer(1, Membership((1,), learners=(2,)))
    peer.hold_disk = True
    effects = peer.step(Tick())
    assert peer.core.role is Role.LEADER
    assert effects.appends == []
    assert peer.step(Propose((b"x",))).appends == []
    peer.sync()
    appended = [m for m in peer.sent if isinstance(m, AppendRequest)]
    assert [m.to for m in appended] == [2]


def test_a_learner_never_campaigns():
    peer = Peer(3, Membership((1, 2), learners=(3,)))
    for _ in range(100):
        peer.step(Tick())
    assert peer.core.role is Role.FOLLOWER


def test_two_leaders_in_one_term_stop_the_member():
    net = group(3)
    leader = net.elect(1)
    with pytest.raises(AssertionError, match="leads term 1"):
        leader.step(Received(Heartbeat(2, 1, 1, 0)))


def test_a_message_for_another_node_is_refused():
    peer = Peer(2, THREE)
    with pytest.raises(ValueError, match="message for node 3"):
        peer.step(Received(VoteRequest(1, 3, 9, 0, 0)))
    assert peer.core.term == 0


# ---- transfer ----


def test_transfer_hands_over_at_once():
    net = group(3)
    net.elect(1)
    net.propose(1, b"a")
    net[1].step(TransferLeadership(3))
    net.deliver()
    assert net[3].core.role is Role.LEADER
    assert net[1].core.leader == 3


def test_transfer_waits_for_the_target_to_catch_up_and_takes_no_proposals():
    net = group(3)
    net.elect(1)
    net.down = [3]
    net.propose(1, b"a")
    net[1].step(TransferLeadership(3))
    assert not any(isinstance(m, TimeoutNow) for m in net[1].sent)
    rejected = net[1].step(Propose((b"b",))).rejected
    assert rejected.reason is RejectReason.TRANSFERRING
    net.down = []
    net.tick(times=10)
    assert net[3].core.role is Role.LEADER
    assert net[3].entries[1].data == b"a"


def test_a_stuck_transfer_is_given_up():
    net = group(3)
    net.elect(1)
    net.down = [3]
    net[1].step(TransferLeadership(3))
    net.tick(1, 2, times=10)
    assert net.propose(1, b"b").proposed is not None


def test_nobody_hands_over_to_a_learner_or_itself():
    peer = Peer(1, Membership((1,), learners=(2,)))
    peer.step(Tick())
    for target in (1, 2, 9):
        peer.step(TransferLeadership(target))
        assert peer.step(Propose((b"x",))).proposed is not None


def test_an_old_timeout_now_is_ignored():
    net = group(3)
    net.elect(1)
    net[2].step(Received(TimeoutNow(3, 2, 0)))
    assert net[2].core.role is Role.FOLLOWER


def test_answers_of_older_terms_are_ignored():
    net = Lockstep(*(Peer(i, THREE, terms=[1], term=3) for i in (1, 2, 3)))
    leader = net.elect(1)
    net.down = [2, 3]
    net.propose(1, b"x")
    assert (leader.core.term, leader.core.commit, leader.core.last_index) == (4, 2, 3)
    leader.step(Received(AppendResponse(3, 1, 3, True, 3)))
    leader.step(Received(HeartbeatResponse(3, 1, 3)))
    assert leader.core.commit == 2
    leader.step(Received(AppendResponse(3, 1, 4, True, 3)))
    assert leader.core.commit == 3


@pytest.mark.parametrize("seed", range(20))
def test_ticks_that_are_put_off_change_nothing(seed):
    """One Tick for as many as `ticks_until_due` allows, or what passed before a message."""
    each, lazy = (Peer(1, THREE, config=RaftConfig(1, 2, 12)) for _ in range(2))
    rng = random.Random(seed)
    ahead, left_out = 1, 0
    for _ in range(200):
        each.step(Tick())
        left_out += 1
        message = None
        if rng.random() < 0.1:
            term = max(1, each.core.term)
            message = Received(Heartbeat(2, 1, term, 0, 1)) if each.core.leader in (0, 2) else None
        if left_out == ahead or message is not None:
            lazy.step(Tick(left_out, counted=left_out))
            left_out = 0
        if message is not None:
            each.step(message)
            lazy.step(message)
        if not left_out:
            ahead = lazy.core.ticks_until_due
            assert 1 <= ahead <= 2
            assert lazy.core.status() == each.core.status()


def test_a_late_tick_counts_for_what_was_planned():
    peer = Peer(1, THREE, config=RaftConfig(1, 2, 12))
    peer.step(Tick(500, counted=1))  # stopped: it has not listened for 500 ticks
    assert peer.core.role is Role.FOLLOWER
    for _ in range(10):
        peer.step(Tick(50, counted=1))
    assert peer.core.role is Role.FOLLOWER


def test_a_campaign_goes_on_when_it_hears_that_the_membership_it_goes_by_is_committed():
    """The group's first entry says who founded it; the voters may know first that it stands."""
    net = group(3)
    net.elect(1)
    peer = Peer(2, THREE, entries=net[1].entries, config=RaftConfig(2, 1, 10))
    assert peer.core.applied == 0
    peer.step(Received(TimeoutNow(1, 2, 1)))
    assert peer.core.role is Role.ELECTOR
    peer.hold_apply = True
    peer.step(Received(VoteResponse(1, 2, 2, True, commit=1, commit_term=1)))
    assert peer.core.commit == 1
    assert peer.core.applied == 0
    assert peer.core.role is Role.LEADER


def test_a_time_out_that_may_not_lead_to_a_campaign_does_so_later():
    core = RaftCore(
        RaftConfig(1, 1, 10), SnapshotMeta(0, 0, THREE), INITIAL_HARD_STATE, [], 0, random.Random(1)
    )
    for _ in range(50):
        assert not core.step(Tick(may_campaign=False)).send
    assert core.role is Role.FOLLOWER
    assert not core.hears_leader()
    asked = core.step(Tick()).send
    assert [type(message) for message in asked] == [VoteRequest, VoteRequest]
    assert core.role is Role.ELECTOR
