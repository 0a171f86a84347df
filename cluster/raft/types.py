"""Values of the consensus core: terms, indices, entries, roles, configuration.

Every type is immutable. Indices start at 1; index 0 with term 0 is the position before the first
entry. Ranges of indices are half-open, `[lo, hi)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, NewType

NodeId = NewType("NodeId", int)
GroupId = NewType("GroupId", int)
Term = NewType("Term", int)
LogIndex = NewType("LogIndex", int)

NO_NODE = NodeId(0)
NO_TERM = Term(0)
NO_INDEX = LogIndex(0)


class Role(IntEnum):
    """What a member is in its group; the names are those of the 0.13 `NodeCharacter`.

    A pre-candidate is an ELECTOR too: it has left its leader and asks for votes.
    """

    FOLLOWER = 0
    ELECTOR = 1
    LEADER = 2


class EntryKind(IntEnum):
    """What an entry carries. Numbers are on disk and on the wire: frozen."""

    NOOP = 0
    PLAN = 1
    MEMBERSHIP = 2


class Entry(NamedTuple):
    """One Raft log entry; `data` is opaque to the core."""

    index: LogIndex  # type: ignore[assignment]
    term: Term
    kind: EntryKind
    data: bytes


class EntryMeta(NamedTuple):
    """What the core remembers of an entry: its payload stays in the log."""

    index: LogIndex  # type: ignore[assignment]
    term: Term
    size_bytes: int


class HardState(NamedTuple):
    """What must be durable before it is acted on (thesis 3.8): term and vote.

    `vote` is NO_NODE when no vote was given in `term`.
    """

    term: Term
    vote: NodeId


INITIAL_HARD_STATE = HardState(NO_TERM, NO_NODE)


@dataclass(frozen=True)
class Membership:
    """Who votes in a group.

    Attributes:
        voters: sorted, unique, at least one.
        outgoing: voters of the old configuration while a joint change is under way; else empty.
        learners: receive entries, have no vote.
    """

    voters: tuple[NodeId, ...]
    outgoing: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()


class SnapshotMeta(NamedTuple):
    """The state up to and including `index`, and the configuration at that point."""

    index: LogIndex  # type: ignore[assignment]
    term: Term
    membership: Membership


@dataclass(frozen=True)
class RaftConfig:
    """How one member behaves; times are in ticks, whose length the shell decides.

    Attributes:
        node_id: this member.
        heartbeat_ticks: a leader's heartbeats are that far apart; at least 1.
        election_ticks: a follower that heard nothing for a random time in
            [election_ticks, 2 * election_ticks) campaigns; > 2 * heartbeat_ticks. Also the
            check-quorum period of a leader.
        max_append_bytes: payload bytes in one SendAppend (one larger entry still goes alone).
        max_inflight_bytes: payload bytes sent to one follower and not yet acknowledged.
        max_uncommitted_bytes: a leader refuses proposals above this many uncommitted bytes.
        first_campaign_ticks: when > 0, the very first election time-out is this short: the
            original favours a group's header as its first leader. 0: no favour.
    """

    node_id: NodeId
    heartbeat_ticks: int = 2
    election_ticks: int = 15
    max_append_bytes: int = 4 << 20
    max_inflight_bytes: int = 16 << 20
    max_uncommitted_bytes: int = 64 << 20
    first_campaign_ticks: int = 0
