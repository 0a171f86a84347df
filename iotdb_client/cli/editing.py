"""What the prompt knows of the language: colours, completion, and when a statement is complete."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from pygments.lexer import RegexLexer, words
from pygments.token import (
    Comment,
    Keyword,
    Literal,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Text,
)

from iotdb_client.cli.keywords import FUNCTIONS, KEYWORDS
from iotdb_client.errors import Error

COMMANDS = {
    "\\plot": "draw the first number column of a query, or the latest points of a series",
    "\\format": "table, csv, json or markdown",
    "\\timing": "on or off: show how long statements take",
    "\\pager": "on or off: long results through $PAGER",
    "\\connect": "reconnect, to another URL or folder if one is given",
    "\\help": "list the commands",
    "\\q": "leave",
}
_PATH = re.compile(r"root(?:\.[\w`*]*)*$")
_WORD = re.compile(r"\\?\w*$")
_CACHE_S = 30.0
_MAX_CACHED = 1000


class SqlLexer(RegexLexer):
    """Pygments' lexer of the dialect."""

    name = "IoTDB SQL"
    aliases = ()
    flags = re.IGNORECASE
    tokens = {  # noqa: RUF012 - Pygments' interface
        "root": [
            (r"\s+", Text),
            (r"\\\w+", Comment.Preproc),
            (r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"", String),
            (r"`[^`]*`", Name.Variable),
            (r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:T[\d:.]+(?:[+-]\d\d:\d\d)?)?", Literal.Date),
            (r"root(?:\.[\w*`]+)+", Name.Namespace),
            (r"\d+(?:\.\d+)?(?:e[+-]?\d+)?(?:mo|ms|us|ns|[ywdhms])?\b", Number),
            (words(sorted(FUNCTIONS), suffix=r"(?=\s*\()"), Name.Function),
            (words(sorted(KEYWORDS), prefix=r"\b", suffix=r"\b"), Keyword),
            (r"[+\-*/%=<>!&|]+", Operator),
            (r"\w+", Name),
            (r".", Punctuation),
        ]
    }


class SqlCompleter(Completer):
    """Completes keywords, functions, commands, and paths as the server has them.

    Args:
        children: full paths of the nodes below a path; may raise Error.
    """

    def __init__(self, children: Callable[[str], Sequence[str]]) -> None:
        self._children = children
        self._known: dict[str, tuple[float, list[str]]] = {}

    def forget(self) -> None:
        """Ask the server again: the schema may have changed."""
        self._known.clear()

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield what may stand at the cursor."""
        text = document.text_before_cursor
        path = _PATH.search(text)
        if path is not None and "." in path[0]:
            yield from self._paths(path[0])
            return
        word = _WORD.search(text)
        start = word[0] if word is not None else ""
        if start.startswith("\\"):
            for name, meaning in COMMANDS.items():
                if name.startswith(start):
                    yield Completion(name, -len(start), display_meta=meaning)
            return
        if not start and not complete_event.completion_requested:
            return
        yield from self._words(start)

    def _words(self, start: str) -> Iterable[Completion]:
        lower = start.islower()
        for word in sorted(KEYWORDS):
            if word.startswith(start.upper()):
                yield Completion(word.lower() if lower else word, -len(start))
        for name in sorted(FUNCTIONS):
            if name.startswith(start.lower()):
                yield Completion(f"{name}(", -len(start), display=name, display_meta="function")
        if "root".startswith(start.lower()):
            yield Completion("root.", -len(start), display_meta="path")

    def _paths(self, path: str) -> Iterable[Completion]:
        parent, _, start = path.rpartition(".")
        if "*" in parent:
            return
        for full in self._below(parent):
            name = full[len(parent) + 1 :]
            if name.startswith(start):
                yield Completion(name, -len(start))

    def _below(self, parent: str) -> list[str]:
        now = time.monotonic()
        found = self._known.get(parent)
        if found is None or now - found[0] > _CACHE_S:
            try:
                names = sorted(set(self._children(parent)))
            except Error:
                names = []  # what is being typed is not a path yet
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            found = self._known[parent] = (now, names)
        return found[1]


_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`", re.DOTALL)
_GOES_ON = re.compile(
    r"(?:[,(=<>+\-/]|\b(?:select|from|where|and|or|by|values|into|with))\s*$", re.IGNORECASE
)


_BEGINS = re.compile(
    r"""\s*(?:\\|(?:alter|cancel|clear|count|create|deactivate|debug|delete|desc|describe|drop
        |explain|flush|full|grant|insert|kill|list|load|merge|move|pause|remove|resume|revoke|select
        |set|settle|show|start|stop|tracing|unload|unset|update|exit|quit|help)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_BLOCK = re.compile(r"\bbegin\b(?!.*\bend\b)", re.IGNORECASE | re.DOTALL)


def begins_statement(line: str) -> bool:
    """Whether a line's first word is one that begins a statement or command."""
    return _BEGINS.match(line) is not None


def wants_more(text: str) -> bool:
    """Whether a text is surely no whole statement: something is open, or its last word goes on."""
    bare = _QUOTED.sub("''", text.strip())
    return (
        any(mark in bare.replace("''", "") for mark in "'\"`")
        or bare.count("(") > bare.count(")")
        or _GOES_ON.search(bare) is not None
        or _BLOCK.search(bare) is not None
    )


def is_complete(text: str) -> bool:
    """Whether Enter runs a text, or begins its next line.

    It does at the end of a statement (`;`), of a command, and of a line that could be one: quotes
    and parentheses closed, and no word or sign at its end that wants more. After a second line only
    a `;` ends a statement.
    """
    stripped = text.strip()
    if not stripped or stripped.startswith("\\"):
        return True
    bare = _QUOTED.sub("''", stripped)
    if any(mark in bare.replace("''", "") for mark in "'\"`"):
        return False
    if bare.endswith(";"):
        return True
    if "\n" in stripped:
        return False
    return bare.count("(") <= bare.count(")") and _GOES_ON.search(bare) is None
