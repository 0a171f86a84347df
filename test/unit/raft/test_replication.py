"""Replication and commit: thesis 3.5, 3.6, 10.2.1; figures 7 and 8 of the Raft paper."""

from __future__ import annotations

import random

import pytest

from cluster.raft.core import RaftCore
from cluster.raft.effects import RejectReason, SendAppend
from cluster.raft.events import (
    Applied,
    Persisted,
    Propose,
    Received,
    Tick,
    Unreachable,
)
from cluster.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.types import (
    Entry,
    EntryKind,
    EntryMeta,
    HardState,
    Membership,
    RaftConfig,
    Role,
    SnapshotMeta,
)
from harness.sim.lockstep import Lockstep, Peer, group

THREE = Membership((1, 2, 3))


def entry(index, term, data=b"x"):
    return Entry(index, term, EntryKind.PLAN, data)


def follower(terms=(), **more):
    return Peer(2, THREE, terms=terms, **more)


def lead(terms=(), config=None):
    """Return node 1 as leader of three, its no-op acknowledged by node 2 and committed."""
    peer = Peer(1, THREE, terms=terms, config=config)
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    for pre in (True, False):
        peer.step(Received(VoteResponse(2, 1, peer.core.term + pre, True, pre)))
    ack(peer, 2, peer.core.last_index)
    assert peer.core.commit == peer.core.last_index
    peer.sent.clear()
    return peer


def ack(peer, frm, index):
    return peer.step(Received(AppendResponse(frm, 1, peer.core.term, True, index, index)))


# ---- followers ----


def test_entries_are_acknowledged_only_when_durable():
    peer = follower()
    peer.hold_disk = True
    effects = peer.step(Received(AppendRequest(1, 2, 1, 0, 0, (entry(1, 1),), 0, id=9)))
    assert effects.send == []
    assert effects.persist == (HardState(1, 0), 0, (entry(1, 1),), None)
    assert effects.send_after_persist == [AppendResponse(2, 1, 1, True, 1, 0, id=9)]


def test_a_repeated_request_is_acknowledged_no_further_than_it_reaches():
    peer = follower([1, 1, 1])
    effects = peer.step(Received(AppendRequest(1, 2, 1, 0, 0, (entry(1, 1),), 0)))
    assert effects.persist is None
    assert effects.send == []  # an earlier write may still be under way
    assert effects.send_after_persist[0].match_index == 1
    assert peer.core.last_index == 3


def test_a_delayed_request_does_not_cut_what_came_after_it():
    peer = follower([1, 1, 2, 2])
    peer.step(Received(AppendRequest(1, 2, 2, 1, 1, (entry(2, 1), entry(3, 2)), 0)))
    assert peer.terms() == [1, 1, 2, 2]


def test_a_conflict_truncates_from_there():
    peer = follower([1, 1, 2, 2])
    effects = peer.step(Received(AppendRequest(1, 2, 3, 1, 1, (entry(2, 1), entry(3, 3)), 0)))
    assert effects.persist == (HardState(3, 0), 3, (entry(3, 3),), None)
    assert peer.terms() == [1, 1, 3]
    assert peer.core.persisted_index == 3


def test_a_conflict_with_a_committed_entry_stops_the_member():
    peer = follower([1, 1, 2], applied=2)
    with pytest.raises(AssertionError, match="committed"):
        peer.step(Received(AppendRequest(1, 2, 3, 1, 1, (entry(2, 3),), 0)))
    peer = follower([1, 1, 2], applied=2)
    with pytest.raises(AssertionError, match="committed"):
        peer.step(Received(AppendRequest(1, 2, 3, 2, 3, (), 0)))


@pytest.mark.parametrize(
    ("terms", "prev", "hint"),
    [
        ([1, 1], (5, 3), (2, 1)),  # too short
        ([1, 2, 2, 2], (4, 3), (4, 2)),  # another term, lower than the leader's: look there
        ([1, 4, 4, 4], (4, 3), (1, 1)),  # a term that the leader can't have: skip all of it
        ([], (4, 3), (0, 0)),
    ],
)
def test_a_refusal_hints_where_the_logs_may_agree(terms, prev, hint):
    peer = follower(terms)
    peer.step(Received(AppendRequest(1, 2, 5, *prev, (), 9, id=3)))
    answer = peer.sent.pop()
    assert answer == AppendResponse(2, 1, 5, False, 0, prev[0], *hint, 3)
    assert peer.core.commit == 0


