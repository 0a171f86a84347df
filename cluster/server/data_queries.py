"""Queries that come as lists of paths instead of SQL: raw data, last points, aggregations."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.errors import ClusterError, StatusCode
from cluster.rpc.gen.client.ttypes import (
    TAggregationType,
    TSAggregationQueryReq,
    TSGroupByQueryIntervalReq,
)
from cluster.schema.paths import join_path, parse_node, split_path
from cluster.sql.statements.expressions import Expression, FunctionCall, PathExpression
from cluster.sql.statements.select import (
    And,
    Comparison,
    Condition,
    Select,
    SelectItem,
    TimeCompare,
    TimeWindows,
)
from cluster.sql.timestamps import Duration
from iotdb_engine import T_MIN


def raw_data_query(paths: Sequence[str], start: int, end: int) -> Select:
    """Return the query of whole series in [start, end)."""
    where = _between(start, end)
    return Select(tuple(SelectItem(_relative(path)) for path in paths), ("root",), where)


def last_data_query(paths: Sequence[str], time: int) -> Select:
    """Return the query of last points at or after a time."""
    items = tuple(SelectItem(_relative(path)) for path in paths)
    return Select(items, ("root",), TimeCompare(Comparison.GE, time), last=True)


def last_of_device(device: str, measurements: Sequence[str]) -> Select:
    """Return the query of the last points of some measurements of a device."""
    nodes = split_path(device)
    return last_data_query([join_path([*nodes, parse_node(name)]) for name in measurements], T_MIN)


def last_below(nodes: Sequence[str]) -> Select:
    """Return the query of the last points of all series below a node.

    Args:
        nodes: of the path, from root on.
    """
    return last_data_query([f"{join_path(list(nodes))}.**"], T_MIN)


def interval_query(req: TSGroupByQueryIntervalReq) -> Select:
    """Return the query of one aggregate of one series over windows.

    Raises:
        ClusterError: see aggregation_query.
    """
    windows = TSAggregationQueryReq(
        paths=[join_path([*split_path(req.device), parse_node(req.measurement)])],
        aggregations=[req.aggregationType],
        startTime=req.startTime,
        endTime=req.endTime,
        interval=req.interval,
    )
    return aggregation_query(windows)


def aggregation_query(req: TSAggregationQueryReq) -> Select:
    """Return the query of one aggregate for each path, over windows where the request has them.

    Raises:
        ClusterError: METADATA_ERROR: numbers of paths and aggregations differ, or windows that
            can't be; UNSUPPORTED_OPERATION: an aggregation that is not known here.
    """
    if len(req.paths) != len(req.aggregations):
        raise ClusterError(
            StatusCode.METADATA_ERROR,
            f"{len(req.paths)} paths do not go with {len(req.aggregations)} aggregations",
        )
    items = tuple(
        SelectItem(FunctionCall(_function_name(number), (_relative(path),)))
        for path, number in zip(req.paths, req.aggregations, strict=True)
    )
    bounded = req.startTime is not None and req.endTime is not None
    if req.interval is None:
        where = _between(req.startTime, req.endTime) if bounded else None
        return Select(items, ("root",), where)
    sliding = req.interval if req.slidingStep is None else req.slidingStep
    if not bounded or req.startTime >= req.endTime or req.interval <= 0 or sliding < req.interval:
        raise ClusterError(
            StatusCode.METADATA_ERROR,
            "windows need startTime < endTime, an interval > 0, and a slidingStep that is not "
            "smaller than it",
        )
    windows = TimeWindows(
        req.startTime, req.endTime, Duration(0, req.interval), Duration(0, sliding)
    )
    return Select(items, ("root",), windows=windows)


def text_of(select: Select) -> str:
    """Return how a query that was no text is shown in lists of running queries."""
    paths = [path for item in select.items for path in _paths(item.expression)]
    return f"select{' last' if select.last else ''} {', '.join(paths)}"


def _paths(expression: Expression) -> list[str]:
    if isinstance(expression, PathExpression):
        return [f"root.{expression.path}"]
    if isinstance(expression, FunctionCall):
        inner = [path for argument in expression.arguments for path in _paths(argument)]
        return [f"{expression.name.lower()}({', '.join(inner)})"]
    return []


def _between(start: int, end: int) -> Condition:
    return And((TimeCompare(Comparison.GE, start), TimeCompare(Comparison.LT, end)))


def _relative(path: str) -> PathExpression:
    """Return a full path as one below root.

    Raises:
        ClusterError: PATH_ILLEGAL.
    """
    nodes = split_path(path)
    if len(nodes) < 2:
        raise ClusterError(StatusCode.PATH_ILLEGAL, f"{path} is not a legal path of a series")
    return PathExpression(join_path(nodes[1:]))


def _function_name(number: int) -> str:
    name = TAggregationType._VALUES_TO_NAMES.get(number, str(number))
    if name not in (
        "COUNT",
        "AVG",
        "SUM",
        "FIRST_VALUE",
        "LAST_VALUE",
        "MAX_TIME",
        "MIN_TIME",
        "MAX_VALUE",
        "MIN_VALUE",
        "EXTREME",
    ):
        raise ClusterError(
            StatusCode.UNSUPPORTED_OPERATION, f"the aggregation {name} is not supported"
        )
    return str(name).lower()
