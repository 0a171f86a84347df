"""A dispatcher: what waits goes in one request, as far as it belongs together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.log.errors import LogCorrupt, LogTruncated
from cluster.member import order_builder
from cluster.member.dispatcher import Dispatcher
from cluster.raft.effects import SendAppend
from cluster.raft.messages import AppendResponse
from cluster.raft.types import Entry, EntryKind, LogIndex, NodeId, Term
from cluster.rpc.client_pool import RpcError
from cluster.rpc.convert_raft import append_response_to_wire

WAIT_S = 20.0
ME, PEER = NodeId(1), NodeId(2)
PAYLOAD = b"x" * 100


class Log:
    """Entries 1 to 100 of term 1."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        if self.error is not None:
            raise self.error
        count = max(1, min(hi - lo, max_bytes // len(PAYLOAD)))
        return [
            Entry(LogIndex(index), Term(1), EntryKind.PLAN, PAYLOAD)
            for index in range(lo, lo + count)
        ]


class Channel:
    """Tells (prev, entries, commit) of each request; acknowledges while nothing else is said."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.calls: queue.SimpleQueue[tuple[int, int, int]] = queue.SimpleQueue()
        self.error: RpcError | None = None

    def call(self, method: str, wire: Any, *, timeout_s: float) -> Any:
        assert method == "appendEntries"
        self.calls.put((wire.prevIndex, len(wire.entries), wire.commit))
        assert self.gate.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        match = LogIndex(wire.prevIndex + len(wire.entries))
        return append_response_to_wire(
            AppendResponse(PEER, ME, Term(wire.term), True, match, LogIndex(0))
        )

    def close(self) -> None:
        self.gate.set()


class Harness:
    def __init__(self) -> None:
        self.log = Log()
        self.channel = Channel()
        self.term = Term(1)
        self.answers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.unreachable: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        self.on_response: Callable[[AppendResponse], None] = lambda response: self.answers.put(
            response.match_index
        )
        self.dispatcher = Dispatcher(
            group_id=1,
            node_id=ME,
            peer=PEER,
            log=self.log,  # type: ignore[arg-type]
            channel=self.channel,  # type: ignore[arg-type]
            call_timeout_s=1.0,
            current_term=lambda: self.term,
            on_response=lambda response: self.on_response(response),
            on_unreachable=self.unreachable.put,
            on_failure=self.failures.put,
        )
        self.thread = threading.Thread(target=self.dispatcher.run)
        self.thread.start()

    def offer(self, lo: int, hi: int, *, term: int = 1, commit: int = 0) -> None:
        at = LogIndex(lo - 1)
        self.dispatcher.offer(
            SendAppend(
                PEER, Term(term), at, Term(1), LogIndex(lo), LogIndex(hi), LogIndex(commit), at
            )
        )

    def call(self) -> tuple[int, int, int]:
        return self.channel.calls.get(timeout=WAIT_S)

    def hold(self) -> None:
        """Let a request be under way, behind which others gather."""
        self.channel.gate.clear()
        self.offer(1, 2)
        assert self.call() == (0, 1, 0)

    def answer(self) -> int:
        return self.answers.get(timeout=WAIT_S)


@pytest.fixture
def harness() -> Iterator[Harness]:
    made = Harness()
    yield made
    made.dispatcher.stop()
    made.thread.join(WAIT_S)
    assert not made.thread.is_alive()


def test_orders_that_continue_one_another_go_together(harness: Harness) -> None:
    harness.hold()
    harness.offer(2, 4, commit=1)
    harness.offer(4, 4, commit=2)
    harness.offer(4, 7, commit=3)
    harness.channel.gate.set()
    assert harness.call() == (1, 5, 3)
    assert [harness.answer(), harness.answer()] == [1, 6]


def test_a_gap_a_step_back_and_another_term_begin_a_request_of_their_own(harness: Harness) -> None:
    harness.hold()
    harness.offer(5, 6)
    harness.offer(8, 9)  # an order between was dropped
    harness.offer(3, 4)  # the core asks anew further back
    harness.channel.gate.set()
    assert [harness.call() for _ in range(3)] == [(4, 1, 0), (7, 1, 0), (2, 1, 0)]
    assert [harness.answer() for _ in range(4)] == [1, 5, 8, 3]


def test_what_does_not_fit_follows(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_builder, "MAX_BATCH_BYTES", 3 * len(PAYLOAD))
    harness.offer(1, 8, commit=5)
    assert [harness.call() for _ in range(3)] == [(0, 3, 5), (3, 3, 5), (6, 1, 5)]
    assert [harness.answer() for _ in range(3)] == [3, 6, 7]


def test_orders_of_another_term_or_of_what_is_gone_are_history(harness: Harness) -> None:
    harness.hold()
    harness.term = Term(2)
    harness.offer(2, 3)
    harness.channel.gate.set()
    assert harness.answer() == 1
    harness.log.error = LogTruncated(1, 2, 3, 10, 20)
    harness.offer(2, 3, term=2)
    harness.offer(9, 9, term=2)  # one without entries is told all the same
    assert harness.call() == (8, 0, 0)
    assert harness.answer() == 8


def test_a_call_without_an_answer_drops_what_waits(harness: Harness) -> None:
    harness.hold()
    harness.offer(2, 3)
    harness.channel.error = RpcError("no answer", definitely_not_sent=False)
    harness.channel.gate.set()
    assert harness.unreachable.get(timeout=WAIT_S) == PEER
    harness.channel.error = None
    harness.offer(4, 5)
    assert harness.call() == (3, 1, 0)
    assert harness.answer() == 4


def test_an_answer_that_makes_no_sense_is_like_none(harness: Harness) -> None:
    def refuse(_: AppendResponse) -> None:
        raise ValueError("it acknowledges what was never sent")

    harness.on_response = refuse
    harness.offer(1, 2)
    assert harness.unreachable.get(timeout=WAIT_S) == PEER
    harness.on_response = lambda response: harness.answers.put(response.match_index)
    harness.offer(1, 2)
    assert harness.answer() == 1


@pytest.mark.parametrize("error", [LogCorrupt(Path("x"), 0, "bad"), OSError()])
def test_a_log_that_can_not_be_read_ends_it(harness: Harness, error: Exception) -> None:
    harness.log.error = error
    harness.offer(1, 2)
    assert harness.failures.get(timeout=WAIT_S) is error
    harness.thread.join(WAIT_S)
    assert not harness.thread.is_alive()
