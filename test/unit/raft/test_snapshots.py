"""Snapshots and compaction: thesis 5, figure 13 of the Raft paper."""

from __future__ import annotations

import pytest

from cluster.raft.effects import SendSnapshot
from cluster.raft.events import (
    Applied,
    Persisted,
    Propose,
    Received,
    SnapshotFailed,
    SnapshotInstalled,
    SnapshotSent,
    Tick,
    Unreachable,
)
from cluster.raft.membership import encode_membership
from cluster.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    VoteResponse,
)
from cluster.raft.types import (
    Entry,
    EntryKind,
    HardState,
    Membership,
    RaftConfig,
    Role,
    SnapshotMeta,
)
from harness.sim.lockstep import Peer

THREE = Membership((1, 2, 3))
FIVE = Membership((1, 2, 3, 4, 5))


def entry(index, term, data=b"x"):
    return Entry(index, term, EntryKind.PLAN, data)


def leader_with_compacted_log():
    """Return node 1 as leader of term 2; entries 1 to 3 are compacted, 2 has everything."""
    peer = Peer(1, THREE, terms=[1, 1, 1], applied=3)
    peer.compact(3)
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    peer.step(Received(VoteResponse(2, 1, 2, True, True)))
    peer.step(Received(VoteResponse(2, 1, 2, True, False)))
    ack(peer, 2, 4)
    return peer


def ack(peer, frm, index):
    return peer.step(Received(AppendResponse(frm, 1, peer.core.term, True, index, index)))


def refuse(peer, frm, prev, hint):
    return peer.step(Received(AppendResponse(frm, 1, 2, False, 0, prev, *hint)))


def beat(peer, frm, last):
    return peer.step(Received(HeartbeatResponse(frm, 1, 2, 1, last)))


def state_of(peer, node):
    return peer.core.status()["followers"][node]["state"]


# ---- the leader's side ----


def test_a_follower_that_needs_compacted_entries_gets_a_snapshot():
    peer = leader_with_compacted_log()
    effects = refuse(peer, 3, 3, (1, 1))
    assert effects.snapshots == [SendSnapshot(3, 2, 3)]
    assert effects.appends == []
    assert state_of(peer, 3) == "snapshot"


def test_a_pipeline_that_is_compacted_under_way_turns_into_a_snapshot():
    peer = leader_with_compacted_log()
    ack(peer, 3, 4)
    peer.step(Propose((b"a", b"b")))
    ack(peer, 2, 6)
    assert state_of(peer, 3) == "replicate"
    peer.compact(6)
    effects = peer.step(Propose((b"c",)))
    assert [order.to for order in effects.appends] == [2, 3]
    assert effects.snapshots == []  # what is on its way may still arrive
    effects = refuse(peer, 3, 6, (4, 2))
    assert effects.snapshots == [SendSnapshot(3, 2, 6)]


def test_a_follower_that_stopped_before_the_compacted_part_gets_a_snapshot():
    limited = Peer(
        1,
        THREE,
        terms=[1],
        config=RaftConfig(1, 1, 10, max_append_bytes=1, max_inflight_bytes=1),
    )
    while limited.core.role is not Role.ELECTOR:
        limited.step(Tick())
    for pre in (True, False):
        limited.step(Received(VoteResponse(2, 1, 2, True, pre)))
    for follower in (2, 3):
        ack(limited, follower, 2)
    limited.step(Propose((b"aa", b"bb", b"cc")))
    for index in (3, 4, 5):
        ack(limited, 2, index)  # node 3 has the first of them under way
    limited.compact(5)
    assert ack(limited, 3, 3).snapshots == [SendSnapshot(3, 2, 5)]


def test_while_a_snapshot_is_on_its_way_nothing_else_is_sent():
    peer = leader_with_compacted_log()
    refuse(peer, 3, 3, (1, 1))
    assert beat(peer, 3, 1).snapshots == []
    assert refuse(peer, 3, 3, (1, 1)).snapshots == []
    assert peer.step(Unreachable(3)).snapshots == []
    effects = peer.step(Propose((b"a",)))
    assert [order.to for order in effects.appends] == [2]
    assert state_of(peer, 3) == "snapshot"
    ack(peer, 2, 5)
    assert peer.core.commit == 5  # the others go on


