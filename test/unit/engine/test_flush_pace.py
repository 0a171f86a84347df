"""A flush rests while rows come and there is room for them, and nobody waits for it."""

from __future__ import annotations

import pytest

from iotdb_engine import Engine, EngineOptions, Fragment, Layout
from iotdb_engine.budget import MemoryBudget
from iotdb_engine.flush_pace import FlushPace
from iotdb_engine.types import DataType


@pytest.fixture
def budget():
    return MemoryBudget(1000)


@pytest.fixture
def pace(budget):
    return FlushPace(budget)


def test_it_rests_while_rows_come(budget, pace):
    budget.add(500)
    assert pace.rest_s(0.01, 1.0) == 0.01
    assert pace.rest_s(0.01, 1.4) == 0.01, "they came a short time ago"
    assert pace.rest_s(0.01, 1.5) == 0, "none have come since"
    budget.add(1)
    assert pace.rest_s(0.01, 1.6) == 0.01
    assert pace.rest_s(-0.01, 1.6) == 0


class _Clock:
    """Time that passes while somebody works, or rests; `rested` has each rest."""

    def __init__(self, pace, monkeypatch):
        self.now = 100.0
        self.worked = 5.0
        self.rested = []
        self.meanwhile = lambda: None
        monkeypatch.setattr("iotdb_engine.flush_pace.time", self)
        monkeypatch.setattr(pace, "_hurry", self)

    def monotonic(self):
        return self.now

    def thread_time(self):
        return self.worked

    def is_set(self):
        return False

    def wait(self, seconds):
        self.now += seconds
        self.rested.append(seconds)
        self.meanwhile()


def test_it_works_a_twentieth_of_the_time(budget, pace, monkeypatch):
    clock = _Clock(pace, monkeypatch)
    clock.meanwhile = lambda: budget.add(1)
    pace.begin()
    for _ in range(20):
        clock.worked += 0.03
        clock.now += 0.03
        budget.add(1)
        pace.rest()
    assert clock.now - 100.0 == pytest.approx(20 * 0.03 / 0.05)
    assert max(clock.rested) == 0.1, "room and writers are looked at meanwhile"


def test_a_rest_ends_when_room_gets_short(budget, pace, monkeypatch):
    clock = _Clock(pace, monkeypatch)
    clock.meanwhile = lambda: budget.add(300)
    budget.add(300)
    pace.begin()
    clock.worked += 1.0
    pace.rest()
    assert clock.rested == [0.1, 0.1], "of nineteen seconds"


def test_it_does_not_rest_where_room_is_short(budget, pace):
    budget.add(500)
    budget.freeze(500)
    budget.add(249)
    assert pace.rest_s(0.01, 0.0)
    budget.add(1)
    assert not pace.rest_s(0.01, 0.1)
    budget.release(frozen=500)
    assert pace.rest_s(0.01, 0.2)


def test_it_does_not_rest_while_somebody_waits(budget, pace):
    budget.add(1)
    with pace.hurry():
        with pace.hurry():
            assert not pace.rest_s(0.01, 0.0)
        assert pace.is_hurried
        assert not pace.rest_s(0.01, 0.0)
    assert not pace.is_hurried
    assert pace.rest_s(0.01, 0.0)


class _Seen(FlushPace):
    """Notes at each rest whether somebody waits."""

    def __init__(self) -> None:
        super().__init__(MemoryBudget(1))
        self.hurried: list[bool] = []

    def rest(self) -> None:
        self.hurried.append(self.is_hurried)


def test_who_waits_for_a_flush_hurries_it(tmp_path, monkeypatch):
    pace = _Seen()
    monkeypatch.setattr("iotdb_engine.engine.FlushPace", lambda _budget: pace)
    layout = Layout((1, 2), (DataType.DOUBLE, DataType.DOUBLE))
    with Engine(tmp_path, EngineOptions(compaction=False)) as engine:
        region = engine.region(1)
        region.write([Fragment(1, layout, 1, bytes(8), bytes(16), b"")], 1)
        region.flush()
        assert pace.hurried == [True]
        region.write([Fragment(1, layout, 1, bytes(8), bytes(16), b"")], 2)
        engine.drop_region(1)
        assert not pace.is_hurried
        engine.region(2).write([Fragment(1, layout, 1, bytes(8), bytes(16), b"")], 1)
    assert pace.hurried == [True, True], "of the dropped region nothing was stored"
