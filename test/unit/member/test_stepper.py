"""A core is stepped under its lock, by one rule for everybody, until it is stopped or broken."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cluster.member.effect_router import DueReports
from cluster.member.stepper import Stepper
from cluster.member.tick_clock import TickClock
from cluster.raft.effects import Effects
from cluster.raft.events import Event, Persisted, Received, Tick
from cluster.raft.messages import TimeoutNow
from cluster.raft.types import LogIndex, NodeId, Role, Term

MESSAGE = Received(TimeoutNow(NodeId(2), NodeId(1), Term(1)))


class Parts:
    """What a stepper works with; `seen` tells in which order things were done, and how."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.failures: list[BaseException] = []
        self.breaks = False
        self.due = DueReports()
        self.now = 0.0
        self.lock = threading.Lock()
        parts = self

        class Core:
            role = Role.FOLLOWER
            ticks_until_due = 5

            def step(self, event: Event) -> Effects:
                assert parts.lock.locked()
                parts.seen.append(event)
                if parts.breaks:
                    raise AssertionError("an invariant is broken")
                return Effects()

        class Router:
            def route(self, effects: Effects, request_id: int = 0, *, wake: bool = True) -> bool:
                assert parts.lock.locked()
                parts.seen.append("route")
                return False

            def take_due(self) -> DueReports:
                return parts.due

            def release(self, writes: int) -> None:
                parts.seen.append(f"release {writes}")

        class Applier:
            def catch_up(self) -> None:
                assert not parts.lock.locked()
                parts.seen.append("apply")

        self.may_campaign = True
        self.core: Any = Core()
        router: Any = Router()
        applier: Any = Applier()
        self.stepper = Stepper(
            core=self.core,
            lock=self.lock,
            router=router,
            applier=applier,
            ticks=TickClock(1.0, lambda: parts.now),
            on_broken=self.failures.append,
            may_campaign=lambda: self.may_campaign,
        )

    def seen_now(self) -> list[Any]:
        seen, self.seen[:] = list(self.seen), []
        return seen


@pytest.fixture
def parts() -> Parts:
    return Parts()


def test_what_a_step_wants_is_routed_under_the_lock_and_applied_after_it(parts: Parts) -> None:
    assert isinstance(parts.stepper.step(MESSAGE), Effects)
    assert parts.seen == [MESSAGE, "route", "apply"]


def test_a_message_does_not_hide_the_time_that_passed_before_it(parts: Parts) -> None:
    assert parts.stepper.tick() == 5
    parts.seen_now()
    parts.now = 7.0
    parts.stepper.step(MESSAGE)
    # no more of it counts towards a time-out than was said to be left out
    assert parts.seen_now() == [Tick(7, counted=5), "route", MESSAGE, "route", "apply"]
    parts.core.role = Role.LEADER  # its heartbeats are not put off by messages
    parts.now = 9.0
    parts.stepper.step(MESSAGE)
    assert parts.seen_now() == [MESSAGE, "route", "apply"]


def test_the_core_is_told_whether_a_vote_would_become_durable(parts: Parts) -> None:
    parts.may_campaign = False
    parts.now = 1.0
    parts.stepper.tick()
    assert parts.seen_now() == [Tick(1, counted=1, may_campaign=False), "route", "apply"]


def test_a_stopped_member_is_not_stepped(parts: Parts) -> None:
    with parts.lock:
        parts.stepper.stop_locked()
    assert parts.stepper.step(MESSAGE) is None
    parts.stepper.tick()
    assert parts.seen == ["apply", "apply"]


def test_a_broken_core_is_not_stepped_again_and_its_last_step_wants_nothing(parts: Parts) -> None:
    parts.breaks = True
    with pytest.raises(AssertionError):
        parts.stepper.step(MESSAGE)
    assert [str(error) for error in parts.failures] == ["an invariant is broken"]
    assert parts.stepper.is_stopped
    assert parts.stepper.step(MESSAGE) is None
    assert parts.seen == [MESSAGE, "apply"]


def test_what_was_held_for_a_write_leaves_even_when_the_member_has_stopped(parts: Parts) -> None:
    parts.due.note((LogIndex(4), Term(2)), False)
    parts.stepper.batch_durable()
    assert parts.seen_now() == ["release 1", Persisted(LogIndex(4), Term(2)), "route", "apply"]
    with parts.lock:
        parts.stepper.stop_locked()
    parts.stepper.batch_durable()
    assert parts.seen_now() == ["release 1", "apply"]
