"""The loop's stream to another node: many calls under way, answers in any order, loss of it all."""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from thrift.Thrift import TApplicationException, TMessageType

from cluster.member.courier import Sender
from cluster.member.proposals import Notice
from cluster.member.stream import PeerStream
from cluster.raft.effects import SendAppend
from cluster.raft.messages import AppendRequest, AppendResponse
from cluster.raft.types import GroupId, LogIndex, NodeId, Term
from cluster.rpc.calls import CallCodec
from cluster.rpc.client_pool import RpcError
from cluster.rpc.convert_raft import append_response_to_wire
from cluster.rpc.framing import BinaryOutput, output_like
from cluster.rpc.gen.cluster import RaftService
from cluster.rpc.gen.cluster.ttypes import ExecuteRequest, ExecuteResponse
from cluster.rpc.loop import FrameLoop

WAIT_S = 20.0
ME, PEER = NodeId(1), NodeId(2)


class Builder:
    """Makes a request without entries of any order; tells what it was asked for."""

    def __init__(self) -> None:
        self.orders: list[SendAppend] = []

    def build(self, order: SendAppend) -> tuple[AppendRequest, None]:
        self.orders.append(order)
        return AppendRequest(
            ME, order.to, order.term, order.prev_index, order.prev_term, (), order.commit
        ), None


class Group:
    """A group with something to send."""

    def __init__(self, number: int) -> None:
        self.builder = Builder()
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.sender = Sender(
            GroupId(number),
            ME,
            self.builder,  # type: ignore[arg-type]
            self.news.put,
            lambda _peer: self.news.put("unreachable"),
            pytest.fail,  # type: ignore[arg-type]
        )

    def heard(self) -> Any:
        return self.news.get(timeout=WAIT_S)


def order(lo: int, hi: int, commit: int = 0) -> SendAppend:
    at = LogIndex(lo - 1)
    return SendAppend(
        PEER, Term(1), at, Term(1), LogIndex(lo), LogIndex(hi), LogIndex(commit), LogIndex(0)
    )


class Peer:
    """The other end of the stream, in the test's hands."""

    def __init__(self) -> None:
        self.loop = FrameLoop()
        self.codec = CallCodec(RaftService, ("appendEntries", "executeNonQueryPlan"))
        self.ours, self.theirs = socket.socketpair()
        self.ours.settimeout(WAIT_S)
        self.is_reachable = True
        self.connects = 0
        self.stream = PeerStream(PEER, self.loop, self._connect, self._spawn, 1000.0)
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def _connect(self) -> socket.socket:
        self.connects += 1
        if not self.is_reachable:
            raise RpcError("where is it?", definitely_not_sent=True)
        return self.theirs

    def _spawn(self, run: Callable[[], None]) -> None:
        run()

    def open(self, group: Group) -> None:
        """The first order is not taken: it has the connection made."""
        assert not self.stream.offer(group.sender, order(1, 1))
        self.in_loop(lambda: None)

    def in_loop(self, work: Callable[[], Any]) -> Any:
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        assert self.loop.call(lambda: done.put(work()))
        return done.get(timeout=WAIT_S)

    def receive(self) -> tuple[str, int, Any]:
        (size,) = struct.unpack(">I", self._exactly(4))
        return self.codec.read_request(self._exactly(size))

    def send(self, parts: list[bytes]) -> None:
        self.ours.sendall(struct.pack(">I", sum(map(len, parts))) + b"".join(parts))

    def acknowledge(self, number: int, index: int) -> None:
        response = AppendResponse(PEER, ME, Term(1), True, LogIndex(index), LogIndex(0))
        self.send(self.codec.answer("appendEntries", number, append_response_to_wire(response)))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.ours.recv(size - len(data))
            assert chunk
            data += chunk
        return data

    def stop(self) -> None:
        self.loop.call(self.stream.stop)
        self.loop.stop()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


