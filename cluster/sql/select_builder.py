"""SELECT from parse trees."""

from __future__ import annotations

from cluster.sql.conditions import condition_of
from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.names import identifier_text, path_text
from cluster.sql.nodes import Node, limit_of, part, parts, patterns_of, subtrees, tokens_of
from cluster.sql.statements.select import (
    Expression,
    FunctionCall,
    PathExpression,
    Select,
    SelectItem,
)
from cluster.sql.tokens import unquote


class SelectBuilder:
    """Builds what `select.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_select(self, node: Node) -> Select:
        """Build rule `select`."""
        order = part(node, "order_by_time")
        paging = part(node, "paging") or node
        limit, offset = limit_of(paging)
        series_limit, series_offset = limit_of(paging, prefix="S")
        return Select(
            items=tuple(self._select_item(item) for item in parts(node, "select_item")),
            prefixes=patterns_of(node),
            where=condition_of(node, self._context),
            limit=limit,
            offset=offset,
            series_limit=series_limit,
            series_offset=series_offset,
            order_descending=order is not None
            and any(token.type == "DESC" for token in tokens_of(order)),
        )

    def _select_item(self, node: Node) -> SelectItem:
        names = tokens_of(node)
        return SelectItem(
            self._expression(subtrees(node)[0]), identifier_text(names[0]) if names else None
        )

    def _expression(self, node: Node) -> Expression:
        if node.data == "function_call":
            name, *_ = tokens_of(node)
            arguments = [tree for tree in subtrees(node) if tree.data != "function_attribute"]
            attributes = [
                tuple(unquote(str(token)) for token in tokens_of(tree))
                for tree in parts(node, "function_attribute")
            ]
            return FunctionCall(
                str(name),
                tuple(self._expression(argument) for argument in arguments),
                tuple((key, value) for key, value in attributes),
            )
        tokens = tokens_of(node)
        if tokens[0].type in ("INT", "STRING") and not self._context.prefix_dialect:
            raise semantic_error(f"Constant operand is not allowed: {tokens[0]}")
        return PathExpression(path_text(tokens))
