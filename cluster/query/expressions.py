"""Bound expressions: series found, types known, names told (sql.md 3.3, 6.1).

Immutable; equal expressions compute the same. Leaves are what is read: series, or aggregates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cluster.query.aggregates import AggregateFunction
from cluster.query.errors import query_error
from cluster.query.functions.elementwise import ELEMENTWISE
from cluster.query.functions.function import BoundFunction, DelayedFunction
from cluster.query.row_aggregates import RowAggregateFunction
from cluster.scan.windows import NUMERIC_TYPES
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.expressions import Arithmetic, Operator
from iotdb_engine.types import DataType


@dataclass(frozen=True)
class SeriesLeaf:
    """The points of a series; `name` is how the header calls it."""

    series: SeriesInfo
    name: str = field(compare=False)

    @property
    def data_type(self) -> DataType:
        """Type of the values."""
        return self.series.data_type


@dataclass(frozen=True)
class AggregateLeaf:
    """An aggregate of a series."""

    function: AggregateFunction
    series: SeriesInfo
    name: str = field(compare=False)

    @property
    def data_type(self) -> DataType:
        """Type of the values."""
        return self.function.result_type(self.series.data_type)


@dataclass(frozen=True)
class RowAggregateLeaf:
    """An aggregate of expressions over the rows of a window.

    `key` (its lower-case name) and `attributes` tell equal ones.
    """

    key: str
    arguments: tuple[Bound, ...]
    attributes: tuple[tuple[str, str], ...]
    function: RowAggregateFunction = field(compare=False)
    name: str = field(compare=False)

    @property
    def data_type(self) -> DataType:
        """Type of the values."""
        return self.function.data_type


@dataclass(frozen=True)
class EndTimeLeaf:
    """The last time of a window, `__endTime`."""

    name: str = field(compare=False)
    data_type: DataType = DataType.INT64


@dataclass(frozen=True)
class TimeLeaf:
    """The time of the row at hand."""

    name: str = field(default="Time", compare=False)
    data_type: DataType = DataType.INT64


@dataclass(frozen=True)
class ConstantLeaf:
    """A number; `compound`: made of several, so that its name needs parentheses inside others."""

    value: float
    name: str = field(compare=False)
    compound: bool = False
    data_type: DataType = DataType.DOUBLE


@dataclass(frozen=True)
class ColumnLeaf:
    """A column of the rows at hand, by its number."""

    number: int
    data_type: DataType
    name: str = field(compare=False)


@dataclass(frozen=True)
class Negated:
    """Unary minus, of the operand's type."""

    operand: Bound
    name: str = field(compare=False)

    @property
    def data_type(self) -> DataType:
        """Type of the values."""
        return self.operand.data_type


@dataclass(frozen=True)
class Binary:
    """Arithmetic of doubles."""

    op: Arithmetic
    left: Bound
    right: Bound
    name: str = field(compare=False)
    data_type: DataType = DataType.DOUBLE


@dataclass(frozen=True)
class Call:
    """A time-series function; `attributes` and `key` (its lower-case name) tell equal calls."""

    key: str
    arguments: tuple[Bound, ...]
    attributes: tuple[tuple[str, str], ...]
    function: BoundFunction = field(compare=False)
    name: str = field(compare=False)

    @property
    def data_type(self) -> DataType:
        """Type of the values."""
        return self.function.data_type


_COMPOUND = frozenset(
    f"operator {operator.value}"
    for operator in Operator
    if operator not in (Operator.NOT, Operator.CASE)
)
"""Keys of calls whose names need parentheses inside of others."""

Leaf = SeriesLeaf | AggregateLeaf | RowAggregateLeaf | EndTimeLeaf
Bound = (
    SeriesLeaf
    | AggregateLeaf
    | RowAggregateLeaf
    | EndTimeLeaf
    | TimeLeaf
    | ConstantLeaf
    | ColumnLeaf
    | Negated
    | Binary
    | Call
)


