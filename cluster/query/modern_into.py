"""SELECT INTO of 1.x: to which series each column of an answer goes (sql.md 7.2, 7.3).

A target is a device with names in brackets. In both, `${i}` stands for node i of the source's path
(root is 0); `::` stands for the source's measurement as a name, and as the last node of a device
for what the source's device has from that place on. One target whose names or device have these
serves all columns, or all devices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from cluster.query.errors import metadata_error, query_error
from cluster.query.result import ResultSet, table
from cluster.schema.paths import is_wildcard, join_path, split_path
from cluster.sql.statements.select import Alignment, IntoGroup, Select
from iotdb_engine.types import DataType

_ANY = "::"
_LEVEL = re.compile(r"\$\{([^}]*)\}")
_NODE = r"(?:`(?:[^`]|``)+`|[^\s.,()+\-*/%<>=!'\"`]+)"
_SERIES = re.compile(rf"(?<![\w.`])root(?:\.{_NODE})+")
_NAME = re.compile(_NODE)
_UNEQUAL = "the number of source {0} and the number of target {0} should be the same."


class Target(NamedTuple):
    """A column of one device (None: of the whole answer), and the series that it is written to."""

    source_device: str | None
    column: str
    path: str
    aligned: bool


def check_clauses(select: Select) -> None:
    """Refuse what has no column for each series.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR.
    """
    for present, clause in (
        (select.alignment is Alignment.NONE, "disable align"),
        (select.last, "last"),
        (bool(select.tags), "group by tags"),
        (bool(select.levels), "group by level"),
    ):
        if present:
            raise query_error(f"select into: {clause} clauses are not supported.")


def targets_of_columns(groups: Sequence[IntoGroup], columns: Sequence[str]) -> list[Target]:
    """Return the targets of an answer's columns, in their order.

    Raises:
        ClusterError: METADATA_ERROR or QUERY_PROCESS_ERROR: they don't fit the columns.
    """
    templates = [(group, name) for group in groups for name in group.names]
    if len(templates) == 1 and _serves_many(*templates[0]):
        templates *= len(columns)
    if len(templates) != len(columns):
        raise _refused(_UNEQUAL.format("paths"))
    return _distinct(
        [
            _target(None, column, group, name, _path_in(column))
            for column, (group, name) in zip(columns, templates, strict=True)
        ]
    )


def targets_by_device(
    groups: Sequence[IntoGroup], devices: Sequence[str], columns: Sequence[str]
) -> list[Target]:
    """Return the targets of each device's columns, device by device.

    Raises:
        ClusterError: see `targets_of_columns`.
    """
    if len(groups) == 1 and _has_placeholder(groups[0].device):
        groups = list(groups) * len(devices)
    if len(groups) != len(devices):
        raise _refused(_UNEQUAL.format("devices"))
    targets = []
    for device, group in zip(devices, groups, strict=True):
        names = group.names
        if len(names) == 1 and _has_placeholder(names[0]):
            names *= len(columns)
        if len(names) != len(columns):
            raise _refused(_UNEQUAL.format("paths"))
        for column, name in zip(columns, names, strict=True):
            plain = _NAME.fullmatch(column) is not None
            path = [*split_path(device), *(split_path(f"root.{column}")[1:] if plain else [""])]
            targets.append(_target(device, column, group, name, path))
    return _distinct(targets)


def _serves_many(group: IntoGroup, name: str) -> bool:
    return _has_placeholder(name) or _has_placeholder(group.device)


def _has_placeholder(template: str) -> bool:
    return _ANY in template or _LEVEL.search(template) is not None


def _path_in(column: str) -> list[str]:
    """Return the nodes of the one series in a column's name, "" last where it is in a function."""
    if _SERIES.fullmatch(column):
        return list(split_path(column))
    found = set(_SERIES.findall(column))
    return [*split_path(found.pop())[:-1], ""] if len(found) == 1 else []


def _target(
    device: str | None, column: str, group: IntoGroup, name: str, path: Sequence[str]
) -> Target:
    """Return the target of a column; `path`: nodes of its source, as far as there is one."""
    if name == _ANY:
        name = path[-1] if path else ""
        if not name:
            raise metadata_error(
                "select into: `::` stands for the name of one series that is selected"
            )
    else:
        name = _filled(name, path)
    nodes: list[str] = []
    template = split_path(group.device) if group.device != _ANY else [_ANY]
    for number, node in enumerate(template):
        if node != _ANY:
            nodes.append(_filled(node, path[:-1]))
            continue
        if number != len(template) - 1:
            raise metadata_error("select into: `::` can only be the last node of a device")
        if len(path) < number + 2:
            raise metadata_error("select into: `::` stands for a device that is selected")
        nodes += path[number:-1]
    if len(nodes) < 2 or nodes[0] != "root":
        raise _refused(f"{group.device} is not the path of a device.")
    if any(is_wildcard(node) for node in (*nodes, name)):
        raise _refused("* and ** are not allowed in a target path.")
    return Target(device, column, join_path([*nodes, name]), group.aligned)


def _filled(template: str, nodes: Sequence[str]) -> str:
    def node(match: re.Match[str]) -> str:
        text = match[1]
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise _refused("the x of ${x} should be an integer.")
        if not 0 < int(text) < len(nodes) or not nodes[int(text)]:
            raise _refused(
                "the x of ${x} should be greater than 0 and less than the length of the source's "
                "path."
            )
        return nodes[int(text)]

    return _LEVEL.sub(node, template)


def _distinct(targets: list[Target]) -> list[Target]:
    if len({target.path for target in targets}) != len(targets):
        raise _refused("target paths in into clause should be different.")
    aligned: dict[str, bool] = {}
    for target in targets:
        device = target.path.rpartition(".")[0]
        if aligned.setdefault(device, target.aligned) is not target.aligned:
            raise _refused(f"{device} can't be both aligned and not.")
    return targets


def _refused(text: str) -> Exception:
    return query_error(f"select into: {text}")


def written(targets: Sequence[Target], counts: Sequence[int], *, by_device: bool) -> ResultSet:
    """Return the answer: what went where, and how many points."""
    header = [("SourceColumn", DataType.TEXT), ("TargetTimeseries", DataType.TEXT)]
    if by_device:
        header.insert(0, ("SourceDevice", DataType.TEXT))
    rows = [
        [*([target.source_device] if by_device else []), target.column, target.path, count]
        for target, count in zip(targets, counts, strict=True)
    ]
    return table([*header, ("Written", DataType.INT64)], rows, kind="QUERY")
