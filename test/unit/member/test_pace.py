"""A transfer leaves the node's other work the part of a core that it uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.member.pace import BackgroundCpu, Pace

PIECE_S = 0.004
PIECE = 1 << 20


class Clocks:
    def __init__(self) -> None:
        self.now = self.all_cpu = self.own_cpu = self.background = 0.0

    def pace(self, rate: int = 0, cores: int = 2) -> Pace:
        return Pace(
            rate,
            lambda: self.now,
            lambda: self.all_cpu,
            lambda: self.own_cpu,
            lambda: self.background,
            cores,
            window_s=0.0,
        )

    def work(
        self, own: float, others: float, took: float = PIECE_S, background: float = 0.0
    ) -> None:
        self.now += took
        self.own_cpu += own
        self.background += background
        self.all_cpu += own + others + background


@pytest.mark.parametrize(
    ("others", "share"),
    [(0.0, 1.0), (0.1, 0.9), (0.5, 0.5), (0.85, 0.15), (1.0, 0.15), (1.8, 0.15)],
)
def test_the_busier_the_others_the_longer_the_rest(others: float, share: float) -> None:
    clocks = Clocks()
    pace = clocks.pace()
    own = 0.0
    for _ in range(10):
        clocks.work(PIECE_S, others * PIECE_S)
        own += PIECE_S
        rest = pace.rest_s(PIECE)
        clocks.work(0.0, others * rest, took=rest)
        pace.rested()
    assert own / clocks.now == pytest.approx(share)


@pytest.mark.parametrize(("cores", "share"), [(1, 0.15), (2, 0.15), (3, 0.8), (8, 0.8)])
def test_merges_count_only_where_they_leave_no_core(cores: int, share: float) -> None:
    clocks = Clocks()
    pace = clocks.pace(cores=cores)
    clocks.work(PIECE_S, 0.2 * PIECE_S, background=PIECE_S)
    assert pace.rest_s(PIECE) == pytest.approx(PIECE_S / share - PIECE_S)


def test_waiting_for_the_network_is_rest_enough() -> None:
    clocks = Clocks()
    pace = clocks.pace()
    clocks.work(0.001, 0.005, took=0.01)
    assert pace.rest_s(PIECE) == 0
    pace.rested()
    clocks.work(0.008, 0.005, took=0.01)
    assert pace.rest_s(PIECE) == pytest.approx(0.006)


def test_a_rate_is_an_upper_bound() -> None:
    clocks = Clocks()
    pace = clocks.pace(rate=100 * PIECE)
    for number in range(1, 11):
        clocks.work(PIECE_S, 0)
        clocks.now += pace.rest_s(PIECE)
        pace.rested()
        assert clocks.now == pytest.approx(number / 100)
    clocks.work(0.5, 0.5, took=0.5)  # too late for the rate; the rest is for the others
    assert pace.rest_s(PIECE) == pytest.approx(0.5 / 0.15 - 0.5)


@contextmanager
def spinning(name: str) -> Iterator[threading.Thread]:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin, name=name)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="accounts of Linux")
def test_what_the_engines_threads_take_is_known_and_that_of_others_is_not() -> None:
    with spinning("serve-1"):
        background = BackgroundCpu()
        background.seconds()
        used = time.process_time() + 0.05
        while time.process_time() < used:
            sum(range(1000))
        assert background.seconds() == 0
    with spinning("engine-compaction"):
        background = BackgroundCpu()
        first = background.seconds()
        end = time.monotonic() + 30
        while background.seconds() < first + 0.02:
            assert time.monotonic() < end
            time.sleep(0.001)
    last = background.seconds()  # of a thread that has ended
    assert last == background.seconds() >= first + 0.02


def test_threads_of_rocksdb_are_found_by_the_name_that_they_gave_themselves(
    tmp_path: Path,
) -> None:
    for task, name in ((7, "rocksdb:low"), (8, "python")):
        (tmp_path / str(task)).mkdir()
        (tmp_path / str(task) / "comm").write_text(f"{name}\n")
        (tmp_path / str(task) / "schedstat").write_text("5000000000 1 1\n")
    background = BackgroundCpu(tmp_path)
    assert background.seconds() == 0  # what was before is not of now
    for task in (7, 8):
        (tmp_path / str(task) / "schedstat").write_text("6500000000 2 2\n")
    assert background.seconds() == 1.5
    (tmp_path / "7" / "schedstat").unlink()
    assert background.seconds() == 1.5


def test_without_such_accounts_all_threads_count(tmp_path: Path) -> None:
    assert BackgroundCpu(tmp_path / "nothing").seconds() == 0
