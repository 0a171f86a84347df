"""Changes of membership: thesis 4; at most one at a time, in force when applied."""

from __future__ import annotations

import itertools
import random

import pytest

from cluster.raft.core import RaftCore
from cluster.raft.effects import RejectReason
from cluster.raft.events import (
    Applied,
    ChangeMembership,
    Persisted,
    Propose,
    Received,
    SnapshotInstalled,
    Tick,
    TransferLeadership,
)
from cluster.raft.membership import (
    MembershipHistory,
    after_joint,
    check_membership,
    decode_membership,
    encode_membership,
    next_membership,
)
from cluster.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.quorum import has_quorum
from cluster.raft.types import (
    UNKNOWN_MEMBERSHIP,
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


def config(node_id, **more):
    return RaftConfig(node_id, **{"heartbeat_ticks": 1, "election_ticks": 10, **more})


def with_joiners(size, *joiners):
    """Return a group of `size` with node 1 leading, and empty nodes that want to join."""
    net = group(size)
    net.elect(1)
    for node in joiners:
        net.peers[node] = Peer(node, UNKNOWN_MEMBERSHIP, config=config(node))
    return net


def change(net, voters, learners=(), leader=1, **more):
    effects = net[leader].step(ChangeMembership(tuple(voters), tuple(learners), **more))
    net.deliver()
    net.tick(leader, times=3)
    return effects


def change_entry(index, term, membership):
    return Entry(index, term, EntryKind.MEMBERSHIP, encode_membership(membership))


# ---- the arithmetic ----


def random_membership(rng):
    nodes = rng.sample(range(1, 8), rng.randint(1, 6))
    cut = rng.randint(1, len(nodes))
    outgoing = sorted(rng.sample(range(1, 8), 3)) if rng.random() < 0.5 else ()
    return Membership(tuple(sorted(nodes[:cut])), tuple(outgoing), tuple(sorted(nodes[cut:])))


def test_memberships_survive_their_byte_form():
    rng = random.Random(1)
    for _ in range(300):
        membership = random_membership(rng)
        data = encode_membership(membership)
        assert decode_membership(data) == membership
        for cut in range(len(data)):
            with pytest.raises(ValueError):  # noqa: PT011 - several texts
                decode_membership(data[:cut])
        with pytest.raises(ValueError, match="behind"):
            decode_membership(data + b"\0")


def test_the_byte_form_is_frozen():
    membership = Membership((1, 2), (3,), (0x0102030405060708,))
    assert encode_membership(membership).hex() == (
        "01" "0002" "0000000000000001" "0000000000000002" "0001" "0000000000000003"
        "0001" "0102030405060708"
    )  # fmt: skip


@pytest.mark.parametrize(
    "membership",
    [
        Membership((2, 1)),
        Membership((1, 1)),
        Membership((0, 1)),
        Membership((1, 2), (), (2,)),
        Membership((), (1,)),
    ],
)
def test_malformed_memberships_are_refused(membership):
    with pytest.raises(ValueError):  # noqa: PT011 - several texts
        check_membership(membership)


def quorums(membership):
    members = membership.members()
    for size in range(1, len(members) + 1):
        for nodes in itertools.combinations(members, size):
            if has_quorum(dict.fromkeys(nodes, True), membership):
                yield {*nodes}


def test_quorums_of_neighbouring_memberships_always_meet():
    rng = random.Random(7)
    for _ in range(300):
        voters = tuple(sorted(rng.sample(range(1, 6), rng.randint(1, 4))))
        target = tuple(sorted(rng.sample(range(1, 6), rng.randint(1, 4))))
        path = [Membership(voters)]
        path.append(next_membership(path[0], target, ()))
        if path[-1].is_joint:
            path.append(after_joint(path[-1]))
        assert path[-1] == Membership(target)
        for old, new in itertools.pairwise(path):
            for one in quorums(old):
                assert all(one & other for other in quorums(new)), (old, new)


def test_one_vote_changes_at_once_and_more_go_through_a_joint_membership():
    assert next_membership(THREE, (1, 2, 3, 4), ()) == Membership((1, 2, 3, 4))
    assert next_membership(THREE, (1, 2), (3,)) == Membership((1, 2), (), (3,))
    assert next_membership(THREE, (3, 2, 1), (5, 4)) == Membership((1, 2, 3), (), (4, 5))
    assert next_membership(THREE, (1, 2, 4), (3,)) == Membership((1, 2, 4), (1, 2, 3), (3,))


def test_a_history_answers_like_a_list_of_all_memberships():
    rng = random.Random(3)
    for _ in range(200):
        base = rng.randrange(5)
        slow = {base: THREE}
        last = base
        history = MembershipHistory(base, THREE)
        confirmed = False
        for _ in range(30):
            action = rng.randrange(4)
            newest = max(slow)
            if action < 2:
                last += rng.randint(1, 3)
                slow[last] = Membership((rng.randint(1, 3),))
                history.append(last, slow[last])
            elif action == 2 and last > base:
                start = rng.randint(base + 1, last)
                slow = {i: m for i, m in slow.items() if i < start}
                last = start - 1
                history.truncate_from(start)
            else:
                base = rng.randint(base, last)
                at_base = slow[max(i for i in slow if i <= base)]
                slow = {i: m for i, m in slow.items() if i > base} | {base: at_base}
                history.compact(base)
            for index in range(base, last + 2):
                assert history.at(index) == slow[max(i for i in slow if i <= index)]
            if max(slow) != newest and action != 3:
                *_, before, latest = None, *[slow[i] for i in sorted(slow)]
                confirmed = before == latest  # which compaction does not make forgotten
            assert history.is_confirmed == confirmed
            for index in range(base, last + 2):
                for after in range(base, index):
                    expected = any(after < i <= index for i in slow)
                    assert history.has_between(after, index) == expected


# ---- changes ----


def test_the_first_entry_tells_who_founded_the_group():
    net = group(3)
    net.elect(1)
    first = net[2].entries[0]
    assert first.kind is EntryKind.MEMBERSHIP
    assert decode_membership(first.data) == THREE


def test_a_node_joins_as_a_learner_and_is_given_a_vote_later():
    net = with_joiners(3, 4)
    net.propose(1, b"a")
    effects = change(net, (1, 2, 3), (4,))
    assert effects.proposed is not None
    learner = net[4].core
    assert net[4].entries == net[1].entries
    assert learner.membership == Membership((1, 2, 3), (), (4,))
    for _ in range(50):
        net[4].step(Tick())
    assert learner.role is Role.FOLLOWER  # it doesn't campaign
    change(net, (1, 2, 3, 4))
    assert all(p.core.membership == Membership((1, 2, 3, 4)) for p in net.peers.values())


def test_a_learners_copy_does_not_count():
    net = with_joiners(3, 4)
    change(net, (1, 2, 3), (4,))
    net.down = [2, 3]
    before = net[1].core.commit
    net.propose(1, b"a")
    assert net[4].entries[-1].data == b"a"
    assert net[1].core.commit == before


def test_a_learner_votes_when_asked():
    """It may have been given a vote without knowing it yet."""
    peer = Peer(4, Membership((1, 2, 3), (), (4,)))
    peer.step(Received(VoteRequest(1, 4, 1, 5, 1)))
    assert peer.sent.pop().granted


def test_a_membership_takes_effect_when_it_is_applied():
    peer = Peer(2, THREE)
    four = Membership((1, 2, 3, 4))
    entries = (Entry(1, 1, EntryKind.NOOP, b""), change_entry(2, 1, four))
    effects = peer.core.step(Received(AppendRequest(1, 2, 1, 0, 0, entries, 2)))
    assert peer.core.membership == THREE
    assert effects.membership is None
    peer.core.step(Persisted(2, 1))
    assert peer.core.membership == THREE
    assert peer.core.change_is_pending
    effects = peer.core.step(Applied(2))
    assert effects.membership == four
    assert peer.core.membership == four


def test_replacing_two_at_once_goes_through_a_joint_membership():
    net = with_joiners(3, 4, 5)
    change(net, (1, 2, 3), (4, 5))
    seen = []
    original = net[1].core.step

    def watch(event):
        effects = original(event)
        if effects.membership is not None:
            seen.append(effects.membership)
        return effects

    net[1].core.step = watch
    effects = change(net, (1, 4, 5))
    assert effects.proposed.count == 1
    assert seen == [Membership((1, 4, 5), (1, 2, 3)), Membership((1, 4, 5))]
    assert net[4].core.membership == Membership((1, 4, 5))


def test_in_a_joint_membership_both_majorities_are_needed():
    net = with_joiners(3, 4, 5)
    change(net, (1, 2, 3), (4, 5))
    leader = net[1]
    held = []

    def hold_the_end(message):
        is_end = isinstance(message, AppendRequest) and any(
            e.kind == EntryKind.MEMBERSHIP and not decode_membership(e.data).is_joint
            for e in message.entries
        )
        if is_end:
            held.append(message)
        return None if is_end else message

    leader.step(ChangeMembership((1, 4, 5)))
    net.deliver(hold_the_end)
    assert leader.core.membership.is_joint
    assert held
    commit = leader.core.commit
    last = leader.core.last_index
    for node in (4, 5):  # the new majority
        leader.step(Received(AppendResponse(node, 1, 1, True, last, last)))
    assert leader.core.commit == commit
    leader.step(Received(AppendResponse(2, 1, 1, True, last, last)))
    assert leader.core.commit == last


def test_a_leader_elected_in_a_joint_membership_ends_it():
    joint = Membership((1, 4, 5), (1, 2, 3))
    entries = [
        change_entry(1, 1, THREE),
        change_entry(2, 1, joint),
    ]
    base = THREE
    net = Lockstep(*(Peer(i, base, entries=entries, config=config(i)) for i in range(1, 6)))
    net.elect(1)
    net.tick(1, times=5)
    assert net[1].core.membership == Membership((1, 4, 5))
    assert not net[1].core.change_is_pending


def test_a_campaign_in_a_joint_membership_needs_both_majorities():
    joint = Membership((1, 4, 5), (1, 2, 3))
    peer = Peer(1, joint, config=config(1))
    while peer.core.role is Role.FOLLOWER:
        peer.step(Tick())
    assert sorted({m.to for m in peer.sent}) == [2, 3, 4, 5]
    for node in (4, 5):
        peer.step(Received(VoteResponse(node, 1, 1, True, True)))
    assert peer.core.term == 0
    peer.step(Received(VoteResponse(3, 1, 1, True, True)))
    assert peer.core.term == 1


def test_a_demoted_voter_is_asked_until_the_change_is_over():
    peer = Peer(1, Membership((1, 2, 4), (1, 2, 3), (3,)), config=config(1))
    while peer.core.role is Role.FOLLOWER:
        peer.step(Tick())
    assert sorted({m.to for m in peer.sent}) == [2, 3, 4]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (ChangeMembership((1, 2, 3)), RejectReason.UNCHANGED),
        (ChangeMembership((1, 2, 3, 4)), RejectReason.NOT_CAUGHT_UP),
        (ChangeMembership((1, 2), expected=Membership((1, 2))), RejectReason.UNEXPECTED_MEMBERSHIP),
        (ChangeMembership((1, 2), expected_term=9), RejectReason.STALE_TERM),
    ],
)
def test_refusals(event, reason):
    net = with_joiners(3)
    effects = net[1].step(event)
    assert effects.rejected == (reason, 1)
    assert effects.proposed is None
    assert effects.persist is None


