"""Cores and disks with one rule broken: the simulator must notice each.

A checker that has never caught anything proves nothing. Every mutation here is a mistake that a
change to the core could plausibly make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from cluster.member.request_table import RequestTable
from cluster.raft import (
    candidate,
    core,
    follower,
    leader,
    quiescence,
    reads,
    reconfigure,
    replication,
)
from cluster.raft.core import RaftCore
from cluster.raft.effects import Effects
from cluster.raft.events import Event, PeerSilent, SnapshotFailed
from cluster.raft.log_view import LogView
from cluster.raft.membership import MembershipHistory
from cluster.raft.messages import AppendRequest, AppendResponse, HeartbeatResponse, VoteResponse
from cluster.raft.progress import Progress
from cluster.raft.quorum import VoteResult, committed_index, joint_committed_index, vote_result
from cluster.raft.state import Leadership, RaftState
from cluster.raft.types import (
    NO_NODE,
    Entry,
    HardState,
    LogIndex,
    Membership,
    NodeId,
    RaftConfig,
    Role,
    Term,
)
from harness.sim import engine_states, states, transfer
from harness.sim.cluster import SimCluster
from harness.sim.disk import SimDisk
from harness.sim.machine import Machine
from harness.sim.plan import Plan, random_plan
from harness.sim.script import run_script
from iotdb_engine.errors import EngineError
from iotdb_engine.store import MemoryStore


class _VotesEarly(RaftCore):
    """Sends votes before they are durable."""

    def step(self, event: Event) -> Effects:
        return _send_early(super().step(event), VoteResponse)


class _AcksEarly(RaftCore):
    """Acknowledges entries before they are durable."""

    def step(self, event: Event) -> Effects:
        return _send_early(super().step(event), AppendResponse)


def _send_early(effects: Effects, kind: type) -> Effects:
    effects.send += [m for m in effects.send_after_persist if isinstance(m, kind)]
    effects.send_after_persist = [m for m in effects.send_after_persist if not isinstance(m, kind)]
    return effects


class _CountsOwnEarly(RaftCore):
    """A leader counts its own copy of an entry before it is durable."""

    def step(self, event: Event) -> Effects:
        lead = self._state.lead
        if lead is not None:
            lead.progress[self.node_id].match = self.last_index
        return super().step(event)


class _ForgetsVote(SimDisk):
    """Loses the vote at a crash, and keeps the term."""

    def recover(self) -> HardState:
        return HardState(super().recover().term, NO_NODE)


class _ForgetsTerm(SimDisk):
    """Loses term and vote at a crash, except for what the log proves."""

    def recover(self) -> HardState:
        super().recover()
        last = self.entries[-1].term if self.entries else self.base.term
        return HardState(Term(last), NO_NODE)


class _TrustsItsLog(SimDisk):
    """Doesn't look at checksums when it starts."""

    def recover(self) -> HardState:
        self.is_corrupt = False
        return super().recover()


