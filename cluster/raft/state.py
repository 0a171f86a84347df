"""The state of one member and the moves that several roles share.

Whatever handles an event is a function over a `RaftState` (`follower.py`, `candidate.py`,
`leader.py` and what is beside them); what it wants done it adds to `RaftState.fx`, the effects of
the step under way.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cluster.raft.effects import Effects, Persist, RoleChanged
from cluster.raft.log_view import LogView
from cluster.raft.membership import MembershipHistory, check_membership, decode_membership
from cluster.raft.messages import Message
from cluster.raft.progress import Progress
from cluster.raft.read_index import ReadRounds
from cluster.raft.types import (
    NO_INDEX,
    NO_NODE,
    Entry,
    EntryKind,
    EntryMeta,
    HardState,
    LogIndex,
    NodeId,
    RaftConfig,
    Role,
    SnapshotMeta,
    Term,
)

_QUICK_PRE_VOTES = 2


class PendingWrite(NamedTuple):
    """A Persist with entries or a snapshot that is not yet reported durable.

    A snapshot drops what earlier writes have behind it: a truncation from there.
    """

    last_index: LogIndex
    last_term: Term
    truncate_from: LogIndex


class Leadership:
    """What only a leader has.

    Attributes:
        progress: every member of the group by id, in id order, the leader itself included.
        followers: the same without the leader.
        term_start: index of the no-op that opened this term. Only entries from here on are
            counted for commit (thesis 3.6.2), and only once it is committed are reads served.
        may_append: whether appends may leave. False only for a group whose leader elected itself
            alone, until its hard state is durable: see `candidate.campaign`.
        transfer_to: who leadership is being handed to, or NO_NODE.
        lease_void: a TimeoutNow of this term is out. Its receiver may campaign at any time, and
            voters then break the promise that the lease rests on (thesis 6.4.1): no lease any more.
        beat: number of the last round of heartbeats.
        rest_ticks: so long has there been nothing to do.
        is_used: somebody wanted something of this leader since it began to lead, or last woke up.
        invited_from: number of the first heartbeat that invites to sleep; 0: none does.
        beats: (number, clock when sent) of the rounds that may still renew the lease.
    """

    __slots__ = (
        "beat",
        "beats",
        "followers",
        "heartbeat_elapsed",
        "invited_from",
        "is_used",
        "lease_void",
        "may_append",
        "progress",
        "reads",
        "rest_ticks",
        "term_start",
        "transfer_elapsed",
        "transfer_to",
    )

    def __init__(
        self, own_id: NodeId, members: Sequence[NodeId], term_start: LogIndex, may_append: bool
    ) -> None:
        self.progress = {node_id: Progress(node_id, term_start) for node_id in members}
        if own_id not in self.progress:
            self.progress[own_id] = Progress(own_id, term_start)
        self.followers = [p for p in self.progress.values() if p.node_id != own_id]
        self.term_start = term_start
        self.may_append = may_append
        self.heartbeat_elapsed = 0
        self.transfer_to = NO_NODE
        self.transfer_elapsed = 0
        self.lease_void = False
        self.rest_ticks = 0
        self.is_used = False
        self.invited_from = 0
        self.beat = 0
        self.beats: deque[tuple[int, int]] = deque()
        self.reads = ReadRounds()

    def forget_lease(self) -> None:
        """Let the lease end now."""
        self.beats.clear()
        for progress in self.followers:
            progress.forget_confirmation()


class RaftState:
    """Everything a core remembers.

    1. log.base_index <= applied <= commit_told <= min(commit, persisted); commit <= log.last_index.
    2. `term`, `commit` and `commit_told` never decrease; `vote` changes only with `term`, or
       from NO_NODE.
    3. `lead` is set exactly when `role` is LEADER, and then `leader` and `vote` are this node.

    Attributes:
        commit: highest index known to be committed.
        commit_told: what Effects.commit has said: an entry is applied only when it is committed
            *and* durable here, so that the state machine never runs ahead of the local log.
        persisted: highest index of the log in memory that is known to be durable here.
        applied: what the state machine reported.
        memberships: those along the log, applied or not.
        membership: the one in force: that of the log up to `applied`.
        now: clock of this member in ticks, late ones included; a lease's age is measured by it.
        elapsed: ticks since the leader was heard, or since the campaign began.
        timeout: ticks at which `elapsed` leads to a campaign.
        promise_left: for so many ticks more no vote is given but on the leader's own wish: a leader
            was heard (thesis 4.2.3), and may hold a lease that rests on it (thesis 6.4.1). It
            stands whatever term shows up meanwhile.
        asleep: whether time-outs are suspended (`quiescence.py`).
        wants_transfer: a TimeoutNow of this term waits for a membership to be applied.
        compact_to: every member has the entries up to here; see Effects.compact_to.
        votes: answers in the present campaign; meaningful while ELECTOR.
        is_pre_vote: whether the present campaign is still the pre-vote (thesis 9.6).
        pre_votes: so many of them were begun in a row, without a vote or a leader.
    """

    __slots__ = (
        "_appended",
        "_pending",
        "_pending_rewrites",
        "_seen",
        "_truncate_from",
        "applied",
        "asleep",
        "commit",
        "commit_told",
        "compact_to",
        "config",
        "elapsed",
        "fx",
        "hard_changed",
        "is_pre_vote",
        "lead",
        "leader",
        "log",
        "members",
        "membership",
        "memberships",
        "node_id",
        "now",
        "persisted",
        "pre_votes",
        "promise_left",
        "rng",
        "role",
        "term",
        "timeout",
        "vote",
        "votes",
        "wants_transfer",
    )

    def __init__(
        self,
        config: RaftConfig,
        base: SnapshotMeta,
        hard_state: HardState,
        entries: Iterable[EntryMeta],
        applied: LogIndex,
        rng: random.Random,
    ) -> None:
        check_config(config)
        check_membership(base.membership)
        self.config = config
        self.node_id = config.node_id
        self.rng = rng
        self.log = LogView(base.index, base.term)
        self.memberships = MembershipHistory(base.index, base.membership)
        for meta in entries:
            if meta.index != self.log.last_index + 1 or meta.term < self.log.last_term:
                raise ValueError(f"entry {meta} can't follow {self.log.last_index}")
            self.log.append(meta.term, meta.size_bytes)
            if meta.membership is not None:
                self.memberships.append(meta.index, meta.membership)
        if not self.log.base_index <= applied <= self.log.last_index:
            raise ValueError(
                f"applied index {applied} lies outside the log, which has entries "
                f"({self.log.base_index}, {self.log.last_index}]"
            )
        self.term, self.vote = hard_state
        if self.term < self.log.last_term:
            raise ValueError(f"term {self.term} is older than the log's {self.log.last_term}")
        self.role = Role.FOLLOWER
        self.leader = NO_NODE
        self.lead: Leadership | None = None
        self.commit_told = self.applied = applied
        # an entry with a membership is appended only when the one before it is committed
        self.commit = max(applied, self.memberships.proven_index)
        self.membership = self.memberships.at(applied)
        self.members = self.membership.members()
        self.persisted = self.log.last_index
        self.compact_to = NO_INDEX
        self.votes: dict[NodeId, bool] = {}
        self.is_pre_vote = False
        self.pre_votes = 0
        self.now = 0
        self.elapsed = 0
        self.timeout = 0
        self.reset_election_timer()
        if config.first_campaign_ticks > 0:
            self.timeout = config.first_campaign_ticks
        # A member that was stopped may have promised its leader just before. One that has seen no
        # term yet has promised nothing, and one that decides alone can't deceive anybody.
        promised = config.lease_reads and self.term > 0 and not self.is_sole_voter
        self.promise_left = config.election_ticks if promised else 0
        self.asleep = False
        self.wants_transfer = False
        self.hard_changed = False
        self._truncate_from = NO_INDEX
        self._appended: list[Entry] = []
        self._pending: deque[PendingWrite] = deque()
        self._pending_rewrites = 0
        self._seen = (self.role, self.term, self.leader)
        self.fx = Effects()

    # ---- facts ----

    @property
    def is_voter(self) -> bool:
        """Whether this node's vote counts."""
        return self.membership.may_vote(self.node_id)

    @property
    def may_campaign(self) -> bool:
        """Whether this node may ask for votes: not under a membership that is known to be replaced.

        See `membership.py`, rule 3. What only says again who is a member replaces nothing.
        """
        return self.is_voter and self.memberships.at(self.commit) == self.membership

    @property
    def patience(self) -> int:
        """For so many ticks beyond its time-out this member leaves the campaign to others.

        Not in the thesis. A member that was restarted applies for a while what it has in its log;
        nobody is served by electing it meanwhile, if another has applied everything.
        """
        backlog = self.commit_told - self.applied
        return self.config.election_ticks if backlog > self.config.max_campaign_backlog else 0

    @property
    def is_sole_voter(self) -> bool:
        """Whether this node alone is a quorum."""
        return self.membership.voters == (self.node_id,) and self.membership.outgoing in (
            (),
            (self.node_id,),
        )

    # ---- the step under way ----

    def begin_step(self) -> None:
        """Start collecting the effects of a step."""
        self.fx = Effects()
        self.hard_changed = False
        self._truncate_from = NO_INDEX
        self._appended = []
        self._seen = (self.role, self.term, self.leader)
        self.tell_commit()  # after a start, when the log proves a higher one than was applied

    def end_step(self) -> Effects:
        """Finish and return the effects of the step."""
        fx = self.fx
        if fx.persist is not None:
            assert not self._appended
            if self.hard_changed:
                fx.persist = fx.persist._replace(hard_state=HardState(self.term, self.vote))
        elif self._appended or self.hard_changed:
            fx.persist = Persist(
                HardState(self.term, self.vote) if self.hard_changed else None,
                self._truncate_from,
                tuple(self._appended),
            )
            if self._appended:
                last = self._appended[-1]
                self._pending.append(PendingWrite(last.index, last.term, self._truncate_from))
                if self._truncate_from:
                    self._pending_rewrites += 1
        now = (self.role, self.term, self.leader)
        if now != self._seen:
            fx.role_changed = RoleChanged(*now)
        return fx

    def answer(self, message: Message) -> None:
        """Send an answer that promises nothing but the term it carries.

        Raft wants the term durable before any answer (thesis 3.8). That costs nothing in the
        step that adopts the term, so it is done there. A later answer may still overtake that
        write, which is harmless: only votes and acknowledged entries are ever counted towards
        something that must survive a crash, and those always wait.
        """
        if self.hard_changed:
            self.fx.send_after_persist.append(message)
        else:
            self.fx.send.append(message)

    # ---- shared moves ----

    def set_hard_state(self, term: Term, vote: NodeId) -> None:
        """Take a term and vote, to be made durable with this step."""
        assert term > self.term or (term == self.term and self.vote in (NO_NODE, vote)), (
            f"hard state can't go from {(self.term, self.vote)} to {(term, vote)}"
        )
        self.term = term
        self.vote = vote
        self.hard_changed = True

    def reset_election_timer(self) -> None:
        """Start waiting anew for a random time in [election_ticks, 2 * election_ticks).

        The first pre-votes that came to nothing are repeated sooner, after a quarter and half of
        that: who refused may have heard the leader a little later, or an answer was slow; and they
        touch nobody's term. A sole voter has nobody to wait for or to collide with.
        """
        self.elapsed = 0
        ticks = self.config.election_ticks
        if 0 < self.pre_votes <= _QUICK_PRE_VOTES:
            ticks = max(1, ticks >> _QUICK_PRE_VOTES + 1 - self.pre_votes)
        self.timeout = 1 if self.is_sole_voter else ticks + self.rng.randrange(ticks)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries behind the last one, to be made durable with this step."""
        append = self.log.append
        for entry in entries:
            append(entry.term, len(entry.data))
            if entry.kind == EntryKind.MEMBERSHIP:
                self.memberships.append(entry.index, decode_membership(entry.data))
        self._appended.extend(entries)

    def truncate_from(self, index: LogIndex) -> None:
        """Drop entries >= `index`, in this step's write.

        A committed entry can't go: the group would have lost it. That is a broken invariant, so
        the member stops here rather than apply two different histories.
        """
        assert index > self.commit, (
            f"node {self.node_id}, term {self.term}: entry {index} is to be truncated, but "
            f"everything up to {self.commit} is committed"
        )
        assert not self._appended
        self.log.truncate_from(index)
        self.memberships.truncate_from(index)
        self._truncate_from = index
        if self.persisted >= index:
            self.persisted = LogIndex(index - 1)

    def restart_log(self, meta: SnapshotMeta) -> None:
        """Drop the whole log and start it anew behind a snapshot, in this step's write."""
        assert not self._appended
        assert self.commit < meta.index, (
            f"node {self.node_id}: everything up to {self.commit} is committed, but the snapshot "
            f"at {meta.index} of term {meta.term} is not part of it"
        )
        self.log = LogView(meta.index, meta.term)
        self.memberships.restart(meta.index, meta.membership)
        self.persisted = meta.index
        self.fx.persist = Persist(None, NO_INDEX, (), meta)
        self._pending.append(PendingWrite(meta.index, meta.term, LogIndex(meta.index + 1)))
        self._pending_rewrites += 1

    def commit_to(self, index: LogIndex) -> None:
        """Raise the commit index; a lower one is old news."""
        if index > self.commit:
            assert index <= self.log.last_index, (index, self.log.last_index)
            self.commit = index
            self.tell_commit()

    def tell_commit(self) -> None:
        """Report what is now committed and durable here."""
        index = min(self.commit, self.persisted)
        if index > self.commit_told:
            self.commit_told = index
            self.fx.commit = index

    def note_compact_to(self, index: LogIndex) -> None:
        """Learn that every member has the entries up to `index`."""
        if index > self.compact_to:
            self.compact_to = index
            self.fx.compact_to = index

    def note_persisted(self, index: LogIndex, term: Term) -> bool:
        """Take a report of durability; returns whether `persisted` moved.

        Writes become durable in order, and each is reported by its last entry. The term tells a
        report about a truncated entry from one about its successor, with one exception: an entry
        may be written, replaced, and written again by a later leader. The queue of writes under
        way tells which of them is meant: the oldest that fits. What a younger, unfinished
        write replaces is not durable in its present form, whatever the report says.
        """
        pending = self._pending
        for position, write in enumerate(pending):
            if write.last_index == index and write.last_term == term:
                for _ in range(position + 1):
                    if pending.popleft().truncate_from:
                        self._pending_rewrites -= 1
                break
        if self.log.term_of(index) != term:
            return False
        if self._pending_rewrites:
            rewritten = min(w.truncate_from for w in pending if w.truncate_from)
            index = min(index, LogIndex(rewritten - 1))
        if index <= self.persisted:
            return False
        self.persisted = index
        self.tell_commit()
        return True


def check_config(config: RaftConfig) -> None:
    """Raise ValueError when settings contradict one another."""
    if config.node_id == NO_NODE:
        raise ValueError("node_id 0 means 'no node'")
    if config.heartbeat_ticks < 1 or config.election_ticks <= 2 * config.heartbeat_ticks:
        raise ValueError(
            f"election_ticks={config.election_ticks} must be > 2 * heartbeat_ticks="
            f"{config.heartbeat_ticks}, which must be >= 1"
        )
    for name in (
        "max_append_bytes",
        "max_inflight_bytes",
        "max_uncommitted_bytes",
        "max_unapplied_bytes",
    ):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be >= 1")
    if config.max_clock_drift_ticks < 0:
        raise ValueError("max_clock_drift_ticks must be >= 0")
    if config.lease_reads and config.lease_ticks <= config.heartbeat_ticks:
        raise ValueError(
            f"a lease of {config.lease_ticks} ticks (election_ticks={config.election_ticks} - 1 - "
            f"max_clock_drift_ticks={config.max_clock_drift_ticks}) would run out between two "
            f"heartbeats, {config.heartbeat_ticks} ticks apart"
        )
