"""Couriers: what one peer or one moment spoils must not keep other groups' appends from leaving."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.member.courier import Courier, Couriers, Sender
from cluster.raft.effects import SendAppend
from cluster.raft.messages import AppendRequest, AppendResponse
from cluster.raft.types import GroupId, LogIndex, NodeId, Term
from cluster.rpc.convert_raft import append_response_to_wire

WAIT_S = 20.0
ME, PEER = NodeId(1), NodeId(2)


class Channel:
    """Acknowledges everything, once `gate` is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.calls: queue.SimpleQueue[list[int]] = queue.SimpleQueue()

    def call(self, method: str, wires: Any, *, timeout_s: float) -> Any:
        assert method == "appendEntriesOfGroups"
        self.calls.put([wire.groupId for wire in wires])
        assert self.gate.wait(WAIT_S)
        return [
            append_response_to_wire(
                AppendResponse(PEER, ME, Term(1), True, LogIndex(wire.prevIndex), LogIndex(0))
            )
            for wire in wires
        ]

    def close(self) -> None:
        self.gate.set()


class Builder:
    """Makes a request without entries of any order."""

    def build(self, order: SendAppend) -> tuple[AppendRequest, None]:
        return AppendRequest(
            ME, order.to, order.term, order.prev_index, order.prev_term, (), order.commit
        ), None


def order(index: int = 0) -> SendAppend:
    at = LogIndex(index)
    return SendAppend(PEER, Term(1), at, Term(1), LogIndex(at + 1), LogIndex(at + 1), at, at)


def sender(group: int, answered: Any, unreachable: Any = lambda _: None) -> Sender:
    return Sender(GroupId(group), ME, Builder(), answered, unreachable, pytest.fail)  # type: ignore[arg-type]


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def courier(channel: Channel) -> Iterator[Courier]:
    made = Courier(PEER, channel, 1.0)  # type: ignore[arg-type]
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_what_waits_meanwhile_goes_in_one_call(courier: Courier, channel: Channel) -> None:
    answers: queue.SimpleQueue[int] = queue.SimpleQueue()
    channel.gate.clear()
    for group in (1, 2, 3):
        assert courier.offer(sender(group, lambda _, g=group: answers.put(g)), order())
        if group == 1:
            assert channel.calls.get(timeout=WAIT_S) == [1]
    # a group that has one under way is not served
    assert not courier.offer(sender(1, answers.put), order(1))
    assert not courier.offer(sender(2, answers.put), order(1))
    channel.gate.set()
    assert channel.calls.get(timeout=WAIT_S) == [2, 3]
    assert [answers.get(timeout=WAIT_S) for _ in range(3)] == [1, 2, 3]


def test_an_answer_that_makes_no_sense_costs_its_own_group_only(
    courier: Courier, channel: Channel
) -> None:
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def refuse(_: AppendResponse) -> None:
        raise ValueError("node 2 acknowledges 9, last is 5")

    channel.gate.clear()
    courier.offer(sender(9, lambda _: answers.put("first")), order())
    channel.calls.get(timeout=WAIT_S)
    courier.offer(sender(1, refuse, lambda _: answers.put("1 unreachable")), order())
    courier.offer(sender(2, lambda _: answers.put("2 answered")), order())
    channel.gate.set()
    found = [answers.get(timeout=WAIT_S) for _ in range(3)]
    assert found == ["first", "1 unreachable", "2 answered"]
    # and it goes on
    assert courier.offer(sender(1, lambda _: answers.put("1 answered")), order())
    assert answers.get(timeout=WAIT_S) == "1 answered"


def test_a_thread_that_could_not_be_started_is_tried_again(channel: Channel) -> None:
    threads: list[threading.Thread] = []
    failures = [RuntimeError("can't start new thread")]

    def spawn(name: str, run: Any) -> None:
        if failures:
            raise failures.pop()
        threads.append(threading.Thread(target=run, name=name))
        threads[-1].start()

    answered = threading.Event()
    couriers = Couriers(lambda _: channel, 1.0, spawn)  # type: ignore[arg-type, return-value]
    assert not couriers.offer(sender(1, lambda _: answered.set()), order())
    assert couriers.offer(sender(1, lambda _: answered.set()), order())
    assert answered.wait(WAIT_S)
    couriers.stop()
    threads[0].join(WAIT_S)
    assert not threads[0].is_alive()
