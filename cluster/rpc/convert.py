"""Wire structs and byte layouts ⇄ engine and Raft types (client-protocol 5, thrift/cluster.thrift).

Values stay bytes: a tablet's columns go to the engine as the client sent them, only their lengths
are checked. Results are encoded column by column with NumPy.

What comes from the wire may be anything. Each `..._from_wire` checks presence and sign of its
fields and raises ValueError, so that the consensus core never sees a half-filled message; the
functions for clients' values raise ClusterError with the column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from cluster.errors import ClusterError, StatusCode
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
from cluster.rpc.gen.client.ttypes import TSQueryDataSet, TSQueryNonAlignDataSet
from cluster.rpc.gen.cluster import ttypes as wire_types
from iotdb_engine.types import WIRE_DTYPES, Column, ColumnBatch, DataType

T = TypeVar("T")

_I32 = Struct(">i")
_unpack_i32 = _I32.unpack_from
_pack_i32 = _I32.pack

_TEXT = 0
_NULL = -1
_UNKNOWN = -2

PHYSICAL_TYPES: dict[int, DataType] = {
    **{int(data_type): data_type for data_type in DataType},
    8: DataType.INT64,
    9: DataType.INT32,
    10: DataType.TEXT,
    11: DataType.TEXT,
}
"""Wire number of a type -> how it is stored; 8 to 11 are TIMESTAMP, DATE, BLOB, STRING."""

_WIDTHS: dict[DataType, int] = {
    DataType.BOOLEAN: 1,
    DataType.INT32: 4,
    DataType.INT64: 8,
    DataType.FLOAT: 4,
    DataType.DOUBLE: 8,
    DataType.TEXT: _TEXT,
}
_BYTE_WIDTHS = [
    _WIDTHS[PHYSICAL_TYPES[number]] if number in PHYSICAL_TYPES else _UNKNOWN
    for number in range(256)
]
"""Type byte of a record value -> bytes of the value, or one of the marks above."""
_BYTE_WIDTHS[0xFE] = _NULL
_BYTE_TYPES = [PHYSICAL_TYPES.get(number, DataType.TEXT) for number in range(256)]


def _bad(message: str) -> ClusterError:
    return ClusterError(StatusCode.WRITE_PROCESS_ERROR, message)


# ---- Values of inserts ----


def record_values(values: bytes) -> tuple[tuple[DataType, ...], bytes, tuple[int, ...]]:
    """Split the values of a record (client-protocol 5.1).

    Returns:
        (types, values, null positions): types and values of the cells that are not null, in order,
        the values without their type bytes, as the columns of a one-row fragment; and which of the
        record's cells are null, ascending.

    Raises:
        ClusterError: WRITE_PROCESS_ERROR, a value is cut off or has an unknown type byte.
    """
    at = 0
    end = len(values)
    types: list[DataType] = []
    parts: list[bytes] = []
    nulls: list[int] = []
    while at < end:
        kind = values[at]
        width = _BYTE_WIDTHS[kind]
        at += 1
        if width > 0:
            following = at + width
        elif width == _TEXT:
            if at + 4 > end:
                raise _bad(f"value {len(types) + len(nulls)} of the record is cut off")
            (size,) = _unpack_i32(values, at)
            if size < 0:
                raise _bad(f"value {len(types) + len(nulls)} of the record has length {size}")
            following = at + 4 + size
        elif width == _NULL:
            nulls.append(len(types) + len(nulls))
            continue
        else:
            raise _bad(f"value {len(types) + len(nulls)} of the record has unknown type {kind}")
        types.append(_BYTE_TYPES[kind])
        parts.append(values[at:following])
        at = following
    if at != end:
        raise _bad(f"value {len(types) + len(nulls) - 1} of the record is cut off")
    return tuple(types), b"".join(parts), tuple(nulls)


class TabletTypes(NamedTuple):
    """What the types of a tablet's columns say about its bytes.

    Attributes:
        physical: how the columns are stored.
        widths: bytes of each column's values, 0 for TEXT.
        row_width: bytes of a row, without its texts.
        fixed: there is no TEXT column: `row_width` is what every row takes.
    """

    physical: tuple[DataType, ...]
    widths: tuple[int, ...]
    row_width: int
    fixed: bool


def tablet_types(wire_types: Sequence[int]) -> TabletTypes:
    """Look up the wire numbers of the columns' types; clients repeat themselves, so it is cached.

    Raises:
        ClusterError: WRITE_PROCESS_ERROR, naming the column with an unknown type.
    """
    try:
        return _tablet_types(bytes(wire_types))
    except (ValueError, KeyError):
        for number, wire_type in enumerate(wire_types):
            if wire_type not in PHYSICAL_TYPES:
                raise _bad(f"column {number} has unknown type {wire_type}") from None
        raise


@lru_cache(maxsize=1024)
def _tablet_types(numbers: bytes) -> TabletTypes:
    physical = tuple(PHYSICAL_TYPES[number] for number in numbers)
    widths = tuple(_WIDTHS[data_type] for data_type in physical)
    return TabletTypes(physical, widths, sum(widths), _TEXT not in widths)


def tablet_to_fragment_parts(
    types: TabletTypes, size: int, timestamps: bytes, values: bytes
) -> tuple[bytes, bytes]:
    """Check a tablet's bytes and split them (client-protocol 5.2, 5.3).

    Args:
        types: of the columns.
        size: rows, at least 1.
        timestamps: size x i64 big-endian.
        values: the columns, then perhaps a null section in any of the clients' forms.

    Returns:
        (values, nulls) as `iotdb_engine.Fragment` has them.

    Raises:
        ClusterError: WRITE_PROCESS_ERROR, naming the column where there is one.
    """
    if size < 1:
        raise _bad(f"a tablet has at least one row, this one says {size}")
    if len(timestamps) != 8 * size:
        raise _bad(f"{size} rows need {8 * size} bytes of timestamps, not {len(timestamps)}")
    end = len(values)
    at = size * types.row_width
    if not types.fixed or at > end:
        at = 0
        for number, width in enumerate(types.widths):
            at = at + size * width if width else _skip_texts(values, at, size, number)
            if at > end:
                raise _bad(f"column {number}: the values end {at - end} bytes too early")
    if at == end:
        return values, b""
    return values[:at], _read_nulls(values[at:], len(types.widths), size)


def _skip_texts(values: bytes, at: int, size: int, number: int) -> int:
    """Return where the `size` texts that begin at `at` end."""
    length: int
    end = len(values)
    if at + 4 * size > end:
        raise _bad(f"column {number}: the values end within it")
    (length,) = _unpack_i32(values, at)
    stride = 4 + length
    if size > 8 and length >= 0 and at + size * stride <= end:
        # Texts of one length are common (ids, enumerations) and can be checked at once. Following
        # the
        # true chain of lengths, equal lengths at every stride are the chain.
        lengths = np.ndarray((size,), ">i4", values, at, (stride,))
        if bool((lengths == length).all()):
            return at + size * stride
    for _ in range(size):
        if at + 4 > end:
            raise _bad(f"column {number}: the values end within it")
        (length,) = _unpack_i32(values, at)
        if length < 0:
            raise _bad(f"column {number}: a text has length {length}")
        at += 4 + length
    return at


def _read_nulls(section: bytes, columns: int, size: int) -> bytes:
    """Return the engine's form of a null section: a bitmap for each column, or b""."""
    least = (size + 7) // 8
    for width in _bitmap_widths(len(section), columns, size):
        starts = _walk_nulls(section, columns, width)
        if starts is not None:
            break
    else:
        raise _bad(
            f"{len(section)} bytes after the last column are no null section "
            f"of {columns} columns and {size} rows"
        )
    empty = bytes(least)
    bitmaps = [empty if start < 0 else section[start : start + least] for start in starts]
    unused = -size % 8
    if unused:
        # bits behind the last row mean nothing; some clients leave them set
        mask = 0xFF >> unused
        bitmaps = [
            bitmap if bitmap[-1] <= mask else bitmap[:-1] + bytes((bitmap[-1] & mask,))
            for bitmap in bitmaps
        ]
    nulls = b"".join(bitmaps)
    return nulls if nulls.count(0) != len(nulls) else b""