def execute(peer: Peer, group: int) -> tuple[Notice, int, threading.Event]:
    told = threading.Event()
    notice = Notice(lambda _: told.set())
    request = ExecuteRequest(groupId=group, plan=b"plan", timeoutMs=1000)
    number = peer.in_loop(lambda: peer.stream.execute(request, notice))
    return notice, number, told


def test_calls_do_not_wait_for_one_another_and_answers_come_in_any_order(peer: Peer) -> None:
    one, two = Group(1), Group(2)
    peer.open(one)
    assert peer.stream.offer(one.sender, order(1, 2))
    _, first, request = peer.receive()
    assert request.groupId == 1
    assert peer.stream.offer(two.sender, order(5, 6))
    notice, number, told = execute(peer, 3)
    _, second, request = peer.receive()
    assert request.groupId == 2
    method, third, request = peer.receive()
    assert (method, third, request.groupId) == ("executeNonQueryPlan", number, 3)
    peer.send(
        peer.codec.answer("executeNonQueryPlan", third, ExecuteResponse(status=200, definite=True))
    )
    assert told.wait(WAIT_S)
    assert notice.result().status == 200
    peer.acknowledge(second, 5)
    assert two.heard().match_index == 5
    peer.acknowledge(first, 1)
    assert one.heard().match_index == 1


def test_orders_that_continue_one_another_go_in_one_call(peer: Peer) -> None:
    one, two = Group(1), Group(2)
    peer.open(one)

    def offer() -> None:
        assert peer.stream.offer(one.sender, order(1, 2))
        assert peer.stream.offer(two.sender, order(1, 2))
        assert peer.stream.offer(one.sender, order(2, 5, commit=1))
        assert peer.stream.offer(one.sender, order(7, 8))

    peer.in_loop(offer)
    assert [peer.receive()[2].groupId for _ in range(3)] == [1, 2, 1]
    assert one.builder.orders == [order(1, 5, commit=1), order(7, 8)]


def test_an_answer_that_makes_no_sense_costs_its_own_group_only(peer: Peer) -> None:
    one, two = Group(1), Group(2)

    def refuse(_: AppendResponse) -> None:
        raise ValueError("node 2 acknowledges 9, last is 5")

    peer.open(one)
    peer.stream.offer(one.sender._replace(on_response=refuse), order(1, 2))
    peer.stream.offer(two.sender, order(1, 2))
    for _ in range(2):
        peer.acknowledge(peer.receive()[1], 9)
    assert one.heard() == "unreachable"
    assert two.heard().match_index == 9


def test_when_the_connection_ends_everybody_learns_that_no_answer_comes(peer: Peer) -> None:
    one, two = Group(1), Group(2)
    peer.open(one)
    peer.stream.offer(one.sender, order(1, 2))
    notice, _, told = execute(peer, 3)
    peer.receive()
    peer.ours.shutdown(socket.SHUT_RDWR)
    assert one.heard() == "unreachable"
    assert told.wait(WAIT_S)
    with pytest.raises(RpcError) as caught:
        notice.result()
    assert not caught.value.definitely_not_sent
    # nothing is taken meanwhile: others carry it
    assert not peer.stream.offer(two.sender, order(1, 2))
    assert execute(peer, 3)[1] == 0


def test_bytes_that_are_no_answer_end_the_connection(peer: Peer) -> None:
    one = Group(1)
    peer.open(one)
    peer.stream.offer(one.sender, order(1, 2))
    peer.receive()
    peer.send([b"nonsense"])
    assert one.heard() == "unreachable"


def test_an_answer_that_was_given_up_is_passed_over(peer: Peer) -> None:
    one = Group(1)
    peer.open(one)
    _, number, told = execute(peer, 3)
    peer.receive()
    assert peer.stream.drop(number)
    assert not peer.stream.drop(number)
    peer.send(
        peer.codec.answer("executeNonQueryPlan", number, ExecuteResponse(status=200, definite=True))
    )
    peer.stream.offer(one.sender, order(1, 2))
    peer.acknowledge(peer.receive()[1], 1)
    assert one.heard().match_index == 1
    assert not told.is_set()


