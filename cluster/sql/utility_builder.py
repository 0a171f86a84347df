"""Utility statements from parse trees."""

from __future__ import annotations

from cluster.sql.context import ParseContext
from cluster.sql.names import path_text
from cluster.sql.nodes import Node, parts, tokens_of
from cluster.sql.statements.utility import Flush, UtilityStatement


class UtilityBuilder:
    """Builds what `utility.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_flush(self, node: Node) -> UtilityStatement:
        """Build rule `flush`."""
        paths = tuple(path_text(tokens_of(path)) for path in parts(node, "full_path"))
        words = [str(token).lower() for token in tokens_of(node)]
        return Flush(paths, words[0] == "true" if words else None)
