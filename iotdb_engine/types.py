"""Values that cross the engine's border: types, layouts, fragments, batches, aggregates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

T_MIN = -(1 << 63)
T_MAX = (1 << 63) - 1
SERIES_ID_MAX = (1 << 64) - 1
SLOT_MAX = 0xFFFF


class DataType(IntEnum):
    """Value types, by their numbers on the family's wire (0.13 `TSDataType`): frozen."""

    BOOLEAN = 0
    INT32 = 1
    INT64 = 2
    FLOAT = 3
    DOUBLE = 4
    TEXT = 5


WIRE_DTYPES: dict[DataType, np.dtype[Any]] = {
    DataType.BOOLEAN: np.dtype("u1"),
    DataType.INT32: np.dtype(">i4"),
    DataType.INT64: np.dtype(">i8"),
    DataType.FLOAT: np.dtype(">f4"),
    DataType.DOUBLE: np.dtype(">f8"),
}
"""How a fixed-width value lies in a fragment; TEXT is i32 byte length + bytes instead."""

BATCH_DTYPES: dict[DataType, np.dtype[Any]] = {
    DataType.BOOLEAN: np.dtype(np.bool_),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.FLOAT: np.dtype(np.float32),
    DataType.DOUBLE: np.dtype(np.float64),
    DataType.TEXT: np.dtype(object),
}
"""How values lie in a ColumnBatch; TEXT is an object array of `bytes`."""


class Layout(NamedTuple):
    """The columns of a fragment. Hashable; callers keep and share instances.

    Attributes:
        series_ids: unique within a layout, each in [0, 2**64).
        types: parallel to `series_ids`.
    """

    series_ids: tuple[int, ...]
    types: tuple[DataType, ...]


class Fragment(NamedTuple):
    """Rows of one layout as bytes, exactly as a client's tablet carries them (big-endian).

    Attributes:
        slot: in [0, 65535]; where the data belongs.
        layout: the columns.
        row_count: at least 1.
        times: row_count x i64 big-endian, in any order, duplicates allowed (the later row wins).
        values: the columns one after another, each row_count values back to back: BOOLEAN one byte,
            INT32/FLOAT four, INT64/DOUBLE eight, TEXT i32 byte length + bytes. A null cell holds
            a placeholder of its type (zero, or an empty text).
        nulls: b"" when no cell is null; else one bitmap of ceil(row_count / 8) bytes for each
            column, one after another; bit r % 8 (least significant first) of byte r // 8 set
            means that row r is null.

    `times` and `values` may be views of a larger buffer, which the engine then keeps alive until
    the rows are flushed.

    The bytes are checked by the caller with `check_fragment`; the engine trusts them afterwards.
    """

    slot: int
    layout: Layout
    row_count: int
    times: bytes | memoryview
    values: bytes | memoryview
    nulls: bytes = b""


@dataclass(frozen=True)
class Column:
    """One column of a batch.

    Attributes:
        values: array of BATCH_DTYPES[type], length n; undefined where not valid.
        valid: bool[n], or None when every row has a value.
    """

    type: DataType
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class ColumnBatch:
    """Rows in time order: `times` int64[n], strictly ascending (or descending), and columns.

    A row has at least one valid value. Owned by the receiver, who must not write into it.
    """

    times: npt.NDArray[np.int64]
    columns: tuple[Column, ...]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.times)

    @property
    def last_time(self) -> int:
        """The last row's; of no empty batch."""
        return int(self.times[-1])


@dataclass(slots=True)
class Aggregate:
    """Partial aggregate of one series over a time range; mergeable.

    `first`/`last`/`minimum`/`maximum` are Python values of the series' type (bytes for TEXT), None
    when count is 0; minimum, maximum and total are None for BOOLEAN and TEXT. `total` is a float.
    NaN values count, make `total` NaN, and never become minimum or maximum unless all are NaN.
    """

    count: int = 0
    min_time: int = T_MAX
    max_time: int = T_MIN
    first: Any = None
    last: Any = None
    minimum: Any = None
    maximum: Any = None
    total: float | None = None
