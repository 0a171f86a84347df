"""Byte form of plans in the Raft log and on the wire, and of the outcomes that cross the wire.

A plan is `type u8 | version u8 | body`, perhaps after a request id (`cluster.plan.request_id`). The
body of most plans is a JSON object with exactly the plan's fields. An InsertPlan, by far the most
frequent, is binary, big-endian:

    fragment count u32, then for each fragment
    slot u16 | row count u32 | layout length u32 | values length u32 | nulls length u32
    layout (column count u32, series ids u64[n], types u8[n]) | times i64[rows] | values | nulls

so a tablet's bytes are copied once on each side and never looked at. Layouts repeat from insert to
insert: their encoded and decoded forms are cached, which is what makes a plan cost microseconds.
Decoding is strict: what is not exactly of this form raises ValueError. So is encoding: what could
not be read back raises there. For a plan that is in the log must be applicable on every replica;
one that is not would stop them all, at every start again.

Cost for one fragment of 100 columns: about 2 us to encode plus one copy, 3 us to decode plus one.
"""

from __future__ import annotations

import json
import struct
import threading
from typing import Any, NamedTuple

from cluster.errors import StatusCode
from cluster.plan.fields import (
    FORMAT_VERSION,
    PLAN_FIELDS,
    PLAN_NUMBERS,
    PlanType,
    alias_field,
    byte_field,
    flag_field,
    id_field,
    pairs_field,
    plain_fields,
    text_field,
    type_field,
)
from cluster.plan.outcomes import Outcome
from cluster.plan.plans import InsertPlan, Plan, SetPartitionTablePlan
from cluster.plan.request_id import HEADER_BYTES, MARKER, Requested, RequestId, split_request
from cluster.schema.series import DeviceInfo, SeriesInfo
from cluster.schema.tree import SeriesOutcome
from iotdb_engine.types import WIRE_DTYPES, DataType, Fragment, Layout

_REQUEST_MARKER = bytes((MARKER,))

# ---- insert ----

_COUNT = struct.Struct(">I")
_PLAN_HEAD = struct.Struct(">BxI")
_INSERT = int(PlanType.INSERT)
_FRAGMENT = struct.Struct(">HIIII")
_INSERT_HEADER = bytes((PlanType.INSERT, FORMAT_VERSION))
_MAX_CACHE_BYTES = 16 << 20
_TYPES = {int(data_type): data_type for data_type in DataType}
_WIDTHS = {data_type: dtype.itemsize for data_type, dtype in WIRE_DTYPES.items()}
_MIN_TEXT_WIDTH = 4


class _DecodedLayout(NamedTuple):
    layout: Layout
    row_width: int  # bytes of a row's values, at least
    exact: bool  # there is no TEXT column: `row_width` is what every row takes
    columns: int


class _LayoutCache:
    """Both directions; bounded by bytes, starts over when full. Thread-safe.

    Encoding looks up by identity, because callers keep and share layouts, and hashing one of 100
    columns would cost more than everything else. The entry holds the layout, so its id stays its.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._encoded: dict[int, tuple[Layout, bytes, _DecodedLayout]] = {}
        self._encoded_bytes = 0
        self._decoded: dict[bytes, _DecodedLayout] = {}
        self._decoded_bytes = 0

    def encoded(self, layout: Layout) -> tuple[Layout, bytes, _DecodedLayout]:
        entry = self._encoded.get(id(layout))
        if entry is not None and entry[0] is layout:
            return entry
        data = _encode_layout(layout)
        entry = (layout, data, self.decoded(data))
        with self._lock:
            self._encoded_bytes += len(data)
            if self._encoded_bytes > _MAX_CACHE_BYTES:
                self._encoded.clear()
                self._encoded_bytes = len(data)
            self._encoded[id(layout)] = entry
        return entry

    def decoded(self, data: bytes) -> _DecodedLayout:
        entry = self._decoded.get(data)
        if entry is not None:
            return entry
        entry = _decode_layout(data)
        with self._lock:
            self._decoded_bytes += len(data)
            if self._decoded_bytes > _MAX_CACHE_BYTES:
                self._decoded.clear()
                self._decoded_bytes = len(data)
            return self._decoded.setdefault(data, entry)


def _encode_layout(layout: Layout) -> bytes:
    count = len(layout.series_ids)
    return struct.pack(f">I{count}Q{count}B", count, *layout.series_ids, *layout.types)


def _decode_layout(data: bytes) -> _DecodedLayout:
    if len(data) < _COUNT.size:
        raise ValueError("malformed plan: cut off in a layout")
    (count,) = _COUNT.unpack_from(data)
    if count == 0 or len(data) != _COUNT.size + 9 * count:
        raise ValueError(f"malformed plan: layout of {count} columns in {len(data)} bytes")
    numbers = struct.unpack_from(f">{count}Q{count}B", data, _COUNT.size)
    series_ids = numbers[:count]
    if len(set(series_ids)) != count:
        raise ValueError("malformed plan: a layout has a series twice")
    try:
        types = tuple(_TYPES[number] for number in numbers[count:])
    except KeyError as error:
        raise ValueError(f"malformed plan: unknown data type {error}") from error
    return _DecodedLayout(
        Layout(series_ids, types),
        sum(_WIDTHS.get(data_type, _MIN_TEXT_WIDTH) for data_type in types),
        DataType.TEXT not in types,
        count,
    )


_layouts = _LayoutCache()

_VIEW_FROM_BYTES = 4096
"""Values from this size on are not copied: the memory table shares them with the log's cache."""


