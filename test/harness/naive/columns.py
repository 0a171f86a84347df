"""The select list: paths become series, expressions are computed (sql.md 3.3, 6.1)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from harness.naive.data import NUMERIC, Data, Path, RefusedError, Series
from harness.naive.query import Aggregate, Arithmetic, Call, Constant, Negative, Query, SeriesAt


class Column(NamedTuple):
    """A column of the answer before rows are known.

    `value(t)` is its cell at a time; `aggregate(points allowed)` …: one of both is used.
    """

    name: str
    type: str
    expression: Any
    """With series in place of paths."""


def kind_of(expression: Any) -> str:
    kinds = set(_kinds(expression))
    if not kinds:
        raise RefusedError("constants only")
    if len(kinds) > 1:
        raise RefusedError("series and aggregates in one expression")
    return kinds.pop()


def _kinds(expression: Any) -> Iterator[str]:
    match expression:
        case SeriesAt():
            yield "series"
        case Aggregate():
            yield "aggregate"
        case Negative(operand=inner) | Call(argument=inner):
            yield from _kinds(inner)
        case Arithmetic():
            yield from _kinds(expression.left)
            yield from _kinds(expression.right)


def columns_of(data: Data, query: Query) -> list[Column]:
    columns: list[Column] = []
    for item in query.items:
        bound = bind(data, query.prefixes, item.expression)
        if item.alias is not None:
            if len(bound) != 1:
                raise RefusedError("alias of several columns")
            bound = [bound[0]._replace(name=item.alias)]
        columns += bound
    return columns


def bind(data: Data, prefixes: Sequence[Path], expression: Any) -> list[Column]:
    match expression:
        case SeriesAt(path):
            return [
                Column(_shown(one, path), one.type, one)
                for prefix in prefixes
                for one in data.match((*prefix, *path))
            ]
        case Aggregate(name, path):
            found = [
                (one, _shown(one, path))
                for prefix in prefixes
                for one in data.match((*prefix, *path))
            ]
            for one, _ in found:
                check_aggregate(name, one.type)
            return [
                Column(f"{name}({shown})", aggregate_type(name, one.type), (name.lower(), one))
                for one, shown in found
            ]
        case Constant(text):
            return [Column(text, "DOUBLE", float(text))]
        case Negative(inner):
            return [_negative(one) for one in bind(data, prefixes, inner)]
        case Arithmetic(operator, left, right):
            pairs = itertools.product(bind(data, prefixes, left), bind(data, prefixes, right))
            return [_arithmetic(operator, one, other) for one, other in pairs]
        case Call(name, argument):
            return [_call(name, one) for one in bind(data, prefixes, argument)]
    raise AssertionError(expression)


def _shown(series: Series, path: Path) -> str:
    name = series.name
    if series.alias is not None and path[-1] == series.alias:
        name = series.alias
    return ".".join((*series.device, name))


def _compound(column: Column) -> bool:
    return isinstance(column.expression, Arithmetic)


def _inside(column: Column) -> str:
    return f"({column.name})" if _compound(column) else column.name


def _negative(operand: Column) -> Column:
    expect_number(operand)
    bare = not _compound(operand) and not isinstance(operand.expression, Negative)
    bare = bare and not operand.name.startswith("-")
    name = f"-{operand.name}" if bare else f"-({operand.name})"
    if isinstance(operand.expression, float):
        return Column(name, operand.type, -operand.expression)
    return Column(name, operand.type, Negative(operand))


def _arithmetic(operator: str, left: Column, right: Column) -> Column:
    expect_number(left)
    expect_number(right)
    name = f"{_inside(left)} {operator} {_inside(right)}"
    return Column(name, "DOUBLE", Arithmetic(operator, left, right))


def _call(name: str, argument: Column) -> Column:
    expect_number(argument)
    data_type = argument.type if name == "abs" else "DOUBLE"
    return Column(f"{name}({argument.name})", data_type, Call(name, argument))


def expect_number(column: Column) -> None:
    if column.type not in NUMERIC:
        raise RefusedError(f"{column.name} is no number")


def cut_columns(query: Query, columns: list[Any]) -> list[Any]:
    if query.series_offset and query.series_offset >= len(columns):
        raise RefusedError("SOFFSET")
    stop = None if query.series_limit is None else query.series_offset + query.series_limit
    return columns[query.series_offset : stop]


def leaves(expression: Any) -> Iterator[Any]:
    """Yield the series, or (aggregate, series), of a bound expression."""
    match expression:
        case Series() | (str(), Series()):
            yield expression
        case Negative(inner) | Call(_, inner):
            yield from leaves(inner.expression)
        case Arithmetic(_, left, right):
            yield from leaves(left.expression)
            yield from leaves(right.expression)


def value_of(column: Column, leaf: Callable[[Any], Any]) -> Any:
    match column.expression:
        case float() as constant:
            return constant
        case Series() | (str(), Series()):
            return leaf(column.expression)
        case Negative(inner):
            value = value_of(inner, leaf)
            return None if value is None else wrapped(-value, inner.type)
        case Call(name, inner):
            value = value_of(inner, leaf)
            return None if value is None else FUNCTIONS[name](value, inner.type)
        case Arithmetic(operator, left, right):
            one, other = value_of(left, leaf), value_of(right, leaf)
            return None if one is None or other is None else _computed(operator, one, other)
    raise AssertionError(column)


def wrapped(value: Any, data_type: str) -> Any:
    """Return an integer as that many bits hold it."""
    bits = {"INT32": 32, "INT64": 64}.get(data_type)
    if bits is None:
        return value
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def _computed(operator: str, left: Any, right: Any) -> float:
    one, other = float(left), float(right)
    match operator:
        case "+":
            return one + other
        case "-":
            return one - other
        case "*":
            return one * other
        case "%":
            if other == 0 or math.isinf(one) or math.isnan(one) or math.isnan(other):
                return math.nan
            return math.fmod(one, other)
    if other:
        return one / other
    if one == 0 or math.isnan(one):
        return math.nan
    return math.copysign(1, one) * math.copysign(1, other) * math.inf


def _of_double(compute: Callable[[float], float]) -> Callable[[Any, str], float]:
    def call(value: Any, _: str) -> float:
        number = float(value)
        if not math.isfinite(number):
            return number
        return compute(number)

    return call


FUNCTIONS: dict[str, Callable[[Any, str], Any]] = {
    "abs": lambda value, kind: wrapped(abs(value), kind),
    "floor": _of_double(lambda value: float(math.floor(value))),
    "ceil": _of_double(lambda value: float(math.ceil(value))),
    "round": _of_double(lambda value: float(round(value))),
}


def check_aggregate(name: str, data_type: str) -> None:
    numeric = ("sum", "avg", "extreme", "min_value", "max_value")
    if name.lower() in numeric and data_type not in NUMERIC:
        raise RefusedError(f"{name} of {data_type}")


def aggregate_type(name: str, data_type: str) -> str:
    name = name.lower()
    if name in ("count", "min_time", "max_time"):
        return "INT64"
    return "DOUBLE" if name in ("sum", "avg") else data_type
