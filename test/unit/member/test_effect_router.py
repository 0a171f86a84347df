"""What leaves a member, and when: nothing that rests on a write before the write is durable."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cluster.member.effect_router import DueReports, EffectRouter
from cluster.raft.effects import Effects, Persist
from cluster.raft.messages import AppendResponse, VoteRequest
from cluster.raft.types import (
    NO_INDEX,
    Entry,
    EntryKind,
    HardState,
    LogIndex,
    Membership,
    NodeId,
    SnapshotMeta,
    Term,
)

ME, OTHER = NodeId(1), NodeId(2)


def answer(id_: int) -> AppendResponse:
    return AppendResponse(
        ME, OTHER, Term(1), success=True, match_index=LogIndex(1), prev_index=LogIndex(0), id=id_
    )


def request() -> VoteRequest:
    return VoteRequest(ME, OTHER, Term(1), LogIndex(0), Term(0), False)


def writes(*indexes: int, truncate_from: int = NO_INDEX) -> Persist:
    entries = tuple(Entry(LogIndex(n), Term(1), EntryKind.PLAN, b"") for n in indexes)
    return Persist(HardState(Term(1), ME), LogIndex(truncate_from), entries, None)


class Parts:
    """The queues of a member, as lists; `written` tells that the oldest write is durable."""

    def __init__(self) -> None:
        self.left: list[Any] = []
        self.calls: list[str] = []
        self.submitted: list[Any] = []
        self.awake = threading.Event()
        parts = self

        class Other:  # whatever else is called
            def __getattr__(self, name: str) -> Any:
                return lambda *args: parts.calls.append(name)

        class Log:
            def submit(self, persist: Persist, done: Any, *, wake: bool) -> None:
                parts.submitted.append(done)
                parts.calls.append("submit and wake" if wake else "submit")

        class Replies:
            def deliver(self, message: Any) -> None:
                parts.left.append(message.id)

        other: Any = Other()
        log: Any = Log()
        replies: Any = Replies()
        self.router = EffectRouter(
            log=log,
            post=lambda message: self.left.append(type(message).__name__),
            replies=replies,
            reads=other,
            dispatchers=other,
            applier=other,
            snapshots=other,
            awake=self.awake,
            on_role_changed=lambda _changed: None,
        )

    def written(self, count: int) -> list[tuple[LogIndex, Term]]:
        for _ in range(count):
            self.submitted.pop(0)()
        due = self.router.take_due()
        assert due.writes == count
        self.router.release(due.writes)
        return due.reports


@pytest.fixture
def parts() -> Parts:
    return Parts()


def effects(**fields: Any) -> Effects:
    made = Effects()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_what_rests_on_a_write_leaves_when_it_is_durable(parts: Parts) -> None:
    route = parts.router.route
    assert route(effects(persist=writes(1), send_after_persist=[answer(7)]), 7)
    # nothing of its own to write: the write before it counts all the same
    assert not route(effects(send=[request()], send_after_persist=[answer(8)]), 9)
    assert route(effects(persist=writes(2), send_after_persist=[request(), answer(9)]), 9)
    assert parts.left == ["VoteRequest"]
    parts.written(1)
    assert parts.left == ["VoteRequest", 7, 8]
    parts.written(1)
    assert parts.left == ["VoteRequest", 7, 8, "VoteRequest", 9]


def test_with_nothing_to_wait_for_it_leaves_at_once(parts: Parts) -> None:
    assert not parts.router.route(effects(send_after_persist=[answer(7)]), 7)
    parts.router.route(effects(persist=writes(1)))
    parts.written(1)
    assert not parts.router.route(effects(send_after_persist=[answer(8)]), 8)
    assert parts.left == [7, 8]


def test_the_log_is_woken_unless_the_caller_sees_to_it(parts: Parts) -> None:
    parts.router.route(effects(persist=writes(1)))
    parts.router.route(effects(persist=writes(2)), wake=False)
    assert parts.calls == ["submit and wake", "submit"]


def test_a_group_that_falls_asleep_needs_no_ticks_and_no_dispatchers(parts: Parts) -> None:
    parts.awake.set()
    parts.router.route(effects(asleep=True))
    assert not parts.awake.is_set()
    assert parts.calls == ["stop"]
    parts.router.route(effects(asleep=False))
    assert parts.awake.is_set()


def test_of_appends_in_a_row_the_newest_is_reported(parts: Parts) -> None:
    for persist in (writes(1), writes(2, 3), writes()):
        parts.router.route(effects(persist=persist))
    assert parts.written(3) == [(3, 1)]
    assert parts.written(0) == []


def test_a_write_that_replaces_others_is_reported_by_itself(parts: Parts) -> None:
    """The core tells by it which entry of an index a report is about."""
    meta = SnapshotMeta(LogIndex(9), Term(3), Membership((ME,)))
    snapshot = Persist(None, NO_INDEX, (), meta)
    for persist in (writes(1), writes(2), writes(2, truncate_from=2), writes(3), snapshot):
        parts.router.route(effects(persist=persist))
    assert parts.written(5) == [(2, 1), (2, 1), (3, 1), (9, 3)]


def test_a_hard_state_alone_is_no_report() -> None:
    due = DueReports()
    due.note(None, rewrites=False)
    assert (due.writes, due.reports) == (1, [])
