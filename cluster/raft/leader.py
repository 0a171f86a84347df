"""What a leader does: take proposals, count answers, commit, mind the time, hand over.

Thesis 3.5, 3.6, 3.10, 6.2. What it sends is in `replication.py`, what it does about reads in
`reads.py`, changes of membership in `reconfigure.py`.
"""

from __future__ import annotations

from cluster.raft import quiescence, reads, replication
from cluster.raft.effects import Proposed, Rejected, RejectReason
from cluster.raft.events import (
    Persisted,
    Propose,
    SnapshotFailed,
    SnapshotSent,
    TransferLeadership,
    Unreachable,
)
from cluster.raft.follower import become_follower
from cluster.raft.membership import encode_membership
from cluster.raft.messages import AppendResponse, HeartbeatResponse, TimeoutNow
from cluster.raft.progress import Progress, ProgressState
from cluster.raft.quorum import has_quorum, joint_committed_index
from cluster.raft.state import Leadership, RaftState
from cluster.raft.types import (
    NO_INDEX,
    NO_NODE,
    NO_TERM,
    Entry,
    EntryKind,
    LogIndex,
    NodeId,
    Role,
    Term,
)

_LOST_TAIL_HINTS = 2
"""So many heartbeat answers in a row must claim a short log before the leader believes it: a
single one may simply have been overtaken by an append."""


def become_leader(s: RaftState, *, may_append: bool) -> None:
    """Lead the present term, and open it with a no-op entry.

    Without an entry of its own term the leader could neither commit what earlier leaders left
    (thesis 3.6.2) nor serve reads (thesis 6.4). The very first entry of a group says who founded
    it, so that a member that joins later learns the memberships from the log alone. Where the log
    does not tell any more that the membership in force is confirmed (`membership.py`), the first
    entry of the term does it.
    """
    assert s.role is Role.ELECTOR
    assert not s.is_pre_vote
    assert s.vote == s.node_id
    s.role = Role.LEADER
    s.leader = s.node_id
    s.votes = {}
    term_start = LogIndex(s.log.last_index + 1)
    lead = s.lead = Leadership(s.node_id, s.members, term_start, may_append)
    lead.progress[s.node_id].match = s.persisted
    unconfirmed = s.memberships.latest_index <= s.applied and not s.memberships.is_confirmed
    if s.log.last_index == NO_INDEX or (unconfirmed and not s.membership.is_joint):
        opening = Entry(term_start, s.term, EntryKind.MEMBERSHIP, encode_membership(s.membership))
    else:
        opening = Entry(term_start, s.term, EntryKind.NOOP, b"")
    s.append((opening,))
    replication.broadcast_heartbeat(s, lead)
    replication.send_to_all(s, lead)


# ---- proposals ----


def on_propose(s: RaftState, event: Propose) -> None:
    """Append the payloads, all or none, and send them where the window is open.

    The leader's own write and the followers' go on at the same time: the leader counts its own
    copy only when it is durable (thesis 10.2.1).
    """
    if not event.payloads:
        raise ValueError("nothing to propose")
    if event.kind == EntryKind.MEMBERSHIP:
        raise ValueError("a membership is changed by ChangeMembership")
    lead = s.lead
    reason = refusal(s, event.expected_term) or _overload(s, event.payloads)
    if reason is not None or lead is None:
        s.fx.rejected = Rejected(reason or RejectReason.NOT_LEADER, s.leader)
        return
    lead.is_used = True
    append_own(s, lead, event.kind, event.payloads)


def refusal(s: RaftState, expected_term: Term) -> RejectReason | None:
    """Return why nothing may be appended here now, whatever it is; None when it may.

    A caller that prepared its proposal while this member led an earlier term must not have it
    appended in a later one (etcd's guard is the entry's term; here it is the proposal's).
    """
    lead = s.lead
    if lead is None:
        return RejectReason.NOT_LEADER
    if expected_term not in (NO_TERM, s.term):
        return RejectReason.STALE_TERM
    if lead.transfer_to != NO_NODE:
        return RejectReason.TRANSFERRING  # thesis 3.10, step 1
    return None


def _overload(s: RaftState, payloads: tuple[bytes, ...]) -> RejectReason | None:
    log = s.log
    uncommitted = log.bytes_between(s.commit, log.last_index)
    if uncommitted:
        # with nothing uncommitted a single proposal always passes, however large
        uncommitted += sum([len(payload) for payload in payloads])
        if uncommitted > s.config.max_uncommitted_bytes:
            return RejectReason.TOO_MANY_UNCOMMITTED
    if log.bytes_between(s.applied, s.commit) >= s.config.max_unapplied_bytes:
        return RejectReason.TOO_MANY_UNAPPLIED
    return None


