"""FrameLoop, and a server's connections that it serves: what is unusual is their threads'."""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t
from cluster.rpc.lent import LentConnection
from cluster.rpc.loop import FrameLoop
from cluster.rpc.server import LoopShare, ServerLimits, ThriftServer
from cluster.threads import ThreadRegistry

WAIT_S = 20.0
MOST_BYTES = 32 << 10
QUICK = b"\x80quick "
"""Frames that begin so are the loop's, all others their thread's. (A connection's first
byte tells its protocol.)"""


class Service:
    """Answers in the loop what the test wants; `take` says what it was given."""

    def __init__(self, *, in_order: bool = True, most_bytes: int = MOST_BYTES) -> None:
        self.in_order = in_order
        self.most_bytes = most_bytes
        self.taken: queue.SimpleQueue[tuple[LentConnection, bytes]] = queue.SimpleQueue()
        self.answers_at_once = True

    def wants(self, payload: bytes) -> bool:
        return payload.startswith(QUICK)

    def take(self, lent: LentConnection, payload: bytes) -> bool:
        if not payload.startswith(QUICK):
            return False
        if payload.endswith(b"fails"):
            raise ValueError("what is that?")
        lent.began()
        self.taken.put((lent, payload))
        if self.answers_at_once:
            lent.answer([b"loop ", payload])
        return True


class Server:
    """A server whose threads answer `thread <payload>`, with a loop beside it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.threads = ThreadRegistry()
        self.loop = FrameLoop()
        self.threads.spawn("loop", self.loop.run)
        self.server = ThriftServer(
            "test",
            IClientRPCService.Processor(Handler()),
            "127.0.0.1",
            0,
            self.threads,
            ServerLimits(max_frame_bytes=1 << 20),
            quick=lambda _connection, payload: b"thread " + payload,
            share=LoopShare(self.loop, service),
        )
        self.clients: list[Client] = []
        self.server.start()

    def connect(self) -> Client:
        self.clients.append(Client(self.server.port))
        return self.clients[-1]

    def lend(self, client: Client) -> None:
        """Send until the loop answers."""
        while client.ask(QUICK) == b"thread " + QUICK:
            pass

    def lend_one(self) -> Client:
        """Return a connection that the loop has; the test answers its requests from now on."""
        client = self.connect()
        self.lend(client)
        while not self.service.taken.empty():
            self.service.taken.get()
        self.service.answers_at_once = False
        return client

    def in_loop(self, work: Callable[[], None]) -> None:
        """Run in the loop's thread, and wait for it."""
        done = threading.Event()
        assert self.loop.call(lambda: (work(), done.set())[0])  # type: ignore[func-returns-value]
        assert done.wait(WAIT_S)

    def stop(self) -> None:
        self.server.stop()
        self.loop.stop()
        assert self.threads.join_all(WAIT_S) == []
        for client in self.clients:
            client.sock.close()
        assert self.server.connection_count() == 0


class Handler:
    def closeSession(self, req: t.TSCloseSessionReq) -> t.TSStatus:  # noqa: N802
        return t.TSStatus(code=200)


class Client:
    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *payloads: bytes) -> None:
        self.sock.sendall(b"".join(struct.pack(">I", len(one)) + one for one in payloads))

    def receive(self) -> bytes:
        return self._exactly(struct.unpack(">I", self._exactly(4))[0])

    def ask(self, payload: bytes) -> bytes:
        self.send(payload)
        return self.receive()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.sock.recv(size - len(data))
            assert chunk, f"closed after {data!r}"
            data += chunk
        return data


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(Service())
    yield made
    made.stop()


def test_requests_of_one_kind_become_the_loops_and_others_go_back(server: Server) -> None:
    client = server.connect()
    server.lend(client)
    assert client.ask(QUICK + b"1") == b"loop " + QUICK + b"1"
    assert client.ask(b"slow") == b"thread slow"
    assert client.ask(QUICK + b"2") == b"thread " + QUICK + b"2"
    server.lend(client)


def test_a_request_that_the_loop_fails_at_is_its_threads(server: Server) -> None:
    client = server.connect()
    server.lend(client)
    assert client.ask(QUICK + b"fails") == b"thread " + QUICK + b"fails"
    server.lend(client)


def test_what_is_received_together_is_served_in_order_by_whoever_it_is_for(
    server: Server,
) -> None:
    client = server.connect()
    server.lend(client)
    client.send(QUICK + b"1", b"slow", QUICK + b"2")
    assert [client.receive() for _ in range(3)] == [
        b"loop " + QUICK + b"1",
        b"thread slow",
        b"thread " + QUICK + b"2",
    ]


