"""GROUP BY TAGS of 1.x: aggregates merged over series that agree in the values of some tags.

A row for each combination of values (in each window of time), in the order of the values, series
without a tag last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cluster.query.aggregation import AggregateSource
from cluster.query.align import nulls
from cluster.query.binding import Binder, match_over
from cluster.query.errors import query_error
from cluster.query.expressions import AggregateLeaf
from cluster.query.group_by import WindowSeries
from cluster.query.level import LevelColumn, read_levels
from cluster.query.result import ResultSet, limited
from cluster.query.selection import Selection, check_series_count
from cluster.query.where import SeriesColumns
from cluster.query.without_null import listed_text
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.select import Alignment
from iotdb_engine.types import Column, ColumnBatch, DataType

_MISSING = "NULL"
"""How a row of series without a tag shows it."""

_Values = tuple[str | None, ...]


class TagSelection(Selection):
    """One such SELECT; see the base."""

    def result(self) -> ResultSet:
        """Plan, and return the result to be computed."""
        select = self._select
        if (
            select.alignment is not Alignment.TIME
            or select.fill is not None
            or select.without_null is not None
            or select.having is not None
            or select.rest is not None
            or select.sort_keys
            or select.series_limit is not None
            or select.series_offset
        ):
            raise query_error(
                "GROUP BY TAGS goes with windows of time, LIMIT, OFFSET and conditions that "
                "compare series and time with constants, not with other clauses"
            )
        self._resolver.prefetch(select)
        groups = self._groups()
        order = sorted(groups, key=lambda values: [(one is None, one or "") for one in values])
        types = [self._type_of(number, groups) for number in range(len(select.items))]
        columns = [column for values in order for column in groups[values] if column is not None]
        reads = SeriesColumns()
        for column in columns:
            for info in column.members:
                reads.number_of(info)
        selected = len(reads.series)
        where = self._where(reads)
        check_series_count(len(reads.series), self._context)
        windows = None if select.windows is None else WindowSeries(select.windows, self._context)
        descending = select.order_descending and windows is not None
        batches: Iterator[ColumnBatch] = iter(())
        if columns:
            source = AggregateSource(
                self._backend, self._context, reads.series, selected, where, windows
            )
            batches = self._rows(
                read_levels(source, reads.series, columns, descending=descending),
                [(values, groups[values]) for values in order],
                types,
            )
        names = [item.alias or listed_text(item.expression) for item in select.items]
        return ResultSet(
            columns=[*select.tags, *names],
            types=[DataType.TEXT] * len(select.tags) + types,
            column_index=list(range(len(select.tags) + len(types))),
            batches=limited(batches, select.offset, select.limit),
            ignore_time=windows is None,
        )

    def _groups(self) -> dict[_Values, list[LevelColumn | None]]:
        """Return the aggregates of each combination of values, one for each item or None."""
        select = self._select
        binder = Binder(match_over(select.prefixes, self._resolver), self._context.functions)
        found: dict[_Values, list[dict[int, AggregateLeaf]]] = {}
        for number, item in enumerate(select.items):
            for leaf in binder.bind(item.expression):
                if not isinstance(leaf, AggregateLeaf):
                    raise query_error("GROUP BY TAGS needs plain aggregates of series")
                values = _values_of(leaf.series, select.tags)
                items = found.setdefault(values, [{} for _ in select.items])
                items[number].setdefault(leaf.series.series_id, leaf)
        return {values: [_merged(one) for one in items] for values, items in found.items()}

    def _type_of(self, number: int, groups: dict[_Values, list[LevelColumn | None]]) -> DataType:
        """Return the type of an item, which has to be that of all its series."""
        columns = [items[number] for items in groups.values()]
        types = {
            column.function.result_type(info.data_type)
            for column in columns
            if column is not None
            for info in column.members
        }
        if len(types) > 1:
            raise query_error("Aggregate among unmatched data types")
        return types.pop() if types else DataType.TEXT

    def _rows(
        self,
        windows: Iterator[ColumnBatch],
        groups: Sequence[tuple[_Values, Sequence[LevelColumn | None]]],
        types: Sequence[DataType],
    ) -> Iterator[ColumnBatch]:
        """Turn a column for each group and item into rows: the groups of each window together."""
        for batch in windows:
            count = len(batch.times)
            tags = [
                _texts(
                    [_MISSING if values[key] is None else str(values[key]) for values, _ in groups]
                )
                for key in range(len(self._select.tags))
            ]
            cells = iter(batch.columns)
            by_item: list[list[Column]] = [[] for _ in types]
            for _, items in groups:
                for number, item in enumerate(items):
                    column = nulls(types[number], count) if item is None else next(cells)
                    by_item[number].append(column)
            yield ColumnBatch(
                np.repeat(batch.times, len(groups)),
                (
                    *(Column(DataType.TEXT, np.tile(texts, count)) for texts in tags),
                    *(_woven(columns) for columns in by_item),
                ),
            )


def _values_of(series: SeriesInfo, keys: Sequence[str]) -> _Values:
    tags = dict(series.tags)
    return tuple(tags.get(key) for key in keys)


def _merged(leaves: dict[int, AggregateLeaf]) -> LevelColumn | None:
    if not leaves:
        return None
    first, *_ = leaves.values()
    return LevelColumn(first.name, first.function, tuple(leaf.series for leaf in leaves.values()))


def _texts(texts: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    values = np.empty(len(texts), dtype=object)
    values[:] = [text.encode() for text in texts]
    return values


def _woven(columns: Sequence[Column]) -> Column:
    """Return the first values of all columns, then the second ones, and so on."""
    values = np.stack([column.values for column in columns], axis=1).reshape(-1)
    valid = np.stack(
        [
            np.ones(len(column.values), np.bool_) if column.valid is None else column.valid
            for column in columns
        ],
        axis=1,
    ).reshape(-1)
    return Column(columns[0].type, values, None if valid.all() else valid)
