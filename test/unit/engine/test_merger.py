from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from iotdb_engine.errors import Closed, EngineError
from iotdb_engine.merger import Merger


class FakeRegion:
    """Records its runs; each may be held back and fails as it is told."""

    def __init__(self, region_id: int, error: Exception | None = None) -> None:
        self.id = region_id
        self.error = error
        self.runs: list[bool] = []
        self.began = threading.Event()
        self.go_on = threading.Event()

    def compact(self, *, full: bool, pace: Callable[[float], None]) -> None:
        del pace
        self.runs.append(full)
        self.began.set()
        assert self.go_on.wait(20)
        if self.error is not None:
            raise self.error


@pytest.fixture
def merger() -> Iterator[Merger]:
    merger = Merger(1.0, lambda: 0)
    yield merger
    merger.close()


def request(merger: Merger, region: Any, full: bool = False) -> Callable[[], None]:
    return merger.request(region, full=full)


@pytest.mark.parametrize("error", [EngineError("checksum"), RuntimeError("checksum")])
def test_a_failure_reaches_whoever_waits_though_the_region_was_requested_twice(
    merger: Merger, error: Exception
) -> None:
    first, region = FakeRegion(1), FakeRegion(2, error)
    region.go_on.set()
    request(merger, first)
    assert first.began.wait(20)
    # both are taken by the thread at once, and the second is asked for again meanwhile
    other = FakeRegion(3)
    request(merger, other)
    request(merger, region)
    first.go_on.set()
    assert other.began.wait(20)
    wait = request(merger, region, full=True)
    other.go_on.set()
    with pytest.raises(EngineError, match="checksum"):
        wait()
    merger.close()
    assert region.runs == [True]
    assert "checksum" in str(merger.state().failure)


def test_closing_tells_whoever_waits(merger: Merger) -> None:
    running, waiting = FakeRegion(1), FakeRegion(2)
    waits = [request(merger, running)]
    assert running.began.wait(20)
    waits.append(request(merger, waiting))
    merger.stop()
    running.go_on.set()
    merger.close()
    waits.append(request(merger, waiting))
    for wait in waits:
        with pytest.raises(Closed):
            wait()
    assert waiting.runs == []
