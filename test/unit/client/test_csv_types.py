from __future__ import annotations

import datetime as dt

import pytest

from iotdb_client.cli.csv_types import ColumnGuess, cell_parser, parse_type, time_parser
from iotdb_client.types import DataType

UTC = dt.timezone.utc
PLUS8 = dt.timezone(dt.timedelta(hours=8))


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([["1", "-2", ""]], DataType.INT64),
        ([["1"], ["2.5"]], DataType.DOUBLE),
        ([["2.5"], ["1"]], DataType.DOUBLE),
        ([["1e3", "nan"]], DataType.DOUBLE),
        ([["9223372036854775807"]], DataType.INT64),
        ([["9223372036854775808"]], DataType.DOUBLE),
        ([["true"], ["False"]], DataType.BOOLEAN),
        ([["true"], ["1"]], DataType.TEXT),
        ([["1"], ["x"], ["2"]], DataType.TEXT),
        ([["1_000"]], DataType.TEXT),
        ([["١"]], DataType.TEXT),
        ([["0x10"]], DataType.TEXT),
        ([["", ""]], None),
        ([[""], ["1"]], DataType.INT64),
    ],
)
def test_columns_are_guessed_over_all_blocks(blocks, expected):
    guess = ColumnGuess()
    for block in blocks:
        guess.add(block)
    assert guess.kind is expected


@pytest.mark.parametrize(
    ("kind", "cell", "expected"),
    [
        (DataType.BOOLEAN, "TRUE", True),
        (DataType.INT32, "-7", -7),
        (DataType.INT64, "9007199254740993", 9007199254740993),
        (DataType.FLOAT, "1.5", 1.5),
        (DataType.FLOAT, "3.4028235e38", 3.4028235e38),
        (DataType.DOUBLE, "-1.7976931348623157e308", -1.7976931348623157e308),
        (DataType.TEXT, " a ", " a "),
    ],
)
def test_cells(kind, cell, expected):
    assert cell_parser(kind)(cell) == expected


@pytest.mark.parametrize(
    ("kind", "cell", "message"),
    [
        (DataType.BOOLEAN, "1", "neither true nor false"),
        (DataType.INT32, "2147483648", "outside"),
        (DataType.INT64, "1.5", "whole number"),
        (DataType.INT64, "1_0", "whole number"),
        (DataType.DOUBLE, "x", "not a number"),
    ],
)
def test_cells_of_another_type(kind, cell, message):
    with pytest.raises(ValueError, match=message):
        cell_parser(kind)(cell)


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        (DataType.DOUBLE, "1e999"),
        (DataType.DOUBLE, "-1e309"),
        (DataType.DOUBLE, "1" + "0" * 400),
        (DataType.FLOAT, "1e999"),
        (DataType.FLOAT, "-3.4028236e38"),
    ],
)
def test_numbers_that_would_become_infinite(kind, cell):
    """SQL refuses them, too."""
    with pytest.raises(ValueError, match=rf"is outside -.* to .*, the range of {kind.name}"):
        cell_parser(kind)(cell)


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity", "+INF", "-infinity"])
@pytest.mark.parametrize("kind", [DataType.FLOAT, DataType.DOUBLE])
def test_what_is_said_to_be_infinite(kind, cell):
    """As exports write it."""
    assert cell_parser(kind)(cell) == float(cell)


def test_type_names():
    assert parse_type(" double ") is DataType.DOUBLE
    with pytest.raises(ValueError, match="BOOLEAN, INT32"):
        parse_type("number")


@pytest.mark.parametrize(
    ("cell", "zone", "precision", "expected"),
    [
        ("2013-12-02 21:15:00", UTC, "ms", 1386018900000),
        ("2013-12-02T21:15:00Z", PLUS8, "ms", 1386018900000),
        ("2013-12-03 05:15:00", PLUS8, "ms", 1386018900000),
        ("2013/12/3 5:15+08:00", UTC, "ms", 1386018900000),
        ("2013-12-02 21:15:00.5", UTC, "ms", 1386018900500),
        ("2013-12-02 21:15:00.123456789", UTC, "ns", 1386018900123456789),
        ("2013-12-02 21:15:00,123456789", UTC, "us", 1386018900123456),
        ("1970-01-02", UTC, "ms", 86400000),
        ("1969-12-31 23:59:59.999", UTC, "ms", -1),
        ("-5", UTC, "ms", -5),
        ("1386018900000", PLUS8, "ms", 1386018900000),
    ],
)
def test_iso_times(cell, zone, precision, expected):
    assert time_parser("iso", zone, precision)(cell) == expected


@pytest.mark.parametrize(
    ("time_format", "cell", "precision", "expected"),
    [
        ("s", "1386018900", "ms", 1386018900000),
        ("s", "1386018900.25", "ms", 1386018900250),
        ("ns", "-1", "ms", -1),
        ("ns", "1999999", "ms", 1),
        ("us", "5", "ns", 5000),
        ("%d.%m.%Y %H:%M", "02.12.2013 21:15", "ms", 1386018900000),
        ("%Y-%m-%d %H:%M:%S %z", "2013-12-03 05:15:00 +0800", "ms", 1386018900000),
    ],
)
def test_other_formats(time_format, cell, precision, expected):
    assert time_parser(time_format, UTC, precision)(cell) == expected


@pytest.mark.parametrize(
    ("time_format", "cell"),
    [
        ("iso", "yesterday"),
        ("iso", "2013-13-02 21:15:00"),
        ("iso", "2013-12-02 25:15:00"),
        ("iso", ""),
        ("iso", "9223372036854775808"),
        ("s", "x"),
        ("s", "99999999999999999999"),
        ("s", "NaN"),
        ("%Y", "x"),
    ],
)
def test_cells_that_are_no_times(time_format, cell):
    with pytest.raises(ValueError, match=r"\S"):
        time_parser(time_format, UTC, "ms")(cell)


def test_formats_that_are_none():
    with pytest.raises(ValueError, match="minutes"):
        time_parser("minutes", UTC, "ms")
