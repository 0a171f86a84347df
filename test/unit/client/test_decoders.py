"""Jobs of a result that is being read: all are done, by whoever has time, and errors are told."""

from __future__ import annotations

import threading

import pytest

from iotdb_client.decoders import Decoders


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_all_jobs_are_done_when_it_is_settled(threads: int) -> None:
    done: list[int] = []
    with Decoders(threads) as decoders:
        for first in (0, 100):
            for number in range(first, first + 100):
                decoders.submit(done.append, number)
            decoders.settle()
            assert sorted(done) == list(range(first + 100))
        decoders.settle()


def test_who_settles_helps_and_waits_for_what_others_do() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done_by: list[str] = []

    def held() -> None:
        begun.set()
        assert go_on.wait(60)
        done_by.append(threading.current_thread().name)

    def other() -> None:
        done_by.append(threading.current_thread().name)
        go_on.set()

    with Decoders(1) as decoders:
        decoders.submit(held)
        assert begun.wait(60)
        decoders.submit(other)
        decoders.settle()
    assert done_by == [threading.current_thread().name, "decode"]


def test_the_first_error_is_raised_once() -> None:
    def fail(text: str) -> None:
        raise ValueError(text)

    with Decoders(0) as decoders:
        decoders.submit(fail, "first")
        decoders.submit(fail, "second")
        with pytest.raises(ValueError, match="first"):
            decoders.settle()
        decoders.settle()
        done: list[int] = []
        decoders.submit(done.append, 1)
        decoders.settle()
        assert done == [1]


def test_what_was_not_begun_is_left_out_at_the_end() -> None:
    done: list[int] = []
    decoders = Decoders(0)
    with decoders:
        decoders.submit(done.append, 1)
    decoders.settle()
    assert done == []


def test_where_no_thread_can_be_started_the_caller_does_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: list[int] = []
    monkeypatch.setattr(threading.Thread, "start", no_more)
    with Decoders(2) as decoders:
        decoders.submit(done.append, 1)
        decoders.settle()
    assert done == [1]
