"""Statements about schema templates, from parse trees."""

from __future__ import annotations

from cluster.sql.context import ParseContext
from cluster.sql.names import identifier_text
from cluster.sql.nodes import Node, full_path_of, part, patterns_of, tokens_of
from cluster.sql.schema_builder import column_specs
from cluster.sql.statements.template import (
    ActivateTemplate,
    AlterTemplate,
    CreateTemplate,
    DeactivateTemplate,
    DropTemplate,
    SetTemplate,
    TemplateStatement,
    UnsetTemplate,
)

_WHAT = "schema template"


class TemplateBuilder:
    """Builds what `template.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_create_template(self, node: Node) -> TemplateStatement:
        """Build rule `create_template`."""
        name, *aligned = tokens_of(node)
        columns = part(node, "template_columns")
        return CreateTemplate(
            identifier_text(name),
            bool(aligned),
            () if columns is None else column_specs(columns, _WHAT),
        )

    def build_alter_template(self, node: Node) -> TemplateStatement:
        """Build rule `alter_template`."""
        columns = part(node, "template_columns")
        assert columns is not None
        return AlterTemplate(identifier_text(tokens_of(node)[0]), column_specs(columns, _WHAT))

    def build_drop_template(self, node: Node) -> TemplateStatement:
        """Build rule `drop_template`."""
        return DropTemplate(identifier_text(tokens_of(node)[0]))

    def build_set_template(self, node: Node) -> TemplateStatement:
        """Build rule `set_template`."""
        return SetTemplate(identifier_text(tokens_of(node)[0]), full_path_of(node))

    def build_unset_template(self, node: Node) -> TemplateStatement:
        """Build rule `unset_template`."""
        return UnsetTemplate(identifier_text(tokens_of(node)[0]), full_path_of(node))

    def build_activate_template(self, node: Node) -> TemplateStatement:
        """Build rule `activate_template`."""
        return ActivateTemplate(full_path_of(node))

    def build_deactivate_template(self, node: Node) -> TemplateStatement:
        """Build rule `deactivate_template`."""
        names = tokens_of(node)
        return DeactivateTemplate(identifier_text(names[0]) if names else "*", patterns_of(node))
