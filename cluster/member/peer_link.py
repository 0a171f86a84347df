"""The control connections to one other node: heartbeats and votes, never log entries.

Heartbeats of all groups that wait for the same node go in one call, so their cost grows with
nodes and not with groups; and because entries travel elsewhere, a slow disk on the other side does
not make this node look dead. Nor must it when the node is asked for a vote, whose answer waits for
that disk: votes have a connection of their own. One thread, one time-out per peer and connection:
a peer that hangs delays nobody else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

from cluster.member.address_book import AddressBook
from cluster.member.peer_threads import PeerThreads
from cluster.partition.node_info import NodeInfo
from cluster.raft.messages import Heartbeat, Message, TimeoutNow, VoteRequest
from cluster.raft.types import GroupId, NodeId
from cluster.rpc import convert_raft
from cluster.rpc.client_pool import RpcChannel, RpcError

logger = logging.getLogger(__name__)

_MAX_VOTES_IN_A_CALL = 256
_BEATS, _VOTES = "", "-votes"


class HeartbeatCargo(Protocol):
    """What one kind of group ships with heartbeats (the meta group: its partition table)."""

    def decorate(self, peer: NodeId, wire: Any) -> None:  # noqa: ANN401
        """Add to a heartbeat that is about to leave."""
        ...

    def answered(self, peer: NodeId, wire: Any) -> None:  # noqa: ANN401
        """Look at what a follower added to its answer."""
        ...


class LinkedMember(Protocol):
    """What a link needs of the members whose messages it carries."""

    group_id: GroupId
    heartbeat_cargo: HeartbeatCargo | None

    def receive(self, message: Message) -> None:
        """Take an answer."""
        ...

    def unreachable(self, peer: NodeId) -> None:
        """Learn that a message to `peer` was not delivered."""
        ...


class PeerLink:
    """Carries control messages of this node's members to one peer.

    Args:
        process: names this run of the node.
        on_heard: told of every answer: the peer, and which run of it.

    At most one heartbeat and one vote request per group wait at a time (a newer one replaces an
    older one: it says all that the older one said), so the queue is bounded by groups.
    """

    def __init__(
        self,
        *,
        peer: NodeId,
        channel: RpcChannel,
        call_timeout_s: float,
        address_book: AddressBook,
        process: int = 0,
        on_heard: Callable[[NodeId, int], None] = lambda _node, _process: None,
    ) -> None:
        self._process = process
        self._on_heard = on_heard
        self._ping_wanted = False
        self.peer = peer
        self._channel = channel
        self._call_timeout_s = call_timeout_s
        self._address_book = address_book
        self._wake = threading.Condition(threading.Lock())
        self._heartbeats: dict[GroupId, tuple[LinkedMember, Heartbeat]] = {}
        self._others: dict[tuple[GroupId, type], tuple[LinkedMember, Message]] = {}
        self._stopped = False
        self._reachable = True

    def post(self, member: LinkedMember, message: Message) -> None:
        """Queue a message; returns at once."""
        if not isinstance(message, (Heartbeat, VoteRequest, TimeoutNow)):
            raise TypeError(f"not a control message: {message!r}")
        with self._wake:
            if isinstance(message, Heartbeat):
                self._heartbeats[member.group_id] = (member, message)
            else:
                self._others[member.group_id, type(message)] = (member, message)
            self._wake.notify()

    def ping(self) -> None:
        """Have a sign of life sent, if no heartbeat is about to be; returns at once."""
        with self._wake:
            self._ping_wanted = True
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
                self._wake.wait_for(self._has_work)
                if self._stopped:
                    return
                heartbeats = list(self._heartbeats.values())
                others = list(self._others.values())
                self._heartbeats.clear()
                self._others.clear()
                ping, self._ping_wanted = self._ping_wanted, False
            try:
                if heartbeats or ping:
                    self._send_heartbeats(heartbeats)
                self._send_votes([item for item in others if isinstance(item[1], VoteRequest)])
                for member, message in others:
                    if isinstance(message, TimeoutNow):
                        self._send_timeout_now(member, message)
            except (RpcError, ValueError) as error:  # ValueError: an answer makes no sense
                self._lost(error, [member for member, _ in [*heartbeats, *others]])
            else:
                self._reachable = True

    def _has_work(self) -> object:
        return self._heartbeats or self._others or self._ping_wanted or self._stopped

    def _send_heartbeats(self, heartbeats: list[tuple[LinkedMember, Heartbeat]]) -> None:
        wires = []
        for member, heartbeat in heartbeats:
            wire = convert_raft.heartbeat_to_wire(member.group_id, heartbeat)
            if member.heartbeat_cargo is not None:
                member.heartbeat_cargo.decorate(self.peer, wire)
            wires.append(wire)
        batch = convert_raft.heartbeat_batch(self._address_book.own, wires, self._process)
        answer = self._channel.call("sendHeartbeat", batch, timeout_s=self._call_timeout_s)
        if answer.responses is None:
            raise ValueError("HeartbeatBatchResponse: the answers are missing")
        self._address_book.learn(convert_raft.node_info_from_wire(answer.receiver, NodeInfo))
        self._on_heard(self.peer, answer.process or 0)
        by_group = {wire.groupId: wire for wire in answer.responses}
        for member, heartbeat in heartbeats:
            answered = by_group.get(member.group_id)
            if answered is None:
                continue
            if member.heartbeat_cargo is not None:
                member.heartbeat_cargo.answered(self.peer, answered)
            response = convert_raft.heartbeat_response_from_wire(
                answered, frm=self.peer, to=heartbeat.frm
            )
            if response is not None:
                member.receive(response)

    def _send_votes(self, requests: list[tuple[LinkedMember, Message]]) -> None:
        """Ask for the votes of many groups in few calls: each call waits for the peer's disk."""
        for start in range(0, len(requests), _MAX_VOTES_IN_A_CALL):
            part = requests[start : start + _MAX_VOTES_IN_A_CALL]
            wires = [
                convert_raft.vote_request_to_wire(member.group_id, cast("VoteRequest", message))
                for member, message in part
            ]
            if len(wires) == 1:
                answers = [
                    self._channel.call("startElection", wires[0], timeout_s=self._call_timeout_s)
                ]
            else:
                answers = self._channel.call(
                    "startElections", wires, timeout_s=self._call_timeout_s
                )
                if len(answers) != len(wires):
                    raise ValueError(f"{len(answers)} answers to {len(wires)} vote requests")
            for (member, message), wire in zip(part, answers, strict=True):
                response = convert_raft.vote_response_from_wire(wire, frm=self.peer, to=message.frm)
                if response is not None:
                    member.receive(response)

    def _send_timeout_now(self, member: LinkedMember, message: TimeoutNow) -> None:
        self._channel.call(
            "timeoutNow",
            convert_raft.timeout_now_to_wire(member.group_id, message),
            timeout_s=self._call_timeout_s,
        )

    def _lost(self, error: RpcError | ValueError, members: list[LinkedMember]) -> None:
        with self._wake:
            if self._stopped:
                return
        if self._reachable:
            self._reachable = False
            logger.warning("node %d does not answer: %s", self.peer, error)
        for member in members:
            member.unreachable(self.peer)


