"""Results as pandas, Arrow and polars tables; column by column.

pandas, pyarrow and polars are extras: they are imported when they are asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_client.blocks import write_parts
from iotdb_client.columns import DTYPES, ColumnPart, PageColumns, decode_texts
from iotdb_client.decoders import Decoders
from iotdb_client.errors import NotSupportedError, ProgrammingError
from iotdb_client.kept_memory import KEPT
from iotdb_client.rows import ResultShape

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
            f"{name} is not installed (the extra {extra!r} of this package): "
            f"{sys.executable or 'python'} -m pip install {name}"
        ) from error


_LINE_BYTES = 64
_HUGE_BYTES = 2 << 20
_MOST_SLACK = 1.25
"""Memory that was set aside is kept up to this multiple of what was needed."""


class _Whole(NamedTuple):
    """A column of all pages: values of every row (anything where null), and where they are null."""

    kind: str
    values: npt.NDArray[Any] | list[Any]
    nulls: npt.NDArray[np.bool_] | None


class Table(NamedTuple):
    """A whole result in memory, by columns.

    Attributes:
        names: of the columns, Time first where there is one.
        times: int64[rows] in the server's precision unit; None where there is no Time.
        columns: the others, in the order of `names`; one that is named twice is one object.
        precision: "ms", "us" or "ns".
        rows: how many there are.
    """

    names: list[str]
    times: npt.NDArray[np.int64] | None
    columns: list[_Whole]
    precision: str
    rows: int

    def pandas(self, times: str) -> pd.DataFrame:
        """Return a DataFrame; see `Cursor.to_pandas`."""
        pandas = need("pandas", "pandas")
        made: dict[int, Any] = {}
        series: list[Any] = []
        distinct = len(set(self.names)) == len(self.names)
        if self.times is not None:
            series.append(self.times if times == "int" else self._moments())
        for column in self.columns:
            if id(column) not in made:
                made[id(column)] = _pandas_column(pandas, column)
            series.append(made[id(column)])
        if distinct:
            return pandas.DataFrame(dict(zip(self.names, series, strict=True)), copy=False)
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
        # of numbers: without asking for each moment what it would be in a zone, or copying them
        kind = pandas.DatetimeTZDtype(self.precision, "UTC")
        return pandas.array(self.times, dtype=kind, copy=False)


class TableBuilder:
    """Puts the pages of a result together, each number written once, to where it stays.

    Where pages tell how many rows follow, memory for all is set aside when the first comes, and
    pages are decoded as they come, by other threads; otherwise, and what is left then, at the end.

    Args:
        shape: of the result.
        precision: of the server's times.
        workers: decode pages; None: the calling thread does.
    """

    def __init__(self, shape: ResultShape, precision: str, workers: Decoders | None) -> None:
        self._shape = shape
        self._precision = precision
        self._workers = workers
        # None: written, and nothing else is needed of it. A page is some hundred objects, and what
        # is kept of many would have the garbage collector look at all there is, again and again.
        self._pages: list[PageColumns | None] = []
        self._starts = [0]
        self._times: npt.NDArray[np.int64] | None = None
        self._arrays: list[npt.NDArray[Any] | None] = []
        self._written = 0

    def add(self, pages: Sequence[PageColumns]) -> None:
        """Take the next pages; the more at once, the fewer calls decode them."""
        for page in pages:
            self._pages.append(page)
            self._starts.append(self._starts[-1] + page.rows)
        if self._workers is None or not pages:
            return
        if self._times is None and any(page.rows_after for page in pages):
            ends = self._starts[-len(pages) :]
            self._allocate(
                max(end + page.rows_after for end, page in zip(ends, pages, strict=True))
            )
        self._write()

    def finish(self) -> Table:
        """Return the table of all pages.

        Raises:
            InternalError: a page is damaged.
            DataError: a text is not UTF-8.
        """
        rows = self._starts[-1]
        self._settle()
        written = self._starts[self._written]
        if self._times is None or not rows <= len(self._times) <= _MOST_SLACK * rows:
            early_times, early = self._times, self._arrays
            self._allocate(rows)
            self._keep(written, early_times, early)
        self._write()
        self._settle()
        distinct = [self._column(number, rows) for number in range(len(self._shape.types))]
        assert self._times is not None
        return Table(
            [column.name for column in self._shape.description],
            self._times[:rows] if self._shape.has_time else None,
            [distinct[number] for number in self._shape.source],
            self._precision,
            rows,
        )

    def _allocate(self, rows: int) -> None:
        try:
            self._times, *self._arrays = _arrays(rows, ("INT64", *self._shape.types))
        except (MemoryError, OverflowError, ValueError):
            self._times = None
            if rows <= self._starts[-1]:
                raise
            # the server's estimate was too high, or the result is too large

    def _keep(
        self,
        rows: int,
        times: npt.NDArray[np.int64] | None,
        arrays: list[npt.NDArray[Any] | None],
    ) -> None:
        """Take over what was written to where there was too little room, or far too much."""
        if times is None or self._times is None:
            return
        self._times[:rows] = times[:rows]
        for new, old in zip(self._arrays, arrays, strict=True):
            if new is not None and old is not None:
                new[:rows] = old[:rows]

    def _write(self) -> None:
        """Have the pages written for which there is room."""
        times = self._times
        if times is None:
            return
        first = end = self._written
        while end < len(self._pages) and self._starts[end + 1] <= len(times):
            end += 1
        self._written = end
        if end == first:
            return
        pages = [page for page in self._pages[first:end] if page is not None]
        start, stop = self._starts[first], self._starts[end]
        rows = [page.rows for page in pages]
        numbers = all(array is not None for array in self._arrays)
        done = [numbers and all(part.present is None for part in page.parts) for page in pages]
        kept = not all(done)
        # A job of its own for each column: threads take turns few times, and none waits long.
        for number, array in enumerate(self._arrays):
            if array is not None:
                parts = [page.parts[number] for page in pages]
                self._do(_write_column, parts, rows, array[start:stop], kept)
        self._do(_write_times, [page.time for page in pages], rows, times[start:stop])
        for place, all_of_it in enumerate(done, first):
            if all_of_it:
                self._pages[place] = None

    def _do(self, job: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401
        if self._workers is None:
            job(*arguments)
        else:
            self._workers.submit(job, *arguments)

    def _settle(self) -> None:
        if self._workers is not None:
            self._workers.settle()

    def _column(self, number: int, rows: int) -> _Whole:
        kind = self._shape.types[number]
        parts = [
            (start, page.parts[number])
            for start, page in zip(self._starts, self._pages, strict=False)
            if page is not None
        ]
        nulls = None
        if any(part.present is not None for _, part in parts):
            nulls = np.zeros(rows, np.bool_)
            for start, part in parts:
                if part.present is not None:
                    nulls[start : start + len(part.present)] = ~part.present
        array = self._arrays[number]
        if array is not None:
            return _Whole(kind, array[:rows], nulls)
        found: list[Any] = [value for _, part in parts for value in part.values]
        if kind != "BLOB":
            found = decode_texts(found)
        if nulls is not None:
            cells = np.full(rows, None, dtype=object)
            cells[~nulls] = np.fromiter(found, dtype=object, count=len(found))
            found = cells.tolist()
        return _Whole(kind, found, nulls)


def _write_times(
    parts: Sequence[ColumnPart | None], rows: Sequence[int], out: npt.NDArray[np.int64]
) -> None:
    found = [part for part in parts if part is not None]
    if len(found) == len(parts):
        write_parts(found, rows, out)
    else:
        out[:] = 0


def _write_column(
    parts: Sequence[ColumnPart],
    rows: Sequence[int],
    out: npt.NDArray[Any],
    kept: bool,
) -> None:
    """Write the parts of a column; `kept`: let go of the values, since the parts stay."""
    at = 0
    for part, count in zip(parts, rows, strict=True):
        if part.present is not None:
            out[at : at + count] = 0
        at += count
    write_parts(parts, rows, out)
    if kept:
        for part in parts:
            part.forget()


def _arrays(rows: int, kinds: Sequence[str]) -> list[npt.NDArray[Any] | None]:
    """Return arrays for columns of numbers, in one piece of memory; None for other columns.

    Large memory comes from the system page by page, each filled with zeros when it is first
    touched, which takes as long as decoding does; in huge pages half of that. They lie at multiples
    of their size, so an array of some megabytes has few of them, all arrays together have many. And
    what an earlier result no longer needs is taken again.
    """
    dtypes = [DTYPES.get(kind) for kind in kinds]
    starts = [0]
    for dtype in dtypes:
        size = 0 if dtype is None else rows * dtype.itemsize
        starts.append(starts[-1] + -(-size // _LINE_BYTES) * _LINE_BYTES)
    large = starts[-1] >= _HUGE_BYTES
    size = starts[-1] + large * _HUGE_BYTES
    memory = KEPT.take(size) if large else np.empty(size, np.uint8)
    skip = large * (-memory.ctypes.data % _HUGE_BYTES)
    return [
        None
        if dtype is None
        else memory[skip + start :][: rows * dtype.itemsize].view(dtype.newbyteorder("="))
        for dtype, start in zip(dtypes, starts, strict=False)
    ]


def _pandas_column(pandas: Any, column: _Whole) -> Any:  # noqa: ANN401
    if isinstance(column.values, list):
        # an empty column has the type that texts get
        return pandas.Series(column.values or [""])[: len(column.values)]
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
    if len(set(table.names)) != len(table.names):
        twice = next(name for name in table.names if table.names.count(name) > 1)
        raise ProgrammingError(f"polars has no two columns of one name ({twice}): use AS")
    return polars.from_arrow(table.arrow(times))
