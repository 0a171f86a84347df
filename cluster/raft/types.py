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


class HardState(NamedTuple):
    """What must be durable before it is acted on (thesis 3.8): term and vote.

    `vote` is NO_NODE when no vote was given in `term`.
    """

    term: Term
    vote: NodeId


INITIAL_HARD_STATE = HardState(NO_TERM, NO_NODE)


@dataclass(frozen=True)
class Membership:
    """Who takes part in a group, and who votes.

    Attributes:
        voters: sorted, unique. Empty only in a new member that has not learned yet whose group it
            is in: it takes entries and a snapshot, and never campaigns.
        outgoing: voters of the old configuration while a joint change is under way (thesis 4.3):
            every decision then needs a majority of both. Else empty.
        learners: receive entries, have no vote (thesis 4.2.1). A voter that is being made a learner
            is in `outgoing` too until the change is over.
    """

    voters: tuple[NodeId, ...]
    outgoing: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()

    @property
    def is_joint(self) -> bool:
        """Whether a joint change is under way."""
        return bool(self.outgoing)

    def may_vote(self, node_id: NodeId) -> bool:
        """Whether `node_id` counts in a vote."""
        return node_id in self.voters or node_id in self.outgoing

    def members(self) -> tuple[NodeId, ...]:
        """Return everybody, sorted and unique."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))


UNKNOWN_MEMBERSHIP = Membership(())


class EntryMeta(NamedTuple):
    """What the core remembers of an entry: its payload stays in the log.

    `membership` is what a MEMBERSHIP entry carries (`membership.decode_membership`); None for
    every other kind.
    """

    index: LogIndex  # type: ignore[assignment]
    term: Term
    size_bytes: int
    membership: Membership | None = None


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
        max_unapplied_bytes: a leader refuses proposals while this many committed bytes wait for its
            own state machine.
        lease_reads: whether a leader answers reads from its lease (thesis 6.4.1), without a round
            trip. All members of a group must have the same value: with it a member that starts
            keeps the promise that it may have given before, and votes for nobody during its first
            `election_ticks`.
        max_clock_drift_ticks: while `election_ticks` pass on one member, the tick counts of any two
            differ by no more than this. The lease is shorter by it; a larger drift makes
            lease reads stale. Of no meaning without `lease_reads`.
        quiesce_after_ticks: a group in which nothing happened for so long goes to sleep
            (`quiescence.py`); 0: never. The shell must then watch nodes and step PeerSilent.
        first_campaign_ticks: when > 0, the very first election time-out is this short: the
            original favours a group's header as its first leader. 0: no favour.
        max_campaign_backlog: a member that has more committed entries than these still to apply
            waits `election_ticks` longer before it campaigns. It could be elected, and would then
            serve nobody until it has applied them; so it lets others go first.
    """

    node_id: NodeId
    heartbeat_ticks: int = 2
    election_ticks: int = 15
    max_append_bytes: int = 4 << 20
    max_inflight_bytes: int = 16 << 20
    max_uncommitted_bytes: int = 64 << 20
    max_unapplied_bytes: int = 64 << 20
    lease_reads: bool = False
    max_clock_drift_ticks: int = 2
    quiesce_after_ticks: int = 0
    first_campaign_ticks: int = 0
    max_campaign_backlog: int = 1000

    @property
    def lease_ticks(self) -> int:
        """How long a confirmed round of heartbeats keeps a lease, from when it was sent.

        A follower's promise not to vote for another holds for `election_ticks`, of which the first
        may be short by up to one tick, as may the leader's reading of its clock; and clocks drift.
        """
        return self.election_ticks - 1 - self.max_clock_drift_ticks
