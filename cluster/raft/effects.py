"""What a core wants done: the output of `RaftCore.step`.

The order of durability is in the types, not in the shell's good will: what may leave at once is
in `send` and `appends`; what must wait until everything in `persist` of this *and every earlier*
step is durable is in `send_after_persist`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from cluster.raft.messages import Message
from cluster.raft.types import (
    Entry,
    HardState,
    LogIndex,
    Membership,
    NodeId,
    Role,
    SnapshotMeta,
    Term,
)


class Persist(NamedTuple):
    """One write to the log: all of it becomes durable, or the torn tail is cut at recovery.

    Attributes:
        hard_state: new term and vote, or None when unchanged.
        truncate_from: drop every entry with index >= this first; 0: nothing to drop.
        entries: to append, consecutive.
        snapshot: drop the whole log and start it anew just behind this position; then
            `truncate_from` is 0 and `entries` is empty.
    """

    hard_state: HardState | None
    truncate_from: LogIndex
    entries: tuple[Entry, ...]
    snapshot: SnapshotMeta | None = None


class SendAppend(NamedTuple):
    """Send the entries [lo, hi) of the log to a follower; the shell takes the payload from the log.

    Consecutive ones to the same follower, of one term, where the second's `lo` is the first's
    `hi`, may be merged into one AppendRequest. `lo == hi` probes without payload.
    """

    to: NodeId
    term: Term
    prev_index: LogIndex
    prev_term: Term
    lo: LogIndex
    hi: LogIndex
    commit: LogIndex
    compact_to: LogIndex


class SendSnapshot(NamedTuple):
    """Stream a snapshot of this member's state machine to a follower.

    The entries that the follower needs are compacted. Until the shell reports SnapshotSent or
    SnapshotFailed (exactly one of them, unless leadership is lost or the follower is named in
    Effects.cancelled_snapshots), nothing else is sent to it but heartbeats.

    Attributes:
        min_index: the snapshot must cover this index. The log behind it should not be compacted
            before the follower has it (`RaftCore.compaction_point` sees to that).
    """

    to: NodeId
    term: Term
    min_index: LogIndex


class Proposed(NamedTuple):
    """A proposal was appended as entries [first_index, first_index + count) of `term`."""

    first_index: LogIndex
    count: int  # type: ignore[assignment]
    term: Term


class RejectReason(Enum):
    """Why a proposal or read was refused. The refusal is definite: nothing was appended."""

    NOT_LEADER = "not leader"
    STALE_TERM = "term has changed"
    TOO_MANY_UNCOMMITTED = "too many uncommitted bytes"
    TOO_MANY_UNAPPLIED = "too many committed bytes wait to be applied"
    TRANSFERRING = "leadership is being transferred"
    CHANGE_PENDING = "another change of the membership is under way"
    UNEXPECTED_MEMBERSHIP = "the membership is not the expected one"
    UNCHANGED = "the membership is so already"
    NOT_CAUGHT_UP = "a new voter's log is not complete enough yet"
    NO_VOTER = "the node has no vote in this group"


class Rejected(NamedTuple):
    """An event that asked for something was refused.

    `leader` is the leader if one is known, else NO_NODE.
    """

    reason: RejectReason
    leader: NodeId


class ReadReady(NamedTuple):
    """The read `id` may be served as soon as `index` is applied."""

    id: int
    index: LogIndex  # type: ignore[assignment]


class ReadRejected(NamedTuple):
    """The read `id` can't be served here: leadership was lost or never held."""

    id: int
    leader: NodeId


class RoleChanged(NamedTuple):
    """Role, term or known leader changed; carries the new values."""

    role: Role
    term: Term
    leader: NodeId


@dataclass(slots=True, init=False)
class Effects:
    """Everything one step wants done. Empty fields mean nothing to do.

    Attributes:
        persist: to hand to the log writer, in step order.
        send: messages that may leave now.
        send_after_persist: messages that wait for durability (votes, append acknowledgements).
        appends: replication to followers; may leave now.
        commit: the commit index has moved to this value, or None.
        compact_to: every member has durably stored the entries up to here, or None if unchanged.
        proposed, rejected: outcome of a Propose or ChangeMembership event; exactly one is set
            after such an event. A TransferLeadership may be rejected too.
        snapshots: snapshots to be streamed to followers.
        cancelled_snapshots: followers whose snapshot is not needed any more: the stream may stop,
            and no report is due.
        membership: the membership that took effect in this step, or None.
        reads, reads_rejected: outcomes of earlier or this ReadRequest.
        role_changed: the last change in this step, or None.
        asleep: the group has gone to sleep (True) or woken up (False) here; None: no change. A
            sleeper needs no ticks (`quiescence.py`).
    """

    persist: Persist | None
    send: list[Message]
    send_after_persist: list[Message]
    appends: list[SendAppend]
    commit: LogIndex | None
    compact_to: LogIndex | None
    proposed: Proposed | None
    rejected: Rejected | None
    snapshots: list[SendSnapshot]
    cancelled_snapshots: list[NodeId]
    membership: Membership | None
    reads: list[ReadReady]
    reads_rejected: list[ReadRejected]
    role_changed: RoleChanged | None
    asleep: bool | None

    def __init__(self) -> None:
        """Make one in which there is nothing to do; half the cost of a generated `__init__`."""
        self.send = []
        self.send_after_persist = []
        self.appends = []
        self.snapshots = []
        self.cancelled_snapshots = []
        self.reads = []
        self.reads_rejected = []
        self.persist = self.commit = self.compact_to = self.proposed = self.rejected = None
        self.membership = self.role_changed = self.asleep = None
