"""INSERT statements as the driver understands them: which may be repeated, which become tablets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from iotdb_client.errors import DataError, Error, ProgrammingError
from iotdb_client.literals import literal, named_values, render
from iotdb_client.tablet import OutOfRange, encode_columns, series_of
from iotdb_client.types import DataType, plain_value, timestamp_value

if TYPE_CHECKING:
    from iotdb_client.connection import Connection

_QUERY = re.compile(r"\s*(?:select|show|count|list|tracing|describe|desc)\b", re.IGNORECASE)
_INTO = re.compile(r"\binto\b", re.IGNORECASE)
_INSERT = re.compile(
    r"""\s*insert\s+into\s+(?P<device>[^\s()]+)\s*
        \(\s*time(?:stamp)?\s*,(?P<names>[^()]+)\)\s*
        (?P<aligned>aligned\s+)?values\s*\((?P<values>.*)\)\s*;?\s*""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_NOW = re.compile(r"\bnow\s*\(", re.IGNORECASE)
_OF_THE_CLOCK = re.compile(
    r"""\s*insert\s+into\s+(?:`[^`]*`|[^\s(`])+\s*
        \(\s*(?:(?!time(?:stamp)?\s*[,)])
              |time(?:stamp)?\s*,(?:`[^`]*`|[^()`])*\)\s*(?:aligned\s+)?values\s*\(\s*now\s*\(\s*\)\s*,)""",
    re.IGNORECASE | re.VERBOSE,
)
_MARK = re.compile(r"\?|:([A-Za-z_]\w*)")
_PLAIN_NAME = re.compile(r"\w+")

_ROWS = 10_000
_BYTES = 4_000_000


def is_query(sql: str) -> bool:
    """Whether a statement has a result, by its first word."""
    return _QUERY.match(sql) is not None


def is_repeatable(sql: str) -> bool:
    """Whether a statement run twice leaves what it leaves when it is run once.

    Queries do, and INSERTs whose times are written out: a point is told by its time.
    """
    if is_query(sql):
        return _INTO.search(sql) is None
    return _INSERT.fullmatch(sql) is not None and _NOW.search(sql) is None


def takes_time_of_clock(sql: str) -> bool:
    """Whether an INSERT has its row's time from the server's clock: names none, or says now()."""
    return _OF_THE_CLOCK.match(sql) is not None


