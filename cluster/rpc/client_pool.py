"""Calls to other nodes: channels (one connection each) and pools of them by node."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from thrift.Thrift import TApplicationException

from cluster.errors import ClusterError
from cluster.raft.types import NodeId
from cluster.rpc.deadline import Deadline
from cluster.rpc.framing import (
    BinaryOutput,
    BinaryReplies,
    Buffer,
    FrameError,
    FrameInput,
    FrameReader,
    output_like,
    send_frame,
    with_binary_field,
)
from cluster.rpc.resolve import RESOLVER
from cluster.rpc.server import ServerLimits

logger = logging.getLogger(__name__)

_IDLE_PER_NODE = 16
_LATE_S = 0.001
"""Enough to take an answer that is there."""
_FRESH_S = 1.0
"""A connection that a message was answered on so lately is taken to be there still."""

Ask = Callable[..., Any]
"""`ask(method, *args)` returns the answer of who is at the other end of a new connection."""

Greet = Callable[[Ask], None]
"""Raises a ClusterError when somebody else answers than was meant."""


class RpcError(Exception):
    """A call got no answer.

    Args:
        definitely_not_sent: the other node has certainly not executed the call: it could not be
            reached, or never received the complete request. When false it may have.
    """

    def __init__(self, message: str, *, definitely_not_sent: bool) -> None:
        super().__init__(message)
        self.definitely_not_sent = definitely_not_sent


class RpcChannel:
    """One connection to one node: connects when needed, closes on any transport error.

    Used by one thread at a time; `close` may come from any thread and cuts a call under way. A
    connection is never used again after a time-out: a late answer would be taken for the
    next one's.

    Args:
        address: asked anew at each connect, since a node's address may change. A ClusterError that
            it raises (address unknown) counts as not sent.
        client_factory: generated client class, for instance DataGroupService.Client.
        connect_timeout_s: bound on connecting, within the time-out of the call.
        limits: bounds on answers.
        greet: goes first on each new connection, within `connect_timeout_s`; after its refusal
            nothing is sent.
    """

    def __init__(
        self,
        address: Callable[[], tuple[str, int]],
        client_factory: Callable[..., Any],
        connect_timeout_s: float,
        limits: ServerLimits = ServerLimits(),  # noqa: B008 - frozen
        greet: Greet | None = None,
    ) -> None:
        self._address = address
        self._greet = greet
        self._connect_timeout_s = connect_timeout_s
        self._limits = limits
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._reader: FrameReader | None = None
        self._closed = False
        self._in_call = False
        self._unanswered = 0
        self._used_at = 0.0
        self._where = "node"
        self._replies = BinaryReplies(FrameInput(), fallback=False)
        self._requests = output_like(BinaryOutput)
        self._client = client_factory(self._replies, self._requests)

    def call(self, method: str, *args: Any, timeout_s: float) -> Any:  # noqa: ANN401
        """Call a method and return its result.

        Raises:
            RpcError: no answer; see its `definitely_not_sent`. Also when the other side
                answers with a Thrift application error: an unknown method was not executed, an
                internal error may have happened at any point.
        """
        deadline = Deadline.after(timeout_s)
        self.send(method, *args, deadline=deadline)
        return self.receive(method, deadline)

    def send(self, method: str, *args: Any, deadline: Deadline) -> None:  # noqa: ANN401
        """The first half of `call`; `receive` must follow, unless it raises."""
        parts = self._encode(method, args)
        self._begin_call(method)
        try:
            self._send(method, parts, deadline)
        except BaseException:
            self._end_call()
            raise

    def send_message(self, method: str, message: bytes, deadline: Deadline) -> None:
        """Do what `send` does with a short call that is encoded already, and does no harm twice.

        At fewer system calls: a connection that was in use within a second is not looked at first,
        and with nothing under way there is room for a short message.
        """
        self._begin_call(method)
        try:
            sock = self._sock
            if sock is None or self._unanswered or time.monotonic() - self._used_at > _FRESH_S:
                self._send(method, [message], deadline)
                return
            try:
                send_frame(sock, [message])
            except OSError as error:
                self._drop()
                raise self._error(method, error, not_sent=True) from error
        except BaseException:
            self._end_call()
            raise

    def receive(self, method: str, deadline: Deadline) -> Any:  # noqa: ANN401
        """The second half of `call`: wait for the answer."""
        try:
            return self._receive(method, deadline)
        finally:
            self._end_call()

    def receive_message(self, method: str, deadline: Deadline) -> bytes:
        """Do what `receive` does, without decoding: the answer is the caller's to check.

        One that came in time may be taken later.
        """
        if deadline.expired:
            deadline = Deadline.after(_LATE_S)
        try:
            payload = self._receive_payload(deadline)
            self._used_at = time.monotonic()
            return payload
        except Exception as error:
            self._drop()
            raise self._error(method, error, not_sent=False) from error
        finally:
            self._end_call()

    def post(
        self,
        method: str,
        *args: Any,  # noqa: ANN401
        timeout_s: float,
        tail: tuple[int, list[bytes]] | None = None,
    ) -> None:
        """Send a call whose answer `answer` will return: several may be under way.

        `tail` is a binary field of the one argument, by number, and its parts: it is not copied.

        Raises:
            RpcError: it could not be sent, and no call under way will be answered any more.
        """
        deadline = Deadline.after(timeout_s)
        parts = self._encode(method, args)
        if tail is not None:
            parts = with_binary_field(parts, *tail)
        self._begin_call(method)
        try:
            self._send(method, parts, deadline)
            self._unanswered += 1
        finally:
            self._end_call()

    def answer(self, method: str, *, timeout_s: float) -> Any:  # noqa: ANN401
        """Return the result of the oldest call that was posted.

        Raises:
            RpcError: as `call`; but for an application error, no other call will be answered.
        """
        self._begin_call(method)
        try:
            if not self._unanswered:
                raise RpcError(f"{method}: the connection was lost", definitely_not_sent=False)
            self._unanswered -= 1
            return self._receive(method, Deadline.after(timeout_s))
        finally:
            self._end_call()

    def connect(self, timeout_s: float) -> None:
        """Connect and greet now, where that has not been done: the next call does not wait for it.

        Raises:
            RpcError: as `call`; the next call tries again.
        """
        self._begin_call("connect")
        try:
            self._connected("connect", Deadline.after(timeout_s))
        finally:
            self._end_call()

    def detach(self, timeout_s: float) -> socket.socket:
        """Connect, greet, and hand the connection over, which is the caller's from then on.

        Raises:
            RpcError: as `call`.
        """
        self._begin_call("connect")
        try:
            sock = self._connected("connect", Deadline.after(timeout_s))
            with self._lock:
                self._sock = self._reader = None
            return sock
        finally:
            self._end_call()

    def close(self) -> None:
        """Close for good; a call under way ends with an RpcError."""
        with self._lock:
            self._closed = True
            if not self._in_call:
                self._drop_locked()
            elif self._sock is not None:
                # only wake the thread in the call: it owns the descriptor
                try:
                    self._sock.shutdown(socket.SHUT_RDWR)
                except OSError as error:
                    logger.debug("%s: shutdown: %s", self._where, error)

    # ---- inside ----

    def _encode(self, method: str, args: tuple[Any, ...]) -> list[Buffer]:
        # Encoding comes first: an error in it is a bug, says so, and does not touch the connection.
        try:
            getattr(self._client, f"send_{method}")(*args)
        finally:
            parts: list[Buffer] = self._requests.trans.take()
        return parts

    def _begin_call(self, method: str) -> None:
        with self._lock:
            if self._closed:
                raise RpcError(f"{method}: the channel is closed", definitely_not_sent=True)
            self._in_call = True

    def _send(self, method: str, parts: list[Buffer], deadline: Deadline) -> None:
        sock = self._connected(method, deadline)
        try:
            send_frame(sock, parts, deadline)
        except OSError as error:
            self._drop()
            raise self._error(method, error, not_sent=True) from error

    def _end_call(self) -> None:
        with self._lock:
            self._in_call = False
            if self._closed:
                self._drop_locked()

    def _receive(self, method: str, deadline: Deadline) -> Any:  # noqa: ANN401
        try:
            payload = self._receive_payload(deadline)
            self._replies.load(payload, self._limits.max_string, self._limits.max_container)
            return getattr(self._client, f"recv_{method}")()
        except TApplicationException as error:
            unknown = error.type == TApplicationException.UNKNOWN_METHOD
            raise self._error(method, error, not_sent=unknown) from error
        except Exception as error:  # bytes that cannot be decoded are a transport problem, too
            self._drop()
            raise self._error(method, error, not_sent=False) from error

    def _receive_payload(self, deadline: Deadline) -> bytes:
        payload = self._reader.read(deadline) if self._reader is not None else None
        if payload is None:
            raise FrameError("the connection was closed before the answer came")
        return payload

    def _connected(self, method: str, deadline: Deadline) -> socket.socket:
        sock = self._sock
        if sock is not None and (self._unanswered or not _is_stale(sock)):
            return sock
        self._drop()
        try:
            host, port = self._address()
        except ClusterError as error:
            raise RpcError(error.message, definitely_not_sent=True) from error
        self._where = f"{host}:{port}"
        try:
            sock = self._connect(host, port, deadline.earlier(self._connect_timeout_s))
        except OSError as error:
            self._drop()
            reason = error.strerror or str(error) or type(error).__name__
            raise RpcError(
                f"no connection to {self._where}: {reason}", definitely_not_sent=True
            ) from error
        if self._greet is not None:
            self._meet(self._greet, sock, deadline.earlier(self._connect_timeout_s))
        return sock

    def _meet(self, greet: Greet, sock: socket.socket, deadline: Deadline) -> None:
        def ask(method: str, *args: Any) -> Any:  # noqa: ANN401
            send_frame(sock, self._encode(method, args), deadline)
            return self._receive(method, deadline)

        try:
            greet(ask)
        except (ClusterError, OSError, RpcError, ValueError) as error:
            self._drop()
            text = error.message if isinstance(error, ClusterError) else error
            raise RpcError(f"{self._where}: {text}", definitely_not_sent=True) from error

    def _connect(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        def begun(sock: socket.socket) -> None:
            with self._lock:
                self._sock = sock
                if self._closed:
                    raise ConnectionError("the channel is closed")

        sock = connect_to(host, port, deadline, begun)
        self._reader = FrameReader(sock, self._limits.max_frame_bytes)
        return sock

    def _drop(self) -> None:
        with self._lock:
            self._drop_locked()

    def _drop_locked(self) -> None:
        sock, self._sock, self._reader = self._sock, None, None
        self._unanswered = 0
        if sock is not None:
            sock.close()

    def _error(self, method: str, error: Exception, *, not_sent: bool) -> RpcError:
        text = str(error) or type(error).__name__
        if isinstance(error, TApplicationException):
            text = f"the node answered: {error.message or error}"
        return RpcError(f"{self._where}: {method}: {text}", definitely_not_sent=not_sent)


class _CallGuard:
    """Lets others end a call, but never the channel's next one."""

    def __init__(self, channel: RpcChannel) -> None:
        self._lock = threading.Lock()
        self._channel: RpcChannel | None = channel

    def cut(self) -> None:
        with self._lock:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def end(self) -> bool:
        """Whether the channel may be used again: it has not been cut, and now won't be."""
        with self._lock:
            whole = self._channel is not None
            self._channel = None
            return whole