def test_commit_reaches_no_further_than_what_is_known_to_match():
    peer = follower([1, 1, 1, 1])
    peer.step(Received(AppendRequest(1, 2, 2, 1, 1, (entry(2, 1),), 4)))
    assert peer.core.commit == 2
    peer.step(Received(Heartbeat(1, 2, 2, 3)))
    assert peer.core.commit == 3


def test_nothing_is_to_be_applied_before_it_is_durable():
    peer = follower()
    peer.hold_disk = True
    effects = peer.step(Received(AppendRequest(1, 2, 1, 0, 0, (entry(1, 1), entry(2, 1)), 2)))
    assert effects.commit is None
    assert peer.core.commit == 2
    peer.sync()
    assert peer.told == 2


def test_a_late_report_about_a_replaced_entry_is_harmless():
    """(2, term 1) is written, replaced by a leader of term 2, written again by one of term 3."""
    peer = follower([1])
    step = peer.core.step
    step(Received(AppendRequest(1, 2, 1, 1, 1, (entry(2, 1),), 0)))
    step(Received(AppendRequest(3, 2, 2, 1, 1, (entry(2, 2),), 0)))
    step(Persisted(2, 1))
    assert peer.core.persisted_index == 1
    step(Received(AppendRequest(1, 2, 3, 1, 1, (entry(2, 1), entry(3, 3)), 0)))
    step(Persisted(2, 2))
    assert peer.core.persisted_index == 1
    step(Persisted(3, 3))
    assert peer.core.persisted_index == 3


def test_a_report_of_the_first_of_two_equal_writes_does_not_stand_for_the_second():
    peer = follower([1])
    step = peer.core.step
    step(Received(AppendRequest(1, 2, 1, 1, 1, (entry(2, 1),), 0)))
    step(Received(AppendRequest(3, 2, 2, 1, 1, (entry(2, 2),), 0)))
    step(Received(AppendRequest(1, 2, 3, 1, 1, (entry(2, 1),), 0)))
    step(Persisted(2, 1))  # the first write; the disk may yet replace it
    assert peer.core.persisted_index == 1
    step(Persisted(2, 2))
    assert peer.core.persisted_index == 1
    step(Persisted(2, 1))
    assert peer.core.persisted_index == 2


@pytest.mark.parametrize(
    "entries",
    [(entry(3, 1),), (entry(2, 1), entry(4, 1)), (entry(2, 3),), (entry(2, 2), entry(3, 1))],
)
def test_malformed_entries_change_nothing(entries):
    peer = follower([1])
    with pytest.raises(ValueError, match="can't follow"):
        peer.core.step(Received(AppendRequest(1, 2, 2, 1, 1, entries, 0)))
    assert (peer.core.term, peer.core.last_index) == (1, 1)


def test_compacted_entries_are_taken_as_agreed():
    peer = follower([1, 1, 1, 1], applied=3)
    peer.core.compact(3)
    assert peer.core.first_index == 4
    peer.step(Received(AppendRequest(1, 2, 2, 1, 1, (entry(2, 1), entry(3, 1), entry(4, 2)), 0)))
    assert peer.terms() == [1, 1, 1, 2]
    with pytest.raises(AssertionError):
        peer.core.compact(4)


# ---- the leader's side ----


def test_the_leaders_write_and_the_followers_go_on_at_the_same_time():
    peer = lead()
    ack(peer, 3, 1)
    peer.hold_disk = True
    effects = peer.step(Propose((b"a", b"b")))
    assert [e.data for e in effects.persist.entries] == [b"a", b"b"]
    assert effects.proposed == (2, 2, 1)
    assert [(a.to, a.lo, a.hi, a.prev_index, a.prev_term) for a in effects.appends] == [
        (2, 2, 4, 1, 1),
        (3, 2, 4, 1, 1),
    ]


def test_the_leader_counts_itself_only_when_durable():
    peer = lead()
    peer.hold_disk = True
    peer.step(Propose((b"a",)))
    ack(peer, 2, 2)
    assert peer.core.commit == 1
    peer.sync()
    assert peer.core.commit == 2


def test_followers_alone_may_commit_but_the_leader_applies_when_durable():
    peer = lead()
    peer.hold_disk = True
    peer.step(Propose((b"a",)))
    ack(peer, 2, 2)
    assert ack(peer, 3, 2).commit is None
    assert peer.core.commit == 2
    peer.sync()
    assert peer.told == 2


