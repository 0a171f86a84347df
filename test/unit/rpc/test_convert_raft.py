"""Raft messages over the wire and back."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport.TTransport import TMemoryBuffer

from cluster.raft.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.types import Entry, EntryKind
from cluster.rpc import convert_raft


class Info(NamedTuple):
    node_id: int = 5
    internal_ip: str = "10.0.0.5"
    meta_port: int = 9003
    data_port: int = 40010
    rpc_address: str = "h5"
    rpc_port: int = 6667
    incarnation: str = "abc"


APPEND = AppendRequest(
    frm=1,
    to=2,
    term=7,
    prev_index=10,
    prev_term=6,
    entries=(
        Entry(11, 6, EntryKind.PLAN, b"a"),
        Entry(12, 7, EntryKind.NOOP, b""),
        Entry(13, 7, EntryKind.MEMBERSHIP, b"\x00\xff"),
    ),
    commit=9,
    compact_to=3,
    id=4,
)


def sent(wire):
    """What the other side reads of it."""
    out = TMemoryBuffer()
    wire.write(TBinaryProtocolAccelerated(out))
    read = type(wire)()
    read.read(TBinaryProtocolAccelerated(TMemoryBuffer(out.getvalue())))
    return read


def test_requests_round_trip():
    vote = VoteRequest(1, 2, 3, 4, 5, pre=True, transfer=True, id=6, commit=7, commit_term=8)
    wire = sent(convert_raft.vote_request_to_wire(9, vote))
    assert wire.groupId == 9
    assert convert_raft.vote_request_from_wire(wire, id=6) == vote

    wire = sent(convert_raft.append_request_to_wire(9, APPEND))
    assert wire.groupId == 9
    back = convert_raft.append_request_from_wire(wire, id=4)
    assert back == APPEND
    assert [type(entry.kind) for entry in back.entries] == [EntryKind] * 3

    beat = Heartbeat(1, 2, 3, 4, read_context=5, compact_to=6, id=7, quiesce=True)
    wire = sent(convert_raft.heartbeat_to_wire(9, beat))
    assert (wire.groupId, wire.tableVersion, wire.partitionTable) == (9, None, None)
    assert convert_raft.heartbeat_from_wire(wire, id=7) == beat

    now = TimeoutNow(1, 2, 3)
    wire = sent(convert_raft.timeout_now_to_wire(9, now))
    assert (wire.groupId, convert_raft.timeout_now_from_wire(wire)) == (9, now)


def test_answers_round_trip():
    vote = VoteResponse(1, 2, 3, granted=True, pre=True, commit=4, commit_term=5)
    wire = sent(convert_raft.vote_response_to_wire(vote))
    assert convert_raft.vote_response_from_wire(wire, frm=1, to=2) == vote

    append = AppendResponse(1, 2, 3, False, 4, 5, 6, 7)
    wire = sent(convert_raft.append_response_to_wire(append))
    assert convert_raft.append_response_from_wire(wire, frm=1, to=2) == append

    beat = HeartbeatResponse(1, 2, 3, 4, 5, asleep=True)
    wire = sent(convert_raft.heartbeat_response_to_wire(9, beat))
    assert wire.groupId == 9
    assert convert_raft.heartbeat_response_from_wire(wire, frm=1, to=2) == beat


def test_nothing_to_say():
    wire = sent(convert_raft.vote_response_to_wire(None))
    assert convert_raft.vote_response_from_wire(wire, frm=1, to=2) is None
    wire = sent(convert_raft.append_response_to_wire(None))
    assert convert_raft.append_response_from_wire(wire, frm=1, to=2) is None
    wire = sent(convert_raft.heartbeat_response_to_wire(9, None))
    assert convert_raft.heartbeat_response_from_wire(wire, frm=1, to=2) is None


def test_nodes():
    wire = sent(convert_raft.node_info_to_wire(Info()))
    assert convert_raft.node_info_from_wire(wire, Info) == Info()
    batch = sent(convert_raft.heartbeat_batch(Info(), []))
    assert (batch.sender, batch.heartbeats) == (wire, [])
    with pytest.raises(ValueError, match="missing"):
        convert_raft.node_info_from_wire(None, Info)


@pytest.mark.parametrize(
    ("field", "value"),
    [("nodeId", None), ("nodeId", -1), ("internalIp", None), ("rpcPort", 65536), ("metaPort", -1)],
)
def test_malformed_nodes(field, value):
    wire = convert_raft.node_info_to_wire(Info())
    setattr(wire, field, value)
    with pytest.raises(ValueError, match="NodeInfo"):
        convert_raft.node_info_from_wire(wire, Info)


@pytest.mark.parametrize("field", ["frm", "to", "term", "prevIndex", "commit", "compactTo"])
@pytest.mark.parametrize("value", [None, -1])
def test_malformed_appends(field, value):
    wire = convert_raft.append_request_to_wire(9, APPEND)
    setattr(wire, field, value)
    with pytest.raises(ValueError, match="AppendEntriesRequest"):
        convert_raft.append_request_from_wire(wire)


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", 9), ("kind", None), ("data", None), ("term", 5), ("term", 8), ("term", None)],
)
def test_malformed_entries(field, value):
    wire = convert_raft.append_request_to_wire(9, APPEND)
    setattr(wire.entries[2 if value == 8 else 1], field, value)
    with pytest.raises(ValueError, match="AppendEntriesRequest"):
        convert_raft.append_request_from_wire(wire)


def test_empty_messages_never_reach_the_core():
    types = convert_raft.wire_types
    for read, empty in (
        (convert_raft.vote_request_from_wire, types.VoteRequest()),
        (convert_raft.append_request_from_wire, types.AppendEntriesRequest()),
        (convert_raft.heartbeat_from_wire, types.Heartbeat()),
        (convert_raft.timeout_now_from_wire, types.TimeoutNowRequest()),
    ):
        with pytest.raises(ValueError, match="missing or negative"):
            read(empty)
