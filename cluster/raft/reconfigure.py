"""Changes of membership and what follows from applying one (thesis 4; etcd's ConfChangeV2).

The rules and why they are safe: `membership.py`.
"""

from __future__ import annotations

from cluster.raft import leader, reads, replication
from cluster.raft.candidate import maybe_campaign_for_transfer
from cluster.raft.effects import Rejected, RejectReason
from cluster.raft.events import Applied, ChangeMembership, SnapshotInstalled
from cluster.raft.follower import become_follower
from cluster.raft.membership import after_joint, encode_membership, next_membership
from cluster.raft.messages import AppendResponse, TimeoutNow
from cluster.raft.progress import Progress, ProgressState
from cluster.raft.state import Leadership, RaftState
from cluster.raft.types import NO_NODE, EntryKind, LogIndex, Membership, NodeId


def on_change_membership(s: RaftState, event: ChangeMembership) -> None:
    """Append the first step towards the target, or refuse.

    Raises:
        ValueError: the target is malformed; nothing was changed.
    """
    reason = leader.refusal(s, event.expected_term) or _refusal(s, event)
    lead = s.lead
    if reason is not None or lead is None:
        s.fx.rejected = Rejected(reason or RejectReason.NOT_LEADER, s.leader)
        return
    _append(s, lead, next_membership(s.membership, event.voters, event.learners))


def _refusal(s: RaftState, event: ChangeMembership) -> RejectReason | None:
    lead = s.lead
    assert lead is not None
    if event.expected not in (None, s.membership):
        return RejectReason.UNEXPECTED_MEMBERSHIP
    # At most one that is not applied. And none before this term has committed something: what an
    # earlier leader left may be a change that we can't judge yet (Ongaro's correction of
    # thesis 4.1, raft-dev, July 2015).
    if s.memberships.latest_index > s.applied or s.membership.is_joint:
        return RejectReason.CHANGE_PENDING
    if s.commit < lead.term_start:
        return RejectReason.CHANGE_PENDING
    target = next_membership(s.membership, event.voters, event.learners)
    if target == s.membership:
        return RejectReason.UNCHANGED
    if not event.even_if_behind:
        for node in target.voters:
            if not s.membership.may_vote(node) and not _is_caught_up(s, lead.progress.get(node)):
                return RejectReason.NOT_CAUGHT_UP
    return None


def _is_caught_up(s: RaftState, progress: Progress | None) -> bool:
    """Whether what a learner lacks fits in its window (thesis 4.2.1)."""
    if progress is None or progress.state is not ProgressState.REPLICATE:
        return False
    behind = s.log.bytes_between(progress.match, s.log.last_index)
    return behind <= s.config.max_inflight_bytes


def _append(s: RaftState, lead: Leadership, membership: Membership) -> None:
    leader.append_own(s, lead, EntryKind.MEMBERSHIP, (encode_membership(membership),))


def on_applied(s: RaftState, event: Applied) -> None:
    """Take note of what the state machine has; memberships among it take effect."""
    if event.index <= s.applied:
        return
    changed = s.memberships.has_between(s.applied, event.index)
    s.applied = event.index
    if changed:
        activate(s, s.memberships.at(event.index))
    maybe_campaign_for_transfer(s)
    if s.lead is not None:
        maybe_go_on(s, s.lead)


def activate(s: RaftState, membership: Membership) -> None:
    """Let a membership take effect here.

    A leader that is no longer in it steps down now: the entry is committed, so the others can go
    on without it (thesis 4.2.2). It asks the one that has most to take over, which spares
    them the time-out.
    """
    if membership == s.membership:
        return
    s.membership = membership
    s.members = membership.members()
    s.fx.membership = membership
    lead = s.lead
    if lead is None:
        return
    _adapt_followers(s, lead)
    if membership.may_vote(s.node_id):
        # a smaller quorum may have been reached already
        leader.maybe_commit(s, lead)
        reads.maybe_close_read_round(s, lead)
        return
    heir = _heir(lead, membership)
    term = s.term
    become_follower(s, s.term, NO_NODE)
    if heir != NO_NODE:
        s.fx.send.append(TimeoutNow(s.node_id, heir, term))


def _adapt_followers(s: RaftState, lead: Leadership) -> None:
    for node in s.members:
        if node not in lead.progress:
            # probing finds out what it has; a new one refuses, and hints at 0
            lead.progress[node] = Progress(node, LogIndex(s.log.last_index + 1))
    gone = [node for node in lead.progress if node not in s.members and node != s.node_id]
    for node in gone:
        if lead.progress.pop(node).state is ProgressState.SNAPSHOT:
            s.fx.cancelled_snapshots.append(node)
    lead.followers = [p for p in lead.progress.values() if p.node_id != s.node_id]
    if lead.transfer_to in gone:
        lead.transfer_to = NO_NODE
    replication.send_to_all(s, lead)


def _heir(lead: Leadership, membership: Membership) -> NodeId:
    best = NO_NODE
    for node in membership.voters:
        if best == NO_NODE or lead.progress[node].match > lead.progress[best].match:
            best = node
    return best


def maybe_go_on(s: RaftState, lead: Leadership) -> None:
    """Take the next step of a change once the last one is in force.

    A joint membership is ended (thesis 4.3), any other is confirmed (`membership.py`). Whoever
    leads then does it, so a change that has begun is finished whatever happens to the leader that
    began it.
    """
    if s.memberships.latest_index > s.applied or s.commit < lead.term_start:
        return
    if s.membership.is_joint:
        _append(s, lead, after_joint(s.membership))
    elif not s.memberships.is_confirmed:
        _append(s, lead, s.membership)
    else:
        return
    s.fx.proposed = None  # nobody waits for this one


def on_snapshot_installed(s: RaftState, event: SnapshotInstalled) -> None:
    """Go on from a snapshot that this member's state machine now is (thesis 5.3; paper, figure 13).

    What the log has behind it is kept if the log has the snapshot's last entry: it may have
    been acknowledged. Else all of it goes, since none of it is known to be part of the
    group's history.
    """
    meta = event.meta
    if meta.index > s.applied:
        if s.log.term_of(meta.index) == meta.term:
            # the state machine's copy is durable, even where the log's is not yet
            s.persisted = max(s.persisted, meta.index)
        else:
            if s.lead is not None:
                raise ValueError(f"node {s.node_id} leads, it can't take a snapshot")
            if meta.term > s.term:
                become_follower(s, meta.term, NO_NODE)  # a log is never of a later term
            s.restart_log(meta)
        s.applied = meta.index
        s.commit_told = max(s.commit_told, meta.index)
        if s.fx.commit is not None and s.fx.commit <= meta.index:
            s.fx.commit = None  # what a log proves after a start: the snapshot covers it
        s.commit_to(meta.index)
        activate(s, meta.membership)
        maybe_campaign_for_transfer(s)
    if event.frm != NO_NODE:
        match = LogIndex(min(meta.index, s.commit_told))
        s.fx.send_after_persist.append(
            AppendResponse(s.node_id, event.frm, s.term, True, match, match, id=event.id)
        )
