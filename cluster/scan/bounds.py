"""What a row filter says of the values that a column must have, for skipping pages unread."""

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
    value: int | float = BATCH_DTYPES[kind].type(constant).item()
    return value


def _common(first: Bound | None, second: Bound) -> Bound:
    if first is None:
        return second
    lows: Sequence[int | float] = [low for low, _ in (first, second) if low is not None]
    highs: Sequence[int | float] = [high for _, high in (first, second) if high is not None]
    return max(lows, default=None), min(highs, default=None)