def _encode_insert(plan: InsertPlan, prefix: bytes) -> bytes:
    parts: list[bytes | memoryview] = [prefix, _INSERT_HEADER, _COUNT.pack(len(plan.fragments))]
    for slot, layout, row_count, times, values, nulls in plan.fragments:
        _, layout_bytes, known = _layouts.encoded(layout)
        values_size, nulls_size = len(values), len(nulls)
        _check_sizes(known, row_count, values_size, nulls_size)
        if len(times) != 8 * row_count:
            raise ValueError(f"malformed plan: {len(times)} bytes of times for {row_count} rows")
        parts += (
            _FRAGMENT.pack(slot, row_count, len(layout_bytes), values_size, nulls_size),
            layout_bytes,
            times,
            values,
            nulls,
        )
    return b"".join(parts)


def _check_sizes(layout: _DecodedLayout, rows: int, values_size: int, nulls_size: int) -> None:
    if rows < 1:
        raise ValueError(f"malformed plan: a fragment of {rows} rows")
    least = layout.row_width * rows
    if values_size != least and (layout.exact or values_size < least):
        raise ValueError(f"malformed plan: {values_size} bytes of values for {rows} rows")
    if nulls_size and nulls_size != layout.columns * ((rows + 7) >> 3):
        raise ValueError(f"malformed plan: {nulls_size} bytes of null bits for {rows} rows")


def insert_fragment_count(data: bytes) -> int:
    """Return how many fragments an encoded InsertPlan has, by its header; 0 for another plan."""
    at = HEADER_BYTES if data[:1] == _REQUEST_MARKER else 0
    if len(data) < at + 6:
        return 0
    count: int
    number, count = _PLAN_HEAD.unpack_from(data, at)
    return count if number == _INSERT else 0


def _decode_insert(data: bytes | memoryview) -> InsertPlan:
    if len(data) < 6:
        raise ValueError("malformed plan: cut off")
    (count,) = _COUNT.unpack_from(data, 2)
    at = 6
    total = len(data)
    fragments = []
    for _ in range(count):
        body = at + _FRAGMENT.size
        if body > total:
            raise ValueError("malformed plan: cut off before a fragment")
        slot, rows, layout_size, values_size, nulls_size = _FRAGMENT.unpack_from(data, at)
        times_at = body + layout_size
        values_at = times_at + 8 * rows
        nulls_at = values_at + values_size
        at = nulls_at + nulls_size
        if at > total:
            raise ValueError("malformed plan: cut off in a fragment")
        # bytes() of bytes is free; of a slice of a memoryview it is the one copy
        known = _layouts.decoded(bytes(data[body:times_at]))
        _check_sizes(known, rows, values_size, nulls_size)
        large = known.exact and values_size >= _VIEW_FROM_BYTES
        fragments.append(
            Fragment(
                slot,
                known.layout,
                rows,
                bytes(data[times_at:values_at]),
                memoryview(data)[values_at:nulls_at] if large else bytes(data[values_at:nulls_at]),
                bytes(data[nulls_at:at]) if nulls_size else b"",
            )
        )
    if at != total:
        raise ValueError(f"malformed plan: {total - at} bytes too many")
    return InsertPlan(tuple(fragments))


# ---- the other plans ----


def _dump(value: Any) -> bytes:  # noqa: ANN401
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


