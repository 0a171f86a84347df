"""The applier: quick entries where the commit became known, the rest in its thread."""

from __future__ import annotations

import threading

import pytest

from cluster.member.applier import Applier
from cluster.raft.types import Entry, EntryKind, LogIndex, Term

WAIT_S = 20.0


class Log:
    def __init__(self, count: int) -> None:
        self.all = [Entry(LogIndex(i), Term(1), EntryKind.PLAN, b"q") for i in range(1, count + 1)]
        self.cached_from = 1

    def cached_entries(self, lo, hi):
        return self.all[lo - 1 : hi - 1] if lo >= self.cached_from else []

    def entries(self, lo, hi, max_bytes):
        return self.all[lo - 1 : hi - 1]


class Machine:
    def __init__(self) -> None:
        self.applied_index = LogIndex(0)
        self.applied: list[tuple[int, int]] = []
        self.slow: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.fails_at = 0

    def are_quick(self, entries):
        return self.slow.isdisjoint(entry.index for entry in entries)

    def apply_all(self, entries):
        return [self._apply(entry) for entry in entries]

    def _apply(self, entry):
        if entry.index == self.fails_at:
            raise RuntimeError("the disk is gone")
        if entry.kind == EntryKind.PLAN:
            assert self.gate.wait(WAIT_S)
            self.applied.append((entry.index, threading.get_ident()))
        self.applied_index = entry.index
        return entry.index * 10 if entry.kind == EntryKind.PLAN else None


class Harness:
    def __init__(self, count: int = 200) -> None:
        self.log = Log(count)
        self.machine = Machine()
        self.outcomes: list[tuple[int, int]] = []
        self.failures: list[BaseException] = []
        self.reached = threading.Condition()
        self.applier = Applier(self.log, self.machine, self._applied, self.failures.append)
        self.thread = threading.Thread(target=self.applier.run)
        self.thread.start()

    def _applied(self, outcomes, last):
        with self.reached:
            self.outcomes += [(index, outcome) for index, _, outcome in outcomes]
            self.reached.notify_all()

    def commit(self, index: int) -> None:
        self.applier.advance(LogIndex(index))
        self.applier.catch_up()

    def wait_until(self, index: int) -> None:
        with self.reached:
            assert self.reached.wait_for(
                lambda: bool(self.outcomes) and self.outcomes[-1][0] >= index, WAIT_S
            )


@pytest.fixture
def harness():
    made = Harness()
    yield made
    made.machine.gate.set()
    made.applier.stop()
    made.thread.join(WAIT_S)
    assert not made.thread.is_alive()


def test_quick_entries_are_applied_by_who_brings_the_commit(harness) -> None:
    harness.commit(3)
    assert harness.machine.applied == [(i, threading.get_ident()) for i in (1, 2, 3)]
    assert harness.outcomes == [(1, 10), (2, 20), (3, 30)]


@pytest.mark.parametrize("reason", ["slow", "many", "on disk"])
def test_the_thread_gets_what_is_not_quick(harness, reason) -> None:
    target = 5
    if reason == "slow":
        harness.machine.slow = {4}
    elif reason == "many":
        target = 150
    else:
        harness.log.cached_from = 3
    harness.commit(target)
    harness.wait_until(target)
    assert [index for index, _ in harness.machine.applied] == list(range(1, target + 1))
    assert {ident for _, ident in harness.machine.applied} == {harness.thread.ident}


def test_a_commit_that_comes_while_another_thread_applies_is_not_missed(harness) -> None:
    harness.machine.gate.clear()
    first = threading.Thread(target=harness.commit, args=(2,))
    first.start()
    while not harness.applier._role.locked():  # it is inside `apply`, at the gate
        pass
    harness.commit(4)  # returns at once: the role is taken
    assert harness.machine.applied == []
    harness.machine.gate.set()
    harness.wait_until(4)
    first.join(WAIT_S)
    assert [index for index, _ in harness.machine.applied] == [1, 2, 3, 4]


def test_many_threads_apply_each_entry_once_and_in_order() -> None:
    harness = Harness(4000)
    harness.machine.slow = set(range(7, 4000, 97))
    lock = threading.Lock()
    commits = iter(range(1, 4001))

    def work() -> None:
        while True:
            with lock:
                index = next(commits, None)
                if index is None:
                    return
                harness.applier.advance(LogIndex(index))
            harness.applier.catch_up()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    harness.wait_until(4000)
    harness.applier.stop()
    harness.thread.join(WAIT_S)
    assert [index for index, _ in harness.machine.applied] == list(range(1, 4001))
    assert [index for index, _ in harness.outcomes] == list(range(1, 4001))


def test_a_failure_stops_the_replica_and_nothing_is_applied_behind_it(harness) -> None:
    harness.machine.fails_at = 2
    harness.commit(3)
    harness.commit(3)
    assert [str(error) for error in harness.failures] == ["the disk is gone"]
    assert [index for index, _ in harness.machine.applied] == [1]


def test_a_thread_that_could_not_be_started_is_tried_again() -> None:
    """A machine that is out of threads for a moment must not stop a group for good."""
    machine = Machine()
    machine.slow = {1, 2}
    started: list[threading.Thread] = []

    def spawn(run):
        if not started:
            started.append(threading.Thread(target=run))
            raise RuntimeError("can't start new thread")
        started.append(threading.Thread(target=run))
        started[-1].start()

    applier = Applier(Log(2), machine, lambda *_: None, lambda _: None, spawn)
    applier.advance(LogIndex(1))
    applier.catch_up()
    applier.advance(LogIndex(2))
    applier.catch_up()
    applier.stop()
    started[-1].join(WAIT_S)
    assert len(started) == 2


def test_what_was_committed_during_a_pause_that_failed_is_applied() -> None:
    machine = Machine()
    applier = Applier(Log(2), machine, lambda *_: None, lambda _: None, pytest.fail)

    def fail() -> None:
        with applier.paused():
            applier.advance(LogIndex(2))
            applier.catch_up()
            assert not machine.applied
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert [index for index, _ in machine.applied] == [1, 2]
