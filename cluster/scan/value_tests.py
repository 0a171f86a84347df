"""Tests of one series' values against constants: values that become functions over arrays.

NaN is compared as Java does: equal to itself and greater than every other number (sql.md 3.5).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.scan.regexps import Regexp
from iotdb_engine.types import BATCH_DTYPES, DataType

Mask = npt.NDArray[np.bool_]
ArrayTest = Callable[[npt.NDArray[Any]], Mask]
"""Values of BATCH_DTYPES[type] → bool[n]; what it says of invalid cells means nothing."""

Constant = bool | int | float | bytes


class Operator(IntEnum):
    """Comparison operators; on the wire between nodes."""

    EQ = 0
    NE = 1
    LT = 2
    LE = 3
    GT = 4
    GE = 5


_UFUNCS: dict[Operator, np.ufunc] = {
    Operator.EQ: np.equal,
    Operator.NE: np.not_equal,
    Operator.LT: np.less,
    Operator.LE: np.less_equal,
    Operator.GT: np.greater,
    Operator.GE: np.greater_equal,
}
_OF_TEXTS: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.LT: operator.lt,
    Operator.LE: operator.le,
    Operator.GT: operator.gt,
    Operator.GE: operator.ge,
}
_WITH_NAN = (Operator.GT, Operator.GE)
"""Operators that a NaN value passes against any other number (`!=` does so by itself)."""


@dataclass(frozen=True)
class CompareTest:
    """`value <op> constant` of the series' type; texts have the order of their bytes."""

    data_type: DataType
    op: Operator
    constant: Constant


@dataclass(frozen=True)
class InTest:
    """`value IN (constants)`, of the series' type."""

    data_type: DataType
    constants: tuple[Constant, ...]


@dataclass(frozen=True)
class LikeTest:
    """`text LIKE 'pattern'`: `%` any run, `_` one character, whole value."""

    pattern: str


@dataclass(frozen=True)
class RegexpTest:
    """`text REGEXP 'pattern'`: found anywhere in the value; the pattern is known to compile."""

    pattern: str


@dataclass(frozen=True)
class ContainsTest:
    """`text CONTAINS 'part'`."""

    part: bytes


ValueTest = CompareTest | InTest | LikeTest | RegexpTest | ContainsTest


_SMALL_BYTES = 4096


def compiled(test: ValueTest) -> ArrayTest:
    """Return the test as a function over arrays; thread-safe.

    A query asks with each batch, so it is kept; but few of those that take much memory.
    """
    if isinstance(test, RegexpTest):
        return _kept_regexps(test)
    return (_kept_small if _is_small(test) else _kept_large)(test)


def _is_small(test: CompareTest | InTest | LikeTest | ContainsTest) -> bool:
    match test:
        case InTest():
            return 16 * len(test.constants) + sum(map(_size, test.constants)) <= _SMALL_BYTES
        case CompareTest():
            return _size(test.constant) <= _SMALL_BYTES
        case LikeTest():
            return len(test.pattern) <= _SMALL_BYTES
        case ContainsTest():
            return len(test.part) <= _SMALL_BYTES


def _size(constant: Constant) -> int:
    return len(constant) if isinstance(constant, bytes) else 8


def _compile(test: ValueTest) -> ArrayTest:
    match test:
        case CompareTest():
            return _compare(test)
        case InTest():
            return _in(test)
        case LikeTest():
            return _decoded(LikePattern(test.pattern).matches)
        case RegexpTest():
            found_in = Regexp(test.pattern).found_in
            return lambda values: _of_texts(values, found_in)
        case ContainsTest():
            part = test.part
            return lambda values: _of_texts(values, lambda value: part in value)


_kept_small = lru_cache(maxsize=1024)(_compile)
_kept_large = lru_cache(maxsize=4)(_compile)
_kept_regexps = lru_cache(maxsize=64)(_compile)
"""A short pattern may take megabytes (`cluster.scan.regexps`)."""


def _compare(test: CompareTest) -> ArrayTest:
    op, constant = test.op, test.constant
    if test.data_type is DataType.TEXT:
        compare = _OF_TEXTS[op]
        return lambda values: _of_texts(values, lambda value: compare(value, constant))
    if isinstance(constant, float) and math.isnan(constant):
        return _nan_test(op)
    ufunc = _UFUNCS[op]
    typed = np.asarray(constant, dtype=BATCH_DTYPES[test.data_type])
    if test.data_type in (DataType.FLOAT, DataType.DOUBLE) and op in _WITH_NAN:
        return lambda values: _as_mask(ufunc(values, typed) | np.isnan(values))
    return lambda values: _as_mask(ufunc(values, typed))


def _nan_test(op: Operator) -> ArrayTest:
    """Return the test against NaN, the greatest number."""
    match op:
        case Operator.EQ | Operator.GE:
            return lambda values: _as_mask(np.isnan(values))
        case Operator.NE | Operator.LT:
            return lambda values: _as_mask(~np.isnan(values))
        case Operator.GT:
            return lambda values: np.zeros(len(values), dtype=np.bool_)
        case Operator.LE:
            return lambda values: np.ones(len(values), dtype=np.bool_)


def _in(test: InTest) -> ArrayTest:
    if test.data_type is DataType.TEXT:
        wanted = frozenset(test.constants)
        return lambda values: _of_texts(values, wanted.__contains__)
    typed = np.array(test.constants, dtype=BATCH_DTYPES[test.data_type])
    if any(isinstance(c, float) and math.isnan(c) for c in test.constants):
        return lambda values: _as_mask(np.isin(values, typed) | np.isnan(values))
    return lambda values: _as_mask(np.isin(values, typed))


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


def _decoded(test: Callable[[str], bool]) -> ArrayTest:
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
