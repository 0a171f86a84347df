"""Waits of tests: a process that was stopped for a while is no product that hangs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness import group_cluster, raft_log


class Clock:
    """Every sleep takes that long."""

    def __init__(self, sleeps_s: list[float]) -> None:
        self._sleeps_s = sleeps_s
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _seconds: float) -> None:
        self.now += self._sleeps_s.pop(0)


def test_a_stop_of_the_process_is_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock([0.005, 90.0, 0.005])
    monkeypatch.setattr(group_cluster, "time", clock)
    answers = iter([False, False, False, True])
    group_cluster.wait_until(lambda: next(answers))
    assert clock.now > 90


def test_what_never_comes_true_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock([0.5] * 100)
    monkeypatch.setattr(group_cluster, "time", clock)
    with pytest.raises(AssertionError, match="did not come true"):
        group_cluster.wait_until(lambda: False)
    assert clock.now == pytest.approx(group_cluster.WAIT_S, abs=1)


def test_an_event_is_waited_for_in_pieces() -> None:
    waits: list[float] = []
    set_at = [False, False, True]

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return set_at[len(waits) - 1] if len(waits) <= len(set_at) else False

    event = SimpleNamespace(wait=wait)
    assert raft_log.came(event)  # type: ignore[arg-type]
    assert waits == [1.0] * 3
    set_at.clear()
    waits.clear()
    assert not raft_log.came(event, 5.0)  # type: ignore[arg-type]
    assert waits == [1.0] * 5
