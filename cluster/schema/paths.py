"""Paths: text form, nodes, name rules and patterns (sql.md 1.3, 1.5, 1.6).

A path's nodes are a tuple of names, the first of which is `root`. Its text form is the nodes joined
by dots: `split_path(join_path(nodes)) == nodes` for every legal path, because a dot may stand in a
node only between the quotes that are part of its name. Backquotes exist in what users type only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NoReturn

from cluster.errors import ClusterError, StatusCode

ROOT = "root"
_RESERVED_MEASUREMENTS = frozenset({"time", "timestamp", ROOT})

# A node as it is stored. Wrapped in quotes it may hold anything but line breaks and tabs; bare, no
# dot, and quotes only after a backslash. No two alternatives begin alike, so matching is linear.
_QUOTED = r"""'(?:[^'\\\n\r\t]|\\[^\n\r\t])*'|"(?:[^"\\\n\r\t]|\\[^\n\r\t])*\""""
_BARE = r"""(?:[^.'"`\\\n\r\t]|\\(?:['"`\\]|(?!['"`\\])))+"""
_BACKQUOTED = r"""`(?:[^`\\\n\r\t]|\\[^\n\r\t])+`"""
_NODE = re.compile(f"(?:{_QUOTED}|{_BACKQUOTED}|{_BARE})(?=\\.|\\Z)")
_STORED_NODE = re.compile(f"(?:{_QUOTED}|{_BARE})\\Z")
_PLAIN_PATH = re.compile(r"""root(?:\.[^.'"`\\\n\r\t]+)*\Z""")
_STORAGE_GROUP_NODE = re.compile("[A-Za-z0-9_\\-\u2e80-\u9fff]+\\Z")


def _illegal(path: str, reason: str = "") -> NoReturn:
    because = f", because {reason}" if reason else ""
    raise ClusterError(StatusCode.PATH_ILLEGAL, f"{path} is not a legal path{because}")


def _without_backquotes(node: str, path: str) -> str:
    """Return the name that a backquoted node stands for."""
    name = node[1:-1]
    if not _STORED_NODE.match(name):
        _illegal(path, f"{node} has a dot, or a quote that is not escaped, between its backquotes")
    return name


_KEPT_TEXT = 200
"""Longer texts are split and compiled anew each time: what is kept must be bounded in bytes."""


def split_path(text: str) -> tuple[str, ...]:
    """Return the nodes of a path or pattern, as they are stored.

    Raises:
        ClusterError: PATH_ILLEGAL; the text does not begin with root, or a node is empty, wrongly
            quoted, or `root` again.
    """
    return _kept_nodes(text) if len(text) <= _KEPT_TEXT else _nodes_of(text)


def _nodes_of(text: str) -> tuple[str, ...]:
    if _PLAIN_PATH.match(text):
        nodes = tuple(text.split("."))
    else:
        found = []
        at = 0
        while True:
            match = _NODE.match(text, at)
            if match is None:
                _illegal(text, "a node is empty, or is not quoted as it should be")
            node = match.group()
            found.append(_without_backquotes(node, text) if node[0] == "`" else node)
            at = match.end()
            if at == len(text):
                break
            at += 1
        nodes = tuple(found)
        if nodes[0] != ROOT:
            _illegal(text, "a path begins with root")
    if ROOT in nodes[1:]:
        _illegal(text, "root can only be the first node")
    return nodes


_kept_nodes = lru_cache(maxsize=1 << 14)(_nodes_of)


def join_path(nodes: Sequence[str]) -> str:
    """Return the text form of a path."""
    return ".".join(nodes)


def parse_node(text: str) -> str:
    """Return the stored form of one node's name as users type it: backquotes removed.

    Raises:
        ClusterError: PATH_ILLEGAL.
    """
    match = _NODE.match(text)
    if match is None or match.end() != len(text):
        _illegal(text, "it is empty, or is not quoted as it should be")
    return _without_backquotes(text, text) if text[0] == "`" else text


def _is_quoted(node: str) -> bool:
    return node[0] in "'\"" and len(node) > 1


def is_wildcard(node: str) -> bool:
    """Return whether a pattern's node matches anything but its own name."""
    return "*" in node and not _is_quoted(node)


def validate_measurement_name(name: str, path: str) -> None:
    """Check the last node (or alias) of a series to be created.

    Args:
        name: the node as it is stored.
        path: the whole path, for the message.

    Raises:
        ClusterError: PATH_ILLEGAL.
    """
    _validate_created_node(name, path)
    bare = name[1:-1] if _is_quoted(name) else name
    if bare.lower() in _RESERVED_MEASUREMENTS:
        _illegal(path, f"{bare} is reserved")


def validate_device(path: str) -> tuple[str, ...]:
    """Check the path of a device to be created and return its nodes; at least root and one more.

    Raises:
        ClusterError: PATH_ILLEGAL.
    """
    nodes = split_path(path)
    if len(nodes) < 2:
        _illegal(path, "a device is below root")
    for node in nodes:
        _validate_created_node(node, path)
    return nodes


def validate_storage_group(path: str) -> tuple[str, ...]:
    """Check the path of a storage group to be created and return its nodes.

    Raises:
        ClusterError: PATH_ILLEGAL.
    """
    nodes = split_path(path)
    if len(nodes) < 2:
        _illegal(path, "a storage group is below root")
    if not all(_STORAGE_GROUP_NODE.match(node) for node in nodes):
        raise ClusterError(
            StatusCode.PATH_ILLEGAL,
            "The storage group name can only be characters, numbers and underscores. "
            f"{path} is not a legal path",
        )
    return nodes


