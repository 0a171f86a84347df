"""Comparisons, logic, tests and CASE of 1.x, over whole batches (sql.md 7.4).

A comparison with null is null; AND, OR and NOT are those of three values; CASE takes the first
condition that is true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.query.functions.function import FunctionError, ImmediateFunction, RowStep, Times
from cluster.query.modern_constants import compare_test
from cluster.scan.regexps import Regexp
from cluster.scan.value_tests import LikePattern, compiled
from cluster.scan.value_tests import Operator as ScanOperator
from cluster.scan.windows import NUMERIC_TYPES
from cluster.sql.statements.expressions import Operator
from cluster.sql.statements.literals import Literal, LiteralKind
from iotdb_engine.types import BATCH_DTYPES, Column, DataType

_Mask = npt.NDArray[np.bool_]
_INTEGERS = (DataType.INT32, DataType.INT64)

_UFUNCS: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQ: np.equal,
    Operator.NE: np.not_equal,
    Operator.LT: np.less,
    Operator.LE: np.less_equal,
    Operator.GT: np.greater,
    Operator.GE: np.greater_equal,
}


class Operand(NamedTuple):
    """An argument: a column by its place among those given, or a constant (place None)."""

    data_type: DataType
    place: int | None
    value: Any = None
    literal: Literal | None = None

    def read(self, columns: Sequence[Column], count: int) -> tuple[Any, _Mask | None]:
        """Return values of all rows, and which are valid (None: all)."""
        if self.place is None:
            values = np.empty(count, BATCH_DTYPES[self.data_type])
            values[:] = self.value
            return values, None
        column = columns[self.place]
        values = column.values
        if self.data_type is DataType.TEXT and column.valid is not None:
            values = np.where(column.valid, values, b"")  # an invalid cell may hold anything
        return values, column.valid


def constant_operand(literal: Literal) -> Operand:
    """Return a constant as an argument: numbers are doubles, as 1.x takes them.

    Raises:
        FunctionError: NULL.
    """
    match literal.kind:
        case LiteralKind.NUMBER:
            return Operand(DataType.DOUBLE, None, float(literal.text), literal)
        case LiteralKind.NAN:
            return Operand(DataType.DOUBLE, None, float("nan"), literal)
        case LiteralKind.BOOLEAN:
            return Operand(DataType.BOOLEAN, None, literal.text.lower() == "true", literal)
        case LiteralKind.STRING:
            text = literal.text.encode("utf-8", "surrogatepass")
            return Operand(DataType.TEXT, None, text, literal)
        case _:
            raise FunctionError("NULL can't be compared: use IS NULL")


def bind_operator(
    operator: Operator, operands: Sequence[Operand], pattern: str, *, negated: bool = False
) -> ImmediateFunction:
    """Return the function of an operator, or of its contrary.

    Raises:
        FunctionError: the types of the operands do not go with it or with each other.
    """
    if negated:
        inner = bind_operator(operator, operands, pattern)

        def start() -> RowStep:
            step = inner.start()

            def contrary(times: Times, columns: Sequence[Column]) -> Column:
                column = step(times, columns)
                return Column(DataType.BOOLEAN, ~column.values, column.valid)

            return contrary

        return ImmediateFunction(DataType.BOOLEAN, start)
    match operator:
        case Operator.AND | Operator.OR | Operator.NOT:
            return _logic(operator, operands)
        case Operator.IS_NULL:
            return _null_test(operands[0])
        case Operator.IN:
            value, *listed = operands
            return _logic_of_tests([_comparison(Operator.EQ, value, item) for item in listed])
        case Operator.BETWEEN:
            value, low, high = operands
            return _both(
                _comparison(Operator.GE, value, low), _comparison(Operator.LE, value, high)
            )
        case Operator.LIKE | Operator.REGEXP | Operator.CONTAINS:
            return _match(operator, operands[0], pattern)
        case Operator.CASE:
            return _case(operands)
        case _:
            return _function(DataType.BOOLEAN, _comparison(operator, *operands))


_Compute = Callable[[Sequence[Column], int], tuple[Any, _Mask | None]]


def _function(data_type: DataType, compute: _Compute) -> ImmediateFunction:
    def apply(times: Times, columns: Sequence[Column]) -> Column:
        values, valid = compute(columns, len(times))
        return Column(data_type, values.astype(BATCH_DTYPES[data_type], copy=False), valid)

    def start() -> RowStep:
        return apply

    return ImmediateFunction(data_type, start)


def _comparison(operator: Operator, left: Operand, right: Operand) -> _Compute:
    numeric = left.data_type in NUMERIC_TYPES and right.data_type in NUMERIC_TYPES
    if (left.place is None) is not (right.place is None):
        column = right if left.place is None else left
        if numeric or column.data_type not in NUMERIC_TYPES:
            return _constant_comparison(operator, left, right)
    if not numeric and left.data_type is not right.data_type:
        raise FunctionError(f"{left.data_type.name} and {right.data_type.name} can't be compared")
    exact = left.data_type in _INTEGERS and right.data_type in _INTEGERS
    ufunc = _UFUNCS[operator]

    def compute(columns: Sequence[Column], count: int) -> tuple[Any, _Mask | None]:
        a, a_valid = left.read(columns, count)
        b, b_valid = right.read(columns, count)
        if numeric and not exact:
            a, b = a.astype(np.float64), b.astype(np.float64)
            return _numbers_compared(operator, a, b), _and(a_valid, b_valid)
        return ufunc(a, b).astype(np.bool_), _and(a_valid, b_valid)

    return compute


_TURNED = {
    Operator.LT: Operator.GT,
    Operator.GT: Operator.LT,
    Operator.LE: Operator.GE,
    Operator.GE: Operator.LE,
}


def _constant_comparison(operator: Operator, left: Operand, right: Operand) -> _Compute:
    """Return the comparison of a column with a constant, the one that WHERE makes at the points.

    So the constant is what its text says in the column's type (sql.md 3.5).
    """
    column, constant = left, right
    if left.place is None:
        column, constant, operator = right, left, _TURNED.get(operator, operator)
    assert constant.literal is not None
    try:
        compared = compare_test(column.data_type, ScanOperator[operator.name], constant.literal)
    except ValueError as error:
        raise FunctionError(str(error)) from error
    test = compiled(compared)

    def compute(columns: Sequence[Column], count: int) -> tuple[Any, _Mask | None]:
        values, valid = column.read(columns, count)
        return test(values), valid

    return compute


def _numbers_compared(operator: Operator, a: Any, b: Any) -> _Mask:  # noqa: ANN401
    """Compare numbers of which some may be NaN: equal to itself, above all others."""
    with np.errstate(invalid="ignore"):
        result: _Mask = _UFUNCS[operator](a, b)
    odd = np.isnan(a) | np.isnan(b)
    if odd.any():
        # 1 stands for NaN, 0 for any other number
        result = np.where(odd, _UFUNCS[operator](np.isnan(a), np.isnan(b)), result)
    return result


def _and(a: _Mask | None, b: _Mask | None) -> _Mask | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _truths(computed: tuple[Any, _Mask | None]) -> tuple[_Mask, _Mask]:
    """Return where something is true, and where it is false."""
    values, valid = computed
    if valid is None:
        return values, ~values
    return values & valid, ~values & valid


def _logic(operator: Operator, operands: Sequence[Operand]) -> ImmediateFunction:
    for operand in operands:
        if operand.data_type is not DataType.BOOLEAN:
            raise FunctionError(
                f"{operator.value} is for BOOLEAN operands, one is {operand.data_type.name}"
            )
    reads: list[_Compute] = [operand.read for operand in operands]
    if operator is Operator.NOT:
        return _function(DataType.BOOLEAN, lambda columns, count: _not(reads[0](columns, count)))
    return _function(DataType.BOOLEAN, _joined(reads, conjunction=operator is Operator.AND))


def _not(computed: tuple[Any, _Mask | None]) -> tuple[Any, _Mask | None]:
    return ~computed[0], computed[1]


def _joined(parts: Sequence[_Compute], *, conjunction: bool) -> _Compute:
    def compute(columns: Sequence[Column], count: int) -> tuple[Any, _Mask | None]:
        pairs = [_truths(part(columns, count)) for part in parts]
        true = [pair[0] for pair in pairs]
        false = [pair[1] for pair in pairs]
        if conjunction:
            yes, no = np.logical_and.reduce(true), np.logical_or.reduce(false)
        else:
            yes, no = np.logical_or.reduce(true), np.logical_and.reduce(false)
        known = yes | no
        return yes, None if known.all() else known

    return compute


def _logic_of_tests(tests: Sequence[_Compute]) -> ImmediateFunction:
    return _function(DataType.BOOLEAN, _joined(tests, conjunction=False))


def _both(one: _Compute, other: _Compute) -> ImmediateFunction:
    return _function(DataType.BOOLEAN, _joined([one, other], conjunction=True))


def _null_test(operand: Operand) -> ImmediateFunction:
    def compute(columns: Sequence[Column], count: int) -> tuple[Any, _Mask | None]:
        _, valid = operand.read(columns, count)
        return np.zeros(count, np.bool_) if valid is None else ~valid, None

    return _function(DataType.BOOLEAN, compute)


def _match(operator: Operator, operand: Operand, pattern: str) -> ImmediateFunction:
    if operand.data_type is not DataType.TEXT:
        raise FunctionError(f"{operator.value} is for TEXT, not for {operand.data_type.name}")
    test: Callable[[bytes], bool]
    if operator is Operator.REGEXP:
        try:
            test = Regexp(pattern).found_in
        except ValueError as error:
            raise FunctionError(str(error)) from error
    elif operator is Operator.CONTAINS:
        part = pattern.encode("utf-8", "surrogatepass")
        test = lambda text: part in text  # noqa: E731
    else:
        like = LikePattern(pattern)
        test = lambda text: like.matches(text.decode("utf-8", "replace"))  # noqa: E731

    def compute(columns: Sequence[Column], count: int) -> tuple[Any, _Mask | None]:
        values, valid = operand.read(columns, count)
        return np.fromiter(map(test, values.tolist()), np.bool_, count), valid

    return _function(DataType.BOOLEAN, compute)


def _case(operands: Sequence[Operand]) -> ImmediateFunction:
    pairs = list(zip(operands[0::2], operands[1::2], strict=False))
    otherwise = operands[-1] if len(operands) % 2 else None
    results = [value for _, value in pairs] + ([] if otherwise is None else [otherwise])
    types = {result.data_type for result in results}
    if len(types) == 1:
        (data_type,) = types
    elif types <= set(NUMERIC_TYPES):
        data_type = DataType.DOUBLE
    else:
        names = ", ".join(sorted(kind.name for kind in types))
        raise FunctionError(f"the values of CASE are of different types: {names}")
    for condition, _ in pairs:
        if condition.data_type is not DataType.BOOLEAN:
            raise FunctionError(
                f"a condition of CASE is {condition.data_type.name}, it has to be BOOLEAN"
            )

    def compute(columns: Sequence[Column], count: int) -> tuple[Any, _Mask | None]:
        values = np.zeros(count, BATCH_DTYPES[data_type])
        valid = np.zeros(count, np.bool_)
        left = np.ones(count, np.bool_)
        for condition, result in pairs:
            true, _ = _truths(condition.read(columns, count))
            _take(left & true, result.read(columns, count), values, valid)
            left &= ~true
        if otherwise is not None:
            _take(left, otherwise.read(columns, count), values, valid)
        return values, None if valid.all() else valid

    return _function(data_type, compute)


def _take(rows: _Mask, source: tuple[Any, _Mask | None], values: Any, valid: _Mask) -> None:  # noqa: ANN401
    """Copy the cells of some rows."""
    values[rows] = source[0][rows]
    valid[rows] = True if source[1] is None else source[1][rows]
