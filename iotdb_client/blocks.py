"""Result pages in the project's own layout: blocks of columns (docs/formats/columnar.md).

Numbers come little-endian, or as the server has them stored: then they are decoded here, with the
engine's codecs, straight to where they are wanted. Those are imported when the first such page
comes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_client.columns import (
    DTYPES,
    ColumnPart,
    Page,
    PageColumns,
    decode_columns,
    unpack_binaries,
)
from iotdb_client.errors import InternalError
from iotdb_client.types import DataType

LAYOUT_KEY = "result_layout"
LAYOUT = "columnar-1"
PAGES_KEY = "result_pages"
PAGES = "joined"

_HEAD = struct.Struct("<BBHIQ")
_COLUMN = struct.Struct("<BBBxI")
_VERSION = 1
_NO_TIMES = 1
_HAS_NULLS = 1
_RAW = 0
_BINARIES = 64
_JOINED = 65
_PAGE = struct.Struct("<BxxxII")
_Stored = tuple[int, memoryview, int]
_CODES = {kind.name: int(kind) for kind in DataType}


class Blocks(NamedTuple):
    """One page as it came: some rows in each block."""

    blocks: Sequence[bytes]


def decode_pages(page: Page | Blocks, types: Sequence[str]) -> list[PageColumns]:
    """Return a page's columns, in one or several pieces.

    Raises:
        InternalError: see `decode_block` and `decode_columns`.
    """
    if isinstance(page, Blocks):
        return [decode_block(block, types) for block in page.blocks]
    return [decode_columns(page, types)]


def decode_block(block: bytes, types: Sequence[str]) -> PageColumns:
    """Return a block's columns; they share its memory, and are decoded when asked for.

    Args:
        block: as it came.
        types: type name of each distinct column.

    Raises:
        InternalError: the block contradicts itself, or the result's header.
    """
    try:
        version, flags, count, rows, rows_after = _HEAD.unpack_from(block)
        at = _HEAD.size + count * _COLUMN.size
        entries = list(_COLUMN.iter_unpack(block[_HEAD.size : at]))
    except struct.error as error:
        raise InternalError(f"a result block is damaged: {error}") from error
    timeless = bool(flags & _NO_TIMES)
    if version != _VERSION or len(entries) != count or count != len(types) + (not timeless):
        raise InternalError("a result block does not have the shape that its header announced")
    expected = types if timeless else ("INT64", *types)
    whole = memoryview(block)
    parts = []
    for (kind, encoding, marks, size), name in zip(entries, expected, strict=True):
        if kind != _CODES.get(name):
            raise InternalError(f"a result block has type {kind} where {name} was announced")
        end = at + size
        body = whole[at:end]
        at = end
        present = None
        values = rows
        if marks & _HAS_NULLS:
            bitmap = (rows + 7) // 8
            bits = np.frombuffer(body[:bitmap], np.uint8)
            present = np.unpackbits(bits, count=rows, bitorder="little").view(np.bool_)
            values = int(np.count_nonzero(present))
            body = body[bitmap:]
        parts.append(BlockPart(name, encoding, body, values, present))
    if at != len(block):
        raise InternalError(f"a result block of {len(block)} bytes instead of {at}")
    time = None if timeless else parts.pop(0)
    if time is not None and time.present is not None:
        raise InternalError("a result block has rows without a time")
    return PageColumns(rows, time, tuple(parts), rows_after)


class BlockPart(ColumnPart):
    """One column of a block, decoded when it is asked for.

    Attributes:
        stored: pages that were not decoded yet, no value of them null: encoding, bytes and number
            of values of each; None: there is nothing to decode, or not like that.
    """

    __slots__ = ("_body", "_count", "_encoding", "stored")

    def __init__(
        self,
        kind: str,
        encoding: int,
        body: memoryview,
        count: int,
        present: npt.NDArray[np.bool_] | None,
    ) -> None:
        self.kind = kind
        self.present = present
        self._values = None
        self._encoding = encoding
        self._body = body
        self._count = count
        self.stored: Sequence[_Stored] | None = None
        if encoding == _JOINED:
            self.stored = _pages_of(body, count)
        elif present is None and encoding != _RAW:
            self.stored = ((encoding, body, count),)

    @property
    def values(self) -> npt.NDArray[Any] | list[bytes]:
        """See `ColumnPart`."""
        if self._values is None:
            self._values = self._decoded()
            self.stored = None
        return self._values

    def forget(self) -> None:
        """See `ColumnPart`."""
        super().forget()
        self._body = memoryview(b"")
        self.stored = None

    def _decoded(self) -> npt.NDArray[Any] | list[bytes]:
        if self._encoding == _JOINED:
            return self._decoded_pages()
        if self._encoding == _BINARIES:
            return unpack_binaries(bytes(self._body), self._count)
        if self._encoding == _RAW and self.kind in DTYPES:
            dtype = DTYPES[self.kind].newbyteorder("<")
            if len(self._body) != self._count * dtype.itemsize:
                raise InternalError(
                    f"{len(self._body)} bytes for {self._count} values of type {self.kind}"
                )
            return np.frombuffer(self._body, dtype)
        codecs = _codecs()
        try:
            values = codecs.decode_values(
                _CODES[self.kind], self._encoding, self._body, self._count
            )
        except ValueError as error:
            raise InternalError(f"a result block is damaged: {error}") from error
        decoded: npt.NDArray[Any] = values
        return decoded.tolist() if self.kind not in DTYPES else decoded

    def _decoded_pages(self) -> npt.NDArray[Any] | list[bytes]:
        pages = self.stored or ()
        if self.kind not in DTYPES:
            texts: list[bytes] = []
            for encoding, body, count in pages:
                texts += BlockPart(self.kind, encoding, body, count, None).values
            return texts
        out = np.empty(self._count, DTYPES[self.kind].newbyteorder("="))
        _write_stored(self.kind, pages, 0, out)
        return out


def _pages_of(body: memoryview, rows: int) -> list[_Stored]:
    """Return the pages that are joined in a column's body.

    Raises:
        InternalError: they are other than they say.
    """
    found: list[_Stored] = []
    at = total = 0
    while at < len(body):
        if len(body) - at < _PAGE.size:
            raise InternalError("a result block ends within a page's heading")
        encoding, count, size = _PAGE.unpack_from(body, at)
        start = at + _PAGE.size
        at = start + size
        if encoding >= _BINARIES:
            raise InternalError(f"a result block has a page in encoding {encoding}")
        found.append((encoding, body[start:at], count))
        total += count
    if at != len(body) or total != rows:
        raise InternalError(f"a result block has pages of {total} rows and {at} bytes")
    return found


def write_parts(parts: Sequence[ColumnPart], rows: Sequence[int], out: npt.NDArray[Any]) -> None:
    """Write parts of one column one after another, those that are stored pages in few calls.

    Args:
        parts: of one column of numbers.
        rows: of each part.
        out: of as many rows; left alone where null.

    Raises:
        InternalError: a part is damaged.
    """
    kind = parts[0].kind
    found = [part.stored if isinstance(part, BlockPart) else None for part in parts]
    waiting: list[_Stored] = []
    at = 0
    for part, count, stored in zip(parts, rows, found, strict=True):
        if stored is not None:
            waiting += stored
            continue
        at = _write_stored(kind, waiting, at, out)
        waiting.clear()
        part.write(out[at : at + count])
        at += count
    _write_stored(kind, waiting, at, out)


def _write_stored(kind: str, pages: Sequence[_Stored], at: int, out: npt.NDArray[Any]) -> int:
    """Write pages from one place on, and return where they end."""
    if not pages:
        return at
    end = at + sum([count for _, _, count in pages])
    try:
        _codecs().decode_pages_into(_CODES[kind], pages, out[at:end])
    except ValueError as error:
        raise InternalError(f"a result block is damaged: {error}") from error
    return end


@cache
def _codecs() -> Any:  # noqa: ANN401 - a module
    from iotdb_engine import encoding

    return encoding
