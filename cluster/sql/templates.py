"""SELECTs kept for texts that differ in their times only.

A dashboard asks for the same series again and again, each time for another range. What its text
means but for the times is then known, so it is not built again from the parse tree: the statement
of an earlier text is taken, with the times of this one.

Times that may differ are plain integers that the time is compared with, alone or joined by AND, and
the ends of GROUP BY. All other digits of a text are part of what is looked up. Texts with dates or
now() are left alone: what they mean depends on more than the text. Which numbers are times is read
off the tree; whether that is right is checked with the statement that was built from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lark import Token, Tree

from cluster.sql.builder import build_statement
from cluster.sql.context import ParseContext
from cluster.sql.shapes import Branch, Reading, Shape
from cluster.sql.statements.families import Statement
from cluster.sql.statements.select import And, Condition, Select, TimeCompare, TimeWindows
from cluster.sql.values import integer_or_none

_MAX_TEXT_BYTES = 1 << 20
"""Of the texts whose statements are kept; a statement takes some ten times as much as its text."""


class _Times(NamedTuple):
    """Which of a shape's tokens with digits are times.

    Attributes:
        where: for each test that WHERE joins by AND the number of the token, None: it has none.
        window: of the start and the end of GROUP BY; None: they are not both such numbers.
        others: of the tokens that are no times.
    """

    where: tuple[int | None, ...]
    window: tuple[int, int] | None
    others: tuple[int, ...]


class SelectTemplates:
    """Thread-safe: its dictionaries are read and replaced in single steps."""

    def __init__(self) -> None:
        self._times: dict[str, tuple[_Times | None]] = {}
        self._built: dict[tuple[object, ...], Select] = {}
        self._bytes = 0

    def statement(self, reading: Reading, context: ParseContext) -> Statement:
        """Return the statement of a text; raises what building it raises."""
        shape, texts = reading
        found = self._times.get(shape.text)
        times = self._look_at(shape) if found is None else found[0]
        if times is None:
            return build_statement(reading.tree(), context)
        key = (
            shape.text,
            context.precision,
            context.prefix_dialect,
            *[texts[number] for number in times.others],
        )
        known = self._built.get(key)
        if known is not None:
            changed = _with_times(known, times, texts)
            if changed is not None:
                return changed
        statement = build_statement(reading.tree(), context)
        if known is None and isinstance(statement, Select):
            self._keep(key, statement, times, texts)
        return statement

    def _look_at(self, shape: Shape) -> _Times | None:
        times = _times_of(shape)
        self._make_room(len(shape.text))
        self._times[shape.text] = (times,)
        return times

    def _keep(
        self, key: tuple[object, ...], select: Select, times: _Times, texts: list[str]
    ) -> None:
        if _with_times(select, times, texts) == select:
            self._make_room(len(str(key[0])))
            self._built[key] = select

    def _make_room(self, size: int) -> None:
        if self._bytes > _MAX_TEXT_BYTES:
            self._times, self._built, self._bytes = {}, {}, 0
        self._bytes += size


def _with_times(select: Select, times: _Times, texts: list[str]) -> Select | None:
    """Return a statement with the times of another text; None where that takes the builder."""
    where, windows = select.where, select.windows
    if times.where:
        tests = where.operands if isinstance(where, And) else (where,)
        if len(tests) != len(times.where):
            return None
        changed: list[Condition] = []
        for test, number in zip(tests, times.where, strict=True):
            if number is None:
                assert test is not None
                changed.append(test)
                continue
            value = integer_or_none(texts[number])
            if value is None or not isinstance(test, TimeCompare):
                return None
            changed.append(TimeCompare(test.op, value))
        where = And(tuple(changed)) if isinstance(where, And) else changed[0]
    if times.window is not None:
        start, end = (integer_or_none(texts[number]) for number in times.window)
        if windows is None or start is None or end is None or start >= end:
            return None
        windows = TimeWindows(start, end, windows.interval, windows.sliding, windows.left_open)
    return select.at_times(where, windows)


def _times_of(shape: Shape) -> _Times | None:
    """Return where a shape has times; None where statements must not be kept."""
    root = shape.root
    if any(_depends_on_clock(token) for token in shape.tokens) or len(root.children) != 1:
        return None
    select = root.children[0]
    if _rule(select) != "select":
        return None
    numbers = {one.place: number for number, one in enumerate(shape.numbered)}
    where: tuple[int | None, ...] = ()
    window: tuple[int, int] | None = None
    for part in _parts(select):
        if _rule(part) == "where":
            (test,) = _parts(part)
            tests = list(_parts(test)) if _rule(test) == "conjunction" else [test]
            places = [_compared_time(one) for one in tests]
            if any(place is not None for place in places):
                where = tuple(None if place is None else numbers[place] for place in places)
        elif _rule(part) == "group_by_time":
            ends = [_plain_number(one) for one in _parts(next(_parts(part)))]
            if len(ends) == 2 and ends[0] is not None and ends[1] is not None:
                window = numbers[ends[0]], numbers[ends[1]]
    taken = {*where, *(window or ())}
    others = tuple(number for number in range(len(shape.numbered)) if number not in taken)
    return _Times(where, window, others)


def _depends_on_clock(token: Token) -> bool:
    return token.type in ("NOW", "DATETIME", "DATE")


def _compared_time(test: object) -> int | None:
    """Return the place of the number that a test compares the time with."""
    if _rule(test) != "comparison":
        return None
    parts = list(_parts(test))
    if len(parts) != 3 or _rule(parts[0]) != "time_operand":
        return None
    return _plain_number(parts[2])


def _plain_number(node: object) -> int | None:
    """Return the place of the only token of a number."""
    if isinstance(node, Branch) and node.rule == "number" and len(node.children) == 1:
        child = node.children[0]
        return child if isinstance(child, int) else None
    return None


def _rule(node: object) -> str:
    if isinstance(node, Branch):
        return node.rule
    return str(node.data) if isinstance(node, Tree) else ""


def _parts(node: object) -> Iterator[object]:
    if isinstance(node, (Branch, Tree)):
        for child in node.children:
            if isinstance(child, (Branch, Tree)):
                yield child