def test_after_the_snapshot_a_probe_goes_on_behind_it():
    peer = leader_with_compacted_log()
    refuse(peer, 3, 3, (1, 1))
    effects = peer.step(SnapshotSent(3, 2, 4))
    assert [(o.to, o.prev_index, o.lo, o.hi) for o in effects.appends] == [(3, 4, 5, 5)]
    ack(peer, 3, 4)
    assert state_of(peer, 3) == "replicate"


def test_the_followers_own_answer_ends_the_snapshot_too():
    peer = leader_with_compacted_log()
    refuse(peer, 3, 3, (1, 1))
    peer.step(Propose((b"a",)))
    effects = ack(peer, 3, 4)
    assert [(o.to, o.lo, o.hi) for o in effects.appends] == [(3, 5, 6)]
    assert peer.step(SnapshotSent(3, 2, 4)).appends == []  # nothing more to end


def test_an_old_acknowledgement_does_not_end_the_snapshot():
    peer = leader_with_compacted_log()
    refuse(peer, 3, 3, (1, 1))
    ack(peer, 3, 1)
    assert state_of(peer, 3) == "snapshot"


def test_a_failed_snapshot_is_ordered_again_after_a_sign_of_life():
    peer = leader_with_compacted_log()
    refuse(peer, 3, 3, (1, 1))
    assert peer.step(SnapshotFailed(3, 2)).snapshots == []
    assert beat(peer, 3, 1).snapshots == [SendSnapshot(3, 2, 3)]


@pytest.mark.parametrize("report", [SnapshotSent(3, 1, 3), SnapshotFailed(3, 1)])
def test_a_report_of_an_earlier_term_is_ignored(report):
    peer = leader_with_compacted_log()
    refuse(peer, 3, 3, (1, 1))
    peer.step(report)
    assert state_of(peer, 3) == "snapshot"


def test_a_false_report_of_success_is_found_out():
    """The shell may be lied to: nothing is counted before the follower itself acknowledges."""
    peer = leader_with_compacted_log()
    refuse(peer, 3, 3, (1, 1))
    peer.step(SnapshotSent(3, 2, 4))
    assert refuse(peer, 3, 4, (1, 1)).snapshots == [SendSnapshot(3, 2, 3)]


def test_losing_leadership_cancels_the_snapshot():
    peer = leader_with_compacted_log()
    refuse(peer, 3, 3, (1, 1))
    effects = peer.step(Received(Heartbeat(2, 1, 7, 0)))
    assert effects.cancelled_snapshots == [3]
    peer.step(SnapshotSent(3, 2, 4))
    peer.step(SnapshotFailed(3, 2))


# ---- compaction ----


def test_what_the_living_need_is_kept_up_to_a_limit():
    peer = Peer(1, FIVE, terms=[1] * 10, applied=10)  # 3 bytes each, the last has 4
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    for pre in (True, False):
        for voter in (2, 3):
            peer.step(Received(VoteResponse(voter, 1, 2, True, pre)))
    for voter in (2, 3, 4):
        ack(peer, voter, 11)
    refuse(peer, 5, 10, (6, 1))
    ack(peer, 5, 6)
    assert peer.core.applied == 11
    assert peer.core.compaction_point(1_000) == 6
    opening = len(peer.entries[-1].data)
    assert peer.core.compaction_point(9 + opening) == 8  # 9, 10 and the opening of the term
    assert peer.core.compaction_point(0) == 11
    for _ in range(10):
        for voter in (2, 3, 4):
            beat(peer, voter, 11)
        peer.step(Tick())
    # node 5 was silent for an election time-out
    assert peer.core.compaction_point(1_000) == 11


def test_what_a_snapshot_covers_is_not_needed_by_who_gets_it():
    peer = leader_with_compacted_log()
    refuse(peer, 3, 3, (1, 1))
    peer.step(Propose((b"a",)))
    ack(peer, 2, 5)
    assert peer.core.compaction_point(1_000) == 3


