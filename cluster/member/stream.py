"""The stream to one other node: appends of a few inserts and forwarded inserts, sent by the loop.

A call does not wait for the one before it: what has gathered for the node in a round of the loop
leaves with one `send`, and answers come when there are any, told apart by the numbers of the calls.
So neither side has a thread that waits for the other, and what was received together is written
together and answered together.

Larger orders are a dispatcher's, with a connection of its own. Where the connection is not open,
nothing is taken: a thread connects, and meanwhile couriers, dispatchers and the callers' own
threads do as they do without a loop.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from thrift.Thrift import TApplicationException

from cluster.log.errors import LogCorrupt
from cluster.member.courier import Sender
from cluster.member.proposals import Notice
from cluster.raft.effects import SendAppend
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.calls import CallCodec, following
from cluster.rpc.client_pool import RpcError
from cluster.rpc.convert_raft import append_request_to_wire, append_response_from_wire
from cluster.rpc.gen.cluster import RaftService
from cluster.rpc.loop import WRITABLE, FrameLoop

logger = logging.getLogger(__name__)

MAX_STREAM_BYTES = 1 << 20
"""Larger orders are a dispatcher's, and so are those for which the disk would have to be read."""
_READ_BYTES = 64 << 10
_MAX_UNSENT_BYTES = 4 << 20
_MAX_QUEUED = 4096
_MAX_ANSWER_BYTES = 1 << 20
_TOGETHER_S = 0.008
"""What only tells of a commit waits so long for entries to go with, while they come in a stream.

Such a message costs as much as one with entries, and half of all would be so. Who reads at a
follower may wait so much longer for what was written a moment ago."""
_STREAMING_S = 0.02
_PAUSE_S = 1.0
"""After an attempt to connect there is no other one for so long."""
_IDLE_S = 10.0
_APPEND = "appendEntries"
_EXECUTE = "executeNonQueryPlan"


