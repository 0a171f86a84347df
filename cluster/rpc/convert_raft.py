"""Raft messages and node addresses ⇄ wire structs (thrift/cluster.thrift).

What comes from the wire may be anything. Each `..._from_wire` checks presence and sign of its
fields and raises ValueError, so that the consensus core never sees a half-filled message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from cluster.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.types import Entry, EntryKind, GroupId, LogIndex, NodeId, Term
from cluster.rpc.gen.cluster import ttypes as wire_types

T = TypeVar("T")

# ---- Nodes ----


class NodeInfoLike(Protocol):
    """What `node_info_to_wire` reads."""

    @property
    def node_id(self) -> NodeId: ...  # noqa: D102
    @property
    def internal_ip(self) -> str: ...  # noqa: D102
    @property
    def meta_port(self) -> int: ...  # noqa: D102
    @property
    def data_port(self) -> int: ...  # noqa: D102
    @property
    def rpc_address(self) -> str: ...  # noqa: D102
    @property
    def rpc_port(self) -> int: ...  # noqa: D102
    @property
    def incarnation(self) -> str: ...  # noqa: D102


def node_info_to_wire(info: NodeInfoLike) -> wire_types.NodeInfo:
    """Return the wire form of a node info."""
    return wire_types.NodeInfo(
        nodeId=info.node_id,
        internalIp=info.internal_ip,
        metaPort=info.meta_port,
        dataPort=info.data_port,
        rpcAddress=info.rpc_address,
        rpcPort=info.rpc_port,
        incarnation=info.incarnation,
    )


def node_info_from_wire(wire: wire_types.NodeInfo | None, make: Callable[..., T]) -> T:
    """Return `make(node_id=…, internal_ip=…, …)` of what a node says of itself.

    Raises:
        ValueError: a field is missing or a number out of range.
    """
    if wire is None:
        raise ValueError("node info is missing")
    ports = (wire.metaPort, wire.dataPort, wire.rpcPort)
    _check_numbers("NodeInfo", (wire.nodeId, *ports))
    if max(ports) > 0xFFFF or None in (wire.internalIp, wire.rpcAddress, wire.incarnation):
        raise ValueError("NodeInfo: a port is out of range or a text is missing")
    return make(
        node_id=NodeId(wire.nodeId),
        internal_ip=wire.internalIp,
        meta_port=wire.metaPort,
        data_port=wire.dataPort,
        rpc_address=wire.rpcAddress,
        rpc_port=wire.rpcPort,
        incarnation=wire.incarnation,
    )


# ---- Raft messages ----


def _check_numbers(what: str, numbers: tuple[Any, ...]) -> None:
    """Raise ValueError unless every field is there and none is negative."""
    if None in numbers or min(numbers) < 0:
        raise ValueError(f"{what}: a number is missing or negative: {numbers}")


def vote_request_to_wire(group_id: GroupId, message: VoteRequest) -> wire_types.VoteRequest:
    """Return the wire form; the id stays here, since a call pairs request and answer."""
    return wire_types.VoteRequest(
        groupId=group_id,
        frm=message.frm,
        to=message.to,
        term=message.term,
        lastIndex=message.last_index,
        lastTerm=message.last_term,
        pre=message.pre,
        transfer=message.transfer,
        commit=message.commit,
        commitTerm=message.commit_term,
    )


def vote_request_from_wire(wire: wire_types.VoteRequest, *, id: int = 0) -> VoteRequest:  # noqa: A002
    """Return the message that a peer sent, under an id of this node; ValueError when malformed."""
    _check_numbers(
        "VoteRequest",
        (
            wire.frm,
            wire.to,
            wire.term,
            wire.lastIndex,
            wire.lastTerm,
            wire.commit,
            wire.commitTerm,
        ),
    )
    return VoteRequest(
        frm=NodeId(wire.frm),
        to=NodeId(wire.to),
        term=Term(wire.term),
        last_index=LogIndex(wire.lastIndex),
        last_term=Term(wire.lastTerm),
        pre=bool(wire.pre),
        transfer=bool(wire.transfer),
        id=id,
        commit=LogIndex(wire.commit),
        commit_term=Term(wire.commitTerm),
    )


def vote_response_to_wire(message: VoteResponse | None) -> wire_types.VoteResponse:
    """Return the wire form; None: this node has nothing to say."""
    if message is None:
        return wire_types.VoteResponse(
            term=0, granted=False, pre=False, answered=False, commit=0, commitTerm=0
        )
    return wire_types.VoteResponse(
        term=message.term,
        granted=message.granted,
        pre=message.pre,
        answered=True,
        commit=message.commit,
        commitTerm=message.commit_term,
    )


def vote_response_from_wire(
    wire: wire_types.VoteResponse,
    *,
    frm: NodeId,
    to: NodeId,
    id: int = 0,  # noqa: A002
) -> VoteResponse | None:
    """Return a peer's answer, or None when it had nothing to say; ValueError when malformed."""
    if not wire.answered:
        return None
    _check_numbers("VoteResponse", (wire.term, wire.commit, wire.commitTerm))
    return VoteResponse(
        frm=frm,
        to=to,
        term=Term(wire.term),
        granted=bool(wire.granted),
        pre=bool(wire.pre),
        id=id,
        commit=LogIndex(wire.commit),
        commit_term=Term(wire.commitTerm),
    )