def test_a_follower_keeps_what_a_leader_says_that_others_lack():
    peer = Peer(2, THREE, terms=[1] * 6, applied=6)
    assert peer.core.compaction_point(1_000) == 0
    peer.step(Received(Heartbeat(1, 2, 1, 6, compact_to=4)))
    assert peer.core.compaction_point(1_000) == 4
    assert peer.core.compaction_point(3) == 5


def test_nothing_is_dropped_that_is_not_applied():
    peer = Peer(2, THREE, terms=[1] * 6, applied=2)
    peer.step(Received(Heartbeat(1, 2, 1, 6, compact_to=6)))
    assert peer.told == 6
    fresh = Peer(2, THREE, terms=[1] * 6, applied=2)
    fresh.core.step(Received(Heartbeat(1, 2, 1, 6, compact_to=6)))
    assert fresh.core.compaction_point(0) == 2
    with pytest.raises(AssertionError):
        fresh.core.compact(3)


def test_a_snapshot_meta_has_the_term_and_membership_of_its_index():
    peer = leader_with_compacted_log()
    assert peer.core.snapshot_meta(3) == SnapshotMeta(3, 1, THREE)
    assert peer.core.snapshot_meta(4) == SnapshotMeta(4, 2, THREE)
    with pytest.raises(AssertionError):
        peer.core.snapshot_meta(2)  # compacted
    with pytest.raises(AssertionError):
        peer.core.snapshot_meta(5)


# ---- the follower's side ----


def test_a_snapshot_ahead_of_the_log_replaces_it():
    peer = Peer(2, THREE, terms=[1, 1], applied=1)
    peer.hold_disk = True
    meta = SnapshotMeta(9, 3, FIVE)
    assert peer.core.wants_snapshot(meta)
    effects = peer.step(SnapshotInstalled(meta, 1, 77))
    assert effects.persist == (HardState(3, 0), 0, (), meta)
    assert effects.commit is None  # there is nothing more to apply
    assert effects.membership == FIVE
    # the answer waits for the log's new start
    assert effects.send_after_persist == [AppendResponse(2, 1, 3, True, 9, 9, id=77)]
    core = peer.core
    assert (core.commit, core.applied, core.last_index, core.last_term) == (9, 9, 9, 3)
    assert (core.first_index, core.persisted_index, core.membership) == (10, 9, FIVE)
    peer.sync()
    peer.hold_disk = False
    peer.step(Received(AppendRequest(1, 2, 3, 9, 3, (entry(10, 3),), 10)))
    assert (core.last_index, core.commit, core.persisted_index) == (10, 10, 10)


def test_a_snapshot_in_the_first_step_covers_what_the_log_proves_to_be_committed():
    changes = [
        Entry(index, 1, EntryKind.MEMBERSHIP, encode_membership(FIVE)) for index in (1, 2, 3)
    ]
    peer = Peer(2, THREE, entries=changes)
    assert (peer.core.commit, peer.core.applied) == (2, 0)
    effects = peer.step(SnapshotInstalled(SnapshotMeta(9, 3, FIVE), 1))
    assert effects.commit is None  # not 2, which the state machine has long passed
    assert (peer.core.commit, peer.core.applied) == (9, 9)


def test_what_the_log_has_behind_the_snapshot_stays_when_they_agree():
    peer = Peer(2, THREE, terms=[1, 1, 2, 2], applied=1)
    effects = peer.step(SnapshotInstalled(SnapshotMeta(3, 2, THREE), 1))
    assert effects.persist is None
    assert effects.send_after_persist == [AppendResponse(2, 1, 2, True, 3, 3)]
    core = peer.core
    assert (core.commit, core.applied, core.last_index, core.first_index) == (3, 3, 4, 1)


def test_what_the_log_has_behind_the_snapshot_goes_when_they_disagree():
    peer = Peer(2, THREE, terms=[1, 1, 1, 1], applied=1)
    effects = peer.step(SnapshotInstalled(SnapshotMeta(3, 2, THREE), 1))
    assert effects.persist is not None
    assert effects.persist.snapshot == (3, 2, THREE)
    assert (peer.core.last_index, peer.core.last_term) == (3, 2)


