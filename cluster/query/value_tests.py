"""Tests of one series' values against constants, as functions over arrays (sql.md 3.5).

NaN is compared as Java does: equal to itself and greater than every other number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import ClusterError, StatusCode
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.literals import Literal
from cluster.sql.statements.select import Comparison
from cluster.sql.values import parse_value
from iotdb_engine.types import BATCH_DTYPES, DataType

Mask = npt.NDArray[np.bool_]
ValueTest = Callable[[npt.NDArray[Any]], Mask]
"""Values of BATCH_DTYPES[type] → bool[n]; what it says of invalid cells means nothing."""

_UFUNCS: dict[Comparison, np.ufunc] = {
    Comparison.EQ: np.equal,
    Comparison.NE: np.not_equal,
    Comparison.LT: np.less,
    Comparison.LE: np.less_equal,
    Comparison.GT: np.greater,
    Comparison.GE: np.greater_equal,
}
_WITH_NAN = (Comparison.GT, Comparison.GE)
"""Operators that a NaN value passes against any other number (`!=` does so by itself)."""


def _problem(text: str) -> ClusterError:
    return ClusterError(StatusCode.QUERY_PROCESS_ERROR, f"Error occurred in query process: {text}")


def _constant(series: SeriesInfo, literal: Literal) -> Any:  # noqa: ANN401
    try:
        value = parse_value(literal, series.data_type)
    except ValueError as error:
        raise _problem(f"{error} (in the where clause, for {series.path})") from error
    if series.data_type is DataType.FLOAT:
        return np.float32(value)  # as the values are: 3.33 finds 3.33
    return value


def compare_test(series: SeriesInfo, op: Comparison, literal: Literal) -> ValueTest:
    """Return the test `series <op> literal`.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: the literal is no value of the series' type, or a TEXT
            series is compared otherwise than by = and !=.
    """
    if series.data_type is DataType.TEXT:
        if op not in (Comparison.EQ, Comparison.NE):
            raise _problem("For Basic operator,TEXT type only support EQUAL or NOTEQUAL operator")
        wanted = _constant(series, literal)
        equal = op is Comparison.EQ
        return lambda values: _of_texts(values, lambda value: (value == wanted) is equal)
    constant = _constant(series, literal)
    if isinstance(constant, (float, np.floating)) and math.isnan(constant):
        return _nan_test(op)
    ufunc = _UFUNCS[op]
    typed = np.asarray(constant, dtype=BATCH_DTYPES[series.data_type])
    if series.data_type in (DataType.FLOAT, DataType.DOUBLE) and op in _WITH_NAN:
        return lambda values: _as_mask(ufunc(values, typed) | np.isnan(values))
    return lambda values: _as_mask(ufunc(values, typed))


def _nan_test(op: Comparison) -> ValueTest:
    """Return the test against NaN, the greatest number."""
    match op:
        case Comparison.EQ | Comparison.GE:
            return lambda values: _as_mask(np.isnan(values))
        case Comparison.NE | Comparison.LT:
            return lambda values: _as_mask(~np.isnan(values))
        case Comparison.GT:
            return lambda values: np.zeros(len(values), dtype=np.bool_)
        case Comparison.LE:
            return lambda values: np.ones(len(values), dtype=np.bool_)


def in_test(series: SeriesInfo, literals: Sequence[Literal]) -> ValueTest:
    """Return the test `series IN (literals)`; errors as `compare_test`."""
    constants = [_constant(series, literal) for literal in literals]
    if series.data_type is DataType.TEXT:
        wanted = frozenset(constants)
        return lambda values: _of_texts(values, wanted.__contains__)
    typed = np.array(constants, dtype=BATCH_DTYPES[series.data_type])
    if any(isinstance(c, (float, np.floating)) and math.isnan(c) for c in constants):
        return lambda values: _as_mask(np.isin(values, typed) | np.isnan(values))
    return lambda values: _as_mask(np.isin(values, typed))


def like_test(series: SeriesInfo, pattern: str) -> ValueTest:
    """Return the test `series LIKE 'pattern'`: `%` any run, `_` one character, whole value."""
    _check_text(series, "Like")
    return _decoded_test(LikePattern(pattern).matches)


def regexp_test(series: SeriesInfo, pattern: str) -> ValueTest:
    """Return the test `series REGEXP 'pattern'`: found anywhere in the value."""
    _check_text(series, "Regexp")
    try:
        search = re.compile(pattern).search
    except (re.error, OverflowError, RecursionError) as error:
        raise _problem(f"'{pattern}' is not a regular expression: {error}") from error
    return _decoded_test(lambda text: search(text) is not None)


class LikePattern:
    r"""A LIKE pattern: `%` any run, `_` one character, `\` makes the next character literal.

    0.13 unescapes twice: first `\\` becomes `\` and a backslash before anything but `%`, `_` and
    `\` vanishes; then a backslash escapes. So a literal backslash takes four of them.

    Matching never backtracks: the parts between `%` have fixed lengths, and taking the leftmost
    place for each is always right. One regular expression of `.*` could take ages instead.
    """

    def __init__(self, pattern: str) -> None:
        once = re.sub(r"\\([%_])|\\(\\)|\\", lambda m: m[0] if m[1] else m[2] or "", pattern)
        parts: list[list[str]] = [[]]
        for match in re.finditer(r"\\(.)|(.)", once, re.DOTALL):
            if match[2] == "%":
                parts.append([])
            else:
                parts[-1].append("." if match[2] == "_" else re.escape(match[1] or match[2]))
        compiled = [re.compile("".join(part), re.DOTALL) for part in parts]
        self._first, *self._middle = compiled
        self._last = self._middle.pop() if self._middle else None
        self._last_length = len(parts[-1])

    def matches(self, text: str) -> bool:
        """Return whether the whole text matches."""
        if self._last is None:
            return self._first.fullmatch(text) is not None
        match = self._first.match(text)
        end = len(text) - self._last_length
        for part in self._middle:
            if match is None:
                return False
            match = part.search(text, match.end(), max(end, 0))
        return match is not None and match.end() <= end and self._last.match(text, end) is not None


def _check_text(series: SeriesInfo, word: str) -> None:
    if series.data_type is not DataType.TEXT:
        raise _problem(
            f"Unsupported type: [{series.data_type.name}]. Only TEXT is supported in '{word}'"
        )


def _decoded_test(test: Callable[[str], bool]) -> ValueTest:
    return lambda values: _of_texts(
        values, lambda value: test(bytes(value).decode("utf-8", "replace"))
    )


def _of_texts(values: npt.NDArray[Any], test: Callable[[Any], bool]) -> Mask:
    """Test each text; an invalid cell may hold anything, such as 0."""
    return np.fromiter(
        (isinstance(value, bytes) and test(value) for value in values.tolist()),
        dtype=np.bool_,
        count=len(values),
    )


def _as_mask(values: Any) -> Mask:  # noqa: ANN401
    mask: Mask = values
    return mask
