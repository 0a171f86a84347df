"""RaftCore: the consensus algorithm of one member of one group, as a pure state machine.

Events go in, effects come out; the caller owns threads, clock, network and disk:

1. hand `Effects.persist` to the log writer, in step order, and report each with `Persisted`;
2. send `Effects.send` and `Effects.appends` whenever; `Effects.send_after_persist` once all
   that was handed to the log writer so far, this step's included, is durable;
3. apply what is committed, in order, and report it with `Applied`;
4. stream what `Effects.snapshots` orders, and report `SnapshotSent` or `SnapshotFailed`; let
   `wants_snapshot` say whether to take one, and report `SnapshotInstalled` when it is durable;
5. tick by the monotonic clock, no later than `ticks_until_due` says, with `Tick.intervals` and
   `ReadRequest.late_ticks` for what is late: leases are measured by it; while `is_asleep`, ticks
   may be left out, but then the first Tick after it tells how many were, and `PeerSilent` must be
   stepped.

Messages may be lost, repeated, delayed and reordered. Sections of the Raft thesis (Ongaro, 2014)
are named where they are implemented: `candidate.py` 3.4, 3.6.1, 4.2.3, 9.6; `follower.py` 3.5;
`leader.py` 3.5, 3.6.2, 3.10, 6.2; `replication.py` 3.5, 5.1, 10.2.1; `reads.py` 6.4;
`membership.py` and `reconfigure.py` 4, 5.3.
`docs/consensus.md` tells the whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from cluster.raft import (
    candidate,
    follower,
    invariants,
    leader,
    quiescence,
    reads,
    reconfigure,
    replication,
)
from cluster.raft.effects import Effects
from cluster.raft.events import (
    Applied,
    ChangeMembership,
    Event,
    PeerSilent,
    Persisted,
    Propose,
    ReadRequest,
    Received,
    SnapshotFailed,
    SnapshotInstalled,
    SnapshotSent,
    Tick,
    TransferLeadership,
    Unreachable,
)
from cluster.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.state import RaftState
from cluster.raft.types import (
    NO_NODE,
    EntryMeta,
    HardState,
    LogIndex,
    Membership,
    NodeId,
    RaftConfig,
    Role,
    SnapshotMeta,
    Term,
)


class RaftCore:
    """One member of a Raft group. Not thread-safe: one caller at a time.

    Args:
        config: behaviour of this member.
        base: index and term just before the first entry kept in the log, (0, 0) for a whole log,
            and the membership in force there: for a whole log that of the group's founding, or
            UNKNOWN_MEMBERSHIP in a member that joins. Store it whenever the log is compacted
            (`snapshot_meta`) or started anew (`Persist.snapshot`).
        hard_state: term and vote as last made durable.
        entries: what the log has after `base`, consecutive, all durable.
        applied: the state machine is durable up to here.
        rng: source of the election jitter.

    Raises:
        ValueError: the arguments contradict one another, e.g. the state machine is ahead of
            the log.
    """

    def __init__(
        self,
        config: RaftConfig,
        base: SnapshotMeta,
        hard_state: HardState,
        entries: Iterable[EntryMeta],
        applied: LogIndex,
        rng: random.Random,
    ) -> None:
        self._state = RaftState(config, base, hard_state, entries, applied, rng)

    def step(self, event: Event) -> Effects:
        """Take one event and return everything that is to be done about it.

        The effects are the caller's to keep. Cost: O(entries in the event + members).

        Raises:
            ValueError: the event is malformed (for instance a message for another node); nothing
                was changed.
            AssertionError: an invariant is broken; the member must stop and not be stepped again.
        """
        s = self._state
        if s.asleep and type(event) is Tick:
            s.now += event.intervals
            return Effects()
        term, vote, commit = s.term, s.vote, s.commit
        told, asleep = s.commit_told, s.asleep
        s.begin_step()
        if asleep and quiescence.is_waking(s, event):
            quiescence.wake(s)
            if s.lead is not None:
                replication.broadcast_heartbeat(s, s.lead)
        try:
            _EVENT_HANDLERS[type(event)](s, event)
        except ValueError:
            # handlers check first; what was done before is not done, since its effects are lost
            s.commit_told, s.asleep = told, asleep
            raise
        effects = s.end_step()
        invariants.check(s, term, vote, commit)
        return effects

    # ---- snapshots and compaction ----

    def compact(self, up_to: LogIndex) -> None:
        """Forget the entries <= `up_to`, which must be applied; purely in memory.

        A follower that needs one of them is sent a snapshot.
        """
        s = self._state
        assert up_to <= s.applied, (up_to, s.applied)
        s.log.compact(up_to)
        s.memberships.compact(up_to)

    def compaction_point(self, keep_bytes: int, absent_bytes: int = 0) -> LogIndex:
        """Return up to where the log may be dropped as far as the group is concerned.

        That is what every member has; on a leader, what every member has that was heard from within
        an election time-out (one that is being sent a snapshot has what the snapshot covers).
        But no more than `keep_bytes` of applied entries are kept for anybody: a member that is too
        far behind gets a snapshot. For members that are away no more than `absent_bytes` of applied
        entries are. The caller lowers it to what its state machine has durably stored.
        """
        s = self._state
        index = s.compact_to
        if s.lead is not None:
            living = leader.needed_by_the_living(s, s.lead)
            if absent_bytes:
                living = min(living, s.log.tail_start(s.applied, absent_bytes))
            index = max(index, living)
        index = max(index, s.log.base_index)
        if index < s.applied and s.log.bytes_between(index, s.applied) > keep_bytes:
            index = s.log.tail_start(s.applied, keep_bytes)
        return LogIndex(min(index, s.applied))

    def snapshot_meta(self, index: LogIndex) -> SnapshotMeta:
        """Return what describes a snapshot of the state at `index`, or a log that starts behind it.

        Args:
            index: applied, and not compacted: in [first_index - 1, applied].
        """
        s = self._state
        term = s.log.term_of(index)
        assert term is not None, (index, s.log.base_index, s.log.last_index)
        assert index <= s.applied, (index, s.applied)
        return SnapshotMeta(index, term, s.memberships.at(index))

    def wants_snapshot(self, meta: SnapshotMeta) -> bool:
        """Whether this member should install a snapshot that it is offered.

        No when its log has as much already, or it leads. The answer may change with any step: ask
        again just before the state machine is replaced, and apply nothing from then until
        SnapshotInstalled.
        """
        return self._state.lead is None and meta.index > self._state.commit

    # ---- read-only views ----

    @property
    def node_id(self) -> NodeId:
        """This member."""
        return self._state.node_id

    @property
    def role(self) -> Role:
        """Present role."""
        return self._state.role

    @property
    def term(self) -> Term:
        """Present term."""
        return self._state.term

    @property
    def vote(self) -> NodeId:
        """Who got this member's vote in the present term, or NO_NODE."""
        return self._state.vote

    @property
    def leader(self) -> NodeId:
        """Leader of the present term as far as known, or NO_NODE."""
        return self._state.leader

    @property
    def commit(self) -> LogIndex:
        """Highest index known to be committed; may be ahead of what Effects.commit has said."""
        return self._state.commit

    @property
    def applied(self) -> LogIndex:
        """Highest index that the state machine has reported."""
        return self._state.applied

    @property
    def last_index(self) -> LogIndex:
        """Index of the last entry, durable or not."""
        return self._state.log.last_index

    @property
    def last_term(self) -> Term:
        """Term of the last entry, durable or not."""
        return self._state.log.last_term

    @property
    def first_index(self) -> LogIndex:
        """Index of the first entry that is kept, or would be if there were one."""
        return LogIndex(self._state.log.base_index + 1)

    @property
    def persisted_index(self) -> LogIndex:
        """Highest index known to be durable here."""
        return self._state.persisted

    @property
    def membership(self) -> Membership:
        """The membership in force."""
        return self._state.membership

    @property
    def is_alone(self) -> bool:
        """Whether nobody but this member is in the group, by the membership in force."""
        membership = self._state.membership
        return (
            membership.voters == (self._state.node_id,)
            and not membership.outgoing
            and not membership.learners
        )

    @property
    def change_is_pending(self) -> bool:
        """Whether a change of membership is under way: appended and not applied, or joint."""
        s = self._state
        return s.membership.is_joint or s.memberships.latest_index > s.applied

    @property
    def change_is_done(self) -> bool:
        """Whether no change is under way, and the last one is confirmed (`membership.py`).

        May be read at any time: what ends in the meantime is seen as pending, not as done.
        """
        return self._state.memberships.is_confirmed and not self.change_is_pending

    @property
    def is_asleep(self) -> bool:
        """Whether ticks have no effect now; Effects.asleep tells when that changes."""
        return self._state.asleep

    @property
    def ticks_until_due(self) -> int:
        """For so many ticks from now the next Tick may be put off: at least 1.

        A follower that hears its leader has nothing to do at most ticks. A Tick that makes up for
        those left out must come before the next message is stepped: time-outs begin anew with
        messages, and what passed before does not count towards them. Not more than a leap of the
        clock may add to what is counted, see `max_clock_drift_ticks`.
        """
        s = self._state
        if s.lead is not None:
            return max(1, s.config.heartbeat_ticks - s.lead.heartbeat_elapsed)
        return max(1, min(s.timeout - s.elapsed, s.config.max_clock_drift_ticks))

    @property
    def transfer_target(self) -> NodeId:
        """Who leadership is being handed to, or NO_NODE."""
        lead = self._state.lead
        return NO_NODE if lead is None else lead.transfer_to

    def hears_leader(self, late_ticks: int = 0) -> bool:
        """Whether a leader is known and was heard within an election time-out; a leader is.

        While the group sleeps its nodes watch one another instead (`quiescence.py`).

        Args:
            late_ticks: as in ReadRequest.
        """
        s = self._state
        if s.lead is not None or s.leader == NO_NODE:
            return s.lead is not None
        return s.asleep or s.elapsed + late_ticks < s.config.election_ticks

    def holds_lease(self, late_ticks: int = 0) -> bool:
        """Whether a read would be answered without a round trip; see ReadRequest."""
        s = self._state
        return s.lead is not None and reads.holds_lease(s, s.lead, late_ticks)

    def readable_index(self, late_ticks: int = 0) -> LogIndex | None:
        """Return what a read that begins now reads at, None where that takes a ReadRequest to know.

        Args:
            late_ticks: as in ReadRequest.
        """
        s = self._state
        if s.lead is None or not reads.reads_alone(s, s.lead, late_ticks):
            return None
        return s.commit

    def term_of(self, index: LogIndex) -> Term | None:
        """Return the term of the entry at `index`, or of the position before the first kept one.

        None when it is compacted away, or beyond the end.
        """
        return self._state.log.term_of(index)

    def status(self) -> dict[str, Any]:
        """Return a description for operators; plain values only."""
        s = self._state
        followers = {}
        if s.lead is not None:
            for progress in s.lead.followers:
                followers[int(progress.node_id)] = {
                    "match": int(progress.match),
                    "next": int(progress.next_index),
                    "state": progress.state.value,
                    "active": progress.quiet_ticks < s.config.election_ticks,
                }
        return {
            "node": int(s.node_id),
            "role": s.role.name,
            "term": int(s.term),
            "vote": int(s.vote),
            "leader": int(s.leader),
            "commit": int(s.commit),
            "applied": int(s.applied),
            "persisted": int(s.persisted),
            "first": int(s.log.base_index + 1),
            "last": int(s.log.last_index),
            "compact_to": int(s.compact_to),
            "voters": [int(v) for v in s.membership.voters],
            "outgoing": [int(v) for v in s.membership.outgoing],
            "learners": [int(v) for v in s.membership.learners],
            "transfer_to": int(self.transfer_target),
            "lease": self.holds_lease(),
            "asleep": s.asleep,
            "followers": followers,
        }


