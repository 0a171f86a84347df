"""What can happen to a core: the inputs of `RaftCore.step`."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from cluster.raft.messages import Message
from cluster.raft.types import EntryKind, LogIndex, NodeId, Term


class Tick(NamedTuple):
    """One unit of time has passed."""


class Received(NamedTuple):
    """A message of another member of this group has arrived."""

    message: Message


class Propose(NamedTuple):
    """A client of the leader wants `payloads` appended as consecutive entries, all or none.

    Attributes:
        expected_term: refuse unless this is the current term; 0: any.
    """

    payloads: tuple[bytes, ...]
    kind: EntryKind = EntryKind.PLAN
    expected_term: Term = Term(0)


class Persisted(NamedTuple):
    """The log writer made durable everything up to the entry (index, term).

    A late report for an entry that was truncated meanwhile must be harmless: the core checks
    the term.
    """

    index: LogIndex  # type: ignore[assignment]
    term: Term


class Applied(NamedTuple):
    """The state machine has applied every entry up to `index`."""

    index: LogIndex  # type: ignore[assignment]


class ReadRequest(NamedTuple):
    """A linearizable read wants to know from which applied index it may be served (thesis 6.4).

    `id` names it in ReadReady or ReadRejected; unique per core.
    """

    id: int


class Unreachable(NamedTuple):
    """A message to `peer` could not be delivered: fall back to probing it."""

    peer: NodeId


class TransferLeadership(NamedTuple):
    """Hand leadership to `target` once its log is complete (thesis 3.10)."""

    target: NodeId


Event: TypeAlias = (
    Tick | Received | Propose | Persisted | Applied | ReadRequest | Unreachable | TransferLeadership
)
