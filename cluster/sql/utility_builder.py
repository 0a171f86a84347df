"""Utility statements from parse trees."""

from __future__ import annotations

from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.names import path_text
from cluster.sql.nodes import Node, parts, tokens_of
from cluster.sql.statements.utility import (
    ClearCache,
    Flush,
    KillQuery,
    LoadConfiguration,
    Merge,
    SetSystemMode,
    ShowQueryResource,
    Unsupported,
    UtilityStatement,
)
from cluster.sql.tokens import unquote
from cluster.sql.values import integer_or_none

_TSFILES = "data is kept in RocksDB, not in TsFiles; load rows with INSERT or import-csv"
_ARCHIVING = "SET TTL drops old data"

_INDEXES = "there are none; tags can be searched for"


class UtilityBuilder:
    """Builds what `utility.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_flush(self, node: Node) -> UtilityStatement:
        """Build rule `flush`."""
        paths = tuple(path_text(tokens_of(path)) for path in parts(node, "full_path"))
        words = [str(token).lower() for token in tokens_of(node)]
        return Flush(paths, words[0] == "true" if words else None)

    def build_merge(self, _: Node) -> UtilityStatement:
        """Build rule `merge`."""
        return Merge(full=False)

    def build_full_merge(self, _: Node) -> UtilityStatement:
        """Build rule `full_merge`."""
        return Merge(full=True)

    def build_clear_cache(self, _: Node) -> UtilityStatement:
        """Build rule `clear_cache`."""
        return ClearCache()

    def build_settle(self, _: Node) -> UtilityStatement:
        """Build rule `settle`: 0.13 rewrites files with deleted points, as a full merge does."""
        return Merge(full=True)

    def build_set_system(self, node: Node) -> UtilityStatement:
        """Build rule `set_system`."""
        return SetSystemMode(tokens_of(node)[0].type == "READONLY")

    def build_kill_query(self, node: Node) -> UtilityStatement:
        """Build rule `kill_query`."""
        ids = [token for token in tokens_of(node) if token.type in ("INT", "STRING")]
        if not ids:
            return KillQuery()
        text = unquote(str(ids[0])) if ids[0].type == "STRING" else str(ids[0])
        # 1.x names a query `<time>_<number>_<node>_…`; ours are numbers in either form
        query_id = integer_or_none(text) if text.isdecimal() else None
        if query_id is None:
            raise semantic_error(f"{text} is no query id; SHOW QUERIES lists them")
        return KillQuery(query_id)

    def build_load_configuration(self, _: Node) -> UtilityStatement:
        """Build rule `load_configuration`."""
        return LoadConfiguration()

    def build_show_query_resource(self, _: Node) -> UtilityStatement:
        """Build rule `show_query_resource`."""
        return ShowQueryResource()

    def build_load_file(self, _: Node) -> UtilityStatement:
        """Build rule `load_file`."""
        return Unsupported("LOAD of a TsFile", _TSFILES)

    def build_load_timeseries(self, _: Node) -> UtilityStatement:
        """Build rule `load_timeseries`."""
        return Unsupported("LOAD TIMESERIES", _TSFILES)

    def build_remove_file(self, _: Node) -> UtilityStatement:
        """Build rule `remove_file`."""
        return Unsupported("REMOVE of a TsFile", _TSFILES)

    def build_unload_file(self, _: Node) -> UtilityStatement:
        """Build rule `unload_file`."""
        return Unsupported("UNLOAD of a TsFile", _TSFILES)

    def build_create_snapshot(self, _: Node) -> UtilityStatement:
        """Build rule `create_snapshot`."""
        return Unsupported(
            "CREATE SNAPSHOT FOR SCHEMA", "the schema is replicated and stored with the data"
        )

    def build_set_archiving(self, _: Node) -> UtilityStatement:
        """Build rule `set_archiving`."""
        return Unsupported("SET ARCHIVING", _ARCHIVING)

    def build_control_archiving(self, _: Node) -> UtilityStatement:
        """Build rule `control_archiving`."""
        return Unsupported("archiving", _ARCHIVING)

    def build_tracing_switch(self, _: Node) -> UtilityStatement:
        """Build rule `tracing_switch`."""
        return Unsupported("TRACING ON and OFF", "put TRACING before a SELECT")

    def build_update_points(self, _: Node) -> UtilityStatement:
        """Build rule `update_points`."""
        return Unsupported("UPDATE", "INSERT a point again to replace it")

    def build_describe(self, _: Node) -> UtilityStatement:
        """Build rule `describe`."""
        return Unsupported("DESCRIBE", "SHOW TIMESERIES and SHOW DEVICES tell what there is")

    def build_show_metadata(self, _: Node) -> UtilityStatement:
        """Build rule `show_metadata`."""
        return Unsupported("SHOW METADATA", "SHOW TIMESERIES tells what there is")

    def build_create_index(self, _: Node) -> UtilityStatement:
        """Build rule `create_index`."""
        return Unsupported("CREATE INDEX", _INDEXES)

    def build_drop_index(self, _: Node) -> UtilityStatement:
        """Build rule `drop_index`."""
        return Unsupported("DROP INDEX", _INDEXES)
