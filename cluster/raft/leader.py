"""What a leader does: replicate, commit, confirm reads, hand over.

Thesis 3.5, 3.6, 3.10, 6.2, 6.4, 10.2.1.
"""

from __future__ import annotations

from cluster.raft.effects import (
    Proposed,
    ReadRejected,
    Rejected,
    RejectReason,
    SendAppend,
)
from cluster.raft.events import (
    Persisted,
    Propose,
    ReadRequest,
    TransferLeadership,
    Unreachable,
)
from cluster.raft.follower import become_follower
from cluster.raft.messages import AppendResponse, Heartbeat, HeartbeatResponse, TimeoutNow
from cluster.raft.progress import Progress, ProgressState
from cluster.raft.quorum import has_quorum, joint_committed_index
from cluster.raft.state import Leadership, RaftState
from cluster.raft.types import NO_NODE, NO_TERM, Entry, EntryKind, LogIndex, NodeId, Role

_PROBE_MAX_BYTES = 64 << 10
"""A probe carries entries only up to this size: it may be refused, and is repeated."""

_LOST_TAIL_HINTS = 2
"""So many heartbeat answers in a row must claim a short log before the leader believes it: a
single one may simply have been overtaken by an append."""


def become_leader(s: RaftState, *, may_append: bool) -> None:
    """Lead the present term, and open it with a no-op entry.

    Without an entry of its own term the leader could neither commit what earlier leaders left
    (thesis 3.6.2) nor serve reads (thesis 6.4).
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
    s.append((Entry(term_start, s.term, EntryKind.NOOP, b""),))
    broadcast_heartbeat(s, lead)
    for progress in lead.followers:
        send_appends(s, lead, progress)


# ---- proposals ----


def on_propose(s: RaftState, event: Propose) -> None:
    """Append the payloads, all or none, and send them where the window is open.

    The leader's own write and the followers' go on at the same time: the leader counts its own
    copy only when it is durable (thesis 10.2.1).
    """
    if not event.payloads:
        raise ValueError("nothing to propose")
    lead = s.lead
    reason = None
    if lead is None:
        reason = RejectReason.NOT_LEADER
    elif event.expected_term not in (NO_TERM, s.term):
        reason = RejectReason.STALE_TERM
    elif lead.transfer_to != NO_NODE:
        reason = RejectReason.TRANSFERRING
    else:
        uncommitted = s.log.bytes_between(s.commit, s.log.last_index)
        if uncommitted:
            # with nothing uncommitted a single proposal always passes, however large
            uncommitted += sum([len(payload) for payload in event.payloads])
            if uncommitted > s.config.max_uncommitted_bytes:
                reason = RejectReason.TOO_MANY_UNCOMMITTED
    if reason is not None or lead is None:
        s.fx.rejected = Rejected(reason or RejectReason.NOT_LEADER, s.leader)
        return
    first = LogIndex(s.log.last_index + 1)
    s.append(
        [
            Entry(LogIndex(index), s.term, event.kind, payload)
            for index, payload in enumerate(event.payloads, first)
        ]
    )
    s.fx.proposed = Proposed(first, len(event.payloads), s.term)
    for progress in lead.followers:
        send_appends(s, lead, progress)


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
        for progress in lead.followers:
            send_appends(s, lead, progress)
    maybe_commit(s, lead)
    note_compactable(s, lead)


# ---- replication ----


def send_appends(s: RaftState, lead: Leadership, progress: Progress) -> None:
    """Send what the follower lacks, as far as its window is open.

    A follower that needs entries which are no longer in the log gets nothing: it needs a snapshot.
    """
    if not lead.may_append:
        return
    if progress.state is ProgressState.PROBE:
        _send_probe(s, progress)
        return
    config = s.config
    log = s.log
    if progress.next_index <= log.base_index:
        return
    window = config.max_inflight_bytes - log.bytes_between(progress.match, progress.next_index - 1)
    while progress.next_index <= log.last_index and window > 0:
        lo = progress.next_index
        if lo == progress.match + 1:
            progress.silent_ticks = 0  # nothing was in flight: the clock of this one starts now
        hi = log.batch_end(lo, min(config.max_append_bytes, window))
        if not _emit_append(s, progress, lo, hi):
            return
        progress.next_index = hi
        window -= log.bytes_between(lo - 1, hi - 1)


def _send_probe(s: RaftState, progress: Progress) -> None:
    if progress.paused:
        return
    lo = hi = progress.next_index
    log = s.log
    if lo <= log.last_index and lo > log.base_index:
        hi = log.batch_end(lo, min(s.config.max_append_bytes, _PROBE_MAX_BYTES))
        if log.bytes_between(lo - 1, hi - 1) > _PROBE_MAX_BYTES:
            hi = lo
    if _emit_append(s, progress, lo, hi):
        progress.paused = True


def _emit_append(s: RaftState, progress: Progress, lo: LogIndex, hi: LogIndex) -> bool:
    prev_index = LogIndex(lo - 1)
    prev_term = s.log.term_of(prev_index)
    if prev_term is None:
        return False
    progress.commit_sent = s.commit
    s.fx.appends.append(
        SendAppend(progress.node_id, s.term, prev_index, prev_term, lo, hi, s.commit, s.compact_to)
    )
    return True


def on_append_response(s: RaftState, m: AppendResponse) -> None:
    """Take a follower's answer: count it, or find out where its log differs.

    Raises:
        ValueError: it acknowledges what was never sent; nothing was changed.
    """
    if m.term > s.term:
        become_follower(s, m.term, NO_NODE)
        return
    lead = s.lead
    if lead is None or m.term < s.term:
        return
    progress = lead.progress.get(m.frm)
    if progress is None:
        return
    if m.match_index > s.log.last_index:
        raise ValueError(f"node {m.frm} acknowledges {m.match_index}, last is {s.log.last_index}")
    progress.active = True
    progress.silent_ticks = 0
    progress.lost_tail_hints = 0
    if not m.success:
        _on_refusal(s, lead, progress, m)
        return
    if progress.on_success(m.match_index):
        note_compactable(s, lead)
        maybe_commit(s, lead)
    send_appends(s, lead, progress)
    _tell_commit_when_idle(s, lead, progress)
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
    send_appends(s, lead, progress)


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
        _tell_commit_when_idle(s, lead, progress)
    maybe_open_read_round(s, lead)
    return True


def _tell_commit_when_idle(s: RaftState, lead: Leadership, progress: Progress) -> None:
    """Let a follower with nothing in flight know of the commit now, not at the next heartbeat.

    A busy one learns it with the next append. Followers serve reads and wait for their own
    forwarded writes: a heartbeat interval later would be felt.
    """
    if (
        progress.commit_sent < s.commit
        and progress.state is ProgressState.REPLICATE
        and progress.match == s.log.last_index
        and lead.may_append
    ):
        _emit_append(s, progress, progress.next_index, progress.next_index)


def note_compactable(s: RaftState, lead: Leadership) -> None:
    """Work out up to where every member has the log, learners and ourselves included.

    Not beyond the commit index: what is on every disk is bound to be committed, but until it
    is, nobody should have to reason about it.
    """
    s.note_compact_to(min(s.commit, min([p.match for p in lead.progress.values()])))


# ---- heartbeats, time ----


def broadcast_heartbeat(s: RaftState, lead: Leadership) -> None:
    """Send a sign of life to all, with the number of the read round under way."""
    lead.heartbeat_elapsed = 0
    context = lead.reads.context
    for progress in lead.followers:
        s.fx.send.append(
            Heartbeat(
                s.node_id,
                progress.node_id,
                s.term,
                min(progress.match, s.commit),
                context,
                s.compact_to,
            )
        )


def on_heartbeat_response(s: RaftState, m: HeartbeatResponse) -> None:
    """A follower lives: confirm reads, and resume or repair its replication."""
    if m.term > s.term:
        become_follower(s, m.term, NO_NODE)
        return
    lead = s.lead
    if lead is None or m.term < s.term:
        return
    progress = lead.progress.get(m.frm)
    if progress is None:
        return
    progress.active = True
    if lead.reads.ack(m.frm, m.read_context):
        maybe_close_read_round(s, lead)
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
    send_appends(s, lead, progress)


def on_unreachable(s: RaftState, event: Unreachable) -> None:
    """Stop streaming to a peer until it answers a heartbeat, so that nothing spins."""
    if s.lead is None:
        return
    progress = s.lead.progress.get(event.peer)
    if progress is None or event.peer == s.node_id:
        return
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe(progress.match + 1)
    progress.paused = True


def tick(s: RaftState, lead: Leadership) -> None:
    """Let a tick pass: heartbeats, check-quorum (thesis 6.2), end of a stuck transfer."""
    for progress in lead.followers:
        progress.silent_ticks += 1
    if lead.transfer_to != NO_NODE:
        lead.transfer_elapsed += 1
        if lead.transfer_elapsed >= s.config.election_ticks:
            lead.transfer_to = NO_NODE
    lead.quorum_elapsed += 1
    if lead.quorum_elapsed >= s.config.election_ticks:
        lead.quorum_elapsed = 0
        heard: dict[NodeId, bool] = {s.node_id: True}
        for progress in lead.followers:
            if progress.active:
                heard[progress.node_id] = True
                progress.active = False
        if not has_quorum(heard, s.membership):
            become_follower(s, s.term, NO_NODE)
            return
    lead.heartbeat_elapsed += 1
    if lead.heartbeat_elapsed >= s.config.heartbeat_ticks:
        broadcast_heartbeat(s, lead)


# ---- reads ----


def on_read_request(s: RaftState, event: ReadRequest) -> None:
    """Take a linearizable read, or refuse it when this is not the leader."""
    if s.lead is None:
        s.fx.reads_rejected.append(ReadRejected(event.id, s.leader))
        return
    s.lead.reads.add(event.id)
    maybe_open_read_round(s, s.lead)


def maybe_open_read_round(s: RaftState, lead: Leadership) -> None:
    """Start confirming the waiting reads, unless a round is under way.

    Not before an entry of the own term is committed: until then the commit index may be older
    than what an earlier leader has acknowledged (thesis 6.4, step 1).
    """
    reads = lead.reads
    if reads.is_round_open or not reads.has_waiting or s.commit < lead.term_start:
        return
    reads.open_round(s.node_id, s.commit)
    if not maybe_close_read_round(s, lead):
        broadcast_heartbeat(s, lead)


def maybe_close_read_round(s: RaftState, lead: Leadership) -> bool:
    """Release the reads of the open round if a quorum has confirmed it; returns whether it did."""
    if not is_confirmed(s, lead):
        return False
    s.fx.reads.extend(lead.reads.close_round())
    maybe_open_read_round(s, lead)
    return True


def is_confirmed(s: RaftState, lead: Leadership) -> bool:
    """Whether a quorum answered a heartbeat that was sent after the open round began."""
    return lead.reads.is_round_open and has_quorum(lead.reads.acks, s.membership)


# ---- transfer ----


def on_transfer(s: RaftState, event: TransferLeadership) -> None:
    """Begin to hand leadership over; without effect when `target` can't lead (thesis 3.10)."""
    lead = s.lead
    if lead is None or event.target == s.node_id or lead.transfer_to == event.target:
        return
    if event.target not in s.membership.voters:
        return
    lead.transfer_to = event.target
    lead.transfer_elapsed = 0
    send_appends(s, lead, lead.progress[event.target])
    _maybe_finish_transfer(s, lead)


def _maybe_finish_transfer(s: RaftState, lead: Leadership) -> None:
    if lead.transfer_to == NO_NODE:
        return
    if lead.progress[lead.transfer_to].match == s.log.last_index:
        s.fx.send.append(TimeoutNow(s.node_id, lead.transfer_to, s.term))
