"""Messages between the cores of one group.

Requests carry an `id` that the sender's shell chose (0: none); the answer echoes it, so that a
request/response transport can pair them. The core never interprets it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from cluster.raft.types import Entry, LogIndex, NodeId, Term


class VoteRequest(NamedTuple):
    """RequestVote (thesis 3.4), or its pre-vote form (thesis 9.6) when `pre` is set.

    A pre-vote carries the term that the candidate *would* take. Requests and answers tell what
    their sender knows to be committed, and its term: see `candidate.learn_commit`.
    """

    frm: NodeId
    to: NodeId
    term: Term
    last_index: LogIndex
    last_term: Term
    pre: bool = False
    transfer: bool = False
    id: int = 0
    commit: LogIndex = LogIndex(0)
    commit_term: Term = Term(0)


class VoteResponse(NamedTuple):
    """Answer to a VoteRequest; a granted pre-vote echoes the term asked for."""

    frm: NodeId
    to: NodeId
    term: Term
    granted: bool
    pre: bool = False
    id: int = 0
    commit: LogIndex = LogIndex(0)
    commit_term: Term = Term(0)


class AppendRequest(NamedTuple):
    """AppendEntries (thesis 3.5) as a follower's core receives it.

    Attributes:
        commit: the leader's commit index.
        compact_to: every member of the group has durably stored the entries up to here; a
            member may drop those that it has applied and stored otherwise.
    """

    frm: NodeId
    to: NodeId
    term: Term
    prev_index: LogIndex
    prev_term: Term
    entries: tuple[Entry, ...]
    commit: LogIndex
    compact_to: LogIndex = LogIndex(0)
    id: int = 0


class AppendResponse(NamedTuple):
    """Answer to an AppendRequest, sent once what it acknowledges is durable.

    Attributes:
        success: whether the previous entry matched.
        match_index: on success, the last index known to match the leader's log.
        prev_index: on failure, the `prev_index` that was refused.
        hint_index, hint_term: on failure, where the leader should try next (the follower's
            highest entry that may match; etcd's conflict hint).
    """

    frm: NodeId
    to: NodeId
    term: Term
    success: bool
    match_index: LogIndex
    prev_index: LogIndex = LogIndex(0)
    hint_index: LogIndex = LogIndex(0)
    hint_term: Term = Term(0)
    id: int = 0


class Heartbeat(NamedTuple):
    """A leader's sign of life; carries no entries.

    Attributes:
        commit: min(leader's commit, what the follower is known to have).
        read_context: number of this round of heartbeats in the term; an answer confirms the
            leadership for every read that came before it, and renews the lease from when it was
            sent. A request that replaces an older one in a queue keeps its own number.
        quiesce: nothing is left to do: stop the election timer (`quiescence.py`).
    """

    frm: NodeId
    to: NodeId
    term: Term
    commit: LogIndex
    read_context: int = 0
    compact_to: LogIndex = LogIndex(0)
    id: int = 0
    quiesce: bool = False


class HeartbeatResponse(NamedTuple):
    """Answer to a Heartbeat; echoes its `read_context`.

    `asleep` tells that the follower did stop its election timer.
    """

    frm: NodeId
    to: NodeId
    term: Term
    read_context: int = 0
    last_index: LogIndex = LogIndex(0)
    id: int = 0
    asleep: bool = False


class TimeoutNow(NamedTuple):
    """Leadership transfer (thesis 3.10): the receiver campaigns at once."""

    frm: NodeId
    to: NodeId
    term: Term
    id: int = 0


Message: TypeAlias = (
    VoteRequest
    | VoteResponse
    | AppendRequest
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | TimeoutNow
)
