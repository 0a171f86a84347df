"""The short way for INSERTs of the usual shape: two regular expressions instead of the grammar.

Taken: an explicit time column, plain names, integer times, and literals without backslashes.
Whatever looks unusual in any way (dates, `now()`, quoted names, wrong arity, syntax errors …) is
left to the grammar, which also words the errors. Both ways give equal statements; a property test
holds them to it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cluster.sql.statements.data import Insert
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.tokens import ID_CHARACTERS, RESERVED
from cluster.sql.values import integer_or_none

_WS = r"[ \t\r\n]*"
_SPACE = r"[ \t\r\n]+"
# names that start with a digit may be numbers, durations or dates: not here
_NAME = rf"(?![0-9])[{ID_CHARACTERS}]+"

_HEADER = re.compile(
    rf"{_WS}insert{_SPACE}into{_SPACE}(root(?:\.{_NAME})+){_WS}"
    rf"\({_WS}(?:timestamp|time){_WS},{_WS}({_NAME}(?:{_WS},{_WS}{_NAME})*){_WS}\){_WS}"
    rf"(aligned{_SPACE})?values{_WS}\(",
    re.ASCII | re.IGNORECASE,
)

_EXPONENT = r"[eE][+-]?[0-9]+"
_NUMBER = rf"[+-]?(?:[0-9]+(?:\.(?:[0-9]+(?:{_EXPONENT})?)?|{_EXPONENT})?|\.[0-9]+(?:{_EXPONENT})?)"
_CELL = re.compile(
    rf"{_WS}(?:({_NUMBER})|'([^'\\]*)'|\"([^\"\\]*)\"|(true|false)|(null)|(nan)){_WS}([,)])",
    re.ASCII | re.IGNORECASE,
)
_CLOSE = 7
"""Group of what follows a cell; the groups before it tell its kind."""

_OTHER_GROUPS = range(2, _CLOSE)
_KIND_OF_GROUP = (
    LiteralKind.NULL,  # no group 0
    LiteralKind.NUMBER,
    LiteralKind.STRING,
    LiteralKind.STRING,
    LiteralKind.BOOLEAN,
    LiteralKind.NULL,
    LiteralKind.NAN,
)
_NEXT_ROW = re.compile(rf"{_WS},?{_WS}\(", re.ASCII)
_END = re.compile(rf"{_WS};?{_WS}\Z", re.ASCII)

_INTEGER = re.compile(r"[+-]?[0-9]+\Z", re.ASCII)


def fast_insert(sql: str) -> Insert | None:
    """Return the statement, or None when it must go through the grammar. Thread-safe."""
    header = _HEADER.match(sql)
    if header is None:
        return None
    kept = len(header[1]) + len(header[2]) <= _KEPT_TEXT
    target = (_kept_target if kept else _target)(header[1], header[2])
    if target is None:
        return None
    device, measurements = target
    width = len(measurements) + 1
    times: list[int] = []
    rows: list[tuple[Literal, ...]] = []
    position = header.end()
    while True:
        row = _read_row(sql, position, width)
        if row is None:
            return None
        time, cells, position = row
        times.append(time)
        rows.append(cells)
        following = _NEXT_ROW.match(sql, position)
        if following is None:
            break
        position = following.end()
    if _END.match(sql, position) is None:
        return None
    return Insert(device, measurements, header[3] is not None, tuple(times), tuple(rows))


def _target(path: str, columns: str) -> tuple[str, tuple[str, ...]] | None:
    """Return device and measurements; None when a reserved word is among their nodes."""
    measurements = tuple(name.strip(" \t\r\n") for name in columns.split(","))
    nodes = path.split(".")[1:]
    if any(name.upper() in RESERVED for name in (*nodes, *measurements)):
        return None
    return ".".join(["root", *nodes]), measurements


_KEPT_TEXT = 4096
"""Longer heads are read anew each time: what is kept must be bounded in bytes."""
_kept_target = lru_cache(maxsize=4096)(_target)


def _read_row(sql: str, position: int, width: int) -> tuple[int, tuple[Literal, ...], int] | None:
    """Return time, cells and end of the row whose `(` ends at `position`."""
    cell_at = _CELL.match
    cells: list[Literal] = []
    new = tuple.__new__
    for _ in range(width):
        match = cell_at(sql, position)
        if match is None:
            return None
        # lastindex is always the closing group; the kind is the one group before it that is set
        number = match[1]
        if number is not None:
            cells.append(new(Literal, (LiteralKind.NUMBER, number)))
        else:
            group = next(group for group in _OTHER_GROUPS if match[group] is not None)
            cells.append(new(Literal, (_KIND_OF_GROUP[group], match[group])))
        position = match.end()
        if match[_CLOSE] == ")":
            break
    if len(cells) != width or sql[position - 1] != ")":
        return None
    kind, text = cells[0]
    if kind is not LiteralKind.NUMBER or _INTEGER.match(text) is None:
        return None
    time = integer_or_none(text)
    if time is None:
        return None
    return time, tuple(cells[1:]), position
