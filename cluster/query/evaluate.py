"""Computes bound expressions over column batches.

Immediate expressions are computed batch by batch beside each other. One that contains a delayed
function has a stream of its own: its points come at times other than the rows just read, so the
streams are aligned by time afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cluster.query.align import align_streams
from cluster.query.expressions import (
    AggregateLeaf,
    Binary,
    Bound,
    Call,
    ColumnLeaf,
    ConstantLeaf,
    EndTimeLeaf,
    Leaf,
    Negated,
    RowAggregateLeaf,
    SeriesLeaf,
    TimeLeaf,
    is_delayed,
    leaves,
)
from cluster.query.functions.function import DelayedFunction, ImmediateFunction, Points
from cluster.scan.filters import first_columns
from cluster.sql.statements.expressions import Arithmetic
from iotdb_engine.types import BATCH_DTYPES, Column, ColumnBatch, DataType

ReadLeaves = Callable[[Sequence[Leaf]], Iterator[ColumnBatch]]
"""Distinct leaves → a fresh, ascending stream of rows with a column for each."""

Compute = Callable[[ColumnBatch], Column]

_UFUNCS: dict[Arithmetic, np.ufunc] = {
    Arithmetic.ADD: np.add,
    Arithmetic.SUBTRACT: np.subtract,
    Arithmetic.MULTIPLY: np.multiply,
    Arithmetic.DIVIDE: np.divide,
    Arithmetic.MODULO: np.fmod,
}


def evaluated(
    expressions: Sequence[Bound], read: ReadLeaves, *, keep_empty_rows: bool
) -> Iterator[ColumnBatch]:
    """Stream rows with a column for each expression, ascending.

    Args:
        expressions: distinct.
        read: where the leaves come from.
        keep_empty_rows: whether rows in which every column is null stay (windows do, points do
            not); only for expressions without delayed functions.
    """
    delayed = [number for number, expression in enumerate(expressions) if is_delayed(expression)]
    if not delayed:
        yield from _immediate(expressions, read, keep_empty_rows=keep_empty_rows)
        return
    others = [number for number in range(len(expressions)) if number not in delayed]
    streams: list[Iterator[ColumnBatch]] = []
    if others:
        chosen = [expressions[number] for number in others]
        streams.append(_immediate(chosen, read, keep_empty_rows=keep_empty_rows))
    streams += [_points(expressions[number], read) for number in delayed]
    groups = ([others] if others else []) + [[number] for number in delayed]
    types = [[expressions[number].data_type for number in group] for group in groups]
    place = np.argsort([number for group in groups for number in group]).tolist()
    for batch in align_streams(streams, types):
        yield ColumnBatch(batch.times, tuple(batch.columns[at] for at in place))


def _immediate(
    expressions: Sequence[Bound], read: ReadLeaves, *, keep_empty_rows: bool
) -> Iterator[ColumnBatch]:
    plain = [one for one in expressions if isinstance(one, (SeriesLeaf, AggregateLeaf))]
    if len(plain) == len(expressions):  # the usual query: nothing is computed
        for batch in read(plain):
            filled = batch if keep_empty_rows else first_columns(batch, len(plain))
            if filled is not None:
                yield filled
        return
    numbers: dict[Leaf, int] = {}
    for expression in expressions:
        for leaf in leaves(expression):
            numbers.setdefault(leaf, len(numbers))
    computes = [compute_of(expression, numbers) for expression in expressions]
    for batch in read(list(numbers)):
        computed = ColumnBatch(batch.times, tuple(compute(batch) for compute in computes))
        if keep_empty_rows:
            yield computed
        else:
            filled = first_columns(computed, len(computed.columns))
            if filled is not None:
                yield filled


def compute_of(expression: Bound, numbers: Mapping[Leaf, int]) -> Compute:
    """Return a fresh computation of an immediate expression.

    Args:
        expression: without delayed functions.
        numbers: for each leaf the number of its column in the batches, which follow each other in
            time.
    """
    match expression:
        case SeriesLeaf() | AggregateLeaf() | RowAggregateLeaf() | EndTimeLeaf():
            number = numbers[expression]
            return lambda batch: batch.columns[number]
        case TimeLeaf():
            return lambda batch: Column(DataType.INT64, batch.times)
        case ColumnLeaf():
            place = expression.number
            return lambda batch: batch.columns[place]
        case Negated():
            operand = compute_of(expression.operand, numbers)
            return lambda batch: _negative(operand(batch))
        case Binary():
            left = _operand(expression.left, numbers)
            right = _operand(expression.right, numbers)
            ufunc = _UFUNCS[expression.op]
            return lambda batch: _arithmetic(ufunc, left(batch), right(batch))
        case Call():
            function = expression.function
            assert isinstance(function, ImmediateFunction)
            arguments = [compute_of(argument, numbers) for argument in expression.arguments]
            step = function.start()
            return lambda batch: step(batch.times, [argument(batch) for argument in arguments])
        case ConstantLeaf():
            value = expression.value
            return lambda batch: Column(
                DataType.DOUBLE, np.full(len(batch.times), value, np.float64)
            )


def _operand(
    expression: Bound, numbers: Mapping[Leaf, int]
) -> Callable[[ColumnBatch], tuple[Any, Any]]:
    """Return a computation of doubles (or one double), and which of them are valid."""
    if isinstance(expression, ConstantLeaf):
        value = expression.value
        return lambda _: (value, None)
    compute = compute_of(expression, numbers)

    def doubles(batch: ColumnBatch) -> tuple[Any, Any]:
        column = compute(batch)
        return column.values.astype(np.float64), column.valid

    return doubles


def _arithmetic(ufunc: np.ufunc, left: tuple[Any, Any], right: tuple[Any, Any]) -> Column:
    with np.errstate(all="ignore"):  # infinities and NaN are results
        values = ufunc(left[0], right[0])
    if left[1] is None or right[1] is None:
        valid = right[1] if left[1] is None else left[1]
    else:
        valid = left[1] & right[1]
    return Column(DataType.DOUBLE, values, valid)


def _negative(column: Column) -> Column:
    return Column(column.type, np.negative(column.values), column.valid)


# ---- streams of points ----


def _points(expression: Bound, read: ReadLeaves) -> Iterator[ColumnBatch]:
    """Stream the points of one expression: one column, no nulls."""
    if not is_delayed(expression):
        yield from map(_valid_points, _immediate([expression], read, keep_empty_rows=False))
        return
    if isinstance(expression, Call) and isinstance(expression.function, DelayedFunction):
        yield from _run_delayed(expression.function, _points(expression.arguments[0], read))
        return
    # an immediate operation over delayed operands: these become leaves of aligned rows
    operands = [part for part in _operands(expression) if not isinstance(part, ConstantLeaf)]
    streams = [_points(part, read) for part in operands]
    compute = compute_of(_over_columns(expression, operands), {})
    for batch in align_streams(streams, [[part.data_type] for part in operands]):
        found = first_columns(ColumnBatch(batch.times, (compute(batch),)), 1)
        if found is not None:
            yield _valid_points(found)


def _operands(expression: Bound) -> tuple[Bound, ...]:
    match expression:
        case Negated():
            return (expression.operand,)
        case Binary():
            return (expression.left, expression.right)
        case Call():
            return expression.arguments
        case _:
            return ()


def _over_columns(expression: Bound, operands: Sequence[Bound]) -> Bound:
    """Return the outermost operation over the columns that its operands have become."""

    def stand_in(part: Bound) -> Bound:
        if isinstance(part, ConstantLeaf):
            return part
        return ColumnLeaf(operands.index(part), part.data_type, part.name)

    match expression:
        case Negated():
            return Negated(stand_in(expression.operand), expression.name)
        case Binary():
            return Binary(
                expression.op,
                stand_in(expression.left),
                stand_in(expression.right),
                expression.name,
            )
        case Call():
            return Call(
                expression.key,
                tuple(map(stand_in, expression.arguments)),
                expression.attributes,
                expression.function,
                expression.name,
            )
        case _:
            return expression


def _run_delayed(function: DelayedFunction, points: Iterator[ColumnBatch]) -> Iterator[ColumnBatch]:
    run = function.start()
    for batch in points:
        yield from _told(run.push(batch.times, batch.columns[0].values), function.data_type)
    yield from _told(run.finish(), function.data_type)


def _told(points: Points, data_type: DataType) -> Iterator[ColumnBatch]:
    if len(points.times):
        values = points.values.astype(BATCH_DTYPES[data_type], copy=False)
        yield ColumnBatch(points.times, (Column(data_type, values),))


def _valid_points(batch: ColumnBatch) -> ColumnBatch:
    (column,) = batch.columns
    return ColumnBatch(batch.times, (Column(column.type, column.values),))