def _validate_created_node(node: str, path: str) -> None:
    if not _STORED_NODE.match(node):
        _illegal(path, f"{node!r} is empty, or is not quoted as it should be")
    if is_wildcard(node):
        _illegal(path, f"{node} has a wildcard")


class _Glob:
    """One node with `*` inside: any run of characters. Linear, unlike a regular expression."""

    __slots__ = ("_first", "_last", "_least", "_middle")

    def __init__(self, text: str) -> None:
        self._first, *middle, self._last = text.split("*")
        self._middle = [part for part in middle if part]
        self._least = len(text) - text.count("*")

    def matches(self, name: str) -> bool:
        if (
            len(name) < self._least
            or not name.startswith(self._first)
            or not name.endswith(self._last)
        ):
            return False
        at = len(self._first)
        end = len(name) - len(self._last)
        for part in self._middle:
            found = name.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


_ONE = object()
_MANY = object()


class PathPattern:
    """A compiled path pattern: `*` one node, `**` one or more nodes, `ab*` a part of one node.

    Immutable, hashable, thread-safe. Matching walks a nondeterministic automaton whose state is the
    set (a bit mask) of numbers of pattern nodes that the path so far may have used up; tree walks
    carry the state along (`step`) and turn back where it becomes 0.

    Args:
        nodes: as split_path returns them, `root` first.
        prefix: the 0.12 meaning: a path matches when it or an ancestor matches.
    """

    __slots__ = (
        "_accept",
        "_all_below",
        "_hash",
        "_steps",
        "device",
        "is_literal",
        "literal_prefix",
        "nodes",
        "prefix",
    )

    START = 1

    def __init__(self, nodes: Sequence[str], prefix: bool = False) -> None:
        self.nodes = tuple(nodes)
        self.prefix = prefix
        self._hash = hash((self.nodes, prefix))
        steps: list[object] = []
        for node in self.nodes:
            if not is_wildcard(node):
                steps.append(node)
            elif node == "*":
                steps.append(_ONE)
            elif node == "**":
                steps.append(_MANY)
            else:
                steps.append(_Glob(node))
        self._steps = steps
        self.is_literal = not prefix and all(isinstance(step, str) for step in steps)
        """Whether exactly one path matches: `nodes` itself."""
        first = next((n for n, step in enumerate(steps) if not isinstance(step, str)), len(steps))
        self.literal_prefix = self.nodes[:first]
        """The nodes before the first wildcard: every path that matches begins with them."""
        self.device = join_path(self.nodes[:-1]) if self.is_literal else ""
        """Of a literal path: all but its last node."""
        self._accept = 1 << len(steps)
        # in one of these states every path further below matches
        self._all_below = 0
        if prefix:
            self._all_below |= self._accept
        if steps and steps[-1] is _MANY:
            self._all_below |= self._accept >> 1

    @classmethod
    def parse(cls, text: str, *, prefix: bool = False) -> PathPattern:
        """Compile a pattern's text.

        Raises:
            ClusterError: PATH_ILLEGAL.
        """
        return _compiled(text, prefix) if len(text) <= _KEPT_TEXT else cls(split_path(text), prefix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PathPattern):
            return NotImplemented
        return self.nodes == other.nodes and self.prefix == other.prefix

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"PathPattern({self}, prefix={self.prefix})"

    def __str__(self) -> str:
        return join_path(self.nodes)

    @property
    def last_literal(self) -> str | None:
        """The last node of every path that matches, or None when there is no such name."""
        if self.prefix or not self._steps:
            return None
        last = self._steps[-1]
        return last if isinstance(last, str) else None

    # ---- the automaton ----

    def step(self, state: int, node: str) -> int:
        """Return the state after one more node; 0: neither this path nor one below matches."""
        after = state & self._accept if self.prefix else 0
        rest = state & (self._accept - 1)
        steps = self._steps
        while rest:
            bit = rest & -rest
            rest ^= bit
            step = steps[bit.bit_length() - 1]
            if step is _MANY:
                after |= bit | bit << 1
            elif step is _ONE or step == node or (isinstance(step, _Glob) and step.matches(node)):
                after |= bit << 1
        return after

    def accepts(self, state: int) -> bool:
        """Return whether the path so far matches."""
        return state & self._accept != 0

    def accepts_all_below(self, state: int) -> bool:
        """Return whether every path strictly below matches, whatever its nodes are."""
        return state & self._all_below != 0

    def may_match_below(self, state: int) -> bool:
        """Return whether some path strictly below could match."""
        return (self.prefix and state != 0) or state & (self._accept - 1) != 0

    def next_literal(self, state: int) -> str | None:
        """Return the only name that leads on from a state, or None when others may, too."""
        rest = state & (self._accept - 1)
        if rest & (rest - 1) or not rest or (self.prefix and state & self._accept):
            return None
        step = self._steps[rest.bit_length() - 1]
        return step if isinstance(step, str) else None

    def state_after(self, nodes: Sequence[str]) -> int:
        """Return the state after some nodes from the start."""
        state = self.START
        for node in nodes:
            state = self.step(state, node)
            if not state:
                break
        return state

    # ---- whole paths ----

    def matches(self, nodes: Sequence[str]) -> bool:
        """Return whether a path matches."""
        return self.accepts(self.state_after(nodes))

    def could_match_below(self, prefix_nodes: Sequence[str]) -> bool:
        """Return whether `prefix_nodes` itself, or some path below it, could match."""
        return self.state_after(prefix_nodes) != 0


@lru_cache(maxsize=4096)
def _compiled(text: str, prefix: bool) -> PathPattern:
    """Compile a short text; most come again and again."""
    return PathPattern(split_path(text), prefix)
