"""The engine's background thread, and who goes on in its place when somebody waits for it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import pytest

from iotdb_engine import Engine, EngineOptions, Fragment, Layout
from iotdb_engine import worker as worker_module
from iotdb_engine.budget import MemoryBudget
from iotdb_engine.flush import ChunkWriter
from iotdb_engine.flush_pace import FlushPace
from iotdb_engine.types import DataType
from iotdb_engine.worker import Worker


@pytest.fixture
def nice(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads that lowered their priority."""
    found: set[int] = set()
    monkeypatch.setattr(worker_module, "_be_nice", lambda: found.add(threading.get_native_id()))
    return found


class Steps:
    """Work in steps, each done when it is told; notes who did it."""

    def __init__(self, count: int) -> None:
        self.begun = [threading.Event() for _ in range(count)]
        self.go_on = [threading.Event() for _ in range(count)]
        self.items: list[list[str]] = []
        self.by: list[int] = []
        self.failing: int | None = None

    def run(self, items: list[str]) -> Iterator[None]:
        self.items.append(items)
        while len(self.by) < len(self.begun):
            number = len(self.by)
            self.by.append(threading.get_native_id())
            self.begun[number].set()
            assert self.go_on[number].wait(20)
            if number == self.failing:
                raise RuntimeError("made to fail")
            yield


def test_another_thread_goes_on_at_the_next_step(nice: set[int]) -> None:
    steps = Steps(3)
    worker = Worker("engine-flush", steps.run)
    worker.request("a")
    assert steps.begun[0].wait(20)
    worker.request("b")
    worker.hasten()
    worker.hasten()  # once is enough
    for event in steps.go_on:
        event.set()
    worker.close()
    assert [one in nice for one in steps.by] == [True, False, False]
    assert len(set(steps.by)) == 2, "one thread in place of the other"
    assert steps.items == [["a"], ["b"]], "what had not begun was done, too"


def test_a_thread_that_waits_for_work_is_replaced_as_well(nice: set[int]) -> None:
    steps = Steps(1)
    worker = Worker("engine-flush", steps.run)
    worker.hasten()
    worker.request("a")
    steps.go_on[0].set()
    worker.close()
    assert len(nice) == 1
    assert steps.by[0] not in nice


def test_an_error_of_a_step_after_the_change_ends_that_work_only(nice: set[int]) -> None:
    steps = Steps(3)
    steps.failing = 1
    worker = Worker("engine-flush", steps.run)
    worker.request("a")
    assert steps.begun[0].wait(20)
    worker.hasten()
    worker.request("b")
    for event in steps.go_on:
        event.set()
    worker.close()
    assert steps.items == [["a"], ["b"]]
    assert [one in nice for one in steps.by] == [True, False, False]


def test_where_no_thread_can_be_started_the_old_one_goes_on(
    nice: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(2)
    worker = Worker("engine-flush", steps.run)
    worker.request("a")
    assert steps.begun[0].wait(20)
    with monkeypatch.context() as patch:

        def no_room(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", no_room)
        worker.hasten()
    for event in steps.go_on:
        event.set()
    worker.close()
    assert [one in nice for one in steps.by] == [True, True]


def test_a_thread_of_usual_priority_stays(nice: set[int]) -> None:
    steps = Steps(2)
    worker = Worker("engine-staging", steps.run, is_nice=False)
    worker.request("a")
    assert steps.begun[0].wait(20)
    worker.hasten()
    for event in steps.go_on:
        event.set()
    worker.close()
    assert not nice
    assert len(set(steps.by)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="a thread's own priority is Linux's")
def test_the_priority_is_lower_than_the_process_has() -> None:
    """A process that was started at a low priority has its background work below that."""
    found = []

    def run(_items: list[int]) -> None:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    worker = Worker("engine-flush", run)
    worker.request(1)
    worker.close()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert found == [min(own + 10, 19)]


class _Asked(FlushPace):
    """Tells when somebody waits for a flush."""

    def __init__(self) -> None:
        super().__init__(MemoryBudget(1))
        self.asked = self._hurry


def test_closing_an_engine_waits_for_no_thread_of_low_priority(
    tmp_path, nice: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine that gets a tenth of a core: 800 MB took half a minute to store."""
    pace = _Asked()
    monkeypatch.setattr("iotdb_engine.engine.FlushPace", lambda _budget: pace)
    by: list[int] = []
    first = threading.Event()
    original = ChunkWriter.put_block

    def put_block(*args, **more):
        by.append(threading.get_native_id())
        if not first.is_set():
            first.set()
            assert pace.asked.wait(20), "closing has begun"
        original(*args, **more)

    monkeypatch.setattr(ChunkWriter, "put_block", put_block)
    engine = Engine(tmp_path, EngineOptions(compaction=False))
    for number in (1, 2):
        for at in (10, 20, 30):
            layout = Layout((at, at + 1), (DataType.DOUBLE, DataType.DOUBLE))
            engine.region(number).write([Fragment(1, layout, 1, bytes(8), bytes(16), b"")], at)
    engine.region(1).flush(wait=False)
    assert first.wait(20)
    engine.close()
    assert [one in nice for one in by] == [True] + [False] * 5
    with Engine(tmp_path, EngineOptions(compaction=False)) as again:
        for number in (1, 2):
            assert again.region(number).applied_index == 30
            assert again.region(number).durable_index == 30
