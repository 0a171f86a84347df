"""WHERE (sql.md 3.5), and what 1.x makes of it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from harness.naive.columns import Column, bind, expect_number, value_of, wrapped
from harness.naive.data import NUMERIC, Data, Path, RefusedError, Series, UndefinedError, as_float32
from harness.naive.query import (
    Both,
    Compared,
    Either,
    IsNull,
    Like,
    Not,
    Query,
    TimeIn,
    TimeIs,
    ValueIn,
    ValueIs,
)

Passes = Callable[[int], bool]


def literal_value(literal: str, data_type: str) -> Any:
    """Return a literal as a value of a type; RefusedError when it is none."""
    quoted = literal[0] == "'"
    if data_type == "TEXT":
        return literal[1:-1] if quoted else literal
    if data_type == "BOOLEAN":
        if literal.lower() in ("true", "1"):
            return True
        if literal.lower() in ("false", "0"):
            return False
        raise RefusedError(literal)
    if quoted or literal.lower() in ("true", "false"):
        raise RefusedError(literal)
    if data_type in ("INT32", "INT64"):
        if not re.fullmatch("-?[0-9]+", literal):
            raise RefusedError(literal)
        value = int(literal)
        if wrapped(value, data_type) != value:
            raise RefusedError(literal)
        return value
    number = float(literal)
    if data_type == "FLOAT" and not math.isnan(number):
        try:
            return as_float32(number)
        except OverflowError:
            raise RefusedError(literal) from None
    return number


def constant_for(literal: str, data_type: str, modern: bool) -> Any:
    """Return what values of a type are compared with: in 1.x any number, if it is one."""
    if not modern or data_type not in NUMERIC or not re.fullmatch("-?[0-9.]+(e.*)?|NaN", literal):
        value = literal_value(literal, data_type)
        return value.encode() if isinstance(value, str) else value
    number = float(literal)
    if data_type == "FLOAT" and not math.isnan(number):
        try:
            return as_float32(number)
        except OverflowError:
            return math.copysign(math.inf, number)
    if data_type == "DOUBLE" or math.isnan(number):
        return number
    return Decimal(literal)


def ordered(value: Any) -> tuple[bool, Any]:
    """As Java sorts numbers: NaN is equal to itself and the greatest."""
    if isinstance(value, float) and math.isnan(value):
        return True, 0
    return False, value


def compared(operator: str, left: Any, right: Any) -> bool:
    """Compare two values of one type."""
    one, other = ordered(left), ordered(right)
    match operator:
        case "=":
            return one == other
        case "!=":
            return one != other
        case "<":
            return one < other
        case "<=":
            return one <= other
        case ">":
            return one > other
    return one >= other


_INVERSE = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


class MissingError(RefusedError):
    """A path of WHERE is of no series."""


def _filter_series(
    data: Data, prefixes: Sequence[Path], path: Path, *, modern: bool
) -> list[Series]:
    patterns = [path] if path[0] == "root" else [(*prefix, *path) for prefix in prefixes]
    found: list[Series] = []
    for pattern in patterns:
        matched = data.match(pattern)
        if not matched and not modern:
            raise MissingError(str(pattern))
        found += [one for one in matched if not any(one is other for other in found)]
    if not found:
        raise MissingError(str(path))
    return found


def check_where(data: Data, query: Query) -> None:
    passes_of(data, query, query.prefixes)


def passes_of(data: Data, query: Query, prefixes: Sequence[Path]) -> Passes:
    if query.where is None:
        return lambda _: True
    if query.modern:
        test = _test(data, prefixes, query.where)
        return lambda time: test(time) is True
    return _condition(data, prefixes, query.where, negated=False)


Test = Callable[[int], bool | None]


def _test(data: Data, prefixes: Sequence[Path], condition: Any) -> Test:
    """Return a condition of 1.x, which knows null besides true and false.

    It is one for each combination of what its paths stand for, and all of these have to be met:
    as if all its tests stood for all their series, whatever is negated.
    """
    match condition:
        case Not(Both(parts)):
            return _test(data, prefixes, Either(tuple(map(Not, parts))))
        case Not(Either(parts)):
            return _test(data, prefixes, Both(tuple(map(Not, parts))))
        case Not(Not(inner)):
            return _test(data, prefixes, inner)
        case Both(parts) | Either(parts):
            tests = [_test(data, prefixes, part) for part in parts]
            decisive = isinstance(condition, Either)
            return lambda time: _joined([test(time) for test in tests], decisive)
        case Compared() | IsNull():
            return _all_of(_expression_tests(data, prefixes, condition, negated=False))
        case Not(Compared() | IsNull() as inner):
            return _all_of(_expression_tests(data, prefixes, inner, negated=True))
        case Not(TimeIs() | TimeIn() as inner):
            return _condition(data, prefixes, inner, negated=True)
        case TimeIs() | TimeIn():
            return _condition(data, prefixes, condition, negated=False)
        case Not(inner):
            return _all_of(_series_tests(data, prefixes, inner, negated=True))
    return _all_of(_series_tests(data, prefixes, condition, negated=False))


def _joined(found: Sequence[bool | None], decisive: bool) -> bool | None:
    if decisive in found:
        return decisive
    return None if None in found else not decisive


def _all_of(tests: Sequence[Test]) -> Test:
    return lambda time: _joined([test(time) for test in tests], False)


def _series_tests(
    data: Data, prefixes: Sequence[Path], condition: Any, *, negated: bool
) -> list[Test]:
    def test_of(series: Series) -> Test:
        test = _value_test(series, condition, negated, modern=True)
        return lambda time: test(time) if time in series.points else None

    return [test_of(one) for one in _filter_series(data, prefixes, condition.path, modern=True)]


def _expression_tests(
    data: Data, prefixes: Sequence[Path], condition: Any, *, negated: bool
) -> list[Test]:
    def value(column: Column, time: int) -> Any:
        return value_of(column, lambda one: one.points.get(time))

    def compare(left: Column, right: Column) -> Test:
        def test(time: int) -> bool | None:
            one, other = _bytes(value(left, time)), _bytes(value(right, time))
            if one is None or other is None:
                return None
            if isinstance(right.expression, float):
                other = constant_for(right.name, left.type, True)
            elif isinstance(left.expression, float):
                one = constant_for(left.name, right.type, True)
            elif not (left.type.startswith("INT") and right.type.startswith("INT")):
                one, other = float(one), float(other)
            return compared(condition.operator, one, other) is not negated

        return test

    def null(column: Column) -> Test:
        return lambda time: (value(column, time) is None) is not (condition.negated is not negated)

    if isinstance(condition, IsNull):
        operands = bind(data, prefixes, condition.operand)
        tests = list(map(null, operands))
    else:
        pairs = itertools.product(
            bind(data, prefixes, condition.left), bind(data, prefixes, condition.right)
        )
        tests = []
        for left, right in pairs:
            if left.type == right.type and left.type not in NUMERIC:
                raise UndefinedError("the order of what is no number")
            for column, constant in ((left, right), (right, left)):
                if column.type not in NUMERIC and isinstance(constant.expression, float):
                    break  # the constant is what its text says in the column's type
                expect_number(column)
            tests.append(compare(left, right))
    if not tests:
        raise MissingError(str(condition))
    return tests


def _condition(data: Data, prefixes: Sequence[Path], condition: Any, *, negated: bool) -> Passes:
    match condition:
        case Not(inner):
            return _condition(data, prefixes, inner, negated=not negated)
        case Both(parts) | Either(parts):
            tests = [_condition(data, prefixes, part, negated=negated) for part in parts]
            joined = all if isinstance(condition, Both) is not negated else any
            return lambda time: joined(test(time) for test in tests)
        case TimeIs(operator, value):
            wanted = _INVERSE[operator] if negated else operator
            return lambda time: compared(wanted, time, value)
        case TimeIn(values, outside):
            return lambda time: (time in values) is (outside is negated)
    found = _filter_series(data, prefixes, condition.path, modern=False)
    tests = [_value_test(one, condition, negated) for one in found]
    quantified = any if negated else all
    return lambda time: quantified(test(time) for test in tests)


def _value_test(series: Series, condition: Any, negated: bool, *, modern: bool = False) -> Passes:
    test: Callable[[Any], bool]
    match condition:
        case ValueIs(_, operator, literal):
            if series.type == "TEXT" and operator not in ("=", "!=") and not modern:
                raise RefusedError("order of texts")
            constant = constant_for(literal, series.type, modern)
            wanted = _INVERSE[operator] if negated else operator
            test = lambda value: compared(wanted, _bytes(value), constant)  # noqa: E731
        case ValueIn(_, literals, outside):
            constants = [constant_for(literal, series.type, modern) for literal in literals]
            test = lambda value: (  # noqa: E731
                any(compared("=", _bytes(value), one) for one in constants) is (outside is negated)
            )
        case Like(_, pattern):
            if series.type != "TEXT":
                raise RefusedError("LIKE")
            expression = "".join(
                {"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern
            )
            test = lambda value: (  # noqa: E731
                (re.fullmatch(expression, value, re.DOTALL) is not None) is not negated
            )
    return lambda time: time in series.points and test(series.points[time])