def append_request_to_wire(
    group_id: GroupId | int, message: AppendRequest
) -> wire_types.AppendEntriesRequest:
    """Return the wire form; indices of entries follow from the previous one."""
    return wire_types.AppendEntriesRequest(
        groupId=group_id,
        frm=message.frm,
        to=message.to,
        term=message.term,
        prevIndex=message.prev_index,
        prevTerm=message.prev_term,
        entries=[
            wire_types.LogEntry(item.term, int(item.kind), item.data) for item in message.entries
        ],
        commit=message.commit,
        compactTo=message.compact_to,
    )


_ENTRY_KINDS = {int(kind): kind for kind in EntryKind}


def append_request_from_wire(
    wire: wire_types.AppendEntriesRequest,
    *,
    id: int = 0,  # noqa: A002
) -> AppendRequest:
    """Return the message that a leader sent; ValueError when malformed."""
    _check_numbers(
        "AppendEntriesRequest",
        (
            wire.frm,
            wire.to,
            wire.term,
            wire.prevIndex,
            wire.prevTerm,
            wire.commit,
            wire.compactTo,
        ),
    )
    index = wire.prevIndex
    term = wire.prevTerm
    entries = []
    for item in wire.entries or ():
        index += 1
        kind = _ENTRY_KINDS.get(item.kind)
        if kind is None or item.data is None or item.term is None or item.term < term:
            raise ValueError(f"AppendEntriesRequest: entry {index} is malformed")
        term = item.term
        entries.append(Entry(LogIndex(index), Term(term), kind, item.data))
    if term > wire.term:
        raise ValueError(f"AppendEntriesRequest: entries of term {term} in term {wire.term}")
    return AppendRequest(
        frm=NodeId(wire.frm),
        to=NodeId(wire.to),
        term=Term(wire.term),
        prev_index=LogIndex(wire.prevIndex),
        prev_term=Term(wire.prevTerm),
        entries=tuple(entries),
        commit=LogIndex(wire.commit),
        compact_to=LogIndex(wire.compactTo),
        id=id,
    )


def append_response_to_wire(message: AppendResponse | None) -> wire_types.AppendEntriesResponse:
    """Return the wire form; None: this node has nothing to say."""
    if message is None:
        return wire_types.AppendEntriesResponse(
            term=0,
            success=False,
            matchIndex=0,
            prevIndex=0,
            hintIndex=0,
            hintTerm=0,
            answered=False,
        )
    return wire_types.AppendEntriesResponse(
        term=message.term,
        success=message.success,
        matchIndex=message.match_index,
        prevIndex=message.prev_index,
        hintIndex=message.hint_index,
        hintTerm=message.hint_term,
        answered=True,
    )


