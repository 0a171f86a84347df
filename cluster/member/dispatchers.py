"""The dispatchers of one member.

Made when it has more to send to a follower than a courier takes, ended when it no longer leads or
the group sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from cluster.log.node_log import GroupLog
from cluster.member.courier import MAX_ORDER_BYTES, Couriers, Sender
from cluster.member.dispatcher import Dispatcher
from cluster.member.order_builder import OrderBuilder
from cluster.raft.effects import SendAppend
from cluster.raft.messages import AppendResponse
from cluster.raft.types import GroupId, NodeId, Term
from cluster.rpc.client_pool import RpcChannel
from cluster.threads import ThreadRegistry


class Dispatchers:
    """One dispatcher per follower of a led group. The caller holds the member's lock.

    Args:
        name: of the member, for thread names.
        make_channel: a new connection of the group's service to a peer.
        couriers: take what is small while there is no dispatcher; None: there are none.
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
        self._senders: dict[NodeId, Sender] = {}
        self._current_term = current_term
        self._on_response = on_response
        self._on_unreachable = on_unreachable
        self._on_failure = on_failure
        self._by_peer: dict[NodeId, Dispatcher] = {}

    def offer(self, append: SendAppend) -> None:
        """Queue an append for its follower; returns at once."""
        dispatcher = self._by_peer.get(append.to)
        if dispatcher is None:
            if self._give_to_courier(append):
                return
            dispatcher = self._start(append.to)
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

    def _give_to_courier(self, append: SendAppend) -> bool:
        """Whether a courier took it: it is small, and the first one for a while."""
        couriers = self._couriers
        if couriers is None:
            return False
        if self._log.payload_bytes(append.lo, append.hi) > MAX_ORDER_BYTES:
            return False
        sender = self._senders.get(append.to)
        if sender is None:
            sender = self._senders[append.to] = Sender(
                self._group_id,
                self._node_id,
                OrderBuilder(
                    node_id=self._node_id,
                    peer=append.to,
                    log=self._log,
                    current_term=self._current_term,
                ),
                self._on_response,
                self._on_unreachable,
                self._on_failure,
            )
        return couriers.offer(sender, append)

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