def test_proposals_elsewhere_or_in_another_term_are_refused():
    net = group(3)
    net.elect(1)
    assert net[2].step(Propose((b"a",))).rejected == (RejectReason.NOT_LEADER, 1)
    rejected = net[1].step(Propose((b"a",), expected_term=9)).rejected
    assert rejected == (RejectReason.STALE_TERM, 1)
    assert net[1].step(Propose((b"a",), expected_term=1)).proposed is not None
    with pytest.raises(ValueError, match="nothing"):
        net[1].step(Propose(()))


def test_uncommitted_bytes_are_bounded():
    peer = lead(config=RaftConfig(1, 1, 10, max_uncommitted_bytes=10))
    assert peer.step(Propose((b"x" * 50,))).proposed is not None  # alone it may be large
    effects = peer.step(Propose((b"x",)))
    assert effects.rejected.reason is RejectReason.TOO_MANY_UNCOMMITTED
    assert effects.persist is None
    ack(peer, 2, 2)
    assert peer.step(Propose((b"x" * 4, b"y" * 6))).proposed is not None
    assert peer.step(Propose((b"x",))).rejected is not None


def test_batches_and_window():
    peer = lead(config=RaftConfig(1, 1, 10, max_append_bytes=20, max_inflight_bytes=50))
    effects = peer.step(Propose(tuple(b"0123456789" for _ in range(8))))
    sent = [(a.lo, a.hi) for a in effects.appends if a.to == 2]
    assert sent == [(2, 4), (4, 6), (6, 7)]
    effects = ack(peer, 2, 3)
    assert [(a.lo, a.hi) for a in effects.appends if a.to == 2] == [(7, 9)]
    effects = ack(peer, 2, 8)
    assert [(a.lo, a.hi) for a in effects.appends if a.to == 2] == [(9, 10)]


def test_one_entry_larger_than_a_batch_goes_alone():
    peer = lead(config=RaftConfig(1, 1, 10, max_append_bytes=5, max_inflight_bytes=5))
    effects = peer.step(Propose((b"x" * 100, b"y")))
    assert [(a.lo, a.hi) for a in effects.appends if a.to == 2] == [(2, 3)]
    effects = ack(peer, 2, 2)
    assert [(a.lo, a.hi) for a in effects.appends if a.to == 2] == [(3, 4)]


def test_a_probe_is_one_at_a_time_and_small():
    peer = Peer(1, THREE, terms=[1], config=RaftConfig(1, 1, 10))
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    peer.step(Received(VoteResponse(2, 1, 2, True, True)))
    effects = peer.step(Received(VoteResponse(2, 1, 2, True, False)))
    assert [(a.to, a.prev_index, a.lo, a.hi) for a in effects.appends] == [
        (2, 1, 2, 3),
        (3, 1, 2, 3),
    ]
    assert peer.step(Propose((b"x" * 100_000,))).appends == []
    refusal = AppendResponse(3, 1, 2, False, 0, 1, 0, 0)
    assert [(a.lo, a.hi) for a in peer.step(Received(refusal)).appends] == [(1, 3)]
    assert peer.step(Received(refusal)).appends == []  # repeated: stale
    assert [(a.lo, a.hi) for a in ack(peer, 3, 2).appends] == [(3, 4)]


def test_a_large_entry_is_not_sent_as_a_probe():
    peer = lead()
    peer.step(Propose((b"x" * 100_000,)))
    peer.step(Unreachable(2))
    effects = peer.step(Received(HeartbeatResponse(2, 1, 1, 0, 1)))
    assert [(a.lo, a.hi) for a in effects.appends] == [(2, 2)]
    assert [(a.lo, a.hi) for a in ack(peer, 2, 1).appends] == [(2, 3)]


def test_an_unreachable_peer_is_left_alone_until_it_answers_a_heartbeat():
    peer = lead()
    peer.step(Propose((b"a",)))
    assert peer.step(Unreachable(2)).appends == []
    assert [a.to for a in peer.step(Propose((b"b",))).appends] == []
    assert peer.core.status()["followers"][2]["state"] == "probe"
    effects = peer.step(Received(HeartbeatResponse(2, 1, 1, 0, 1)))
    assert [(a.to, a.lo, a.hi) for a in effects.appends] == [(2, 2, 4)]
    ack(peer, 2, 3)
    assert peer.core.commit == 3
    peer.step(Unreachable(1))  # nonsense, ignored
    peer.step(Unreachable(77))


