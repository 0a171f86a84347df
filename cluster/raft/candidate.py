"""Elections: pre-vote, vote, and who gets ours (thesis 3.4, 3.6.1, 4.2.3, 9.6)."""

from __future__ import annotations

from cluster.raft import leader
from cluster.raft.follower import become_follower
from cluster.raft.messages import TimeoutNow, VoteRequest, VoteResponse
from cluster.raft.quorum import VoteResult, vote_result
from cluster.raft.state import RaftState
from cluster.raft.types import NO_NODE, LogIndex, NodeId, Role, Term


def campaign(s: RaftState, *, pre: bool, transfer: bool = False) -> None:
    """Ask for (pre-)votes.

    A pre-vote asks "would you vote for me" without touching anybody's term, so that a member that
    was cut off can't depose a working leader when it returns (thesis 9.6).

    In the real vote our own vote is counted at once, although it is not durable yet. That is
    safe, since nothing that depends on it can happen before it is durable:

    - with other voters, a majority needs a response of another one, which answers a request that
      left only after our term and vote were durable (`send_after_persist`);
    - a sole voter leads at once. Its no-op is in the same write as its vote, and commits when
      that write is durable. Until then it sends learners no entries (`Leadership.may_append`):
      after a crash that forgets the term it could lead the same term again, and two different
      entries of one index and term would exist.
    """
    assert s.is_voter
    assert s.lead is None
    s.role = Role.ELECTOR
    s.is_pre_vote = pre
    s.leader = NO_NODE
    s.votes = {s.node_id: True}
    s.pre_votes = s.pre_votes + 1 if pre else 0
    s.reset_election_timer()
    if pre:
        term = Term(s.term + 1)
    else:
        s.set_hard_state(Term(s.term + 1), s.node_id)
        term = s.term
    if vote_result(s.votes, s.membership) is VoteResult.WON:
        _on_won(s)
        return
    out = s.fx.send if pre else s.fx.send_after_persist
    commit_term = _commit_term(s)
    for peer in s.members:
        if peer != s.node_id and s.membership.may_vote(peer):
            out.append(
                VoteRequest(
                    s.node_id,
                    peer,
                    term,
                    s.log.last_index,
                    s.log.last_term,
                    pre,
                    transfer,
                    commit=s.commit,
                    commit_term=commit_term,
                )
            )


def learn_commit(s: RaftState, commit: LogIndex, commit_term: Term) -> None:
    """Take note of what another member knows to be committed, if the log has just that.

    A campaign may depend on it (not in the thesis, whose memberships take effect on append; found
    by TiKV's authors, and here by the simulator). A leader that the newest membership leaves
    without a vote may have an entry behind it that nobody else has: it can't vote for those with
    shorter logs, and they can't do without its vote until they know that it has none.
    """
    if s.role is not Role.LEADER and commit > s.commit and s.log.term_of(commit) == commit_term:
        s.commit_to(commit)
        if s.role is Role.ELECTOR and not s.may_campaign:
            become_follower(s, s.term, NO_NODE)


def _commit_term(s: RaftState) -> Term:
    term = s.log.term_of(s.commit)
    assert term is not None
    return term


def _answer(s: RaftState, m: VoteRequest, term: Term, *, granted: bool) -> VoteResponse:
    return VoteResponse(
        s.node_id,
        m.frm,
        term,
        granted,
        m.pre,
        m.id,
        commit=s.commit,
        commit_term=_commit_term(s),
    )


def on_vote_request(s: RaftState, m: VoteRequest) -> None:
    """Answer a (pre-)vote request.

    While a leader is heard, requests are refused without a look at their term: a member that
    doesn't hear it must not disturb those who do (thesis 4.2.3), and the leader may be reading on
    the strength of it (thesis 6.4.1). A transfer of leadership is the exception, since
    the leader itself asked for it. A leader refuses too: check-quorum would have made it step down
    if nobody followed it.

    A learner answers like anybody else: it may have been given a vote without knowing yet.
    """
    if m.term > s.term and not m.transfer and (s.role is Role.LEADER or s.promise_left):
        s.answer(_answer(s, m, s.term, granted=False))
        return
    learn_commit(s, m.commit, m.commit_term)
    if m.pre:
        granted = m.term > s.term and s.log.is_up_to_date(m.last_index, m.last_term)
        if granted and s.role is Role.ELECTOR and s.is_pre_vote:
            granted = _gives_way(s, m)
        # a granted pre-vote echoes the term asked for; it is no promise, so it needn't wait
        term = m.term if granted else s.term
        s.answer(_answer(s, m, term, granted=granted))
        return
    if m.term > s.term:
        become_follower(s, m.term, NO_NODE)
    granted = (
        m.term == s.term
        and (s.vote == m.frm or (s.vote == NO_NODE and s.leader == NO_NODE))
        and s.log.is_up_to_date(m.last_index, m.last_term)
    )
    if granted:
        if s.vote != m.frm:
            s.set_hard_state(s.term, m.frm)
        s.elapsed = 0  # we have just helped somebody: give it time
    s.fx.send_after_persist.append(_answer(s, m, s.term, granted=granted))


def _gives_way(s: RaftState, m: VoteRequest) -> bool:
    """Settle which of two that ask for pre-votes at once goes first: fuller log, then lower id.

    Not in the thesis. If each granted the other's, both would vote for themselves, and where a
    third voter is away neither could win, or lose, before the next time-out. Who goes first
    insists on it only once: it may be that nobody hears what it asks for.
    """
    is_equal = (m.last_term, m.last_index) == (s.log.last_term, s.log.last_index)
    if is_equal and s.node_id < m.frm:
        return s.pre_votes > 1
    become_follower(s, s.term, NO_NODE)
    return True


def on_vote_response(s: RaftState, m: VoteResponse) -> None:
    """Count an answer of the present campaign."""
    learn_commit(s, m.commit, m.commit_term)
    if m.term > s.term and not (m.pre and m.granted):
        become_follower(s, m.term, NO_NODE)
        return
    if s.role is not Role.ELECTOR or m.pre != s.is_pre_vote:
        return
    if m.granted and m.term != (s.term + 1 if m.pre else s.term):
        return  # of an earlier campaign
    if m.term < s.term and not m.pre:
        return  # a refusal of an earlier campaign, or by a voter that still hears its leader
    # the first answer counts: a voter doesn't change its mind within a term, and a late
    # duplicate of a refused pre-vote must not undo a granted one
    s.votes.setdefault(m.frm, m.granted)
    result = vote_result(s.votes, s.membership)
    if result is VoteResult.WON:
        _on_won(s)
    elif result is VoteResult.LOST:
        become_follower(s, s.term, NO_NODE)


def on_timeout_now(s: RaftState, m: TimeoutNow) -> None:
    """Campaign at once on the leader's behalf, without pre-vote (thesis 3.10)."""
    if m.term < s.term:
        return
    if m.term > s.term:
        become_follower(s, m.term, m.frm)
    s.wants_transfer = True
    maybe_campaign_for_transfer(s)


def maybe_campaign_for_transfer(s: RaftState) -> None:
    """Campaign if a TimeoutNow of this term asks for it and the membership in force allows it."""
    if s.wants_transfer and s.role is not Role.LEADER and s.may_campaign:
        s.wants_transfer = False
        campaign(s, pre=False, transfer=True)


def _on_won(s: RaftState) -> None:
    if s.is_pre_vote:
        campaign(s, pre=False)
        return
    others: list[NodeId] = [v for v, granted in s.votes.items() if granted and v != s.node_id]
    leader.become_leader(s, may_append=bool(others))
