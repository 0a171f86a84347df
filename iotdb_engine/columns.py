"""Columns as people have them (lists, NumPy arrays) to the bytes of fragments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iotdb_engine.errors import WrongType
from iotdb_engine.types import BATCH_DTYPES, WIRE_DTYPES, DataType, Fragment, Layout

ColumnLike = npt.ArrayLike | Sequence[bool | int | float | str | bytes | None]
"""What a column may be given as."""

_BOUNDS = {DataType.INT32: (-(1 << 31), (1 << 31) - 1), DataType.INT64: (-(1 << 63), (1 << 63) - 1)}


def times_array(times: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return times as int64[n]; datetime64 becomes milliseconds since 1970.

    Raises:
        ValueError: they are not whole numbers in one dimension, or there are none.
    """
    array = np.asarray(times)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"times must be a list of at least one number, not of shape {array.shape}")
    if array.dtype.kind == "M":
        return array.astype("datetime64[ms]").astype(np.int64)
    if array.dtype.kind not in "iu":
        raise ValueError(f"times must be whole numbers or datetime64, not {array.dtype}")
    if array.dtype == np.uint64 and (array > np.uint64((1 << 63) - 1)).any():
        raise ValueError("a time is above 2**63 - 1")
    return array.astype(np.int64)


class Values:
    """A column's values, without what is null.

    Attributes:
        array: bool, integer or float array, or an object array of bytes; [n], anything where null.
        null: bool[n], or None when nothing is null.
        types: DataTypes that it may become, the best first; empty: everything is null.
    """

    def __init__(self, name: str, values: ColumnLike, rows: int) -> None:
        """Look at a column.

        Raises:
            ValueError: it has another length, or values of no type that there is.
        """
        array = np.asarray(values)
        if array.dtype.kind in "SU" and not hasattr(values, "dtype"):
            # NumPy would make texts of numbers among them, and cut zero bytes off.
            array = np.empty(len(array), object)
            array[:] = values
        if array.shape != (rows,):
            raise ValueError(f"column {name!r} has shape {array.shape}, and there are {rows} times")
        self.name = name
        self.null: npt.NDArray[np.bool_] | None = None
        if array.dtype.kind == "O":
            array = self._without_none(array)
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            self.null = np.ma.getmaskarray(values)
        if array.dtype.kind in "SU":
            array = array.astype(object)
        self.array = array
        self.types = self._types_of(array, is_list=not hasattr(values, "dtype"))

    def _without_none(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        items: list[Any] = array.tolist()
        null = np.array([item is None for item in items])
        if null.any():
            self.null = null
        present = [item for item in items if item is not None]
        if not present or isinstance(present[0], (str, bytes)):
            return array
        made = np.asarray(present)
        if made.ndim != 1 or made.dtype.kind not in "biuf":
            raise ValueError(f"column {self.name!r} has values that are no numbers and no texts")
        whole = np.zeros(len(items), made.dtype)
        whole[~null] = made
        return whole

    def _types_of(self, array: npt.NDArray[Any], *, is_list: bool) -> tuple[DataType, ...]:
        kind, size = array.dtype.kind, array.dtype.itemsize
        numbers = (DataType.INT64, DataType.INT32, DataType.DOUBLE, DataType.FLOAT)
        if kind == "O":
            present = [item for item in array.tolist() if item is not None]
            if not all(isinstance(item, (str, bytes)) for item in present):
                raise ValueError(f"column {self.name!r} mixes texts and other values")
            return (DataType.TEXT,) if present else ()
        if kind == "b":
            return (DataType.BOOLEAN,)
        if kind in "iu":
            narrow = not is_list and (size < 4 or array.dtype == np.int32)
            return (DataType.INT32, *numbers) if narrow else numbers
        if kind == "f":
            first = DataType.FLOAT if size <= 4 else DataType.DOUBLE
            return (first, DataType.DOUBLE, DataType.FLOAT)
        raise ValueError(f"column {self.name!r} is of {array.dtype}, which is no type of a series")

    def encode(self, kind: DataType) -> bytes:
        """Return the values as they lie in a fragment.

        Raises:
            WrongType: the series is of a type that these values can't become.
            ValueError: a value is out of the type's range.
        """
        if self.types and kind not in self.types:
            raise WrongType(
                f"series {self.name!r} is of type {kind.name}, and was given "
                f"{self.types[0].name} values"
            )
        if kind is DataType.TEXT:
            return b"".join(map(_text, self.array.tolist()))
        array = self.array if self.types else np.zeros(len(self.array))
        bounds = _BOUNDS.get(kind)
        if bounds is not None and array.dtype.kind in "iu" and len(array):
            present = array if self.null is None else array[~self.null]
            if (
                len(present)
                and not bounds[0] <= int(present.min()) <= int(present.max()) <= bounds[1]
            ):
                raise ValueError(f"column {self.name!r} has values out of the range of {kind.name}")
        with np.errstate(over="ignore"):  # what comes of it is looked at
            made = array.astype(WIRE_DTYPES[kind])
        if made.dtype.kind == "f":
            self._check_finite(made, kind)
        return made.tobytes()

    def _check_finite(self, made: npt.NDArray[Any], kind: DataType) -> None:
        """Raise ValueError where a number was too large and became infinite."""
        infinite = np.isinf(made)
        if not infinite.any():
            return
        infinite &= np.isfinite(self.array)
        if self.null is not None:
            infinite &= ~self.null
        if infinite.any():
            largest = np.finfo(BATCH_DTYPES[kind]).max
            raise ValueError(
                f"column {self.name!r} has {self.array[infinite][0]}, which is outside "
                f"-{largest} to {largest}, the range of {kind.name}"
            )


def _text(value: str | bytes | None) -> bytes:
    data = value.encode() if isinstance(value, str) else value or b""
    return len(data).to_bytes(4, "big") + data


def make_fragment(
    times: npt.NDArray[np.int64],
    layout: Layout,
    columns: Sequence[Values],
    bodies: Sequence[bytes],
) -> Fragment:
    """Return rows as the engine takes them; `bodies` are the columns, encoded."""
    rows = len(times)
    nulls = b""
    if any(column.null is not None for column in columns):
        none = bytes((rows + 7) >> 3)
        nulls = b"".join(
            none if column.null is None else np.packbits(column.null, bitorder="little").tobytes()
            for column in columns
        )
    return Fragment(0, layout, rows, times.astype(">i8").tobytes(), b"".join(bodies), nulls)


def look_at(columns: Mapping[str, ColumnLike], rows: int) -> list[Values]:
    """Return every column, looked at.

    Raises:
        ValueError: naming the column and what is wrong with it.
    """
    if not columns:
        raise ValueError("there is no column to write")
    return [Values(name, values, rows) for name, values in columns.items()]
