"""Groups that sleep when there is nothing to do."""

from __future__ import annotations

import pytest

from cluster.raft.events import (
    PeerSilent,
    Propose,
    ReadRequest,
    Received,
    Tick,
    TransferLeadership,
    Unreachable,
)
from cluster.raft.messages import (
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    VoteRequest,
)
from cluster.raft.types import Membership, Role
from harness.sim.lockstep import Peer, group

ELECTION = 10


def sleeping(size=3, **more):
    net = group(size, quiesce_after_ticks=4, **more)
    net.elect(1)
    net.propose(1, b"a")
    net.tick(times=4)
    assert not any(p.core.is_asleep for p in net.peers.values())
    net.tick(times=4)
    assert all(p.core.is_asleep for p in net.peers.values())
    return net


def test_an_idle_group_exchanges_nothing_and_stays_as_it_is():
    net = sleeping()
    for _ in range(100):
        for peer in net.peers.values():
            effects = peer.step(Tick())
            assert not effects.send
    assert net.deliver() == 0
    assert net[1].core.role is Role.LEADER
    assert net[2].core.leader == 1
    assert net[1].core.status()["asleep"]


@pytest.mark.parametrize(
    "event", [Propose((b"b",)), ReadRequest(1), Unreachable(2), TransferLeadership(2)]
)
def test_whatever_is_wanted_of_the_leader_wakes_the_group(event):
    net = sleeping()
    assert net[1].step(event).asleep is False
    net.deliver()
    assert not any(p.core.is_asleep for p in net.peers.values())


def test_what_makes_no_sense_wakes_nobody():
    """Its effects are nobody's: a core that woke up would get no ticks."""
    net = sleeping()
    leader = net[1].core
    with pytest.raises(ValueError, match="acknowledges"):
        leader.step(Received(AppendResponse(2, 1, leader.term, True, leader.last_index + 1)))
    with pytest.raises(ValueError, match="nothing to propose"):
        leader.step(Propose(()))
    assert leader.is_asleep
    assert net[1].step(Propose((b"b",))).asleep is False


def test_a_proposal_to_sleepers_is_committed_as_ever_and_they_sleep_again():
    net = sleeping()
    net.propose(1, b"b")
    assert [p.core.commit for p in net.peers.values()] == [3, 3, 3]
    net.tick(times=8)
    assert all(p.core.is_asleep for p in net.peers.values())


def test_a_read_of_a_sleeping_leader_asks_a_quorum():
    net = sleeping(lease_reads=True)
    assert not net[1].core.holds_lease()
    assert net[1].step(ReadRequest(5)).reads == []
    seen = []
    original = net[1].core.step

    def watch(event):
        effects = original(event)
        seen.extend(effects.reads)
        return effects

    net[1].core.step = watch
    net.deliver()
    assert seen == [(5, 2)]


def test_nobody_sleeps_while_a_member_is_behind_or_may_be():
    net = group(3, quiesce_after_ticks=4)
    net.elect(1)
    net.propose(1, b"a")
    net.down = [3]
    net.propose(1, b"b")
    net.tick(1, 2, times=2 * ELECTION - 1)
    assert not net[1].core.is_asleep
    net.down = []
    net.tick(times=12)
    assert net[1].core.is_asleep


def without_the_third():
    """A group that sleeps although member 3 is away and lacks an entry."""
    net = group(3, quiesce_after_ticks=4)
    net.elect(1)
    net.propose(1, b"a")
    net.down = [3]
    net.propose(1, b"b")
    net.tick(1, 2, times=2 * ELECTION + 12)
    assert net[1].core.is_asleep
    assert net[2].core.is_asleep
    return net


def caught_up(net):
    net.tick(times=12)
    assert [p.core.last_index for p in net.peers.values()] == [3, 3, 3]
    assert all(p.core.is_asleep for p in net.peers.values())
    assert net[1].core.role is Role.LEADER
    assert net[1].core.term == 1


def test_a_member_that_is_away_for_long_keeps_nobody_awake():
    net = without_the_third()
    # its node's silence is old news, and so is that of nobody at all
    assert net[1].step(PeerSilent(3, 99)).asleep is None
    assert net[2].step(PeerSilent(3, 99)).asleep is None
    # that of another one is not: there would be no quorum
    assert net[1].step(PeerSilent(2, ELECTION)).asleep is False


def test_a_sleeping_leader_sleeps_on_while_a_quorum_of_nodes_is_there():
    net = sleeping(size=5)
    assert net[1].step(PeerSilent(4, ELECTION)).asleep is None
    assert net[1].step(PeerSilent(2, ELECTION)).asleep is None
    assert net[1].step(PeerSilent(4, ELECTION)).asleep is None
    assert net[1].step(PeerSilent(5, ELECTION)).asleep is False