def test_only_the_leader_changes_the_membership():
    net = with_joiners(3)
    assert net[2].step(ChangeMembership((1, 2))).rejected == (RejectReason.NOT_LEADER, 1)


def test_one_change_at_a_time():
    net = with_joiners(3)
    assert net[1].step(ChangeMembership((1, 2))).proposed is not None
    refused = net[1].step(ChangeMembership((1, 3))).rejected
    assert refused == (RejectReason.CHANGE_PENDING, 1)
    assert net[1].core.change_is_pending
    net.deliver()
    assert net[1].core.membership == Membership((1, 2))
    assert net[1].step(ChangeMembership((1,))).proposed is not None


def test_no_change_before_the_term_has_committed_something():
    peer = Peer(1, THREE, terms=[1, 1], applied=2, config=config(1))
    while peer.core.role is not Role.ELECTOR:
        peer.step(Tick())
    for pre in (True, False):
        peer.step(Received(VoteResponse(2, 1, 2, True, pre)))
    refused = peer.step(ChangeMembership((1, 2))).rejected
    assert refused == (RejectReason.CHANGE_PENDING, 1)
    peer.step(Received(AppendResponse(2, 1, 2, True, 3, 3)))
    assert peer.step(ChangeMembership((1, 2))).proposed is not None


