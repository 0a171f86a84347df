"""What a row filter says of a column's values: which can't pass, and whether all do.

So that pages are left unread that have none to pass, or whose statistics say that all pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cluster.scan.filters import AllOf, RowFilter, ValueFilter
from cluster.scan.value_tests import CompareTest, InTest, Operator, ValueTest
from iotdb_engine.bounds import Bound
from iotdb_engine.types import BATCH_DTYPES, DataType

_NUMBERS = (DataType.INT32, DataType.INT64, DataType.FLOAT, DataType.DOUBLE)


def value_bounds(row_filter: RowFilter | None, columns: int) -> list[Bound | None] | None:
    """Return for each column a range outside which no row passes; None: there is none at all."""
    found: list[Bound | None] = [None] * columns
    parts = row_filter.parts if isinstance(row_filter, AllOf) else (row_filter,)
    for part in parts:
        if isinstance(part, ValueFilter) and not part.negated:
            bound = _bound_of(part.test)
            if bound is not None:
                found[part.column] = _common(found[part.column], bound)
    return found if any(found) else None


def are_all_passing(row_filter: RowFilter, span: tuple[int | float, int | float]) -> bool:
    """Return whether all values within an inclusive span pass a filter; False where it is not sure.

    Args:
        row_filter: of rows that have one column, which is of numbers.
        span: lowest and highest value, none of which is NaN.
    """
    parts = row_filter.parts if isinstance(row_filter, AllOf) else (row_filter,)
    return all(
        isinstance(part, ValueFilter)
        and not part.negated
        and isinstance(part.test, CompareTest)
        and _passes(part.test, span)
        for part in parts
    )


def _passes(test: CompareTest, span: tuple[int | float, int | float]) -> bool:
    if test.data_type not in _NUMBERS:
        return False
    constant = _as_stored(test.data_type, test.constant)
    lowest, highest = span
    match test.op:
        case Operator.GT:
            return lowest > constant
        case Operator.GE:
            return lowest >= constant
        case Operator.LT:
            return highest < constant
        case Operator.LE:
            return highest <= constant
        case _:
            return False


def _bound_of(test: ValueTest) -> Bound | None:
    if not isinstance(test, (CompareTest, InTest)) or test.data_type not in _NUMBERS:
        return None
    constants = (test.constant,) if isinstance(test, CompareTest) else test.constants
    # As the test compares: 0.7 of a FLOAT is not 0.7.
    numbers = [_as_stored(test.data_type, one) for one in constants]
    if not numbers or any(map(math.isnan, numbers)):
        return None
    if isinstance(test, InTest) or test.op is Operator.EQ:
        return min(numbers), max(numbers)
    match test.op:
        case Operator.LT | Operator.LE:
            return None, numbers[0]
        case Operator.GT | Operator.GE:
            return numbers[0], None
        case _:
            return None


def _as_stored(kind: DataType, constant: object) -> int | float:
    assert isinstance(constant, (int, float))
    if kind is DataType.FLOAT:
        return float(BATCH_DTYPES[kind].type(constant))
    return float(constant) if kind is DataType.DOUBLE else constant


def _common(first: Bound | None, second: Bound) -> Bound:
    if first is None:
        return second
    lows: Sequence[int | float] = [low for low, _ in (first, second) if low is not None]
    highs: Sequence[int | float] = [high for _, high in (first, second) if high is not None]
    return max(lows, default=None), min(highs, default=None)
