"""Results as pandas, Arrow and polars tables, and such tables as tablets; column by column.

pandas, pyarrow and polars are extras: they are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_client.columns import DTYPES, ColumnPart, PageColumns, decode_texts
from iotdb_client.errors import DataError, NotSupportedError
from iotdb_client.rows import ResultShape
from iotdb_client.types import DataType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


def need(name: str, extra: str) -> Any:  # noqa: ANN401 - a module
    """Import an optional library.

    Raises:
        NotSupportedError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotSupportedError(
            f"{name} is not installed: pip install 'iotdb-py-cluster[{extra}]'"
        ) from error


# ---- results ----


class _Whole(NamedTuple):
    """A column of all pages: values of every row (anything where null), and where they are null."""

    kind: str
    values: npt.NDArray[Any] | list[Any]
    nulls: npt.NDArray[np.bool_] | None


def _whole(kind: str, parts: Sequence[ColumnPart], sizes: Sequence[int]) -> _Whole:
    rows = sum(sizes)
    nulls = None
    if any(part.present is not None for part in parts):
        nulls = np.concatenate(
            [
                np.zeros(size, np.bool_) if part.present is None else ~part.present
                for part, size in zip(parts, sizes, strict=True)
            ]
        )
    dtype = DTYPES.get(kind)
    if dtype is None:
        found: list[Any] = [value for part in parts for value in part.values]
        if kind != "BLOB":
            found = decode_texts(found)
        if nulls is not None:
            cells = np.full(rows, None, dtype=object)
            cells[~nulls] = np.fromiter(found, dtype=object, count=len(found))
            found = cells.tolist()
        return _Whole(kind, found, nulls)
    values = np.zeros(rows, dtype.newbyteorder("="))
    at = 0
    for part, size in zip(parts, sizes, strict=True):
        if part.present is None:
            values[at : at + size] = part.values
        else:
            values[at : at + size][part.present] = part.values
        at += size
    return _Whole(kind, values, nulls)


class Table(NamedTuple):
    """A whole result in memory, by columns.

    Attributes:
        names: of the columns, Time first where there is one.
        times: int64[rows] in the server's precision unit; None where there is no Time.
        columns: the others, in the order of `names`; one that is named twice is one object.
        precision: "ms", "us" or "ns".
    """

    names: list[str]
    times: npt.NDArray[np.int64] | None
    columns: list[_Whole]
    precision: str

    def pandas(self, times: str) -> pd.DataFrame:
        """Return a DataFrame; see `Cursor.to_pandas`."""
        pandas = need("pandas", "pandas")
        made: dict[int, Any] = {}
        series: list[Any] = []
        if self.times is not None:
            series.append(self.times if times == "int" else self._moments())
        for column in self.columns:
            if id(column) not in made:
                made[id(column)] = _pandas_column(pandas, column)
            series.append(made[id(column)])
        frame = pandas.DataFrame(dict(enumerate(series)), copy=False)
        frame.columns = self.names
        return frame

    def arrow(self, times: str) -> pa.Table:
        """Return an Arrow table; see `Cursor.to_arrow`."""
        arrow = need("pyarrow", "arrow")
        arrays: list[Any] = []
        if self.times is not None:
            kind = arrow.int64() if times == "int" else arrow.timestamp(self.precision, "UTC")
            arrays.append(arrow.array(self.times).cast(kind))
        arrays.extend(_arrow_column(arrow, column) for column in self.columns)
        return arrow.Table.from_arrays(arrays, names=self.names)

    def _moments(self) -> Any:  # noqa: ANN401 - a pandas array
        pandas = need("pandas", "pandas")
        moments = np.asarray(self.times).view(f"datetime64[{self.precision}]")
        return pandas.DatetimeIndex(moments, tz="UTC").array


