"""SELECT INTO: where each column goes (sql.md 3.16)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from cluster.query.binding import ItemKind, kind_of
from cluster.query.errors import query_error
from cluster.schema.paths import is_wildcard, join_path, split_path
from cluster.sql.statements.select import Alignment, Select

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


def into_targets(select: Select) -> tuple[str, ...]:
    """Return the full paths of the targets, parallel to the items.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: clauses that INTO does not go with, or targets that do
            not fit the items.
    """
    assert select.into is not None
    _check_clauses(select)
    targets = select.into.targets
    if len(targets) != len(select.items):
        raise _refused(
            "the number of source paths and the number of target paths should be the same."
        )
    if len(select.prefixes) != 1:
        raise _refused("the number of prefix paths in the from clause should be 1.")
    prefix = split_path(select.prefixes[0])
    resolved = tuple(_resolved(target, prefix, select.levels) for target in targets)
    if len(set(resolved)) != len(resolved):
        raise _refused("target paths in into clause should be different.")
    return resolved


def source_of(select: Select) -> Select:
    """Return the query whose columns are written."""
    return replace(select, into=None)


def check_columns(targets: Sequence[str], columns: int) -> None:
    """Refuse a query in which an item did not become one column; none at all write nothing."""
    if columns not in (0, len(targets)):
        raise _refused(
            "the number of source paths and the number of target paths should be the same."
        )


def _refused(text: str) -> Exception:
    return query_error(f"select into: {text}")


def _check_clauses(select: Select) -> None:
    for present, clause in (
        (select.alignment is Alignment.DEVICE, "align by device"),
        (select.alignment is Alignment.NONE, "disable align"),
        (select.last, "last"),
        (bool(select.tags), "group by tags"),
        (select.series_limit is not None, "slimit"),
        (select.series_offset, "soffset"),
        (select.order_descending, "order by time desc"),
    ):
        if present:
            raise _refused(f"{clause} clauses are not supported.")
    aggregated = any(kind_of(item) is ItemKind.AGGREGATE for item in select.items)
    if aggregated and not select.in_windows:
        raise _refused("aggregation queries are not supported.")


def _resolved(target: str, prefix: Sequence[str], levels: Sequence[int]) -> str:
    """Return a target's full path, `${i}` replaced by nodes of the FROM prefix."""
    limit = max(levels) if levels else len(prefix) - 1

    def node(match: re.Match[str]) -> str:
        text = match[1]
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
            raise _refused("the x of ${x} should be an integer.")
        number = int(text)
        if not 1 <= number <= limit or number >= len(prefix):
            raise _refused(
                "the x of ${x} should be greater than 0 and equal to or less than <level> or the "
                "length of queried path prefix."
            )
        return prefix[number]

    absolute = target == "root" or target.startswith("root.")
    base = prefix[: limit + 1] if levels else prefix
    path = target if absolute else join_path([*base, target])
    nodes = split_path(_PLACEHOLDER.sub(node, path))
    if any(is_wildcard(part) for part in nodes):
        raise _refused("* and ** are not allowed in a target path.")
    if len(nodes) < 3:
        raise _refused(f"{path} is not the path of a series.")
    return join_path(nodes)
