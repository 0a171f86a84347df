"""A server's connection while the loop serves it.

The connection's own thread lends it, and waits until it is given back: with what was received and
not served, with what the peer did not take at once, or with work that may wait. So all that is
rare, slow or wrong happens in one place: in that thread, as if it had never lent anything.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.rpc.loop import FrameLoop

logger = logging.getLogger(__name__)

_READ_BYTES = 64 << 10
_PIECES_FROM_BYTES = 16 << 10
"""A frame of this size may come in pieces, and is received where it stays."""
_HEAD_BYTES = 4
_IDLE_S = 1.0


class LoopService(Protocol):
    """What a server has the loop do."""

    in_order: bool
    """Whether a connection's requests are taken one after another, as its client may expect."""
    most_bytes: int
    """Larger frames are a thread's."""

    def wants(self, payload: bytes) -> bool:
        """Whether a request is of a kind that may be taken; by the connection's thread."""
        ...

    def take(self, lent: LentConnection, payload: bytes) -> bool:
        """Carry a request out without waiting; False, or an error: nothing was done.

        Then it is the thread's.

        `began` of the connection is called for each that is taken, and `answer` or `hand_over`
        once for each of these.
        """
        ...


class LentConnection:
    """Only used by the loop's thread, but for the constructor and `wait`.

    Args:
        rest: what was received already.
        owner: what the service knows the connection by.

    Attributes:
        is_back: its thread has it again.
        rest: received and not served.
        unsent: answers that the peer has not taken yet.
        work: makes the answer to a request that was taken; None: there is none left.
    """

    def __init__(
        self,
        loop: FrameLoop,
        sock: socket.socket,
        service: LoopService,
        owner: object,
        rest: bytes,
    ) -> None:
        self.owner = owner
        self.rest = rest
        self.unsent = b""
        self.work: Callable[[], bytes] | None = None
        self.used_at = loop.now
        self._loop = loop
        self._sock = sock
        self._service = service
        # of a large frame: what has come of it, in two parts at least, the first being its head
        self._pieces: list[bytes] = []
        self._missing = 0
        self._missing_since = 0.0
        self._expects_large = False
        self._pending = 0
        self._out: list[bytes] = []
        self._leaving = False
        self._taking = False
        self.is_back = False
        self._returned = threading.Lock()
        self._returned.acquire()

    def wait(self) -> None:
        """Return when the connection is back."""
        while not self._returned.acquire(timeout=_IDLE_S):
            if self._loop.has_ended:
                return

    def begin(self) -> None:
        """Serve it from now on."""
        if self._loop.is_stopping:
            self._leaving = True
            self._maybe_return()
            return
        self.used_at = self._loop.now
        self._loop.register(self._sock.fileno(), self._readable)
        if self.rest:
            self._take_frames()

    def began(self) -> None:
        """A request was taken that is not answered yet."""
        self._pending += 1

    def answer(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send the answer to a request that was taken, with this round's others."""
        if self.is_back:
            return
        self._pending -= 1
        size = sum(map(len, parts))
        if not self._out:
            self._loop.flush_later(self._flush)
        self._out.append(b"".join((size.to_bytes(4, "big"), *parts)))
        if self._leaving:
            self._maybe_return()
        elif self.rest:
            self._loop.call(self._take_frames)

    def hand_over(self, work: Callable[[], bytes]) -> None:
        """Have the connection's thread answer the request; only where they are in order."""
        if not self.is_back:
            self._pending -= 1
            self.work = work
            self.leave()

    def leave(self) -> None:
        """Give the connection back, once what was taken is answered."""
        if not self._leaving:
            self._leaving = True
            self._loop.unregister(self._sock.fileno())
            self._maybe_return()

    def abandon(self) -> None:
        """Give the connection back at once."""
        self._pending = 0
        self.leave()

    def leave_if_idle(self, now: float) -> None:
        """Give it back when no frame has come for a while: its thread knows how to wait."""
        since = self._missing_since if self._missing else self.used_at
        if not self._pending and now - since > _IDLE_S:
            self.leave()

    # ---- inside ----

    def _readable(self, _mask: int) -> None:
        if self._missing:
            self._read_pieces()
            return
        if self._expects_large and not self.rest:
            self._begin_large()
            return
        chunk = self._receive(_READ_BYTES)
        if chunk is not None:
            self.rest = self.rest + chunk if self.rest else chunk
            self._take_frames()

    def _begin_large(self) -> None:
        """Receive a frame behind its head: a copy of a large one costs more than another call."""
        head = self._receive(_HEAD_BYTES)
        if head is None:
            return
        size = int.from_bytes(head, "big")
        service = self._service
        if (
            _PIECES_FROM_BYTES < size <= service.most_bytes
            and len(head) == _HEAD_BYTES
            and not (service.in_order and self._pending)
        ):
            self._pieces, self._missing = [head], size
            self._missing_since = self._loop.now
            self._read_pieces()
        else:
            self.rest = head
            self._take_frames()

    def _read_pieces(self) -> None:
        chunk = self._receive(self._missing)
        if chunk is None:
            return
        self._pieces.append(chunk)
        self._missing -= len(chunk)
        if self._missing:
            return
        pieces, self._pieces = self._pieces, []
        payload = pieces[1] if len(pieces) == 2 else b"".join(pieces[1:])
        self._taking = True
        if not self._take(payload):
            self.rest = pieces[0] + payload
            self.leave()
        self._taking = False
        if self._leaving:
            self._maybe_return()

    def _receive(self, size: int) -> bytes | None:
        """Return what has come, or None where nothing has; at the end of the stream it leaves."""
        try:
            chunk = self._sock.recv(size, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            chunk = b""
        if not chunk:  # the thread will see the same
            self.leave()
            return None
        self.used_at = self._loop.now
        return chunk

    def _take_frames(self) -> None:
        data, at = self.rest, 0
        total = len(data)
        service = self._service
        in_order = service.in_order
        large = 0
        self._taking = True
        while not self._leaving and not (in_order and self._pending) and total - at >= _HEAD_BYTES:
            size = int.from_bytes(data[at : at + _HEAD_BYTES], "big")
            end = at + _HEAD_BYTES + size
            self._expects_large = size > _PIECES_FROM_BYTES
            if not 0 < size <= service.most_bytes:
                self.leave()
            elif end > total:
                by_pieces = self._expects_large or total - at == _HEAD_BYTES
                large = size if by_pieces and not (in_order and self._pending) else 0
                break
            elif self._take(data[at + _HEAD_BYTES : end]):
                at = end
            else:
                self.leave()
        self._taking = False
        self.rest = data[at:] if at else data
        if large:
            self._pieces = [self.rest[:_HEAD_BYTES]]
            if len(self.rest) > _HEAD_BYTES:
                self._pieces.append(self.rest[_HEAD_BYTES:])
            self._missing = _HEAD_BYTES + large - len(self.rest)
            self._missing_since = self._loop.now
            self.rest = b""
            self._read_pieces()
        elif self._leaving:
            self._maybe_return()
        elif self.rest and (not (in_order and self._pending) or len(self.rest) > _READ_BYTES):
            self.leave()  # a frame that comes in pieces, or a peer that does not wait

    def _take(self, payload: bytes) -> bool:
        try:
            return self._service.take(self, payload)
        except Exception as error:  # noqa: BLE001 - its thread finds the same, and says so
            logger.debug("a request is left to its thread: %s: %s", type(error).__name__, error)
            return False

    def _flush(self) -> None:
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out = []
        try:
            sent = self._sock.send(data, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.leave()
            return
        if sent < len(data):  # its thread will wait for the peer
            self._out = [data[sent:]]
            self.leave()

    def _maybe_return(self) -> None:
        if self._leaving and not (self._pending or self._taking or self.is_back):
            self.is_back = True
            if self._pieces:
                self.rest = b"".join(self._pieces)
            self.unsent, self._out = b"".join(self._out), []
            self._returned.release()
