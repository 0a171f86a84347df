"""The Thrift server: an acceptor thread, one thread per connection, limits, a clean stop.

Invariants:

1. Nothing that a peer sends ends the server: a frame that cannot be decoded closes its connection,
   an error of a handler becomes a TApplicationException and the connection stays.
2. A method that the handler does not have is answered UNKNOWN_METHOD (client-protocol rule 2).
3. `on_disconnect` is called exactly once for each connection that was served.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thrift.Thrift import TApplicationException, TMessageType, TProcessor

from cluster.errors import ListenError
from cluster.rpc.deadline import Deadline
from cluster.rpc.framing import (
    FrameError,
    FrameReader,
    HttpRequest,
    Idle,
    Input,
    Output,
    SlowPeer,
    output_like,
    protocols_for,
    send_frame,
    set_timeout,
)
from cluster.rpc.lent import LentConnection, LoopService
from cluster.rpc.loop import FrameLoop
from cluster.threads import ThreadRegistry

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_STALL_S = 60.0
"""A peer that stops in the middle of a frame, or of taking an answer, is given up after this."""
_ACCEPT_PAUSE_S = 0.1
_NO_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks Thrift, not HTTP: connect with a client of the IoTDB family, or with "
    b"sbin/start-cli.sh.\n"
)
_LOOK_S = 0.1
_LEND_AFTER = 4
"""So many requests in a row that a loop can serve, and it gets the connection."""


@dataclass(frozen=True)
class ServerLimits:
    """What one server takes from its peers.

    Attributes:
        max_frame_bytes: larger requests close the connection before they are read.
        max_container: elements of one list or map; also never more than the frame has bytes.
        max_string: bytes of one string or binary; also never more than the frame has.
        max_connections: connections above this are closed at once.
        idle_timeout_s: a connection without a request for this long is closed; None: never.
    """

    max_frame_bytes: int = 64 << 20
    max_container: int = 10_000_000
    max_string: int = 512 << 20
    max_connections: int = 1024
    idle_timeout_s: float | None = None


class Connection:
    """One client's connection.

    Args:
        sock: None for a caller in this process, see `calls_of`.

    Attributes:
        number: unique within the server, ascending.
        peer: (host, port) of the client.
        state: the handler's own; only touched by the connection's thread.
        idle_since: when the last answer had been sent, or the connection was made (monotonic, s).
        waited_s: how long the connection had been idle when the present request came.
    """

    def __init__(self, number: int, sock: socket.socket | None, address: tuple[Any, ...]) -> None:
        self.number = number
        self.peer: tuple[str, int] = (str(address[0]), int(address[1]))
        self.state: dict[str, Any] = {}
        self.idle_since = time.monotonic()
        self.waited_s = 0.0
        self._sock = sock
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None  # noqa: TID251

    def __repr__(self) -> str:
        return f"Connection({self.peer[0]}:{self.peer[1]})"

    def is_gone(self) -> bool:
        """Whether the peer has closed the connection; looked at from any thread, takes nothing."""
        with self._lock:
            if self._closed:
                return True
            if self._sock is None:
                return False
            try:
                return not self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                return True

    def _shutdown(self, how: int) -> None:
        """Wake the connection's thread; harmless when it is gone already."""
        with self._lock:
            if not self._closed and self._sock is not None:
                try:
                    self._sock.shutdown(how)
                except OSError as error:
                    logger.debug("%r: shutdown: %s", self, error)

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            if self._sock is not None:
                self._sock.close()


_current = threading.local()


def current_connection() -> Connection:
    """Return the connection whose request the calling thread handles.

    Raises:
        RuntimeError: the thread handles no request.
    """
    connection = getattr(_current, "connection", None)
    if not isinstance(connection, Connection):
        raise RuntimeError("no request is being handled by this thread")
    return connection


class calls_of:  # noqa: N801 - used like a function
    """Let the calling thread call a handler's methods itself, as requests of `connection`."""

    __slots__ = ("_before", "_connection")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._before = getattr(_current, "connection", None)
        _current.connection = self._connection

    def __exit__(self, *_: object) -> None:
        _current.connection = self._before


