"""SELECTs kept for texts that differ in their times, and in numbers in their paths, only.

A dashboard asks for the same series again and again, each time for another range; a program asks
the same of each of its devices. What such a text means but for the times and the names of series is
then known, so it is not built again from the parse tree: the statement of an earlier text is taken,
with the times and names of this one.

Times that may differ are plain integers that the time is compared with, alone or joined by AND, and
the ends of GROUP BY. Names that may differ are nodes of the paths in the select list, FROM and
WHERE, where they are plain identifiers with digits: the builder does nothing with those but join
them by dots. All other digits of a text are part of what is looked up. Texts with dates or now()
are left alone: what they mean depends on more than the text. Which tokens are times or names is
read off the tree; whether that is right is checked with the statement that was built from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any, NamedTuple

from lark import Token, Tree

from cluster.errors import ClusterError
from cluster.sql.builder import build_statement
from cluster.sql.context import ParseContext
from cluster.sql.shapes import Branch, Reading, Shape
from cluster.sql.statements.families import Statement
from cluster.sql.statements.select import And, Condition, Select, TimeCompare, TimeWindows
from cluster.sql.values import integer_or_none

_MAX_TEXT_BYTES = 1 << 20
"""Of the texts whose statements are kept; a statement takes some ten times as much as its text."""


_PATH_RULES = ("select_path", "pattern", "filter_path")
"""Rules of the grammar whose tokens are nodes of paths, and come into a statement as text."""

_HOLE = re.compile("\0([0-9]+)\0")
"""Stands for a name in what was built to see where names go; no text of a statement has that."""


class _Slots(NamedTuple):
    """What the tokens with digits of a shape are.

    Attributes:
        where: for each test that WHERE joins by AND the number of the token that is its time, None:
            it has none.
        window: of the start and the end of GROUP BY; None: they are not both such numbers.
        names: of the tokens that are nodes of paths.
        others: of the tokens that are neither.
    """

    where: tuple[int | None, ...]
    window: tuple[int, int] | None
    names: tuple[int, ...]
    others: tuple[int, ...]

    def without_names(self) -> _Slots:
        """Return the same for texts that must have the same names."""
        return self._replace(names=(), others=tuple(sorted((*self.others, *self.names))))


class _Template(NamedTuple):
    """A statement, and what it takes to make others of it.

    Attributes:
        select: with the times and names of one text.
        renamed: by attribute what makes it from the names of a text; empty: there are none in it.
    """

    select: Select
    renamed: dict[str, _Make]

    def filled(self, slots: _Slots, texts: list[str]) -> Select | None:
        """Return the statement of a text; None where that takes the builder."""
        select = self.select
        if self.renamed:
            names = [texts[number] for number in slots.names]
            select = select.with_parts({key: make(names) for key, make in self.renamed.items()})
        return _with_times(select, slots, texts)


class SelectTemplates:
    """Thread-safe: its dictionaries are read and replaced in single steps.

    Args:
        by_names: whether texts that differ in names share statements: where the builder compares no
            names with each other.
    """

    def __init__(self, *, by_names: bool = False) -> None:
        self._by_names = by_names
        self._slots: dict[str, tuple[_Slots | None]] = {}
        self._built: dict[tuple[object, ...], _Template] = {}
        self._bytes = 0

    def statement(self, reading: Reading, context: ParseContext) -> Statement:
        """Return the statement of a text; raises what building it raises."""
        shape, texts = reading
        found = self._slots.get(shape.text)
        slots = self._look_at(shape) if found is None else found[0]
        if slots is None:
            return build_statement(reading.tree(), context)
        key = _key(shape, slots, context, texts)
        known = self._built.get(key)
        if known is not None:
            changed = known.filled(slots, texts)
            if changed is not None:
                return changed
        statement = build_statement(reading.tree(), context)
        if known is None and isinstance(statement, Select):
            self._keep(reading, slots, context, statement)
        return statement

    def _look_at(self, shape: Shape) -> _Slots | None:
        slots = _slots_of(shape)
        if slots is not None and not self._by_names:
            slots = slots.without_names()
        self._make_room(len(shape.text))
        self._slots[shape.text] = (slots,)
        return slots

    def _keep(self, reading: Reading, slots: _Slots, context: ParseContext, select: Select) -> None:
        shape, texts = reading
        template = _Template(select, _renamed_parts(reading, slots, context))
        if slots.names and template.filled(slots, texts) != select:
            slots = slots.without_names()
            self._slots[shape.text] = (slots,)
            template = _Template(select, {})
        if template.filled(slots, texts) == select:
            self._make_room(len(shape.text))
            self._built[_key(shape, slots, context, texts)] = template

    def _make_room(self, size: int) -> None:
        if self._bytes > _MAX_TEXT_BYTES:
            self._slots, self._built, self._bytes = {}, {}, 0
        self._bytes += size


def _key(
    shape: Shape, slots: _Slots, context: ParseContext, texts: list[str]
) -> tuple[object, ...]:
    return (
        shape.text,
        context.precision,
        context.prefix_dialect,
        *[texts[number] for number in slots.others],
    )


# ---- names ----

_Make = Callable[[Sequence[str]], Any]
"""Makes a part of a statement from the names of a text."""


def _renamed_parts(reading: Reading, slots: _Slots, context: ParseContext) -> dict[str, _Make]:
    """Return what makes the parts of a SELECT that have names; nothing where there are none.

    It is built with holes in the place of the names, which then show where these go.
    """
    if not slots.names:
        return {}
    texts = list(reading.texts)
    for place, number in enumerate(slots.names):
        texts[number] = f"\0{place}\0"
    try:
        select = build_statement(Reading(reading.shape, texts).tree(), context)
    except ClusterError:
        return {}
    parts = {key: _maker(part) for key, part in vars(select).items()}
    return {key: make for key, make in parts.items() if make is not None}


def _maker(part: object) -> _Make | None:
    """Return what makes a part of a statement; None where it has no names."""
    if isinstance(part, str):
        return _text_maker(part) if type(part) is str and "\0" in part else None
    if isinstance(part, tuple):
        makes = [_maker(one) for one in part]
        if not any(makes):
            return None
        steps = list(zip(makes, part, strict=True))
        return lambda names: tuple(one if make is None else make(names) for make, one in steps)
    if is_dataclass(part) and not isinstance(part, type):
        kind = type(part)
        fields = dict(vars(part))
        makers = {key: make for key, one in fields.items() if (make := _maker(one)) is not None}
        if not makers:
            return None

        def made(names: Sequence[str]) -> object:
            # as `dataclasses.replace` does, at a fraction of the cost
            result = object.__new__(kind)
            changed = {key: make(names) for key, make in makers.items()}
            result.__dict__.update(fields, **changed)
            return result

        return made
    return None


def _text_maker(text: str) -> _Make:
    *_, last = pieces = _HOLE.split(text)
    if len(pieces) == 3 and not pieces[0] and not last:  # mostly: a single name
        place = int(pieces[1])
        return lambda names: names[place]
    form = "%s".join(piece.replace("%", "%%") for piece in pieces[::2])
    places = [int(piece) for piece in pieces[1::2]]
    return lambda names: form % tuple([names[place] for place in places])


# ---- times ----


def _with_times(select: Select, slots: _Slots, texts: list[str]) -> Select | None:
    """Return a statement with the times of another text; None where that takes the builder."""
    if not slots.where and slots.window is None:
        return select
    where, windows = select.where, select.windows
    if slots.where:
        tests = where.operands if isinstance(where, And) else (where,)
        if len(tests) != len(slots.where):
            return None
        changed: list[Condition] = []
        for test, number in zip(tests, slots.where, strict=True):
            if number is None:
                assert test is not None
                changed.append(test)
                continue
            value = integer_or_none(texts[number])
            if value is None or not isinstance(test, TimeCompare):
                return None
            changed.append(TimeCompare(test.op, value))
        where = And(tuple(changed)) if isinstance(where, And) else changed[0]
    if slots.window is not None:
        start, end = (integer_or_none(texts[number]) for number in slots.window)
        if windows is None or start is None or end is None or start >= end:
            return None
        windows = TimeWindows(start, end, windows.interval, windows.sliding, windows.left_open)
    return select.with_parts({"where": where, "windows": windows})


def _slots_of(shape: Shape) -> _Slots | None:
    """Return what a shape's tokens with digits are; None where statements must not be kept."""
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
    nodes = set(_path_nodes(root)) if isinstance(root, Branch) else set()
    names = tuple(
        number
        for number, (place, step, *_) in enumerate(shape.numbered)
        if place in nodes and step.kind == step.terminal == "ID" and step.keyword is None
    )
    taken = {*where, *(window or ()), *names}
    others = tuple(number for number in range(len(shape.numbered)) if number not in taken)
    return _Slots(where, window, names, others)


def _path_nodes(branch: Branch) -> Iterator[int]:
    """Yield the places of the tokens that are nodes of paths."""
    for child in branch.children:
        if isinstance(child, Branch):
            yield from _path_nodes(child)
        elif isinstance(child, int) and branch.rule in _PATH_RULES:
            yield child


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
