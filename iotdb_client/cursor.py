"""PEP 249 cursors: statements, and their results page by page, as rows or as tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

from iotdb_client.answers import QueryHandle
from iotdb_client.blocks import decode_pages
from iotdb_client.columns import PageColumns, UnalignedPage
from iotdb_client.decoders import Decoders
from iotdb_client.errors import (
    Error,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from iotdb_client.frames import Table, TableBuilder, to_polars
from iotdb_client.inserts import InsertMany, is_repeatable, takes_time_of_clock
from iotdb_client.literals import Parameters, render
from iotdb_client.rows import ResultShape, rows_of, unaligned_rows, unaligned_shape
from iotdb_client.types import ColumnDescription

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from iotdb_client.connection import Connection

Times = Literal["datetime", "int"]

_BATCH_STATEMENTS = 1000
_BATCH_CHARACTERS = 4_000_000
"""At most four bytes each: well below the frame that a server takes by default."""
_TABLE_PAGE_ROWS = 1 << 17
_DECODERS = min(4, os.cpu_count() or 1)
"""Threads that decode pages of a table, which NumPy and the codecs do without the GIL."""


class Cursor:
    """Runs statements and reads their rows; for one thread at a time.

    Rows are tuples; the Time column comes first where a result has one, as an int in the server's
    precision unit (unless the connection was made with `time_column=False`). The server keeps the
    result and hands it out in pages of `connection.info.fetch_size` rows as they are needed, so it
    may be larger than memory.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self.rownumber: int | None = None
        self.messages: list[tuple[type[Exception], str]] = []
        self._rowcount = -1
        self._closed = False
        self._sql = ""
        self._query: QueryHandle | None = None
        self._shape: ResultShape | None = None
        self._pages: list[PageColumns] = []
        self._rows: list[tuple[Any, ...]] = []
        self._next = 0
        self._unaligned = False

    # ---- statements ----

    def execute(self, operation: str, parameters: Parameters | None = None) -> Cursor:
        """Run one statement and return this cursor.

        Args:
            operation: the statement. With a sequence of parameters a `?` stands for each of them,
                with a mapping `:name` for the one of that name.
            parameters: see `iotdb_client.literals.render`; None: neither has a special meaning.

        Raises:
            Error: with `definite=False` when the statement may have taken effect.
        """
        self._check_open()
        self._release()
        sql = self._rendered(operation, parameters) if parameters is not None else operation
        self._start(sql, self.connection.info.fetch_size)
        return self

    def executemany(
        self, operation: str, seq_of_parameters: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> Cursor:
        """Run one non-query for each set of parameters.

        `INSERT INTO device(time, …) VALUES (?, …)` is sent as tablets: columns, thousands of rows
        in a request, with the types that the series have. Other statements go as text, many in a
        request.

        Raises:
            ProgrammingError: an INSERT of several rows whose times are the server's clock's, which
                would replace one another; nothing was sent.
            Error: of the first statement that failed, with the number of its parameters, from 1;
                those beside it in the same request have been run, those of later ones have not.
        """
        self._check_open()
        self._release()
        many = InsertMany.of(operation, self.connection)
        done: Iterable[int] = (
            many.run(seq_of_parameters)
            if many is not None
            else self._run_batches(operation, seq_of_parameters)
        )
        count = 0
        try:
            for number in done:
                count += number
        except Error as error:
            error.definite = error.definite and count == 0  # what came before it stays
            raise
        self._rowcount = count
        return self

    def _run_batches(
        self,
        operation: str,
        seq_of_parameters: Iterable[Sequence[Any] | Mapping[str, Any]],
    ) -> Iterator[int]:
        """Run batch after batch; yields how many statements each had."""
        done = 0
        for batch in self._batches(operation, seq_of_parameters):
            repeatable = all(is_repeatable(sql) for sql in batch)
            self.connection.session.execute_batch(batch, repeatable=repeatable, first=done + 1)
            done += len(batch)
            yield len(batch)

    def _batches(
        self,
        operation: str,
        seq_of_parameters: Iterable[Sequence[Any] | Mapping[str, Any]],
    ) -> Iterator[list[str]]:
        batch: list[str] = []
        size = 0
        clocked = takes_time_of_clock(operation)
        for number, parameters in enumerate(seq_of_parameters):
            if clocked and number:
                raise ProgrammingError(
                    "rows of executemany need a time of their own: INSERT INTO device(time, …) "
                    "VALUES (?, …), or a column Time in a DataFrame. The server's clock gives the "
                    "same time to many of them, and of these only one would stay"
                )
            statement = self._rendered(operation, parameters)
            if batch and (
                len(batch) == _BATCH_STATEMENTS or size + len(statement) > _BATCH_CHARACTERS
            ):
                yield batch
                batch, size = [], 0
            batch.append(statement)
            size += len(statement)
        if batch:
            yield batch

    # ---- rows ----

    @property
    def description(self) -> tuple[ColumnDescription, ...] | None:
        """Columns of the result, or None when the last statement had no result set."""
        return None if self._shape is None else self._shape.description

    @property
    def rowcount(self) -> int:
        """Rows that the last `executemany` wrote; -1 otherwise, as the protocol does not tell."""
        return self._rowcount

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None at the end."""
        if not self._have_row():
            return None
        row = self._rows[self._next]
        self._advance(1)
        return row

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return up to `size` (default `arraysize`) further rows; [] at the end."""
        wanted = self.arraysize if size is None else size
        found: list[tuple[Any, ...]] = []
        while self._have_row() and len(found) < wanted:
            piece = self._rows[self._next : self._next + wanted - len(found)]
            self._advance(len(piece))
            found += piece
        return found

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all further rows."""
        found: list[tuple[Any, ...]] = []
        while self._have_row():
            piece = self._rows[self._next :]
            self._advance(len(piece))
            found += piece
        return found

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (row := self.fetchone()) is not None:
            yield row

    # ---- tables ----

    def to_pandas(self, *, times: Times = "datetime") -> pd.DataFrame:
        """Return all rows that were not fetched yet as a DataFrame.

        Columns without nulls have NumPy types; with nulls, FLOAT and DOUBLE have NaN there,
        INT32, INT64 and BOOLEAN pandas' nullable types.

        Args:
            times: Time as UTC datetimes, or as ints in the server's precision unit.

        Raises:
            NotSupportedError: pandas is not installed.
        """
        return self._table(times).pandas(times)

    def to_arrow(self, *, times: Times = "datetime") -> pa.Table:
        """Return all rows that were not fetched yet as an Arrow table; see `to_pandas`."""
        return self._table(times).arrow(times)

    def arrow_batches(self, *, times: Times = "datetime") -> Iterator[pa.Table]:
        """Yield the rows that were not fetched yet as Arrow tables, a page each.

        At least one table comes, so that the columns are known of an empty result, too.
        """
        self._check_table(times)
        assert self._shape is not None
        pages, self._pages = self._pages, []
        while True:
            builder = self._builder(None)
            builder.add(pages)
            yield builder.finish().arrow(times)
            pages = self._fetch_pages(_TABLE_PAGE_ROWS)
            if not pages:
                return

    def to_polars(self, *, times: Times = "datetime") -> pl.DataFrame:
        """Return all rows that were not fetched yet as a polars DataFrame; see `to_pandas`."""
        return to_polars(self._table(times), times)

    def _check_table(self, times: Times) -> None:
        self._check_result()
        if times not in get_args(Times):
            raise ProgrammingError(f"times are 'datetime' or 'int', not {times!r}")
        if self._unaligned:
            raise NotSupportedError("a table has one time for each row: leave DISABLE ALIGN out")
        if self._next:
            raise ProgrammingError(
                "some rows were fetched already: run the query again for a table"
            )

    def _table(self, times: Times) -> Table:
        self._check_table(times)
        table = self._whole_table()
        self._rownumber_at(table.rows)
        return table

    def _whole_table(self) -> Table:
        """Take the rest of the result; nothing was handed out, so a lost query may run again."""
        for last_try in (False, True):
            try:
                if self._query is None:
                    return self._collect(None)
                with Decoders(_DECODERS) as workers:
                    return self._collect(workers)
            except OperationalError as error:
                if last_try or error.status is not None or not is_repeatable(self._sql):
                    raise
                self._start(self._sql, self.connection.info.fetch_size)
        raise AssertionError("unreachable")

    def _collect(self, workers: Decoders | None) -> Table:
        """Take the rest of the result; pages are decoded while the next ones are on their way."""
        builder = self._builder(workers)
        pages, self._pages = self._pages, []
        while pages:
            builder.add(pages)
            pages = self._fetch_pages(_TABLE_PAGE_ROWS)
        return builder.finish()

    def _builder(self, workers: Decoders | None) -> TableBuilder:
        assert self._shape is not None
        return TableBuilder(self._shape, self.connection.timestamp_precision, workers)

    # ---- life ----

    def cancel(self) -> None:
        """End the statement that this cursor's connection is running; for another thread."""
        self.connection.cancel()

    def close(self) -> None:
        """Release the result; the cursor can't be used any more. May be called again."""
        if not self._closed:
            count = self._rowcount
            self._release()
            self._rowcount = count  # SQLAlchemy asks for it afterwards
            self._closed = True

    def __enter__(self) -> Cursor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Do nothing, as PEP 249 allows."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Do nothing, as PEP 249 allows."""

    # ---- inside ----

    def _rendered(self, operation: str, parameters: Parameters) -> str:
        connection = self.connection
        return render(operation, parameters, connection.zone, connection.timestamp_precision)

    def _start(self, sql: str, fetch_size: int) -> None:
        answer = self.connection.session.execute(
            sql, fetch_size=fetch_size, repeatable=is_repeatable(sql)
        )
        self._sql = sql
        self._query = None
        if answer.shape is None:
            self._shape = None
            return
        if answer.unaligned is not None:
            self._take_unaligned(answer.query, answer.shape, answer.unaligned)
            return
        self._shape = answer.shape.without_time() if self.connection.hides_time else answer.shape
        self._query = answer.query if answer.more else None
        self._rownumber_at(0)
        if answer.page is not None:
            self._pages = decode_pages(answer.page, self._shape.types)

    def _take_unaligned(self, query: QueryHandle, shape: ResultShape, first: UnalignedPage) -> None:
        """Read all of a result of DISABLE ALIGN: its columns don't end together."""
        pages = [first]
        session, size = self.connection.session, self.connection.info.fetch_size
        while (page := session.fetch_unaligned(self._sql, query, fetch_size=size)) is not None:
            pages.append(page)
        self._rows, self._next = unaligned_rows(pages, shape), 0
        self._shape, self._unaligned = unaligned_shape(shape), True
        self._rownumber_at(0)

    def _check_open(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        self.connection.session.check_open()

    def _check_result(self) -> None:
        self._check_open()
        if self._shape is None:
            raise ProgrammingError("the last statement has no result set")

    def _have_row(self) -> bool:
        self._check_result()
        assert self._shape is not None
        while self._next >= len(self._rows):
            if not self._pages:
                self._pages = self._fetch_pages(self.connection.info.fetch_size)
                if not self._pages:
                    return False
            self._rows, self._next = rows_of(self._pages.pop(0), self._shape), 0
        return True

    def _fetch_pages(self, rows: int) -> list[PageColumns]:
        """Return up to so many further rows, in pieces; [] at the end."""
        if self._query is None:
            return []
        assert self._shape is not None
        page, more = self.connection.session.fetch(self._sql, self._query, fetch_size=rows)
        if not more:
            self._query = None
        return [] if page is None else decode_pages(page, self._shape.types)

    def _advance(self, count: int) -> None:
        self._next += count
        self._rownumber_at((self.rownumber or 0) + count)

    def _rownumber_at(self, number: int | None) -> None:
        self.rownumber = number

    def _release(self) -> None:
        """Forget the result; tell the server when it holds the rest of it."""
        query, self._query = self._query, None
        self._shape, self._pages, self._rows, self._next = None, [], [], 0
        self._unaligned = False
        self._rownumber_at(None)
        self._rowcount = -1
        if query is not None and not self.connection.closed:
            try:
                self.connection.session.close_query(query)
            except OperationalError as error:
                if error.status is not None:
                    raise
                # the connection broke: the server has released everything with it
            except Error:
                if not self.connection.closed:
                    raise