class LoopShare:
    """What a server needs to lend its connections to a loop.

    Args:
        loop: runs until after the server has stopped.
        service: serves them there.
    """

    def __init__(self, loop: FrameLoop, service: LoopService) -> None:
        self.service = service
        self._loop = loop
        self._lent: set[LentConnection] = set()
        loop.watch(self._look)
        loop.before_end(self._end)

    def lend(self, owner: object, sock: socket.socket, rest: bytes) -> LentConnection | None:
        """Have a connection served by the loop until it is given back; None: it was not."""
        lent = LentConnection(self._loop, sock, self.service, owner, rest)

        def begin() -> None:
            self._lent.add(lent)
            lent.begin()

        if not self._loop.call(begin):
            return None
        lent.wait()
        return lent

    def _look(self, now: float) -> bool:
        for lent in list(self._lent):
            lent.leave_if_idle(now)
            if lent.is_back:
                self._lent.discard(lent)
        return bool(self._lent)

    def _end(self) -> None:
        for lent in self._lent:
            lent.abandon()


class CallerDeadline(Deadline):
    """A deadline that is given up when the caller has closed its connection.

    Args:
        deadline: the caller's.
        connection: the caller's.
    """

    __slots__ = ("_connection", "_gone", "_looked_at")

    def __init__(self, deadline: Deadline, connection: Connection) -> None:
        super().__init__(deadline._at)
        self._connection = connection
        self._looked_at = time.monotonic()
        self._gone = False

    @property
    def given_up(self) -> bool:
        """Whether the connection is closed, as far as was seen; looks a few times a second."""
        now = time.monotonic()
        if now - self._looked_at > _LOOK_S and not self._gone:
            self._looked_at = now
            self._gone = self._connection.is_gone()
        return self._gone


def callers_deadline(deadline: Deadline) -> Deadline:
    """Return a deadline that also ends when the caller of the request at hand goes away."""
    connection = getattr(_current, "connection", None)
    return CallerDeadline(deadline, connection) if isinstance(connection, Connection) else deadline


