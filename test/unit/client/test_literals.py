from __future__ import annotations

import datetime as dt
import decimal
import math
import sys
import types

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.sql.tokens import PLAIN_TOKEN, unquote
from iotdb_client.errors import DataError, InterfaceError, ProgrammingError
from iotdb_client.literals import literal, render, split_statements
from iotdb_client.types import UNITS_PER_SECOND, timestamp_value

UTC = dt.timezone.utc
PLUS8 = dt.timezone(dt.timedelta(hours=8))


def rendered(sql, *parameters):
    return render(sql, parameters, UTC, "ms")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (-5, "-5"),
        (2**63 - 1, "9223372036854775807"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (math.nan, "NaN"),
        (np.float64(0.1), "0.1"),
        (np.int32(7), "7"),
        (np.bool_(True), "true"),
        (decimal.Decimal("1E+3"), "1000"),
        ("it's", r"'it\'s'"),
        ("a\\b", r"'a\\b'"),
        (b"x", "'x'"),
        (dt.date(1970, 1, 2), "86400000"),
        (dt.datetime(1970, 1, 1, 0, 0, 1, 500, tzinfo=UTC), "1000"),
        (dt.datetime(1970, 1, 1, 8, tzinfo=PLUS8), "0"),
    ],
)
def test_values(value, expected):
    assert literal(value, UTC, "ms") == expected


def test_naive_times_are_in_the_zone_of_the_connection():
    assert literal(dt.datetime(1970, 1, 1, 8), PLUS8, "us") == "0"  # noqa: DTZ001
    assert literal(dt.datetime(1970, 1, 1, 0, 0, 0, 7), UTC, "ns") == "7000"  # noqa: DTZ001


@pytest.mark.parametrize("value", [math.inf, -math.inf, decimal.Decimal("NaN"), b"\xff", "\ud800"])
def test_values_without_a_literal(value):
    with pytest.raises(DataError):
        literal(value, UTC, "ms")


def test_other_types_are_refused():
    with pytest.raises(InterfaceError, match="object"):
        literal(object(), UTC, "ms")


@given(st.text())
def test_the_server_reads_any_text_as_one_literal_with_that_value(text):
    token = literal(text, UTC, "ms")
    match = PLAIN_TOKEN.match(token)
    assert match is not None
    assert match.lastgroup == "STRING"
    assert match.end() == len(token)
    assert unquote(token) == text


@given(st.lists(st.text(alphabet="'\"\\`?;a ", max_size=8), min_size=1, max_size=3))
def test_no_text_escapes_from_its_literal(texts):
    sql = rendered(
        "insert into root.d(time,a) values(1," + ",".join("?" * len(texts)) + ")", *texts
    )
    assert split_statements(sql) == [sql.strip()]


def test_placeholders_inside_quotes_stay():
    sql = "select `a?` from root.\"b?\".d where s = 'x?\\'?' and t > ?"
    assert rendered(sql, 5) == "select `a?` from root.\"b?\".d where s = 'x?\\'?' and t > 5"


@pytest.mark.parametrize("parameters", [(), (1,), (1, 2, 3)])
def test_wrong_numbers_of_parameters(parameters):
    with pytest.raises(ProgrammingError, match=f"2 placeholders, {len(parameters)}"):
        rendered("values(?,?)", *parameters)


@pytest.mark.parametrize("parameters", ["ab", {"a": 1}, 5])
def test_parameters_that_are_no_sequence(parameters):
    with pytest.raises(ProgrammingError, match="sequence"):
        render("values(?,?)", parameters, UTC, "ms")


def test_statements_are_split_outside_quotes():
    assert split_statements("a ';' ; b \";\";;  `;` c\n;") == ["a ';'", 'b ";"', "`;` c"]
    assert split_statements("") == []
    assert split_statements("it's; one") == ["it's", "one"]  # an open quote hides nothing


MOMENT = "2024-01-01T00:00:00.123456789"
UNITS = {"ms": 1704067200123, "us": 1704067200123456, "ns": 1704067200123456789}


@pytest.mark.parametrize("precision", ["ms", "us", "ns"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_moments_of_numpy_and_pandas_are_moments(precision, unit):
    coarse = min(precision, unit, key=["ms", "us", "ns"].index)
    factor = UNITS_PER_SECOND[precision] // UNITS_PER_SECOND[coarse]
    expected = UNITS[coarse] * factor
    moment = np.datetime64(MOMENT).astype(f"datetime64[{unit}]")
    for value in (moment, pd.Timestamp(moment), pd.Timestamp(moment, tz="UTC")):
        assert literal(value, UTC, precision) == str(expected)
        assert timestamp_value(value, UTC, precision) == expected


def test_what_pandas_and_numpy_have_for_null_is_null():
    for value in (pd.NaT, pd.NA, np.datetime64("NaT", "ns")):
        assert literal(value, UTC, "ms") == "null"
        assert timestamp_value(value, UTC, "ms") is None


def test_numbers_of_numpy_are_times():
    assert timestamp_value(np.int64(7), UTC, "ms") == 7
    assert timestamp_value(np.bool_(True), UTC, "ms") is None
    with pytest.raises(InterfaceError, match="timedelta64"):
        literal(np.timedelta64(5, "ns"), UTC, "ms")


def test_parameters_while_another_thread_imports_pandas(monkeypatch):
    """A module that is being imported has nothing in it yet."""
    monkeypatch.setitem(sys.modules, "pandas", types.ModuleType("pandas"))
    assert render("? ? ?", (1, None, "x"), UTC, "ms") == "1 null 'x'"