def _only_beyond_the_end(s: RaftState, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Ignore conflicts: keep what is there, add what is longer."""
    return tuple(e for e in entries if e.index > s.log.last_index and e.term >= s.log.last_term)


def _always_truncate(s: RaftState, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Rewrite everything behind prev, also what matches already and is not committed."""
    return tuple(e for e in entries if e.index > s.commit)


def _always_matches(s: RaftState, m: AppendRequest) -> bool:
    """Skip the check of the previous entry, except that there is one."""
    return m.prev_index <= s.log.last_index


def _commit_all(s: RaftState, index: LogIndex, original: Callable[..., None]) -> None:
    original(s, max(index, s.log.last_index) if s.role is Role.FOLLOWER else index)


def _counts_old_terms(s: RaftState, lead: Leadership) -> bool:
    """Commit entries of earlier terms by counting copies (figure 8)."""
    acked = {node_id: progress.match for node_id, progress in lead.progress.items()}
    index = joint_committed_index(acked, s.membership)
    if index <= s.commit:
        return False
    s.commit_to(index)
    reads.maybe_open_read_round(s, lead)
    return True


def _tell_at_once(s: RaftState) -> None:
    """Say that an entry may be applied although it is not durable here."""
    if s.commit > s.commit_told:
        s.commit_told = s.fx.commit = s.commit
        s.persisted = max(s.persisted, s.commit)


def _believe_any_report(s: RaftState, index: LogIndex, term: Term) -> bool:
    """Take a report of durability without asking whether the entry was replaced meanwhile."""
    if not s.persisted < index <= s.log.last_index:
        return False
    s.persisted = index
    s.tell_commit()
    return True


def _open_read_round_at_once(s: RaftState, lead: Leadership) -> None:
    """Don't wait for an entry of the own term."""
    reads = lead.reads
    if not reads.is_round_open and reads.has_waiting:
        reads.open_round(s.node_id, s.commit, lead.beat + 1)
        replication.broadcast_heartbeat(s, lead)


def _only_confirm_reads(s: RaftState, m: HeartbeatResponse) -> None:
    """Let a heartbeat's answer confirm reads, but resume no replication."""
    lead = s.lead
    if lead is None or m.term != s.term:
        return
    lead.progress[m.frm].quiet_ticks = 0
    if lead.reads.ack(m.frm, m.read_context):
        reads.maybe_close_read_round(s, lead)


# ---- snapshots ----


class _SnapshotLacksRequests(Machine):
    """Forgets the dedupe table when it is sent."""

    __slots__ = ()

    @staticmethod
    def from_bytes(data: bytes) -> Machine:
        machine = Machine.from_bytes(data)
        machine.latest.clear()
        return machine


# ---- memberships ----


def _only_new_votes(votes: dict[NodeId, bool], membership: Membership) -> VoteResult:
    return vote_result(votes, Membership(membership.voters))


def _only_new_copies(acked: dict[NodeId, LogIndex], membership: Membership) -> LogIndex:
    return committed_index(acked, membership.voters)


def _all_copies(acked: dict[NodeId, LogIndex], membership: Membership) -> LogIndex:
    """Learners count like voters."""
    return committed_index(acked, membership.members())


_activate = reconfigure.activate


def _not_from_snapshots(s: RaftState, membership: Membership) -> None:
    if s.fx.persist is None or s.fx.persist.snapshot is None:
        _activate(s, membership)


# ---- leases ----


def _confirmed_when_answered(lead: Leadership, progress: Progress, number: int) -> None:
    """Count a lease from the newest heartbeat, not from the one that was answered."""
    if lead.beats:
        progress.confirmed_clock = lead.beats[-1][1]


_holds_lease = reads.holds_lease


def _lease_through_transfers(s: RaftState, lead: Leadership, late_ticks: int) -> bool:
    lead.lease_void = False
    target, lead.transfer_to = lead.transfer_to, NO_NODE
    holds = _holds_lease(s, lead, late_ticks)
    lead.transfer_to = target
    return holds


class _PromisesNothingAtStart(RaftCore):
    """Votes at once after a restart."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._state.promise_left = 0


_set_hard_state = RaftState.set_hard_state


def _promise_ends_with_the_term(s: RaftState, term: Term, vote: NodeId) -> None:
    """Forget what was promised to a leader when a higher term shows up, but not to its leader."""
    if term > s.term and s.promise_left < s.config.election_ticks:
        s.promise_left = 0
    _set_hard_state(s, term, vote)


# ---- sleep ----

_is_waking = quiescence.is_waking


def _sleeps_through_silence(s: RaftState, event: Event) -> bool:
    return not isinstance(event, PeerSilent) and _is_waking(s, event)


class Mutation(NamedTuple):
    """One broken rule.

    Attributes:
        apply: breaks it, and yields the classes to simulate.
        seeds: it must be caught within so many seeds.
        mode: as of `random_plan`.
        nodes: founding voters.
        script: one of `test/scripts/raft` that catches it; then no seed is run.
        plan: one of `test/sim/plans` that is run in place of seeds.
    """

    apply: Callable[[], AbstractContextManager[tuple[type[RaftCore], type[SimDisk]]]]
    seeds: int
    mode: str = "mixed"
    nodes: int = 3
    script: str = ""
    plan: str = ""


@contextmanager
def _classes(
    core_class: type[RaftCore] = RaftCore, disk: type[SimDisk] = SimDisk
) -> Iterator[tuple[type[RaftCore], type[SimDisk]]]:
    yield core_class, disk


@contextmanager
def _patch(
    target: object, name: str, value: object
) -> Iterator[tuple[type[RaftCore], type[SimDisk]]]:
    assert hasattr(target, name)
    with mock.patch.object(target, name, value):
        yield RaftCore, SimDisk


@contextmanager
def _handler(
    message: type, handler: Callable[..., None]
) -> Iterator[tuple[type[RaftCore], type[SimDisk]]]:
    table = core._MESSAGE_HANDLERS if message in core._MESSAGE_HANDLERS else core._EVENT_HANDLERS
    with mock.patch.dict(table, {message: handler}):
        yield RaftCore, SimDisk


_commit_to = RaftState.commit_to


def _keep_any_batches(store: MemoryStore, keep: int = 0) -> MemoryStore:
    """Lose the oldest batches in place of the newest."""
    store._unsynced.reverse()
    return MemoryStore.crash(store, keep)


MUTATIONS: dict[str, Mutation] = {
    # votes
    "vote leaves before it is durable": Mutation(lambda: _classes(_VotesEarly), 40),
    "vote lost at a crash": Mutation(lambda: _classes(disk=_ForgetsVote), 1200, "harsh"),
    "term lost at a crash": Mutation(lambda: _classes(disk=_ForgetsTerm), 200, "harsh"),
    "vote for an outdated log": Mutation(
        lambda: _patch(LogView, "is_up_to_date", lambda self, index, term: True), 40
    ),
    "election timer never fires": Mutation(lambda: _patch(follower, "tick", lambda s: False), 5),
    # logs
    "old terms counted for commit": Mutation(
        lambda: _patch(leader, "maybe_commit", _counts_old_terms),
        1,
        plan="a_leader_with_entries_of_an_old_term",
    ),
    "acknowledged before durable": Mutation(lambda: _classes(_AcksEarly), 40),
    "own copy counted before durable": Mutation(lambda: _classes(_CountsOwnEarly), 40),
    "applied before durable": Mutation(lambda: _patch(RaftState, "tell_commit", _tell_at_once), 40),
    "late report of durability believed": Mutation(
        lambda: _patch(RaftState, "note_persisted", _believe_any_report), 400, "change"
    ),
    "conflicts not truncated": Mutation(
        lambda: _patch(follower, "new_entries", _only_beyond_the_end), 40
    ),
    "matching entries truncated": Mutation(
        lambda: _patch(follower, "new_entries", _always_truncate), 40
    ),
    "previous entry not checked": Mutation(
        lambda: _patch(follower, "_prev_matches", _always_matches), 40
    ),
    "follower commits what it has": Mutation(
        lambda: _patch(RaftState, "commit_to", lambda s, index: _commit_all(s, index, _commit_to)),
        40,
    ),
    "lost appends not repaired": Mutation(
        lambda: _handler(HeartbeatResponse, _only_confirm_reads), 50
    ),
    "checksums of the log not checked": Mutation(lambda: _classes(disk=_TrustsItsLog), 100),
    # reads
    "read without a quorum round": Mutation(
        lambda: _patch(reads, "is_confirmed", lambda s, lead: lead.reads.is_round_open), 200
    ),
    "read before the own term is committed": Mutation(
        lambda: _patch(reads, "maybe_open_read_round", _open_read_round_at_once), 100
    ),
    # leases
    "lease twice as long": Mutation(
        lambda: _patch(RaftConfig, "lease_ticks", property(lambda c: 2 * c.election_ticks)), 200
    ),
    "lease ignores late ticks": Mutation(
        lambda: _patch(reads, "holds_lease", lambda s, lead, late_ticks: _holds_lease(s, lead, 0)),
        400,
    ),
    "lease counted from the answer": Mutation(
        lambda: _patch(reads, "note_confirmed", _confirmed_when_answered), 400, "lease"
    ),
    "lease goes on during a transfer": Mutation(
        lambda: _patch(reads, "holds_lease", _lease_through_transfers), 400, "lease"
    ),
    "promise forgotten at a restart": Mutation(
        lambda: _classes(_PromisesNothingAtStart), 400, "lease"
    ),
    "promise ends with the term": Mutation(
        lambda: _patch(RaftState, "set_hard_state", _promise_ends_with_the_term),
        0,
        script="promise_outlives_term",
    ),
    # snapshots
    "checksums of snapshots not checked": Mutation(
        lambda: _patch(transfer, "is_whole", lambda piece: True), 200
    ),
    "failed snapshots not repeated": Mutation(
        lambda: _handler(SnapshotFailed, lambda s, event: None), 200
    ),
    "requests forgotten by snapshots": Mutation(
        lambda: _patch(states, "Machine", _SnapshotLacksRequests),
        1,
        plan="a_snapshot_brings_the_requests",
    ),
    "requests applied twice": Mutation(
        lambda: _patch(Machine, "is_new", lambda self, request: True), 40
    ),
    # the product's state machine over the real engine
    "engine: requests applied twice": Mutation(
        lambda: _patch(RequestTable, "find", lambda self, request: None), 40, "engine"
    ),
    "engine: requests not stored with a flush": Mutation(
        lambda: _patch(RequestTable, "late_puts", lambda self: {}), 200, "engine"
    ),
    "engine: an installed state does not say what it covers": Mutation(
        lambda: _patch(engine_states, "encode_origin", lambda meta: b""), 400, "engine"
    ),
    "engine: a crash may keep later batches without earlier ones": Mutation(
        lambda: _patch(engine_states.StoreInMemory, "crash", _keep_any_batches), 200, "engine"
    ),
    # memberships
    "joint votes by the new majority only": Mutation(
        lambda: _patch(candidate, "vote_result", _only_new_votes), 0, script="joint_majorities"
    ),
    "joint commits by the new majority only": Mutation(
        lambda: _patch(leader, "joint_committed_index", _only_new_copies), 400, "change"
    ),
    "copies of learners counted": Mutation(
        lambda: _patch(leader, "joint_committed_index", _all_copies), 400
    ),
    "memberships not taken from snapshots": Mutation(
        lambda: _patch(reconfigure, "activate", _not_from_snapshots), 400, "change"
    ),
    "a second change before the first is applied": Mutation(
        lambda: _patch(MembershipHistory, "latest_index", property(lambda self: 0)), 1200, "change"
    ),
    "changes not confirmed": Mutation(
        lambda: _patch(
            MembershipHistory, "is_confirmed", property(lambda self: True, lambda self, value: None)
        ),
        1,
        plan="power_cut_after_a_change",
    ),
    "what votes tell of commits ignored": Mutation(
        lambda: _patch(candidate, "learn_commit", lambda s, commit, term: None), 1200, "change"
    ),
    # sleep
    "silence of a node does not wake": Mutation(
        lambda: _patch(quiescence, "is_waking", _sleeps_through_silence), 200, "idle"
    ),
}


def first_catch(mutation: Mutation) -> tuple[int, BaseException] | None:
    """Return the first seed that catches the mutation, and how; None when none does."""
    tests = Path(__file__).parents[2]
    with mutation.apply() as (core_class, disk_class):
        if mutation.script:
            path = tests / "scripts" / "raft" / f"{mutation.script}.txt"
            text = path.read_text(encoding="utf-8")
            if run_script(text) != text:
                return 0, AssertionError(f"script {mutation.script} has another output")
        plans = (random_plan(seed, mutation.nodes, mutation.mode) for seed in count())
        if mutation.plan:
            path = tests / "sim" / "plans" / f"{mutation.plan}.txt"
            plans = iter([Plan.from_text(path.read_text(encoding="utf-8"))])
        for seed, plan in enumerate(islice(plans, mutation.seeds)):
            cluster = SimCluster(plan, core_class=core_class, disk_class=disk_class)
            try:
                cluster.run()
            except (AssertionError, ValueError, EngineError) as error:
                return seed, error
    return None