def test_no_change_during_a_transfer():
    net = with_joiners(3)
    net.down = [3]
    net.propose(1, b"a")
    net[1].step(TransferLeadership(3))
    refused = net[1].step(ChangeMembership((1, 2))).rejected
    assert refused == (RejectReason.TRANSFERRING, 1)


def test_a_new_voter_may_be_forced():
    net = with_joiners(1, 2)
    assert change(net, (1, 2), even_if_behind=True).proposed is not None
    assert net[2].core.membership == Membership((1, 2))


@pytest.mark.parametrize("voters", [(), (1, 1), (0, 1)])
def test_a_malformed_target_is_an_error(voters):
    net = with_joiners(1)
    last = net[1].core.last_index
    if voters == (1, 1):
        with pytest.raises(ValueError, match="unique"):
            net[1].step(ChangeMembership(voters))
    else:
        with pytest.raises(ValueError, match=r"at least one|node 0"):
            net[1].step(ChangeMembership(voters))
    assert net[1].core.last_index == last


def test_a_membership_can_not_be_proposed_as_a_plan():
    net = with_joiners(1)
    with pytest.raises(ValueError, match="ChangeMembership"):
        net[1].step(Propose((encode_membership(THREE),), EntryKind.MEMBERSHIP))


def test_a_garbled_membership_is_refused_before_it_is_appended():
    peer = Peer(2, THREE)
    bad = Entry(1, 1, EntryKind.MEMBERSHIP, b"\1nonsense")
    with pytest.raises(ValueError, match="membership"):
        peer.core.step(Received(AppendRequest(1, 2, 1, 0, 0, (bad,), 0)))
    assert peer.core.last_index == 0
    assert peer.core.term == 0


