"""From SQL text to a statement.

INSERTs of the usual shape take a hand-written path (`cluster.sql.fast_insert`); everything else
goes through the LALR grammar in `grammar/*.lark`. The tokens are fed to the parser one by one, so
that the parser's state can decide what a word is: a keyword where one can stand, else a name.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator
from importlib.resources import files
from typing import Any, NamedTuple

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedToken
from lark.lexer import Lexer

from cluster.errors import ClusterError, StatusCode
from cluster.sql import parse_tables
from cluster.sql.builder import build_statement
from cluster.sql.context import ParseContext
from cluster.sql.fast_insert import fast_insert
from cluster.sql.shapes import ShapeCache, Step
from cluster.sql.statements.families import Statement
from cluster.sql.templates import SelectTemplates
from cluster.sql.tokens import (
    OPERATORS,
    PLAIN_TOKEN,
    RESERVED,
    TOKEN,
    display_name,
    keywords_of,
    with_backslashes,
)

__all__ = ["ParseContext", "keywords", "parse", "warm_up"]

_MAX_NESTING = 200
"""Open parentheses; the builder recurses over them."""

_MAX_TOKENS = 100_000
"""Longer statements would keep a thread, and the interpreter's lock, for too many seconds."""

_NESTING = {"_LPAREN": 1, "_RPAREN": -1}
_PARTIAL_KINDS = ("PARTIAL_END", "PARTIAL_START")
_TERMINAL_OF_KIND = {"PARTIAL_END": "PARTIAL", "PARTIAL_START": "PARTIAL", "END": "$END"}

_CLAUSES = frozenset(
    ["ALIGN", "AS", "FILL", "FROM", "GROUP", "INTO", "LIMIT", "OFFSET", "ON", "ORDER"]
)
_CLAUSES |= {"SLIMIT", "SOFFSET", "TO", "VALUES", "WHERE", "WITH", "WITHOUT"}
"""Words that begin a clause: where one was read as a name and what follows does not fit, something
before it is missing."""

_MODIFIERS = ("LAST", "TOP")
_NAME_BEFORE = re.compile(r"[ \t\r\n]*(?:[,.]|(?:from|as|into)[ \t\r\n])", re.IGNORECASE)
"""What follows SELECT LAST when a series is called so."""

_OPENS = re.compile(r"[ \t\r\n]*\(")

_TERMINAL = re.compile(r"\b_?[A-Z][A-Z0-9_]*\b")


class _FedLexer(Lexer):
    """Stands in for a lexer: the tokens are fed by `_parse_tree`."""

    # lark takes it as it is, and not within a class of its own that can't be kept in a file
    __future_interface__ = 2

    def __init__(self, lexer_conf: Any) -> None:  # noqa: ANN401
        pass

    def lex(self, lexer_state: Any, parser_state: Any) -> Iterator[Token]:  # noqa: ANN401
        """Yield nothing."""
        return iter(())


class _Grammar(NamedTuple):
    parser: Lark
    keywords: dict[str, str]


class _LazyGrammar:
    """The grammar's parse table: built at first use, once; then shared by all threads.

    Args:
        generation: folder of the rules that differ between generations of the dialect.
    """

    def __init__(self, generation: str) -> None:
        self.shapes = ShapeCache()
        self.templates = SelectTemplates(by_names=generation == "v0")
        self._generation = generation
        self._lock = threading.Lock()
        self._grammar: _Grammar | None = None

    def get(self) -> _Grammar:
        """Return the grammar; the first call takes some milliseconds, the first ever hundreds."""
        if self._grammar is None:
            with self._lock:
                if self._grammar is None:
                    self._grammar = _build_grammar(self._generation)
        return self._grammar


_GRAMMAR = _LazyGrammar("v0")
_GRAMMAR_V1 = _LazyGrammar("v1")


def grammar_text(generation: str = "v0") -> str:
    """Return the rules of all families: `v0` up to 0.13, `v1` for 1.0 and later."""
    shared = files("cluster.sql").joinpath("grammar")
    pages = [
        page
        for folder in (shared, shared.joinpath(generation))
        for page in sorted(folder.iterdir(), key=lambda page: page.name)
        if page.name.endswith(".lark")
    ]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def _build_grammar(generation: str) -> _Grammar:
    rules = "\n".join(line.split("//")[0] for line in grammar_text(generation).splitlines())
    terminals = set(_TERMINAL.findall(rules))
    twice = sorted(name for name in terminals if f"_{name}" in terminals)
    assert not twice, f"used with and without underscore: {twice}"
    declared = " ".join(sorted(terminals))
    text = f"{rules}\n%declare {declared}\n"
    parser = parse_tables.load(text)
    if parser is None:
        parser = Lark(text, parser="lalr", lexer=_FedLexer, maybe_placeholders=False)
        parse_tables.store(text, parser)
    return _Grammar(parser, keywords_of(terminals, modern=generation == "v1"))


def warm_up() -> None:
    """Build the grammars now, e.g. while a server starts, instead of in the first request."""
    _GRAMMAR.get()
    _GRAMMAR_V1.get()


def keywords() -> frozenset[str]:
    """Return the words, in upper case, that mean something to the grammar."""
    return frozenset(_GRAMMAR.get().keywords)


