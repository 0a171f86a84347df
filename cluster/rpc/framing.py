"""Frames and messages: bytes of a socket ⇄ what the generated code reads and writes.

Both ends of the project use this: the servers and the channels to other nodes. A frame is i32
length + payload, a payload is one message (client-protocol 1.1).

The library's `TFramedTransport` would do, at more cost and with other limits: here a frame is
received whole with as few system calls as possible (each one hands the interpreter lock to other
threads), the message header is taken from it with one `unpack`, the C decoder (`fastbinary`) does
the rest, and an answer goes out without being copied together when it is large.

What a hostile peer can do is bounded here:

1. A length above the limit ends the connection before anything is allocated; below it, memory grows
   only with what really arrives (chunks of at most 1 MiB).
2. Strings and containers may not claim more bytes or elements than the payload has: an element
   takes at least one byte in either protocol.
3. Nesting is bounded by the library (64 levels); nothing but CALL and ONEWAY messages is taken.
   Releases of the library before 0.25 recurse without a bound: one frame of a few hundred kilobytes
   overflows the stack of the process. They are refused when this module is imported.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from struct import Struct
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.protocol.TCompactProtocol import TCompactProtocolAccelerated
from thrift.protocol.TProtocol import TProtocolException
from thrift.Thrift import TMessageType, TType
from thrift.transport.TTransport import CReadableTransport, TTransportBase

from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.client.ttypes import TSExecuteStatementResp, TSFetchResultsResp

_READ_BYTES = 16 << 10
"""One receive of this size takes most requests whole."""
_EXPECT_BYTES = 120 << 10
"""Where the last frame was larger than a read, the next is expected to be as large, up to this.

Each receive gives the GIL away, and getting it back takes longer than the copy that is saved by
reading a length first. From 128 KiB on, a buffer is a mapping of its own to the C library. Larger
frames take two receives anyway: the length first, and then the rest without a copy."""
_CHUNK_BYTES = 1 << 20
_JOIN_BYTES = 64 << 10
"""Answers up to this size are copied together, which is cheaper than handing over the pieces."""

_LENGTH_BYTES = 4
_SLACK = 0.05
_MOST_SLACK_S = 0.1
"""So much later than at its deadline may a wait for an answer end."""
_HTTP_BEGINS = (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI")
_FRAME_S = 60.0
_FRAME_BYTES_PER_S = 64 << 10
"""A frame that has begun may take so many seconds, and one for each so many bytes."""

_TIMEVAL = Struct("@ll")
_LENGTH = Struct(">I")
_STRING_FIELD = Struct(">BhI")
_STRING = 11
_MAX_VECTORS = 512
_BINARY_HEAD = Struct(">HBBi")
_BINARY_VERSION = 0x8001
_BINARY_FIRST = 0x80
_COMPACT_FIRST = 0x82
_COMPACT_VERSION = 1
_WAIT_ALL = getattr(socket, "MSG_WAITALL", 0)
_MORE = getattr(socket, "MSG_MORE", 0)
_REQUESTS = (TMessageType.CALL, TMessageType.ONEWAY)
_NAME_BYTES = 256


class FrameError(Exception):
    """The peer sent something that is no frame or no message; the connection is to be closed."""


class HttpRequest(FrameError):
    """The peer speaks HTTP; the connection is to be closed."""


class SlowPeer(FrameError):
    """The peer has taken too long for one frame; the connection is to be closed."""


class Idle(Exception):
    """No frame has begun within the socket's receive time-out."""


