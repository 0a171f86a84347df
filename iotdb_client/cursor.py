"""PEP 249 cursors: statements, and their results page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from iotdb_client.errors import Error, InterfaceError, ProgrammingError
from iotdb_client.literals import render
from iotdb_client.rows import ResultShape, decode_page
from iotdb_client.types import ColumnDescription

if TYPE_CHECKING:
    from iotdb_client.connection import Connection

_BATCH_STATEMENTS = 1000
_BATCH_CHARACTERS = 4_000_000
"""At most four bytes each: well below the frame that a server takes by default."""


class Cursor:
    """Runs statements and reads their rows; for one thread at a time.

    Rows are tuples; the Time column comes first where a result has one, as an int in the server's
    precision unit. Pages of `connection.info.fetch_size` rows are fetched as they are needed, so a
    result may be larger than memory.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self._closed = False
        self._statement_id: int | None = None
        self._sql = ""
        self._query_id: int | None = None
        self._shape: ResultShape | None = None
        self._rows: list[tuple[Any, ...]] = []
        self._next = 0

    # ---- statements ----

    def execute(self, operation: str, parameters: Sequence[Any] | None = None) -> Cursor:
        """Run one statement and return this cursor.

        Args:
            operation: the statement; with parameters, a `?` stands for each of them.
            parameters: see `iotdb_client.literals.render`; None: a `?` has no special meaning.

        Raises:
            Error: with `definite=False` when the statement may have taken effect.
        """
        self._check_open()
        self._release()
        sql = self._rendered(operation, parameters) if parameters is not None else operation
        session = self.connection.session
        if self._statement_id is None:
            self._statement_id = session.new_statement_id()
        answer = session.execute(
            sql, statement_id=self._statement_id, fetch_size=self.connection.info.fetch_size
        )
        self._shape = answer.shape
        if answer.shape is not None:
            self._sql = sql
            self._query_id = answer.query_id if answer.more else None
            if answer.page is not None:
                self._rows = decode_page(answer.page, answer.shape)
        return self

    def executemany(self, operation: str, seq_of_parameters: Iterable[Sequence[Any]]) -> Cursor:
        """Run one non-query for each set of parameters, many in a request.

        Raises:
            Error: of the first statement that failed; those beside it in the same request have
                been run, those of later requests have not.
        """
        self._check_open()
        self._release()
        batch: list[str] = []
        size = 0
        for parameters in seq_of_parameters:
            statement = self._rendered(operation, parameters)
            if batch and (
                len(batch) == _BATCH_STATEMENTS or size + len(statement) > _BATCH_CHARACTERS
            ):
                self.connection.session.execute_batch(batch)
                batch, size = [], 0
            batch.append(statement)
            size += len(statement)
        if batch:
            self.connection.session.execute_batch(batch)
        return self

    # ---- rows ----

    @property
    def description(self) -> tuple[ColumnDescription, ...] | None:
        """Columns of the result, or None when the last statement had no result set."""
        return None if self._shape is None else self._shape.description

    @property
    def rowcount(self) -> int:
        """Always -1: the protocol tells neither how many rows follow nor how many were written."""
        return -1

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None at the end."""
        if not self._have_row():
            return None
        row = self._rows[self._next]
        self._next += 1
        return row

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return up to `size` (default `arraysize`) further rows; [] at the end."""
        wanted = self.arraysize if size is None else size
        found: list[tuple[Any, ...]] = []
        while len(found) < wanted and self._have_row():
            piece = self._rows[self._next : self._next + wanted - len(found)]
            self._next += len(piece)
            found += piece
        return found

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all further rows."""
        found: list[tuple[Any, ...]] = []
        while self._have_row():
            found += self._rows[self._next :]
            self._next = len(self._rows)
        return found

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (row := self.fetchone()) is not None:
            yield row

    # ---- life ----

    def close(self) -> None:
        """Release the result; the cursor can't be used any more. May be called again."""
        if not self._closed:
            self._release()
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

    def _rendered(self, operation: str, parameters: Sequence[Any]) -> str:
        connection = self.connection
        return render(operation, parameters, connection.zone, connection.timestamp_precision)

    def _check_open(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        if self.connection.closed:
            raise InterfaceError("the connection is closed")

    def _have_row(self) -> bool:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        if self._shape is None:
            raise ProgrammingError("the last statement has no result set")
        while self._next >= len(self._rows):
            if self._query_id is None:
                return False
            self._rows, self._next = [], 0
            page = self.connection.session.fetch(
                self._sql,
                query_id=self._query_id,
                fetch_size=self.connection.info.fetch_size,
            )
            if page is None:
                self._query_id = None
                return False
            self._rows = decode_page(page, self._shape)
        return True

    def _release(self) -> None:
        """Forget the result; tell the server when it holds the rest of it."""
        query_id, self._query_id = self._query_id, None
        self._shape, self._rows, self._next = None, [], 0
        if query_id is not None and not self.connection.closed:
            try:
                self.connection.session.close_query(
                    query_id=query_id, statement_id=self._statement_id or 0
                )
            except Error:
                if not self.connection.closed:
                    raise
                # the connection broke: the server has released everything with it
