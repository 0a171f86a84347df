"""Encodings: arrays of one type to bytes and back. They know no file, no page and no key.

Start at `encode_numbers` and `decode_values`; `numeric` (with `decimal`), `boolean` and `text` hold
one codec each.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.encoding import boolean, numeric, runs, text
from iotdb_engine.encoding.numeric import Hints
from iotdb_engine.encoding.runs import JoinedPage
from iotdb_engine.types import BATCH_DTYPES, DataType


class Encoding(IntEnum):
    """How the values of a page are encoded. On disk: frozen."""

    RAW = 0
    """Little-endian values back to back."""
    PCODEC = 1
    """A standalone pcodec file."""
    BITS = 2
    """One bit a value, least significant bit first."""
    TEXT = 3
    """zstd over u32 lengths and bytes."""
    TEXT_DICTIONARY = 4
    """zstd over distinct texts and an index for each value."""
    DECIMAL = 5
    """A power of ten, and a standalone pcodec file of integers."""
    GRID = 6
    """Times: the first, a step, and a standalone pcodec file of distances from that grid."""


_PCODEC, _DECIMAL = int(Encoding.PCODEC), int(Encoding.DECIMAL)

Encoded = tuple[Encoding, bytes]


class EncodedPage(NamedTuple):
    """Values as `decode_into` takes them, and how many."""

    encoding: int
    data: bytes | memoryview
    rows: int


def encode_times(times: npt.NDArray[np.int64], *, best: bool = False) -> Encoded:
    """Encode int64[n], n >= 1, ascending; `best`: as small as can be."""
    if len(times) < numeric.RAW_BELOW_TIMES:
        return Encoding.RAW, times.astype("<i8").tobytes()
    return Encoding.GRID, numeric.encode_times(times, best=best)


def encode_texts(values: npt.NDArray[Any]) -> Encoded:
    """Encode an object array of bytes."""
    by_dictionary, data = text.encode(values.tolist())
    return (Encoding.TEXT_DICTIONARY if by_dictionary else Encoding.TEXT), data


def encode_booleans(values: npt.NDArray[np.bool_]) -> Encoded:
    """Encode bool[n]."""
    return Encoding.BITS, boolean.encode(values)


def encode_numbers(
    columns: npt.NDArray[Any],
    lowest: npt.NDArray[Any],
    highest: npt.NDArray[Any],
    hints: Hints,
    *,
    level: int,
) -> list[Encoded]:
    """Encode a block of k columns of n >= 1 numbers.

    Args:
        columns: int32, int64, float32 or float64 [k, n].
        lowest: [k], minimum of each column.
        highest: [k], maximum of each column.
        hints: of the k columns; changed.
        level: of pcodec; below 4 for speed.
    """
    if columns.shape[1] < numeric.RAW_BELOW:
        return [(Encoding.RAW, numeric.encode_raw(column)) for column in columns]
    if columns.dtype.kind == "i":
        integers = numeric.encode_integers(columns, lowest, highest, hints.orders, level=level)
        return [(Encoding.PCODEC, data) for data in integers]
    decimals = numeric.encode_decimals(columns, lowest, highest, hints, level=level)
    rest = [at for at, data in enumerate(decimals) if data is None]
    if not rest:
        return [(Encoding.DECIMAL, data) for data in decimals if data is not None]
    orders = hints.orders[rest]
    floats = iter(numeric.encode_floats(columns[rest], orders, level=level))
    hints.orders[rest] = orders
    return [
        (Encoding.DECIMAL, data) if data is not None else (Encoding.PCODEC, next(floats))
        for data in decimals
    ]


def decode_values(
    kind: DataType, encoding: int, data: bytes | memoryview, count: int
) -> npt.NDArray[Any]:
    """Decode `count` values that one of the above encoded (times as INT64).

    Raises:
        ValueError: the bytes are not what `count`, `kind` and `encoding` say.
    """
    dtype = BATCH_DTYPES[kind]
    data = bytes(data)
    if encoding == Encoding.RAW:
        values = numeric.decode_raw(data, dtype)
    elif encoding == Encoding.PCODEC:
        values = numeric.decode(data, dtype)
    elif encoding == Encoding.DECIMAL:
        values = numeric.decode_decimals(data, dtype)
    elif encoding == Encoding.GRID:
        values = numeric.decode_times(data)
    elif encoding == Encoding.BITS:
        values = boolean.decode(data, count)
    elif encoding == Encoding.TEXT:
        values = text.decode(data, count)
    elif encoding == Encoding.TEXT_DICTIONARY:
        values = text.decode_dictionary(data, count)
    else:
        raise ValueError(f"encoding {encoding} is unknown")
    if len(values) != count or values.dtype != dtype:
        raise ValueError(
            f"{count} values of {dtype} expected, {len(values)} of {values.dtype} found"
        )
    return values


def decode_into(
    kind: DataType, encoding: int, data: bytes | memoryview, out: npt.NDArray[Any]
) -> None:
    """Decode numbers, or booleans, into an array: no value is copied that need not be.

    Args:
        kind: no TEXT.
        encoding: as `decode_values` takes it.
        data: of as many values as fit `out`.
        out: BATCH_DTYPES[kind] [n], contiguous.

    Raises:
        ValueError: the bytes are not what `kind`, `encoding` and the length of `out` say; `out` may
            hold anything then.
    """
    if encoding == Encoding.DECIMAL and kind == DataType.DOUBLE:
        numeric.decode_decimals_into(data, out)
    elif encoding == Encoding.GRID and kind == DataType.INT64:
        numeric.decode_times_into(data, out)
    elif encoding == Encoding.PCODEC and numeric.decode_into(data, out):
        return
    else:
        out[:] = decode_values(kind, encoding, data, len(out))


def decode_pages_into(
    kind: DataType,
    pages: Sequence[EncodedPage | tuple[int, bytes | memoryview, int]],
    out: npt.NDArray[Any],
) -> None:
    """Decode pages of numbers, or booleans, one after another into an array, with few calls.

    Args:
        kind: no TEXT.
        pages: of as many values together as `out` has; EncodedPages, or plain tuples.
        out: BATCH_DTYPES[kind] [n], contiguous.

    Raises:
        ValueError: see `decode_into`.
    """
    if sum([rows for _, _, rows in pages]) != len(out):
        raise ValueError(f"pages of other than {len(out)} values")
    floats = BATCH_DTYPES[kind].kind == "f"
    run: runs.Run | None = None
    start = at = 0  # of what the run holds, and of the page at hand
    for encoding, data, rows in pages:
        front = _front(encoding, data) if encoding != _DECIMAL or floats else None
        alone = front is None or front.head.rows != rows
        if run is not None and (front is None or alone or not run.takes(front)):
            run.decode(out[start:at])
            run = None
        if front is None:
            decode_into(kind, encoding, data, out[at : at + rows])
        elif alone:
            runs.decode_file(front, bytes(data[front.file_at :]), out[at : at + rows])
        else:
            if run is None:
                run, start = runs.Run(front), at
            run.add(front, memoryview(data)[len(front.data) : -1])
        at += rows
    if run is not None:
        run.decode(out[start:at])


def join_pages(pages: Sequence[EncodedPage]) -> tuple[JoinedPage, ...]:
    """Return pages of a column one after another, those that are alike joined; copies them.

    `decode_pages_into` takes what comes out, and what is cut from it.
    """
    found: list[JoinedPage] = []
    last: runs.Front | None = None
    chunks: list[memoryview] = []
    rows: list[int] = []
    for encoding, data, count in pages:
        front = _front(encoding, data)
        if front is not None and front.head.rows != count:
            front = None
        if last is not None and (front is None or not last.is_like(front)):
            found.append(runs.joined(last, chunks, rows))
            last, chunks, rows = None, [], []
        if front is None:
            found.append(JoinedPage(encoding, bytes(data), (count,), (len(data),), 0))
        else:
            last = last or front
            chunks.append(memoryview(data)[len(front.data) : -1])
            rows.append(count)
    if last is not None:
        found.append(runs.joined(last, chunks, rows))
    return tuple(found)


def _front(encoding: int, data: bytes | memoryview) -> runs.Front | None:
    """Return how a page's pcodec file begins; None where it has none known here."""
    if encoding == _DECIMAL:
        exponent_bytes = 1
    elif encoding == _PCODEC:
        exponent_bytes = 0
    else:
        return None
    front = runs.front_of(encoding, exponent_bytes, bytes(data[: runs.HEAD_BYTES + exponent_bytes]))
    return front if front is not None and data[-1] == 0 else None


__all__ = [
    "Encoded",
    "EncodedPage",
    "Encoding",
    "Hints",
    "JoinedPage",
    "decode_into",
    "decode_pages_into",
    "decode_values",
    "encode_booleans",
    "encode_numbers",
    "encode_texts",
    "encode_times",
    "join_pages",
]