class FrameReader:
    """Receives frames from a connected stream socket; used by one thread at a time.

    Without a deadline the socket is in blocking mode; it may have SO_RCVTIMEO set: a peer that
    stalls within a frame for that long gets a FrameError, one that sends nothing at all gets an
    Idle, and one that goes on sending, but hardly, a SlowPeer.
    """

    def __init__(self, sock: socket.socket, max_frame_bytes: int) -> None:
        self._sock = sock
        self._max_frame_bytes = max_frame_bytes
        self._rest = b""
        self._expected = _READ_BYTES
        self._armed_s = 0.0
        """What SO_RCVTIMEO was set to by a deadline; 0: it was not."""

    def read(self, deadline: Deadline | None = None) -> bytes | None:
        """Return the next payload, not empty; None when the peer has closed between frames.

        Raises:
            FrameError: bad length, end of stream within a frame, or a stall within a frame.
            SlowPeer: the rest of a frame has not come in time.
            HttpRequest: as the name says.
            Idle: see the class.
            TimeoutError: the deadline passed.
            OSError: the connection broke.
        """
        have = self._rest
        since = None
        while len(have) < _LENGTH_BYTES:
            if not have:
                chunk = self._receive(self._expected, 0, deadline, begun=False)
            else:
                # A peer that sends byte by byte wakes this thread, which takes the GIL, for the
                # first one only. (SO_RCVLOWAT would spare that, too, but then the kernel does not
                # wake whoever waits for the last bytes of a frame, where they are fewer.)
                missing = _LENGTH_BYTES - len(have)
                chunk = self._receive(missing, _WAIT_ALL, deadline, begun=True)
            if not chunk:
                if have:
                    raise FrameError("connection closed within a frame length")
                return None
            have = have + chunk if have else chunk
            if len(have) < _LENGTH_BYTES:
                since = _check_pace(since, len(have), _LENGTH_BYTES)
        (size,) = _LENGTH.unpack_from(have)
        if not 0 < size <= self._max_frame_bytes:
            if have[:_LENGTH_BYTES] in _HTTP_BEGINS:
                raise HttpRequest("an HTTP request")
            raise FrameError(f"frame length {size} is not in [1, {self._max_frame_bytes}]")
        end = size + 4
        self._expected = max(_READ_BYTES, end) if end <= _EXPECT_BYTES else _LENGTH_BYTES
        if len(have) >= end:
            self._rest = have[end:]
            return have[4:end]
        self._rest = b""
        parts = [have[4:]] if len(have) > 4 else []
        missing = end - len(have)
        while missing:
            chunk = self._receive(min(missing, _CHUNK_BYTES), _WAIT_ALL, deadline, begun=True)
            if not chunk:
                raise FrameError(f"connection closed, {missing} of {size} bytes were missing")
            parts.append(chunk)
            missing -= len(chunk)
            if missing and deadline is None:
                since = _check_pace(since, size - missing, size)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def pending(self) -> bool:
        """Whether bytes after the last frame have been received already."""
        return bool(self._rest)

    def take_rest(self) -> bytes:
        """Return what was received after the last frame, to be read by somebody else."""
        rest, self._rest = self._rest, b""
        return rest

    def put_back(self, data: bytes) -> None:
        """Read `data` next: it was received by somebody else; nothing else may be left."""
        assert not self._rest
        self._rest = data

    def _receive(self, size: int, flags: int, deadline: Deadline | None, *, begun: bool) -> bytes:
        if deadline is not None:
            self._armed_s = _armed(self._sock, socket.SO_RCVTIMEO, deadline, self._armed_s)
        try:
            return self._sock.recv(size, flags)
        except BlockingIOError as error:  # SO_RCVTIMEO
            if deadline is not None:
                raise TimeoutError("no answer in time") from error
            if begun:
                raise FrameError("the peer stalled within a frame") from error
            raise Idle from error


def _check_pace(since: float | None, received: int, size: int) -> float:
    """Return since when a frame is being received; raise SlowPeer when that is too long."""
    now = time.monotonic()
    if since is None:
        return now
    if now - since > _FRAME_S + size / _FRAME_BYTES_PER_S:
        raise SlowPeer(f"{received} bytes of {size} came in {now - since:.0f} s")
    return since


Buffer = bytes | memoryview


def send_frame(sock: socket.socket, parts: list[Buffer], deadline: Deadline | None = None) -> None:
    """Send the parts of one payload as a frame; the socket is in blocking mode.

    Raises:
        TimeoutError: the deadline passed, or the peer did not take the bytes within SO_SNDTIMEO.
        OSError: the connection broke. In every case of an error the frame has not been handed to
            the network completely: the peer never sees the message.
    """
    if deadline is not None:
        _arm(sock, socket.SO_SNDTIMEO, deadline)
    size = sum(map(len, parts))
    head = _LENGTH.pack(size)
    try:
        if size <= _JOIN_BYTES:
            sock.sendall(b"".join((head, *parts)))
            return
        _send_vectors(sock, [head, *parts])  # long parts are not copied
    except BlockingIOError as error:  # SO_SNDTIMEO
        raise TimeoutError("the peer does not take the bytes") from error


