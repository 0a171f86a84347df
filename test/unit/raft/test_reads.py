"""Linearizable reads by read index: thesis 6.4."""

from __future__ import annotations

from cluster.raft.events import Propose, ReadRequest, Received, Tick
from cluster.raft.messages import AppendRequest, Heartbeat, HeartbeatResponse
from cluster.raft.types import Membership, Role
from harness.sim.lockstep import Peer, group


def read_contexts(peer):
    return [m.read_context for m in peer.sent if isinstance(m, Heartbeat)]


def answer(frm, context, term=1):
    return Received(HeartbeatResponse(frm, 1, term, context, 99))


def test_a_read_waits_for_a_quorum():
    net = group(5)
    leader = net.elect(1)
    net.propose(1, b"a")
    assert leader.step(ReadRequest(7)).reads == []
    # the election's heartbeats were the first round
    assert read_contexts(leader) == [2, 2, 2, 2]
    assert leader.step(answer(2, 2)).reads == []
    assert leader.step(answer(2, 2)).reads == []  # the same one again
    assert leader.step(answer(9, 2)).reads == []  # no member
    assert leader.step(answer(3, 1)).reads == []  # sent before the read
    assert leader.step(answer(3, 3)).reads == []  # never sent in this term
    assert leader.step(answer(3, 2)).reads == [(7, 2)]


def test_reads_during_a_round_share_the_next_one():
    net = group(3)
    leader = net.elect(1)
    leader.step(ReadRequest(1))
    leader.sent.clear()
    leader.step(ReadRequest(2))
    leader.step(ReadRequest(3))
    assert leader.sent == []
    effects = leader.step(answer(2, 2))
    assert effects.reads == [(1, 1)]
    assert read_contexts(leader) == [3, 3]
    assert leader.step(answer(3, 2)).reads == []
    assert leader.step(answer(3, 3)).reads == [(2, 1), (3, 1)]


def test_what_a_lost_round_would_have_confirmed_the_next_heartbeat_confirms():
    net = group(3)
    leader = net.elect(1)
    leader.step(ReadRequest(1))
    leader.sent.clear()
    leader.step(Tick())
    assert read_contexts(leader) == [3, 3]
    assert leader.step(answer(2, 3)).reads == [(1, 1)]


def test_a_new_leader_serves_no_read_before_an_entry_of_its_own():
    net = group(3)
    net.elect(1)
    net.propose(1, b"a")
    net.down = [1]
    net.forget_leader()

    def no_entries(message):
        return None if isinstance(message, AppendRequest) else message

    for _ in range(20):
        net[2].step(Tick())
        net.deliver(no_entries)
        if net[2].core.role is Role.LEADER:
            break
    served = []
    original = net[2].core.step

    def watch(event):
        effects = original(event)
        served.extend(effects.reads)
        return effects

    net[2].core.step = watch
    net[2].step(ReadRequest(5))
    for _ in range(8):
        net[2].step(Tick())
        net.deliver(no_entries)
    assert net[2].core.role is Role.LEADER
    assert served == []
    net.tick(2, times=2)
    assert served == [(5, 3)]


def test_reads_elsewhere_are_refused_with_the_leader():
    net = group(3)
    net.elect(1)
    assert net[2].step(ReadRequest(4)).reads_rejected == [(4, 1)]
    assert Peer(2, Membership((1, 2, 3))).step(ReadRequest(4)).reads_rejected == [(4, 0)]


def test_reads_are_refused_when_leadership_is_lost():
    net = group(3)
    leader = net.elect(1)
    leader.step(ReadRequest(1))
    leader.step(ReadRequest(2))
    effects = leader.step(Received(Heartbeat(3, 1, 9, 0)))
    assert effects.reads_rejected == [(1, 3), (2, 3)]
    assert effects.role_changed == (Role.FOLLOWER, 9, 3)


def test_a_sole_voter_reads_at_once_but_only_what_is_committed():
    peer = Peer(1, Membership((1,)))
    peer.hold_disk = True
    peer.step(Tick())
    assert peer.step(ReadRequest(1)).reads == []
    peer.step(Propose((b"x",)))
    peer.hold_disk = False
    seen = []
    original = peer.core.step

    def watch(event):
        effects = original(event)
        seen.extend(effects.reads)
        return effects

    peer.core.step = watch
    peer.sync()
    assert seen == [(1, 1)]
    assert peer.step(ReadRequest(2)).reads == [(2, 2)]
