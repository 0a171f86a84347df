"""Schema statements from parse trees."""

from __future__ import annotations

from typing import NamedTuple

from lark import Token, Tree

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
    data_type_of,
    full_path_of,
    option_text,
    pair_of,
    pairs_of,
    part,
    parts,
    pattern_of,
    patterns_of,
    subtrees,
    tokens_of,
)
from cluster.sql.statements.schema import (
    AlterTimeseries,
    CreateAlignedTimeseries,
    CreateTimeseries,
    DeletePartition,
    DeleteStorageGroup,
    DeleteTimeseries,
    SchemaStatement,
    SetStorageGroup,
    SetTtl,
)
from cluster.sql.values import integer_or_none
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
        return SetStorageGroup(full_path_of(node), _database_ttl(node) or 0)

    def build_alter_storage_group(self, node: Node) -> SchemaStatement:
        """Build rule `alter_storage_group`."""
        ttl_ms = _database_ttl(node)
        if ttl_ms is None:
            raise semantic_error("of a database only TTL can be altered")
        return SetTtl(full_path_of(node), ttl_ms)

    def build_set_ttl(self, node: Node) -> SchemaStatement:
        """Build rule `set_ttl`."""
        return SetTtl(pattern_of(node), _ttl_ms(tokens_of(node)[-1]))

    def build_unset_ttl(self, node: Node) -> SchemaStatement:
        """Build rule `unset_ttl`."""
        return SetTtl(pattern_of(node), 0)

    def build_delete_storage_group(self, node: Node) -> SchemaStatement:
        """Build rule `delete_storage_group`."""
        return DeleteStorageGroup(patterns_of(node))

    def build_create_timeseries(self, node: Node) -> SchemaStatement:
        """Build rule `create_timeseries`."""
        path_node = part(node, "full_path")
        assert path_node is not None
        check_measurement(node_text(tokens_of(path_node)[-1]))
        options = _series_options(node)
        return CreateTimeseries(full_path_of(node), *options)

    def build_create_aligned_timeseries(self, node: Node) -> SchemaStatement:
        """Build rule `create_aligned_timeseries`."""
        return CreateAlignedTimeseries(
            full_path_of(node), column_specs(node, "create aligned timeseries")
        )

    def build_alter_timeseries(self, node: Node) -> SchemaStatement:
        """Build rule `alter_timeseries`."""
        clause = subtrees(node)[-1]
        kind = str(clause.data).removeprefix("alter_").upper()
        alias = attributes = None
        pairs: tuple[tuple[str, str], ...]
        if kind == "RENAME":
            old, new = map(option_text, clause.children)
            pairs = ((old, new),)
        elif kind == "DROP":
            pairs = tuple((option_text(key), "") for key in clause.children)
        elif kind == "UPSERT":
            pairs = pairs_of(part(clause, "tag_clause"))
            attributes = pairs_of(part(clause, "attribute_clause"))
            alias = part(clause, "new_alias")
        else:
            pairs = pairs_of(clause)
        return AlterTimeseries(
            full_path_of(node),
            kind,
            pairs,
            attributes or (),
            None if alias is None else measurement_text(tokens_of(alias)[0]),
        )

    def build_delete_partition(self, node: Node) -> SchemaStatement:
        """Build rule `delete_partition`."""
        numbers = [integer_or_none(str(token)) for token in tokens_of(node)]
        if None in numbers:
            raise semantic_error("a time partition's number is out of range")
        return DeletePartition(
            full_path_of(node), tuple(number for number in numbers if number is not None)
        )

    def build_delete_timeseries(self, node: Node) -> SchemaStatement:
        """Build rule `delete_timeseries`."""
        return DeleteTimeseries(patterns_of(node))


def column_specs(node: Node, what: str) -> tuple[SeriesSpec, ...]:
    """Return the columns of a list in parentheses, defaults filled in.

    Args:
        node: what holds the `aligned_column` parts.
        what: the statement, for refusals of what only single series can have.

    Raises:
        ClusterError: METADATA_ERROR.
    """
    columns = []
    for column in _aligned_columns(node):
        options = _series_options(column)
        for name, present in (
            ("alias", options.alias is not None),
            ("property", options.props),
            ("tag", options.tags),
            ("attribute", options.attributes),
        ):
            if present:
                raise semantic_error(f"{what}: {name} is not supported yet.")
        data_type, encoding, compressor = options[:3]
        columns.append(
            SeriesSpec(
                measurement_text(tokens_of(column)[0]),
                data_type,
                default_encoding(data_type) if encoding is None else encoding,
                int(DEFAULT_COMPRESSOR) if compressor is None else compressor,
            )
        )
    return tuple(columns)


def _database_ttl(node: Node) -> int | None:
    options = part(node, "database_options")
    for option in parts(options, "database_option") if options is not None else ():
        name, value = tokens_of(option)
        if name.upper() == "TTL":
            return _ttl_ms(value)
    return None


def _ttl_ms(token: Token) -> int:
    if token.type == "INF":
        return 0
    value = integer_or_none(str(token))
    if value is None or value <= 0:
        raise semantic_error(f"TTL {token}: it should be a number of milliseconds above 0")
    return value


def _series_options(node: Node) -> _SeriesOptions:
    (type_token,) = tokens_of(parts(node, "type_clause")[0])
    alias = part(node, "alias")
    encoding = compressor = None
    for option in parts(node, "encoding_option"):
        encoding = encoding_by_name(str(option.children[0]))
    for option in parts(node, "compressor_option"):
        compressor = compressor_by_name(str(option.children[0]))
    return _SeriesOptions(
        data_type_of(str(type_token)),
        encoding,
        compressor,
        None if alias is None else measurement_text(tokens_of(alias)[0]),
        tuple(
            (pair_of(option)[0].lower(), pair_of(option)[1]) for option in parts(node, "property")
        ),
        pairs_of(part(node, "tag_clause")),
        pairs_of(part(node, "attribute_clause")),
    )


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