# ---- confirmation ----


def memberships_of(peer):
    return [decode_membership(e.data) for e in peer.entries if e.kind is EntryKind.MEMBERSHIP]


def test_a_change_is_done_when_a_majority_of_the_new_members_can_know_it():
    net = with_joiners(3, 4)
    change(net, (1, 2, 3), (4,))
    four = Membership((1, 2, 3, 4))
    held = []

    def hold_the_confirmation(message):
        confirms = isinstance(message, AppendRequest) and any(
            e.kind is EntryKind.MEMBERSHIP and net[1].core.membership == four
            for e in message.entries
        )
        if confirms:
            held.append(message)
        return None if confirms else message

    net[1].step(ChangeMembership((1, 2, 3, 4)))
    net.deliver(hold_the_confirmation)
    core = net[1].core
    assert held
    assert core.membership == four
    assert core.change_is_pending
    assert not core.change_is_done
    for message in held:
        net[message.to].step(Received(message))
    net.deliver()
    assert core.change_is_done
    assert not core.change_is_pending
    assert memberships_of(net[1])[-2:] == [four, four]


def test_after_a_power_cut_the_new_majority_needs_no_vote_of_who_is_lost():
    """The members had applied the change, and their state machines had not stored that."""
    net = with_joiners(2, 3)
    change(net, (1, 2), (3,))
    change(net, (1, 2, 3))
    assert net[1].core.change_is_done
    started = [
        Peer(
            n,
            Membership((1, 2)) if n < 3 else UNKNOWN_MEMBERSHIP,
            entries=net[n].entries,
            config=config(n),
        )
        for n in (2, 3)
    ]
    again = Lockstep(*started)
    again.down = [1]
    again.tick(times=60)
    assert Role.LEADER in (again[2].core.role, again[3].core.role)
    assert again[2].core.membership == again[3].core.membership == THREE


def test_whoever_leads_next_confirms_what_is_not():
    four = Membership((1, 2, 3, 4))
    entries = [change_entry(1, 1, THREE), change_entry(2, 1, four)]
    net = Lockstep(
        *(Peer(i, THREE, entries=entries, applied=1, config=config(i)) for i in (1, 2, 3)),
        Peer(4, UNKNOWN_MEMBERSHIP, config=config(4)),
    )
    net.elect(2)
    net.tick(2, times=3)
    # its own opening could not do it, since the change was not applied then
    assert [e.kind for e in net[2].entries[2:]] == [EntryKind.NOOP, EntryKind.MEMBERSHIP]
    assert net[2].core.change_is_done
    assert net[4].core.membership == four


