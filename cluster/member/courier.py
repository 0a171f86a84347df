"""The courier: takes small appends of groups that have little to send to one other node.

A dispatcher costs a thread and a connection on both sides. A node that starts, or loses a
neighbour, may lead hundreds of groups at once, each with one no-op to replicate; a group that is
woken for a single row needs no more. So what a group without a dispatcher has for a node waits here
together with what other groups have for it, and goes in one call, whose answer comes when all of it
is durable there. A group that has more to send before its last order is answered gets a dispatcher.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

from cluster.log.errors import LogCorrupt
from cluster.member.order_builder import OrderBuilder
from cluster.member.peer_threads import PeerThreads
from cluster.raft.effects import SendAppend
from cluster.raft.messages import AppendRequest, AppendResponse
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.client_pool import RpcChannel, RpcError
from cluster.rpc.convert_raft import append_request_to_wire, append_response_from_wire

logger = logging.getLogger(__name__)

MAX_ORDER_BYTES = 16 << 10
"""Larger orders are a dispatcher's."""
_MAX_ORDERS_IN_A_CALL = 256


class Sender(NamedTuple):
    """A leader of a group, as a courier needs it.

    Attributes:
        node_id: of this node.
        builder: makes its requests to the courier's node.
        on_response, on_unreachable, on_failure: see Dispatcher.
    """

    group_id: GroupId
    node_id: NodeId
    builder: OrderBuilder
    on_response: Callable[[AppendResponse], None]
    on_unreachable: Callable[[NodeId], None]
    on_failure: Callable[[BaseException], None]


class Courier:
    """Carries orders of this node's groups to one peer; `run` is its thread.

    At most one order of a group waits or is under way.
    """

    def __init__(self, peer: NodeId, channel: RpcChannel, call_timeout_s: float) -> None:
        self._peer = peer
        self._channel = channel
        self._call_timeout_s = call_timeout_s
        self._wake = threading.Condition(threading.Lock())
        self._waiting: dict[GroupId, tuple[Sender, SendAppend]] = {}
        self._under_way: dict[GroupId, tuple[Sender, SendAppend]] = {}
        self._stopped = False

    def offer(self, sender: Sender, order: SendAppend) -> bool:
        """Take an order, at once; False when the group has one here already, or all is over."""
        group_id = sender.group_id
        with self._wake:
            if self._stopped or group_id in self._waiting or group_id in self._under_way:
                return False
            self._waiting[group_id] = (sender, order)
            self._wake.notify()
            return True

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
                self._under_way = {}
                self._wake.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                taken = list(self._waiting.items())[:_MAX_ORDERS_IN_A_CALL]
                for group_id, item in taken:
                    self._under_way[group_id] = item
                    del self._waiting[group_id]
            carried = [
                (sender, request)
                for _, (sender, order) in taken
                if (request := _build(sender, order)) is not None
            ]
            if carried:
                self._carry(carried)

    def _carry(self, carried: list[tuple[Sender, AppendRequest]]) -> None:
        wires = [append_request_to_wire(sender.group_id, request) for sender, request in carried]
        try:
            answers = self._channel.call(
                "appendEntriesOfGroups", wires, timeout_s=self._call_timeout_s
            )
            if len(answers) != len(wires):
                raise ValueError(f"{len(answers)} answers to {len(wires)} appends")
            responses = [
                append_response_from_wire(wire, frm=self._peer, to=sender.node_id)
                for wire, (sender, _) in zip(answers, carried, strict=True)
            ]
        except (RpcError, ValueError) as error:
            with self._wake:
                if self._stopped:
                    return
            logger.info("%d groups: node %d: %s", len(carried), self._peer, error)
            for sender, _ in carried:
                sender.on_unreachable(self._peer)
            return
        # an answer may bring the group's next order, which is not to need a dispatcher
        with self._wake:
            self._under_way = {}
        for (sender, _), response in zip(carried, responses, strict=True):
            if response is None:
                continue
            try:
                sender.on_response(response)
            except ValueError as error:  # the answer makes no sense
                logger.info("group %d: node %d: %s", sender.group_id, self._peer, error)
                sender.on_unreachable(self._peer)


def _build(sender: Sender, order: SendAppend) -> AppendRequest | None:
    try:
        # small, so nothing is left over; and if it were, the core would miss it and send it anew
        return sender.builder.build(order)[0]
    except (LogCorrupt, OSError) as error:
        sender.on_failure(error)
        return None


class Couriers:
    """The couriers of one service of this node, made on first use; thread-safe."""

    def __init__(
        self,
        make_channel: Callable[[NodeId], RpcChannel],
        call_timeout_s: float,
        spawn: Callable[[str, Callable[[], None]], object],
    ) -> None:
        self._threads = PeerThreads[NodeId, Courier](
            lambda peer: Courier(peer, make_channel(peer), call_timeout_s),
            lambda peer, run: spawn(str(peer), run),
        )

    def offer(self, sender: Sender, order: SendAppend) -> bool:
        """Give an order to the courier of its follower; False: it does not take it."""
        courier = self._threads.to(order.to)
        return courier is not None and courier.offer(sender, order)

    def stop(self) -> None:
        """Stop every courier."""
        self._threads.stop()
