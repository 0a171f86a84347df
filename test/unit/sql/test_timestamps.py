from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.sql.timestamps import (
    Duration,
    parse_datetime,
    parse_duration,
    parse_zone,
    shift_time,
)

UTC = timezone.utc


def hours(zone, year=2022, month=1):
    return datetime(year, month, 1, tzinfo=UTC).astimezone(zone).utcoffset() / timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("Z", 0),
        ("UTC", 0),
        ("GMT", 0),
        ("UT", 0),
        ("+8", 8),
        ("+08", 8),
        ("+0530", 5.5),
        ("-03:30", -3.5),
        ("+08:00:00", 8),
        ("UTC+8", 8),
        ("UTC+08:00", 8),
        ("GMT-5", -5),
        ("UT+01:00", 1),
        ("Asia/Shanghai", 8),
        ("+18:00", 18),
    ],
)
def test_zone_spellings(text, offset):
    assert hours(parse_zone(text)) == offset


@pytest.mark.parametrize(
    "text", ["", "Mars/Base", "+25:00", "+18:01", "08:00", "../etc/passwd", "+1:2"]
)
def test_what_is_no_zone(text):
    with pytest.raises(ValueError, match="is not a time zone"):
        parse_zone(text)


@given(
    st.datetimes(datetime(1000, 1, 1), datetime(9998, 1, 1)),  # noqa: DTZ001
    st.sampled_from("-/."),
    st.sampled_from("T "),
    st.integers(-17, 17),
)
def test_dates_agree_with_datetime(moment, separator, join, offset):
    zone = timezone(timedelta(hours=offset))
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    date = f"{moment.year}{separator}{moment.month:02}{separator}{moment.day:02}"
    text = f"{date}{join}{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
    expected = (moment.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        milliseconds=1
    )
    assert parse_datetime(text, zone, "ms") == expected
    assert parse_datetime(f"{text}+00:00", zone, "ms") == expected + offset * 3_600_000


def test_fractions_are_cut_to_the_precision():
    text = "1970-01-01T00:00:01.123456789Z"
    assert [parse_datetime(text, UTC, unit) for unit in ("ms", "us", "ns")] == [
        1123,
        1_123_456,
        1_123_456_789,
    ]


def test_years_beyond_9999():
    assert parse_datetime("12022-01-01T00:00:00Z", UTC, "ms") == (
        parse_datetime("2022-01-01T00:00:00Z", UTC, "ms") + 25 * 146097 * 86_400_000
    )


def test_offset_is_that_of_now_in_zones_with_daylight_saving():
    zone = parse_zone("Europe/Berlin")
    winter, summer = 1_642_000_000_000, 1_657_000_000_000
    at_winter = parse_datetime("2022-07-01T12:00:00", zone, "ms", now=winter)
    at_summer = parse_datetime("2022-07-01T12:00:00", zone, "ms", now=summer)
    assert at_winter - at_summer == 3_600_000


@pytest.mark.parametrize(
    "text",
    [
        "2022-13-01T00:00:00",
        "2022-02-29T00:00:00",
        "2022-01-01T24:00:00",
        "2022-01-01T00:60:00",
        "2022-1-1 00:00:00",
        "2022-1-1",
        "2022/1/1",
        "2022-01-01T00:00:00.1",
        "22-01-01",
        "2022-01-01T0:0:0",
        "2022-01/01",
        "2022-01-01T00:00:00+25:00",
        "999999999-01-01T00:00:00",
    ],
)
def test_what_is_no_date(text):
    with pytest.raises(ValueError, match=r"error|outside"):
        parse_datetime(text, UTC, "ms")


@pytest.mark.parametrize("text", ["2022-1-1T00:00:00", "2022/1/1 00:00:00", "2022.1.1T00:00:00"])
def test_single_digits_where_0_13_takes_them(text):
    assert parse_datetime(text, UTC, "ms") == 1_640_995_200_000


@pytest.mark.parametrize("text", ["2022-01-01", "2022/01/01", "2022.01.01"])
def test_dates_of_ten_characters_are_starts_of_days(text):
    assert parse_datetime(text, UTC, "ms") == 1_640_995_200_000


def test_durations():
    assert parse_duration("1h30m", "ms") == Duration(0, 5_400_000)
    assert parse_duration("1Y2MO1w", "ms") == Duration(2, (365 + 7) * 86_400_000)
    assert parse_duration("1500us", "ms") == Duration(0, 1)
    assert parse_duration("1500us", "ns") == Duration(0, 1_500_000)
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration("1x", "ms")
    assert parse_duration(f"{2**63 - 1}ms", "ms").units == 2**63 - 1
    for too_long in (f"{2**63}ns", f"{2**63}mo", "9" * 25 + "ns1y"):
        with pytest.raises(ValueError, match="longer than 64 bits"):
            parse_duration(too_long, "ns")


def test_months_are_calendar_months_in_the_zone():
    zone = parse_zone("+08:00")
    march_31 = parse_datetime("2022-03-31T10:00:00.250", zone, "ms")
    assert shift_time(march_31, Duration(1, 0), -1, zone, "ms") == parse_datetime(
        "2022-02-28T10:00:00.250", zone, "ms"
    )
    assert shift_time(march_31, Duration(11, 5), 1, zone, "ms") == parse_datetime(
        "2023-02-28T10:00:00.255", zone, "ms"
    )
    with pytest.raises(ValueError, match="no such date"):
        shift_time(march_31, Duration(10**6, 0), 1, zone, "ms")
    with pytest.raises(ValueError, match="64 bits"):
        shift_time(2**63 - 1, Duration(0, 1), 1, zone, "ms")