def test_a_term_opens_with_the_membership_where_the_log_does_not_tell_that_it_is_confirmed():
    base = SnapshotMeta(7, 1, THREE)
    net = Lockstep(*(Peer(i, THREE, base=base, config=config(i)) for i in (1, 2, 3)))
    net.elect(1)
    assert [e.kind for e in net[1].entries] == [EntryKind.MEMBERSHIP]
    assert net[1].core.change_is_done
    net[1].compact(8)
    assert net[1].core.change_is_done  # it has not forgotten
    net.down = [1]
    net.forget_leader()
    net.elect(2)
    assert net[2].entries[-1].kind is EntryKind.NOOP  # no need any more


def test_a_confirmation_that_is_overwritten_leaves_the_change_committed_and_not_done():
    four = Membership((1, 2, 3, 4))
    peer = Peer(2, THREE, config=config(2))
    entries = (change_entry(1, 1, THREE), change_entry(2, 1, four), change_entry(3, 1, four))
    peer.step(Received(AppendRequest(1, 2, 1, 0, 0, entries, 2)))
    assert not peer.core.change_is_done
    noop = Entry(3, 2, EntryKind.NOOP, b"")
    peer.step(Received(AppendRequest(3, 2, 2, 2, 1, (noop,), 3)))
    assert peer.core.membership == four
    assert not peer.core.change_is_pending
    assert not peer.core.change_is_done


def test_a_snapshot_does_not_tell_whether_its_membership_is_confirmed():
    peer = Peer(2, THREE, config=config(2))
    peer.step(Received(AppendRequest(1, 2, 1, 0, 0, (change_entry(1, 1, THREE),), 1)))
    assert peer.core.change_is_done
    peer.step(SnapshotInstalled(SnapshotMeta(9, 1, Membership((1, 2, 3, 4))), 1))
    assert not peer.core.change_is_done


# ---- leaders that go ----


def test_a_removed_leader_steps_down_when_the_change_is_applied_and_another_takes_over():
    net = with_joiners(3)
    net.propose(1, b"a")
    net[1].step(ChangeMembership((2, 3)))
    net.deliver()
    assert net[1].core.role is Role.FOLLOWER
    assert Role.LEADER in (net[2].core.role, net[3].core.role)
    assert net[2].core.membership == Membership((2, 3))
    for _ in range(50):
        net[1].step(Tick())
    assert net[1].core.role is Role.FOLLOWER  # it has no vote
    net.deliver()


def test_a_removed_leader_manages_the_group_until_then():
    net = with_joiners(3)
    net.down = [2, 3]
    net[1].step(ChangeMembership((2, 3)))
    net.deliver()
    assert net[1].core.role is Role.LEADER
    assert net[1].step(Propose((b"a",))).proposed is not None


def test_a_transfer_to_one_that_is_removed_ends():
    net = with_joiners(3)
    net[1].step(ChangeMembership((1, 2)))
    net.down = [3]
    net[1].step(TransferLeadership(3))
    assert net[1].core.transfer_target == 3
    net.deliver()
    assert net[1].core.transfer_target == 0


def test_what_a_smaller_quorum_has_is_committed_at_once():
    net = with_joiners(3)
    net[1].step(ChangeMembership((1,), even_if_behind=True))  # joint: {1} and {1, 2, 3}
    net.deliver()
    net.tick(1, times=2)
    assert net[1].core.membership == Membership((1,))
    net.down = [2, 3]
    net.propose(1, b"a")
    assert net[1].core.commit == net[1].core.last_index


def test_a_leader_with_a_vote_taken_steps_down_too():
    net = with_joiners(3)
    net[1].step(ChangeMembership((2, 3), (1,)))
    net.deliver()
    assert net[1].core.role is Role.FOLLOWER
    net.tick(2, 3, times=25)
    assert net[1].core.membership == Membership((2, 3), (), (1,))


# ---- who may campaign ----