def negated(operand: Bound) -> Bound:
    """Return `-operand`.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: the operand is no number.
    """
    _check_numeric(operand)
    bare = isinstance(operand, (SeriesLeaf, AggregateLeaf, RowAggregateLeaf, Call)) or (
        isinstance(operand, ConstantLeaf)
        and not operand.compound
        and not operand.name.startswith("-")
    )
    name = f"-{operand.name}" if bare else f"-({operand.name})"
    if isinstance(operand, ConstantLeaf):
        return ConstantLeaf(-operand.value, name)
    return Negated(operand, name)


def binary(op: Arithmetic, left: Bound, right: Bound) -> Bound:
    """Return `left op right`.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: an operand is no number.
    """
    _check_numeric(left)
    _check_numeric(right)
    return Binary(op, left, right, f"{_inside(left)} {op.value} {_inside(right)}")


def operand_name(operand: Bound) -> str:
    """Return the name of an operand as it stands inside of an operator of 1.x."""
    return _inside(operand)


def operation_name(
    operator: Operator, names: Sequence[str], pattern: str, *, negated: bool = False
) -> str:
    """Return how the header calls an operator of 1.x over operands."""
    first, *others = names
    no = "NOT " if negated else ""
    match operator:
        case Operator.NOT:
            return f"!{first}"
        case Operator.IS_NULL:
            return f"{first} IS {no}NULL"
        case Operator.IN:
            return f"{first} {no}IN ({', '.join(others)})"
        case Operator.BETWEEN:
            return f"{first} {no}BETWEEN {' AND '.join(others)}"
        case Operator.LIKE | Operator.REGEXP | Operator.CONTAINS:
            return f"{first} {no}{operator.value} '{pattern}'"
        case Operator.CASE:
            pairs = zip(names[0::2], names[1::2], strict=False)
            parts = [f"WHEN {condition} THEN {value}" for condition, value in pairs]
            parts += [f"ELSE {names[-1]}"] if len(names) % 2 else []
            return f"CASE {' '.join(parts)} END"
        case _:
            return f" {operator.value} ".join(names)


def _inside(operand: Bound) -> str:
    compound = (
        isinstance(operand, Binary)
        or (isinstance(operand, ConstantLeaf) and operand.compound)
        or (isinstance(operand, Call) and operand.key in _COMPOUND)
    )
    return f"({operand.name})" if compound else operand.name


def _check_numeric(operand: Bound) -> None:
    if operand.data_type not in NUMERIC_TYPES:
        raise query_error(f"Unsupported data type: {operand.data_type.name}")


def leaves(expression: Bound) -> Iterator[Leaf]:
    """Yield what an expression reads, in the order of its text."""
    match expression:
        case SeriesLeaf() | AggregateLeaf() | RowAggregateLeaf() | EndTimeLeaf():
            yield expression
        case Negated():
            yield from leaves(expression.operand)
        case Binary():
            yield from leaves(expression.left)
            yield from leaves(expression.right)
        case Call():
            for argument in expression.arguments:
                yield from leaves(argument)
        case ConstantLeaf() | ColumnLeaf() | TimeLeaf():
            return


def series_of(expression: Bound) -> Iterator[SeriesInfo]:
    """Yield the series whose points an expression is made of, in the order of its text."""
    for leaf in leaves(expression):
        match leaf:
            case SeriesLeaf() | AggregateLeaf():
                yield leaf.series
            case RowAggregateLeaf():
                for argument in leaf.arguments:
                    yield from series_of(argument)
            case EndTimeLeaf():
                pass


def is_delayed(expression: Bound) -> bool:
    """Return whether a value may be known only after later rows were seen."""
    match expression:
        case Negated():
            return is_delayed(expression.operand)
        case Binary():
            return is_delayed(expression.left) or is_delayed(expression.right)
        case Call():
            return isinstance(expression.function, DelayedFunction) or any(
                map(is_delayed, expression.arguments)
            )
        case _:
            return False


def remembers(expression: Bound) -> bool:
    """Return whether a value may depend on rows before: what is read has to begin with them."""
    match expression:
        case Negated():
            return remembers(expression.operand)
        case Binary():
            return remembers(expression.left) or remembers(expression.right)
        case Call():
            pure = expression.key.startswith("operator ") or expression.key in ELEMENTWISE
            return not pure or any(map(remembers, expression.arguments))
        case RowAggregateLeaf():
            return any(map(remembers, expression.arguments))
        case _:
            return False
