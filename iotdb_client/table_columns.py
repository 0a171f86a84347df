"""pandas, Arrow and polars tables taken apart, as tablets of devices; column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_client.errors import DataError
from iotdb_client.frames import need
from iotdb_client.paths import split_series
from iotdb_client.types import DataType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


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

    def taken(self, numbers: Sequence[int], names: Sequence[str]) -> TabletColumns:
        """Return some of the columns, under new names."""
        return TabletColumns(
            self.times,
            list(names),
            [self.types[number] for number in numbers],
            [self.columns[number] for number in numbers],
            [self.masks[number] for number in numbers],
        )

    def rows(self, wanted: npt.NDArray[np.bool_]) -> TabletColumns:
        """Return some of the rows; the columns that have a value there."""
        if wanted.all():
            return self
        used = [
            number
            for number, mask in enumerate(self.masks)
            if mask is None or not mask[wanted].all()
        ]
        some = self.taken(used, [self.measurements[number] for number in used])
        return some._replace(
            times=some.times[wanted],
            columns=[
                list(compress(column, wanted)) if isinstance(column, list) else column[wanted]
                for column in some.columns
            ],
            masks=[None if mask is None else mask[wanted] for mask in some.masks],
        )


class FoundColumns(NamedTuple):
    """What a table has: `TabletColumns` whose types may be unknown, None, where all is null."""

    times: npt.NDArray[np.int64]
    measurements: list[str]
    types: list[DataType | None]
    columns: list[Any]
    masks: list[npt.NDArray[np.bool_] | None]

    def with_types(self, types: Mapping[str, DataType]) -> TabletColumns:
        """Return the columns whose type is known, or given."""
        chosen = [
            types.get(name, kind) for name, kind in zip(self.measurements, self.types, strict=True)
        ]
        known = [number for number, kind in enumerate(chosen) if kind is not None]
        return TabletColumns(
            self.times,
            [self.measurements[number] for number in known],
            [kind for kind in chosen if kind is not None],
            [
                self.columns[number]
                if self.types[number] is not None
                else [_blank(chosen[number])] * len(self.times)
                for number in known
            ],
            [self.masks[number] for number in known],
        )


def by_device(columns: TabletColumns, device: str | None) -> list[tuple[str, TabletColumns]]:
    """Return which columns and rows go to which device; see `Connection.insert_dataframe`.

    Raises:
        DataError: nothing says where a column goes, or two go to one series.
    """
    if device is None and "Device" in columns.measurements:
        return _by_device_column(columns)
    places: dict[str, dict[str, int]] = {}
    for number, name in enumerate(columns.measurements):
        path = split_series(name)
        if path is None:
            if device is None:
                raise DataError(
                    f"column {name!r} is no full path of a series, and there is no column Device: "
                    "say which device it belongs to"
                )
            path = device, name
        measurements = places.setdefault(path[0] if device is None else device, {})
        if path[1] in measurements:
            other = columns.measurements[measurements[path[1]]]
            raise DataError(f"{other!r} and {name!r} would both be {path[1]}: rename one of them")
        measurements[path[1]] = number
    parts = []
    for place, found in places.items():
        part = columns.taken(list(found.values()), list(found))
        masks = [mask for mask in part.masks if mask is not None]
        if device is None and masks and len(masks) == len(part.masks):
            part = part.rows(~np.logical_and.reduce(masks))
        parts.append((place, part))
    return [(place, part) for place, part in parts if part.measurements]


def _by_device_column(columns: TabletColumns) -> list[tuple[str, TabletColumns]]:
    at = columns.measurements.index("Device")
    if columns.types[at] is not DataType.TEXT or columns.masks[at] is not None:
        raise DataError("the column Device must have the path of a device in each row")
    others = [number for number in range(len(columns.measurements)) if number != at]
    rest = columns.taken(others, [columns.measurements[number] for number in others])
    devices = np.array(columns.columns[at], dtype=object)
    parts = [(place, rest.rows(devices == place)) for place in dict.fromkeys(columns.columns[at])]
    return [(place, part) for place, part in parts if part.measurements]


def of_pandas(frame: pd.DataFrame, time_column: str | None, precision: str) -> FoundColumns:
    """Take a DataFrame apart; see `Connection.insert_dataframe`."""
    pandas = need("pandas", "pandas")
    if not isinstance(frame, pandas.DataFrame):
        raise DataError(
            f"a pandas.DataFrame is wanted, not {_kind(frame)}: insert_polars and insert_arrow "
            "take other tables"
        )
    if not frame.columns.is_unique:
        raise DataError("a column name stands twice in the DataFrame")
    time = None
    if time_column is not None:
        if time_column not in frame.columns:
            raise DataError(f"the DataFrame has no column {time_column!r}")
        time = frame[time_column]
    elif "Time" in frame.columns:
        time_column, time = "Time", frame["Time"]
    elif frame.index.nlevels > 1:
        raise DataError(
            f"the index has {frame.index.nlevels} levels: name the time column (reset_index makes "
            "columns of them)"
        )
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
    return FoundColumns(times, names, types, columns, masks)


def _times(series: Any, precision: str, *, of_rows: bool = True) -> npt.NDArray[np.int64]:  # noqa: ANN401
    if series.isna().any():
        raise DataError("a time is missing")
    kind = series.dtype.kind
    if kind == "M":
        if getattr(series.dtype, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        moments = np.asarray(series)
        times = moments.astype(f"datetime64[{precision}]")
        if of_rows:
            _check_kept(moments, times, precision)
        return times.view(np.int64)
    if kind not in "iu":
        raise DataError(
            f"times are datetimes or whole numbers, not {series.dtype}: name the time column, or "
            "make it the index"
        )
    return series.to_numpy(dtype=np.int64)  # type: ignore[no-any-return]


def _check_kept(
    moments: npt.NDArray[np.datetime64], times: npt.NDArray[np.datetime64], precision: str
) -> None:
    """Refuse times that differ by less than the server's unit: rows would replace one another."""
    if bool((times == moments).all()) or len(np.unique(times)) == len(np.unique(moments)):
        return
    raise DataError(
        f"some times differ by less than a unit of the server's clock ({precision}), and would be "
        f"the same there: round them, and make them distinct"
    )


