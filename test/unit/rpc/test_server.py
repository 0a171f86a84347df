"""ThriftServer: bytes on the wire, errors, limits, stop."""

from __future__ import annotations

import errno
import logging
import socket
import struct
import threading

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocol, TBinaryProtocolAccelerated
from thrift.protocol.TCompactProtocol import TCompactProtocol, TCompactProtocolAccelerated
from thrift.Thrift import TApplicationException
from thrift.transport import TSocket, TTransport

from cluster.rpc import framing
from cluster.rpc import server as server_module
from cluster.rpc.framing import protocols_for
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t
from cluster.rpc.server import ServerLimits, ThriftServer, current_connection
from cluster.threads import ThreadRegistry
from harness.joining import join_all


def h(text: str) -> bytes:
    return bytes.fromhex(text.replace("|", ""))


CALL = b"\x80\x01\x00\x01\x00\x00\x00\x12requestStatementId\x00\x00\x00\x00"
ARGUMENTS = h("0a 0001 0000000000000001 00")


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        assert chunk, f"closed after {data!r}"
        data += chunk
    return data


def answer(sock: socket.socket) -> bytes:
    return receive(sock, struct.unpack(">I", receive(sock, 4))[0])


def is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


class Client:
    """The library's own client, over the library's own transports."""

    def __init__(self, port, protocol=TBinaryProtocolAccelerated):
        self.transport = TTransport.TFramedTransport(TSocket.TSocket("127.0.0.1", port), 1 << 29)
        self.transport.open()
        self.call = IClientRPCService.Client(protocol(self.transport))

    def __enter__(self):
        return self.call

    def __exit__(self, *_):
        self.transport.close()


# ---- wire ----


def test_binary_example(serve):
    with connect(serve("client").port) as sock:
        sock.sendall(h("0000002a") + CALL + ARGUMENTS[:-1] + b"\x00")
        expected = CALL.replace(b"\x01\x00\x01", b"\x01\x00\x02", 1)
        assert receive(sock, 46) == h("0000002a") + expected + h("0a 0000 0000000000000007 00")


def test_compact_example(serve):
    name = b"requestStatementId"
    with connect(serve("client").port) as sock:
        sock.sendall(h("00000019 82 21 00 12") + name + h("1602 00"))
        assert receive(sock, 30) == h("0000001a 82 41 00 12") + name + h("06 00 0e 00")


def test_close_session_example(serve):
    with connect(serve("client").port) as sock:
        name = b"\x00\x00\x00\x0ccloseSession"
        sock.sendall(frame(h("80010001") + name + bytes(4) + h("0c 0001 0a 0001") + bytes(10)))
        assert answer(sock) == h("80010002") + name + h(
            "00000000 | 0c 0000 | 08 0001 000000c8 00 | 00"
        )


@pytest.mark.parametrize(
    "protocol",
    [
        TBinaryProtocol,
        TBinaryProtocolAccelerated,
        TCompactProtocol,
        TCompactProtocolAccelerated,
    ],
)
def test_all_protocols(serve, protocol):
    with Client(serve("client").port, protocol) as client:
        for _ in range(3):
            assert client.requestStatementId(1) == 7
        with pytest.raises(TApplicationException):
            client.showConfiguration(1)
        assert client.requestStatementId(1) == 7