def test_a_frame_in_pieces_is_waited_for_by_its_thread(server: Server) -> None:
    client = server.connect()
    server.lend(client)
    payload = QUICK + b"in pieces"
    frame = struct.pack(">I", len(payload)) + payload
    for at in range(len(frame)):
        client.sock.sendall(frame[at : at + 1])
    assert client.receive().endswith(payload)
    server.lend(client)


def test_a_large_frame_is_its_threads(server: Server) -> None:
    client = server.connect()
    server.lend(client)
    payload = QUICK + bytes(MOST_BYTES)
    assert client.ask(payload) == b"thread " + payload


def test_a_request_waits_for_the_one_before_it(server: Server) -> None:
    client = server.lend_one()
    client.send(QUICK + b"1", QUICK + b"2", b"slow")
    lent, payload = server.service.taken.get(timeout=WAIT_S)
    assert payload == QUICK + b"1"
    server.in_loop(lambda: None)
    assert server.service.taken.empty()
    server.in_loop(lambda: lent.answer([b"one"]))
    lent, payload = server.service.taken.get(timeout=WAIT_S)
    assert payload == QUICK + b"2"
    server.in_loop(lambda: lent.answer([b"two"]))
    assert [client.receive() for _ in range(3)] == [b"one", b"two", b"thread slow"]


def test_answers_of_nodes_may_overtake_one_another() -> None:
    server = Server(Service(in_order=False))
    try:
        client = server.lend_one()
        client.send(QUICK + b"1", QUICK + b"2", b"slow")
        first, second = (server.service.taken.get(timeout=WAIT_S)[0] for _ in range(2))
        server.in_loop(lambda: second.answer([b"two"]))
        # the slow one is its thread's, which gets the connection when all is answered
        server.in_loop(lambda: first.answer([b"one"]))
        assert [client.receive() for _ in range(3)] == [b"two", b"one", b"thread slow"]
    finally:
        server.stop()


def test_a_large_frame_of_a_node_is_received_while_others_are_not_answered() -> None:
    server = Server(Service(in_order=False, most_bytes=1 << 20))
    try:
        client = server.lend_one()
        client.send(QUICK + b"1")
        first, _ = server.service.taken.get(timeout=WAIT_S)
        payload = QUICK + bytes(300_000)
        frame = struct.pack(">I", len(payload)) + payload
        for at in range(0, len(frame), 50_000):
            client.sock.sendall(frame[at : at + 50_000])
            server.in_loop(lambda: None)
        second, taken = server.service.taken.get(timeout=WAIT_S)
        assert second is first, "it was not given back meanwhile"
        assert taken == payload
        server.in_loop(lambda: second.answer([b"two"]))
        server.in_loop(lambda: first.answer([b"one"]))
        assert [client.receive() for _ in range(2)] == [b"two", b"one"]
    finally:
        server.stop()


def test_what_has_to_wait_is_done_by_the_connections_thread(server: Server) -> None:
    client = server.lend_one()
    client.send(QUICK, QUICK + b"next")
    lent, _ = server.service.taken.get(timeout=WAIT_S)
    names: list[str] = []

    def work() -> bytes:
        names.append(threading.current_thread().name)
        return b"after a while"

    server.in_loop(lambda: lent.hand_over(work))
    assert client.receive() == b"after a while"
    assert names[0].startswith("serve-test-")
    assert client.receive() == b"thread " + QUICK + b"next"


def test_a_peer_that_takes_no_answers_holds_up_nobody(server: Server) -> None:
    greedy, other = server.connect(), server.connect()
    server.lend(greedy)
    server.lend(other)
    while not server.service.taken.empty():
        server.service.taken.get()
    server.service.answers_at_once = False
    greedy.send(QUICK)
    lent, _ = server.service.taken.get(timeout=WAIT_S)
    size = 64 << 20  # more than the sockets' buffers hold
    server.in_loop(lambda: lent.answer([bytes(size)]))
    server.service.answers_at_once = True
    assert other.ask(QUICK) == b"loop " + QUICK
    assert greedy.receive() == bytes(size)
    assert greedy.ask(b"slow") == b"thread slow"


def test_an_idle_connection_goes_back_to_its_thread(server: Server) -> None:
    client = server.connect()
    server.lend(client)
    lent = None
    while not server.service.taken.empty():
        lent, _ = server.service.taken.get()
    assert lent is not None
    end = time.monotonic() + WAIT_S
    while not lent.is_back and time.monotonic() < end:
        time.sleep(0.05)
    assert lent.is_back
    assert client.ask(b"slow") == b"thread slow"


def test_a_client_that_leaves_ends_its_connection(server: Server) -> None:
    client = server.connect()
    server.lend(client)
    client.sock.close()
    end = time.monotonic() + WAIT_S
    while server.server.connection_count() and time.monotonic() < end:
        time.sleep(0.01)
    assert server.server.connection_count() == 0


