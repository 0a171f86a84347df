"""Output columns of a SELECT: expansion of items over prefixes, names, types (sql.md 3.3, 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cluster.errors import ClusterError, StatusCode
from cluster.query.aggregates import AGGREGATE_FUNCTIONS, AggregateFunction
from cluster.query.backend import QueryBackend
from cluster.schema.paths import PathPattern
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.select import (
    FunctionCall,
    PathExpression,
    Select,
    SelectItem,
)
from iotdb_engine.types import DataType


def query_error(text: str) -> ClusterError:
    """Return the error of a query that parses but can't be planned (0.13's planner errors)."""
    return ClusterError(StatusCode.QUERY_PROCESS_ERROR, f"Error occurred in query process: {text}")


class OutputColumn(NamedTuple):
    """One column of the answer; `function` None: the series' points themselves."""

    name: str
    series: SeriesInfo
    function: AggregateFunction | None = None

    @property
    def data_type(self) -> DataType:
        """Type of the column's values."""
        if self.function is None:
            return self.series.data_type
        return self.function.result_type(self.series.data_type)


class SeriesResolver:
    """Looks series up by pattern, each distinct pattern once for a query."""

    def __init__(self, backend: QueryBackend, *, prefix_dialect: bool) -> None:
        self._backend = backend
        self._prefix_dialect = prefix_dialect
        self._known: dict[str, list[SeriesInfo]] = {}

    def match(self, pattern: str) -> list[SeriesInfo]:
        """Return the series that match, in the backend's order."""
        found = self._known.get(pattern)
        if found is None:
            compiled = PathPattern.parse(pattern, prefix=self._prefix_dialect)
            found = self._known[pattern] = self._backend.match_series(compiled)
        return found


def expand_items(select: Select, resolver: SeriesResolver) -> list[OutputColumn]:
    """Return the output columns before SLIMIT: item after item, prefix after prefix.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: raw and aggregate items mixed, an AS name for several
            columns, an unknown function, or a function that does not take the series' type.
    """
    functions = [_function_of(item) for item in select.items]
    if len({function is None for function, _ in functions}) > 1:
        raise query_error(
            "Common queries and aggregated queries are not allowed to appear at the same time"
        )
    columns: list[OutputColumn] = []
    for item, (function, path) in zip(select.items, functions, strict=True):
        matched = _matches(path, select.prefixes, resolver)
        if item.alias is not None and len(matched) != 1:
            raise query_error(f"alias '{item.alias}' can only be matched with one time series")
        for series, shown in matched:
            if function is not None:
                function.check_type(series.data_type)
            columns.append(OutputColumn(_title(item, shown), series, function))
    return columns


def _function_of(item: SelectItem) -> tuple[AggregateFunction | None, str]:
    """Return an item's aggregate function (None: none) and its path."""
    expression = item.expression
    if isinstance(expression, PathExpression):
        return None, expression.path
    function = AGGREGATE_FUNCTIONS.get(expression.name.lower())
    if function is None:
        known = ", ".join(sorted(AGGREGATE_FUNCTIONS))
        raise query_error(f"unknown function {expression.name}; there are {known}")
    if (
        len(expression.arguments) != 1
        or expression.attributes
        or not isinstance(expression.arguments[0], PathExpression)
    ):
        raise query_error("The argument of the aggregation function must be a time series.")
    return function, expression.arguments[0].path


def _matches(
    path: str, prefixes: Sequence[str], resolver: SeriesResolver
) -> list[tuple[SeriesInfo, str]]:
    """Return the series of a path over all prefixes, each with the text that the header shows."""
    return [
        (series, _shown_path(series, pattern))
        for pattern in (f"{prefix}.{path}" for prefix in prefixes)
        for series in resolver.match(pattern)
    ]


def _shown_path(series: SeriesInfo, pattern: str) -> str:
    """Return the full path, ending in the alias if that is how the query calls the series."""
    alias = series.alias
    if alias is None or not pattern.endswith("." + alias):
        return series.path
    # `*.alias` may also be matched by a series whose measurement has that name
    return series.path if series.measurement == alias else f"{series.device}.{alias}"


def _title(item: SelectItem, shown: str) -> str:
    if item.alias is not None:
        return item.alias
    if isinstance(item.expression, FunctionCall):
        return f"{item.expression.name}({shown})"
    return shown


def cut_columns(columns: list[OutputColumn], limit: int | None, offset: int) -> list[OutputColumn]:
    """Apply SLIMIT and SOFFSET.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: the offset leaves nothing.
    """
    if offset and offset >= len(columns):
        raise query_error(
            f"The value of SOFFSET ({offset}) is equal to or exceeds the number of sequences "
            f"({len(columns)}) that can actually be returned."
        )
    return columns[offset : None if limit is None else offset + limit]
