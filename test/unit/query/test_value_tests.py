from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.query.where import value_test
from cluster.scan.value_tests import LikePattern, compiled
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.statements.select import Comparison, ValueCompare, ValueIn, ValueRegexp
from iotdb_engine.types import BATCH_DTYPES, DataType

NAN = float("nan")


def series(data_type):
    return SeriesInfo(1, "root.sg", "root.sg.d", "s", data_type, 0, 1, False)


def number(text):
    return Literal(LiteralKind.NUMBER, text)


def compare_test(info, op, literal):
    return compiled(value_test(ValueCompare("s", op, literal), info))


def in_test(info, literals):
    return compiled(value_test(ValueIn("s", tuple(literals)), info))


def regexp_test(info, pattern):
    return compiled(value_test(ValueRegexp("s", pattern), info))


def passed(test, values, data_type):
    return test(np.array(values, dtype=BATCH_DTYPES[data_type])).tolist()


def java_compare(a: float, b: float) -> int:
    """Double.compare up to the signs of zero: NaN equals itself and is above all else."""
    if a != a or b != b:
        return (a != a) - (b != b)
    return (a > b) - (a < b)


@given(
    st.lists(st.sampled_from([NAN, float("inf"), float("-inf"), -1.5, 0.0, 3.0, 7.25])),
    st.sampled_from(["-1.5", "3", "NaN"]),
    st.sampled_from(list(Comparison)),
    st.sampled_from([DataType.FLOAT, DataType.DOUBLE]),
)
def test_floats_compare_as_in_java(values, text, op, data_type):
    literal = Literal(LiteralKind.NAN, text) if text == "NaN" else number(text)
    other = float(text)
    outcome = {
        Comparison.EQ: lambda c: c == 0,
        Comparison.NE: lambda c: c != 0,
        Comparison.LT: lambda c: c < 0,
        Comparison.LE: lambda c: c <= 0,
        Comparison.GT: lambda c: c > 0,
        Comparison.GE: lambda c: c >= 0,
    }[op]
    expected = [outcome(java_compare(value, other)) for value in values]
    test = compare_test(series(data_type), op, literal)
    assert passed(test, values, data_type) == expected


def test_integers_compare_exactly():
    big = 2**53 + 1
    test = compare_test(series(DataType.INT64), Comparison.GT, number(str(big)))
    assert passed(test, [big - 1, big, big + 1], DataType.INT64) == [False, False, True]


def test_floats_find_what_was_written():
    test = compare_test(series(DataType.FLOAT), Comparison.EQ, number("3.33"))
    assert passed(test, [3.33, 3.34], DataType.FLOAT) == [True, False]


def test_in():
    assert passed(
        in_test(series(DataType.INT32), [number("1"), number("3")]), [1, 2, 3], DataType.INT32
    ) == [True, False, True]
    nan = in_test(series(DataType.DOUBLE), [number("1"), Literal(LiteralKind.NAN, "NaN")])
    assert passed(nan, [NAN, 1.0, 2.0], DataType.DOUBLE) == [True, True, False]
    text = in_test(series(DataType.TEXT), [Literal(LiteralKind.STRING, "a"), number("1")])
    assert passed(text, [b"a", b"1", b"b", 0], DataType.TEXT) == [True, True, False, False]


def test_texts_with_zero_bytes_stay_different():
    test = compare_test(series(DataType.TEXT), Comparison.EQ, Literal(LiteralKind.STRING, "a"))
    assert passed(test, [b"a", b"a\0", b""], DataType.TEXT) == [True, False, False]


def slow_like(pattern: str, text: str) -> bool:
    """LIKE without escapes, by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(slow_like(pattern[1:], text[n:]) for n in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and slow_like(pattern[1:], text[1:])


@given(st.text("ab%_.", max_size=6), st.text("ab.\n", max_size=6))
def test_like_equals_the_slow_twin(pattern, text):
    assert LikePattern(pattern).matches(text) == slow_like(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"6\%%", "6%16", True),
        (r"6\%%", "616", False),
        (r"%\%", "123%", True),
        (r"\_", "_", True),
        (r"\_", "a", False),
        (r"%\\\\%", "a\\b", True),
        (r"a\b", "ab", True),
    ],
)
def test_like_escapes(pattern, text, matches):
    assert LikePattern(pattern).matches(text) is matches


def test_like_takes_no_ages():
    started = time.thread_time()
    assert not LikePattern("%a" * 40 + "b").matches("a" * 20_000)
    assert time.thread_time() - started < 5


def test_regexp_finds_anywhere_and_bad_ones_are_refused():
    test = regexp_test(series(DataType.TEXT), "[0-9]+é")
    assert passed(test, ["x12é".encode(), b"12", b"\xff"], DataType.TEXT) == [True, False, False]
    with pytest.raises(ClusterError, match="is not a regular expression"):
        regexp_test(series(DataType.TEXT), "(")