def test_nobody_campaigns_under_a_membership_that_is_known_to_be_replaced():
    peer = Peer(2, THREE, config=config(2))
    entries = (change_entry(1, 1, THREE), change_entry(2, 1, Membership((1, 2, 3, 4))))
    core = peer.core
    core.step(Received(AppendRequest(1, 2, 1, 0, 0, entries, 2)))
    for _ in range(30):
        core.step(Tick())
    assert core.role is Role.FOLLOWER
    core.step(Received(TimeoutNow(1, 2, 1)))
    assert core.role is Role.FOLLOWER
    core.step(Persisted(2, 1))
    effects = core.step(Applied(2))
    # what the leader asked for is done as soon as it may be
    assert core.role is Role.ELECTOR
    assert [m.to for m in effects.send_after_persist] == [1, 3, 4]


def test_a_log_with_two_changes_proves_the_first_after_a_restart():
    """Else two disjoint majorities could lead: of {1, 2, 3} and of {3, 4, 5}."""
    four, five = Membership((1, 2, 3, 4)), Membership((1, 2, 3, 4, 5))
    entries = [change_entry(1, 1, THREE), change_entry(2, 1, four), change_entry(3, 1, five)]
    peer = Peer(2, THREE, entries=entries, config=config(2))
    assert peer.core.commit == 2
    assert peer.core.membership == THREE
    effects = peer.core.step(Tick())
    assert effects.commit == 2
    for _ in range(30):
        peer.core.step(Tick())
    assert peer.core.role is Role.FOLLOWER
    peer.core.step(Applied(2))
    assert peer.core.membership == four
    peer.core.step(Tick())
    assert peer.core.role is Role.ELECTOR


def test_a_change_that_is_overwritten_never_was():
    peer = Peer(2, THREE, config=config(2))
    entries = (change_entry(1, 1, THREE), change_entry(2, 1, Membership((1, 2))))
    peer.step(Received(AppendRequest(1, 2, 1, 0, 0, entries, 1)))
    assert peer.core.change_is_pending
    noop = Entry(2, 2, EntryKind.NOOP, b"")
    peer.step(Received(AppendRequest(3, 2, 2, 1, 1, (noop,), 2)))
    assert not peer.core.change_is_pending
    assert peer.core.membership == THREE


def test_a_member_that_knows_no_group_takes_entries_and_never_campaigns():
    peer = Peer(4, UNKNOWN_MEMBERSHIP, config=config(4))
    for _ in range(50):
        peer.step(Tick())
    assert peer.core.role is Role.FOLLOWER
    peer.step(Received(Heartbeat(1, 4, 1, 0)))
    assert peer.core.leader == 1


def test_a_demoted_leader_with_a_longer_log_does_not_keep_the_others_from_electing():
    """It can't vote for them, and they need its vote until they know that it has none."""
    alone = Membership((2,), (), (1,))
    entries = [change_entry(1, 1, Membership((1, 2))), change_entry(2, 1, alone)]
    extra = Entry(3, 1, EntryKind.PLAN, b"nobody else has it")
    old = Peer(1, Membership((1, 2)), entries=[*entries, extra], applied=2, config=config(1))
    new = Peer(2, Membership((1, 2)), entries=entries, applied=1, config=config(2))
    assert old.core.membership == alone
    net = Lockstep(old, new)
    for _ in range(60):
        net.tick(2)
        if new.core.role is Role.LEADER:
            break
    assert new.core.role is Role.LEADER
    assert new.core.membership == alone


def test_a_voter_learns_what_is_committed_from_a_candidate():
    peer = Peer(2, THREE, terms=[1, 1, 1], config=config(2))
    peer.step(Received(VoteRequest(1, 2, 2, 3, 1, commit=2, commit_term=1)))
    assert peer.core.commit == 2
    peer.step(Received(VoteRequest(1, 2, 3, 9, 3, commit=3, commit_term=3)))
    assert peer.core.commit == 2  # that is not the entry that is here
    peer.step(Received(VoteRequest(1, 2, 4, 9, 3, commit=9, commit_term=3)))
    assert peer.core.commit == 2


def test_what_the_log_proves_is_told_in_the_first_step_that_counts():
    members = Membership((1, 2, 3))
    entries = [EntryMeta(1, 1, 0, members), EntryMeta(2, 1, 0, members)]
    core = RaftCore(
        RaftConfig(1), SnapshotMeta(0, 0, members), HardState(1, 0), entries, 0, random.Random(1)
    )
    with pytest.raises(ValueError, match="nothing to propose"):
        core.step(Propose(()))
    assert core.step(Tick()).commit == 1
