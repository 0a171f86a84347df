"""Frames that no client would send, for servers that must survive them.

`hostile_frames` makes them, `throw_frames` sends them to a port. They do no harm to a cluster that
behaves: nobody logs in with the right password, and Raft messages name a group that does not exist.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.transport.TTransport import TMemoryBuffer

from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t
from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.gen.cluster import ttypes as c

_GROUP = 1_000_000_007

_SIZES = (0, 1, 127, 128, 0x7FFF, 0xFFFF, 1 << 20, (1 << 24) + 1, 0x3FFFFFFF, 0x7FFFFFFF)
_SIZES_NEGATIVE = (0x80000000, 0xFFFFFFFF, 0x80010001)


def hostile_frames(rng: random.Random, count: int, *, internal: bool = True) -> Iterator[bytes]:
    """Yield `count` raw byte strings to send on a fresh or a used connection.

    About one in twenty is a valid call. Some are incomplete frames: the server waits for the rest,
    so do not wait for an answer.

    Args:
        internal: also calls of the services between nodes.
    """
    corpus = _client_calls() + (_internal_calls() if internal else [])
    for _ in range(count):
        maker = rng.choice(_MAKERS)
        yield maker(rng, rng.choice(corpus))


def throw_frames(
    port: int, frames: Iterable[bytes], rng: random.Random, *, host: str = "127.0.0.1"
) -> int:
    """Send each on the current or a new connection; connections end in several rude ways.

    Returns:
        How many connections were opened.
    """
    opened = 0
    sock: socket.socket | None = None
    for frame in frames:
        if sock is not None and rng.random() < 0.7:
            _leave(sock, rng)
            sock = None
        if sock is None:
            sock = socket.create_connection((host, port), timeout=10)
            opened += 1
        try:
            sock.sendall(frame)
        except OSError:  # the server has closed the connection: as it should
            sock.close()
            sock = None
    if sock is not None:
        sock.close()
    return opened


def _leave(sock: socket.socket, rng: random.Random) -> None:
    with sock:
        way = rng.random()
        if way < 0.2:
            # reset instead of an orderly end
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif way < 0.5:
            # end of what is sent, then wait until the server is through with it
            try:
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except OSError:
                return


# ---- the corpus: valid messages in both protocols ----


def _messages(service: Any, calls: dict[str, tuple[Any, ...]]) -> list[bytes]:
    found = []
    for kind in (TBinaryProtocol, TCompactProtocol):
        for method, arguments in calls.items():
            buffer = TMemoryBuffer()
            client = service.Client(kind(buffer))
            getattr(client, f"send_{method}")(*arguments)
            found.append(buffer.getvalue())
    return found


def _client_calls() -> list[bytes]:
    names = [f"s{number}" for number in range(20)]
    maps = [{"a": "b"}, {}]
    return _messages(
        IClientRPCService,
        {
            "openSession": (t.TSOpenSessionReq(2, "Z", "nobody", "wrong", {"version": "V_1_0"}),),
            "closeSession": (t.TSCloseSessionReq(1),),
            "requestStatementId": (1,),
            "setTimeZone": (t.TSSetTimeZoneReq(1, "+08:00"),),
            "getProperties": (),
            "executeStatement": (t.TSExecuteStatementReq(1, "show version", 1, 100, 0),),
            "executeQueryStatementV2": (t.TSExecuteStatementReq(1, "select * from root.**", 1),),
            "executeBatchStatement": (t.TSExecuteBatchStatementReq(1, ["x"] * 50),),
            "executeRawDataQuery": (t.TSRawDataQueryReq(1, ["root.a.b"], 10, 0, 5, 1),),
            "fetchResults": (t.TSFetchResultsReq(1, "select", 10, 1, True),),
            "closeOperation": (t.TSCloseOperationReq(1, 1, 1),),
            "createMultiTimeseries": (
                t.TSCreateMultiTimeseriesReq(
                    1, ["root.a.b"] * 2, [1, 2], [0, 0], [1, 1], maps, maps, maps, ["x", "y"]
                ),
            ),
            "deleteData": (t.TSDeleteDataReq(1, ["root.hostile.**"], 0, 1),),
            "insertRecord": (
                t.TSInsertRecordReq(1, "root.hostile.d", ["s"], b"\x01\x00\x00\x00\x05", 1),
            ),
            "insertRecords": (
                t.TSInsertRecordsReq(
                    1,
                    ["root.hostile.d"] * 20,
                    [["s"]] * 20,
                    [b"\x01\x00\x00\x00\x05"] * 20,
                    list(range(20)),
                ),
            ),
            "insertTablet": (
                t.TSInsertTabletReq(
                    1, "root.hostile.d", names, bytes(8 * 20 * 50), bytes(8 * 50), [4] * 20, 50
                ),
            ),
            "insertTablets": (
                t.TSInsertTabletsReq(
                    1, ["root.hostile.d"], [["s"]], [bytes(8)], [bytes(8)], [[2]], [1]
                ),
            ),
            "createSchemaTemplate": (t.TSCreateSchemaTemplateReq(1, "t", bytes(40)),),
        },
    )


def _internal_calls() -> list[bytes]:
    node = c.NodeInfo(77, "127.0.0.1", 1, 2, "127.0.0.1", 3, "hostile")
    return _messages(
        MetaGroupService,
        {
            "sendHeartbeat": (
                c.HeartbeatBatch(node, [c.Heartbeat(_GROUP, 77, 78, 1, 0, 0, 0)] * 3),
            ),
            "startElection": (c.VoteRequest(_GROUP, 77, 78, 1, 1, 1, False, False),),
            "appendEntries": (
                c.AppendEntriesRequest(
                    _GROUP, 77, 78, 1, 0, 0, [c.LogEntry(1, 1, bytes(100))] * 5, 0, 0
                ),
            ),
            "timeoutNow": (c.TimeoutNowRequest(_GROUP, 77, 78, 1),),
            "executeNonQueryPlan": (c.ExecuteRequest(_GROUP, bytes(50), 10),),
            "executeRead": (c.ExecuteRequest(_GROUP, bytes(50), 10),),
            "checkStatus": (c.StartUpStatus(-1, node, {"default_replica_num": "3"}, False),),
            "queryNodeStatus": (),
            "verifyData": (),
        },
    )


# ---- the makers: (random source, valid message) -> raw bytes ----


def _framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def _valid(rng: random.Random, message: bytes) -> bytes:
    return _framed(message)


def _flip_bits(rng: random.Random, message: bytes) -> bytes:
    data = bytearray(message)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return _framed(bytes(data))


def _overwrite_numbers(rng: random.Random, message: bytes) -> bytes:
    """Lying lengths anywhere: strings, lists, maps, names."""
    data = bytearray(message)
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(max(1, len(data) - 4))
        data[at : at + 4] = struct.pack(">I", rng.choice(_SIZES + _SIZES_NEGATIVE))
    return _framed(bytes(data))


def _overwrite_types(rng: random.Random, message: bytes) -> bytes:
    """Type bytes in wrong places: behind the header most bytes are types, ids or lengths."""
    data = bytearray(message)
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(len(data))] = rng.randrange(20)
    return _framed(bytes(data))


def _truncate(rng: random.Random, message: bytes) -> bytes:
    """A frame that is whole, of a message that is not."""
    return _framed(message[: rng.randrange(len(message))])


def _cut_frame(rng: random.Random, message: bytes) -> bytes:
    """A frame of which the end never comes."""
    frame = _framed(message)
    return frame[: rng.randrange(1, len(frame))]


def _frame_length(rng: random.Random, message: bytes) -> bytes:
    return struct.pack(">I", rng.choice(_SIZES + _SIZES_NEGATIVE)) + message


def _noise(rng: random.Random, message: bytes) -> bytes:
    size = rng.choice((1, 3, 4, 5, 16, 200, 5000))
    noise = rng.randbytes(size)
    return noise if rng.random() < 0.5 else _framed(noise)


def _noise_tail(rng: random.Random, message: bytes) -> bytes:
    """A right header, arguments of noise."""
    keep = rng.randrange(min(len(message), 40))
    return _framed(message[:keep] + rng.randbytes(rng.randrange(1, 300)))


def _text(rng: random.Random, message: bytes) -> bytes:
    return rng.choice(
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01" * 50)
    )


def _glued(rng: random.Random, message: bytes) -> bytes:
    """Calls without waiting for answers, with something bad among them."""
    parts = [_framed(message)] * rng.randrange(1, 5)
    parts.insert(rng.randrange(len(parts) + 1), _flip_bits(rng, message))
    return b"".join(parts)


_LEVELS = (70, 1000, 100_000)
_BINARY_HEAD = b"\x80\x01\x00\x01\x00\x00\x00\x0cinsertRecord\x00\x00\x00\x00"
_COMPACT_HEAD = b"\x82\x21\x00\x0cinsertRecord"
_NESTED = (
    _BINARY_HEAD + b"%s",
    _BINARY_HEAD + b"\x0c\x00\x01" + b"%s",
    _COMPACT_HEAD + b"%s",
    _COMPACT_HEAD + b"\x1c" + b"%s",
)
_BINARY_LEVELS = (
    b"\x0c\x00\x63",  # struct, field 99
    b"\x0f\x00\x63\x0c\x00\x00\x00\x01",  # list of one struct
    b"\x0d\x00\x63\x02\x0c\x00\x00\x00\x01\x01",  # map to a struct
)
_BINARY_LISTS = (b"\x0f\x00\x63", b"\x0f\x00\x00\x00\x01")
_COMPACT_LEVELS = (b"\xfc", b"\xf9\x1c", b"\xfb\x01\x1c\x01")
_COMPACT_LISTS = (b"\xf9", b"\x19")


def _deep(rng: random.Random, message: bytes) -> bytes:
    """Nesting that ends no program but one that recurses without a limit."""
    levels = rng.choice(_LEVELS)
    number = rng.randrange(4)
    if rng.random() < 0.3:
        first, level = _BINARY_LISTS if number < 2 else _COMPACT_LISTS
        body = first + level * levels
    else:
        body = rng.choice(_BINARY_LEVELS if number < 2 else _COMPACT_LEVELS) * levels
    return _framed(_NESTED[number] % body)


def _wide(rng: random.Random, message: bytes) -> bytes:
    """Lists and maps that claim more than they have, or much of nothing."""
    size = struct.pack(">I", rng.choice(_SIZES))
    body = rng.choice(
        (
            b"\x0c\x00\x01\x0f\x00\x03\x0b" + size,  # measurements
            b"\x0c\x00\x01\x0f\x00\x03\x0f" + size,  # wrong element type
            b"\x0c\x00\x01\x0b\x00\x04" + size,  # values
            b"\x0c\x00\x01\x0d\x00\x63\x0b\x0b" + size,  # unknown map
            b"\x0c\x00\x01\x0f\x00\x63\x02" + size + bytes(2000),  # unknown list of booleans
        )
    )
    return _framed(_BINARY_HEAD + body)


def _renamed(rng: random.Random, message: bytes) -> bytes:
    """A method that does not exist, a kind of message that nobody asks a server."""
    name = rng.choice((b"noSuchMethod", b"__init__", b"\xff\xfe\x00", b"", b"x" * 5000))
    kind = rng.choice((1, 1, 2, 3, 4, 9))
    head = struct.pack(">HBBI", 0x8001, 0, kind, len(name)) + name + bytes(4)
    return _framed(head + rng.choice((b"\x00", b"\x0f\x00\x01\x02\x00\x00\x10\x00" + bytes(4096))))


_MAKERS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _valid,
    _flip_bits,
    _flip_bits,
    _flip_bits,
    _overwrite_numbers,
    _overwrite_numbers,
    _overwrite_types,
    _overwrite_types,
    _truncate,
    _truncate,
    _cut_frame,
    _frame_length,
    _noise,
    _noise_tail,
    _noise_tail,
    _text,
    _glued,
    _deep,
    _wide,
    _wide,
    _renamed,
)
