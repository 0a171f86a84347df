"""SHOW, COUNT and LIST from parse trees."""

from __future__ import annotations

from lark import Token

from cluster.sql.auth_builder import name_text
from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.names import identifier_text, path_text
from cluster.sql.nodes import (
    Node,
    data_type_of,
    full_path_of,
    limit_of,
    option_text,
    part,
    pattern_of,
    patterns_of,
    subtrees,
    tokens_of,
)
from cluster.sql.statements import show
from cluster.sql.statements.show import ShowStatement
from cluster.sql.statements.show_filters import (
    DeviceFilter,
    PathContains,
    SeriesFilter,
    TagContains,
    TagEquals,
    TemplateIs,
    TypeEquals,
)
from cluster.sql.values import integer_or_none


class ShowBuilder:
    """Builds what `show.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_show_storage_group(self, node: Node) -> ShowStatement:
        """Build rule `show_storage_group`."""
        return show.ShowStorageGroup(pattern_of(node), _is_modern(node))

    def build_show_timeseries(self, node: Node) -> ShowStatement:
        """Build rule `show_timeseries`."""
        latest = any(token.type == "LATEST" for token in tokens_of(node))
        return show.ShowTimeseries(
            pattern_of(node), *limit_of(node), filter=_series_filter(node), latest=latest
        )

    def build_show_devices(self, node: Node) -> ShowStatement:
        """Build rule `show_devices`."""
        with_storage_group = part(node, "with_storage_group") is not None
        return show.ShowDevices(
            pattern_of(node), with_storage_group, *limit_of(node), filter=_device_filter(node)
        )

    def build_show_child_paths(self, node: Node) -> ShowStatement:
        """Build rule `show_child_paths`."""
        return show.ShowChildPaths(pattern_of(node), *limit_of(node))

    def build_show_child_nodes(self, node: Node) -> ShowStatement:
        """Build rule `show_child_nodes`."""
        return show.ShowChildNodes(pattern_of(node), *limit_of(node))

    def build_show_ttl(self, node: Node) -> ShowStatement:
        """Build rule `show_ttl`."""
        return show.ShowTtl(() if part(node, "patterns") is None else patterns_of(node))

    def build_show_version(self, _: Node) -> ShowStatement:
        """Build rule `show_version`."""
        return show.ShowVersion()

    def build_show_functions(self, _: Node) -> ShowStatement:
        """Build rule `show_functions`."""
        return show.ShowFunctions()

    def build_show_triggers(self, node: Node) -> ShowStatement:
        """Build rule `show_triggers`."""
        return show.ShowTriggers(pattern_of(node))

    def build_show_continuous_queries(self, _: Node) -> ShowStatement:
        """Build rule `show_continuous_queries`."""
        return show.ShowContinuousQueries()

    def build_show_flush_info(self, _: Node) -> ShowStatement:
        """Build rule `show_flush_info`."""
        return show.ShowFlushInfo()

    def build_show_lock_info(self, node: Node) -> ShowStatement:
        """Build rule `show_lock_info`."""
        return show.ShowLockInfo(pattern_of(node))

    def build_show_queries(self, node: Node) -> ShowStatement:
        """Build rule `show_queries`."""
        return show.ShowQueries(bool(tokens_of(node)), *limit_of(node))

    def build_show_merge(self, _: Node) -> ShowStatement:
        """Build rule `show_merge`."""
        return show.ShowMerge()

    def build_show_archiving(self, _: Node) -> ShowStatement:
        """Build rule `show_archiving`."""
        return show.ShowArchiving()

    def build_show_cluster(self, _: Node) -> ShowStatement:
        """Build rule `show_cluster`."""
        return show.ShowCluster()

    def build_show_cluster_id(self, _: Node) -> ShowStatement:
        """Build rule `show_cluster_id`."""
        return show.ShowClusterId()

    def build_show_data_nodes(self, _: Node) -> ShowStatement:
        """Build rule `show_data_nodes`."""
        return show.ShowDataNodes()

    def build_show_variables(self, _: Node) -> ShowStatement:
        """Build rule `show_variables`."""
        return show.ShowVariables()

    def build_show_current_timestamp(self, _: Node) -> ShowStatement:
        """Build rule `show_current_timestamp`."""
        return show.ShowCurrentTimestamp(self._context.now)

    def build_show_templates(self, _: Node) -> ShowStatement:
        """Build rule `show_templates`."""
        return show.ShowTemplates()

    def build_show_template_nodes(self, node: Node) -> ShowStatement:
        """Build rule `show_template_nodes`."""
        return show.ShowTemplateNodes(identifier_text(tokens_of(node)[0]))

    def build_show_paths_set(self, node: Node) -> ShowStatement:
        """Build rule `show_paths_set`."""
        return _template_paths(node, using=False)

    def build_show_paths_using(self, node: Node) -> ShowStatement:
        """Build rule `show_paths_using`."""
        return _template_paths(node, using=True)

    def build_count_timeseries(self, node: Node) -> ShowStatement:
        """Build rule `count_timeseries`."""
        tokens = tokens_of(node)
        level = _level(tokens[0]) if tokens else None
        return show.CountTimeseries(pattern_of(node), level, _series_filter(node))

    def build_count_devices(self, node: Node) -> ShowStatement:
        """Build rule `count_devices`."""
        return show.CountDevices(pattern_of(node))

    def build_count_nodes(self, node: Node) -> ShowStatement:
        """Build rule `count_nodes`."""
        return show.CountNodes(pattern_of(node), _level(tokens_of(node)[0]))

    def build_count_storage_group(self, node: Node) -> ShowStatement:
        """Build rule `count_storage_group`."""
        return show.CountStorageGroup(pattern_of(node), _is_modern(node))


class ListBuilder:
    """Builds the LIST statements of `auth.lark`."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_list_user(self, _: Node) -> ShowStatement:
        """Build rule `list_user`."""
        return show.ListUsers()

    def build_list_role(self, _: Node) -> ShowStatement:
        """Build rule `list_role`."""
        return show.ListRoles()

    def build_list_users_of_role(self, node: Node) -> ShowStatement:
        """Build rule `list_users_of_role`."""
        return show.ListUsers(name_text(tokens_of(node)[-1]))

    def build_list_roles_of_user(self, node: Node) -> ShowStatement:
        """Build rule `list_roles_of_user`."""
        return show.ListRoles(name_text(tokens_of(node)[-1]))

    def build_list_user_privileges(self, node: Node) -> ShowStatement:
        """Build rule `list_user_privileges`."""
        return show.ListUserPrivileges(name_text(tokens_of(node)[0]), _path_or_none(node))

    def build_list_role_privileges(self, node: Node) -> ShowStatement:
        """Build rule `list_role_privileges`."""
        return show.ListRolePrivileges(name_text(tokens_of(node)[0]), _path_or_none(node))

    def build_list_grants_of_user(self, node: Node) -> ShowStatement:
        """Build rule `list_grants_of_user`."""
        return show.ListUserPrivileges(name_text(tokens_of(node)[0]), modern=True)

    def build_list_grants_of_role(self, node: Node) -> ShowStatement:
        """Build rule `list_grants_of_role`."""
        return show.ListRolePrivileges(name_text(tokens_of(node)[0]), modern=True)