def test_a_node_that_does_not_know_the_method_has_not_run_it(peer: Peer) -> None:
    peer.open(Group(1))
    notice, number, told = execute(peer, 3)
    peer.receive()
    output = output_like(BinaryOutput)
    output.writeMessageBegin("executeNonQueryPlan", TMessageType.EXCEPTION, number)
    TApplicationException(TApplicationException.UNKNOWN_METHOD, "what?").write(output)
    output.writeMessageEnd()
    peer.send(output.trans.take())
    assert told.wait(WAIT_S)
    with pytest.raises(RpcError) as caught:
        notice.result()
    assert caught.value.definitely_not_sent


def test_a_node_that_cannot_be_reached_is_not_tried_all_the_time(peer: Peer) -> None:
    peer.is_reachable = False
    one = Group(1)
    for _ in range(10):
        assert not peer.stream.offer(one.sender, order(1, 2))
    assert peer.connects == 1


def test_a_peer_that_does_not_answer_appends_is_given_up(peer: Peer) -> None:
    one = Group(1)
    peer.open(one)
    peer.stream.offer(one.sender, order(1, 2))
    peer.receive()
    peer.in_loop(lambda: peer.stream.look(peer.loop.now + 999))
    peer.in_loop(lambda: peer.stream.look(peer.loop.now + 1001))
    assert one.heard() == "unreachable"


def test_what_a_peer_does_not_take_at_once_is_sent_when_it_does(peer: Peer) -> None:
    one = Group(1)
    peer.open(one)
    plan = bytes(300_000)

    def fill() -> int:
        count = 0
        request = ExecuteRequest(groupId=1, plan=plan, timeoutMs=1000)
        while peer.stream.execute(request, Notice(lambda _: None)):
            count += 1
            peer.stream.flush()
        return count

    count = peer.in_loop(fill)
    assert count > 3
    # no more is taken than a bound allows
    assert not peer.stream.offer(one.sender, order(1, 2))
    assert [peer.receive()[2].plan for _ in range(count)] == [plan] * count
    peer.in_loop(lambda: None)
    assert peer.stream.offer(one.sender, order(1, 2))
    peer.acknowledge(peer.receive()[1], 1)
    assert one.heard().match_index == 1


def test_word_of_a_commit_waits_for_entries_to_go_with_while_they_come_in_a_stream(
    peer: Peer,
) -> None:
    one = Group(1)
    peer.open(one)

    def offer() -> None:
        peer.stream.offer(one.sender, order(1, 2))
        peer.stream.flush()
        peer.stream.offer(one.sender, order(2, 2, commit=1))
        peer.stream.flush()
        peer.stream.offer(one.sender, order(2, 3, commit=1))
        peer.stream.flush()

    peer.in_loop(offer)
    assert [peer.receive()[2].prevIndex for _ in range(2)] == [0, 1]
    assert one.builder.orders == [order(1, 2), order(2, 3, commit=1)]


def test_word_of_a_commit_goes_by_itself_when_no_entries_come(peer: Peer) -> None:
    one = Group(1)
    peer.open(one)
    peer.in_loop(
        lambda: (
            peer.stream.offer(one.sender, order(1, 2)),
            peer.stream.flush(),
            peer.stream.offer(one.sender, order(2, 2, commit=1)),
        )
    )
    assert [peer.receive()[2].commit for _ in range(2)] == [0, 1]
    # and at once where there is no stream of entries
    held = queue.SimpleQueue[int]()
    peer.in_loop(lambda: peer.stream._sent_at.clear())
    peer.in_loop(
        lambda: (
            peer.stream.offer(one.sender, order(2, 2, commit=2)),
            peer.stream.flush(),
            held.put(len(peer.stream._held)),
        )
    )
    assert peer.receive()[2].commit == 2
    assert held.get() == 0