def test_a_server_that_stops_lets_what_is_under_way_be_answered() -> None:
    server = Server(Service())
    client = server.lend_one()
    client.send(QUICK)
    lent, _ = server.service.taken.get(timeout=WAIT_S)
    stopping = threading.Thread(target=server.server.stop)
    stopping.start()
    server.in_loop(lambda: lent.answer([b"late"]))
    assert client.receive() == b"late"
    stopping.join(WAIT_S)
    assert not stopping.is_alive()
    server.stop()


def test_a_loop_that_ends_gives_back_what_it_has(server: Server) -> None:
    client = server.connect()
    server.lend(client)
    server.loop.stop()
    end = time.monotonic() + WAIT_S
    while not server.loop.has_ended and time.monotonic() < end:
        time.sleep(0.01)
    assert client.ask(QUICK) == b"thread " + QUICK
    assert not server.loop.call(lambda: None)
    for _ in range(10):  # nothing is lent any more
        assert client.ask(QUICK) == b"thread " + QUICK


def test_a_call_that_fails_costs_nobody_else(server: Server) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    assert server.loop.call(fail)
    client = server.connect()
    server.lend(client)
    assert client.ask(QUICK) == b"loop " + QUICK


def test_of_what_is_done_in_one_round_a_part_that_fails_costs_the_others_nothing(
    server: Server,
) -> None:
    done: list[str] = []
    ended = threading.Event()

    def fail() -> None:
        raise RuntimeError("a bug")

    def work() -> None:
        for call in (fail, lambda: done.append("call"), fail):
            server.loop.call(call)
        for flush in (fail, lambda: done.append("flush"), fail, ended.set):
            server.loop.flush_later(flush)

    server.loop.each_turn(fail)
    server.loop.each_turn(lambda: done.append("turn"))
    server.in_loop(work)
    assert ended.wait(WAIT_S)
    assert [one for one in done if one != "turn"] == ["call", "flush"]
    assert "turn" in done


def test_a_large_frame_that_comes_behind_one_under_way_is_its_threads(server: Server) -> None:
    client = server.lend_one()
    large = QUICK + bytes(20_000)
    client.send(large)
    lent, _ = server.service.taken.get(timeout=WAIT_S)
    server.in_loop(lambda: lent.answer([b"one"]))
    assert client.receive() == b"one"
    client.send(large + b"1", large + b"2")  # a client that does not wait for its answers
    lent, payload = server.service.taken.get(timeout=WAIT_S)
    assert payload == large + b"1"
    server.service.answers_at_once = True  # the next one
    server.in_loop(lambda: lent.answer([b"two"]))
    assert client.receive() == b"two"
    assert client.receive() in (b"loop " + large + b"2", b"thread " + large + b"2")


def test_who_watches_is_called_until_nobody_has_anything_to_look_after() -> None:
    loop = FrameLoop()
    looks: queue.SimpleQueue[float] = queue.SimpleQueue()
    left = [3]

    def look(now: float) -> bool:
        looks.put(now)
        left[0] -= 1
        return left[0] > 0

    loop.watch(look)
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.call(lambda: None)
    times = [looks.get(timeout=WAIT_S) for _ in range(3)]
    assert times == sorted(times)
    assert looks.empty()
    loop.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_the_loop_goes_on_while_its_thread_waits_for_the_disk() -> None:
    threads: list[threading.Thread] = []

    def spawn(run: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=run))
        threads[-1].start()

    loop = FrameLoop(spawn)
    spawn(loop.run)
    spawn(loop.watch_over)
    written, disk = threading.Event(), threading.Event()
    idents: queue.SimpleQueue[int] = queue.SimpleQueue()
    due = [True]

    def turn() -> None:
        if due.pop():
            loop.away(lambda: (disk.wait(WAIT_S), written.set(), None)[-1])
            idents.put(0)  # not reached: another thread goes on

    loop.each_turn(lambda: turn() if due else None)
    assert loop.call(lambda: idents.put(threading.get_ident()))
    first = idents.get(timeout=WAIT_S)
    assert loop.call(lambda: idents.put(threading.get_ident()))
    second = idents.get(timeout=WAIT_S)
    assert {first, second, threads[0].ident, threads[-1].ident} == {first, second}
    assert not written.is_set()
    disk.set()
    threads[0].join(WAIT_S)
    assert not threads[0].is_alive()
    assert written.is_set()
    assert loop.call(lambda: idents.put(threading.get_ident()))
    assert idents.get(timeout=WAIT_S) == second
    assert idents.empty()
    loop.stop()
    assert loop.wait_for_end(WAIT_S)
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
