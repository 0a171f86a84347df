"""Statements from parse trees: one method for each statement rule of the grammar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lark import Token, Tree

from cluster.errors import ClusterError, StatusCode
from cluster.schema.encodings import (
    DEFAULT_COMPRESSOR,
    compressor_by_name,
    default_encoding,
    encoding_by_name,
)
from cluster.schema.series import SeriesSpec
from cluster.sql.conditions import ConditionBuilder, delete_range
from cluster.sql.constants import count_of, literal_of, number_text, time_of
from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.names import (
    check_measurement,
    identifier_text,
    measurement_text,
    node_text,
    path_text,
)
from cluster.sql.statements import (
    Condition,
    CountDevices,
    CountStorageGroup,
    CountTimeseries,
    CreateAlignedTimeseries,
    CreateTimeseries,
    DeleteData,
    DeleteStorageGroup,
    DeleteTimeseries,
    Expression,
    Flush,
    FunctionCall,
    Insert,
    Literal,
    PathExpression,
    Select,
    SelectItem,
    SetStorageGroup,
    ShowDevices,
    ShowStorageGroup,
    ShowTimeseries,
    ShowVersion,
    Statement,
)
from cluster.sql.tokens import unquote
from cluster.sql.values import integer_or_none
from iotdb_engine.types import DataType

_EVERYTHING = "root.**"

_Node = Tree[Token]


class _SeriesOptions(NamedTuple):
    """What may follow the name of a series that is created."""

    data_type: DataType
    encoding: int | None
    compressor: int | None
    alias: str | None
    props: tuple[tuple[str, str], ...]
    tags: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...]


class StatementBuilder:
    """Builds one statement; `_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build(self, tree: _Node) -> Statement:
        """Return the statement of a `start` tree."""
        (node,) = _trees(tree)
        method: Callable[[_Node], Statement] = getattr(self, f"_{node.data}")
        return method(node)

    # ---- schema ----

    def _set_storage_group(self, node: _Node) -> Statement:
        return SetStorageGroup(_full_path(node))

    def _delete_storage_group(self, node: _Node) -> Statement:
        return DeleteStorageGroup(_patterns(node))

    def _create_timeseries(self, node: _Node) -> Statement:
        path_node = _child(node, "full_path")
        assert path_node is not None
        check_measurement(node_text(_tokens(path_node)[-1]))
        options = self._series_options(node)
        return CreateTimeseries(_full_path(node), *options)

    def _create_aligned_timeseries(self, node: _Node) -> Statement:
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
                    measurement_text(_tokens(column)[0]),
                    data_type,
                    default_encoding(data_type) if encoding is None else encoding,
                    int(DEFAULT_COMPRESSOR) if compressor is None else compressor,
                )
            )
        return CreateAlignedTimeseries(_full_path(node), tuple(columns))

    def _series_options(self, node: _Node) -> _SeriesOptions:
        (type_token,) = _tokens(_children(node, "type_clause")[0])
        alias = _child(node, "alias")
        encoding = compressor = None
        for option in _children(node, "encoding_option"):
            encoding = encoding_by_name(str(option.children[0]))
        for option in _children(node, "compressor_option"):
            compressor = compressor_by_name(str(option.children[0]))
        return _SeriesOptions(
            DataType[str(type_token).upper()],
            encoding,
            compressor,
            None if alias is None else measurement_text(_tokens(alias)[0]),
            tuple(
                (_pair(option)[0].lower(), _pair(option)[1])
                for option in _children(node, "property")
            ),
            _pairs(_child(node, "tag_clause")),
            _pairs(_child(node, "attribute_clause")),
        )

    def _delete_timeseries(self, node: _Node) -> Statement:
        return DeleteTimeseries(_patterns(node))

    # ---- data ----

    def _insert(self, node: _Node) -> Statement:
        columns = _children(node, "insert_columns")[0]
        names = tuple(measurement_text(token) for token in _tokens(columns))
        has_time = bool(_children(columns, "time_column"))
        rows = _children(node, "insert_row")
        if not has_time and len(rows) > 1:
            raise semantic_error("need timestamps when insert multi rows")
        times: list[int | None] = []
        values: list[tuple[Literal, ...]] = []
        for row in rows:
            constants = _trees(row)
            cells = constants[1:] if has_time else constants
            if len(cells) != len(names):
                raise semantic_error(
                    f"the measurementList's size {len(names)} is not consistent with the "
                    f"valueList's size {len(cells)}"
                )
            times.append(time_of(constants[0], self._context) if has_time else None)
            values.append(tuple(literal_of(cell, self._context) for cell in cells))
        aligned = any(token.type == "ALIGNED" for token in _tokens(node))
        return Insert(_full_path(node), names, aligned, tuple(times), tuple(values))

    def _delete_data(self, node: _Node) -> Statement:
        return DeleteData(_patterns(node), *delete_range(self._where(node)))

    def _flush(self, node: _Node) -> Statement:
        paths = tuple(path_text(_tokens(path)) for path in _children(node, "full_path"))
        words = [str(token).lower() for token in _tokens(node)]
        return Flush(paths, words[0] == "true" if words else None)

    # ---- queries ----

    def _select(self, node: _Node) -> Statement:
        order = _child(node, "order_by_time")
        paging = _child(node, "paging") or node
        limit, offset = self._limit(paging)
        series_limit, series_offset = self._limit(paging, prefix="S")
        return Select(
            items=tuple(self._select_item(item) for item in _children(node, "select_item")),
            prefixes=_patterns(node),
            where=self._where(node),
            limit=limit,
            offset=offset,
            series_limit=series_limit,
            series_offset=series_offset,
            order_descending=order is not None
            and any(token.type == "DESC" for token in _tokens(order)),
        )

    def _select_item(self, node: _Node) -> SelectItem:
        names = _tokens(node)
        return SelectItem(
            self._expression(_trees(node)[0]), identifier_text(names[0]) if names else None
        )

    def _expression(self, node: _Node) -> Expression:
        if node.data == "function_call":
            name, *_ = _tokens(node)
            arguments = [tree for tree in _trees(node) if tree.data != "function_attribute"]
            attributes = [
                tuple(unquote(str(token)) for token in _tokens(tree))
                for tree in _children(node, "function_attribute")
            ]
            return FunctionCall(
                str(name),
                tuple(self._expression(argument) for argument in arguments),
                tuple((key, value) for key, value in attributes),
            )
        tokens = _tokens(node)
        if tokens[0].type in ("INT", "STRING") and not self._context.prefix_dialect:
            raise semantic_error(f"Constant operand is not allowed: {tokens[0]}")
        return PathExpression(path_text(tokens))

    def _where(self, node: _Node) -> Condition | None:
        where = _child(node, "where")
        return None if where is None else ConditionBuilder(self._context).build(_trees(where)[0])

    def _limit(self, node: _Node, prefix: str = "") -> tuple[int | None, int]:
        """Return limit and offset of the (S)LIMIT clause below a node."""
        small = prefix.lower()
        for name in (f"{small}limit_{small}offset", f"{small}offset_{small}limit"):
            clause = node if node.data == name else _child(node, name)
            if clause is not None:
                counts = _trees(clause)
                if name.startswith(f"{small}offset"):
                    counts.reverse()
                limit = count_of(counts[0], f"{prefix}LIMIT", f"{prefix}N", zero=False)
                offset = 0
                if len(counts) > 1:
                    symbol = f"{prefix}OFFSETValue"
                    offset = count_of(counts[1], f"{prefix}OFFSET", symbol, zero=True)
                return limit, offset
        return None, 0

    def _show_storage_group(self, node: _Node) -> Statement:
        return ShowStorageGroup(_pattern(node))

    def _show_timeseries(self, node: _Node) -> Statement:
        return ShowTimeseries(_pattern(node), *self._limit(node))

    def _show_devices(self, node: _Node) -> Statement:
        with_storage_group = _child(node, "with_storage_group") is not None
        return ShowDevices(_pattern(node), with_storage_group, *self._limit(node))

    def _show_version(self, _: _Node) -> Statement:
        return ShowVersion()

    def _count_timeseries(self, node: _Node) -> Statement:
        tokens = _tokens(node)
        level = integer_or_none(str(tokens[0])) if tokens else None
        if tokens and level is None:
            raise semantic_error(f"level {tokens[0]} is out of range")
        return CountTimeseries(_pattern(node), level)

    def _count_devices(self, node: _Node) -> Statement:
        return CountDevices(_pattern(node))

    def _count_storage_group(self, node: _Node) -> Statement:
        return CountStorageGroup(_pattern(node))


# ---- parts of trees ----


def _trees(node: _Node) -> list[_Node]:
    return [child for child in node.children if isinstance(child, Tree)]


def _tokens(node: _Node) -> list[Token]:
    return [child for child in node.children if isinstance(child, Token)]


def _children(node: _Node, rule: str) -> list[_Node]:
    return [child for child in _trees(node) if child.data == rule]


def _child(node: _Node, rule: str) -> _Node | None:
    return next(iter(_children(node, rule)), None)


def _aligned_columns(node: _Node) -> list[_Node]:
    """Return the columns of an aligned list, each with the options that follow it by a comma."""
    columns: list[_Node] = []
    for part in _trees(node):
        if part.data == "aligned_column":
            columns.append(part)
        elif part.data == "late_options":
            before = columns.pop()
            columns.append(Tree(before.data, before.children + part.children))
    return columns


def _full_path(node: _Node) -> str:
    return path_text(_tokens(_children(node, "full_path")[0]), literal=True)


def _patterns(node: _Node) -> tuple[str, ...]:
    patterns = _children(_children(node, "patterns")[0], "pattern")
    return tuple(path_text(_tokens(pattern)) for pattern in patterns)


def _pattern(node: _Node) -> str:
    pattern = _child(node, "pattern")
    return _EVERYTHING if pattern is None else path_text(_tokens(pattern))


def _pair(node: _Node) -> tuple[str, str]:
    key, value = (_option_text(child) for child in node.children)
    return key, value


def _option_text(child: Token | _Node) -> str:
    if isinstance(child, Tree):
        return number_text(child)
    return unquote(str(child)) if child.type == "STRING" else identifier_text(child)


def _pairs(node: _Node | None) -> tuple[tuple[str, str], ...]:
    if node is None:
        return ()
    pairs: Sequence[tuple[str, str]] = [_pair(pair) for pair in _children(node, "pair")]
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ClusterError(
            StatusCode.METADATA_ERROR,
            "Check metadata error: a key stands twice among tags or attributes",
        )
    return tuple(pairs)
