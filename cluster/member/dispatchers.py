"""The dispatchers of one member.

What comes from clients goes by the loop's stream to the follower, where there is one. A dispatcher
is made when there is more to send to a follower than that, or a courier, takes, or what has to be
read from the disk; it ends when the member no longer leads or the group sleeps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from cluster.log.node_log import GroupLog
from cluster.member.courier import MAX_ORDER_BYTES, Couriers, Sender
from cluster.member.dispatcher import Dispatcher
from cluster.member.order_builder import OrderBuilder
from cluster.member.stream import MAX_STREAM_BYTES, PeerStreams
from cluster.raft.effects import SendAppend
from cluster.raft.messages import AppendResponse
from cluster.raft.types import GroupId, NodeId, Term
from cluster.rpc.client_pool import RpcChannel
from cluster.threads import ThreadRegistry

_CALM_S = 1.0
"""A dispatcher that had nothing to do for so long will not be overtaken by a stream."""


class Dispatchers:
    """One dispatcher per follower of a led group. The caller holds the member's lock.

    Args:
        name: of the member, for thread names.
        make_channel: a new connection of the group's service to a peer.
        couriers: take what is small while there is no dispatcher; None: there are none.
        streams: take what is small before that; None: there are none.
        call_timeout_s, current_term, on_response, on_unreachable, on_failure: see Dispatcher.
    """

    def __init__(
        self,
        *,
        name: str,
        group_id: GroupId,
        node_id: NodeId,
        log: GroupLog,
        threads: ThreadRegistry,
        make_channel: Callable[[NodeId], RpcChannel],
        call_timeout_s: float,
        couriers: Couriers | None,
        streams: PeerStreams | None,
        current_term: Callable[[], Term],
        on_response: Callable[[AppendResponse], None],
        on_unreachable: Callable[[NodeId], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._name = name
        self._group_id = group_id
        self._node_id = node_id
        self._log = log
        self._threads = threads
        self._make_channel = make_channel
        self._call_timeout_s = call_timeout_s
        self._couriers = couriers
        self._streams = streams
        self._senders: dict[NodeId, Sender] = {}
        self._current_term = current_term
        self._on_response = on_response
        self._on_unreachable = on_unreachable
        self._on_failure = on_failure
        self._by_peer: dict[NodeId, Dispatcher] = {}

    def offer(self, append: SendAppend) -> None:
        """Queue an append for its follower; returns at once."""
        dispatcher = self._by_peer.get(append.to)
        calm = dispatcher is None or dispatcher.is_calm(time.monotonic() - _CALM_S)
        if calm and self._is_carried(append, has_dispatcher=dispatcher is not None):
            return
        if dispatcher is None:
            try:
                dispatcher = self._start(append.to)
            except RuntimeError:  # no room for a thread: lost, as a message may be
                return
        dispatcher.offer(append)

    def retain(self, peers: Collection[NodeId]) -> None:
        """End the dispatchers of all other followers."""
        for peer in [peer for peer in self._by_peer if peer not in peers]:
            self._by_peer.pop(peer).stop()

    def stop(self) -> None:
        """End every dispatcher; what they had queued is dropped."""
        for dispatcher in self._by_peer.values():
            dispatcher.stop()
        self._by_peer.clear()

    def _is_carried(self, append: SendAppend, *, has_dispatcher: bool) -> bool:
        """Whether a stream or a courier has taken an order."""
        size = self._log.payload_bytes(append.lo, append.hi)
        is_small = size <= MAX_ORDER_BYTES
        sender = self._sender_to(append.to)
        streams = self._streams if is_small or self._is_at_hand(append, size) else None
        if streams is not None and streams.to(append.to).offer(sender, append):
            return True
        if self._couriers is None or has_dispatcher or not is_small:
            return False
        return self._couriers.offer(sender, append)

    def _is_at_hand(self, append: SendAppend, size: int) -> bool:
        """Whether the loop can send it without waiting for the disk, or keeping others waiting."""
        return size <= MAX_STREAM_BYTES and self._log.is_cached(append.lo)

    def _sender_to(self, peer: NodeId) -> Sender:
        sender = self._senders.get(peer)
        if sender is None:
            sender = self._senders[peer] = Sender(
                self._group_id,
                self._node_id,
                OrderBuilder(
                    node_id=self._node_id,
                    peer=peer,
                    log=self._log,
                    current_term=self._current_term,
                ),
                self._on_response,
                self._on_unreachable,
                self._on_failure,
            )
        return sender

    def _start(self, peer: NodeId) -> Dispatcher:
        dispatcher = Dispatcher(
            group_id=self._group_id,
            node_id=self._node_id,
            peer=peer,
            log=self._log,
            channel=self._make_channel(peer),
            call_timeout_s=self._call_timeout_s,
            current_term=self._current_term,
            on_response=self._on_response,
            on_unreachable=self._on_unreachable,
            on_failure=self._on_failure,
        )
        self._threads.spawn(f"dispatcher-{self._name}-{peer}", dispatcher.run)
        self._by_peer[peer] = dispatcher
        return dispatcher
