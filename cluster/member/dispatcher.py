"""The dispatcher: one thread per (group, follower) on a leader that ships log entries.

Whatever waits for the follower goes in one appendEntries call: while a call is under way, further
entries gather, so batches grow with load and latency alone decides their number.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from cluster.log.errors import LogCorrupt
from cluster.log.node_log import GroupLog
from cluster.member.order_builder import OrderBuilder
from cluster.raft.effects import SendAppend
from cluster.raft.messages import AppendRequest, AppendResponse
from cluster.raft.types import NodeId, Term
from cluster.rpc.client_pool import RpcChannel, RpcError
from cluster.rpc.convert_raft import append_request_to_wire, append_response_from_wire

logger = logging.getLogger(__name__)

_MAX_QUEUED = 4096


class Dispatcher:
    """Ships SendAppend effects to one follower.

    Args:
        current_term: the core's term now.
        on_response: called with each answer.
        on_failure: the local log can't be read: the replica must not go on.
        on_unreachable: called when a call failed; what was queued is dropped, since the core
            starts over with a probe.
    """

    def __init__(
        self,
        *,
        group_id: int,
        node_id: NodeId,
        peer: NodeId,
        log: GroupLog,
        channel: RpcChannel,
        call_timeout_s: float,
        current_term: Callable[[], Term],
        on_response: Callable[[AppendResponse], None],
        on_unreachable: Callable[[NodeId], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._group_id = group_id
        self._node_id = node_id
        self._peer = peer
        self._builder = OrderBuilder(node_id=node_id, peer=peer, log=log, current_term=current_term)
        self._channel = channel
        self._call_timeout_s = call_timeout_s
        self._on_response = on_response
        self._on_unreachable = on_unreachable
        self._on_failure = on_failure
        self._wake = threading.Condition(threading.Lock())
        self._queue: deque[SendAppend] = deque()
        self._stopped = False
        self._reachable = True
        self._idle_since: float | None = time.monotonic()

    def is_calm(self, since: float) -> bool:
        """Whether nothing has waited or been under way since then."""
        idle_since = self._idle_since
        return idle_since is not None and idle_since <= since

    def offer(self, append: SendAppend) -> None:
        """Queue an append; returns at once.

        The core's byte window bounds the queue in replicate state and one probe at a time in probe
        state; the count is a second line of defence: above it the oldest order is kept and the
        newest dropped, which the core repairs like any lost message.
        """
        with self._wake:
            if len(self._queue) < _MAX_QUEUED:
                self._queue.append(append)
                self._idle_since = None
                self._wake.notify()

    def stop(self) -> None:
        """Make `run` return; a call under way is cut."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._channel.close()

    def run(self) -> None:
        """Thread body."""
        while True:
            with self._wake:
                if not self._queue:
                    self._idle_since = time.monotonic()
                self._wake.wait_for(lambda: self._queue or self._stopped)
                if self._stopped:
                    return
                order = self._merge_locked()
            try:
                request = self._build(order)
            except (LogCorrupt, OSError) as error:
                self._on_failure(error)
                return
            if request is None:
                continue
            try:
                wire = self._channel.call(
                    "appendEntries",
                    append_request_to_wire(self._group_id, request),
                    timeout_s=self._call_timeout_s,
                )
                response = append_response_from_wire(wire, frm=self._peer, to=self._node_id)
                if response is not None:
                    self._on_response(response)
            except (RpcError, ValueError) as error:  # ValueError: the answer makes no sense
                self._lost(error)
                continue
            if not self._reachable:
                self._reachable = True
                logger.info("group %d: node %d answers again", self._group_id, self._peer)

    def _merge_locked(self) -> SendAppend:
        """Take the first order and every one that continues it."""
        queue = self._queue
        first = queue.popleft()
        hi, commit, compact_to = first.hi, first.commit, first.compact_to
        while queue and queue[0].term == first.term and queue[0].lo == hi:
            following = queue.popleft()
            hi, commit, compact_to = following.hi, following.commit, following.compact_to
        return first._replace(hi=hi, commit=commit, compact_to=compact_to)

    def _build(self, order: SendAppend) -> AppendRequest | None:
        request, rest = self._builder.build(order)
        if rest is not None:
            with self._wake:
                self._queue.appendleft(rest)
        return request

    def _lost(self, error: RpcError | ValueError) -> None:
        with self._wake:
            self._queue.clear()
            stopped = self._stopped
        if stopped:
            return
        if self._reachable:
            self._reachable = False
            logger.warning(
                "group %d: node %d does not answer: %s", self._group_id, self._peer, error
            )
        self._on_unreachable(self._peer)
