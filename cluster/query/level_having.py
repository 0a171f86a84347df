"""HAVING with GROUP BY LEVEL: rows for which it holds in every group (sql.md 7.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cluster.query.backend import QueryBackend
from cluster.query.binding import Binder, MatchedSeries, SeriesResolver, aggregate_of, match_over
from cluster.query.context import QueryContext
from cluster.query.errors import query_error
from cluster.query.evaluate import compute_of
from cluster.query.expressions import Bound, Leaf, SeriesLeaf, leaves
from cluster.query.level import grouped_names
from cluster.query.modern_rows import first_only, where_true
from cluster.query.result import ResultSet, limited
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.expressions import (
    BinaryExpression,
    Expression,
    FunctionCall,
    Negation,
    Operation,
    PathExpression,
)
from cluster.sql.statements.select import Select, SelectItem
from iotdb_engine.types import ColumnBatch, DataType


def having_over_levels(
    select: Select,
    run: Callable[[Select], ResultSet],
    backend: QueryBackend,
    context: QueryContext,
) -> ResultSet:
    """Return the rows of a GROUP BY LEVEL that pass its HAVING.

    The aggregates of HAVING are asked for beside those of the select list, and left out again.

    Args:
        select: with levels and HAVING.
        run: plans a SELECT without HAVING.
        backend: what there is.
        context: of the query.

    Raises:
        ClusterError: of the query; QUERY_PROCESS_ERROR also where HAVING is no condition over
            aggregates.
    """
    assert select.having is not None
    calls: list[FunctionCall] = []
    condition = _over_columns(select.having, calls)
    if not calls:
        raise query_error("HAVING is about aggregates, such as HAVING count(s1) > 1")
    base = replace(select, having=None, limit=None, offset=0, series_limit=None, series_offset=0)
    visible = run(base)
    shown = len(visible.columns)
    visible.close()
    result = run(replace(base, items=(*select.items, *(SelectItem(call) for call in calls))))
    tests = _tests(condition, calls, select, result, backend, context)
    chosen = range(shown)[select.series_offset :][: select.series_limit]
    if not chosen and shown:
        raise query_error(
            f"The value of SOFFSET ({select.series_offset}) is equal to or exceeds the number of "
            f"sequences ({shown}) that can actually be returned."
        )
    batches = result.batches
    if tests:
        batches = first_only(_tested(batches, tests, result), len(result.columns))
    return replace(
        result,
        columns=[result.columns[number] for number in chosen],
        types=[result.types[number] for number in chosen],
        column_index=list(range(len(chosen))),
        batches=limited(_chosen(batches, result, chosen), select.offset, select.limit),
    )


def _over_columns(expression: Expression, calls: list[FunctionCall]) -> Expression:
    """Return a condition with a path `call<n>` in place of each aggregate, which is noted."""
    if isinstance(expression, FunctionCall) and aggregate_of(expression) is not None:
        if expression not in calls:
            calls.append(expression)
        return PathExpression(f"call{calls.index(expression)}")
    match expression:
        case PathExpression():
            raise query_error("HAVING is about aggregates, such as HAVING count(s1) > 1")
        case Negation():
            return Negation(_over_columns(expression.operand, calls))
        case BinaryExpression():
            return replace(
                expression,
                left=_over_columns(expression.left, calls),
                right=_over_columns(expression.right, calls),
            )
        case FunctionCall():
            arguments = tuple(_over_columns(one, calls) for one in expression.arguments)
            return replace(expression, arguments=arguments)
        case Operation():
            operands = tuple(_over_columns(one, calls) for one in expression.operands)
            return replace(expression, operands=operands)
        case _:
            return expression


def _tests(
    condition: Expression,
    calls: Sequence[FunctionCall],
    select: Select,
    result: ResultSet,
    backend: QueryBackend,
    context: QueryContext,
) -> list[Bound]:
    """Return the condition over the columns of a result, once for each choice of groups."""
    resolver = SeriesResolver(backend, prefix_dialect=context.prefix_dialect)
    match = match_over(select.prefixes, resolver)
    aliases = {
        name: item.alias
        for item in select.items
        if item.alias is not None
        for name in grouped_names(item.expression, match, select.levels)
    }

    def columns(path: str) -> list[MatchedSeries]:
        call = calls[int(path.removeprefix("call"))]
        found = []
        for name in grouped_names(call, match, select.levels):
            number = result.columns.index(aliases.get(name, name))
            found.append((_column(number, name, result.types[number]), name))
        return found

    tests = Binder(columns, context.functions).bind(condition)
    for test in tests:
        if test.data_type is not DataType.BOOLEAN:
            raise query_error(
                f"HAVING needs a condition; {test.name} is of type {test.data_type.name}"
            )
    return tests


def _column(number: int, name: str, data_type: DataType) -> SeriesInfo:
    """Return what stands for a column where expressions have series."""
    return SeriesInfo(number, "", "", name, data_type, 0, 0, aligned=False)


def _tested(
    batches: Iterator[ColumnBatch], tests: Sequence[Bound], result: ResultSet
) -> Iterator[ColumnBatch]:
    """Yield the rows in which all tests are true, the tests behind the columns."""
    numbers: dict[Leaf, int] = {
        leaf: result.column_index[leaf.series.series_id]
        for test in tests
        for leaf in leaves(test)
        if isinstance(leaf, SeriesLeaf)
    }
    computes = [compute_of(test, numbers) for test in tests]
    width = len(result.columns)
    with_tests = (
        ColumnBatch(batch.times, (*batch.columns, *(compute(batch) for compute in computes)))
        for batch in batches
    )
    return where_true(with_tests, range(width, width + len(tests)))


def _chosen(
    batches: Iterator[ColumnBatch], result: ResultSet, chosen: Sequence[int]
) -> Iterator[ColumnBatch]:
    for batch in batches:
        yield ColumnBatch(
            batch.times,
            tuple(batch.columns[result.column_index[number]] for number in chosen),
        )
