"""Statements about functions, triggers and continuous queries, from parse trees."""

from __future__ import annotations

from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.continuous import build_continuous_query
from cluster.sql.names import identifier_text
from cluster.sql.nodes import Node, pairs_of, part, pattern_of, tokens_of
from cluster.sql.statements.registry import (
    CreateFunction,
    CreateTrigger,
    DropContinuousQuery,
    DropFunction,
    DropTrigger,
    RegistryStatement,
    SwitchTrigger,
)
from cluster.sql.tokens import unquote


class RegistryBuilder:
    """Builds what `registry.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_create_function(self, node: Node) -> RegistryStatement:
        """Build rule `create_function`."""
        name, class_name, *uri = tokens_of(node)
        if uri:
            raise semantic_error("functions are loaded from the configured directory, not by URI")
        return CreateFunction(identifier_text(name), unquote(str(class_name)))

    def build_drop_function(self, node: Node) -> RegistryStatement:
        """Build rule `drop_function`."""
        return DropFunction(identifier_text(tokens_of(node)[0]))

    def build_create_trigger(self, node: Node) -> RegistryStatement:
        """Build rule `create_trigger`."""
        name, when, class_name = tokens_of(node)
        if part(node, "on_delete") is not None:
            raise semantic_error("triggers fire on INSERT only")
        if part(node, "trigger_uri") is not None:
            raise semantic_error("triggers are loaded from the configured directory, not by URI")
        return CreateTrigger(
            identifier_text(name),
            f"{str(when).lower()} insert",
            pattern_of(node),
            unquote(str(class_name)),
            pairs_of(part(node, "trigger_attributes")),
        )

    def build_drop_trigger(self, node: Node) -> RegistryStatement:
        """Build rule `drop_trigger`."""
        return DropTrigger(identifier_text(tokens_of(node)[0]))

    def build_start_trigger(self, node: Node) -> RegistryStatement:
        """Build rule `start_trigger`."""
        return SwitchTrigger(identifier_text(tokens_of(node)[0]), start=True)

    def build_stop_trigger(self, node: Node) -> RegistryStatement:
        """Build rule `stop_trigger`."""
        return SwitchTrigger(identifier_text(tokens_of(node)[0]), start=False)

    def build_create_continuous_query(self, node: Node) -> RegistryStatement:
        """Build rule `create_continuous_query`."""
        return build_continuous_query(node, self._context)

    def build_drop_continuous_query(self, node: Node) -> RegistryStatement:
        """Build rule `drop_continuous_query`."""
        return DropContinuousQuery(identifier_text(tokens_of(node)[0]))