def grammar_rules(generation: str = "v0") -> list[tuple[str, list[tuple[bool, str]]]]:
    """Return the rules of a generation in plain form, for tests that derive texts.

    Returns:
        The rule's name and one of its expansions: symbols as (whether it is a terminal, name).
    """
    return [
        (str(rule.origin.name), [(symbol.is_term, str(symbol.name)) for symbol in rule.expansion])
        for rule in (_GRAMMAR_V1 if generation == "v1" else _GRAMMAR).get().parser.rules
    ]


def parse(sql: str, context: ParseContext) -> Statement:
    """Return the statement that `sql` says.

    Args:
        sql: one statement, with or without a semicolon at its end.
        context: zone, clock and dialect of the session.

    Raises:
        ClusterError: SQL_PARSE_ERROR with line and column (columns from 0, as 0.13 counts);
            METADATA_ERROR, PATH_ILLEGAL … for texts that parse but mean nothing (sql.md 2.3, 2.8).

    Thread-safe.
    """
    if context.modern:
        sql = with_backslashes(sql)
    statement = fast_insert(sql)
    if statement is not None:
        return statement
    return parse_with_grammar(sql, context)


def parse_with_grammar(sql: str, context: ParseContext) -> Statement:
    """Do what `parse` does, without the shortcut for INSERT."""
    grammar = _GRAMMAR_V1 if context.modern else _GRAMMAR
    known = grammar.shapes.read(sql, grammar.get().keywords)
    if known is not None:
        return grammar.templates.statement(known, context)
    return build_statement(_parse_tree(sql, grammar), context)


def _parse_tree(sql: str, grammar: _LazyGrammar) -> Tree[Token]:
    """Parse, deciding each token's terminal by what the parser can take next."""
    parser, keywords = grammar.get()
    state = parser.parse_interactive("")
    fed: list[Token] = []
    steps: list[Step] = []
    starts: list[int] = []
    position = depth = 0
    while True:
        choices: Collection[str] = state.choices()  # type: ignore[no-untyped-call]
        match = TOKEN.match(sql, position)
        plain = False
        if match is not None and match.lastgroup in _PARTIAL_KINDS and "PARTIAL" not in choices:
            match = PLAIN_TOKEN.match(sql, position)
            plain = True
        if match is None:
            raise _unrecognised(sql, position)
        kind = match.lastgroup or ""
        text = match[kind]
        start = match.start(kind)
        position = match.end()
        terminal = _terminal(kind, text, keywords, choices)
        if terminal in _MODIFIERS and "ID" in choices and _NAME_BEFORE.match(sql, position):
            terminal = "ID"
        if terminal == "NOW" and "ID" in choices and not _OPENS.match(sql, position):
            terminal = "ID"
        token = Token(terminal, text)
        depth += _NESTING.get(token.type, 0)
        if len(fed) >= _MAX_TOKENS:
            raise _parse_error(sql, start, f"more than {_MAX_TOKENS} words and signs")
        if depth > _MAX_NESTING:
            raise _parse_error(sql, start, f"more than {_MAX_NESTING} open parentheses")
        try:
            if token.type in choices:
                tree = state.feed_token(token)
                if token.type == "$END":
                    result: Tree[Token] = tree
                    grammar.shapes.remember(sql, steps, fed, result)
                    return result
                fed.append(token)
                steps.append(Step(plain, kind, terminal, _keyword(kind, text, keywords)))
                starts.append(start)
                continue
        except UnexpectedToken:
            pass
        if steps and steps[-1].terminal == "ID" and steps[-1].keyword in _CLAUSES:
            # taken for a name, but what follows says that the clause was meant
            start, token = starts[-1], fed.pop()
        # the state may have been changed by reductions for a look-ahead that only other contexts of
        # this LALR state can take, so what could have come is found by a replay
        state = parser.parse_interactive("")
        for earlier in fed:
            state.feed_token(earlier)
        expected: Collection[str] = state.accepts()  # type: ignore[no-untyped-call]
        raise _mismatch(sql, start, token, expected)


def _keyword(kind: str, text: str, keywords: dict[str, str]) -> str | None:
    word = text.upper()
    return word if kind == "ID" and word in keywords else None


def _terminal(kind: str, text: str, keywords: dict[str, str], choices: Collection[str]) -> str:
    if kind == "OPERATOR":
        return OPERATORS[text]
    if kind != "ID":
        return _TERMINAL_OF_KIND.get(kind, kind)
    word = text.upper()
    terminal = keywords.get(word, "ID")
    if terminal in choices or word in RESERVED or "ID" not in choices:
        return terminal
    return "ID"


def _mismatch(sql: str, start: int, token: Token, expected: Collection[str]) -> ClusterError:
    names = sorted({display_name(name) for name in expected})
    wanted = names[0] if len(names) == 1 else "{" + ", ".join(names) + "}"
    return _parse_error(sql, start, f"mismatched input '{token or '<EOF>'}' expecting {wanted}")


def _unrecognised(sql: str, position: int) -> ClusterError:
    while position < len(sql) and sql[position] in " \t\r\n":
        position += 1
    return _parse_error(sql, position, f"token recognition error at: '{sql[position]}'")


def _parse_error(sql: str, start: int, what: str) -> ClusterError:
    line = sql.count("\n", 0, start) + 1
    column = start - (sql.rfind("\n", 0, start) + 1)
    return ClusterError(
        StatusCode.SQL_PARSE_ERROR,
        f"Error occurred while parsing SQL to physical plan: line {line}:{column} {what}",
    )