def _of_series(
    pandas: Any,  # noqa: ANN401
    name: str,
    series: Any,  # noqa: ANN401
    precision: str,
) -> tuple[DataType | None, Any, Any]:
    nulls = series.isna().to_numpy()
    mask = nulls if nulls.any() else None
    dtype = series.dtype
    if dtype.kind == "M":
        filled = series if mask is None else series.ffill().bfill()
        if mask is not None and mask.all():
            return DataType.INT64, np.zeros(len(series), np.int64), mask
        return DataType.INT64, _times(filled, precision, of_rows=False), mask
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


def _blank(data_type: DataType | None) -> Any:  # noqa: ANN401
    if data_type is None or data_type is DataType.TEXT:
        return ""
    return False if data_type is DataType.BOOLEAN else 0


_BY_CLASS: dict[type, DataType] = {
    bool: DataType.BOOLEAN,
    int: DataType.INT64,
    float: DataType.DOUBLE,
    str: DataType.TEXT,
    bytes: DataType.TEXT,
}


def _of_objects(name: str, cells: Any, mask: Any) -> tuple[DataType | None, Any, Any]:  # noqa: ANN401
    kinds = set(map(type, cells if mask is None else cells[~mask]))
    found = {_BY_CLASS.get(kind) for kind in kinds}
    if None in found or len(found) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"{name}: values of type {names} are no column of one type")
    data_type = found.pop() if found else None
    if data_type is None:
        return None, [""] * len(cells), mask
    if mask is not None:
        cells = cells.copy()
        cells[mask] = _blank(data_type)
    return data_type, cells.tolist(), mask


def of_arrow(table: pa.Table, time_column: str, precision: str) -> FoundColumns:
    """Take an Arrow table apart; see `Connection.insert_arrow`."""
    arrow = need("pyarrow", "arrow")
    compute = need("pyarrow.compute", "arrow")
    if not isinstance(table, arrow.Table):
        raise DataError(f"a pyarrow.Table is wanted, not {_kind(table)}")
    if len(set(table.column_names)) != len(table.column_names):
        raise DataError("a column name stands twice in the table")
    if time_column not in table.column_names:
        raise DataError(f"the table has no column {time_column!r}")
    names, types, columns, masks = [], [], [], []
    times = np.zeros(0, np.int64)
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if arrow.types.is_timestamp(column.type):
            given = column
            column = column.cast(arrow.timestamp(precision, column.type.tz), safe=False)
            if name == time_column and not column.null_count:
                _check_kept(_moments(given), _moments(column), precision)
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
    return FoundColumns(times, names, types, columns, masks)


def of_polars(frame: pl.DataFrame, time_column: str, precision: str) -> FoundColumns:
    """Take a polars DataFrame apart; see `Connection.insert_polars`."""
    polars = need("polars", "polars")
    if not isinstance(frame, polars.DataFrame):
        raise DataError(f"a polars.DataFrame is wanted, not {_kind(frame)}")
    need("pyarrow", "arrow")
    return of_arrow(frame.to_arrow(), time_column, precision)


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _moments(column: Any) -> npt.NDArray[np.datetime64]:  # noqa: ANN401
    moments: npt.NDArray[np.datetime64] = column.to_numpy(zero_copy_only=False)
    return moments


def _of_arrow_column(arrow: Any, name: str, column: Any) -> tuple[DataType | None, Any]:  # noqa: ANN401
    kinds = arrow.types
    if kinds.is_dictionary(column.type):
        column = column.dictionary_decode()
    if str(column.type) == "string_view":  # which releases before 16 don't know
        column = column.cast(arrow.large_string())
    if kinds.is_string(column.type) or kinds.is_large_string(column.type):
        return DataType.TEXT, column.fill_null("").to_pylist()
    if kinds.is_null(column.type):
        return None, [""] * len(column)
    if kinds.is_boolean(column.type):
        return DataType.BOOLEAN, column.fill_null(False).to_numpy(zero_copy_only=False)
    if kinds.is_integer(column.type) or kinds.is_floating(column.type):
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        return _numeric_type(name, values.dtype), values
    raise DataError(f"{name}: {column.type} has no type here")