def _on_tick(s: RaftState, event: Tick) -> None:
    s.now += event.intervals
    for _ in range(event.counted):
        if s.lead is not None:
            leader.tick(s, s.lead)
        elif follower.tick(s) and event.may_campaign:
            candidate.campaign(s, pre=True)
            return


def _on_received(s: RaftState, event: Received) -> None:
    message = event.message
    if message.to != s.node_id:
        raise ValueError(f"node {s.node_id} got a message for node {message.to}")
    _MESSAGE_HANDLERS[type(message)](s, message)


_EVENT_HANDLERS: dict[type, Callable[[RaftState, Any], None]] = {
    Tick: _on_tick,
    Received: _on_received,
    Propose: leader.on_propose,
    Persisted: leader.on_persisted,
    Applied: reconfigure.on_applied,
    ChangeMembership: reconfigure.on_change_membership,
    SnapshotSent: leader.on_snapshot_sent,
    SnapshotFailed: leader.on_snapshot_failed,
    SnapshotInstalled: reconfigure.on_snapshot_installed,
    ReadRequest: reads.on_read_request,
    Unreachable: leader.on_unreachable,
    PeerSilent: quiescence.on_peer_silent,
    TransferLeadership: leader.on_transfer,
}

_MESSAGE_HANDLERS: dict[type, Callable[[RaftState, Any], None]] = {
    VoteRequest: candidate.on_vote_request,
    VoteResponse: candidate.on_vote_response,
    AppendRequest: follower.on_append,
    AppendResponse: leader.on_append_response,
    Heartbeat: follower.on_heartbeat,
    HeartbeatResponse: leader.on_heartbeat_response,
    TimeoutNow: candidate.on_timeout_now,
}
