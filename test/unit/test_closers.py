"""Closing goes on whatever one of the closers does."""

from __future__ import annotations

import pytest

from cluster.closers import Closers, close_engine
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine
from iotdb_engine.errors import OutOfSpace


@pytest.mark.parametrize("after_failure", [False, True])
def test_an_error_keeps_none_of_the_others_from_being_closed(
    caplog: pytest.LogCaptureFixture, after_failure: bool
) -> None:
    closers = Closers()
    closed = []
    closers.add(lambda: closed.append("first"))

    def fail() -> None:
        raise OSError("full")

    closers.add(fail)
    closers.add(lambda: closed.append("last"))
    closers.close(ThreadRegistry(), after_failure=after_failure)
    closers.close(ThreadRegistry())
    assert closed == ["last", "first"]
    [told] = caplog.records
    # where a disk is full, that it is full is no news
    assert (told.exc_info is None) == after_failure
    assert "full" in told.getMessage() or told.exc_info is not None


def test_an_engine_that_can_not_store_its_memory_is_closed_with_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full at a clean stop is no fault of the program, and nothing is lost."""
    engine = Engine(":memory:")
    region = engine.region(1)

    def full() -> None:
        raise OutOfSpace("/data/engine: No space left on device")

    monkeypatch.setattr(engine._store, "flush", full)
    region.put({b"a": b"1"}, 1)
    close_engine(engine)
    assert region.is_closed
    told = caplog.records[-1]
    assert told.exc_info is None
    assert "No space left on device" in told.getMessage()
    assert "from the log" in told.getMessage()
