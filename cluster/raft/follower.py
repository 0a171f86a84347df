"""What a member does on the word of a leader: take entries, commit, answer (thesis 3.5, 3.6)."""

from __future__ import annotations

from cluster.raft import quiescence
from cluster.raft.effects import ReadRejected
from cluster.raft.membership import decode_membership
from cluster.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
)
from cluster.raft.progress import ProgressState
from cluster.raft.state import RaftState
from cluster.raft.types import NO_NODE, Entry, EntryKind, LogIndex, NodeId, Role, Term


def become_follower(s: RaftState, term: Term, leader: NodeId) -> None:
    """Follow `leader` (NO_NODE: whoever shows up) in `term`; what a leader promised lapses."""
    assert term >= s.term
    if term > s.term:
        s.set_hard_state(term, NO_NODE)
    if s.lead is not None:
        s.fx.reads_rejected.extend(ReadRejected(i, leader) for i in s.lead.reads.drain())
        s.fx.cancelled_snapshots.extend(
            p.node_id for p in s.lead.followers if p.state is ProgressState.SNAPSHOT
        )
        s.lead = None
    s.role = Role.FOLLOWER
    s.leader = leader
    s.votes = {}
    s.is_pre_vote = False
    s.pre_votes = 0
    s.wants_transfer = False
    s.reset_election_timer()


def follow(s: RaftState, term: Term, leader: NodeId) -> None:
    """Take note of a sign of life of the leader of `term`, which is not older than ours.

    From now on, for an election time-out, it gives no vote to another (thesis 4.2.3, 6.4.1).
    """
    s.promise_left = s.config.election_ticks
    if term > s.term or s.role is Role.ELECTOR:
        become_follower(s, term, leader)
        return
    # two leaders in one term, or one that is ourselves: elections are broken (thesis 3.4)
    assert s.role is Role.FOLLOWER, f"node {s.node_id} leads term {term}, and so does {leader}"
    assert s.leader in (NO_NODE, leader), f"term {term} is led by {s.leader} and {leader}"
    s.leader = leader
    s.elapsed = 0


def on_append(s: RaftState, m: AppendRequest) -> None:
    """Handle AppendEntries (thesis 3.5).

    Raises:
        ValueError: the message is malformed; nothing was changed.
        AssertionError: it contradicts a committed entry; the member must stop.
    """
    if m.term < s.term:
        # tells a leader that was deposed, or a member that fell behind, which term it is
        s.answer(
            AppendResponse(s.node_id, m.frm, s.term, False, LogIndex(0), m.prev_index, id=m.id)
        )
        return
    check_entries(m)
    follow(s, m.term, m.frm)
    s.note_compact_to(m.compact_to)
    if not _prev_matches(s, m):
        hint_index, hint_term = conflict_hint(s, m)
        s.answer(
            AppendResponse(
                s.node_id,
                m.frm,
                s.term,
                False,
                LogIndex(0),
                m.prev_index,
                hint_index,
                hint_term,
                m.id,
            )
        )
        return
    new = new_entries(s, m.entries)
    if new:
        if new[0].index <= s.log.last_index:
            s.truncate_from(new[0].index)
        s.append(new)
    match_index = LogIndex(m.prev_index + len(m.entries))
    s.commit_to(min(m.commit, match_index))
    # Waits even when there was nothing new: what it acknowledges may be part of an earlier step's
    # write that is still under way (thesis 3.8, 10.2.1).
    s.fx.send_after_persist.append(
        AppendResponse(s.node_id, m.frm, s.term, True, match_index, m.prev_index, id=m.id)
    )


def on_heartbeat(s: RaftState, m: Heartbeat) -> None:
    """Handle a leader's sign of life; `commit` never exceeds what we acknowledged to it."""
    if m.term >= s.term:
        follow(s, m.term, m.frm)
        s.note_compact_to(m.compact_to)
        # min(): a member that lost its tail must not believe to have what it lost
        s.commit_to(min(m.commit, s.log.last_index))
    asleep = quiescence.maybe_sleep(s, m)
    s.answer(
        HeartbeatResponse(s.node_id, m.frm, s.term, m.read_context, s.log.last_index, m.id, asleep)
    )


def check_entries(m: AppendRequest) -> None:
    """Check that the entries follow `prev` and one another (ValueError if not).

    Also that what says it is a membership is one: once appended, that could not be refused.
    """
    index, term = m.prev_index, m.prev_term
    for entry in m.entries:
        if entry.index != index + 1 or not term <= entry.term <= m.term:
            raise ValueError(
                f"append of term {m.term} from node {m.frm}: entry {entry.index} of term "
                f"{entry.term} can't follow entry {index} of term {term}"
            )
        if entry.kind == EntryKind.MEMBERSHIP:
            decode_membership(entry.data)
        index, term = entry.index, entry.term


def new_entries(s: RaftState, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries from the first that is not in the log, or that conflicts with it.

    Entries that are there already are kept, and so is what follows them: a delayed or
    repeated request must not cut off what was acknowledged after it (thesis 3.5).
    """
    log = s.log
    if not entries or entries[0].index > log.last_index:
        return entries
    for position, entry in enumerate(entries):
        if entry.index <= log.base_index:
            continue  # compacted, thus committed: the leader has the same
        if log.term_of(entry.index) != entry.term:
            return entries[position:]
    return ()


def _prev_matches(s: RaftState, m: AppendRequest) -> bool:
    if m.prev_index < s.log.base_index:
        # Compacted, thus applied and committed here. Every later leader has it (leader
        # completeness, thesis 3.6.3), so the logs agree there although the term is forgotten.
        return True
    own_term = s.log.term_of(m.prev_index)
    if own_term == m.prev_term:
        return True
    assert own_term is None or m.prev_index > s.commit, (
        f"node {s.node_id}: entry {m.prev_index} is committed with term {own_term}, but the "
        f"leader of term {m.term} has it with term {m.prev_term}"
    )
    return False


def conflict_hint(s: RaftState, m: AppendRequest) -> tuple[LogIndex, Term]:
    """Return where the logs may still agree, given that they don't at `m.prev`.

    Entries of a term above prev_term, at or below prev_index, can't be in the leader's log:
    skip them all at once (etcd's findConflictByTerm; Raft paper, end of section 5.3). What is
    committed is common to both.
    """
    index, term = s.log.last_at_or_below_term(min(m.prev_index, s.log.last_index), m.prev_term)
    if index < s.commit:
        committed_term = s.log.term_of(s.commit)
        assert committed_term is not None
        return s.commit, committed_term
    return index, term


def tick(s: RaftState) -> bool:
    """Let a tick pass without a leader's word; returns whether it is time to campaign."""
    s.elapsed += 1
    if s.promise_left:
        s.promise_left -= 1
    return s.elapsed >= s.timeout + s.patience and not s.promise_left and s.may_campaign
