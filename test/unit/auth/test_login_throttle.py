from __future__ import annotations

import tracemalloc

import pytest

from cluster.auth.login_throttle import FREE_MISTAKES, MAX_WAIT_S, LoginThrottle


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def throttle(clock):
    return LoginThrottle(clock)


def test_the_first_mistakes_are_free(throttle):
    for _ in range(FREE_MISTAKES):
        assert throttle.wait_s("host", "root") == 0
        throttle.wrong("host", "root")
    assert throttle.wait_s("host", "root") == 0


def test_waits_grow_and_end(throttle, clock):
    waits = []
    for _ in range(12):
        wait = throttle.wait_s("host", "root")
        waits.append(wait)
        clock.now += wait
        throttle.wrong("host", "root")
    assert waits[:6] == [0, 0, 0, 0.25, 0.5, 1.0]
    assert waits[-1] == MAX_WAIT_S
    clock.now += 301
    assert throttle.wait_s("host", "root") == 0


def test_a_client_that_goes_on_for_hours_with_a_wrong_password_locks_nobody_out(throttle, clock):
    """After an hour the waits were numbers that a float can't hold, and every login an error."""
    for _ in range(2000):
        wait = throttle.wait_s("host", "root")
        clock.now += wait
        throttle.wrong("host", "root")
    assert throttle.wait_s("host", "root") == MAX_WAIT_S
    throttle.right("host", "root")
    assert throttle.wait_s("host", "root") == 0


def test_a_right_password_ends_it(throttle):
    for _ in range(5):
        throttle.wrong("host", "root")
    throttle.right("host", "root")
    assert throttle.wait_s("host", "root") == 0


def test_attempts_at_the_same_time_wait_one_after_the_other(throttle):
    for _ in range(5):
        throttle.wrong("host", "root")
    waits = [throttle.wait_s("host", "root") for _ in range(10)]
    known = [wait for wait in waits if wait is not None]
    assert known == sorted(known)
    assert known[:3] == [1.0, 2.0, 3.0]
    assert waits[-1] is None
    assert max(known) <= 2 * MAX_WAIT_S


def test_others_do_not_wait(throttle):
    for _ in range(9):
        throttle.wrong("host", "root")
    assert throttle.wait_s("host", "alice") == 0
    assert throttle.wait_s("other", "root") == 0


def test_what_is_known_is_bounded(throttle):
    for number in range(10_050):
        throttle.wrong("host", f"user{number}")
    assert len(throttle._records) == 10_000


def test_names_of_any_length_take_little_memory(throttle):
    tracemalloc.start()
    try:
        for i in range(50):
            throttle.wrong("host", f"{i}" + "u" * 1_000_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def test_mistakes_for_a_long_name_count(throttle):
    name = "u" * 1000
    for _ in range(5):
        throttle.wrong("host", name)
    assert throttle.wait_s("host", name) == 1.0
    throttle.right("host", name)
    assert throttle.wait_s("host", name) == 0