def append_response_from_wire(
    wire: wire_types.AppendEntriesResponse,
    *,
    frm: NodeId,
    to: NodeId,
    id: int = 0,  # noqa: A002
) -> AppendResponse | None:
    """Return a follower's answer, or None when it had nothing to say; ValueError when malformed."""
    if not wire.answered:
        return None
    _check_numbers(
        "AppendEntriesResponse",
        (wire.term, wire.matchIndex, wire.prevIndex, wire.hintIndex, wire.hintTerm),
    )
    return AppendResponse(
        frm=frm,
        to=to,
        term=Term(wire.term),
        success=bool(wire.success),
        match_index=LogIndex(wire.matchIndex),
        prev_index=LogIndex(wire.prevIndex),
        hint_index=LogIndex(wire.hintIndex),
        hint_term=Term(wire.hintTerm),
        id=id,
    )


def heartbeat_to_wire(group_id: GroupId, message: Heartbeat) -> wire_types.Heartbeat:
    """Return the wire form; what a meta leader adds is unset."""
    return wire_types.Heartbeat(
        groupId=group_id,
        frm=message.frm,
        to=message.to,
        term=message.term,
        commit=message.commit,
        readContext=message.read_context,
        compactTo=message.compact_to,
        quiesce=message.quiesce or None,
    )


def heartbeat_from_wire(wire: wire_types.Heartbeat, *, id: int = 0) -> Heartbeat:  # noqa: A002
    """Return the message that a leader sent; ValueError when malformed."""
    _check_numbers(
        "Heartbeat",
        (wire.frm, wire.to, wire.term, wire.commit, wire.readContext, wire.compactTo),
    )
    return Heartbeat(
        frm=NodeId(wire.frm),
        to=NodeId(wire.to),
        term=Term(wire.term),
        commit=LogIndex(wire.commit),
        read_context=wire.readContext,
        compact_to=LogIndex(wire.compactTo),
        id=id,
        quiesce=bool(wire.quiesce),
    )


def heartbeat_response_to_wire(
    group_id: GroupId, message: HeartbeatResponse | None
) -> wire_types.HeartbeatResponse:
    """Return the wire form; None: this node has nothing to say for the group."""
    if message is None:
        return wire_types.HeartbeatResponse(
            groupId=group_id, term=0, readContext=0, lastIndex=0, answered=False
        )
    return wire_types.HeartbeatResponse(
        groupId=group_id,
        term=message.term,
        readContext=message.read_context,
        lastIndex=message.last_index,
        answered=True,
        asleep=message.asleep or None,
    )


def heartbeat_response_from_wire(
    wire: wire_types.HeartbeatResponse,
    *,
    frm: NodeId,
    to: NodeId,
    id: int = 0,  # noqa: A002
) -> HeartbeatResponse | None:
    """Return a follower's answer, or None when it had nothing to say; ValueError when malformed."""
    if not wire.answered:
        return None
    _check_numbers("HeartbeatResponse", (wire.term, wire.readContext, wire.lastIndex))
    return HeartbeatResponse(
        frm=frm,
        to=to,
        term=Term(wire.term),
        read_context=wire.readContext,
        last_index=LogIndex(wire.lastIndex),
        id=id,
        asleep=bool(wire.asleep),
    )


def heartbeat_batch(
    sender: NodeInfoLike, heartbeats: Sequence[wire_types.Heartbeat], process: int = 0
) -> wire_types.HeartbeatBatch:
    """Return the heartbeats of all groups that wait for one node, under the sender's info.

    `process` names the sender's run.
    """
    return wire_types.HeartbeatBatch(
        sender=node_info_to_wire(sender), heartbeats=list(heartbeats), process=process
    )


def timeout_now_to_wire(group_id: GroupId, message: TimeoutNow) -> wire_types.TimeoutNowRequest:
    """Return the wire form."""
    return wire_types.TimeoutNowRequest(
        groupId=group_id, frm=message.frm, to=message.to, term=message.term
    )


def timeout_now_from_wire(wire: wire_types.TimeoutNowRequest) -> TimeoutNow:
    """Return the message that a leader sent; ValueError when malformed."""
    _check_numbers("TimeoutNowRequest", (wire.frm, wire.to, wire.term))
    return TimeoutNow(NodeId(wire.frm), NodeId(wire.to), Term(wire.term))