def append_own(
    s: RaftState, lead: Leadership, kind: EntryKind, payloads: tuple[bytes, ...]
) -> None:
    """Append entries of this term and send them where the window is open."""
    first = LogIndex(s.log.last_index + 1)
    s.append(
        [
            Entry(LogIndex(index), s.term, kind, payload)
            for index, payload in enumerate(payloads, first)
        ]
    )
    s.fx.proposed = Proposed(first, len(payloads), s.term)
    replication.send_to_all(s, lead)


def on_persisted(s: RaftState, event: Persisted) -> None:
    """Take note of what is durable here; on a leader it counts for commit."""
    if not s.note_persisted(event.index, event.term):
        return
    lead = s.lead
    if lead is None:
        return
    lead.progress[s.node_id].match = s.persisted
    if not lead.may_append and s.persisted >= lead.term_start:
        lead.may_append = True
        replication.send_to_all(s, lead)
    maybe_commit(s, lead)
    note_compactable(s, lead)


# ---- answers, commit ----


def _answered(
    s: RaftState, m: AppendResponse | HeartbeatResponse
) -> tuple[Leadership, Progress] | None:
    """Return who leads, and whom the answer is of; None where it is not to this leadership.

    One of a later term ends it.
    """
    if m.term > s.term:
        become_follower(s, m.term, NO_NODE)
        return None
    lead = s.lead
    if lead is None or m.term < s.term:
        return None
    progress = lead.progress.get(m.frm)
    return None if progress is None else (lead, progress)


def on_append_response(s: RaftState, m: AppendResponse) -> None:
    """Take a follower's answer: count it, or find out where its log differs.

    Raises:
        ValueError: it acknowledges what was never sent; nothing was changed.
    """
    answered = _answered(s, m)
    if answered is None:
        return
    lead, progress = answered
    if m.match_index > s.log.last_index:
        raise ValueError(f"node {m.frm} acknowledges {m.match_index}, last is {s.log.last_index}")
    progress.quiet_ticks = 0
    progress.silent_ticks = 0
    progress.lost_tail_hints = 0
    if not m.success:
        _on_refusal(s, lead, progress, m)
        return
    if progress.on_success(m.match_index):
        note_compactable(s, lead)
        maybe_commit(s, lead)
    replication.send_appends(s, lead, progress)
    replication.tell_commit_when_idle(s, lead, progress)
    _maybe_finish_transfer(s, lead)


def _on_refusal(s: RaftState, lead: Leadership, progress: Progress, m: AppendResponse) -> None:
    if progress.is_stale_refusal(m.prev_index):
        return
    if progress.state is ProgressState.REPLICATE:
        # an append was lost in the middle of the pipeline; what matched still does
        progress.become_probe(progress.match + 1)
    else:
        next_index = m.hint_index + 1
        if m.hint_index >= s.log.base_index:
            # the follower's entries up to the hint may be of terms that we don't have there
            hint = min(m.hint_index, s.log.last_index)
            next_index = s.log.last_at_or_below_term(hint, m.hint_term)[0] + 1
        progress.become_probe(max(1, min(m.prev_index, next_index)))
    replication.send_appends(s, lead, progress)


def maybe_commit(s: RaftState, lead: Leadership) -> bool:
    """Commit what a majority has durable; returns whether that was anything new.

    Only entries of the leader's own term are counted (thesis 3.6.2; figure 8 of the Raft paper
    shows the loss that counting older ones leads to); older ones are committed along with them.
    """
    acked = {node_id: progress.match for node_id, progress in lead.progress.items()}
    index = joint_committed_index(acked, s.membership)
    if index <= s.commit or index < lead.term_start:
        return False
    s.commit_to(index)
    for progress in lead.followers:
        replication.tell_commit_when_idle(s, lead, progress)
    reads.maybe_open_read_round(s, lead)
    return True


def note_compactable(s: RaftState, lead: Leadership) -> None:
    """Work out up to where every member has the log, learners and ourselves included.

    Not beyond the commit index: what is on every disk is bound to be committed, but until it
    is, nobody should have to reason about it.
    """
    s.note_compact_to(min(s.commit, min([p.match for p in lead.progress.values()])))


def needed_by_the_living(s: RaftState, lead: Leadership) -> LogIndex:
    """Return up to where every member that is heard from has the log, or is being sent it."""
    index = s.commit
    for progress in lead.progress.values():
        if progress.state is ProgressState.SNAPSHOT:
            index = min(index, max(progress.match, progress.pending_index))
        elif progress.quiet_ticks < s.config.election_ticks:
            index = min(index, progress.match)
    return index


# ---- heartbeats, time ----


