"""SHOW and COUNT from parse trees."""

from __future__ import annotations

from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.nodes import Node, limit_of, part, pattern_of, tokens_of
from cluster.sql.statements.show import (
    CountDevices,
    CountStorageGroup,
    CountTimeseries,
    ShowDevices,
    ShowStatement,
    ShowStorageGroup,
    ShowTimeseries,
    ShowVersion,
)
from cluster.sql.values import integer_or_none


class ShowBuilder:
    """Builds what `show.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_show_storage_group(self, node: Node) -> ShowStatement:
        """Build rule `show_storage_group`."""
        return ShowStorageGroup(pattern_of(node))

    def build_show_timeseries(self, node: Node) -> ShowStatement:
        """Build rule `show_timeseries`."""
        return ShowTimeseries(pattern_of(node), *limit_of(node))

    def build_show_devices(self, node: Node) -> ShowStatement:
        """Build rule `show_devices`."""
        with_storage_group = part(node, "with_storage_group") is not None
        return ShowDevices(pattern_of(node), with_storage_group, *limit_of(node))

    def build_show_version(self, _: Node) -> ShowStatement:
        """Build rule `show_version`."""
        return ShowVersion()

    def build_count_timeseries(self, node: Node) -> ShowStatement:
        """Build rule `count_timeseries`."""
        tokens = tokens_of(node)
        level = integer_or_none(str(tokens[0])) if tokens else None
        if tokens and level is None:
            raise semantic_error(f"level {tokens[0]} is out of range")
        return CountTimeseries(pattern_of(node), level)

    def build_count_devices(self, node: Node) -> ShowStatement:
        """Build rule `count_devices`."""
        return CountDevices(pattern_of(node))

    def build_count_storage_group(self, node: Node) -> ShowStatement:
        """Build rule `count_storage_group`."""
        return CountStorageGroup(pattern_of(node))