def test_entries_that_came_during_the_install_are_kept_and_applied_after_it():
    peer = Peer(2, THREE, terms=[1], applied=1)
    peer.core.step(Received(AppendRequest(1, 2, 1, 1, 1, (entry(2, 1), entry(3, 1)), 3)))
    peer.core.step(Persisted(3, 1))  # the shell's applier is stopped: nothing is reported applied
    effects = peer.core.step(SnapshotInstalled(SnapshotMeta(2, 1, THREE), 1))
    assert effects.persist is None
    assert (peer.core.commit, peer.core.applied) == (3, 2)
    peer.core.step(Applied(3))


def test_a_snapshot_may_cover_entries_whose_own_write_is_not_durable_yet():
    peer = Peer(2, THREE, terms=[1], applied=1)
    peer.hold_disk = True
    peer.step(Received(AppendRequest(1, 2, 1, 1, 1, (entry(2, 1), entry(3, 1)), 1)))
    peer.step(SnapshotInstalled(SnapshotMeta(2, 1, THREE), 1))
    assert (peer.core.applied, peer.core.persisted_index) == (2, 2)
    peer.sync()
    assert peer.core.persisted_index == 3


def test_an_old_snapshot_changes_nothing_and_is_acknowledged():
    peer = Peer(2, THREE, terms=[1, 1, 1], applied=3)
    meta = SnapshotMeta(2, 1, Membership((2, 3)))
    assert not peer.core.wants_snapshot(meta)
    effects = peer.step(SnapshotInstalled(meta, 1))
    assert effects.persist is None
    assert effects.membership is None
    assert effects.send_after_persist[0].match_index == 2
    assert peer.core.applied == 3


def test_what_is_committed_but_not_applied_yet_needs_no_snapshot():
    peer = Peer(2, THREE, terms=[1, 1, 1], applied=1)
    peer.core.step(Received(Heartbeat(1, 2, 1, 3)))
    assert not peer.core.wants_snapshot(SnapshotMeta(3, 1, THREE))
    assert peer.core.wants_snapshot(SnapshotMeta(4, 1, THREE))


def test_a_snapshot_that_contradicts_committed_entries_stops_the_member():
    peer = Peer(2, THREE, terms=[1, 1, 1], applied=1)
    peer.core.step(Received(Heartbeat(1, 2, 1, 3)))
    with pytest.raises(AssertionError, match="not part of it"):
        peer.core.step(SnapshotInstalled(SnapshotMeta(2, 3, THREE)))


def test_a_leader_takes_no_snapshot():
    peer = leader_with_compacted_log()
    assert not peer.core.wants_snapshot(SnapshotMeta(9, 2, THREE))
    with pytest.raises(ValueError, match="leads"):
        peer.core.step(SnapshotInstalled(SnapshotMeta(9, 2, THREE)))


def test_late_reports_of_what_the_snapshot_replaced_are_not_believed():
    peer = Peer(2, THREE, terms=[1], applied=1)
    peer.hold_disk = True
    peer.step(Received(AppendRequest(1, 2, 1, 1, 1, tuple(entry(i, 1) for i in range(2, 6)), 1)))
    peer.step(SnapshotInstalled(SnapshotMeta(4, 2, THREE), 1))
    peer.step(Received(AppendRequest(3, 2, 3, 4, 2, (entry(5, 3),), 4)))
    core = peer.core
    core.step(Persisted(5, 1))  # the first write: gone from the log
    assert core.persisted_index == 4
    core.step(Persisted(4, 2))  # the log's new start
    assert core.persisted_index == 4
    core.step(Persisted(5, 3))
    assert core.persisted_index == 5


def test_a_member_restarts_from_a_log_that_begins_at_a_snapshot():
    base = SnapshotMeta(9, 3, FIVE)
    peer = Peer(2, THREE, base=base, terms=[3, 4])
    core = peer.core
    assert (core.commit, core.applied, core.last_index, core.membership) == (9, 9, 11, FIVE)
    peer.step(Received(AppendRequest(1, 2, 4, 7, 3, (), 10)))
    assert peer.sent.pop().success  # before the base everything is committed, thus common