def test_a_lost_append_in_the_middle_is_repaired_by_the_refusal_of_the_next():
    peer = lead()
    for data in (b"a", b"b", b"c"):
        peer.step(Propose((data,)))
    effects = peer.step(Received(AppendResponse(2, 1, 1, False, 0, 3, 1, 1)))
    assert [(a.lo, a.hi) for a in effects.appends] == [(2, 5)]
    assert peer.step(Received(AppendResponse(2, 1, 1, False, 0, 2, 1, 1))).appends == []
    ack(peer, 2, 4)
    assert peer.core.commit == 4


def test_a_lost_last_append_is_sent_again_after_a_while():
    peer = lead()
    peer.step(Propose((b"a",)))
    answer = Received(HeartbeatResponse(2, 1, 1, 0, 1))
    assert peer.step(answer).appends == []
    for _ in range(5):
        assert peer.step(answer).appends == []
        peer.step(Tick())
    assert [(a.lo, a.hi) for a in peer.step(answer).appends] == [(2, 3)]


def test_a_follower_that_lost_its_tail_gets_it_again_and_commit_does_not_move():
    peer = lead()
    peer.step(Propose((b"a",)))
    ack(peer, 2, 2)
    answer = Received(HeartbeatResponse(2, 1, 1, 0, 1))
    assert peer.step(answer).appends == []  # perhaps only late
    effects = peer.step(answer)
    assert [(a.prev_index, a.lo, a.hi) for a in effects.appends] == [(1, 2, 3)]
    assert peer.core.commit == 2
    assert peer.core.status()["followers"][2]["match"] == 2


def test_an_idle_follower_learns_of_a_commit_at_once():
    net = group(3)
    net.elect(1)
    net.propose(1, b"a")
    assert [p.core.commit for p in net.peers.values()] == [2, 2, 2]


def test_an_acknowledgement_of_what_was_never_sent_is_refused():
    peer = lead()
    with pytest.raises(ValueError, match="acknowledges 99"):
        ack(peer, 2, 99)
    ack(peer, 9, 1)  # no member
    assert peer.core.commit == 1


def test_compaction_follows_the_slowest_member_and_all_learn_of_it():
    net = group(3)
    net.elect(1)
    net.down = [3]
    net.propose(1, b"a")
    net.tick(times=3)
    assert net[1].core.status()["compact_to"] == 1
    net.down = []
    net.tick(times=15)
    assert [p.core.status()["compact_to"] for p in net.peers.values()] == [2, 2, 2]


# ---- the paper's figures ----

FIGURE_7 = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("case", FIGURE_7)
def test_figure_7_a_leader_brings_every_follower_to_its_log(case):
    leader_terms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    net = Lockstep(
        Peer(1, THREE, terms=leader_terms, term=7),
        Peer(2, THREE, terms=FIGURE_7[case], term=7),
        Peer(3, THREE, term=7),
    )
    net.elect(1)
    net.tick(times=15)
    assert net[1].terms() == [*leader_terms, 8]
    for node_id in (2, 3):
        assert net[node_id].entries == net[1].entries
        assert net[node_id].core.commit == 11


@pytest.mark.parametrize("case", FIGURE_7)
def test_figure_7_hints_need_few_round_trips(case):
    leader = Peer(1, THREE, terms=[1, 1, 1, 4, 4, 5, 5, 6, 6, 6], term=7)
    net = Lockstep(leader, Peer(2, THREE, terms=FIGURE_7[case], term=7), Peer(3, THREE, term=7))
    refusals = []

    def watch(message):
        if isinstance(message, AppendResponse) and message.frm == 2 and not message.success:
            refusals.append(message)
        return message

    for _ in range(40):
        leader.step(Tick())
        net.deliver(watch)
    assert net[2].entries == leader.entries
    assert len(refusals) <= 2