def table_of(pages: Sequence[PageColumns], shape: ResultShape, precision: str) -> Table:
    """Join the pages of a result."""
    sizes = [len(page.times) for page in pages]
    distinct = [
        _whole(kind, [page.parts[number] for page in pages], sizes)
        for number, kind in enumerate(shape.types)
    ]
    times = None
    if shape.has_time:
        times = np.zeros(sum(sizes), np.int64)
        at = 0
        for page in pages:
            times[at : at + len(page.times)] = page.times
            at += len(page.times)
    return Table(
        [column.name for column in shape.description],
        times,
        [distinct[number] for number in shape.source],
        precision,
    )


def _pandas_column(pandas: Any, column: _Whole) -> Any:  # noqa: ANN401
    if isinstance(column.values, list):
        return pandas.Series(column.values, dtype=None if column.values else "object")
    if column.nulls is None:
        return column.values
    if column.kind in ("FLOAT", "DOUBLE"):
        column.values[column.nulls] = np.nan
        return column.values
    name = "BooleanArray" if column.kind == "BOOLEAN" else "IntegerArray"
    return getattr(pandas.arrays, name)(column.values, column.nulls)


def _arrow_column(arrow: Any, column: _Whole) -> Any:  # noqa: ANN401
    if isinstance(column.values, list):
        return arrow.array(
            column.values, arrow.binary() if column.kind == "BLOB" else arrow.string()
        )
    return arrow.array(column.values, mask=column.nulls)


def to_polars(table: Table, times: str) -> pl.DataFrame:
    """Return a polars DataFrame; see `Cursor.to_polars`."""
    polars = need("polars", "polars")
    return polars.from_arrow(table.arrow(times))


# ---- tablets ----


class TabletColumns(NamedTuple):
    """Columns of one device, ready to be sent in slices.

    Attributes:
        times: int64[rows] in the server's precision unit.
        measurements: names.
        types: of the measurements.
        columns: arrays or lists of `rows` values; any value of the type where null.
        masks: for each column bool[rows], True where null, or None.
    """

    times: npt.NDArray[np.int64]
    measurements: list[str]
    types: list[DataType]
    columns: list[Any]
    masks: list[npt.NDArray[np.bool_] | None]


def of_pandas(frame: pd.DataFrame, time_column: str | None, precision: str) -> TabletColumns:
    """Take a DataFrame apart; see `Connection.insert_dataframe`."""
    pandas = need("pandas", "pandas")
    if not frame.columns.is_unique:
        raise DataError("a column name stands twice in the DataFrame")
    time = None
    if time_column is not None:
        if time_column not in frame.columns:
            raise DataError(f"the DataFrame has no column {time_column!r}")
        time = frame[time_column]
    elif "Time" in frame.columns:
        time_column, time = "Time", frame["Time"]
    times = _times(pandas.Series(frame.index) if time is None else time, precision)
    names, types, columns, masks = [], [], [], []
    for name in frame.columns:
        if name == time_column:
            continue
        data_type, values, mask = _of_series(pandas, str(name), frame[name], precision)
        names.append(str(name))
        types.append(data_type)
        columns.append(values)
        masks.append(mask)
    return TabletColumns(times, names, types, columns, masks)


