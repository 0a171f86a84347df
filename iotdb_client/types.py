"""Data types: numbers on the wire, PEP 249 type objects and constructors."""

from __future__ import annotations

import datetime as dt
import sys
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np


class DataType(IntEnum):
    """Types of series by their numbers on the wire (0.13 `TSDataType`); frozen."""

    BOOLEAN = 0
    INT32 = 1
    INT64 = 2
    FLOAT = 3
    DOUBLE = 4
    TEXT = 5


TIME_COLUMN = "Time"
TIME_TYPE = "TIMESTAMP"
"""Type name of the Time column: int counts of the server's precision unit since 1970 UTC."""


class TypeObject:
    """Compares equal to the type names of its kind, as PEP 249 wants of `description`."""

    def __init__(self, name: str, *type_names: str) -> None:
        self._name = name
        self._type_names = frozenset(type_names)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TypeObject):
            return self._name == other._name
        return isinstance(other, str) and other in self._type_names

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return self._name


STRING = TypeObject("STRING", "TEXT", "STRING")
BINARY = TypeObject("BINARY", "BLOB")
NUMBER = TypeObject("NUMBER", "BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE")
DATETIME = TypeObject("DATETIME", TIME_TYPE, "DATE")
ROWID = TypeObject("ROWID")

Date = dt.date
Time = dt.time
Timestamp = dt.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> dt.date:  # noqa: N802 - the name is PEP 249's
    """Return the UTC date of seconds since 1970."""
    return TimestampFromTicks(ticks).date()


def TimeFromTicks(ticks: float) -> dt.time:  # noqa: N802 - the name is PEP 249's
    """Return the UTC time of day of seconds since 1970."""
    return TimestampFromTicks(ticks).timetz()


def TimestampFromTicks(ticks: float) -> dt.datetime:  # noqa: N802 - the name is PEP 249's
    """Return the UTC moment of seconds since 1970."""
    return dt.datetime.fromtimestamp(ticks, dt.timezone.utc)


class ColumnDescription(NamedTuple):
    """One element of `Cursor.description`; `type_code` compares to the type objects."""

    name: str
    type_code: str
    display_size: None = None
    internal_size: None = None
    precision: None = None
    scale: None = None
    null_ok: bool = True


# ---- time ----

UNITS_PER_SECOND = {"ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


def timestamp_of(moment: dt.datetime, zone: dt.tzinfo, precision: str) -> int:
    """Return a moment as a count of precision units since 1970 UTC.

    Args:
        moment: naive ones are wall-clock times in `zone`.
        zone: see there.
        precision: "ms", "us" or "ns"; finer digits are cut off.
    """
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    microseconds = (moment - _EPOCH) // dt.timedelta(microseconds=1)
    if precision == "ns":  # pandas' moments have these, too
        return microseconds * 1000 + getattr(moment, "nanosecond", 0)
    return microseconds * UNITS_PER_SECOND[precision] // 1_000_000


def plain_value(value: Any, precision: str) -> Any:  # noqa: ANN401
    """Return what a value of NumPy or pandas is in Python; others as they are.

    Args:
        value: a parameter; what those libraries have for null is None.
        precision: moments of NumPy become counts of that unit since 1970 UTC.
    """
    if isinstance(value, np.datetime64):
        if np.isnat(value):
            return None
        return int(value.astype(f"datetime64[{precision}]").astype(np.int64))
    if isinstance(value, np.generic):
        return value if isinstance(value, np.timedelta64) else value.item()
    pandas = sys.modules.get("pandas")
    # while another thread imports it, it has nothing in it yet, and nobody a value of it
    if value is getattr(pandas, "NaT", None) or value is getattr(pandas, "NA", None):
        return None
    return value


def timestamp_value(value: object, zone: dt.tzinfo, precision: str) -> int | None:
    """Return what a parameter means as a time, or None when it is no int, date or datetime."""
    if type(value) is int:
        return value
    value = plain_value(value, precision)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, dt.datetime):
        return timestamp_of(value, zone, precision)
    if isinstance(value, dt.date):
        return timestamp_of(dt.datetime.combine(value, dt.time()), zone, precision)
    return None


def iso_time(value: int, zone: dt.tzinfo, precision: str) -> str:
    """Render a timestamp as ISO 8601 in a zone; as a number outside the years 1 to 9999."""
    per_second = UNITS_PER_SECOND[precision]
    seconds, rest = divmod(value, per_second)
    try:
        moment = _moment(seconds, zone)
    except (OverflowError, ValueError):
        return str(value)
    date_time, offset = moment
    return f"{date_time}.{rest:0{len(str(per_second)) - 1}d}{offset}"


@lru_cache(maxsize=4096)
def _moment(seconds: int, zone: dt.tzinfo) -> tuple[str, str]:
    moment = (_EPOCH + dt.timedelta(seconds=seconds)).astimezone(zone)
    delta = moment.utcoffset() or dt.timedelta()
    text = moment.isoformat()
    return text[:19], "Z" if not delta else text[19:]
