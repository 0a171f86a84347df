"""ThreadRegistry: who is running, also where a thread could not be started."""

from __future__ import annotations

import threading

import pytest

from cluster.threads import ThreadRegistry


def test_a_thread_is_known_until_its_end() -> None:
    registry = ThreadRegistry()
    go = threading.Event()
    thread = registry.spawn("job-1", lambda: go.wait(20) and None)
    assert (thread.name, thread.daemon, registry.names()) == ("job-1", True, ["job-1"])
    assert registry.join_all(0.0) == ["job-1"]
    go.set()
    assert registry.join_all(20.0) == []
    assert registry.names() == []


def test_one_that_could_not_be_started_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = ThreadRegistry()

    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(RuntimeError, match="can't start"):
        registry.spawn("job-1", lambda: None)
    assert registry.names() == []
    assert registry.join_all(0.0) == []