def _times(series: Any, precision: str) -> npt.NDArray[np.int64]:  # noqa: ANN401
    if series.isna().any():
        raise DataError("a time is missing")
    kind = series.dtype.kind
    if kind == "M":
        if getattr(series.dtype, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        return np.asarray(series, dtype=f"datetime64[{precision}]").view(np.int64)
    if kind not in "iu":
        raise DataError(
            f"times are datetimes or whole numbers, not {series.dtype}: name the time column, or "
            "make it the index"
        )
    return series.to_numpy(dtype=np.int64)  # type: ignore[no-any-return]


def _of_series(pandas: Any, name: str, series: Any, precision: str) -> tuple[DataType, Any, Any]:  # noqa: ANN401
    nulls = series.isna().to_numpy()
    mask = nulls if nulls.any() else None
    dtype = series.dtype
    if dtype.kind == "M":
        filled = series if mask is None else series.ffill().bfill()
        if mask is not None and mask.all():
            return DataType.INT64, np.zeros(len(series), np.int64), mask
        return DataType.INT64, _times(filled, precision), mask
    if dtype.kind in "biuf":
        data_type = _numeric_type(name, dtype)
        target = np.bool_ if data_type is DataType.BOOLEAN else f"{dtype.kind}{dtype.itemsize}"
        if mask is None:
            return data_type, series.to_numpy(dtype=target), None
        return data_type, series.to_numpy(dtype=target, na_value=_blank(data_type)), mask
    cells = series.to_numpy(dtype=object)
    return _of_objects(name, cells, mask)


def _numeric_type(name: str, dtype: Any) -> DataType:  # noqa: ANN401
    """Return the narrowest type that holds every value of a NumPy-like dtype."""
    kind, size = dtype.kind, dtype.itemsize
    if kind == "b":
        return DataType.BOOLEAN
    if kind == "f":
        return DataType.FLOAT if size <= 4 else DataType.DOUBLE
    if kind == "u" and size == 8:
        raise DataError(f"{name}: {dtype} has no type here; convert it to int64 or float64")
    return DataType.INT32 if size < 4 or (kind == "i" and size == 4) else DataType.INT64


def _blank(data_type: DataType) -> Any:  # noqa: ANN401
    return {DataType.BOOLEAN: False, DataType.TEXT: ""}.get(data_type, 0)


_BY_CLASS: dict[type, DataType] = {
    bool: DataType.BOOLEAN,
    int: DataType.INT64,
    float: DataType.DOUBLE,
    str: DataType.TEXT,
    bytes: DataType.TEXT,
}


def _of_objects(name: str, cells: Any, mask: Any) -> tuple[DataType, Any, Any]:  # noqa: ANN401
    kinds = set(map(type, cells if mask is None else cells[~mask]))
    found = {_BY_CLASS.get(kind) for kind in kinds}
    if None in found or len(found) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"{name}: values of type {names} are no column of one type")
    data_type = found.pop() if found else DataType.TEXT
    assert data_type is not None
    if mask is not None:
        cells = cells.copy()
        cells[mask] = _blank(data_type)
    return data_type, cells.tolist(), mask


def of_arrow(table: pa.Table, time_column: str, precision: str) -> TabletColumns:
    """Take an Arrow table apart; see `Connection.insert_arrow`."""
    arrow = need("pyarrow", "arrow")
    compute = need("pyarrow.compute", "arrow")
    if len(set(table.column_names)) != len(table.column_names):
        raise DataError("a column name stands twice in the table")
    if time_column not in table.column_names:
        raise DataError(f"the table has no column {time_column!r}")
    names, types, columns, masks = [], [], [], []
    times = np.zeros(0, np.int64)
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if arrow.types.is_timestamp(column.type):
            column = column.cast(arrow.timestamp(precision, column.type.tz), safe=False)
            column = column.cast(arrow.int64())
        if name == time_column:
            if column.null_count:
                raise DataError("a time is missing")
            if not arrow.types.is_integer(column.type):
                raise DataError(f"times are timestamps or whole numbers, not {column.type}")
            times = column.cast(arrow.int64()).to_numpy(zero_copy_only=False)
            continue
        mask = None
        if column.null_count:
            mask = compute.is_null(column).to_numpy(zero_copy_only=False)
        data_type, values = _of_arrow_column(arrow, name, column)
        names.append(name)
        types.append(data_type)
        columns.append(values)
        masks.append(mask)
    return TabletColumns(times, names, types, columns, masks)


def _of_arrow_column(arrow: Any, name: str, column: Any) -> tuple[DataType, Any]:  # noqa: ANN401
    kinds = arrow.types
    if kinds.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kinds.is_string(column.type) or kinds.is_large_string(column.type):
        return DataType.TEXT, column.fill_null("").to_pylist()
    if kinds.is_null(column.type):
        return DataType.TEXT, [""] * len(column)
    if kinds.is_boolean(column.type):
        return DataType.BOOLEAN, column.fill_null(False).to_numpy(zero_copy_only=False)
    if kinds.is_integer(column.type) or kinds.is_floating(column.type):
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        return _numeric_type(name, values.dtype), values
    raise DataError(f"{name}: {column.type} has no type here")
