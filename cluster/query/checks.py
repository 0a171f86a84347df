"""Which clauses go together (sql.md 3.2)."""

from __future__ import annotations

from cluster.query.binding import ItemKind, aggregate_of, is_row_aggregate, kind_of
from cluster.query.errors import query_error
from cluster.sql.statements.expressions import Expression, PathExpression
from cluster.sql.statements.select import (
    Alignment,
    Comparison,
    Condition,
    Select,
    TimeCompare,
)

_MIXED = "Common queries and aggregated queries are not allowed to appear at the same time"


def select_kind(select: Select) -> ItemKind:
    """Return what a SELECT computes, after checking that its clauses go together.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR.
    """
    if select.last:
        _check_last(select)
        return ItemKind.SERIES
    kinds = [kind_of(item) for item in select.items]
    if ItemKind.AGGREGATE in kinds and kinds.count(ItemKind.AGGREGATE) < len(kinds):
        if ItemKind.FUNCTION in kinds:
            raise query_error(
                "User-defined and built-in hybrid aggregation is not supported together."
            )
        raise query_error(_MIXED)
    if ItemKind.AGGREGATE in kinds:
        _check_aggregation(select)
        return ItemKind.AGGREGATE
    if select.in_windows or select.levels or select.tags:
        raise query_error(_MIXED)
    kind = ItemKind.FUNCTION if ItemKind.FUNCTION in kinds else ItemKind.SERIES
    if select.modern:
        return kind
    if kind is ItemKind.FUNCTION and select.alignment is Alignment.DEVICE:
        raise query_error("ALIGN BY DEVICE clause is not supported in UDF queries.")
    if select.fill is not None:
        if kind is ItemKind.FUNCTION:
            raise query_error("Fill functions are not supported in UDF queries.")
        if select.alignment is Alignment.NONE:
            raise query_error("FILL doesn't support disable align clause.")
    return kind


def _check_last(select: Select) -> None:
    if select.alignment is Alignment.DEVICE:
        raise query_error("Last query doesn't support align by device.")
    if select.alignment is Alignment.NONE:
        raise query_error("Disable align cannot be applied to LAST query.")
    if (
        not all(isinstance(item.expression, PathExpression) for item in select.items)
        or select.windows is not None
        or select.levels
        or select.tags
        or select.fill is not None
    ):
        raise query_error("Last queries can only be applied on raw time series.")


def is_last_filter(select: Select) -> bool:
    """Return whether the WHERE clause is what LAST knows in 0.13: the latest point decides."""
    where = select.where
    later = isinstance(where, TimeCompare) and where.op in (Comparison.GT, Comparison.GE)
    return select.rest is None and (where is None or later)


def last_filter(condition: Condition | None) -> TimeCompare | None:
    """Return the only predicate that LAST allows.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: anything but one `time >` or `time >=`.
    """
    if condition is None:
        return None
    if isinstance(condition, TimeCompare) and condition.op in (Comparison.GT, Comparison.GE):
        return condition
    raise query_error("Only '>' and '>=' are supported in LAST query")


def has_nested_aggregates(select: Select) -> bool:
    """Return whether some item of an aggregation is more than one aggregate over a path."""
    return any(
        kind_of(item) is ItemKind.AGGREGATE and not _is_plain_call(item.expression)
        for item in select.items
    )


def _check_aggregation(select: Select) -> None:
    nested = not all(_is_plain_call(item.expression) for item in select.items)
    if select.alignment is Alignment.NONE:
        what = "AGGREGATION" if select.windows is None else "GROUPBYTIME"
        raise query_error(f"{what} doesn't support disable align clause.")
    if select.alignment is Alignment.DEVICE:
        if select.levels:
            raise query_error("group by level does not support align by device now.")
        if nested and not select.modern:
            raise query_error("ALIGN BY DEVICE clause is not supported in UDF queries.")
    if select.levels and nested:
        raise query_error(
            "UDF nesting aggregations in GROUP BY query does not support grouping by level now."
        )
    if select.fill is not None and not select.modern:
        if nested:
            raise query_error(
                "UDF nesting aggregations in GROUP BY query does not support FILL now."
            )
        if select.windows is None:
            raise query_error("FILL can't be applied to an aggregation without GROUP BY time.")


def _is_plain_call(expression: Expression) -> bool:
    """Return whether an expression is one aggregate over a path, nothing around it."""
    return aggregate_of(expression) is not None or is_row_aggregate(expression)


def fill_time(condition: Condition | None) -> int:
    """Return the timestamp of a FILL at a point.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: the WHERE clause is not `time = constant`.
    """
    if condition is None:
        raise query_error("FILL must be used with a WHERE clause")
    if not isinstance(condition, TimeCompare):
        raise query_error("The condition of WHERE clause must be like time=constant")
    if condition.op is not Comparison.EQ:
        raise query_error("The condition of WHERE clause must be like time=constant")
    return condition.value
