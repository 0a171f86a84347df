"""Time zones, date literals and durations (sql.md 1.11; client-protocol 4.1 for zone spellings).

A timestamp is a signed 64-bit count of precision units ("ms", "us", "ns") since 1970-01-01 UTC.
Everything here raises ValueError with a reason that can be shown to users.
"""

from __future__ import annotations

import calendar
import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from iotdb_engine.types import T_MAX, T_MIN

UNITS_PER_SECOND = {"ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}

_NS_PER_UNIT = {"ms": 1_000_000, "us": 1000, "ns": 1}

_ZONE_OFFSET = re.compile(
    r"(?:UTC|GMT|UT)?(?P<sign>[+-])(?P<h>\d{1,2})(?::?(?P<m>\d{2})(?::?(?P<s>\d{2}))?)?\Z"
)
_MAX_OFFSET_SECONDS = 18 * 3600

_DATETIME = re.compile(
    r"(?P<year>\d{4,})(?P<sep>[-/.])(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})"
    r"(?:(?P<join>[Tt]|[ \t]+)(?P<h>\d{2}):(?P<m>\d{2}):(?P<s>\d{2})"
    r"(?:\.(?P<fraction>\d{3}|\d{6}|\d{9}))?"
    r"(?P<offset>[Zz]|[+-]\d{2}:\d{2})?)?\Z"
)

_DURATION_PART = re.compile(r"(\d+)(mo|ms|us|ns|[ywdhms])", re.IGNORECASE)

_NS_PER_DURATION_UNIT = {
    "y": 365 * 86_400_000_000_000,
    "w": 7 * 86_400_000_000_000,
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1000,
    "ns": 1,
}

_SAMPLES = "2022-01-31T12:34:56, 2022/01/31 12:34:56.789, 2022.01.31T12:34:56+08:00, 2022-01-31"


_MAX_DIGITS = 1000
"""More are not converted: that takes time, and Python refuses it at some number."""


class Duration(NamedTuple):
    """A duration: calendar months, and precision units besides."""

    months: int
    units: int


_LONGEST_ZONE = 100


def parse_zone(text: str) -> tzinfo:
    """Return the zone of a Java ZoneId spelling: `Z`, `+8`, `+0800`, `+08:00`, `UTC+8`, IANA names.

    Raises:
        ValueError: not a zone.
    """
    name = text.strip()
    if len(name) > _LONGEST_ZONE:
        raise ValueError(f"'{name[:_LONGEST_ZONE]}…' is not a time zone: it is too long for one")
    return _zone_of(name)


@lru_cache(maxsize=1024)
def _zone_of(name: str) -> tzinfo:
    if name.upper() in ("Z", "UTC", "GMT", "UT"):
        return timezone.utc
    match = _ZONE_OFFSET.match(name)
    if match is not None:
        seconds = int(match["h"]) * 3600 + int(match["m"] or 0) * 60 + int(match["s"] or 0)
        if int(match["m"] or 0) > 59 or int(match["s"] or 0) > 59 or seconds > _MAX_OFFSET_SECONDS:
            raise ValueError(f"'{name}' is not a time zone: offsets go from -18:00 to +18:00")
        return timezone(timedelta(seconds=-seconds if match["sign"] == "-" else seconds))
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(
            f"'{name}' is not a time zone; give an offset such as +08:00 or a name such as "
            "Asia/Shanghai"
        ) from None


def parse_datetime(text: str, zone: tzinfo, precision: str, now: int = 0) -> int:
    """Return the timestamp of a date literal.

    Args:
        text: as lexed, e.g. `2022-01-31T12:34:56.789+08:00`.
        zone: used when the literal has no offset; its offset *at `now`* is taken, as 0.13 does,
            which differs from the offset at the literal's date in zones with daylight saving.
        precision: "ms", "us" or "ns"; finer digits are cut off.
        now: the present in precision units.

    Raises:
        ValueError: not a date, or outside the 64-bit range.
    """
    match = _DATETIME.match(text)
    if match is None or not _is_well_spaced(match):
        raise ValueError(f"Input time format {text} error. Input like {_SAMPLES}")
    if len(match["year"]) > _MAX_DIGITS:
        raise ValueError(f"time {text[:_MAX_DIGITS]}… is outside the range of 64 bits")
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    hour, minute, second = (int(match[field] or 0) for field in "hms")
    if not (1 <= month <= 12 and 1 <= day <= _days_in_month(year, month)) or (
        hour > 23 or minute > 59 or second > 59
    ):
        raise ValueError(f"Input time format {text} error: there is no such date or time")
    seconds = _days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    seconds -= _offset_seconds(match["offset"], zone, precision, now)
    nanoseconds = int((match["fraction"] or "").ljust(9, "0"))
    value = seconds * UNITS_PER_SECOND[precision] + nanoseconds // _NS_PER_UNIT[precision]
    return check_time(value, text)


def check_time(value: int, text: str) -> int:
    """Return `value` if it fits 64 bits; ValueError naming `text` otherwise."""
    if not T_MIN <= value <= T_MAX:
        raise ValueError(f"time {text} is outside the range of 64 bits")
    return value


def _is_well_spaced(match: re.Match[str]) -> bool:
    """Whether months and days have the digits that 0.13's formats ask for."""
    short = len(match["month"]) == 1 or len(match["day"]) == 1
    if match["join"] is None:  # date only: exactly ten characters
        return not short and len(match["year"]) == 4
    return not (short and match["sep"] == "-" and match["join"] not in "Tt")


def _days_in_month(year: int, month: int) -> int:
    # the calendar repeats every 400 years; monthrange knows years up to 9999
    return calendar.monthrange(2000 + year % 400, month)[1]


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Return days since 1970-01-01 of a proleptic Gregorian date of any year."""
    cycle, year_of_cycle = divmod(year, 400)
    ordinal = datetime(2000 + year_of_cycle, month, day, tzinfo=timezone.utc).toordinal()
    return ordinal - 719163 + (cycle - 5) * 146097


def _offset_seconds(offset: str | None, zone: tzinfo, precision: str, now: int) -> int:
    if offset is None:
        moment = datetime.fromtimestamp(now // UNITS_PER_SECOND[precision], tz=timezone.utc)
        delta = moment.astimezone(zone).utcoffset()
        return 0 if delta is None else int(delta.total_seconds())
    if offset in "Zz":
        return 0
    seconds = int(offset[1:3]) * 3600 + int(offset[4:6]) * 60
    if int(offset[4:6]) > 59 or seconds > _MAX_OFFSET_SECONDS:
        raise ValueError(f"time zone offset {offset} is outside -18:00 to +18:00")
    return -seconds if offset[0] == "-" else seconds


def parse_duration(text: str, precision: str) -> Duration:
    """Return a duration literal such as `1h30m`; parts finer than the precision are cut to units.

    Raises:
        ValueError: not a duration, or longer than all times.
    """
    months = units = end = 0
    for match in _DURATION_PART.finditer(text):
        if match.start() != end:
            break
        end = match.end()
        if len(match[1]) > _MAX_DIGITS:
            raise ValueError(f"duration {text[:_MAX_DIGITS]}… is longer than 64 bits can say")
        amount, unit = int(match[1]), match[2].lower()
        if unit == "mo":
            months += amount
        else:
            units += amount * _NS_PER_DURATION_UNIT[unit] // _NS_PER_UNIT[precision]
    if end != len(text) or not text:
        raise ValueError(f"{text} is not a duration; write e.g. 1h30m")
    if max(months, units) > T_MAX:
        raise ValueError(f"duration {text} is longer than 64 bits can say")
    return Duration(months, units)


def shift_time(time: int, duration: Duration, sign: int, zone: tzinfo, precision: str) -> int:
    """Return `time` moved by a duration; months are calendar months in `zone`.

    Args:
        time: in precision units.
        duration: what to add.
        sign: +1 or -1.
        zone: calendar of the months; a day that the month lacks becomes its last day.
        precision: unit of `time`.

    Raises:
        ValueError: the result is no representable date or time.
    """
    if duration.months:
        per_second = UNITS_PER_SECOND[precision]
        seconds, rest = divmod(time, per_second)
        try:
            local = datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone(zone)
            year, month = divmod(local.year * 12 + local.month - 1 + sign * duration.months, 12)
            day = min(local.day, calendar.monthrange(year, month + 1)[1])
            moved = local.replace(year=year, month=month + 1, day=day)
            time = int(moved.timestamp()) * per_second + rest
        except (ValueError, OverflowError, OSError, calendar.IllegalMonthError) as error:
            raise ValueError(f"{duration.months} months from {time}: no such date") from error
    time += sign * duration.units
    return check_time(time, str(time))
