"""Result pages as columns: NumPy arrays and lists, without a Python loop over values.

Fixed-width columns are views of the bytes that came (client-protocol 5.4). A TEXT column of the
protocol happens to be laid out as Thrift lays out a list of binaries, so Thrift's C extension reads
and writes it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.Thrift import TType
from thrift.transport.TTransport import TMemoryBuffer

from iotdb_client.errors import DataError, InternalError

DTYPES = {
    "BOOLEAN": np.dtype("?"),
    "INT32": np.dtype(">i4"),
    "DATE": np.dtype(">i4"),
    "INT64": np.dtype(">i8"),
    "TIMESTAMP": np.dtype(">i8"),
    "FLOAT": np.dtype(">f4"),
    "DOUBLE": np.dtype(">f8"),
}
"""Everything else is a text or blob."""

_TIMES = np.dtype(">i8")


class Page(NamedTuple):
    """One page as it came: the three parts of a TSQueryDataSet."""

    time: bytes
    values: Sequence[bytes]
    bitmaps: Sequence[bytes]


class UnalignedPage(NamedTuple):
    """One page of a result whose columns have times of their own: a TSQueryNonAlignDataSet."""

    times: Sequence[bytes]
    values: Sequence[bytes]


class ColumnPart:
    """One column of one page.

    Attributes:
        kind: type name.
        present: bool[rows], where there are values; None: everywhere.
    """

    __slots__ = ("_values", "kind", "present")

    def __init__(
        self,
        kind: str,
        values: npt.NDArray[Any] | list[bytes],
        present: npt.NDArray[np.bool_] | None,
    ) -> None:
        self.kind = kind
        self.present = present
        self._values: npt.NDArray[Any] | list[bytes] | None = values

    @property
    def values(self) -> npt.NDArray[Any] | list[bytes]:
        """Of the rows that have one, in order: an array of any byte order, or a list of bytes."""
        assert self._values is not None
        return self._values

    def forget(self) -> None:
        """Let go of the values, of which a page's memory is the larger part."""
        self._values = None

    def write(self, out: npt.NDArray[Any]) -> None:
        """Write numbers into an array of as many rows, which are left alone where null."""
        if self.present is None:
            out[:] = self.values
        else:
            out[self.present] = self.values


class PageColumns(NamedTuple):
    """A decoded page.

    Attributes:
        rows: how many there are.
        time: times of all rows, INT64; None where the result has no time.
        parts: one for each distinct column.
        rows_after: about how many rows follow in other pages, as far as the server knows.
    """

    rows: int
    time: ColumnPart | None
    parts: tuple[ColumnPart, ...]
    rows_after: int = 0


def decode_columns(page: Page, types: Sequence[str]) -> PageColumns:
    """Return a page's columns; arrays share the page's memory.

    Args:
        page: as it came.
        types: type name of each distinct column.

    Raises:
        InternalError: the page's parts contradict one another.
    """
    rows = len(page.time) // 8
    if len(page.time) % 8 or not len(page.values) == len(page.bitmaps) == len(types):
        raise InternalError("a result page does not have the shape that its header announced")
    return PageColumns(
        rows,
        ColumnPart("INT64", np.frombuffer(page.time, _TIMES), None),
        tuple(
            _part(values, bitmap, kind, rows)
            for values, bitmap, kind in zip(page.values, page.bitmaps, types, strict=True)
        ),
    )


def _part(values: bytes, bitmap: bytes, kind: str, rows: int) -> ColumnPart:
    if len(bitmap) < (rows + 7) // 8:
        raise InternalError(f"null bitmap of {len(bitmap)} bytes for {rows} rows")
    present = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=rows).view(np.bool_)
    count = int(np.count_nonzero(present))
    mask = None if count == rows else present
    dtype = DTYPES.get(kind)
    if dtype is None:
        return ColumnPart(kind, unpack_binaries(values, count), mask)
    if len(values) != count * dtype.itemsize:
        raise InternalError(f"{len(values)} bytes for {count} values of type {kind}")
    return ColumnPart(kind, np.frombuffer(values, dtype), mask)


# ---- texts ----


class _List:
    """A Thrift struct of one list; `thrift` fills and reads `items`."""

    items: list[Any]


def _spec(encoding: str) -> list[Any]:
    return [_List, (None, (1, TType.LIST, "items", (TType.STRING, encoding, False), None))]


_BINARIES = _spec("BINARY")
_TEXTS = _spec("UTF8")
_HEAD = struct.Struct(">bhbi")  # field type, field id, element type, count
_END = b"\x00"


def unpack_binaries(data: bytes, count: int) -> list[bytes]:
    """Return `count` values, each with its length before it as four big-endian bytes.

    Raises:
        InternalError: the data is longer or shorter than that.
    """
    if not count and not data:
        return []
    head = _HEAD.pack(TType.LIST, 1, TType.STRING, count)
    carrier = TMemoryBuffer(b"".join((head, data, _END)))
    protocol = TBinaryProtocolAccelerated(
        carrier, string_length_limit=len(data) + 1, container_length_limit=count + 1
    )
    found = _List()
    found.items = []
    try:
        protocol._fast_decode(found, protocol, _BINARIES)
    except (EOFError, OverflowError, TypeError, ValueError) as error:
        raise InternalError(f"text column of a result page is damaged: {error}") from error
    if carrier.cstringio_buf.tell() != len(data) + _HEAD.size + 1:
        raise InternalError("text column of a result page has the wrong length")
    return found.items


def pack_texts(texts: Sequence[str]) -> bytes:
    """Return texts as UTF-8, each with its length before it; UnicodeEncodeError if one is none."""
    return _packed(list(texts), _TEXTS)


def pack_binaries(values: Sequence[bytes]) -> bytes:
    """Return values, each with its length before it as four big-endian bytes."""
    return _packed(list(values), _BINARIES)


def _packed(items: list[Any], spec: list[Any]) -> bytes:
    if not items:
        return b""
    made = _List()
    made.items = items
    protocol = TBinaryProtocolAccelerated(TMemoryBuffer())
    packed: bytes = protocol._fast_encode(made, spec)
    return packed[_HEAD.size : -1]


def decode_texts(values: Sequence[bytes]) -> list[str]:
    """Return UTF-8 texts as str.

    Raises:
        DataError: one is not UTF-8.
    """
    try:
        return [*map(bytes.decode, values)]
    except UnicodeDecodeError as error:
        raise DataError(f"a TEXT value is not UTF-8: {error}") from error