def _send_vectors(sock: socket.socket, parts: list[Buffer]) -> None:
    for start in range(0, len(parts), _MAX_VECTORS):
        vectors: list[Buffer] = [*parts[start : start + _MAX_VECTORS]]
        more = _MORE if start + _MAX_VECTORS < len(parts) else 0
        while vectors:
            sent = sock.sendmsg(vectors, (), more)
            done = 0
            while done < len(vectors) and sent >= len(vectors[done]):
                sent -= len(vectors[done])
                done += 1
            del vectors[:done]
            if vectors and sent:
                vectors[0] = memoryview(vectors[0])[sent:]


def with_binary_field(
    message: Sequence[Buffer], field: int, data: Sequence[Buffer]
) -> list[Buffer]:
    """Add a binary field to a message of the binary protocol, without copying what is in it.

    The generated code copies a megabyte several times over to encode it.

    Args:
        message: the payload of a call, whose one argument is a struct without that field.
        field: its number.
        data: what it holds, in parts.
    """
    head = b"".join(message)
    if not head.endswith(b"\0\0"):  # the ends of the argument, and of the arguments
        raise ValueError("not a call with one struct")
    field_head = _STRING_FIELD.pack(_STRING, field, sum(map(len, data)))
    return [head[:-2] + field_head, *data, b"\0\0"]


def set_timeout(sock: socket.socket, option: int, seconds: float) -> None:
    """Set SO_RCVTIMEO or SO_SNDTIMEO: no poll before each operation, unlike `settimeout`."""
    whole = int(seconds)
    micros = int((seconds - whole) * 1_000_000)
    # all zero would mean "for ever"
    sock.setsockopt(
        socket.SOL_SOCKET, option, _TIMEVAL.pack(whole, micros if whole else max(1, micros))
    )


def _armed(sock: socket.socket, option: int, deadline: Deadline, present_s: float) -> float:
    """Do what `_arm` does, up to a twentieth late, unless that time-out is set already.

    Returns:
        The time-out that is set now; `present_s` is what this returned before.
    """
    remaining = deadline.remaining_s()
    most = remaining + min(_SLACK * remaining, _MOST_SLACK_S)
    if not 0 < remaining <= present_s <= most:
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        present_s = (remaining + most) / 2  # so that it will do for the next one of its kind
        set_timeout(sock, option, present_s)
    return present_s


def _arm(sock: socket.socket, option: int, deadline: Deadline) -> None:
    remaining = deadline.remaining_s()
    if remaining <= 0:
        raise TimeoutError("the deadline has passed")
    set_timeout(sock, option, remaining)


def check_library() -> None:
    """Check that the installed Thrift library decodes in C and bounds its recursion.

    Raises:
        ImportError: it does not; says what to install.
    """
    for kind, levels in (
        (TBinaryProtocolAccelerated, b"\x0c\x00\x01" * 100),  # structs
        (TBinaryProtocolAccelerated, b"\x0f\x00\x01" + b"\x0f\x00\x00\x00\x01" * 100),  # lists
        (TCompactProtocolAccelerated, b"\x1c" * 100),
        (TCompactProtocolAccelerated, b"\x19" * 100),
    ):
        transport = FrameInput()
        transport.load(levels)
        protocol = kind(transport, fallback=False)
        try:
            protocol._fast_decode(_Empty(), protocol, [_Empty, ()])
        except Exception as error:  # which one is what this is about
            if isinstance(error, TProtocolException):
                continue
            raise ImportError(
                "this release of the thrift library does not bound the nesting of messages: any "
                "peer could crash the process. Install thrift 0.25 or later"
            ) from error


class _Empty:
    """A struct without fields."""


PIECES = "pieces"
"""Name of an attribute of an answer: its `queryResult`, each value in pieces, to be sent as they
lie. The C encoder would copy each into a buffer that it copies whenever it grows."""
_PIECES_HEAD = Struct(">BhBi")
_WITH_PIECES: tuple[Any, ...] = (TSExecuteStatementResp, TSFetchResultsResp)
_PIECES_IDS = {
    kind: next(field[0] for field in kind.thrift_spec if field and field[2] == "queryResult")
    for kind in _WITH_PIECES
}


def join_pieces(answer: Any) -> None:  # noqa: ANN401 - a generated struct
    """Put an answer's pieces where they belong, for who does not send them."""
    pieces = getattr(answer, PIECES, None)
    if pieces is not None:
        answer.queryResult = [b"".join(piece) for piece in pieces]
        delattr(answer, PIECES)


def binary_head(name: str, kind: int) -> bytes:
    """Return what a message of the binary protocol begins with, up to its sequence id."""
    text = name.encode()
    return _BINARY_HEAD.pack(_BINARY_VERSION, 0, kind, len(text)) + text