class _Lane(NamedTuple):
    """A link's peer, and the end of its thread's name."""

    peer: NodeId
    suffix: str


class PeerLinks:
    """The links of one service (meta or data) of this node, made on first use; thread-safe.

    There are two to a peer: one for heartbeats and pings, one for what an election takes.

    Args:
        make: a link to a peer.
        spawn: starts a thread for a link, by the peer's number and "-votes" for the second one.
    """

    def __init__(
        self, make: Callable[[NodeId], PeerLink], spawn: Callable[[str, Any], Any]
    ) -> None:
        self._threads = PeerThreads[_Lane, PeerLink](
            lambda lane: make(lane.peer), lambda lane, run: spawn(f"{lane.peer}{lane.suffix}", run)
        )

    def post(self, member: LinkedMember, message: Message) -> None:
        """Queue a control message for the node it is addressed to."""
        suffix = _BEATS if isinstance(message, Heartbeat) else _VOTES
        link = self._threads.to(_Lane(message.to, suffix))
        if link is not None:
            link.post(member, message)

    def ping(self, peer: NodeId) -> None:
        """Have a sign of life sent to a node; returns at once."""
        link = self._threads.to(_Lane(peer, _BEATS))
        if link is not None:
            link.ping()

    def stop(self) -> None:
        """Stop every link."""
        self._threads.stop()
