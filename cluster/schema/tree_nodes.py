"""Nodes of a storage group's schema tree, and walks over them led by a pattern's automaton."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.schema.paths import PathPattern
from cluster.schema.series import SeriesInfo


class Device:
    """A device with at least one series."""

    __slots__ = ("aligned", "names", "path", "series", "template")

    def __init__(self, path: str, aligned: bool) -> None:
        self.path = path
        self.aligned = aligned
        self.template = ""  # the one that made some of the series
        self.series: dict[str, SeriesInfo] = {}  # by measurement, in order of creation
        self.names: dict[str, SeriesInfo] = {}  # by measurement and by alias


class Node:
    """An inner node of a storage group's tree; lives as long as a device is there or below."""

    __slots__ = ("children", "device")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.device: Device | None = None


def find_node(root: Node, names: Sequence[str]) -> Node | None:
    """Return the node that is reached by names from a node, or None."""
    node: Node | None = root
    for name in names:
        if node is None:
            return None
        node = node.children.get(name)
    return node


def descend(pattern: PathPattern, root: Node, state: int, found: list[tuple[Device, int]]) -> None:
    """Collect the devices at and below a node; by hand, as a path's depth has no bound."""
    todo = [(root, state)]
    while todo:
        node, state = todo.pop()
        if node.device is not None:
            found.append((node.device, state))
        literal = pattern.next_literal(state)
        if literal is not None:
            child = node.children.get(literal)
            if child is not None:
                todo.append((child, pattern.step(state, literal)))
            continue
        for name, child in node.children.items():
            after = pattern.step(state, name)
            if after:
                todo.append((child, after))


def matching_nodes(
    pattern: PathPattern, root: Node, root_path: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path, kind) of every node strictly below a node whose path matches.

    Args:
        pattern: against whole paths.
        root: where to begin.
        root_path: its path.
    """
    state = pattern.state_after(root_path)
    todo: list[tuple[Node, tuple[str, ...], int]] = (
        [(root, tuple(root_path), state)] if state else []
    )
    while todo:
        node, path, state = todo.pop()
        if not pattern.may_match_below(state) and not pattern.accepts_all_below(state):
            continue
        if node.device is not None:
            for name in node.device.series:
                if pattern.accepts(pattern.step(state, name)):
                    yield (*path, name), "TIMESERIES"
        for name, child in node.children.items():
            after = pattern.step(state, name)
            if not after:
                continue
            below = (*path, name)
            if pattern.accepts(after):
                yield below, "DEVICE" if child.device is not None else "INTERNAL"
            todo.append((child, below, after))