@pytest.mark.parametrize("seqid", [0, 1, 300, -1, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("protocol", [TBinaryProtocol, TCompactProtocol])
def test_sequence_id_is_echoed(serve, seqid, protocol):
    with Client(serve("client").port, protocol) as client:
        client._seqid = seqid
        client.send_requestStatementId(1)
        _, _, echoed = client._iprot.readMessageBegin()
        assert echoed & 0xFFFFFFFF == seqid & 0xFFFFFFFF


def test_the_c_decoder_is_used():
    for payload in (CALL, h("822100")):
        incoming, outgoing = protocols_for(payload)
        assert incoming._fast_decode is not None
        assert isinstance(incoming.trans, TTransport.CReadableTransport)
        assert outgoing._fast_encode is not None


def test_a_library_without_depth_limit_is_refused(monkeypatch):
    framing.check_library()

    def unbounded(target, protocol, kind):
        raise EOFError

    class Old(TBinaryProtocolAccelerated):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self._fast_decode = unbounded

    monkeypatch.setattr(framing, "TBinaryProtocolAccelerated", Old)
    with pytest.raises(ImportError, match=r"thrift 0\.25"):
        framing.check_library()


def test_calls_without_waiting(serve):
    with connect(serve("client").port) as sock:
        one = frame(CALL + ARGUMENTS)
        sock.sendall(one * 500 + one[:7])
        for _ in range(500):
            assert answer(sock)[-9:] == h("0000000000000007 00")
        sock.sendall(one[7:])
        assert answer(sock)[-9:] == h("0000000000000007 00")


@pytest.mark.parametrize("protocol", [TBinaryProtocolAccelerated, TCompactProtocolAccelerated])
def test_large_requests_and_answers(serve, protocol):
    with Client(serve("client").port, protocol) as client:
        for size in (20_000_000, 10, 5_000_000, 16_380, 1 << 20, 0):
            values = bytes(size)
            status = client.insertTablet(t.TSInsertTabletReq(1, "d", ["s"], values, b"", [1], 1))
            assert status.message == str(size)
        for size in (8_000_000, 3, 70_000):
            answered = client.executeQueryStatement(t.TSExecuteStatementReq(1, str(size), 1))
            assert answered.queryResult == [bytes(size)]


@pytest.mark.parametrize("protocol", [TBinaryProtocolAccelerated, TCompactProtocolAccelerated])
@pytest.mark.parametrize(
    ("values", "size"), [(0, 0), (1, 0), (3, 7), (40, 5000), (700, 100_000), (2, 15_000_000)]
)
def test_values_that_are_sent_in_pieces(serve, protocol, values, size):
    with Client(serve("client").port, protocol) as client:
        for _ in range(2):
            answer = client.fetchResults(t.TSFetchResultsReq(1, "", size, values, isAlign=True))
            assert answer.status.code == 200
            assert answer.hasResultSet
            assert answer.queryResult == [
                bytes([number % 256]) * 3 + b"-%d" % number + b"x" * size
                for number in range(values)
            ]


def test_fields_of_another_type_are_skipped(serve):
    # the 0.13 place of a binary may hold a list (3.6), unknown ids may hold anything
    server = serve("client")
    body = h(
        "0c 0001"
        "0b 0001 00000002 6162"  # sessionId as a string
        "0b 0002 00000001 64"
        "0f 0004 0b 00000001 00000001 61"  # values as a list
        "0d 0063 0b0c 00000001 00000001 61 00"  # unknown map to structs
        "00 00"
    )
    head = b"\x80\x01\x00\x01\x00\x00\x00\x0cinsertRecord\x00\x00\x00\x05"
    with connect(server.port) as sock:
        sock.sendall(frame(head + body))
        assert answer(sock)[20:] == h("00000005 0c 0000 08 0001 000000c8 00 00")
    (request,) = server.handler.requests
    assert (request.sessionId, request.prefixPath, request.values) == (None, "d", None)


# ---- errors ----


def test_unknown_method_keeps_the_connection(serve):
    with Client(serve("client").port) as client:
        # deleteData is in the IDL, but not in the handler; noSuchMethod is nowhere
        with pytest.raises(TApplicationException) as caught:
            client.deleteData(t.TSDeleteDataReq(1, ["root.**"], 0, 1))
        assert caught.value.type == TApplicationException.UNKNOWN_METHOD
        assert client.requestStatementId(1) == 7


def test_handler_errors_keep_the_connection(serve, caplog):
    with Client(serve("client").port) as client:
        for call in (
            lambda: client.setTimeZone(t.TSSetTimeZoneReq(1, "Z")),  # raises
            lambda: client.getTimeZone(1),  # answers what cannot be encoded
        ):
            with pytest.raises(TApplicationException) as caught:
                call()
            assert caught.value.type == TApplicationException.INTERNAL_ERROR
            assert client.requestStatementId(1) == 7
    assert "the handler has a bug" in caplog.text
    assert "no answer could be made" in caplog.text


def test_internal_error_in_compact(serve):
    with Client(serve("client").port, TCompactProtocolAccelerated) as client:
        with pytest.raises(TApplicationException):
            client.getTimeZone(1)
        assert client.requestStatementId(1) == 7


@pytest.mark.parametrize(
    "payload",
    [
        b"\x00",
        b"GET / HTTP/1.1",
        b"\x80",
        b"\x80\x01\x00\x01\x7f\xff\xff\xff",
        b"\x80\x01\x00\x01\xff\xff\xff\xff",
        b"\x80\x02" + CALL[2:] + ARGUMENTS,
        b"\x80\x01\x00\x02" + CALL[4:] + ARGUMENTS,  # a reply
        CALL,
        CALL + ARGUMENTS[:-1],
        CALL[:-2],
        b"\x82",
        b"\x82\x21\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x22\x00\x00",
        CALL.replace(b"request", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9") + ARGUMENTS,
    ],
)
def test_what_cannot_be_decoded_closes_the_connection(serve, payload, caplog):
    caplog.set_level(logging.DEBUG, "cluster.rpc.server")
    server = serve("client")
    with connect(server.port) as sock:
        sock.sendall(frame(payload))
        assert is_closed(sock)
    server.stop()
    lines = [record for record in caplog.records if "closed" in record.getMessage()]
    assert [record.levelname for record in lines] == ["DEBUG"]


HEAD = b"\x80\x01\x00\x01\x00\x00\x00\x0cinsertRecord\x00\x00\x00\x00"
COMPACT = b"\x82\x21\x00\x0cinsertRecord"
LEVELS = 200_000


@pytest.mark.parametrize(
    "payload",
    [
        HEAD + b"\x0c\x00\x63" * LEVELS,
        HEAD + b"\x0f\x00\x63" + b"\x0f\x00\x00\x00\x01" * LEVELS,
        HEAD + b"\x0d\x00\x63" + b"\x02\x0d\x00\x00\x00\x01\x01" * LEVELS,
        HEAD + b"\x0c\x00\x01" + b"\x0c\x00\x63" * LEVELS,
        COMPACT + b"\xfc" * LEVELS,
        COMPACT + b"\xf9" + b"\x19" * LEVELS,
        COMPACT + b"\xfb" + b"\x01\x1b\x01" * LEVELS,
    ],
)
def test_depth_bombs(serve, payload):
    server = serve("client")
    with connect(server.port) as sock:
        sock.sendall(frame(payload))
        assert is_closed(sock)
    with Client(server.port) as client:
        assert client.requestStatementId(1) == 7


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 50_000_000, 1000])
@pytest.mark.parametrize(
    "field",
    ["0f 0003 0b", "0f 0003 0f", "0d 0063 0b 0b", "0f 0063 02", "0b 0004", "0b 0063"],
)
def test_lying_sizes(serve, size, field):
    server = serve("client")
    with connect(server.port) as sock:
        sock.sendall(frame(HEAD + h("0c 0001" + field) + struct.pack(">I", size) + bytes(10)))
        assert is_closed(sock)


def test_elements_may_not_outnumber_the_bytes(serve, monkeypatch):
    server = serve("client")
    seen = []

    def record(self, *arguments):
        incoming, _ = arguments
        seen.append((incoming.container_length_limit, incoming.string_length_limit))
        return original(self, *arguments)

    original = IClientRPCService.Processor.process
    monkeypatch.setattr(IClientRPCService.Processor, "process", record)
    with Client(server.port) as client:
        client.requestStatementId(1)
        client.insertTablet(t.TSInsertTabletReq(1, "d", ["s"], bytes(11_000_000), b"", [1], 1))
    assert seen[0] == (42, 42)
    assert seen[1][0] == 10_000_000
    assert seen[1][1] > 11_000_000


# ---- frames ----


@pytest.mark.parametrize("size", [0, 1001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_frame_limit(serve, size):
    server = serve("client", limits=ServerLimits(max_frame_bytes=1000))
    with connect(server.port) as sock:
        sock.sendall(struct.pack(">I", size))
        assert is_closed(sock)


def test_a_browser_is_told_what_the_port_is(serve):
    with connect(serve("client").port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        found = b""
        while piece := sock.recv(1000):
            found += piece
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"speaks Thrift" in found


def test_frame_of_exactly_the_limit(serve):
    server = serve("client", limits=ServerLimits(max_frame_bytes=42))
    with connect(server.port) as sock:
        sock.sendall(frame(CALL + ARGUMENTS))
        assert answer(sock)


def test_frame_in_single_bytes(serve):
    with connect(serve("client").port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(CALL + ARGUMENTS):
            sock.sendall(bytes((byte,)))
        assert answer(sock)


def test_a_frame_in_single_bytes_wakes_nobody_for_each(serve, monkeypatch):
    """50 slow peers used to take the interpreter lock 50 times for each byte of a length."""
    received = []
    receive_some = framing.FrameReader._receive

    def count(self, *arguments, **more):
        data = receive_some(self, *arguments, **more)
        received.append(len(data))
        return data

    monkeypatch.setattr(framing.FrameReader, "_receive", count)
    whole = frame(CALL + ARGUMENTS)
    port = serve("client").port
    with connect(port) as sock, connect(port) as other:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(whole)):
            sock.sendall(whole[at : at + 1])
            other.sendall(whole)  # the server's threads have their turns
            assert answer(other)
        assert answer(sock)
    received = [size for size in received if size and size != len(whole)]
    # the first byte, the rest of the length, and the rest: not one for each byte
    assert len(received) <= 3, received


@pytest.mark.parametrize("begin", [b"\x00", struct.pack(">I", 1000)])
def test_a_peer_that_sends_too_slowly_is_closed_and_named(serve, monkeypatch, caplog, begin):
    monkeypatch.setattr(framing, "_FRAME_S", 0.2)
    monkeypatch.setattr(server_module, "_STALL_S", 0.1)
    server = serve("client")
    with connect(server.port) as sock, connect(server.port) as other, caplog.at_level("WARNING"):
        sock.sendall(begin)
        gone = threading.Event()

        def dribble():
            while not gone.wait(0.02):
                try:
                    # of a length nothing more: it would be complete after four
                    sock.sendall(b"\x00" if len(begin) > 1 else b"")
                except OSError:
                    return

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            assert is_closed(sock)
        finally:
            gone.set()
            thread.join()
        other.sendall(frame(CALL + ARGUMENTS))
        assert answer(other)
    if len(begin) > 1:
        (record,) = [r for r in caplog.records if "too slowly" in r.getMessage()]
        assert "of 1000 came in" in record.getMessage()


@pytest.mark.parametrize("sent", [b"\x00\x00", b"\x00\x00\x00\x2a", frame(CALL)[:20]])
def test_end_within_a_frame(serve, sent):
    server = serve("client")
    with connect(server.port) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        assert is_closed(sock)


# ---- connections ----


def test_state_belongs_to_the_connection(serve):
    ended = []
    gone = threading.Semaphore(0)

    def on_disconnect(connection):
        assert current_connection() is connection
        ended.append(connection.state["opened"])
        gone.release()

    server = serve("client", on_disconnect=on_disconnect)
    with Client(server.port) as first, Client(server.port) as second:
        assert [first.openSession(t.TSOpenSessionReq()).sessionId for _ in range(3)] == [1, 2, 3]
        assert second.openSession(t.TSOpenSessionReq()).sessionId == 1
        assert server.server.connection_count() == 2
        peers = {connection.peer[0] for connection in server.server.connections()}
        assert peers == {"127.0.0.1"}
    assert gone.acquire(timeout=5)
    assert gone.acquire(timeout=5)
    assert sorted(ended) == [1, 3]


def test_on_disconnect_that_fails_is_logged(serve, caplog):
    def on_disconnect(connection):
        raise RuntimeError("cannot let go")

    server = serve("client", on_disconnect=on_disconnect)
    with Client(server.port) as client:
        client.requestStatementId(1)
    server.stop()
    assert "cannot let go" in caplog.text


def test_no_current_connection_outside():
    with pytest.raises(RuntimeError, match="no request"):
        current_connection()


def test_connection_limit(serve):
    gone = threading.Event()
    server = serve(
        "client",
        limits=ServerLimits(max_connections=2),
        on_disconnect=lambda connection: gone.set(),
    )
    first, second = Client(server.port), Client(server.port)
    assert first.call.requestStatementId(1) == 7
    assert second.call.requestStatementId(1) == 7
    with connect(server.port) as third:
        assert is_closed(third)
    first.transport.close()
    assert gone.wait(5)
    while server.server.connection_count() == 2:  # forgotten right after on_disconnect
        threading.Event().wait(0.001)
    with Client(server.port) as fourth:
        assert fourth.requestStatementId(1) == 7
    second.transport.close()


def test_idle_connections_are_closed(serve):
    server = serve("client", limits=ServerLimits(idle_timeout_s=0.1))
    with connect(server.port) as sock:
        sock.sendall(frame(CALL + ARGUMENTS))
        assert answer(sock)
        assert is_closed(sock)


def test_address_in_use(serve):
    port = serve("client").port
    server = ThriftServer(
        "second",
        IClientRPCService.Processor(object()),
        "127.0.0.1",
        port,
        ThreadRegistry(),
        ServerLimits(),
    )
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
        server.start()
    server.stop()


def test_connections_that_can_not_be_taken_do_not_flood_the_log(serve, monkeypatch, caplog):
    class NoFiles(socket.socket):
        tries = 0

        def accept(self):
            NoFiles.tries += 1
            if NoFiles.tries <= 100:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    def listen(*address):
        listener = real(*address)
        return NoFiles(fileno=listener.detach())

    real = server_module._listen
    monkeypatch.setattr(server_module, "_listen", listen)
    monkeypatch.setattr(server_module, "_ACCEPT_PAUSE_S", 0.0)
    with caplog.at_level(logging.WARNING), connect(serve("client").port) as sock:
        sock.sendall(frame(CALL + ARGUMENTS))
        assert answer(sock)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 7  # of 1, 2, 4 … 64
    assert all("Too many open files" in text for text in told)


# ---- stop ----


def test_stop_wakes_idle_connections(serve):
    server = serve("client")
    socks = [connect(server.port) for _ in range(5)]
    socks[0].sendall(frame(CALL + ARGUMENTS))
    assert answer(socks[0])
    socks[1].sendall(b"\x00\x00")
    names = server.threads.names()
    assert "accept-test" in names
    server.server.stop(timeout_s=600)  # woken, not cut when half of the time is over
    assert server.threads.names() == []
    for sock in socks:
        assert is_closed(sock)
        sock.close()
    with pytest.raises(ConnectionRefusedError):
        connect(server.port)
    server.stop()  # again: nothing happens


def test_stop_lets_a_request_be_answered(serve):
    server = serve("client")
    answers = []

    def call():
        with Client(server.port) as client:
            answers.append(client.testConnectionEmptyRPC().code)

    caller = threading.Thread(target=call)
    caller.start()
    assert server.handler.entered.wait(5)
    stopper = threading.Thread(target=server.server.stop, kwargs={"timeout_s": 20})
    stopper.start()
    server.handler.release.set()
    join_all(caller, stopper)
    assert answers == [200]


def test_stop_names_a_handler_that_hangs(serve, caplog):
    server = serve("client")
    with connect(server.port) as sock:
        head = b"\x80\x01\x00\x01\x00\x00\x00\x16testConnectionEmptyRPC"
        sock.sendall(frame(head + bytes(5)))
        assert server.handler.entered.wait(5)
        server.server.stop(timeout_s=0.2)
        assert "serve-test-1" in caplog.text
        assert is_closed(sock)
        server.handler.release.set()
