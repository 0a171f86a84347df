"""Names and paths from tokens to the text that statements carry (sql.md 1.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lark import Token

from cluster.schema.paths import ROOT, is_wildcard, parse_node
from cluster.sql.context import illegal_path

_RESERVED_MEASUREMENTS = ("time", "timestamp")


def node_text(token: Token) -> str:
    """Return a path node as it is stored: no backquotes; the quotes of a quoted node stay.

    Raises:
        ClusterError: PATH_ILLEGAL.
    """
    if token.type == "ROOT":
        return ROOT
    if token.type in ("BACKQUOTED", "STRING"):
        return parse_node(str(token))
    return str(token)


def path_text(tokens: Sequence[Token], *, literal: bool = False) -> str:
    """Return the text of a path.

    Args:
        tokens: its nodes.
        literal: whether it names something that is written or made, so that wildcards that were
            smuggled in by backquotes are refused.
    """
    nodes = [node_text(token) for token in tokens]
    path = ".".join(nodes)
    if literal and any(is_wildcard(node) for node in nodes):
        raise illegal_path(path, "a name can't hold *")
    return path


def measurement_text(token: Token) -> str:
    """Return the name of a measurement that is written or made."""
    text = path_text([token], literal=True)
    check_measurement(text)
    return text


def check_measurement(name: str) -> None:
    """Refuse the names of the time column, quoted or not."""
    if name.strip("'\"").lower() in _RESERVED_MEASUREMENTS:
        raise illegal_path(name, "time and timestamp are reserved")


def identifier_text(token: Token) -> str:
    """Return an identifier (alias, tag key): backquotes removed, their escapes resolved."""
    text = str(token)
    if token.type != "BACKQUOTED":
        return text
    return re.sub(r"\\(.)", r"\1", text[1:-1].replace("``", "`"), flags=re.DOTALL)