class ThriftServer:
    """Serves a generated processor; framed, binary or compact as each connection begins.

    Args:
        name: for thread names (`accept-name`, `serve-name-number`) and log lines.
        processor: generated; its handler is called from many threads.
        on_disconnect: called on the connection's thread after its last request.
        on_idle: called on the connection's thread now and then, at most a minute apart, while it
            waits for a request.
        quick: called with each payload; what it returns is the payload of the answer. None: the
            processor has it. It must not raise, and must check the bytes itself.
        share: lends connections that send nothing but what a loop can serve; None: none are.
    """

    def __init__(
        self,
        name: str,
        processor: TProcessor,
        host: str,
        port: int,
        threads: ThreadRegistry,
        limits: ServerLimits,
        on_disconnect: Callable[[Connection], None] | None = None,
        on_idle: Callable[[Connection], None] | None = None,
        quick: Callable[[Connection, bytes], bytes | None] | None = None,
        share: LoopShare | None = None,
    ) -> None:
        self._share = share
        self._name = name
        self._processor = processor
        self._host = host
        self._threads = threads
        self._limits = limits
        self._on_disconnect = on_disconnect
        self._on_idle = on_idle
        self._quick = quick
        self.port = port
        self._lock = threading.Lock()
        self._connections: dict[int, Connection] = {}
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._wake: socket.socket | None = None
        self._acceptor: threading.Thread | None = None  # noqa: TID251
        self._refused = 0
        self._not_taken = 0
        self._slow = 0
        _drop_missing_methods(processor)

    def start(self) -> None:
        """Bind and listen, then accept in the background; sets `port`.

        Raises:
            ListenError: the address cannot be bound; the message names it.
        """
        self._listener = _listen(self._host, self.port)
        self.port = self._listener.getsockname()[1]
        self._wake, woken = socket.socketpair()
        listener = self._listener
        self._acceptor = self._threads.spawn(
            f"accept-{self._name}", lambda: self._accept(listener, woken)
        )

    def connection_count(self) -> int:
        """Return the number of connections being served."""
        with self._lock:
            return len(self._connections)

    def connections(self) -> list[Connection]:
        """Return the connections being served, oldest first."""
        with self._lock:
            return list(self._connections.values())

    def stop(self, timeout_s: float = 5) -> None:
        """Stop accepting, let requests under way be answered, close everything, join the threads.

        Half of the time is for the requests under way; then their connections are cut. A thread
        that still does not end (a handler that hangs) is named in the log and left behind. May be
        called twice, and from a handler.
        """
        self._stopping.set()
        end = time.monotonic() + timeout_s
        if self._wake is not None:
            self._wake.close()  # the acceptor sees the end of the pair and closes the listener
            self._wake = None
        if self._acceptor is not None:
            _join(self._acceptor, end)
        for connection in self.connections():
            connection._shutdown(socket.SHUT_RD)
        self._join_all(time.monotonic() + timeout_s / 2)
        for connection in self.connections():
            connection._shutdown(socket.SHUT_RDWR)
        left = self._join_all(end)
        if left:
            logger.warning("server %s: still busy after %.1f s: %s", self._name, timeout_s, left)

    def _join_all(self, end: float) -> list[str]:
        threads = [item._thread for item in self.connections() if item._thread is not None]
        return [thread.name for thread in threads if not _join(thread, end)]

    # ---- acceptor ----

    def _accept(self, listener: socket.socket, woken: socket.socket) -> None:
        with listener, woken, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if any(key.fileobj is woken for key, _ in selector.select()):
                    return
                try:
                    sock, address = listener.accept()
                except BlockingIOError:
                    continue  # the client has gone already
                except OSError as error:
                    # mostly EMFILE: the connection stays in the backlog, so do not spin on it
                    self._tell_not_taken(error)
                    self._stopping.wait(_ACCEPT_PAUSE_S)
                    continue
                self._admit(sock, address)

    def _admit(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        with self._lock:
            full = len(self._connections) >= self._limits.max_connections
            if not full:
                connection = Connection(next(self._numbers), sock, address)
                self._connections[connection.number] = connection
        if full:
            sock.close()
            self._refused += 1
            if self._refused & (self._refused - 1) == 0:
                logger.warning(
                    "server %s: %d connections are the limit; %d refused so far",
                    self._name,
                    self._limits.max_connections,
                    self._refused,
                )
            return
        try:
            _configure(sock, self._limits)
            connection._thread = self._threads.spawn(
                f"serve-{self._name}-{connection.number}", lambda: self._serve(connection)
            )
        except (OSError, RuntimeError) as error:  # gone already; or no more threads
            self._tell_not_taken(error)
            self._forget(connection)

    def _tell_not_taken(self, error: Exception) -> None:
        """Log that there is no file or thread for a connection, ever more rarely."""
        self._not_taken += 1
        if self._not_taken & (self._not_taken - 1) == 0:
            logger.warning(
                "server %s: a connection can't be taken (of %d tries so far): %s",
                self._name,
                self._not_taken,
                error,
            )

    def _forget(self, connection: Connection) -> None:
        connection._close()
        with self._lock:
            self._connections.pop(connection.number, None)

    # ---- connection thread ----

    def _serve(self, connection: Connection) -> None:
        _current.connection = connection
        assert connection._sock is not None
        try:
            self._serve_frames(connection, connection._sock)
        except HttpRequest:
            logger.debug("server %s: %r closed: it speaks HTTP", self._name, connection)
            _refuse_http(connection._sock)
        except SlowPeer as error:
            self._slow += 1
            if self._slow & (self._slow - 1) == 0:
                logger.warning(
                    "server %s: %r closed, it sends too slowly: %s; %d of that kind so far",
                    self._name,
                    connection,
                    error,
                    self._slow,
                )
        except (FrameError, OSError) as error:
            logger.debug("server %s: %r closed: %s", self._name, connection, error)
        finally:
            try:
                if self._on_disconnect is not None:
                    self._on_disconnect(connection)
            except Exception:
                logger.exception("server %s: %r: on_disconnect", self._name, connection)
            finally:
                self._forget(connection)

    def _serve_frames(self, connection: Connection, sock: socket.socket) -> None:
        limits, quick, share = self._limits, self._quick, self._share
        in_a_row = 0
        reader = FrameReader(sock, limits.max_frame_bytes)
        payload = self._next(reader, connection)
        if payload is None:
            return
        incoming, outgoing = protocols_for(payload)
        while payload is not None:
            if share is not None:
                in_a_row = in_a_row + 1 if share.service.wants(payload) else 0
            answer = None if quick is None else quick(connection, payload)
            if answer is None:
                incoming.load(payload, limits.max_string, limits.max_container)
                outgoing = self._answer(incoming, outgoing)
                parts = outgoing.trans.take()
            else:
                parts = [answer]
            if parts:
                send_frame(sock, parts)
            del (
                payload,
                parts,
                answer,
            )  # a large request or answer is not kept while waiting for the next
            connection.idle_since = time.monotonic()
            if in_a_row >= _LEND_AFTER and share is not None:
                in_a_row = 0
                self._lend(share, connection, sock, reader)
            payload = self._next(reader, connection)

    def _lend(
        self, share: LoopShare, connection: Connection, sock: socket.socket, reader: FrameReader
    ) -> None:
        """Have the loop serve the connection for as long as it can."""
        lent = share.lend(connection, sock, reader.take_rest())
        if lent is None:
            return
        connection.idle_since = lent.used_at
        reader.put_back(lent.rest)
        if lent.unsent:
            sock.sendall(lent.unsent)
        if lent.work is not None:
            send_frame(sock, [lent.work()])
            connection.idle_since = time.monotonic()

    def _next(self, reader: FrameReader, connection: Connection) -> bytes | None:
        while not self._stopping.is_set():
            try:
                payload = reader.read()
                connection.waited_s = time.monotonic() - connection.idle_since
                return payload
            except Idle:
                if self._on_idle is not None:
                    self._on_idle(connection)
                if self._limits.idle_timeout_s is not None:
                    logger.debug("server %s: idle connection closed", self._name)
                    return None
        return None

    def _answer(self, incoming: Input, outgoing: Output) -> Output:
        """Process one call; returns the outgoing protocol to go on with.

        Raises:
            FrameError: the call could not be decoded.
        """
        try:
            self._processor.process(incoming, outgoing)
        except Exception as error:
            if not incoming.decoded:
                raise FrameError(f"{type(error).__name__}: {error}") from error
            # The handler's answer could not be encoded (or the handler raised what the generated
            # code lets through). Its protocol object may be in the middle of a struct: a new one.
            logger.exception("server %s: no answer could be made", self._name)
            name, _, seqid = incoming.readMessageBegin()
            outgoing = output_like(type(outgoing))
            outgoing.writeMessageBegin(name, TMessageType.EXCEPTION, seqid)
            TApplicationException(TApplicationException.INTERNAL_ERROR, "Internal error").write(
                outgoing
            )
            outgoing.writeMessageEnd()
        return outgoing


def _refuse_http(sock: socket.socket) -> None:
    """Tell who tries a browser, or curl, what this port is."""
    with contextlib.suppress(OSError):
        sock.sendall(_NO_HTTP)


def _drop_missing_methods(processor: Any) -> None:  # noqa: ANN401
    """Make the processor answer UNKNOWN_METHOD for what its handler does not have."""
    handler = processor._handler
    methods = processor._processMap
    for name in [name for name in methods if not callable(getattr(handler, name, None))]:
        del methods[name]


def check_can_listen(host: str, port: int) -> None:
    """Find out now whether a server that is started later will get its address; no sure thing.

    Raises:
        ListenError: another process has it, or this machine can't have it.
    """
    _bound(host, port).close()  # not listening: nobody is let in and sent away


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ListenError(error, host, port) from error
    return listener


def _listen(host: str, port: int) -> socket.socket:
    listener = _bound(host, port)
    try:
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ListenError(error, host, port) from error
    return listener


def _configure(sock: socket.socket, limits: ServerLimits) -> None:
    sock.setblocking(True)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Kernel time-outs: unlike settimeout they cost no system call per request.
    receive_s = min(_STALL_S, limits.idle_timeout_s or _STALL_S)
    set_timeout(sock, socket.SO_RCVTIMEO, receive_s)
    set_timeout(sock, socket.SO_SNDTIMEO, _STALL_S)


def _join(thread: threading.Thread, end: float) -> bool:  # noqa: TID251
    """Wait for a thread; True when it has ended (or is the calling one)."""
    if thread is threading.current_thread():
        return True
    thread.join(max(0.0, end - time.monotonic()))
    return not thread.is_alive()
