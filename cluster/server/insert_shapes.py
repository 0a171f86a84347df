"""Inserts of a connection that look like earlier ones, told by their bytes.

A client writes the same columns of a device again and again: of a tablet's message all but times
and values are the bytes of the one before. Decoding them costs more than everything else that is
done with the request before it is written: a hundred names become a hundred new strings, which are
hashed to find what they meant the last time. So what surrounds times and values is remembered, by
the device, and compared: equal bytes mean the same.

Only messages in the field order of the generated clients are remembered, and only of devices that
are seen a second time. Whatever is not exactly as remembered is decoded as ever.
"""

from __future__ import annotations

from itertools import accumulate
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from cluster.coordinator.prepared import Prepared
from cluster.coordinator.schema_cache import LayoutKey
from cluster.errors import ClusterError
from cluster.rpc.convert import TabletTypes, tablet_types
from iotdb_engine import DataType
from iotdb_engine.types import WIRE_DTYPES

TABLET = b"\x80\x01\x00\x01\x00\x00\x00\x0cinsertTablet"
RECORD = b"\x80\x01\x00\x01\x00\x00\x00\x0cinsertRecord"
METHOD_BYTES = 20

_HEAD_AT = 24
"""Behind method and sequence id."""
_PATH_AT = 38
"""Of the field with the device: behind the argument's and the session's."""
_REQUEST_AND_SESSION = b"\x0c\x00\x01\x0a\x00\x01"
_PATH = b"\x0b\x00\x02"
_NAMES = b"\x0f\x00\x03\x0b"
_VALUES = b"\x0b\x00\x04"
_TIMES = b"\x0b\x00\x05"
_TIME = b"\x0a\x00\x05"
_TYPES = b"\x0f\x00\x06\x08"
_SIZE = b"\x08\x00\x07"
_END = b"\x00\x00"
_FLAGS = {
    TABLET: {b"\x02\x00\x08": True, b"\x02\x00\x09": False, b"\x02\x00\x0b": False},
    RECORD: {b"\x02\x00\x06": True, b"\x02\x00\x07": False},
}
"""Optional flags behind the known fields: is it the one that says "aligned"? Others must be off."""

_I32 = Struct(">i")
_read_i32 = _I32.unpack_from
_MOST_KNOWN_BYTES = 512 << 10
_MOST_KNOWN = 4096


class TabletShape:
    """What the tablets of one device have in common.

    Attributes:
        head: of the message, up to the length of the values.
        middle: between times and row count.
        tail: what follows the row count.
        types: of the columns.
    """

    __slots__ = ("head", "middle", "prepared", "tail", "types")

    def __init__(
        self, head: bytes, middle: bytes, tail: bytes, types: TabletTypes, prepared: Prepared
    ) -> None:
        self.head = head
        self.middle = middle
        self.tail = tail
        self.types = types
        self.prepared = prepared

    def paths(self) -> list[str]:
        """Return the paths of the columns."""
        key = self.prepared.key
        return [f"{key.device}.{name}" for name in key.measurements]


class RecordShape:
    """What the records of one device have in common.

    Attributes:
        head: of the message, up to the length of the values.
        tail: what follows the time.
    """

    __slots__ = ("_cells", "_kinds", "aligned", "device", "head", "names", "prepared", "tail")

    def __init__(
        self, head: bytes, tail: bytes, device: str, names: tuple[str, ...], *, aligned: bool
    ) -> None:
        self.head = head
        self.tail = tail
        self.device = device
        self.names = names
        self.aligned = aligned
        self.prepared: Prepared | None = None
        self._kinds = b""
        self._cells = Struct("")

    def paths(self) -> list[str]:
        """Return the paths of the columns."""
        return [f"{self.device}.{name}" for name in self.names]

    def learn(self, types: tuple[DataType, ...], values: bytes) -> None:
        """Remember what the values of a record without nulls look like, if they have no texts."""
        if DataType.TEXT in types:
            return
        widths = [WIRE_DTYPES[data_type].itemsize for data_type in types]
        starts = accumulate([1 + width for width in widths[:-1]], initial=0)
        self._kinds = bytes([values[start] for start in starts])
        self._cells = Struct("".join([f"c{width}s" for width in widths]))
        self.prepared = Prepared(LayoutKey(self.device, self.names, types, self.aligned))

    def cells(self, values: bytes) -> bytes | None:
        """Return the values without their type bytes, None where they are of other types."""
        if len(values) != self._cells.size or self.prepared is None:
            return None
        parts = self._cells.unpack(values)
        return b"".join(parts[1::2]) if b"".join(parts[::2]) == self._kinds else None


class TabletParts(NamedTuple):
    """A tablet's message taken apart; `values` is a view of it."""

    shape: TabletShape
    size: int
    times: bytes
    values: memoryview


class RecordParts(NamedTuple):
    """A record's message taken apart; `time` is an i64, big-endian."""

    shape: RecordShape
    time: bytes
    values: bytes


Shape = TabletShape | RecordShape


