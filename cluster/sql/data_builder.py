"""Statements that write and delete points, from parse trees."""

from __future__ import annotations

from lark import Token, Tree

from cluster.errors import ClusterError
from cluster.sql.conditions import condition_of, delete_range
from cluster.sql.constants import literal_of, time_of
from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.names import measurement_text
from cluster.sql.nodes import Node, full_path_of, parts, patterns_of, subtrees, tokens_of
from cluster.sql.statements.data import DataStatement, DeleteData, Insert
from cluster.sql.statements.literals import Literal


class DataBuilder:
    """Builds what `data.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_insert(self, node: Node) -> DataStatement:
        """Build rule `insert`."""
        columns = parts(node, "insert_columns")[0]
        names = tuple(measurement_text(token) for token in tokens_of(columns))
        place = _place_of_time(columns)
        rows = parts(node, "insert_row")
        if place is None and len(rows) > 1:
            raise semantic_error("need timestamps when insert multi rows")
        times: list[int | None] = []
        values: list[tuple[Literal, ...]] = []
        for row in rows:
            cells = subtrees(row)
            time = None
            if place is not None and place < len(cells):
                time = time_of(cells.pop(place), self._context)
            elif place is not None:
                raise _sizes_differ(len(names), max(0, len(cells) - 1))
            if len(cells) != len(names):
                raise _sizes_differ(len(names), len(cells))
            times.append(time)
            values.append(tuple(literal_of(cell, self._context) for cell in cells))
        aligned = any(token.type == "ALIGNED" for token in tokens_of(node))
        return Insert(full_path_of(node), names, aligned, tuple(times), tuple(values))

    def build_delete_data(self, node: Node) -> DataStatement:
        """Build rule `delete_data`."""
        return DeleteData(patterns_of(node), *delete_range(condition_of(node, self._context)))


def _sizes_differ(names: int, cells: int) -> ClusterError:
    return semantic_error(
        f"the measurementList's size {names} is not consistent with the valueList's size {cells}"
    )


def _place_of_time(columns: Node) -> int | None:
    """Return the number of the time's column, None when there is none."""
    names = [child for child in columns.children if isinstance(child, (Token, Tree))]
    places = [number for number, child in enumerate(names) if isinstance(child, Tree)]
    if len(places) > 1:
        raise semantic_error("the time is a column twice")
    if len(names) == len(places):
        raise semantic_error("there is no column besides the time")
    return places[0] if places else None