def _bitmap_widths(section_bytes: int, columns: int, size: int) -> Iterable[int]:
    """Yield the bytes per bitmap that clients use, most likely first (client-protocol 5.3)."""
    least = (size + 7) // 8
    yield size // 8 + 1
    if least != size // 8 + 1:
        yield least
    rest = section_bytes - columns
    for flagged in range(min(columns, rest // least), 0, -1):
        if rest % flagged == 0:
            yield rest // flagged


def _walk_nulls(section: bytes, columns: int, width: int) -> list[int] | None:
    """Return where each column's bitmap starts (-1: none), or None when the walk does not fit."""
    starts = []
    at = 0
    end = len(section)
    for _ in range(columns):
        if at >= end:
            return None
        flag = section[at]
        at += 1
        if flag == 1:
            starts.append(at)
            at += width
        elif flag == 0:
            starts.append(-1)
        else:
            return None
    return starts if at == end else None


# ---- Results ----


def encode_query_dataset(batch: ColumnBatch) -> TSQueryDataSet:
    """Encode a page in the layout of clients up to 0.13 (client-protocol 5.4).

    `time` always has rows x 8 bytes. Cost: a few microseconds per column; about 0.2 µs per text.
    """
    rows = len(batch.times)
    full = _full_bitmap(rows)
    values = []
    bitmaps = []
    for column in batch.columns:
        values.append(_present_values(column, one_bit=False))
        bitmaps.append(full if column.valid is None else np.packbits(column.valid).tobytes())
    return TSQueryDataSet(
        time=batch.times.astype(">i8").tobytes(), valueList=values, bitmapList=bitmaps
    )


def encode_non_aligned(page: Sequence[ColumnBatch | None]) -> TSQueryNonAlignDataSet:
    """Encode points of columns that have timestamps of their own (client-protocol 5.5)."""
    times = []
    values = []
    for part in page:
        times.append(b"" if part is None else part.times.astype(">i8").tobytes())
        values.append(b"" if part is None else _present_values(part.columns[0], one_bit=False))
    return TSQueryNonAlignDataSet(timeList=times, valueList=values)


_TSBLOCK_ENCODINGS = {
    DataType.BOOLEAN: 0,
    DataType.INT32: 1,
    DataType.FLOAT: 1,
    DataType.INT64: 2,
    DataType.DOUBLE: 2,
    DataType.TEXT: 3,
}
"""Column encodings of a TsBlock: BYTE_ARRAY, INT32_ARRAY, INT64_ARRAY, BINARY_ARRAY."""


def encode_tsblock(batch: ColumnBatch) -> bytes:
    """Encode a page as a TsBlock, the layout of clients from 1.0 on (client-protocol 5.6).

    Raises:
        ValueError: the batch has no row; clients cannot read such a block.
    """
    rows = len(batch.times)
    if rows == 0:
        raise ValueError("a TsBlock has at least one row")
    types = [column.type for column in batch.columns]
    parts = [
        _pack_i32(len(types)),
        bytes(types),
        _pack_i32(rows),
        b"\x02",
        bytes(_TSBLOCK_ENCODINGS[data_type] for data_type in types),
        b"\x00",
        batch.times.astype(">i8").tobytes(),
    ]
    for column in batch.columns:
        if column.valid is None or bool(column.valid.all()):
            parts.append(b"\x00")
        else:
            parts.append(b"\x01")
            parts.append(np.packbits(~column.valid).tobytes())
        parts.append(_present_values(column, one_bit=True))
    return b"".join(parts)


@lru_cache(maxsize=64)
def _full_bitmap(rows: int) -> bytes:
    return np.packbits(np.ones(rows, np.bool_)).tobytes()


def _present_values(column: Column, *, one_bit: bool) -> bytes:
    """Return the bytes of the values that are not null.

    `one_bit`: booleans as a bitmap over all rows (TsBlock) instead of a byte for each value.
    """
    values: npt.NDArray[Any] = column.values
    if one_bit and column.type is DataType.BOOLEAN:
        if column.valid is not None:
            values = values & column.valid
        return np.packbits(values).tobytes()
    if column.valid is not None:
        values = values[column.valid]
    if column.type is DataType.TEXT:
        texts: list[bytes] = values.tolist()
        parts: list[bytes] = [b""] * (2 * len(texts))
        parts[0::2] = map(_pack_i32, map(len, texts))
        parts[1::2] = texts
        return b"".join(parts)
    return values.astype(WIRE_DTYPES[column.type]).tobytes()


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
