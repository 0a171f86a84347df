"""The byte form of a tablet: times, columns, null bitmaps (client-protocol 5.2, 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
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
            column has there (a value of its type). Without it, columns are searched for None, and
            masked arrays tell theirs.

    Raises:
        DataError: naming the measurement whose values don't fit.
    """
    parts: list[bytes] = []
    bitmaps: list[npt.NDArray[np.bool_] | None] = []
    for number, (name, kind, column) in enumerate(zip(measurements, types, columns, strict=True)):
        if len(column) != rows:
            raise DataError(f"{name}: {len(column)} values for {rows} times")
        if masks is not None:
            nulls = masks[number]
        else:
            column = _unmasked(column)
            nulls = _nulls(column)
            if nulls is not None:
                blank: Any = "" if kind is DataType.TEXT else 0
                column = [blank if cell is None else cell for cell in column]
        parts.append(_encode(name, kind, column))
        bitmaps.append(nulls)
    if any(nulls is not None for nulls in bitmaps):
        parts.extend(_null_section(nulls, rows) for nulls in bitmaps)
    return b"".join(parts)


def _unmasked(column: Any) -> Sequence[Any]:  # noqa: ANN401
    """Return a masked array as what has None for its masked cells; anything else as it is."""
    if not isinstance(column, np.ma.MaskedArray):
        return cast("Sequence[Any]", column)
    # where nothing is masked it stays an array, which is encoded faster
    found = column.tolist() if np.ma.is_masked(column) else column.data
    return cast("Sequence[Any]", found)


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


def _encode(name: str, kind: DataType, column: Sequence[Any]) -> bytes:
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
    try:
        with np.errstate(over="ignore"):  # beyond FLOAT's range is infinity, as in IEEE 754
            return _big_endian(np.asarray(column, np.float64), kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name}: not a {kind.name}: {error}") from error


def _big_endian(array: npt.NDArray[Any], kind: DataType) -> bytes:
    dtype: np.dtype[Any] = _DTYPES[kind]
    return array.astype(dtype).tobytes()


def _whole(name: str, kind: DataType, column: Sequence[Any] | npt.NDArray[Any]) -> bytes:
    array = np.asarray(column)
    if not len(array):
        return b""
    if array.dtype.kind not in "iu":
        raise DataError(f"{name}: every {kind.name} is a whole number of 64 bits at most")
    low, high = _RANGES[kind]
    if int(array.min()) < low or int(array.max()) > high:
        raise DataError(f"{name}: a value is outside {low} to {high}, the range of {kind.name}")
    return _big_endian(array, kind)


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
