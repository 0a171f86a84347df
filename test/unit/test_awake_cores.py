"""Cores that must not halt while requests come in a stream."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cluster.awake_cores import AwakeCores, awake_cores

WAIT_S = 20.0


class Machine:
    """Counts what the test says; its file of requests is an ordinary one."""

    def __init__(self, requests: Path):
        self.requests = requests
        self.wakes = 1000
        self.now = 50.0
        self.cores = AwakeCores(requests, lambda: self.wakes, lambda: self.now)

    def pass_time(self, seconds, wakes):
        self.now += seconds
        self.wakes += wakes
        return self.cores.look()

    @property
    def open_requests(self):
        opened = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                opened.append(os.readlink(f"/proc/self/fd/{fd}"))
            except FileNotFoundError:  # of the look itself
                continue
        return opened.count(str(self.requests))


@pytest.fixture
def machine(tmp_path):
    requests = tmp_path / "latency"
    requests.touch()
    made = Machine(requests)
    yield made
    made.cores.stop()
    made.cores.run()
    assert made.open_requests == 0


def test_a_stream_keeps_them_awake_and_its_end_lets_them_halt(machine):
    assert machine.pass_time(0.25, wakes=30)
    assert not machine.cores.holds
    assert machine.requests.read_bytes() == b""
    assert machine.pass_time(0.25, wakes=900)
    assert machine.cores.holds
    assert machine.requests.read_bytes() == bytes(4), "no microsecond to wake"
    assert machine.pass_time(0.25, wakes=900)
    assert machine.open_requests == 1
    assert machine.pass_time(0.25, wakes=30)
    assert not machine.cores.holds
    assert machine.open_requests == 0
    assert machine.pass_time(0.25, wakes=900)
    assert machine.cores.holds


def test_it_is_the_rate_that_counts(machine):
    assert machine.pass_time(10, wakes=900)
    assert not machine.cores.holds, "a look that came late"
    assert machine.pass_time(0.1, wakes=60)
    assert machine.cores.holds


def test_the_thread_lets_go_at_its_end(machine):
    machine.pass_time(0.25, wakes=900)
    thread = threading.Thread(target=machine.cores.run)
    thread.start()
    machine.cores.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert not machine.cores.holds


def test_where_the_system_refuses_it_is_asked_once(machine, caplog):
    caplog.set_level("INFO")
    machine.requests.unlink()
    assert machine.pass_time(0.25, wakes=30)
    assert not machine.pass_time(0.25, wakes=900)
    assert not machine.cores.holds
    assert len(caplog.records) == 1
    machine.wakes += 10**9
    machine.cores.run()
    assert len(caplog.records) == 2, "and then the thread has ended"


def test_a_write_that_is_refused_leaves_nothing_open(tmp_path):
    made = Machine(Path("/dev/full"))
    assert not made.pass_time(0.25, wakes=900)
    assert not made.cores.holds
    assert made.open_requests == 0


@pytest.mark.parametrize(
    ("wanted", "driver", "cores", "is_wanted"),
    [
        ("auto", "haltpoll\n", 2, True),
        ("auto", "haltpoll\n", 64, False),
        ("auto", "intel_idle\n", 2, False),
        ("auto", None, 2, False),
        ("always", "intel_idle\n", 64, True),
        ("always", None, 2, True),
        ("never", "haltpoll\n", 2, False),
    ],
)
def test_by_itself_only_on_a_small_virtual_machine(tmp_path, wanted, driver, cores, is_wanted):
    path = tmp_path / "current_driver"
    if driver is not None:
        path.write_text(driver)
    assert (awake_cores(wanted, path, cores) is not None) is is_wanted


def test_wakes_are_counted_without_any_request_counting_itself(tmp_path):
    cores = awake_cores("always", tmp_path)
    before = cores._get_wakes()
    bell, answer = threading.Semaphore(0), threading.Semaphore(0)

    def serve():
        for _ in range(50):
            bell.acquire()
            answer.release()

    thread = threading.Thread(target=serve)
    thread.start()
    for _ in range(50):
        bell.release()
        answer.acquire()
    thread.join(WAIT_S)
    assert cores._get_wakes() > before