def _is_modern(node: Node) -> bool:
    return any(token.type == "DATABASES" for token in tokens_of(node))


def _path_or_none(node: Node) -> str | None:
    return None if part(node, "full_path") is None else full_path_of(node)


def _level(token: Token) -> int:
    level = integer_or_none(str(token))
    if level is None:
        raise semantic_error(f"level {token} is out of range")
    return level


def _template_paths(node: Node, *, using: bool) -> show.ShowTemplatePaths:
    (name,) = [child for child in subtrees(node) if child.data == "template_name"]
    pattern = part(node, "pattern")
    token = tokens_of(name)[0]
    return show.ShowTemplatePaths(
        "*" if token.type == "STAR" else identifier_text(token),
        using,
        None if pattern is None else path_text(tokens_of(pattern)),
    )


def _series_filter(node: Node) -> SeriesFilter | None:
    for child in subtrees(node):
        texts = [option_text(item) for item in child.children]
        match str(child.data):
            case "tag_equals":
                return TagEquals(*texts)
            case "tag_contains":
                return TagContains(*texts)
            case "path_contains":
                return PathContains(*texts)
            case "type_equals":
                return TypeEquals(data_type_of(texts[0]))
    return None


def _device_filter(node: Node) -> DeviceFilter | None:
    for child in subtrees(node):
        match str(child.data):
            case "path_contains":
                return PathContains(option_text(child.children[-1]))
            case "template_equals":
                return TemplateIs(option_text(child.children[0]))
            case "template_differs":
                return TemplateIs(option_text(child.children[-1]), negated=True)
            case "template_absent":
                return TemplateIs(None)
            case "template_present":
                return TemplateIs(None, negated=True)
    return None
