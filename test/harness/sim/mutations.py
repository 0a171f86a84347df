"""Cores and disks with one rule broken: the simulator must notice each.

A checker that has never caught anything proves nothing. Every mutation here is a mistake that a
change to the core could plausibly make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple
from unittest import mock

from cluster.raft import core, follower, leader
from cluster.raft.core import RaftCore
from cluster.raft.effects import Effects
from cluster.raft.events import Event
from cluster.raft.log_view import LogView
from cluster.raft.messages import AppendRequest, AppendResponse, HeartbeatResponse, VoteResponse
from cluster.raft.quorum import joint_committed_index
from cluster.raft.state import Leadership, RaftState
from cluster.raft.types import (
    NO_NODE,
    Entry,
    HardState,
    LogIndex,
    Role,
    Term,
)
from harness.sim.cluster import SimCluster
from harness.sim.disk import SimDisk


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

    def recover_hard_state(self) -> HardState:
        return HardState(self.hard_state.term, NO_NODE)


class _ForgetsTerm(SimDisk):
    """Loses term and vote at a crash, except for what the log proves."""

    def recover_hard_state(self) -> HardState:
        last = self.entries[-1].term if self.entries else self.base[1]
        return HardState(Term(last), NO_NODE)


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
    leader.maybe_open_read_round(s, lead)
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
        leader.broadcast_heartbeat(s, lead)


def _only_confirm_reads(s: RaftState, m: HeartbeatResponse) -> None:
    """Let a heartbeat's answer confirm reads, but resume no replication."""
    lead = s.lead
    if lead is None or m.term != s.term:
        return
    lead.progress[m.frm].quiet_ticks = 0
    if lead.reads.ack(m.frm, m.read_context):
        leader.maybe_close_read_round(s, lead)


class Mutation(NamedTuple):
    """One broken rule.

    Attributes:
        apply: breaks it, and yields the classes to simulate.
        seeds: it must be caught within so many seeds.
        harsh: as of SimCluster.
    """

    apply: Callable[[], AbstractContextManager[tuple[type[RaftCore], type[SimDisk]]]]
    seeds: int
    harsh: bool = False


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
    with mock.patch.dict(core._MESSAGE_HANDLERS, {message: handler}):
        yield RaftCore, SimDisk


_commit_to = RaftState.commit_to

MUTATIONS: dict[str, Mutation] = {
    "vote leaves before it is durable": Mutation(lambda: _classes(_VotesEarly), 20),
    "vote lost at a crash": Mutation(lambda: _classes(disk=_ForgetsVote), 1200, harsh=True),
    "term lost at a crash": Mutation(lambda: _classes(disk=_ForgetsTerm), 100),
    "vote for an outdated log": Mutation(
        lambda: _patch(LogView, "is_up_to_date", lambda self, index, term: True), 20
    ),
    "old terms counted for commit": Mutation(
        lambda: _patch(leader, "maybe_commit", _counts_old_terms), 1200, harsh=True
    ),
    "acknowledged before durable": Mutation(lambda: _classes(_AcksEarly), 20),
    "own copy counted before durable": Mutation(lambda: _classes(_CountsOwnEarly), 20),
    "applied before durable": Mutation(lambda: _patch(RaftState, "tell_commit", _tell_at_once), 20),
    "late report of durability believed": Mutation(
        lambda: _patch(RaftState, "note_persisted", _believe_any_report), 1200, harsh=True
    ),
    "conflicts not truncated": Mutation(
        lambda: _patch(follower, "new_entries", _only_beyond_the_end), 20
    ),
    "matching entries truncated": Mutation(
        lambda: _patch(follower, "new_entries", _always_truncate), 20
    ),
    "previous entry not checked": Mutation(
        lambda: _patch(follower, "_prev_matches", _always_matches), 20
    ),
    "follower commits what it has": Mutation(
        lambda: _patch(RaftState, "commit_to", lambda s, index: _commit_all(s, index, _commit_to)),
        20,
    ),
    "read without a quorum round": Mutation(
        lambda: _patch(leader, "is_confirmed", lambda s, lead: lead.reads.is_round_open),
        50,
        harsh=True,
    ),
    "read before the own term is committed": Mutation(
        lambda: _patch(leader, "maybe_open_read_round", _open_read_round_at_once), 20
    ),
    "election timer never fires": Mutation(lambda: _patch(follower, "tick", lambda s: False), 5),
    "lost appends not repaired": Mutation(
        lambda: _handler(HeartbeatResponse, _only_confirm_reads), 50
    ),
}


def first_catch(mutation: Mutation) -> tuple[int, BaseException] | None:
    """Return the first seed that catches the mutation, and how; None when none does."""
    with mutation.apply() as (core_class, disk_class):
        for seed in range(mutation.seeds):
            cluster = SimCluster(
                seed, 3, core_class=core_class, disk_class=disk_class, harsh=mutation.harsh
            )
            try:
                cluster.run()
            except AssertionError as error:
                return seed, error
    return None
