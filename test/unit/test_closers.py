"""Closing goes on whatever one of the closers does."""

from __future__ import annotations

import pytest

from cluster.closers import Closers
from cluster.threads import ThreadRegistry


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
