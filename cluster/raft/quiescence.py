"""Groups that sleep: an idle group costs no messages and no ticks.

Problem: a thousand idle groups would exchange heartbeats for nothing. Idea (CockroachDB's
quiescence): a leader with nothing to do, whose followers all have everything, says so in a
heartbeat; each follower stops its election timer, and when all have said that they did, the leader
stops its heartbeats and its check-quorum. That the *nodes* live is watched once per pair of nodes,
by the shell, which tells with `PeerSilent` when one doesn't.

Why nothing is lost:

1. Sleeping is about time-outs only. A sleeper answers every message as if awake, and any event
   but a Tick, a report of its own disk or state machine, or the same invitation again wakes it.
2. A sleeping leader has no lease; its first read asks a quorum.
3. A sleeper whose leader's node is silent, or was started again, is told so and campaigns. A stale
   invitation can put an awake follower to sleep, so the shell tells again as long as the silence
   lasts.

4. A member that is away keeps nobody awake: once it has been silent for two election time-outs,
   a leader that hears a quorum sleeps without it, and one that sleeps goes on as long as there is
   a quorum of nodes. The lonely member does not sleep, since its shell tells it of the leader's
   silence, and campaigns until it reaches somebody, who wakes up; or its node is started anew.
"""

from __future__ import annotations

from cluster.raft.events import Applied, Event, PeerSilent, Persisted, Received, Tick
from cluster.raft.messages import Heartbeat, HeartbeatResponse
from cluster.raft.progress import Progress, ProgressState
from cluster.raft.quorum import has_quorum
from cluster.raft.state import Leadership, RaftState
from cluster.raft.types import NO_NODE, NodeId


def note_rest(s: RaftState, lead: Leadership) -> None:
    """Count a tick towards sleep if the group has nothing to do; called by the leader's tick."""
    lead.rest_ticks = lead.rest_ticks + 1 if is_at_rest(s, lead) else 0
    if not invites(s, lead):
        lead.invited_from = 0


def invites(s: RaftState, lead: Leadership) -> bool:
    """Whether there has been nothing to do for long enough that heartbeats invite to sleep.

    A leader that nobody wanted anything of yet, since it was elected or woken by a neighbour's
    fate, has less patience: a node with a thousand groups that starts, or loses a neighbour, would
    otherwise pay for the heartbeats of all of them at once.
    """
    patience = s.config.quiesce_after_ticks
    if not lead.is_used:
        patience = min(patience, s.config.heartbeat_ticks)
    return lead.rest_ticks > patience > 0


def is_at_rest(s: RaftState, lead: Leadership) -> bool:
    """Whether everything is applied here and stored everywhere, and nobody waits for anything."""
    last = s.log.last_index
    if s.applied != last or lead.transfer_to != NO_NODE or s.membership.is_joint:
        return False
    if lead.reads.is_round_open or lead.reads.has_waiting:
        return False
    for progress in lead.followers:
        if is_away(s, progress):
            continue
        if progress.match != last or progress.state is not ProgressState.REPLICATE:
            return False
        if progress.quiet_ticks >= s.config.election_ticks:
            return False
    return True


def is_away(s: RaftState, progress: Progress) -> bool:
    """Whether a follower has been silent for so long that the group does without it.

    Longer than a leader can do without a quorum (`hears_quorum`), so the rest is one.
    """
    return progress.quiet_ticks >= 2 * s.config.election_ticks


def on_answer(s: RaftState, lead: Leadership, progress: Progress, m: HeartbeatResponse) -> None:
    """Count a follower that has gone to sleep; the leader follows when all have."""
    if not m.asleep or not lead.invited_from or m.read_context < lead.invited_from:
        return
    progress.asleep = True
    if is_at_rest(s, lead) and all(p.asleep or is_away(s, p) for p in lead.followers):
        s.asleep = s.fx.asleep = True
        lead.forget_lease()


def maybe_sleep(s: RaftState, m: Heartbeat) -> bool:
    """Follow an invitation to sleep, unless there is something left to do; returns whether."""
    if not m.quiesce or m.term != s.term:
        return False
    if not m.commit == s.log.last_index == s.persisted == s.applied:
        return False
    if not s.asleep:
        s.asleep = s.fx.asleep = True
    return True


def is_waking(s: RaftState, event: Event) -> bool:
    """Whether `event` wakes a sleeper."""
    if isinstance(event, Received):
        m = event.message
        if isinstance(m, Heartbeat):
            return not (m.quiesce and m.term == s.term)
        if isinstance(m, HeartbeatResponse):
            # the rest are late answers to invitations
            return m.term > s.term or _is_known_away(s, m.frm)
        return True
    if isinstance(event, PeerSilent):
        if s.lead is None:
            return event.peer == s.leader
        return event.is_back or not _can_do_without(s, s.lead, event.peer)
    return not isinstance(event, (Tick, Persisted, Applied))


def _is_known_away(s: RaftState, peer: NodeId) -> bool:
    """Whether this leader fell asleep without a follower."""
    progress = None if s.lead is None else s.lead.progress.get(peer)
    return progress is not None and is_away(s, progress)


def _can_do_without(s: RaftState, lead: Leadership, peer: NodeId) -> bool:
    """Whether this sleeping leader has a quorum without `peer`, and those known to be away."""
    there = {p.node_id: True for p in lead.followers if p.node_id != peer and not is_away(s, p)}
    return has_quorum({s.node_id: True, **there}, s.membership)


def wake(s: RaftState) -> None:
    """Start the clocks again; a leader is due to show at once that it lives."""
    s.asleep = s.fx.asleep = False
    s.elapsed = 0
    lead = s.lead
    if lead is None:
        return
    lead.rest_ticks = 0
    lead.is_used = False
    lead.invited_from = 0
    for progress in lead.followers:
        progress.quiet_ticks = progress.silent_ticks = 0
        progress.asleep = False


def on_peer_silent(s: RaftState, event: PeerSilent) -> None:
    """Let the silence of the leader's node count as if its heartbeats had been missed.

    Up to a time-out only: when to campaign stays random, or all would do so at once.
    """
    if s.lead is not None and s.asleep:
        # as if it had been awake to notice: it has all there is, and a quorum is left
        progress = s.lead.progress.get(event.peer)
        if progress is not None:
            progress.quiet_ticks = max(progress.quiet_ticks, 2 * s.config.election_ticks)
    if s.lead is None and s.leader == event.peer:
        s.promise_left = max(0, s.promise_left - event.ticks)
        s.elapsed = max(s.elapsed, min(event.ticks, s.config.election_ticks))
