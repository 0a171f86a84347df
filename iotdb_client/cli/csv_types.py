"""What the cells of a CSV file mean: data types of columns, times. Pure functions of text."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from iotdb_client.tablet import is_infinite, outside
from iotdb_client.types import UNITS_PER_SECOND, DataType, timestamp_of

_BOOLEANS = {"true": True, "false": False}
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1

_BEYOND_FLOAT = float.fromhex("0x1.ffffffp+127")
"""From here on a number of 64 bits is infinite when it is rounded to 32."""

_ISO = re.compile(
    r"(?P<date>\d{4}[-/.]\d{1,2}[-/.]\d{1,2})"
    r"(?:(?:[Tt]| +)(?P<h>\d{1,2}):(?P<m>\d{2})(?::(?P<s>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r" ?(?P<offset>[Zz]|[+-]\d{2}:?\d{2})?)?\Z"
)
_NUMBER_UNITS = ("s", "ms", "us", "ns")

TimeParser = Callable[[str], int]
"""Cell → timestamp in the server's precision unit; ValueError with a reason."""


# ---- types of columns ----


class ColumnGuess:
    """The narrowest of BOOLEAN, INT64, DOUBLE, TEXT that holds every cell seen so far."""

    def __init__(self) -> None:
        self._kind: DataType | None = None
        self._empty_texts = False

    @property
    def kind(self) -> DataType | None:
        """The type, or None when no cell had a value."""
        if self._kind is None and self._empty_texts:
            return DataType.TEXT
        return self._kind

    def add_empty_text(self) -> None:
        """Take into account that an empty text was seen: some programs write null like that."""
        self._empty_texts = True

    def add(self, cells: Sequence[str]) -> None:
        """Take more cells into account; empty ones say nothing."""
        if self._kind is DataType.TEXT:
            return
        present = [cell for cell in cells if cell]
        if not present:
            return
        found = _narrowest(present)
        if self._kind is None or self._kind is found:
            self._kind = found
        elif {self._kind, found} == {DataType.INT64, DataType.DOUBLE}:
            self._kind = DataType.DOUBLE
        else:
            self._kind = DataType.TEXT


def _narrowest(cells: Sequence[str]) -> DataType:
    # whole columns at a time: int and float over a list cost a fraction of a loop with tests
    text = "".join(cells)
    if not text.isascii() or "_" in text:  # int("1_0") and int("١") are Python's, not data's
        return DataType.TEXT
    try:
        numbers = list(map(int, cells))
    except ValueError:
        pass
    else:
        inside = min(numbers) >= _INT64_MIN and max(numbers) <= _INT64_MAX
        return DataType.INT64 if inside else DataType.DOUBLE
    try:
        list(map(float, cells))
    except ValueError:
        pass
    else:
        return DataType.DOUBLE
    if all(cell.lower() in _BOOLEANS for cell in cells):
        return DataType.BOOLEAN
    return DataType.TEXT


def parse_type(name: str) -> DataType:
    """Return a type by its name; ValueError naming what is allowed."""
    try:
        return DataType[name.strip().upper()]
    except KeyError:
        allowed = ", ".join(kind.name for kind in DataType)
        raise ValueError(f"{name!r} is not a type; types are {allowed}") from None


def cell_parser(kind: DataType) -> Callable[[str], Any]:
    """Return the function that reads a cell of a type; ValueError with a reason."""
    if kind is DataType.BOOLEAN:
        return _boolean
    if kind is DataType.INT32:
        return lambda cell: _whole(cell, _INT32_MIN, _INT32_MAX)
    if kind is DataType.INT64:
        return lambda cell: _whole(cell, _INT64_MIN, _INT64_MAX)
    if kind is DataType.TEXT:
        return str
    beyond = _BEYOND_FLOAT if kind is DataType.FLOAT else math.inf
    return lambda cell: _floating(cell, kind, beyond)


def _boolean(cell: str) -> bool:
    try:
        return _BOOLEANS[cell.lower()]
    except KeyError:
        raise ValueError(f"{cell!r} is neither true nor false") from None


def _whole(cell: str, low: int, high: int) -> int:
    value = _number(cell, int)
    if not low <= value <= high:
        raise ValueError(f"{cell} is outside {low} to {high}")
    return int(value)


def _floating(cell: str, kind: DataType, beyond: float) -> float:
    value = _number(cell)
    if abs(value) >= beyond and not is_infinite(cell):
        raise ValueError(outside(cell, kind))
    return value


def _number(cell: str, kind: type[int] | type[float] = float) -> float:
    try:
        if "_" in cell:
            raise ValueError
        return kind(cell)
    except ValueError:
        word = "whole number" if kind is int else "number"
        raise ValueError(f"{cell!r} is not a {word}") from None


# ---- times ----


def time_parser(time_format: str, zone: dt.tzinfo, precision: str) -> TimeParser:
    """Return the function that reads a time cell.

    Args:
        time_format: `iso` (dates, with or without time and offset; whole numbers are taken as
            they are), a unit `s`, `ms`, `us`, `ns` of numbers since 1970 UTC, or a strptime format.
        zone: of times that name no offset.
        precision: unit of the result.

    Raises:
        ValueError: the format is none of these.
    """
    if time_format in _NUMBER_UNITS:
        return _unit_parser(UNITS_PER_SECOND.get(time_format, 1), precision)
    if time_format == "iso":
        return lambda cell: _parse_iso(cell, zone, precision)
    if "%" not in time_format:
        raise ValueError(
            f"{time_format!r} is no time format: use iso, s, ms, us, ns, or a format such as "
            "%d.%m.%Y %H:%M"
        )

    def by_format(cell: str) -> int:
        return timestamp_of(dt.datetime.strptime(cell, time_format), zone, precision)  # noqa: DTZ007

    return by_format


def _unit_parser(per_second: int, precision: str) -> TimeParser:
    target = UNITS_PER_SECOND[precision]

    def parse(cell: str) -> int:
        try:
            return _in_range(int(cell) * target // per_second)
        except ValueError:
            pass
        try:
            value = decimal.Decimal(cell) * target / per_second
            return _in_range(int(value.to_integral_value(decimal.ROUND_FLOOR)))
        except (decimal.InvalidOperation, OverflowError, ValueError):
            raise ValueError(f"{cell!r} is not a time in numbers") from None

    return parse


def _parse_iso(cell: str, zone: dt.tzinfo, precision: str) -> int:
    match = _ISO.match(cell)
    if match is None:
        try:
            return _in_range(int(cell))
        except ValueError:
            raise ValueError(f"{cell!r} is not a time like 2013-12-02 21:15:00") from None
    year, month, day = map(int, re.split(r"[-/.]", match["date"]))
    moment = dt.datetime(
        year,
        month,
        day,
        int(match["h"] or 0),
        int(match["m"] or 0),
        int(match["s"] or 0),
        tzinfo=_offset(match["offset"]) or zone,
    )
    per_second = UNITS_PER_SECOND[precision]
    nanoseconds = int((match["fraction"] or "").ljust(9, "0"))
    whole = timestamp_of(moment, zone, precision)
    return _in_range(whole + nanoseconds * per_second // 1_000_000_000)


def _offset(text: str | None) -> dt.tzinfo | None:
    if text is None:
        return None
    if text in "Zz":
        return dt.timezone.utc
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return dt.timezone(dt.timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _in_range(value: int) -> int:
    if not _INT64_MIN <= value <= _INT64_MAX:
        raise ValueError(f"time {value} does not fit 64 bits")
    return value