class FrameInput(CReadableTransport):  # type: ignore[misc]
    """The payload being decoded, as the generated code wants it; made once per connection."""

    cstringio_buf: BytesIO = BytesIO()

    def load(self, payload: bytes) -> None:
        """Start over with a new payload."""
        self.cstringio_buf = BytesIO(payload)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes."""
        return self.cstringio_buf.read(size)

    def readAll(self, size: int) -> bytes:  # noqa: N802 - name of the library
        """Return exactly `size` bytes; EOFError when the payload is shorter."""
        data = self.cstringio_buf.read(size)
        if len(data) != size:
            raise EOFError("the message is longer than its frame")
        return data

    def cstringio_refill(self, partial: bytes, wanted: int) -> BytesIO:
        """There is nothing to refill from: the payload is all there is."""
        raise EOFError("the message is longer than its frame")


class FrameOutput(TTransportBase):  # type: ignore[misc]
    """Collects the parts of an outgoing payload."""

    def __init__(self) -> None:
        self.parts: list[Buffer] = []
        self.write = self.parts.append

    def take(self) -> list[Buffer]:
        """Return the parts written since the last take."""
        parts = self.parts[:]
        self.parts.clear()
        return parts

    def flush(self) -> None:
        """Do nothing: the owner sends."""


class _Incoming:
    """What both incoming protocols share: loading a payload, and where decoding has got to.

    `decoded` is true once the arguments of the current call have been read.
    """

    trans: FrameInput
    string_length_limit: int
    container_length_limit: int

    def load(self, payload: bytes, max_string: int, max_container: int) -> None:
        size = len(payload)
        self.trans.load(payload)
        self._payload = payload
        self.decoded = False
        self.string_length_limit = min(max_string, size)
        self.container_length_limit = min(max_container, size)

    def _enter(self, name_at: int, name_bytes: int, kind: int) -> str:
        """Check the header and stand behind the name; returns it."""
        if not 0 <= name_bytes <= _NAME_BYTES:
            raise FrameError(f"method name of {name_bytes} bytes")
        if kind not in self.kinds:
            raise FrameError(f"unexpected message type {kind}")
        name = self._payload[name_at : name_at + name_bytes]
        if len(name) != name_bytes:
            raise FrameError("the message ends within its method name")
        return name.decode()

    kinds: tuple[int, ...] = _REQUESTS

    def readMessageEnd(self) -> None:  # noqa: N802
        """Note that the arguments have been read."""
        self.decoded = True

    def skip(self, ttype: int, max_depth: int = 64) -> None:
        """Skip what is left of an unknown method's frame, at no cost.

        The library's skip is slow Python, which a peer could keep busy for minutes. Fields inside
        of structs are skipped by the C decoder, never here.
        """


class BinaryInput(_Incoming, TBinaryProtocolAccelerated):  # type: ignore[misc]
    """Incoming calls in the binary protocol."""

    def decode_at(self, payload: bytes, at: int, struct: Any, spec: list[Any]) -> None:  # noqa: ANN401
        """Fill a generated struct from what begins at `at`; `spec`: its class and field table."""
        size = len(payload)
        stream = self.trans.cstringio_buf = BytesIO(payload)
        stream.seek(at)
        self.string_length_limit = self.container_length_limit = size
        self._fast_decode(struct, self, spec)

    def readMessageBegin(self) -> tuple[str, int, int]:  # noqa: N802
        """Return (method, message type, sequence id)."""
        payload = self._payload
        version, _, kind, name_bytes = _BINARY_HEAD.unpack_from(payload)
        if version != _BINARY_VERSION:
            raise FrameError(f"not a strict binary message: version {version:#x}")
        name = self._enter(8, name_bytes, kind)
        end = 12 + name_bytes
        if len(payload) < end:
            raise FrameError("the message ends within its header")
        self.trans.cstringio_buf.seek(end)
        return name, kind, int.from_bytes(payload[end - 4 : end], "big", signed=True)


class CompactInput(_Incoming, TCompactProtocolAccelerated):  # type: ignore[misc]
    """Incoming calls in the compact protocol."""

    def readMessageBegin(self) -> tuple[str, int, int]:  # noqa: N802
        """Return (method, message type, sequence id)."""
        payload = self._payload
        if payload[0] != _COMPACT_FIRST or payload[1] & 0x1F != _COMPACT_VERSION:
            raise FrameError("not a compact message of version 1")
        kind = payload[1] >> 5
        seqid, at = _read_varint(payload, 2)
        name_bytes, at = _read_varint(payload, at)
        name = self._enter(at, name_bytes, kind)
        self.trans.cstringio_buf.seek(at + name_bytes)
        return name, kind, seqid


class BinaryOutput(TBinaryProtocolAccelerated):  # type: ignore[misc]
    """Outgoing messages in the binary protocol."""

    trans: FrameOutput

    def __init__(self, trans: FrameOutput, **more: Any) -> None:  # noqa: ANN401
        super().__init__(trans, **more)
        encode: Any = self._fast_encode  # type: ignore[has-type]

        def with_pieces(message: Any, spec: Any) -> bytes:  # noqa: ANN401
            encoded: bytes = encode(message, spec)
            pieces = getattr(getattr(message, "success", None), PIECES, None)
            if pieces is None:
                return encoded
            # Fields may come in any order: this one behind the others of the answer, whose struct
            # ends, and with it the message's, with a byte each.
            field_id = _PIECES_IDS[type(message.success)]
            head = _PIECES_HEAD.pack(TType.LIST, field_id, TType.STRING, len(pieces))
            trans.parts.append(encoded[:-2] + head)
            for piece in pieces:
                trans.parts.append(_LENGTH.pack(sum(map(len, piece))))
                trans.parts.extend(piece)
            return encoded[-2:]

        self._fast_encode = with_pieces
        self.encode: Callable[[Any, list[Any]], bytes] = encode
        """Returns the bytes of a generated struct, which has no pieces; see `decode_at`."""

    def writeMessageBegin(self, name: str, kind: int, seqid: int) -> None:  # noqa: N802
        """Write the header in one piece."""
        self.trans.write(binary_head(name, kind) + (seqid & 0xFFFFFFFF).to_bytes(4, "big"))


class CompactOutput(TCompactProtocolAccelerated):  # type: ignore[misc]
    """Outgoing messages in the compact protocol."""

    def __init__(self, trans: FrameOutput, **more: Any) -> None:  # noqa: ANN401
        super().__init__(trans, **more)
        encode: Any = self._fast_encode  # type: ignore[has-type]

        def with_pieces(message: Any, spec: Any) -> bytes:  # noqa: ANN401
            join_pieces(getattr(message, "success", None))
            encoded: bytes = encode(message, spec)
            return encoded

        self._fast_encode = with_pieces

    def writeMessageBegin(self, name: str, kind: int, seqid: int) -> None:  # noqa: N802
        """Write the header in one piece."""
        text = name.encode()
        self.trans.write(
            bytes((_COMPACT_FIRST, _COMPACT_VERSION | kind << 5))
            + _varint(seqid & 0xFFFFFFFF)
            + _varint(len(text))
            + text
        )

    def writeMessageEnd(self) -> None:  # noqa: N802
        """Do nothing."""


class BinaryReplies(BinaryInput):
    """Incoming replies in the binary protocol: what a channel to another node reads."""

    kinds = (TMessageType.REPLY, TMessageType.EXCEPTION)

    def skip(self, ttype: int, max_depth: int = 64) -> None:
        """Skip one value (an exception is read field by field in Python)."""
        TBinaryProtocolAccelerated.skip(self, ttype, max_depth)


Input = BinaryInput | CompactInput
Output = BinaryOutput | CompactOutput


def protocols_for(payload: bytes) -> tuple[Input, Output]:
    """Return the protocol pair that a connection's first payload asks for (client-protocol 1.1).

    Raises:
        FrameError: neither binary nor compact.
    """
    if payload[0] == _BINARY_FIRST:
        return BinaryInput(FrameInput(), fallback=False), output_like(BinaryOutput)
    if payload[0] == _COMPACT_FIRST:
        return CompactInput(FrameInput(), fallback=False), output_like(CompactOutput)
    raise FrameError(f"first byte {payload[0]:#04x} is of no known protocol")


def output_like(kind: type[Any]) -> Output:
    """Return a new outgoing protocol of a class."""
    protocol: Output = kind(FrameOutput(), fallback=False)
    return protocol


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(payload: bytes, at: int) -> tuple[int, int]:
    """Return (value of at most 35 bits, position behind it)."""
    value = 0
    for shift in range(0, 35, 7):
        byte = payload[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise FrameError("a number of the header is too long")


check_library()
