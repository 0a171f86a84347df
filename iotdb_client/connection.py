"""PEP 249 connections."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from iotdb_client import errors, table_columns
from iotdb_client.conninfo import ConnInfo, parse_conninfo, parse_zone
from iotdb_client.cursor import Cursor
from iotdb_client.errors import NotSupportedError, ProgrammingError
from iotdb_client.literals import Parameters
from iotdb_client.schema import SeriesSchema
from iotdb_client.session import Session
from iotdb_client.tablet import check_columns, check_types, series_of
from iotdb_client.types import DataType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""

_TABLET_BYTES = 4_000_000
_TABLET_ROWS = 100_000


def connect(
    url_or_host: str | os.PathLike[str] = "jdbc:iotdb://127.0.0.1:6667/",
    user: str = "root",
    password: str = "root",
    *,
    fetch_size: int = 10_000,
    timeout_s: float | None = 60.0,
    zone: str | None = None,
    retry_s: float = 20.0,
    time_column: bool = True,
) -> Connection:
    """Open a connection and log in; or open a folder, as a database in this process.

    Args:
        url_or_host: `jdbc:iotdb://host:port/?key=value`, or just hosts: `h1:p1,h2:p2` are tried in
            order, and again when one is lost. What the URL names (user, password, fetch_size,
            timeout_s, time_zone, rpc_compress, retry_s, use_ssl, ssl_ca, ssl_cert, ssl_key,
            ssl_verify) wins over the other arguments. A Path, a text with a `/`, or ":memory:": a
            database in this process, see `docs/embedded.md`.
        user: of the login.
        password: of the login; not looked at for a folder.
        fetch_size: rows of a page.
        timeout_s: of one statement on the server; None: no limit.
        zone: time zone of date literals, e.g. `Asia/Shanghai` or `+08:00`; None: this machine's.
        retry_s: how long the other hosts are tried when one is lost.
        time_column: False: rows and tables leave the Time column out.

    Raises:
        ProgrammingError: the URL, zone or sizes can't be understood.
        OperationalError: no host can be reached, the login is refused, or the folder is in use.
    """
    info = parse_conninfo(
        url_or_host,
        user=user,
        password=password,
        fetch_size=fetch_size,
        timeout_s=timeout_s,
        zone=zone,
        retry_s=retry_s,
    )
    connection = Connection(info, time_column=time_column)
    connection.session.open()
    return connection


class Connection:
    """A login at a server; may be shared by threads. Leaving its `with` block closes it.

    Every statement takes effect by itself: there are no transactions.
    """

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(self, info: ConnInfo, *, time_column: bool = True) -> None:
        self.info = info
        self.session = Session(info)
        self.zone: dt.tzinfo = parse_zone(info.zone)
        self.hides_time = not time_column
        self._schema = SeriesSchema(self.session)

    @property
    def timestamp_precision(self) -> str:
        """Unit of the server's timestamps: "ms", "us" or "ns"."""
        return self.session.timestamp_precision

    @property
    def closed(self) -> bool:
        """Whether the connection was closed; one that was lost is made anew when needed."""
        return not self.session.is_open

    def cursor(self) -> Cursor:
        """Return a new cursor; raises InterfaceError on a closed connection."""
        self.session.check_open()
        return Cursor(self)

    def execute(self, operation: str, parameters: Parameters | None = None) -> Cursor:
        """Run a statement with a new cursor, and return that."""
        return self.cursor().execute(operation, parameters)

    def cancel(self) -> None:
        """End the query that another thread is running through this connection.

        It fails there with an error; may come too late to do anything.
        """
        self.session.cancel()

    # ---- settings ----

    def set_time_zone(self, zone: str) -> None:
        """Change the zone of date literals and naive datetimes from now on.

        Args:
            zone: e.g. `Asia/Shanghai` or `+08:00`.

        Raises:
            ProgrammingError: not a zone.
            OperationalError: the server can't be asked.
        """
        found = parse_zone(zone)
        self.session.set_time_zone(zone)
        self.info = self.session.info
        self.zone = found

    def set_fetch_size(self, rows: int) -> None:
        """Change the rows of a page from the next statement on; raises ProgrammingError."""
        if rows <= 0:
            raise ProgrammingError(f"fetch_size must be positive, not {rows}")
        self.info = self.session.info = dataclasses.replace(self.info, fetch_size=rows)

    # ---- bulk ----

    def insert_tablet(
        self,
        device: str,
        measurements: Sequence[str],
        types: Sequence[DataType],
        times: Sequence[int],
        columns: Sequence[Sequence[Any]],
        *,
        aligned: bool = False,
    ) -> None:
        """Write rows of one device, column by column; see `Session.insert_tablet`."""
        self.session.insert_tablet(device, measurements, types, times, columns, aligned=aligned)

    def insert_dataframe(
        self,
        device: str | None,
        frame: pd.DataFrame,
        *,
        time_column: str | None = None,
        aligned: bool = False,
        types: Mapping[str, DataType] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write a DataFrame to a device: each column a measurement, missing values as null.

        A result of `to_pandas` can be written, too: a column that is named by the full path of a
        series stands for that path's last node, in `device`; without a device, for that very
        series. A column in which nothing tells a type (all values missing, of dtype object) is left
        out.

        Args:
            device: full path; None: columns are named by full paths, or there is a column Device
                (as of ALIGN BY DEVICE) that says where each row goes.
            frame: columns of numbers, booleans or texts. Datetimes become INT64 timestamps.
            time_column: of the times, datetimes (naive ones are UTC) or ints in the server's
                precision unit; None: the column Time if there is one, else the index.
            aligned: whether the device is aligned.
            types: where they are to differ from those of the columns.
            progress: called after each tablet.

        Returns:
            Rows written, of all devices. Of each tablet all is written or nothing, except for
            columns that do not fit their series: these are left out, and told by a DataError.

        Raises:
            DataError: a column can't be stored, or it is not clear where; nothing was written.
            NotSupportedError: pandas is not installed.
        """
        columns = table_columns.of_pandas(frame, time_column, self.timestamp_precision)
        return self._insert_columns(device, columns, types or {}, progress, aligned=aligned)

    def insert_arrow(
        self,
        device: str | None,
        table: pa.Table,
        *,
        time_column: str = "Time",
        aligned: bool = False,
        types: Mapping[str, DataType] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write an Arrow table to a device; see `insert_dataframe`."""
        columns = table_columns.of_arrow(table, time_column, self.timestamp_precision)
        return self._insert_columns(device, columns, types or {}, progress, aligned=aligned)

    def insert_polars(
        self,
        device: str | None,
        frame: pl.DataFrame,
        *,
        time_column: str = "Time",
        aligned: bool = False,
        types: Mapping[str, DataType] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write a polars DataFrame to a device; see `insert_dataframe`.

        Raises:
            NotSupportedError: polars or pyarrow is not installed.
        """
        columns = table_columns.of_polars(frame, time_column, self.timestamp_precision)
        return self._insert_columns(device, columns, types or {}, progress, aligned=aligned)

    def _insert_columns(
        self,
        device: str | None,
        columns: table_columns.FoundColumns,
        types: Mapping[str, DataType],
        progress: Progress | None,
        *,
        aligned: bool,
    ) -> int:
        unknown = set(types) - set(columns.measurements)
        if unknown:
            raise errors.DataError(f"types names {', '.join(sorted(unknown))}: no such column")
        check_types(list(types), list(types.values()))
        parts = table_columns.by_device(columns.with_types(types), device)
        for place, part in parts:
            with series_of(place):
                check_columns(part.measurements, part.types, part.columns, part.masks)
        rows, done = sum(len(part.times) for _, part in parts), 0
        for place, part in parts:
            for start, stop in _slices(part):
                self.session.insert_tablet(
                    place,
                    part.measurements,
                    part.types,
                    part.times[start:stop],
                    [column[start:stop] for column in part.columns],
                    aligned=aligned,
                    masks=[None if mask is None else mask[start:stop] for mask in part.masks],
                )
                done += stop - start
                if progress is not None:
                    progress(done, rows)
        return rows

    # ---- what the driver remembers of the schema ----

    def series_types(self, device: str, measurements: Sequence[str]) -> list[DataType] | None:
        """Return the types of a device's series, or None when one does not exist (yet)."""
        return self._schema.types(device, measurements)

    def is_aligned(self, device: str, *, assumed: bool) -> bool:
        """Return whether a device is aligned; `assumed` when it does not exist."""
        return self._schema.is_aligned(device, assumed=assumed)

    def forget_series(self, device: str) -> None:
        """Look a device's series up again when they are needed."""
        self._schema.forget(device)

    # ---- transactions, life ----

    def commit(self) -> None:
        """Do nothing: every statement has taken effect already."""
        self.session.check_open()

    def rollback(self) -> None:
        """Raise NotSupportedError: what has been written stays."""
        raise NotSupportedError("there are no transactions to roll back")

    def close(self) -> None:
        """Log out; cursors of the connection can't be used any more. May be called again."""
        self.session.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _slices(columns: table_columns.TabletColumns) -> Iterator[tuple[int, int]]:
    """Cut rows into tablets of some megabytes."""
    rows = len(columns.times)
    width = 8 + sum(
        64 if isinstance(column, list) else column.dtype.itemsize for column in columns.columns
    )
    step = max(1, min(_TABLET_ROWS, _TABLET_BYTES // width))
    start = 0
    while start < rows:
        stop = min(rows, start + step)
        texts = [column for column in columns.columns if isinstance(column, list)]
        while stop - start > 1 and sum(_length(text[start:stop]) for text in texts) > _TABLET_BYTES:
            stop = start + (stop - start) // 2
        yield start, stop
        start = stop


def _length(values: Sequence[Any]) -> int:
    return sum(map(len, values)) if values and isinstance(values[0], (str, bytes)) else 0