class InsertMany:
    """`INSERT INTO device(time, a, b) VALUES (?, ?, ?)` over many rows, as tablets.

    The types are those that the series have. Where one does not exist yet, the first rows go as
    SQL, so that the server infers types as it does for any INSERT.

    Args:
        order: for each column (time first) the position, or the name, of its parameter.
    """

    def __init__(
        self,
        connection: Connection,
        sql: str,
        device: str,
        measurements: list[str],
        order: Sequence[int | str],
        *,
        aligned: bool,
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._device = device
        self._measurements = measurements
        self._order = order
        self._aligned = aligned

    @classmethod
    def of(cls, sql: str, connection: Connection) -> InsertMany | None:
        """Return the plan for a statement, or None when it is no INSERT of that shape."""
        match = _INSERT.fullmatch(sql)
        if match is None:
            return None
        names = [name.strip() for name in match["names"].split(",")]
        marks = [_MARK.fullmatch(text.strip()) for text in match["values"].split(",")]
        if len(marks) != len(names) + 1 or len(set(names)) != len(names):
            return None
        if not all(_PLAIN_NAME.fullmatch(name) for name in names) or "`" in match["device"]:
            return None  # quoted names stand in tablets otherwise than in SQL
        order: list[int | str] = []
        for number, mark in enumerate(marks):
            if mark is None:
                return None
            order.append(mark[1] if mark[1] is not None else number)
        if len({type(item) for item in order}) != 1:
            return None
        return cls(
            connection, sql, match["device"], names, order, aligned=match["aligned"] is not None
        )

    def run(self, rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> Iterator[int]:
        """Write the rows, request by request; yields how many each had."""
        written = 0
        for batch in self._batches(rows):
            if self._as_tablet(batch, written + 1):
                yield len(batch)
            else:
                yield from self._as_text(batch, written + 1)
            written += len(batch)

    def _batches(
        self, rows: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> Iterator[list[list[Any]]]:
        """Cut into tablets of bounded size; rows have the order of the columns."""
        count = max(1, min(_ROWS, _BYTES // (16 * len(self._order))))
        source = iter(rows)
        numbered = enumerate(source, start=1)
        while batch := [self._ordered(number, row) for number, row in islice(numbered, count)]:
            yield batch

    def _ordered(self, number: int, row: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
        try:
            if isinstance(self._order[0], str):
                return named_values(row, self._order)
            if not hasattr(row, "__getitem__"):  # nor has a set an order
                raise ProgrammingError("parameters are a sequence, for instance a tuple")
            if isinstance(row, (str, bytes, Mapping)) or len(row) != len(self._order):
                # the usual error for wrong parameters
                render(self._sql, row, self._connection.zone, self._connection.timestamp_precision)
        except ProgrammingError as error:
            raise ProgrammingError(f"row {number}: {error}") from error
        return list(row)

    def _as_tablet(self, batch: list[list[Any]], first: int, *, plain: bool = False) -> bool:
        """Write rows as a tablet; False when that would not do what the SQL does.

        Args:
            batch: rows.
            first: the number of the first one.
            plain: they are free of NumPy's and pandas' scalars, which cost a look at each value.

        Raises:
            DataError: a number is outside the range of its FLOAT or DOUBLE; nothing was sent. As
                SQL it would be refused, too, but the rows beside it be written.
        """
        types = self._connection.series_types(self._device, self._measurements)
        if types is None:
            return False
        connection = self._connection
        zone, precision = connection.zone, connection.timestamp_precision
        stamps = [timestamp_value(row[0], zone, precision) for row in batch]
        times = [time for time in stamps if time is not None]
        columns = list(zip(*batch, strict=True))[1:]
        fitting = all(_fits(kind, column) for kind, column in zip(types, columns, strict=True))
        if len(times) < len(batch) or not fitting:
            if plain:
                self._check_ranges(types, columns, first)
                return False
            kinds = [None, *types]
            rows = [
                [_plain(value, kind, precision) for value, kind in zip(row, kinds, strict=True)]
                for row in batch
            ]
            return self._as_tablet(rows, first, plain=True)
        try:
            connection.session.insert_tablet(
                self._device,
                self._measurements,
                types,
                times,
                columns,
                aligned=connection.is_aligned(self._device, assumed=self._aligned),
            )
        except OutOfRange as error:
            raise DataError(f"row {first + error.row}: {error}") from error
        except Error as error:
            if isinstance(error, DataError) and error.status is None:
                self._check_ranges(types, columns, first)
                return False  # nothing was sent: a value that SQL refuses as well, or converts
            connection.forget_series(self._device)
            raise
        return True

    def _check_ranges(
        self, types: Sequence[DataType], columns: Sequence[Sequence[Any]], first: int
    ) -> None:
        for name, kind, column in zip(self._measurements, types, columns, strict=True):
            if kind not in (DataType.FLOAT, DataType.DOUBLE):
                continue
            numbers = [cell if isinstance(cell, (int, float, Decimal)) else None for cell in column]
            try:
                with series_of(self._device):
                    encode_columns([name], [kind], [numbers], len(numbers))
            except OutOfRange as error:
                raise DataError(f"row {first + error.row}: {error}") from error

    def _as_text(self, batch: list[list[Any]], first: int) -> Iterator[int]:
        """Write rows as statements; `first` is the number of the first row."""
        session = self._connection.session
        texts = [self._text(row, number) for number, row in enumerate(batch, start=first)]
        # the first by itself: it creates what is missing
        session.execute_batch(texts[:1], repeatable=is_repeatable(texts[0]), first=first)
        yield 1
        if len(texts) > 1 and self._as_tablet(batch[1:], first + 1):
            yield len(texts) - 1
            return
        for start in range(1, len(texts), 1000):
            part = texts[start : start + 1000]
            repeatable = all(map(is_repeatable, part))
            session.execute_batch(part, repeatable=repeatable, first=first + start)
            yield len(part)

    def _text(self, row: list[Any], number: int) -> str:
        connection = self._connection
        zone, precision = connection.zone, connection.timestamp_precision
        head = self._sql[: self._sql.lower().rindex("values")]
        try:
            values = ", ".join(literal(value, zone, precision) for value in row)
        except Error as error:
            raise type(error)(f"row {number}: {error}") from error
        return f"{head}values({values})"


_FITTING: dict[DataType, tuple[type, ...]] = {
    DataType.BOOLEAN: (bool,),
    DataType.INT32: (int,),
    DataType.INT64: (int,),
    DataType.FLOAT: (int, float),
    DataType.DOUBLE: (int, float),
    DataType.TEXT: (str, bytes),
}


def _plain(value: Any, kind: DataType | None, precision: str) -> Any:  # noqa: ANN401
    """Return a value without NumPy and pandas; the latter's texts are NaN where they are null."""
    found = plain_value(value, precision)
    if kind is DataType.TEXT and isinstance(found, float) and found != found:
        return None
    return found


def _fits(kind: DataType, column: Sequence[Any]) -> bool:
    """Whether a column's values mean in a tablet what their literals mean in SQL."""
    allowed = _FITTING[kind]
    found = set(map(type, column)) - {type(None)}
    return found <= set(allowed)
