"""Statements that write and delete points, from parse trees."""

from __future__ import annotations

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
        has_time = bool(parts(columns, "time_column"))
        rows = parts(node, "insert_row")
        if not has_time and len(rows) > 1:
            raise semantic_error("need timestamps when insert multi rows")
        times: list[int | None] = []
        values: list[tuple[Literal, ...]] = []
        for row in rows:
            constants = subtrees(row)
            cells = constants[1:] if has_time else constants
            if len(cells) != len(names):
                raise semantic_error(
                    f"the measurementList's size {len(names)} is not consistent with the "
                    f"valueList's size {len(cells)}"
                )
            times.append(time_of(constants[0], self._context) if has_time else None)
            values.append(tuple(literal_of(cell, self._context) for cell in cells))
        aligned = any(token.type == "ALIGNED" for token in tokens_of(node))
        return Insert(full_path_of(node), names, aligned, tuple(times), tuple(values))

    def build_delete_data(self, node: Node) -> DataStatement:
        """Build rule `delete_data`."""
        return DeleteData(patterns_of(node), *delete_range(condition_of(node, self._context)))
