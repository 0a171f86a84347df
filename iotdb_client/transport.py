"""How a session's calls reach a server: a socket with Thrift on it, or a database in this process.

A transport carries one call at a time and does not know what calls mean. What it says when a call
fails is whether the request can have reached the server: that decides whether it may be sent again.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.protocol.TCompactProtocol import TCompactProtocolAccelerated
from thrift.Thrift import TApplicationException, TException
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TFramedTransport, TTransportException

from cluster.rpc.gen.client import IClientRPCService
from iotdb_client.conninfo import ConnInfo, Tls
from iotdb_client.errors import InterfaceError

_CONNECT_TIMEOUT_S = 10.0
_CHUNK_BYTES = 4 << 20
"""Received at once, straight to where it stays, if it is there."""
_ANSWER_GRACE_S = 10.0
"""The socket waits that much longer than the server may take: its own time-out says more."""


class Lost(Exception):
    """A call was not answered; the transport can't be used any more.

    Attributes:
        sent: False when the request has certainly not reached the server.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class Transport(Protocol):
    """A way to one server.

    Attributes:
        where: for messages, e.g. "db1:6667".
    """

    where: str

    def call(self, method: str, *arguments: Any) -> Any:  # noqa: ANN401 - generated structs
        """Call a method of the client service; raises Lost."""
        ...

    def close(self) -> None:
        """Give the connection up; idempotent, also from another thread."""
        ...


class _Socket(TSocket):  # type: ignore[misc]
    """Thrift's socket; long answers are put together once, not again with every piece."""

    def readAll(self, size: int) -> bytes:  # noqa: N802 - name of the library
        """Return exactly `size` bytes; TTransportException when they don't come."""
        first: bytes = self.read(min(size, _CHUNK_BYTES))
        if len(first) == size:
            return first
        pieces, missing = [first], size - len(first)
        while missing:
            pieces.append(self.read(min(missing, _CHUNK_BYTES)))
            missing -= len(pieces[-1])
        return b"".join(pieces)


class WireTransport:
    """A TCP (or TLS) connection to a server.

    Raises:
        Lost: nobody answers there, `sent` False.
    """

    def __init__(self, host: str, port: int, info: ConnInfo) -> None:
        self.where = f"{host}:{port}"
        wait = info.timeout_s
        connect_s = _CONNECT_TIMEOUT_S if wait is None else min(_CONNECT_TIMEOUT_S, wait)
        context = None if info.tls is None else tls_context(info.tls)
        try:
            handle = socket.create_connection((host, port), timeout=connect_s)
        except OSError as error:
            raise Lost(f"{self.where}: {error.strerror or error}", sent=False) from error
        try:
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                handle = context.wrap_socket(handle, server_hostname=host)
        except OSError as error:
            handle.close()
            raise Lost(f"{self.where}: {error.strerror or error}", sent=False) from error
        # TLS may have something of its own to read at any time
        self._watch = _watch_of(handle) if context is None else None
        handle.settimeout(None if wait is None else wait + _ANSWER_GRACE_S)
        carrier = _Socket(host, port)
        carrier.setHandle(handle)
        self._transport = TFramedTransport(carrier)
        protocol = TCompactProtocolAccelerated if info.rpc_compress else TBinaryProtocolAccelerated
        self._client = IClientRPCService.Client(protocol(self._transport))

    def call(self, method: str, *arguments: Any) -> Any:  # noqa: ANN401
        """Send a request and wait for its answer."""
        if self._watch is not None and self._watch():
            # nothing is to come now: it is the end, e.g. of a server that was started anew since
            self.close()
            raise Lost("the server closed it", sent=False)
        call: Callable[..., Any] = getattr(self._client, method)
        try:
            return call(*arguments)
        except (TException, OSError, EOFError) as error:
            self.close()
            raise Lost(_reason(error), sent=True) from error
        except BaseException:
            # e.g. Ctrl-C while waiting: the answer is still to come, on this connection
            self.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._transport.close()


def _watch_of(handle: socket.socket) -> Callable[[], object] | None:
    """Return what tells whether a socket has something to read; None where the system can't."""
    if not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(handle, select.POLLIN | select.POLLHUP)
    return partial(poll.poll, 0)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of a connection.

    Raises:
        InterfaceError: a certificate or key file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:
        named = [name for name in (tls.ca_file, tls.cert_file, tls.key_file) if name]
        raise InterfaceError(f"TLS: {', '.join(named) or 'defaults'}: {error}") from error
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, TApplicationException):
        if error.type == TApplicationException.UNKNOWN_METHOD:
            return f"{error.message}: is that the port for clients (rpc_port, 6667 by default)?"
    elif isinstance(error, TTransportException):
        if error.type == TTransportException.TIMED_OUT:
            return "no answer in time"
        if error.type == TTransportException.END_OF_FILE:
            return "the server closed it"
        if error.inner is not None:
            return getattr(error.inner, "strerror", None) or str(error.inner)
    return str(error) or type(error).__name__
