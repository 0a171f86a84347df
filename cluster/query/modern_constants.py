"""Comparisons with constants as 1.x has them: any number goes with any numeric type (sql.md 7.4).

Up to 0.13 a constant has to be a value of the series' type, so `i > 2.5` is an error for INT32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from cluster.scan.value_tests import CompareTest, InTest, Operator, ValueTest
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.values import parse_value
from iotdb_engine.types import BATCH_DTYPES, DataType

_INTEGERS = (DataType.INT32, DataType.INT64)
_FLOATS = (DataType.FLOAT, DataType.DOUBLE)
_NUMBERS = (LiteralKind.NUMBER, LiteralKind.NAN)


def compare_test(data_type: DataType, op: Operator, literal: Literal) -> CompareTest:
    """Return the test of `value <op> literal`.

    Raises:
        ValueError: the literal goes with another type.
    """
    if literal.kind in _NUMBERS and data_type in _INTEGERS:
        return _compare_integer(data_type, op, literal)
    return CompareTest(data_type, op, _value(data_type, literal))


def in_test(data_type: DataType, literals: Sequence[Literal]) -> ValueTest:
    """Return the test of `value IN (literals)`; raises as `compare_test`."""
    if data_type not in _INTEGERS:
        return InTest(data_type, tuple(_value(data_type, literal) for literal in literals))
    tests = [compare_test(data_type, Operator.EQ, literal) for literal in literals]
    return InTest(data_type, tuple(test.constant for test in tests if test.op is Operator.EQ))


def _value(data_type: DataType, literal: Literal) -> bool | int | float | bytes:
    """Return a constant; a number beyond a floating-point type is infinite in it."""
    if literal.kind is LiteralKind.NUMBER and data_type in _FLOATS:
        with np.errstate(over="ignore"):
            return float(BATCH_DTYPES[data_type].type(float(literal.text)))
    value: bool | int | float | bytes = parse_value(literal, data_type)
    return value


def _compare_integer(data_type: DataType, op: Operator, literal: Literal) -> CompareTest:
    """Return the test of integers against any number: one against an integer says the same."""
    limits = np.iinfo(BATCH_DTYPES[data_type])
    low, high = int(limits.min), int(limits.max)
    number = float(literal.text)
    if math.isnan(number) or number > 2.0 * high:  # NaN is above all numbers
        floor, whole = high + 1, False
    elif number < 2.0 * low:
        floor, whole = low - 1, False
    else:
        exact = Decimal(literal.text)
        floor = math.floor(exact)
        whole = floor == exact
    if op in (Operator.EQ, Operator.NE):
        if whole and low <= floor <= high:
            return CompareTest(data_type, op, floor)
        return _constant_test(data_type, low, met=op is Operator.NE)
    if not whole:  # what is below a fraction is at most its floor
        op = {Operator.LT: Operator.LE, Operator.GE: Operator.GT}.get(op, op)
    if low <= floor <= high:
        return CompareTest(data_type, op, floor)
    upward = op in (Operator.GT, Operator.GE)
    return _constant_test(data_type, low, met=upward is (floor < low))


def _constant_test(data_type: DataType, low: int, *, met: bool) -> CompareTest:
    """Return a test that every value passes, or none."""
    return CompareTest(data_type, Operator.GE if met else Operator.LT, low)