def test_a_member_that_was_away_is_caught_up_when_it_campaigns():
    net = without_the_third()
    net.down = []
    net.tick(3, times=2 * ELECTION + 1)
    caught_up(net)


def test_a_member_that_was_away_is_caught_up_when_its_node_is_started_anew():
    net = without_the_third()
    net.down = []
    assert net[1].step(PeerSilent(3, ELECTION, is_back=True)).asleep is False
    caught_up(net)


def test_a_late_answer_of_a_member_that_is_away_wakes_the_leader():
    net = without_the_third()
    net.down = []
    answer = HeartbeatResponse(3, 1, net[1].core.term, 5, 2)
    assert net[1].step(Received(answer)).asleep is False
    caught_up(net)


def test_a_group_that_nobody_wants_anything_of_sleeps_sooner():
    net = group(3, quiesce_after_ticks=40)
    net.elect(1)
    net.tick(times=8)
    assert all(p.core.is_asleep for p in net.peers.values())
    # woken by a neighbour's fate, and nothing to do
    net[1].step(Unreachable(2))
    net.deliver()
    assert not net[1].core.is_asleep
    net.tick(times=8)
    assert all(p.core.is_asleep for p in net.peers.values())
    # wanted: the whole time counts
    for event in (Propose((b"a",)), ReadRequest(1)):
        net[1].step(event)
        net.deliver()
        net.tick(times=40)
        assert not net[1].core.is_asleep
        net.tick(times=8)
        assert all(p.core.is_asleep for p in net.peers.values())


def test_nobody_sleeps_by_default():
    net = group(3)
    net.elect(1)
    net.tick(times=60)
    assert not net[1].core.is_asleep


def test_the_leader_stays_awake_until_all_sleep():
    net = group(3, quiesce_after_ticks=4)
    net.elect(1)
    net.propose(1, b"a")

    def not_to_3(message):
        return (
            None
            if isinstance(message, Heartbeat) and message.to == 3 and message.quiesce
            else (message)
        )

    for _ in range(12):
        for node in (1, 2):
            net[node].step(Tick())
        net.deliver(not_to_3)
    assert net[2].core.is_asleep
    assert not net[1].core.is_asleep
    net.propose(1, b"b")
    assert not net[2].core.is_asleep


def test_the_silence_of_the_leaders_node_counts_as_missed_heartbeats():
    net = sleeping()
    net.down = [1]
    assert net[2].step(PeerSilent(3, ELECTION)).asleep is None
    for node in (2, 3):
        assert net[node].step(PeerSilent(1, ELECTION)).asleep is False
    for _ in range(ELECTION):
        net.tick(2, 3)
    assert Role.LEADER in (net[2].core.role, net[3].core.role)


def test_the_silence_of_too_many_followers_wakes_the_leader():
    net = sleeping()
    net.down = [2, 3]
    assert net[1].step(PeerSilent(2, ELECTION)).asleep is None  # there is still a quorum
    assert net[1].step(PeerSilent(3, ELECTION)).asleep is False
    for _ in range(ELECTION):
        net[1].step(Tick())
    assert net[1].core.role is Role.FOLLOWER  # check-quorum is back


def test_a_campaign_wakes_those_who_are_asked():
    net = sleeping()
    net[2].step(Received(VoteRequest(3, 2, 2, 2, 1, pre=True)))
    assert not net[2].core.is_asleep
    assert not net[2].sent.pop().granted  # it heard a leader before it slept


def test_timeout_now_reaches_a_sleeper():
    net = sleeping()
    net[2].step(Received(TimeoutNow(1, 2, 1)))
    assert net[2].core.role is Role.ELECTOR


@pytest.mark.parametrize("applied", [1, 2])
def test_a_follower_with_something_left_to_do_does_not_sleep(applied):
    peer = Peer(2, Membership((1, 2, 3)), terms=[1, 1], applied=applied)
    peer.core.step(Received(Heartbeat(1, 2, 1, 2, quiesce=True)))
    assert peer.core.is_asleep is (applied == 2)


def test_an_old_invitation_keeps_nobody_asleep_in_a_new_term():
    peer = Peer(2, Membership((1, 2, 3)), terms=[1, 1], applied=2)
    peer.step(Received(Heartbeat(1, 2, 1, 2, quiesce=True)))
    assert peer.core.is_asleep
    peer.step(Received(Heartbeat(3, 2, 2, 2)))
    assert not peer.core.is_asleep
    peer.step(Received(Heartbeat(1, 2, 1, 2, quiesce=True)))
    assert not peer.core.is_asleep
