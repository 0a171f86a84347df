"""GROUP BY LEVEL: aggregates merged over series whose paths agree at some levels (sql.md 3.9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from cluster.query.aggregates import AggregateFunction
from cluster.query.aggregation import AggregateSource, needs_of, rows_of
from cluster.query.binding import Binder, PathMatcher, aggregate_of
from cluster.query.errors import query_error
from cluster.query.expressions import AggregateLeaf
from cluster.query.functions.casting import cast_values
from cluster.scan.windows import WindowAggregates
from cluster.schema.paths import join_path, split_path
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.expressions import Expression, FunctionCall, PathExpression
from cluster.sql.statements.select import SelectItem
from iotdb_engine.types import ColumnBatch, DataType

_OF_ONE_TYPE = ("sum", "avg", "min_value", "max_value")


class LevelColumn(NamedTuple):
    """One column of the answer: an aggregate over several series."""

    name: str
    function: AggregateFunction
    members: tuple[SeriesInfo, ...]

    @property
    def data_type(self) -> DataType:
        """Type of the values: that of the first series where the function keeps types."""
        return self.function.result_type(self.members[0].data_type)


class _Group:
    def __init__(self, function: AggregateFunction) -> None:
        self.function = function
        self.members: dict[int, SeriesInfo] = {}
        self.alias: str | None = None


def bind_levels(
    items: Sequence[SelectItem], match: PathMatcher, levels: Sequence[int]
) -> list[LevelColumn]:
    """Return the grouped columns, by first appearance.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: expressions around aggregates, an AS name for several
            columns or several names for one, types that can't be merged.
    """
    groups: dict[str, _Group] = {}
    binder = Binder(match)
    for item in items:
        if not isinstance(item.expression, FunctionCall):
            raise _nested()
        names: dict[str, None] = {}
        for leaf in binder.bind(item.expression):
            if not isinstance(leaf, AggregateLeaf):
                raise _nested()
            name = _grouped_name(item.expression, leaf.series, levels)
            names[name] = None
            group = groups.setdefault(name, _Group(leaf.function))
            group.members.setdefault(leaf.series.series_id, leaf.series)
        if item.alias is not None:
            _name_group(item.alias, list(names), groups)
    columns = [
        LevelColumn(group.alias or name, group.function, tuple(group.members.values()))
        for name, group in groups.items()
    ]
    _check_types(columns)
    return columns


def grouped_names(expression: Expression, match: PathMatcher, levels: Sequence[int]) -> list[str]:
    """Return the grouped columns that an aggregate stands for, none when it matches nothing."""
    if not isinstance(expression, FunctionCall) or aggregate_of(expression) is None:
        return []
    names = {
        _grouped_name(expression, leaf.series, levels): None
        for leaf in Binder(match).bind(expression)
        if isinstance(leaf, AggregateLeaf)
    }
    return list(names)


def _nested() -> Exception:
    return query_error(
        "UDF nesting aggregations in GROUP BY query does not support grouping by level now."
    )


def _grouped_name(call: FunctionCall, series: SeriesInfo, levels: Sequence[int]) -> str:
    """Return `function(path)`, the path's nodes at other levels replaced by `*`."""
    nodes = [*split_path(series.device), series.measurement]
    kept = [node if level in levels else "*" for level, node in enumerate(nodes[:-1])]
    kept[0] = nodes[0]
    last = "*" if _counts_everything(call) else nodes[-1]
    return f"{call.name}({join_path([*kept, last])})"


def _counts_everything(call: Expression) -> bool:
    return (
        isinstance(call, FunctionCall)
        and call.name.lower() == "count"
        and isinstance(call.arguments[0], PathExpression)
        and call.arguments[0].path in ("*", "**")
    )


def _name_group(alias: str, names: Sequence[str], groups: dict[str, _Group]) -> None:
    if len(names) != 1:
        raise query_error(f"alias '{alias}' can only be matched with one result column")
    group = groups[names[0]]
    if group.alias is not None and group.alias != alias:
        raise query_error(
            f"Result column {names[0]} with more than one alias[{group.alias}, {alias}]"
        )
    group.alias = alias


def _check_types(columns: Sequence[LevelColumn]) -> None:
    """0.13 looks at the first function of the list only."""
    if columns and columns[0].function.name in _OF_ONE_TYPE:
        types = {info.data_type for column in columns for info in column.members}
        if len(types) > 1:
            raise query_error("Aggregate among unmatched data types")


def read_levels(
    source: AggregateSource,
    series: Sequence[SeriesInfo],
    columns: Sequence[LevelColumn],
    *,
    descending: bool,
) -> Iterator[ColumnBatch]:
    """Stream a row for each window, a column for each grouped column.

    Args:
        source: of the series.
        series: what the source reads, in its order.
        columns: over members that are among the series.
        descending: latest windows first.
    """
    numbers = {info.series_id: number for number, info in enumerate(series)}
    needs = needs_of([column.function for column in columns])
    for piece in source.pieces(descending=descending):
        aggregates = source.aggregate(piece.windows, needs)
        merged = [
            column.function.column(
                _merged(column, [aggregates[numbers[info.series_id]] for info in column.members])
            )
            for column in columns
        ]
        yield rows_of(piece, merged, descending=descending)


def _merged(column: LevelColumn, parts: Sequence[WindowAggregates]) -> WindowAggregates:
    needs = column.function.needs
    result = parts[0].only(needs)
    for part in parts[1:]:
        result.merge(_as_type(part.only(needs), result.data_type))
    return result


def _as_type(part: WindowAggregates, data_type: DataType) -> WindowAggregates:
    """Return aggregates with their values as another type's."""
    if part.data_type is data_type:
        return part
    source = part.data_type

    def cast(name: str) -> object:
        values = getattr(part, name)
        return None if values is None else cast_values(values, source, data_type)[0]

    changes = {name: cast(name) for name in ("first", "last", "minimum", "maximum")}
    return replace(part, data_type=data_type, **changes)  # type: ignore[arg-type]
