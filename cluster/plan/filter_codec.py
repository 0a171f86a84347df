"""Row filters and windows as JSON values, for read requests between nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from cluster.scan.filters import AllOf, AnyOf, RowFilter, TimeFilter, ValueFilter
from cluster.scan.time_set import TimeSet
from cluster.scan.value_tests import (
    CompareTest,
    Constant,
    ContainsTest,
    InTest,
    LikeTest,
    Operator,
    RegexpTest,
    ValueTest,
)
from cluster.scan.windows import Windows
from iotdb_engine.types import DataType

_COMBINATIONS: dict[str, type[AllOf] | type[AnyOf]] = {"and": AllOf, "or": AnyOf}
_MAX_DEPTH = 220
"""Above what the parser lets through; two calls for each level have to fit Python's stack."""


def filter_to_json(row_filter: RowFilter | None) -> Any:  # noqa: ANN401
    """Return the JSON form of a filter."""
    match row_filter:
        case None:
            return None
        case TimeFilter():
            return ["time", row_filter.times.intervals]
        case ValueFilter():
            test = _test_to_json(row_filter.test)
            return ["value", row_filter.column, row_filter.negated, test]
        case AllOf():
            return ["and", [filter_to_json(part) for part in row_filter.parts]]
        case AnyOf():
            return ["or", [filter_to_json(part) for part in row_filter.parts]]


def filter_from_json(form: Any, depth: int = 0) -> RowFilter | None:  # noqa: ANN401
    """Read a filter back; raises ValueError or TypeError when malformed."""
    if form is None:
        return None
    if depth > _MAX_DEPTH:
        raise ValueError("a filter is nested too deeply")
    kind, *rest = form
    if kind == "time":
        return TimeFilter(TimeSet(tuple((int(low), int(high)) for low, high in rest[0])))
    if kind == "value":
        column, negated, test = rest
        return ValueFilter(int(column), _test_from_json(test), bool(negated))
    parts = [filter_from_json(part, depth + 1) for part in rest[0]]
    return _COMBINATIONS[kind](tuple(part for part in parts if part is not None))


def _test_to_json(test: ValueTest) -> list[Any]:
    match test:
        case CompareTest():
            return ["compare", int(test.data_type), int(test.op), _plain(test.constant)]
        case InTest():
            return ["in", int(test.data_type), [_plain(value) for value in test.constants]]
        case LikeTest():
            return ["like", test.pattern]
        case RegexpTest():
            return ["regexp", test.pattern]
        case ContainsTest():
            return ["contains", _plain(test.part)]


def _test_from_json(form: Any) -> ValueTest:  # noqa: ANN401
    match form:
        case ["compare", data_type, op, constant]:
            return CompareTest(DataType(data_type), Operator(op), _constant(constant))
        case ["in", data_type, constants]:
            return InTest(DataType(data_type), tuple(_constant(value) for value in constants))
        case ["like", str(pattern)]:
            return LikeTest(pattern)
        case ["regexp", str(pattern)]:
            return RegexpTest(pattern)
        case ["contains", part]:
            found = _constant(part)
            if isinstance(found, bytes):
                return ContainsTest(found)
    raise ValueError(f"no value test: {form!r}")


def _plain(constant: Constant) -> Any:  # noqa: ANN401
    return {"b": constant.hex()} if isinstance(constant, bytes) else constant


def _constant(plain: Any) -> Constant:  # noqa: ANN401
    found = bytes.fromhex(plain["b"]) if isinstance(plain, dict) else plain
    if not isinstance(found, (bool, int, float, bytes)):
        raise ValueError(f"no constant: {plain!r}")
    return found


def windows_to_json(windows: Windows) -> list[Any]:
    """Return the JSON form of windows; evenly spaced ones are told by five numbers."""
    lows, highs = windows
    count = len(lows)
    if count > 2:
        step = int(lows[1] - lows[0])
        length = int(highs[0] - lows[0])
        if (np.diff(lows) == step).all() and (highs[:-1] - lows[:-1] == length).all():
            return [int(lows[0]), step, length, count, int(highs[-1])]
    return [lows.tolist(), highs.tolist()]


def windows_from_json(form: list[Any]) -> Windows:
    """Read windows back."""
    if len(form) == 2:
        lows, highs = (np.array(bounds, np.int64) for bounds in form)
        if len(lows) != len(highs):
            raise ValueError("windows without an end")
        return Windows(lows, highs)
    first, step, length, count, last = form
    lows = first + step * np.arange(count, dtype=np.int64)
    highs = lows + length
    highs[-1] = last
    return Windows(lows, highs)
