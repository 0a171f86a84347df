"""The steps of an engine's own write-ahead log as bytes, and what each does to the region.

A record of the log is one step: one or more operations that take effect together. Layout:
docs/formats/wal.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from iotdb_engine.fragment import check_fragment, check_layout
from iotdb_engine.region import Region
from iotdb_engine.types import DataType, Fragment, Layout
from iotdb_engine.wal import Buffer

_OPERATION = struct.Struct("<BxxxxxxxQ")
_WRITE = struct.Struct("<HxxIIxxxxQQ")
_DELETE = struct.Struct("<qq")
_TTL = struct.Struct("<QQq")
_WRITES, _DELETES, _DROPS, _PUTS, _TTLS = 1, 2, 3, 4, 5


class Write(NamedTuple):
    """Rows of some series."""

    fragment: Fragment


class Delete(NamedTuple):
    """A delete of a time range, both ends inclusive."""

    series_ids: Sequence[int]
    t_min: int
    t_max: int


class Drop(NamedTuple):
    """Series that go for good."""

    series_ids: Sequence[int]


class Put(NamedTuple):
    """Changes of the key-value state."""

    puts: Mapping[bytes, bytes | None]


class SetTtl(NamedTuple):
    """How long the points of [lo, hi) stay; -1: for good."""

    lo: int
    hi: int
    ttl: int


Operation = Write | Delete | Drop | Put | SetTtl


def encode(operations: Sequence[Operation]) -> list[Buffer]:
    """Return the byte form of a step, in parts; columns are not copied."""
    parts: list[Buffer] = []
    for operation in operations:
        kind, body = _encode(operation)
        parts.append(_OPERATION.pack(kind, sum(map(len, body))))
        parts += body
    return parts


def _encode(operation: Operation) -> tuple[int, list[Buffer]]:
    match operation:
        case Write(fragment):
            ids, types = fragment.layout
            head = _WRITE.pack(
                fragment.slot,
                fragment.row_count,
                len(ids),
                len(fragment.values),
                len(fragment.nulls),
            )
            head += struct.pack(f"<{len(ids)}Q", *ids) + bytes(types)
            return _WRITES, [head, fragment.times, fragment.values, fragment.nulls]
        case Delete(ids, t_min, t_max):
            return _DELETES, [_DELETE.pack(t_min, t_max) + struct.pack(f"<{len(ids)}Q", *ids)]
        case Drop(ids):
            return _DROPS, [struct.pack(f"<{len(ids)}Q", *ids)]
        case Put(puts):
            return _PUTS, [b"".join(_encode_put(key, value) for key, value in puts.items())]
        case SetTtl(lo, hi, ttl):
            return _TTLS, [_TTL.pack(lo, hi, ttl)]


def _encode_put(key: bytes, value: bytes | None) -> bytes:
    size = -1 if value is None else len(value)
    return struct.pack("<Iq", len(key), size) + key + (value or b"")


def decode(data: bytes) -> list[Operation]:
    """Read a step back.

    Raises:
        ValueError: the bytes are no step.
    """
    found: list[Operation] = []
    at = 0
    try:
        while at < len(data):
            kind, size = _OPERATION.unpack_from(data, at)
            at += _OPERATION.size
            if at + size > len(data):
                raise ValueError(f"an operation of {size} bytes, {len(data) - at} left")
            found.append(_decode(kind, data[at : at + size]))
            at += size
    except struct.error as error:
        raise ValueError(str(error)) from error
    return found


def _decode(kind: int, body: bytes) -> Operation:
    match kind:
        case 1:
            return Write(_decode_fragment(body))
        case 2:
            return Delete(_ids(body[_DELETE.size :]), *_DELETE.unpack_from(body))
        case 3:
            return Drop(_ids(body))
        case 4:
            return Put(dict(_decode_puts(body)))
        case 5:
            return SetTtl(*_TTL.unpack(body))
        case _:
            raise ValueError(f"an operation of kind {kind}")


def _ids(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 8}Q", data)


def _decode_puts(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    at = 0
    while at < len(data):
        key_size, size = struct.unpack_from("<Iq", data, at)
        at += 12
        key = data[at : at + key_size]
        at += key_size
        yield key, None if size < 0 else data[at : at + size]
        at += max(size, 0)


def _decode_fragment(body: bytes) -> Fragment:
    slot, rows, columns, values_size, nulls_size = _WRITE.unpack_from(body)
    at = _WRITE.size
    ids = _ids(body[at : at + 8 * columns])
    at += 8 * columns
    layout = Layout(ids, tuple(DataType(one) for one in body[at : at + columns]))
    at += columns
    times = body[at : at + 8 * rows]
    at += 8 * rows
    values = body[at : at + values_size]
    nulls = body[at + values_size : at + values_size + nulls_size]
    fragment = Fragment(slot, layout, rows, times, values, nulls)
    check_layout(layout)
    check_fragment(fragment)
    return fragment


def apply(region: Region, operations: Sequence[Operation], index: int) -> None:
    """Apply a step; all of it becomes visible together."""
    if len(operations) == 1:
        _apply(region, operations[0], index)
        return
    with region.entry():
        for operation in operations:
            _apply(region, operation, index)


def _apply(region: Region, operation: Operation, index: int) -> None:
    match operation:
        case Write(fragment):
            region.write((fragment,), index)
        case Delete(ids, t_min, t_max):
            region.delete(ids, t_min, t_max, index)
        case Drop(ids):
            region.drop_series([(i, i + 1) for i in ids], index)
        case Put(puts):
            region.put(puts, index)
        case SetTtl(lo, hi, ttl):
            region.set_ttl(lo, hi, None if ttl < 0 else ttl, index)