def on_heartbeat_response(s: RaftState, m: HeartbeatResponse) -> None:
    """A follower lives: confirm reads, and resume or repair its replication."""
    answered = _answered(s, m)
    if answered is None:
        return
    lead, progress = answered
    progress.quiet_ticks = 0
    if m.read_context <= lead.beat:  # else it is not of this term, whatever it claims
        reads.note_confirmed(lead, progress, m.read_context)
        if lead.reads.ack(m.frm, m.read_context):
            reads.maybe_close_read_round(s, lead)
        if m.asleep:
            quiescence.on_answer(s, lead, progress, m)
    if progress.state is ProgressState.SNAPSHOT:
        return
    if m.last_index < progress.match:
        # It acknowledged more than it has. Never mind how; `match` stays, since commits already
        # rest on it, but what was lost is sent again.
        progress.lost_tail_hints += 1
        if progress.lost_tail_hints == _LOST_TAIL_HINTS:
            progress.become_probe(m.last_index + 1)
    else:
        progress.lost_tail_hints = 0
        silent = progress.silent_ticks * 2 >= s.config.election_ticks
        in_flight = progress.state is ProgressState.REPLICATE and (
            progress.next_index > progress.match + 1
        )
        # an append or its answer was lost; or a lost tail was a false alarm
        if (in_flight and silent) or progress.next_index <= progress.match:
            progress.become_probe(progress.match + 1)
    if progress.state is ProgressState.PROBE:
        progress.paused = False
    replication.send_appends(s, lead, progress)


def on_unreachable(s: RaftState, event: Unreachable) -> None:
    """Stop streaming to a peer until it answers a heartbeat, so that nothing spins."""
    if s.lead is None:
        return
    progress = s.lead.progress.get(event.peer)
    if progress is None or event.peer == s.node_id or progress.state is ProgressState.SNAPSHOT:
        return  # the fate of a snapshot is reported by itself
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe(progress.match + 1)
    progress.paused = True


def tick(s: RaftState, lead: Leadership) -> None:
    """Let a tick pass: heartbeats, check-quorum (thesis 6.2), end of a stuck transfer."""
    for progress in lead.followers:
        progress.silent_ticks += 1
        progress.quiet_ticks += 1
    if lead.transfer_to != NO_NODE:
        lead.transfer_elapsed += 1
        if lead.transfer_elapsed >= s.config.election_ticks:
            lead.transfer_to = NO_NODE
    if not hears_quorum(s, lead):
        become_follower(s, s.term, NO_NODE)
        return
    if s.config.quiesce_after_ticks:
        quiescence.note_rest(s, lead)
    lead.heartbeat_elapsed += 1
    if lead.heartbeat_elapsed >= s.config.heartbeat_ticks:
        replication.broadcast_heartbeat(s, lead)


def hears_quorum(s: RaftState, lead: Leadership) -> bool:
    """Whether a quorum was heard from within the last election time-out."""
    heard: dict[NodeId, bool] = {s.node_id: True}
    for progress in lead.followers:
        if progress.quiet_ticks < s.config.election_ticks:
            heard[progress.node_id] = True
    return has_quorum(heard, s.membership)


# ---- snapshots ----


def on_snapshot_sent(s: RaftState, event: SnapshotSent) -> None:
    """The follower has the snapshot: go on behind it. A probe finds out whether that is so."""
    lead, progress = _in_snapshot(s, event.to, event.term)
    if lead is not None and progress is not None:
        progress.become_probe(max(progress.match, min(event.index, s.log.last_index)) + 1)
        replication.send_appends(s, lead, progress)


def on_snapshot_failed(s: RaftState, event: SnapshotFailed) -> None:
    """Ask the follower again, after its next sign of life."""
    _, progress = _in_snapshot(s, event.to, event.term)
    if progress is not None:
        progress.become_probe(progress.match + 1)
        progress.paused = True


def _in_snapshot(s: RaftState, to: NodeId, term: Term) -> tuple[Leadership | None, Progress | None]:
    """Return leadership and progress if a snapshot to `to` is on its way in this `term`."""
    lead = s.lead
    if lead is None or term != s.term:
        return None, None
    progress = lead.progress.get(to)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return None, None
    return lead, progress


# ---- transfer ----


def on_transfer(s: RaftState, event: TransferLeadership) -> None:
    """Begin to hand leadership over, or refuse when `target` can't lead (thesis 3.10)."""
    lead = s.lead
    if lead is None:
        s.fx.rejected = Rejected(RejectReason.NOT_LEADER, s.leader)
        return
    if event.target not in s.membership.voters:
        s.fx.rejected = Rejected(RejectReason.NO_VOTER, s.leader)
        return
    if event.target == s.node_id or lead.transfer_to == event.target:
        return
    lead.transfer_to = event.target
    lead.transfer_elapsed = 0
    replication.send_appends(s, lead, lead.progress[event.target])
    _maybe_finish_transfer(s, lead)


def _maybe_finish_transfer(s: RaftState, lead: Leadership) -> None:
    if lead.transfer_to == NO_NODE:
        return
    target = lead.progress.get(lead.transfer_to)
    if target is None:
        lead.transfer_to = NO_NODE  # removed meanwhile
    elif target.match == s.log.last_index:
        lead.lease_void = True
        s.fx.send.append(TimeoutNow(s.node_id, lead.transfer_to, s.term))
