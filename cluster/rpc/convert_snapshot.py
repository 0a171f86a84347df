"""Parts of a snapshot between two nodes: wire structs ⇄ values, and the byte form of records.

As in `convert`, what comes from the wire may be anything: it is checked here, and ValueError says
what is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import google_crc32c

from cluster.raft.membership import decode_membership, encode_membership
from cluster.raft.types import GroupId, LogIndex, NodeId, SnapshotMeta, Term
from cluster.rpc.gen.cluster import ttypes as wire_types

_LENGTHS = struct.Struct(">II")
DATA_FIELD = 11
"""Number of `SnapshotRequest.data`, which a sender adds to the encoded request."""
_SMALL_RECORD_BYTES = 4 << 10

Records = Sequence[tuple[bytes, bytes]]


class SnapshotVerdict(IntEnum):
    """What a receiver says to a part. On the wire: frozen."""

    GOING_ON = 0
    """It has everything up to `last_key`: send what follows."""
    INSTALLED = 1
    """The snapshot is this replica's state now, durably."""
    NOT_NEEDED = 2
    """Its log has as much already."""
    BUSY = 3
    """It can't take it now: try again later."""
    STALE_TERM = 4
    """The sender does not lead any more."""
    DAMAGED = 5
    """The part did not arrive as it was sent: send it again from `last_key`."""


class SnapshotEnd(NamedTuple):
    """What a complete transfer amounts to; `crc` is over all keys and values, in order."""

    records: int
    total_bytes: int
    crc: int


class SnapshotPart(NamedTuple):
    """An offer (no data, no end), a piece, or the end of a snapshot.

    Attributes:
        source: names the state that is streamed.
        meta: what the state covers.
        sequence: of the exporter's last flush.
        after_key: the records of this piece follow that key.
        data: as it came, of `pack_records`; its CRC has been checked by `part_from_wire`
            (`is_damaged`).
    """

    group_id: GroupId
    frm: NodeId
    to: NodeId
    term: Term
    source: str
    meta: SnapshotMeta
    sequence: int
    after_key: bytes = b""
    data: bytes = b""
    end: SnapshotEnd | None = None
    is_damaged: bool = False


class SnapshotReply(NamedTuple):
    """Answer to a part; `message` is for people."""

    verdict: SnapshotVerdict
    term: Term = Term(0)
    last_key: bytes = b""
    message: str = ""


def pack_records(records: Records) -> list[bytes]:
    """Return the byte form of records: of each, both lengths (u32), then key and value.

    Large values are parts of their own, and not copied.
    """
    parts: list[bytes] = []
    small: list[bytes] = []
    for key, value in records:
        small += (_LENGTHS.pack(len(key), len(value)), key)
        if len(value) <= _SMALL_RECORD_BYTES:
            small.append(value)
        else:
            parts += (b"".join(small), value)
            small = []
    if small:
        parts.append(b"".join(small))
    return parts


def unpack_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Read records back; raises ValueError when they are cut off."""
    records = []
    at = 0
    while at < len(data):
        if at + _LENGTHS.size > len(data):
            raise ValueError("records are cut off")
        key_bytes, value_bytes = _LENGTHS.unpack_from(data, at)
        value_at = at + _LENGTHS.size + key_bytes
        end = value_at + value_bytes
        if end > len(data):
            raise ValueError("records are cut off")
        records.append((data[at + _LENGTHS.size : value_at], data[value_at:end]))
        at = end
    return records


def part_to_wire(part: SnapshotPart, data: Sequence[bytes] = ()) -> wire_types.SnapshotRequest:
    """Return the wire form of a part with these data, but for the data (`DATA_FIELD`)."""
    end = part.end
    crc = 0
    for item in data:
        crc = google_crc32c.extend(crc, item)
    return wire_types.SnapshotRequest(
        groupId=part.group_id,
        frm=part.frm,
        to=part.to,
        term=part.term,
        source=part.source,
        index=part.meta.index,
        indexTerm=part.meta.term,
        membership=encode_membership(part.meta.membership),
        sequence=part.sequence,
        afterKey=part.after_key,
        dataCrc=crc,
        done=end is not None,
        records=None if end is None else end.records,
        totalBytes=None if end is None else end.total_bytes,
        totalCrc=None if end is None else end.crc,
    )


def part_from_wire(wire: wire_types.SnapshotRequest) -> SnapshotPart:
    """Return the part that a leader sent; ValueError when malformed."""
    numbers = (
        wire.groupId,
        wire.frm,
        wire.to,
        wire.term,
        wire.index,
        wire.indexTerm,
        wire.sequence,
    )
    if None in numbers or min(numbers) < 0 or not wire.source or wire.membership is None:
        raise ValueError(f"SnapshotRequest: a field is missing or negative: {numbers}")
    end = None
    if wire.done:
        totals = (wire.records, wire.totalBytes, wire.totalCrc)
        if None in totals:
            raise ValueError("SnapshotRequest: the end lacks its totals")
        end = SnapshotEnd(*totals)
    data = wire.data or b""
    return SnapshotPart(
        group_id=GroupId(wire.groupId),
        frm=NodeId(wire.frm),
        to=NodeId(wire.to),
        term=Term(wire.term),
        source=wire.source,
        meta=SnapshotMeta(
            LogIndex(wire.index), Term(wire.indexTerm), decode_membership(wire.membership)
        ),
        sequence=wire.sequence,
        after_key=wire.afterKey or b"",
        data=data,
        end=end,
        is_damaged=google_crc32c.value(data) != (wire.dataCrc or 0),
    )


def reply_to_wire(reply: SnapshotReply) -> wire_types.SnapshotResponse:
    """Return the wire form."""
    return wire_types.SnapshotResponse(
        verdict=int(reply.verdict),
        term=reply.term,
        lastKey=reply.last_key,
        message=reply.message or None,
    )


def reply_from_wire(wire: wire_types.SnapshotResponse) -> SnapshotReply:
    """Return a receiver's answer; ValueError when malformed."""
    return SnapshotReply(
        SnapshotVerdict(wire.verdict), Term(wire.term or 0), wire.lastKey or b"", wire.message or ""
    )
