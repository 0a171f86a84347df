"""A HeartbeatThread ticks when its member says that something may be due."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from cluster.heartbeat import heartbeat_thread
from cluster.heartbeat.heartbeat_thread import HeartbeatThread

TICK_S = 0.1


class FakeMember:
    name = "data-1"

    def __init__(self, plans: list[int]) -> None:
        self.awake = threading.Event()
        self.awake.set()
        self.plans = plans
        self.at: list[float] = []


class FakeTime:
    """A clock that moves only by waiting."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now


def run(member: FakeMember, monkeypatch: pytest.MonkeyPatch, *, late_s: float = 0.0) -> None:
    clock = FakeTime()
    thread: Any = HeartbeatThread(member, TICK_S)  # type: ignore[arg-type]

    class Stop:
        def wait(self, seconds: float) -> bool:
            clock.now += seconds
            return not member.plans

    def tick() -> int:
        member.at.append(round(clock.now - 50, 3))
        clock.now += late_s
        return member.plans.pop(0)

    member.tick = tick  # type: ignore[attr-defined]
    thread._stop = Stop()
    monkeypatch.setattr(heartbeat_thread, "time", clock)
    thread.run()


def test_it_comes_back_when_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    member = FakeMember([1, 4, 2, 1])
    run(member, monkeypatch)
    assert member.at == [0.1, 0.2, 0.6, 0.8]


def test_late_ticks_are_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    member = FakeMember([1, 1, 2])
    run(member, monkeypatch, late_s=0.35)
    assert member.at == [0.1, 0.45, 0.8]


def test_it_sleeps_while_its_member_does() -> None:
    member = FakeMember([])
    ticked = threading.Event()

    def tick() -> int:
        member.awake.clear()
        ticked.set()
        return 1

    member.tick = tick  # type: ignore[attr-defined]
    thread = HeartbeatThread(member, 0.001)  # type: ignore[arg-type]
    runner = threading.Thread(target=thread.run)
    runner.start()
    for _ in range(3):
        assert ticked.wait(10)
        ticked.clear()
        end = time.monotonic() + 10
        while member.awake.is_set():
            assert time.monotonic() < end
        assert not ticked.is_set()
        member.awake.set()
    thread.stop()
    runner.join(10)
    assert not runner.is_alive()