def _load(data: bytes, what: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError(f"malformed {what}: nested too deeply") from error


def encode_plan(plan: Plan, request: RequestId | None = None) -> bytes:
    """Return the byte form of a plan; see the module's text. Thread-safe.

    Args:
        plan: any plan.
        request: whose plan it is, so that it is applied once (`cluster.plan.request_id`).

    Raises:
        TypeError: not a plan.
        ValueError, struct.error: a field is out of its range: it could not be read back.
    """
    prefix = b"" if request is None else request.encode()
    if type(plan) is InsertPlan:
        return _encode_insert(plan, prefix)
    if isinstance(plan, SetPartitionTablePlan):
        return prefix + bytes((PlanType.SET_PARTITION_TABLE, FORMAT_VERSION)) + plan.table
    number = PLAN_NUMBERS.get(type(plan))
    if number is None:
        raise TypeError(f"{type(plan).__name__} is not a plan")
    data = bytes((number, FORMAT_VERSION)) + _dump(plain_fields(plan))
    decode_plan(data)
    return prefix + data


def decode_requested(data: bytes | memoryview) -> Requested:
    """Read a plan back as `decode_plan` does, and the request that it belongs to."""
    request, body = split_request(data)
    return Requested(request, _decode_body(body))


def decode_plan(data: bytes | memoryview) -> Plan:
    """Read a plan back; large columns are views of `data`, which must not change. Thread-safe.

    A request id before it is checked and passed over.

    Raises:
        ValueError: malformed, or of a release that this one does not know.
    """
    return _decode_body(split_request(data)[1])


def _decode_body(data: bytes | memoryview) -> Plan:
    if len(data) < 2:
        raise ValueError("malformed plan: cut off")
    if data[1] != FORMAT_VERSION:
        raise ValueError(f"plan of format version {data[1]}; this release knows {FORMAT_VERSION}")
    number = data[0]
    if number == PlanType.INSERT:
        return _decode_insert(data)
    if number == PlanType.SET_PARTITION_TABLE:
        return SetPartitionTablePlan(bytes(data[2:]))
    try:
        cls, fields = PLAN_FIELDS[PlanType(number)]
        values = _load(bytes(data[2:]), "plan")
        if number == PlanType.DIGEST and values == {}:
            values = {"now_ns": 0}  # as it was written before it had a time
        if type(values) is not dict or values.keys() != fields.keys():
            raise ValueError(f"malformed plan: {cls.__name__} has other fields")
        plan: Plan = cls(**{name: check(values[name]) for name, check in fields.items()})
    except TypeError as error:
        raise ValueError(f"malformed plan: {error}") from error
    return plan


# ---- results ----

_ALL_TAKEN = b"[[]]"
"""The outcome of an insert of which nothing was refused: nearly all outcomes there are."""


def _info_plain(info: SeriesInfo) -> list[Any]:
    return [
        info.series_id,
        info.storage_group,
        info.device,
        info.measurement,
        int(info.data_type),
        info.encoding,
        info.compressor,
        info.aligned,
        info.alias,
        info.props,
        info.tags,
        info.attributes,
        info.template,
    ]


def _info(value: Any) -> SeriesInfo:  # noqa: ANN401
    (
        series_id,
        storage_group,
        device,
        measurement,
        data_type,
        encoding,
        compressor,
        aligned,
        alias,
        props,
        tags,
        attributes,
        template,
    ) = value
    return SeriesInfo(
        id_field(series_id),
        text_field(storage_group),
        text_field(device),
        text_field(measurement),
        type_field(data_type),
        byte_field(encoding),
        byte_field(compressor),
        flag_field(aligned),
        alias_field(alias),
        pairs_field(props),
        pairs_field(tags),
        pairs_field(attributes),
        text_field(template),
    )


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return JSON for a result: typed values are {tag: fields}, lists and tuples are lists."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, SeriesInfo):
        return {"s": _info_plain(value)}
    if isinstance(value, SeriesOutcome):
        return {"o": [_plain(value.info), int(value.status), value.message]}
    if isinstance(value, DeviceInfo):
        return {"d": [value.path, value.storage_group, value.aligned, value.template]}
    if isinstance(value, Outcome):
        return {"m": [int(value.status), value.message, _plain(value.value)]}
    if isinstance(value, bytes):
        return {"b": value.hex()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not a result")


def _value(plain: Any) -> Any:  # noqa: ANN401
    if isinstance(plain, list):
        return [_value(item) for item in plain]
    if not isinstance(plain, dict):
        if isinstance(plain, float):
            raise ValueError(f"malformed result: {plain!r}")
        return plain
    ((tag, fields),) = plain.items()
    if tag == "s":
        return _info(fields)
    if tag == "o":
        info, status, message = fields
        return SeriesOutcome(_value(info), StatusCode(status), text_field(message))
    if tag == "d":
        path, storage_group, aligned, template = fields
        return DeviceInfo(
            text_field(path), text_field(storage_group), flag_field(aligned), text_field(template)
        )
    if tag == "m":
        status, message, value = fields
        return Outcome(StatusCode(status), text_field(message), _value(value))
    if tag == "b":
        return bytes.fromhex(fields)
    raise ValueError(f"malformed result: unknown tag {tag!r}")


def encode_result(value: Any) -> bytes:  # noqa: ANN401
    """Return the byte form of an outcome or answer.

    Args:
        value: None, bool, int, str, bytes, SeriesInfo, SeriesOutcome, DeviceInfo, Outcome, or a
            list or tuple of such; tuples come back as lists.

    Raises:
        TypeError: something else.
    """
    return _ALL_TAKEN if value == ((),) else _dump(_plain(value))


def decode_result(data: bytes) -> Any:  # noqa: ANN401
    """Read a result back.

    Raises:
        ValueError: malformed.
    """
    if data == _ALL_TAKEN:
        return [[]]
    try:
        return _value(_load(data, "result"))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"malformed result: {error}") from error