@pytest.mark.parametrize("noop_arrives", [True, False])
def test_figure_8_an_entry_of_an_old_term_is_not_committed_by_counting(noop_arrives):
    """Index 2 of term 2 is on a majority in (c), and still S5 may replace it in (d)."""
    five = Membership((1, 2, 3, 4, 5))
    s1, s2, s3, s4, s5 = peers = [
        Peer(node_id, five, terms=terms, term=3)
        for node_id, terms in enumerate(([1, 2], [1, 2], [1], [1], [1, 3]), 1)
    ]
    net = Lockstep(*peers)
    net.down = [5]

    def without_term_4(message):
        if isinstance(message, AppendRequest):
            return message._replace(entries=tuple(e for e in message.entries if e.term < 4))
        return message

    change = (lambda message: message) if noop_arrives else without_term_4
    for _ in range(30):
        s1.step(Tick())
        net.deliver(change)
    assert (s1.core.role, s1.core.term) == (Role.LEADER, 4)
    assert [p.terms()[1] for p in (s1, s2, s3, s4)] == [2, 2, 2, 2]
    if noop_arrives:  # (e): with an entry of its own term both are safe
        assert s1.core.commit == 3
        net.down = [1]
        net.forget_leader()
        with pytest.raises(AssertionError, match="was not elected"):
            net.elect(5)
        return
    assert s1.core.commit == 0
    net.down = [1]  # (d)
    net.forget_leader()
    net.elect(5)
    net.tick(5, times=3)
    assert s5.core.commit == 3
    assert [p.terms()[:2] for p in (s2, s3, s4, s5)] == [[1, 3]] * 4


# ---- construction ----


def test_a_core_starts_from_what_is_durable():
    peer = Peer(2, THREE, terms=[1, 1, 2], term=5, vote=3, applied=2)
    core = peer.core
    assert (core.term, core.vote, core.role, core.leader) == (5, 3, Role.FOLLOWER, 0)
    assert (core.commit, core.applied, core.persisted_index) == (2, 2, 3)
    assert (core.first_index, core.last_index, core.last_term) == (1, 3, 2)
    assert [core.term_of(i) for i in range(5)] == [0, 1, 1, 2, None]
    assert core.membership == THREE
    assert core.node_id == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"applied": 4}, "applied index 4"),
        ({"config": RaftConfig(2, 5, 10)}, "election_ticks"),
        ({"config": RaftConfig(0)}, "node_id"),
        ({"config": RaftConfig(2, max_append_bytes=0)}, "max_append_bytes"),
        ({"config": RaftConfig(2, max_unapplied_bytes=0)}, "max_unapplied_bytes"),
        ({"config": RaftConfig(2, max_clock_drift_ticks=-1)}, "max_clock_drift_ticks"),
        ({"config": RaftConfig(2, 3, 8, lease_reads=True, max_clock_drift_ticks=4)}, "lease of 3"),
        ({"base": SnapshotMeta(0, 0, Membership((2, 1)))}, "sorted"),
        ({"hard_state": HardState(1, 0)}, "term 1 is older"),
    ],
)
def test_contradicting_arguments_are_refused(changes, message):
    arguments = {
        "config": RaftConfig(2),
        "base": SnapshotMeta(0, 0, THREE),
        "hard_state": HardState(2, 0),
        "entries": [EntryMeta(1, 1, 5), EntryMeta(2, 2, 5)],
        "applied": 0,
        "rng": random.Random(0),
    }
    RaftCore(**arguments)
    with pytest.raises(ValueError, match=message):
        RaftCore(**{**arguments, **changes})
    with pytest.raises(ValueError, match="can't follow"):
        RaftCore(**{**arguments, "entries": [EntryMeta(2, 1, 5)]})


def test_applied_beyond_what_was_told_is_a_broken_invariant():
    peer = lead()
    with pytest.raises(AssertionError, match="node 1 LEADER"):
        peer.core.step(Applied(99))


def test_a_send_append_is_for_one_follower_and_term():
    peer = lead()
    effects = peer.step(Propose((b"a",)))
    assert effects.appends == [SendAppend(2, 1, 1, 1, 2, 3, 1, 0)]
    peer.step(Received(VoteRequest(3, 1, 9, 9, 9, transfer=True)))
    assert peer.core.role is Role.FOLLOWER
    assert ack(peer, 2, 2).commit is None


def test_proposals_are_refused_while_too_much_waits_for_the_state_machine():
    peer = lead(config=RaftConfig(1, 1, 10, max_unapplied_bytes=8))
    peer.core.step(Propose((b"12345",)))
    peer.core.step(Persisted(2, 1))
    peer.core.step(Received(AppendResponse(2, 1, 1, True, 2, 2)))
    assert (peer.core.commit, peer.core.applied) == (2, 1)
    peer.core.step(Propose((b"12345",)))
    peer.core.step(Persisted(3, 1))
    peer.core.step(Received(AppendResponse(2, 1, 1, True, 3, 3)))
    refused = peer.core.step(Propose((b"1",)))
    assert refused.rejected.reason is RejectReason.TOO_MANY_UNAPPLIED
    assert refused.persist is None
    peer.core.step(Applied(2))
    assert peer.core.step(Propose((b"1",))).proposed is not None