class PeerStream:
    """To one node; `offer` may be called by any thread, the rest by the loop's.

    Args:
        connect: returns a connected socket, in blocking mode; raises OSError or RpcError.
        spawn: runs a function in a thread that ends with it.
        answer_timeout_s: an append that is not answered for so long ends the connection.
    """

    def __init__(
        self,
        peer: NodeId,
        loop: FrameLoop,
        connect: Callable[[], socket.socket],
        spawn: Callable[[Callable[[], None]], object],
        answer_timeout_s: float,
    ) -> None:
        self._peer = peer
        self._loop = loop
        self._connect = connect
        self._spawn = spawn
        self._answer_timeout_s = answer_timeout_s
        self._lock = threading.Lock()
        self._orders: deque[tuple[Sender, SendAppend]] = deque()
        self._sock: socket.socket | None = None
        self._codec = CallCodec(RaftService, (_APPEND, _EXECUTE))
        self._connecting = False
        self._retry_at = 0.0
        self._stopped = False
        self._number = 0
        self._appends: dict[int, tuple[Sender, float]] = {}
        self._rows: dict[int, Notice] = {}
        self._held: dict[GroupId, tuple[Sender, SendAppend]] = {}
        self._sent_at: dict[GroupId, float] = {}
        self._out: list[bytes | memoryview] = []
        self._unsent = 0
        self._is_full = False
        self._flush_due = False
        self._rest = b""
        self._used_at = 0.0

    # ---- any thread ----

    def offer(self, sender: Sender, order: SendAppend) -> bool:
        """Take an order, at once; False: the stream is not open, or has too much to send."""
        if self._sock is None or self._unsent > _MAX_UNSENT_BYTES:
            self._open()
            return False
        with self._lock:
            orders = self._orders
            if len(orders) >= _MAX_QUEUED:
                return False
            orders.append((sender, order))
            first = not self._flush_due
            self._flush_due = True
        if first:
            # where the loop ends, the order is lost, as a message may be
            self._loop.call(self.flush)
        return True

    def _open(self) -> None:
        """Have a thread connect, unless one does, or did a moment ago."""
        if self._connecting or self._sock is not None or time.monotonic() < self._retry_at:
            return
        with self._lock:
            if self._connecting or self._stopped:
                return
            self._connecting = True
        try:
            self._spawn(self._connect_once)
        except RuntimeError:  # no room for a thread
            self._connecting = False

    def _connect_once(self) -> None:
        """Body of the thread that connects."""
        try:
            sock = self._connect()
        except (OSError, RpcError) as error:
            logger.debug("stream to node %d: %s", self._peer, error)
        else:
            if not self._loop.call(partial(self._begin, sock)):
                sock.close()
                return
        self._retry_at = time.monotonic() + _PAUSE_S
        self._connecting = False

    # ---- the loop ----

    def execute(self, request: Any, notice: Notice) -> int:  # noqa: ANN401
        """Send a request for a group's leader; its ExecuteResponse goes to `notice`.

        Returns:
            What `drop` wants; 0: it was not taken.
        """
        if self._sock is None or self._unsent > _MAX_UNSENT_BYTES:
            self._open()
            return 0
        number = self._send(_EXECUTE, request)
        self._rows[number] = notice
        return number

    def drop(self, number: int) -> bool:
        """Expect no answer to a request any more; False: it has come. From any thread."""
        return self._rows.pop(number, None) is not None

    def flush(self) -> None:
        """Send what waits."""
        with self._lock:
            self._flush_due = False
            orders, self._orders = self._orders, deque()
        for sender, order in _merged(orders):
            if order.lo == order.hi and self._holds(sender, order):
                continue
            self._held.pop(sender.group_id, None)
            try:
                # not much, so nothing is left over; else the core would miss it and send it anew
                request = sender.builder.build(order)[0]
            except (LogCorrupt, OSError) as error:
                sender.on_failure(error)
                continue
            if request is None:
                continue
            if self._sock is None:
                sender.on_unreachable(self._peer)
                continue
            number = self._send(_APPEND, append_request_to_wire(sender.group_id, request))
            self._appends[number] = (sender, self._loop.now)
            if order.lo < order.hi:
                self._sent_at[sender.group_id] = self._loop.now
        self._write()

    def look(self, now: float) -> bool:
        """Give up a connection on which answers don't come, or which nobody uses.

        Returns:
            Whether there is still one.
        """
        if self._sock is None:
            return False
        oldest = next(iter(self._appends.values()), None)
        if oldest is not None and now - oldest[1] > self._answer_timeout_s:
            self._break("an append was not answered in time")
        elif now - self._used_at > _IDLE_S and not (self._appends or self._rows or self._orders):
            self._break("idle")
        return self._sock is not None

    def stop(self) -> None:
        """Close for good."""
        with self._lock:
            self._stopped = True
        self._break("the node is stopping")

    # ---- inside ----

    def _holds(self, sender: Sender, order: SendAppend) -> bool:
        """Whether an order without entries may wait for some that are about to come."""
        group_id = sender.group_id
        if self._loop.now - self._sent_at.get(group_id, 0.0) > _STREAMING_S:
            return False
        if group_id not in self._held:
            self._loop.call_at(self._loop.now + _TOGETHER_S, partial(self._release, group_id))
        self._held[group_id] = (sender, order)
        return True

    def _release(self, group_id: GroupId) -> None:
        held = self._held.pop(group_id, None)
        if held is not None:
            self._sent_at.pop(group_id, None)
            self.offer(*held)

    def _begin(self, sock: socket.socket) -> None:
        if self._stopped or self._sock is not None:
            sock.close()
            return
        sock.setblocking(False)
        self._used_at = self._loop.now
        self._rest = b""
        self._loop.register(sock.fileno(), self._ready)
        self._sock = sock

    def _send(self, method: str, request: Any) -> int:  # noqa: ANN401
        self._number = number = following(self._number)
        parts = self._codec.request(method, number, request)
        size = sum(map(len, parts))
        if not self._out:
            self._loop.flush_later(self._write)
        self._out.append(b"".join((size.to_bytes(4, "big"), *parts)))
        self._unsent += size
        return number

    def _write(self) -> None:
        sock = self._sock
        if sock is None or not self._out or self._is_full:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._used_at = self._loop.now
        try:
            sent = sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._break(str(error))
            return
        self._unsent = len(data) - sent
        # of megabytes the socket takes a part at a time: no copy of the rest for each
        self._out = [memoryview(data)[sent:]] if self._unsent else []
        if self._unsent:
            self._is_full = True
            self._loop.await_room(sock.fileno(), True)

    def _ready(self, mask: int) -> None:
        sock = self._sock
        if sock is None:
            return
        if mask & WRITABLE and self._is_full:
            self._is_full = False
            self._loop.await_room(sock.fileno(), False)
            self._write()
        try:
            chunk = sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(str(error))
            return
        if not chunk:
            self._break("the connection was closed")
            return
        self._rest = self._rest + chunk if self._rest else chunk
        self._take_answers()

    def _take_answers(self) -> None:
        data, at = self._rest, 0
        total = len(data)
        while total - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big")
            if not 0 < size <= _MAX_ANSWER_BYTES:
                self._break(f"an answer of {size} bytes")
                return
            end = at + 4 + size
            if end > total:
                break
            try:
                number, value = self._codec.read_answer(data[at + 4 : end])
                self._take(number, value)
            except Exception as error:  # noqa: BLE001 - what can't be decoded is a bad connection
                self._break(f"{type(error).__name__}: {error}")
                return
            at = end
        self._rest = data[at:]

    def _take(self, number: int, value: Any) -> None:  # noqa: ANN401
        notice = self._rows.pop(number, None)
        if notice is not None:
            if isinstance(value, TApplicationException):
                unknown = value.type == TApplicationException.UNKNOWN_METHOD
                notice.fail(RpcError(f"the node answered: {value}", definitely_not_sent=unknown))
            else:
                notice.deliver(value)
            return
        sender, _ = self._appends.pop(number, (None, 0.0))
        if sender is None:
            return  # given up
        if isinstance(value, TApplicationException):
            raise value
        try:
            response = append_response_from_wire(value, frm=self._peer, to=sender.node_id)
            if response is not None:
                sender.on_response(response)
        except ValueError as error:  # the answer makes no sense, which costs its own group only
            logger.info("group %d: node %d: %s", sender.group_id, self._peer, error)
            sender.on_unreachable(self._peer)

    def _break(self, why: str) -> None:
        """Close the connection: what was under way is lost, or at least its answer is."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        logger.debug("stream to node %d ends: %s", self._peer, why)
        self._loop.unregister(sock.fileno())
        sock.close()
        self._out, self._unsent, self._is_full, self._rest = [], 0, False, b""
        appends, self._appends = self._appends, {}
        with self._lock:
            orders, self._orders = self._orders, deque()
        held, self._held = self._held, {}
        self._sent_at.clear()
        lost = (*appends.values(), *orders, *held.values())
        senders = {sender.group_id: sender for sender, _ in lost}
        for sender in senders.values():
            sender.on_unreachable(self._peer)
        while self._rows:
            _, notice = self._rows.popitem()
            notice.fail(RpcError(why, definitely_not_sent=False))


def _merged(orders: deque[tuple[Sender, SendAppend]]) -> list[tuple[Sender, SendAppend]]:
    """Return the orders, those of a group that continue one another in one."""
    if len(orders) < 2:
        return list(orders)
    merged: list[tuple[Sender, SendAppend]] = []
    at: dict[int, int] = {}
    for sender, order in orders:
        place = at.get(sender.group_id)
        if place is not None:
            before = merged[place][1]
            if before.term == order.term and before.hi == order.lo:
                merged[place] = (
                    sender,
                    before._replace(hi=order.hi, commit=order.commit, compact_to=order.compact_to),
                )
                continue
        at[sender.group_id] = len(merged)
        merged.append((sender, order))
    return merged


class PeerStreams:
    """The streams of one node, made on first use; thread-safe.

    Args:
        make: a stream to a node.
    """

    def __init__(self, loop: FrameLoop, make: Callable[[NodeId], PeerStream]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._by_peer: dict[NodeId, PeerStream] = {}
        loop.watch(self._look)
        loop.before_end(self._stop)

    def to(self, peer: NodeId) -> PeerStream:
        """Return the stream to a node."""
        stream = self._by_peer.get(peer)
        if stream is None:
            with self._lock:
                stream = self._by_peer.get(peer)
                if stream is None:
                    stream = self._by_peer[peer] = self._make(peer)
        return stream

    def flush(self) -> None:
        """Send what waits, to all; in the loop."""
        for stream in list(self._by_peer.values()):
            stream.flush()

    def _look(self, now: float) -> bool:
        return sum(stream.look(now) for stream in list(self._by_peer.values())) > 0

    def _stop(self) -> None:
        for stream in list(self._by_peer.values()):
            stream.stop()