class BegunCall(NamedTuple):
    """A request that is on its way; `finish` waits for its answer, and is to be called once."""

    finish: Callable[[], Any]


class ClientPool:
    """Channels to many nodes, made when needed and kept for the next call; thread-safe.

    As many calls as there are callers may be under way at a time; at most `max_idle` channels per
    node are kept, the last used first.

    Args:
        resolve: returns (host, port) of a node now, or raises ClusterError when it is unknown.
        client_factory, connect_timeout_s, limits: see RpcChannel.
        greet: makes the greeting of a node's channels.
    """

    def __init__(
        self,
        resolve: Callable[[NodeId], tuple[str, int]],
        client_factory: Callable[..., Any],
        *,
        connect_timeout_s: float = 2.0,
        limits: ServerLimits = ServerLimits(),  # noqa: B008 - frozen
        max_idle: int = _IDLE_PER_NODE,
        greet: Callable[[NodeId], Greet] | None = None,
    ) -> None:
        self._greet = greet
        self._resolve = resolve
        self._client_factory = client_factory
        self._connect_timeout_s = connect_timeout_s
        self._limits = limits
        self._max_idle = max_idle
        self._lock = threading.Lock()
        self._idle: dict[NodeId, list[RpcChannel]] = {}
        self._busy: set[RpcChannel] = set()
        self._closed = False

    def call(
        self,
        node_id: NodeId,
        method: str,
        *args: Any,  # noqa: ANN401
        deadline: Deadline,
        on_start: Callable[[Callable[[], None]], None] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call a method of a node and return its result.

        `on_start` is given what ends the call from another thread, with an RpcError; calling that
        after the call's end does no harm.

        Raises:
            RpcError: no answer; see RpcChannel.call. An unknown address counts as not sent.
        """
        return self._begin(
            node_id,
            method,
            lambda channel: channel.send(method, *args, deadline=deadline),
            lambda channel: channel.receive(method, deadline),
            deadline,
            on_start,
        ).finish()

    def begin_message(
        self,
        node_id: NodeId,
        method: str,
        message: bytes,
        *,
        deadline: Deadline,
        on_start: Callable[[Callable[[], None]], None] | None = None,
    ) -> BegunCall:
        """Send a request that is encoded already; `finish` of what this returns must follow.

        The answer comes as it is. For the rest see `call`.
        """
        return self._begin(
            node_id,
            method,
            lambda channel: channel.send_message(method, message, deadline),
            lambda channel: channel.receive_message(method, deadline),
            deadline,
            on_start,
        )

    def _begin(
        self,
        node_id: NodeId,
        method: str,
        send: Callable[[RpcChannel], None],
        receive: Callable[[RpcChannel], Any],
        deadline: Deadline,
        on_start: Callable[[Callable[[], None]], None] | None,
    ) -> BegunCall:
        if deadline.remaining_s() <= 0:
            raise RpcError(f"{method}: the deadline has passed", definitely_not_sent=True)
        channel = self._take(node_id)
        guard = _CallGuard(channel)
        try:
            if on_start is not None:
                on_start(guard.cut)
            send(channel)
        except BaseException:
            self._give_back(node_id, channel, reusable=False)
            raise

        def finish() -> Any:  # noqa: ANN401
            reusable = False
            try:
                result = receive(channel)
                reusable = guard.end()
                return result
            finally:
                self._give_back(node_id, channel, reusable=reusable)

        return BegunCall(finish)

    def close(self) -> None:
        """Close every channel; calls under way end with an RpcError."""
        with self._lock:
            self._closed = True
            channels = [*self._busy, *(item for idle in self._idle.values() for item in idle)]
            self._idle.clear()
        for channel in channels:
            channel.close()

    def idle_count(self, node_id: NodeId) -> int:
        """Return how many channels wait for the next call to a node."""
        with self._lock:
            return len(self._idle.get(node_id, ()))

    def _take(self, node_id: NodeId) -> RpcChannel:
        with self._lock:
            if self._closed:
                raise RpcError("the node is stopping", definitely_not_sent=True)
            idle = self._idle.get(node_id)
            if idle:
                channel = idle.pop()
            else:
                channel = RpcChannel(
                    lambda: self._resolve(node_id),
                    self._client_factory,
                    self._connect_timeout_s,
                    self._limits,
                    self._greet(node_id) if self._greet is not None else None,
                )
            self._busy.add(channel)
            return channel

    def _give_back(self, node_id: NodeId, channel: RpcChannel, *, reusable: bool) -> None:
        with self._lock:
            self._busy.discard(channel)
            if reusable and not self._closed:
                idle = self._idle.setdefault(node_id, [])
                if len(idle) < self._max_idle:
                    idle.append(channel)
                    return
        channel.close()


def connect_to(
    host: str,
    port: int,
    deadline: Deadline,
    begun: Callable[[socket.socket], None] = lambda _: None,
) -> socket.socket:
    """Return a socket in blocking mode that is connected to one of a host's addresses.

    Args:
        host: name or address.
        port: of all its addresses.
        deadline: of each attempt.
        begun: called with each socket that is tried; one of a failed attempt is closed afterwards.

    Raises:
        OSError: of the last address; or of `begun`.
    """
    last: OSError = ConnectionError("the name has no address")
    addresses = RESOLVER.addresses(host, port, deadline.remaining_s())
    for family, kind, number, _, address in addresses:
        sock = socket.socket(family, kind, number)
        begun(sock)
        try:
            sock.settimeout(max(0.001, deadline.remaining_s()))
            sock.connect(address)
            sock.setblocking(True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            sock.close()
            last = error
            continue
        return sock
    raise last


def _is_stale(sock: socket.socket) -> bool:
    """Whether an idle connection has ended, or has bytes that nobody asked for."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
