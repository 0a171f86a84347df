"""Parse trees remembered by the shape of a text, so that only its numbers are read again.

Dashboards and programs send the same statements with other times and device numbers. Two texts
that are equal but for digits have the same tokens, digits aside, so the parser would do the same
again: its tree is kept once for all of them, and its tokens with digits are replaced by those of
the text at hand. Nobody changes a tree, so texts share the parts without digits.

That they have the same tokens rests on the regular expression of tokens: wherever it takes a digit,
it takes any run of them. So tokens begin and end at the same other characters, and are of the same
kinds (a test tries that); but a keyword (INT32, INT64 …) has to be the same word. Otherwise the
text goes through the parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from lark import Token, Tree

from cluster.sql.tokens import PLAIN_TOKEN, TOKEN

_MAX_SHAPES = 2048
_MAX_TOKENS = 300
"""Longer texts are one of a kind, would fill the memory, and their trees may be deep."""

_MAX_TEXT = 4096

_DIGITS = re.compile(r"[0-9]+")
_RUNS = re.compile(r"([0-9]+)")


class Step(NamedTuple):
    """How one token was read.

    Attributes:
        plain: whether partial wildcards were no choice.
        kind: of the token, by the regular expression's group.
        terminal: what the parser was fed.
        keyword: the word, if it is one of the grammar's.
    """

    plain: bool
    kind: str
    terminal: str
    keyword: str | None


class Branch(NamedTuple):
    """A part of a tree with tokens to be read again; what has none is the same tree for all texts.

    Attributes:
        rule: of the tree.
        children: parts, tokens that are the same in all texts, or the numbers of those that are
            not.
    """

    rule: str
    children: tuple[Branch | Tree[Token] | Token | int, ...]


class _Numbered(NamedTuple):
    """A token with digits: to be read again from each text.

    Attributes:
        place: its number among the tokens.
        step: how it was read.
        start: where it begins in the text with its digits left out.
        runs_before: runs of digits before it.
        end: where it ends, likewise.
        runs_until: runs of digits before that.
    """

    place: int
    step: Step
    start: int
    runs_before: int
    end: int
    runs_until: int


class Shape(NamedTuple):
    """All texts that are equal but for the digits in some places.

    Attributes:
        text: one of them, with 0 for each run of digits.
        tokens: those without digits are the same in all texts.
        numbered: the others.
        root: the tree.
    """

    text: str
    tokens: tuple[Token, ...]
    numbered: tuple[_Numbered, ...]
    root: Branch | Tree[Token]


class Reading(NamedTuple):
    """A text whose shape is known.

    Attributes:
        shape: what it has in common with others.
        texts: of its tokens with digits, in order.
    """

    shape: Shape
    texts: list[str]

    def tree(self) -> Tree[Token]:
        """Return its parse tree."""
        shape = self.shape
        if not isinstance(shape.root, Branch):
            return shape.root
        tokens = list(shape.tokens)
        for one, text in zip(shape.numbered, self.texts, strict=True):
            tokens[one.place] = Token(one.step.terminal, text)
        return _filled(shape.root, tokens)


class ShapeCache:
    """Thread-safe: its dictionary is read and replaced in single steps."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}

    def read(self, sql: str, keywords: Mapping[str, str]) -> Reading | None:
        """Return what a text has besides its shape, None where that is not known."""
        if len(sql) > _MAX_TEXT:
            return None
        pieces = _RUNS.split(sql)  # every second one is a run of digits
        shape = self._shapes.get("0".join(pieces[::2]))
        if shape is None:
            return None
        texts = _read_again(sql, pieces[1::2], shape, keywords)
        return None if texts is None else Reading(shape, texts)

    def remember(
        self, sql: str, steps: Sequence[Step], fed: Sequence[Token], tree: Tree[Token]
    ) -> None:
        """Keep the tree of a text.

        Args:
            sql: the text.
            steps: how its tokens were read.
            fed: parallel to `steps`: the tokens, which are the leaves of `tree`.
            tree: what the parser made of them.
        """
        if len(sql) > _MAX_TEXT or len(steps) > _MAX_TOKENS:
            return
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes = {}
        numbered = tuple(_numbered(sql, steps))
        places = {id(fed[one.place]): one.place for one in numbered}
        text = _DIGITS.sub("0", sql)
        self._shapes[text] = Shape(text, tuple(fed), numbered, _branch(tree, places))


def _numbered(sql: str, steps: Sequence[Step]) -> Iterator[_Numbered]:
    """Yield the tokens of a text that have digits."""
    position = shift = runs = 0
    for place, step in enumerate(steps):
        match = _match(step, sql, position)
        assert match is not None
        assert step.kind == match.lastgroup
        start = match.start(step.kind)
        found = _DIGITS.findall(sql, start, match.end())
        digits = sum(map(len, found))
        if found:
            until = runs + len(found)
            yield _Numbered(place, step, start - shift, runs, match.end() - shift - digits, until)
        shift += digits
        runs += len(found)
        position = match.end()


def _match(step: Step, sql: str, position: int) -> re.Match[str] | None:
    return (PLAIN_TOKEN if step.plain else TOKEN).match(sql, position)


def _read_again(
    sql: str, runs: Sequence[str], shape: Shape, keywords: Mapping[str, str]
) -> list[str] | None:
    """Return the tokens with digits of a text, None where one is another keyword, or one no more.

    What a token is depends on the characters around its digits, which are the same.

    Args:
        sql: the text.
        runs: its runs of digits.
        shape: what it has in common with others.
        keywords: of the grammar.
    """
    texts: list[str] = []
    digits_before = list(accumulate(map(len, runs), initial=0))
    for _, step, start, runs_before, end, runs_until in shape.numbered:
        text = sql[start + digits_before[runs_before] : end + digits_before[runs_until]]
        if step.kind == "ID":
            word = text.upper()
            if (word if word in keywords else None) != step.keyword:
                return None
        texts.append(text)
    return texts


def _branch(tree: Tree[Token], places: Mapping[int, int]) -> Branch | Tree[Token]:
    """Return what is to be filled in, a tree where nothing is."""
    children: tuple[Any, ...] = tuple(
        _branch(child, places) if isinstance(child, Tree) else places.get(id(child), child)
        for child in tree.children
    )
    if any(isinstance(child, (Branch, int)) for child in children):
        return Branch(str(tree.data), children)
    return Tree(str(tree.data), list(children))  # the parser's names are slow to compare


def _filled(branch: Branch, tokens: Sequence[Token]) -> Tree[Token]:
    return Tree(
        branch.rule,
        [
            tokens[child]
            if isinstance(child, int)
            else _filled(child, tokens)
            if isinstance(child, Branch)
            else child
            for child in branch.children
        ],
    )
