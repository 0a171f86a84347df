"""What server and worker say to each other: a JSON head, then columns as plain bytes.

    u32 length of the head | head | columns

The head's `columns` tell type, rows, and bytes of values and validity of each. Nothing is unpickled
on either side: a function may be wrong, the server must not be.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_LENGTH = struct.Struct(">I")
_MAX_HEAD_BYTES = 1 << 20
MAX_COLUMN_BYTES = 1 << 30

DTYPES = {
    "BOOLEAN": "?",
    "INT32": "<i4",
    "INT64": "<i8",
    "FLOAT": "<f4",
    "DOUBLE": "<f8",
    "TEXT": "O",
}

Times = npt.NDArray[np.int64]

Read = Callable[[int], bytes]
"""Returns exactly so many bytes, or raises."""


class WireColumn(NamedTuple):
    """A column: its type's name, values, and which of them are valid (None: all)."""

    type: str
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None = None


class Message(NamedTuple):
    """One message."""

    head: dict[str, Any]
    columns: list[WireColumn]


def encode(head: dict[str, Any], columns: Sequence[WireColumn] = ()) -> bytes:
    """Return a message's bytes."""
    parts: list[bytes] = []
    told = []
    for column in columns:
        values = _value_bytes(column)
        valid = b"" if column.valid is None else column.valid.astype("?").tobytes()
        told.append([column.type, len(column.values), len(values), len(valid)])
        parts += [values, valid]
    text = json.dumps({**head, "columns": told}).encode()
    return b"".join([_LENGTH.pack(len(text)), text, *parts])


def decode(read: Read) -> Message:
    """Read a message.

    Raises:
        ValueError: it is none.
    """
    (length,) = _LENGTH.unpack(read(4))
    if length > _MAX_HEAD_BYTES:
        raise ValueError(f"a head of {length} bytes")
    try:
        head = json.loads(read(length))
        columns = [_column(read, *told) for told in head.pop("columns")]
    except (TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(f"a head that can't be: {error!r}") from error
    return Message(head, columns)


def _value_bytes(column: WireColumn) -> bytes:
    if column.type != "TEXT":
        return column.values.astype(DTYPES[column.type]).tobytes()
    texts = [value if isinstance(value, bytes) else b"" for value in column.values.tolist()]
    lengths = np.array([len(text) for text in texts], "<u4").tobytes()
    return lengths + b"".join(texts)


def _column(read: Read, kind: str, rows: int, value_bytes: int, valid_bytes: int) -> WireColumn:
    sane = 0 <= value_bytes <= MAX_COLUMN_BYTES and valid_bytes in (0, rows)
    if kind not in DTYPES or not sane or not 0 <= rows <= value_bytes:
        raise ValueError("a column that can't be")
    data = read(value_bytes)
    valid = np.frombuffer(read(valid_bytes), "?").copy() if valid_bytes else None
    if kind != "TEXT":
        values = np.frombuffer(data, DTYPES[kind]).copy()
    else:
        lengths = np.frombuffer(data[: 4 * rows], "<u4").tolist()
        values = np.empty(rows, dtype=object)
        at = 4 * rows
        for row, length in enumerate(lengths):
            values[row] = data[at : at + length]
            at += length
    if len(values) != rows:
        raise ValueError("a column of another length than was said")
    return WireColumn(kind, values, valid)
