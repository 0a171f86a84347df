"""Full paths of series, as results name their columns."""

from __future__ import annotations

import re

# Results show names without the backquotes that SQL needs; what looks like an expression is none.
_NODE = r"(?:`(?:[^`]|``)+`|(?:[^.`'\"()+\-*/%<>=!,;]|(?<! )-(?! ))+)"
_SERIES = re.compile(rf"(?P<device>root(?:\.{_NODE})+)\.(?P<measurement>{_NODE})", re.IGNORECASE)


def split_series(name: str) -> tuple[str, str] | None:
    """Return device and measurement of a full path; None for whatever is none."""
    match = _SERIES.fullmatch(name)
    return None if match is None else (match["device"], match["measurement"])


_PLAIN = re.compile(r"[^\W\d]\w*")
_NODES = re.compile(r"`(?:[^`]|``)+`|[^.]+")


def quote_path(path: str) -> str:
    """Return a path as SQL wants it: nodes that are no plain names in backquotes."""
    return ".".join(map(_quoted, _NODES.findall(path)))


def _quoted(node: str) -> str:
    if node.startswith("`") or node == "*" or _PLAIN.fullmatch(node):
        return node
    return "`" + node.replace("`", "``") + "`"