class InsertShapes:
    """What one connection's inserts looked like; one thread at a time. Bounded: starts over."""

    def __init__(self) -> None:
        self._known: dict[bytes, Shape | None] = {}
        self._bytes = 0

    def tablet(self, payload: bytes) -> TabletParts | None:
        """Take an insertTablet message apart, None when it has to be decoded."""
        shape = self._shape(payload, TABLET)
        if not isinstance(shape, TabletShape):
            return None
        at = _HEAD_AT + len(shape.head)
        total = len(payload)
        middle, tail = shape.middle, shape.tail
        try:
            values_at = at + 4
            values_end = values_at + _read_i32(payload, at)[0]
            times_at = values_end + 7
            times_end = times_at + _read_i32(payload, values_end + 3)[0]
            size_at = times_end + len(middle)
            (size,) = _read_i32(payload, size_at)
        except struct_error:
            return None
        if (
            values_at <= values_end
            and times_at <= times_end
            and size_at + 4 + len(tail) == total
            and payload.startswith(_TIMES, values_end)
            and payload.startswith(middle, times_end)
            and payload.endswith(tail)
        ):
            values = memoryview(payload)[values_at:values_end]
            return TabletParts(shape, size, payload[times_at:times_end], values)
        self._learn(payload, TABLET)
        return None

    def record(self, payload: bytes) -> RecordParts | None:
        """Take an insertRecord message apart, None when it has to be decoded."""
        shape = self._shape(payload, RECORD)
        if not isinstance(shape, RecordShape):
            return None
        at = _HEAD_AT + len(shape.head)
        tail = shape.tail
        try:
            values_at = at + 4
            values_end = values_at + _read_i32(payload, at)[0]
        except struct_error:
            return None
        time_at = values_end + 3
        if (
            values_at <= values_end
            and time_at + 8 + len(tail) == len(payload)
            and payload.startswith(_TIME, values_end)
            and payload.endswith(tail)
        ):
            return RecordParts(shape, payload[time_at : time_at + 8], payload[values_at:values_end])
        self._learn(payload, RECORD)
        return None

    def _shape(self, payload: bytes, method: bytes) -> Shape | None:
        key = _key(payload, method)
        if key is None:
            return None
        known = self._known
        shape = known.get(key)
        if shape is not None and payload.startswith(shape.head, _HEAD_AT):
            return shape
        if key in known:
            self._learn(payload, method)
        elif len(known) < _MOST_KNOWN:
            known[key] = None
        else:
            known.clear()
            self._bytes = 0
        return None

    def _learn(self, payload: bytes, method: bytes) -> None:
        key = _key(payload, method)
        if key is None:
            return
        try:
            shape = _read(payload, method)
        except (ValueError, LookupError, struct_error, ClusterError):  # decoding will tell
            shape = None
        self._bytes += len(key) if shape is None else 3 * len(shape.head)
        if self._bytes > _MOST_KNOWN_BYTES:
            self._known.clear()
            self._bytes = 0
        self._known[key] = shape


def _key(payload: bytes, method: bytes) -> bytes | None:
    """Return what names the device and the method, None where the message is no usual one."""
    if len(payload) < _PATH_AT + 7:
        return None
    end = _PATH_AT + 7 + _read_i32(payload, _PATH_AT + 3)[0]
    return method[-6:] + payload[_PATH_AT:end] if end >= _PATH_AT + 7 else None


class _Reader:
    """Walks a message; raises ValueError where it is not as expected."""

    def __init__(self, payload: bytes, at: int) -> None:
        self.payload = payload
        self.at = at

    def expect(self, expected: bytes) -> None:
        if not self.payload.startswith(expected, self.at):
            raise ValueError("another field")
        self.at += len(expected)

    def number(self) -> int:
        (number,) = _read_i32(self.payload, self.at)
        self.at += 4
        return int(number)

    def bytes(self) -> bytes:
        size = self.number()
        found = self.payload[self.at : self.at + size]
        if size < 0 or len(found) != size:
            raise ValueError("cut off")
        self.at += size
        return found


def _read(payload: bytes, method: bytes) -> Shape | None:
    """Return what may be remembered of a message, None when that is nothing."""
    reader = _Reader(payload, _HEAD_AT)
    reader.expect(_REQUEST_AND_SESSION)
    reader.at += 8
    reader.expect(_PATH)
    device = reader.bytes().decode()
    reader.expect(_NAMES)
    count = reader.number()
    names = tuple([reader.bytes().decode() for _ in range(count)])
    reader.expect(_VALUES)
    head = payload[_HEAD_AT : reader.at]
    reader.bytes()
    types, middle = None, b""
    if method == TABLET:
        reader.expect(_TIMES)
        reader.bytes()
        middle_at = reader.at
        reader.expect(_TYPES)
        numbers = [reader.number() for _ in range(reader.number())]
        if len(numbers) != len(names):
            return None
        types = tablet_types(numbers)
        reader.expect(_SIZE)
        middle = payload[middle_at : reader.at]
        reader.number()
    else:
        reader.expect(_TIME)
        reader.at += 8
    tail_at = reader.at
    aligned = False
    flags = _FLAGS[method]
    while not payload.startswith(_END, reader.at):
        means_aligned = flags[payload[reader.at : reader.at + 3]]
        value = payload[reader.at + 3]
        if value > means_aligned:  # one that must be off, or no flag at all
            return None
        aligned = aligned or bool(value)
        reader.at += 4
    if reader.at + len(_END) != len(payload):
        return None
    tail = payload[tail_at:]
    if types is None:
        return RecordShape(head, tail, device, names, aligned=aligned)
    prepared = Prepared(LayoutKey(device, names, types.physical, aligned))
    return TabletShape(head, middle, tail, types, prepared)
