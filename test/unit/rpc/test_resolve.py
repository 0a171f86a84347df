"""Names are looked up anew for each connection, and nobody waits long for a name server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.rpc.resolve import Resolver
from harness.joining import join_all

WHERE = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 7))]
ELSEWHERE = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.2", 7))]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], list[str]]]:
    """Set what name servers answer: addresses, an error, or an event to wait for; what is asked."""
    asked: list[str] = []
    now: list[Any] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, **hints: Any) -> Any:
        if hints.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, port, **hints)
        asked.append(host)
        [it] = now
        if isinstance(it, threading.Event):
            it.wait(30)
            return ELSEWHERE
        if isinstance(it, Exception):
            raise it
        return it

    def become(it: Any) -> list[str]:
        now[:] = [it]
        return asked

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield become
    for it in now:
        if isinstance(it, threading.Event):
            it.set()


def test_an_address_is_not_looked_up(answer: Callable[[Any], list[str]]) -> None:
    asked = answer(OSError("nobody is to be asked"))
    assert Resolver().addresses("127.0.0.1", 7, 1.0)[0][4] == ("127.0.0.1", 7)
    assert Resolver().addresses("::1", 7, 1.0)[0][4][:2] == ("::1", 7)
    assert not asked


def test_a_name_is_looked_up_each_time(answer: Callable[[Any], list[str]]) -> None:
    resolver = Resolver(max_wait_s=30.0)
    answer(WHERE)
    assert resolver.addresses("node", 7, 60.0) == WHERE
    answer(ELSEWHERE)
    assert resolver.addresses("node", 7, 60.0) == ELSEWHERE


def test_while_no_name_server_answers_the_last_address_is_used(
    answer: Callable[[Any], list[str]],
) -> None:
    resolver = Resolver(max_wait_s=30.0)
    answer(WHERE)
    resolver.addresses("node", 7, 60.0)
    silent = threading.Event()
    asked = answer(silent)
    for _ in range(3):
        assert resolver.addresses("node", 7, 0.02) == WHERE
    with pytest.raises(TimeoutError, match="unknown: no name server answers"):
        resolver.addresses("unknown", 7, 0.02)
    assert asked == ["node", "node", "unknown"]  # one question at a time
    silent.set()
    join_all(*(t for t in threading.enumerate() if t.name.startswith("resolve-")))
    answer(socket.gaierror(socket.EAI_AGAIN, "try again"))
    assert resolver.addresses("node", 7, 60.0) == ELSEWHERE  # the late answer counts


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "not known"), UnicodeError("label too long"), []]
)
def test_a_name_that_is_gone_is_not_taken_for_the_last_address(
    answer: Callable[[Any], list[str]], error: Any
) -> None:
    resolver = Resolver(max_wait_s=30.0)
    answer(WHERE)
    resolver.addresses("node", 7, 60.0)
    answer(error)
    with pytest.raises(OSError, match=r"not known|is no name|has no address"):
        resolver.addresses("node", 7, 60.0)
