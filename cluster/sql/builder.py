"""Statements from parse trees: finds the builder of the statement's family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.sql.auth_builder import AuthBuilder
from cluster.sql.context import ParseContext
from cluster.sql.data_builder import DataBuilder
from cluster.sql.modern_select import ModernSelectBuilder
from cluster.sql.nodes import Node, subtrees
from cluster.sql.registry_builder import RegistryBuilder
from cluster.sql.schema_builder import SchemaBuilder
from cluster.sql.select_builder import SelectBuilder
from cluster.sql.show_builder import ListBuilder, ShowBuilder
from cluster.sql.statements.families import Statement
from cluster.sql.template_builder import TemplateBuilder
from cluster.sql.utility_builder import UtilityBuilder

_BUILDERS = (
    SelectBuilder,
    DataBuilder,
    SchemaBuilder,
    TemplateBuilder,
    RegistryBuilder,
    AuthBuilder,
    ShowBuilder,
    ListBuilder,
    UtilityBuilder,
)
_BUILDER_OF = {
    name.removeprefix("build_"): builder
    for builder in _BUILDERS
    for name in vars(builder)
    if name.startswith("build_")
}
"""By rule of a statement."""


def build_statement(tree: Node, context: ParseContext) -> Statement:
    """Return the statement of a `start` tree."""
    (node,) = subtrees(tree)
    rule = str(node.data)
    builder: type[Any] = _BUILDER_OF[rule]
    if context.modern and builder is SelectBuilder:
        builder = ModernSelectBuilder
    method: Callable[[Node], Statement] = getattr(builder(context), f"build_{rule}")
    return method(node)
