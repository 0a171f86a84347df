"""Schema statements from parse trees."""

from __future__ import annotations

from typing import NamedTuple

from lark import Tree

from cluster.schema.encodings import (
    DEFAULT_COMPRESSOR,
    compressor_by_name,
    default_encoding,
    encoding_by_name,
)
from cluster.schema.series import SeriesSpec
from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.names import check_measurement, measurement_text, node_text
from cluster.sql.nodes import (
    Node,
    full_path_of,
    pair_of,
    pairs_of,
    part,
    parts,
    patterns_of,
    subtrees,
    tokens_of,
)
from cluster.sql.statements.schema import (
    CreateAlignedTimeseries,
    CreateTimeseries,
    DeleteStorageGroup,
    DeleteTimeseries,
    SchemaStatement,
    SetStorageGroup,
)
from iotdb_engine.types import DataType


class _SeriesOptions(NamedTuple):
    """What may follow the name of a series that is created."""

    data_type: DataType
    encoding: int | None
    compressor: int | None
    alias: str | None
    props: tuple[tuple[str, str], ...]
    tags: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...]


class SchemaBuilder:
    """Builds what `schema.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_set_storage_group(self, node: Node) -> SchemaStatement:
        """Build rule `set_storage_group`."""
        return SetStorageGroup(full_path_of(node))

    def build_delete_storage_group(self, node: Node) -> SchemaStatement:
        """Build rule `delete_storage_group`."""
        return DeleteStorageGroup(patterns_of(node))

    def build_create_timeseries(self, node: Node) -> SchemaStatement:
        """Build rule `create_timeseries`."""
        path_node = part(node, "full_path")
        assert path_node is not None
        check_measurement(node_text(tokens_of(path_node)[-1]))
        options = self._series_options(node)
        return CreateTimeseries(full_path_of(node), *options)

    def build_create_aligned_timeseries(self, node: Node) -> SchemaStatement:
        """Build rule `create_aligned_timeseries`."""
        columns = []
        for column in _aligned_columns(node):
            options = self._series_options(column)
            for name, present in (
                ("alias", options.alias is not None),
                ("property", options.props),
                ("tag", options.tags),
                ("attribute", options.attributes),
            ):
                if present:
                    raise semantic_error(f"create aligned timeseries: {name} is not supported yet.")
            data_type, encoding, compressor = options[:3]
            columns.append(
                SeriesSpec(
                    measurement_text(tokens_of(column)[0]),
                    data_type,
                    default_encoding(data_type) if encoding is None else encoding,
                    int(DEFAULT_COMPRESSOR) if compressor is None else compressor,
                )
            )
        return CreateAlignedTimeseries(full_path_of(node), tuple(columns))

    def _series_options(self, node: Node) -> _SeriesOptions:
        (type_token,) = tokens_of(parts(node, "type_clause")[0])
        alias = part(node, "alias")
        encoding = compressor = None
        for option in parts(node, "encoding_option"):
            encoding = encoding_by_name(str(option.children[0]))
        for option in parts(node, "compressor_option"):
            compressor = compressor_by_name(str(option.children[0]))
        return _SeriesOptions(
            DataType[str(type_token).upper()],
            encoding,
            compressor,
            None if alias is None else measurement_text(tokens_of(alias)[0]),
            tuple(
                (pair_of(option)[0].lower(), pair_of(option)[1])
                for option in parts(node, "property")
            ),
            pairs_of(part(node, "tag_clause")),
            pairs_of(part(node, "attribute_clause")),
        )

    def build_delete_timeseries(self, node: Node) -> SchemaStatement:
        """Build rule `delete_timeseries`."""
        return DeleteTimeseries(patterns_of(node))


def _aligned_columns(node: Node) -> list[Node]:
    """Return the columns of an aligned list, each with the options that follow it by a comma."""
    columns: list[Node] = []
    for child in subtrees(node):
        if child.data == "aligned_column":
            columns.append(child)
        elif child.data == "late_options":
            before = columns.pop()
            columns.append(Tree(before.data, before.children + child.children))
    return columns
