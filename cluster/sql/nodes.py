"""Parts of parse trees that builders of several statement families need."""

from __future__ import annotations

from lark import Token, Tree

from cluster.errors import ClusterError, StatusCode
from cluster.sql.constants import count_of, number_text
from cluster.sql.names import identifier_text, path_text
from cluster.sql.tokens import unquote
from iotdb_engine.types import DataType

EVERYTHING = "root.**"

_TYPES_OF_1_X = {
    "STRING": DataType.TEXT,
    "BLOB": DataType.TEXT,
    "DATE": DataType.INT32,
    "TIMESTAMP": DataType.INT64,
}

Node = Tree[Token]


def subtrees(node: Node) -> list[Node]:
    """Return the children that are trees."""
    return [child for child in node.children if isinstance(child, Tree)]


def tokens_of(node: Node) -> list[Token]:
    """Return the children that are tokens."""
    return [child for child in node.children if isinstance(child, Token)]


def parts(node: Node, rule: str) -> list[Node]:
    """Return the children that are trees of a rule."""
    return [child for child in node.children if isinstance(child, Tree) and child.data == rule]


def part(node: Node, rule: str) -> Node | None:
    """Return the first child of a rule, or None."""
    for child in node.children:
        if isinstance(child, Tree) and child.data == rule:
            return child
    return None


def full_path_of(node: Node) -> str:
    """Return the text of the `full_path` below a node."""
    return path_text(tokens_of(parts(node, "full_path")[0]), literal=True)


def patterns_of(node: Node) -> tuple[str, ...]:
    """Return the texts of the `patterns` below a node."""
    return tuple(
        path_text(tokens_of(child)) for child in parts(parts(node, "patterns")[0], "pattern")
    )


def pattern_of(node: Node) -> str:
    """Return the text of the `pattern` below a node, everything when there is none."""
    pattern = part(node, "pattern")
    return EVERYTHING if pattern is None else path_text(tokens_of(pattern))


def pair_of(node: Node) -> tuple[str, str]:
    """Return key and value of a `pair` or `property`."""
    key, value = (option_text(child) for child in node.children)
    return key, value


def option_text(child: Token | Node) -> str:
    """Return a key or value of a pair: a word, a string without its quotes, or a number."""
    if isinstance(child, Tree):
        return number_text(child)
    return unquote(str(child)) if child.type == "STRING" else identifier_text(child)


def pairs_of(node: Node | None) -> tuple[tuple[str, str], ...]:
    """Return the pairs of a clause; METADATA_ERROR when a key stands twice."""
    if node is None:
        return ()
    pairs = [pair_of(pair) for pair in parts(node, "pair")]
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ClusterError(
            StatusCode.METADATA_ERROR,
            "Check metadata error: a key stands twice among tags or attributes",
        )
    return tuple(pairs)


def limit_of(node: Node, prefix: str = "") -> tuple[int | None, int]:
    """Return limit and offset of the (S)LIMIT clause below a node."""
    small = prefix.lower()
    for name in (f"{small}limit_{small}offset", f"{small}offset_{small}limit"):
        clause = node if node.data == name else part(node, name)
        if clause is not None:
            counts = subtrees(clause)
            if name.startswith(f"{small}offset"):
                counts.reverse()
            limit = count_of(counts[0], f"{prefix}LIMIT", f"{prefix}N", zero=False)
            offset = 0
            if len(counts) > 1:
                symbol = f"{prefix}OFFSETValue"
                offset = count_of(counts[1], f"{prefix}OFFSET", symbol, zero=True)
            return limit, offset
    return None, 0


def data_type_of(word: str) -> DataType:
    """Return the type that a word names; those of 1.x as the type that they are kept as."""
    upper = word.upper()
    return _TYPES_OF_1_X.get(upper) or DataType[upper]
