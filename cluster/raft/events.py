"""What can happen to a core: the inputs of `RaftCore.step`."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from cluster.raft.messages import Message
from cluster.raft.types import (
    NO_NODE,
    EntryKind,
    LogIndex,
    Membership,
    NodeId,
    SnapshotMeta,
    Term,
)


class Tick(NamedTuple):
    """Time has passed: `intervals` ticks, by the monotonic clock, since the last Tick.

    More than one when nothing was due in between (`RaftCore.ticks_until_due`), when the shell was
    late, or when the process was stopped. For the age of a lease all of them count.

    Attributes:
        counted: how many of them count for time-outs: not those for which the shell was late (what
            was stopped did not hear its peers either, and must not campaign for that).
        may_campaign: whether a time-out that is over leads to a campaign, or is left to a later
            Tick: a member whose vote would not become durable now had better leave it to others.
    """

    intervals: int = 1
    counted: int = 1
    may_campaign: bool = True


class Received(NamedTuple):
    """A message of another member of this group has arrived."""

    message: Message


class Propose(NamedTuple):
    """A client of the leader wants `payloads` appended as consecutive entries, all or none.

    Attributes:
        kind: NOOP or PLAN.
        expected_term: refuse unless this is the current term; 0: any.
    """

    payloads: tuple[bytes, ...]
    kind: EntryKind = EntryKind.PLAN
    expected_term: Term = Term(0)


class Persisted(NamedTuple):
    """The log writer made durable everything up to the entry (index, term).

    For a Persist with entries that is its last entry; for one with a snapshot, the snapshot's
    position; one with only a hard state is not reported.

    A late report for an entry that was truncated meanwhile must be harmless: the core checks
    the term.
    """

    index: LogIndex  # type: ignore[assignment]
    term: Term


class Applied(NamedTuple):
    """The state machine has applied every entry up to `index`.

    Memberships among them take effect now, not when they were appended (etcd's rule).
    """

    index: LogIndex  # type: ignore[assignment]


class ReadRequest(NamedTuple):
    """A linearizable read wants to know from which applied index it may be served (thesis 6.4).

    Attributes:
        id: names it in ReadReady or ReadRejected; unique per core.
        late_ticks: whole ticks that are due by the monotonic clock, as read *after* the request
            came in, and that no Tick has reported yet. It keeps a process that was stopped from
            answering out of a lease that has run out meanwhile.
    """

    id: int
    late_ticks: int = 0


class Unreachable(NamedTuple):
    """A message to `peer` could not be delivered: fall back to probing it."""

    peer: NodeId


class PeerSilent(NamedTuple):
    """Nothing at all was heard from the node `peer` for `ticks`, or it is back.

    For groups that sleep (`quiescence.py`): heartbeats between nodes stand in for those of
    the group. To be stepped into every sleeping member again and again while the silence lasts;
    `ticks` is how long it has lasted, by the monotonic clock, and at least `election_ticks` for a
    process that was started anew.

    Attributes:
        is_back: the silence is over: the process is a new one, or one that was stopped or cut off.
            Who slept without the node has to look what it lacks.
    """

    peer: NodeId
    ticks: int
    is_back: bool = False


class TransferLeadership(NamedTuple):
    """Hand leadership to `target` once its log is complete (thesis 3.10).

    Refused with Effects.rejected when this is not the leader or the target has no vote. Given up
    after an election time-out; until it ends, proposals are refused.
    """

    target: NodeId


class ChangeMembership(NamedTuple):
    """Make the group's members these (thesis 4; etcd's ConfChangeV2).

    The outcome is Effects.proposed (one entry) or Effects.rejected. When more than one vote
    changes, the entry begins a joint change, and the leader of the day ends it by itself with
    a second entry. It is done when Effects.membership shows the target, on any member.

    Attributes:
        voters, learners: the target; any order, no node twice, at least one voter.
        expected: refuse unless the present membership is this one; None: whatever it is.
        expected_term: as in Propose.
        even_if_behind: also give a vote to one that has not caught up yet. The group may then
            be unable to commit until it has.
    """

    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...] = ()
    expected: Membership | None = None
    expected_term: Term = Term(0)
    even_if_behind: bool = False


class SnapshotSent(NamedTuple):
    """The follower `to` has durably installed a snapshot at `index`, or said that it needs none.

    Ends what an Effects.snapshots order of `term` began. To be given even if the follower's own
    AppendResponse was stepped too.
    """

    to: NodeId
    term: Term
    index: LogIndex  # type: ignore[assignment]


class SnapshotFailed(NamedTuple):
    """The snapshot ordered for `to` in `term` was not made, not delivered, or not installed.

    The follower is asked again after its next sign of life, and then ordered a new one if it still
    needs it.
    """

    to: NodeId
    term: Term


class SnapshotInstalled(NamedTuple):
    """This member's state machine *is now* the snapshot `meta`, durably.

    Contract: `RaftCore.wants_snapshot(meta)` was true when the shell began to install, and the
    shell applied nothing since. Entries may have come in and been committed meanwhile. Where the
    log doesn't continue the snapshot, Effects.persist tells to start it anew behind `meta`.
    At a restart between the state machine's install and the log's new start, the shell gives
    the core a log that starts at the state machine's `meta`.

    Attributes:
        frm, id: who sent the snapshot and gets an AppendResponse with that id when the log is
            durable too; NO_NODE: nobody.
    """

    meta: SnapshotMeta
    frm: NodeId = NO_NODE
    id: int = 0


Event: TypeAlias = (
    Tick
    | Received
    | Propose
    | Persisted
    | Applied
    | ReadRequest
    | Unreachable
    | PeerSilent
    | TransferLeadership
    | ChangeMembership
    | SnapshotSent
    | SnapshotFailed
    | SnapshotInstalled
)
