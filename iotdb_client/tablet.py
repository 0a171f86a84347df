"""The byte form of a tablet: times, columns, null bitmaps (client-protocol 5.2, 5.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from iotdb_client.columns import pack_binaries, pack_texts
from iotdb_client.errors import DataError
from iotdb_client.types import DataType

_DTYPES: dict[DataType, np.dtype[Any]] = {
    DataType.INT32: np.dtype(">i4"),
    DataType.INT64: np.dtype(">i8"),
    DataType.FLOAT: np.dtype(">f4"),
    DataType.DOUBLE: np.dtype(">f8"),
}
_RANGES = {DataType.INT32: (-(2**31), 2**31 - 1), DataType.INT64: (-(2**63), 2**63 - 1)}
_LARGEST = {DataType.FLOAT: "3.4028235e+38", DataType.DOUBLE: "1.7976931348623157e+308"}
_MOST_SHOWN = 50
_OBJECT = np.dtype(object)


class OutOfRange(DataError):
    """A number is too large for FLOAT or DOUBLE, even rounded: it would become infinite.

    Attributes:
        row: which it is in its column, from 0.
    """

    row = 0


@contextmanager
def series_of(device: str) -> Iterator[None]:
    """Have errors that name a measurement name the series, by its full path."""
    try:
        yield
    except DataError as error:
        error.message = f"{device}.{error.message}"
        error.args = (error.message,)
        raise


def check_types(measurements: Sequence[str], types: Sequence[object]) -> None:
    """Raise DataError where something else than a DataType stands for a type, e.g. its name."""
    for name, kind in zip(measurements, types, strict=True):
        if not isinstance(kind, DataType):
            known = ", ".join(f"DataType.{member.name}" for member in DataType)
            raise DataError(f"{name}: {kind!r} is no DataType; there are {known}")


def encode_times(times: Sequence[int] | npt.NDArray[np.int64]) -> bytes:
    """Return timestamps as big-endian 64-bit integers.

    Raises:
        DataError: not a whole number of 64 bits.
    """
    return _whole("time", DataType.INT64, times)


def encode_columns(
    measurements: Sequence[str],
    types: Sequence[DataType],
    columns: Sequence[Sequence[Any]],
    rows: int,
    masks: Sequence[npt.NDArray[np.bool_] | None] | None = None,
) -> bytes:
    """Return columns one after another, and the null section if there is a null.

    Args:
        measurements: names, for error messages.
        types: of the measurements.
        columns: one for each measurement; None is null. Sequences or NumPy arrays.
        rows: of each column.
        masks: for each column None, or bool[rows] that says where there is a null whatever the
            column has there (a value of its type). Without it, columns are searched for None;
            masked arrays, and columns of pandas' own types, Arrow and polars tell theirs.

    Raises:
        DataError: naming the measurement whose values don't fit; OutOfRange where a finite number
            would become infinite.
    """
    parts: list[bytes] = []
    bitmaps: list[npt.NDArray[np.bool_] | None] = []
    for number, (name, kind, column) in enumerate(zip(measurements, types, columns, strict=True)):
        if len(column) != rows:
            raise DataError(f"{name}: {len(column)} values for {rows} times")
        dimensions = getattr(column, "ndim", 1)
        if dimensions != 1:
            raise DataError(f"{name}: a column has one dimension, not {dimensions}")
        if masks is not None:
            nulls = masks[number]
        else:
            column = _with_none(column)
            nulls = _nulls(column)
            if nulls is not None:
                blank: Any = "" if kind is DataType.TEXT else 0
                column = [blank if cell is None else cell for cell in column]
        parts.append(_encode(name, kind, column, nulls))
        bitmaps.append(nulls)
    if any(nulls is not None for nulls in bitmaps):
        parts.extend(_null_section(nulls, rows) for nulls in bitmaps)
    return b"".join(parts)


def check_columns(
    measurements: Sequence[str],
    types: Sequence[DataType],
    columns: Sequence[Sequence[Any]],
    masks: Sequence[npt.NDArray[np.bool_] | None],
) -> None:
    """Raise what `encode_columns` would raise of numbers; costs nothing where types are the same.

    So that what is sent in pieces is known to fit before the first is sent.
    """
    for name, kind, column, nulls in zip(measurements, types, columns, masks, strict=True):
        dtype = _DTYPES.get(kind)
        if dtype is not None and getattr(column, "dtype", None) != dtype.newbyteorder("="):
            _encode(name, kind, column, nulls)


def _with_none(column: Any) -> Sequence[Any]:  # noqa: ANN401
    """Return a column in which nulls are None, whatever the library it is of has for them."""
    if isinstance(column, np.ma.MaskedArray):
        # where nothing is masked it stays an array, which is encoded faster
        found = column.tolist() if np.ma.is_masked(column) else column.data
        return cast("Sequence[Any]", found)
    to_list = getattr(column, "to_pylist", None)  # of Arrow
    if to_list is None and not isinstance(getattr(column, "dtype", _OBJECT), np.dtype):
        is_null = getattr(column, "isna", None)
        if is_null is not None:  # a type of pandas' own
            return [None if null else cell for cell, null in zip(column, is_null(), strict=True)]
        to_list = getattr(column, "to_list", None)  # of polars
    return cast("Sequence[Any]", column if to_list is None else to_list())


def _nulls(column: Sequence[Any]) -> npt.NDArray[np.bool_] | None:
    dtype: np.dtype[Any] | None = getattr(column, "dtype", None)
    if dtype is not None and dtype.kind != "O":
        return None  # a NumPy array of a type that has no None
    found = np.fromiter((cell is None for cell in column), np.bool_, count=len(column))
    return found if found.any() else None


def _null_section(nulls: npt.NDArray[np.bool_] | None, rows: int) -> bytes:
    if nulls is None:
        return b"\x00"
    packed = np.packbits(nulls, bitorder="little").tobytes()
    return b"\x01" + packed.ljust(rows // 8 + 1, b"\x00")


def _encode(
    name: str, kind: DataType, column: Sequence[Any], nulls: npt.NDArray[np.bool_] | None
) -> bytes:
    if kind is DataType.TEXT:
        return _texts(name, column)
    if kind is DataType.BOOLEAN:
        if getattr(column, "dtype", None) == np.bool_:
            return np.asarray(column).tobytes()
        if not all(isinstance(cell, (bool, np.bool_)) or cell in (0, 1) for cell in column):
            raise DataError(f"{name}: a BOOLEAN is True or False")
        return bytes(bytearray(map(bool, column)))
    if kind in _RANGES:
        return _whole(name, kind, column)
    return _floats(name, kind, column, nulls)


def _floats(
    name: str, kind: DataType, column: Sequence[Any], nulls: npt.NDArray[np.bool_] | None
) -> bytes:
    """Return numbers of 32 or 64 bits: rounded where they must be, but never made infinite."""
    dtype = getattr(column, "dtype", _OBJECT)
    if dtype.kind in "cmM":  # NumPy would leave a part of them out
        raise DataError(f"{name}: {dtype} is no {kind.name}")
    try:
        with np.errstate(over="ignore"):  # what comes of it is looked at below
            array = np.asarray(column, np.float64).astype(_DTYPES[kind])
    except OverflowError:  # a whole number
        _check_finite(name, kind, np.asarray(column, object))
        raise
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: not a {kind.name}: {error}") from error
    infinite = np.isinf(array)
    if infinite.any():
        if nulls is not None:
            infinite &= ~nulls
        cells = np.asarray(column)
        if cells.dtype.kind == "f":
            infinite &= ~np.isinf(cells)
        rows = np.flatnonzero(infinite)
        _check_finite(name, kind, np.asarray(column, object)[rows], rows)
    return array.tobytes()


def _check_finite(
    name: str, kind: DataType, cells: Iterable[Any], rows: npt.NDArray[np.intp] | None = None
) -> None:
    """Raise OutOfRange for the first cell that is too large and does not say that it is infinite.

    Args:
        name: of the measurement.
        kind: FLOAT or DOUBLE.
        cells: some of the column.
        rows: where they are in it; then they are known to be too large, or infinite.
    """
    for number, cell in enumerate(cells):
        if rows is None:
            try:
                float(cell)
            except OverflowError:
                pass
            else:
                continue
        elif is_infinite(cell):
            continue
        error = OutOfRange(f"{name}: {outside(cell, kind)}")
        error.row = number if rows is None else int(rows[number])
        raise error


def is_infinite(cell: Any) -> bool:  # noqa: ANN401
    """Whether a number, or the text of one, is infinite in so many words: 1e999 is not."""
    if isinstance(cell, (str, bytes)):  # NumPy reads the numbers in them
        text = cell if isinstance(cell, str) else cell.decode("latin-1")
        return text.strip().lstrip("+-").lower() in ("inf", "infinity")
    return bool(cell == math.inf or cell == -math.inf)


def outside(cell: Any, kind: DataType) -> str:  # noqa: ANN401
    """Say that a number is too large for FLOAT or DOUBLE."""
    largest = _LARGEST[kind]
    return f"{_shown(cell)} is outside -{largest} to {largest}, the range of {kind.name}"


def _shown(cell: Any) -> str:  # noqa: ANN401
    try:
        text = str(cell)
    except ValueError:  # Python writes no whole numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= _MOST_SHOWN else f"{text[:20]}… ({len(text)} characters)"


def _whole(name: str, kind: DataType, column: Sequence[Any] | npt.NDArray[Any]) -> bytes:
    array = np.asarray(column)
    if not len(array):
        return b""
    if array.dtype.kind not in "iu":
        raise DataError(f"{name}: every {kind.name} is a whole number of 64 bits at most")
    low, high = _RANGES[kind]
    if int(array.min()) < low or int(array.max()) > high:
        raise DataError(f"{name}: a value is outside {low} to {high}, the range of {kind.name}")
    return array.astype(_DTYPES[kind]).tobytes()


def _texts(name: str, column: Sequence[Any]) -> bytes:
    kinds = set(map(type, column))
    wrong = [kind.__name__ for kind in kinds if not issubclass(kind, (str, bytes))]
    if wrong:
        raise DataError(f"{name}: a TEXT is a str or bytes, not {', '.join(sorted(wrong))}")
    try:
        if not any(issubclass(kind, bytes) for kind in kinds):
            return pack_texts(column)
        return pack_binaries(
            [cell.encode() if isinstance(cell, str) else bytes(cell) for cell in column]
        )
    except UnicodeEncodeError as error:
        raise DataError(f"{name}: {error}") from error
