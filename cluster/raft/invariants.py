"""What must hold after every step; cheap enough to stay on in production.

A broken invariant is not an error to handle: the member stops (fail-stop), says why, and its group
goes on with the others. The simulator has its own, independent checkers.
"""

from __future__ import annotations

from cluster.raft.state import RaftState
from cluster.raft.types import NO_NODE, LogIndex, NodeId, Role, Term


def check(s: RaftState, term: Term, vote: NodeId, commit: LogIndex) -> None:
    """Raise AssertionError, with the values, when the invariants of RaftState don't hold.

    `term`, `vote` and `commit` are what the step started from.
    """
    told = s.commit_told
    assert s.log.base_index <= s.applied <= told, describe(s)
    assert told <= s.commit <= s.log.last_index, describe(s)
    assert told <= s.persisted <= s.log.last_index, describe(s)
    assert s.commit >= commit, describe(s)
    if s.term == term:
        assert vote in (NO_NODE, s.vote), describe(s)
    else:
        assert s.term > term, describe(s)
        assert s.hard_changed, describe(s)
    if s.role is Role.LEADER:
        assert s.lead is not None, describe(s)
        assert s.leader == s.vote == s.node_id, describe(s)
    else:
        assert s.lead is None, describe(s)
        assert s.leader != s.node_id, describe(s)


def describe(s: RaftState) -> str:
    """Return the state in one line, for the message of a failed check."""
    return (
        f"node {s.node_id} {s.role.name} term={s.term} vote={s.vote} leader={s.leader} "
        f"base={s.log.base_index} applied={s.applied} told={s.commit_told} commit={s.commit} "
        f"persisted={s.persisted} last={s.log.last_index}/{s.log.last_term}"
    )
