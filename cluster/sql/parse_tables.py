"""Keeps the grammar's parser beside the byte code of this package.

To compute its tables takes half a second and more, to read them 15 ms: what a start of a node, and
most of all of a database in a user's own process, would wait for. The parser is kept as a whole,
since lark's own `load` makes each rule anew, in Python, which takes five times as long. The file is
trusted exactly as the byte code next to it is: who can write there can change the program as well.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
import os
import pickle
import sys
from importlib.util import cache_from_source
from pathlib import Path
from types import ModuleType
from typing import Any

import lark
from lark import Lark, Token, Tree
from lark.parsers.lalr_analysis import Reduce, Shift

logger = logging.getLogger(__name__)

_PROBLEMS = (
    OSError,
    EOFError,
    pickle.UnpicklingError,
    AttributeError,
    ImportError,
    KeyError,
    TypeError,
    ValueError,
    lark.exceptions.LarkError,
)
"""What a file that is missing, cut off, or of another release may raise."""


_PROTOCOL = 5  # of pickle, Python 3.8 and later


_PROBE = ("_SHOW", "_VERSION", "$END")
"""Terminals of a statement of every dialect, which takes both kinds of steps of a parser."""


class _Pickler(pickle.Pickler):
    """Writes by name what must be the same object when it is read again."""

    def reducer_override(self, value: object) -> Any:  # noqa: ANN401
        """Return how a module or a kind of step is found; everything else is written as usual."""
        if isinstance(value, ModuleType):
            return importlib.import_module, (value.__name__,)
        if value is Shift or value is Reduce:
            return str(value)
        return NotImplemented


def load(grammar: str) -> Lark | None:
    """Return the parser of a grammar, or None when its tables are not kept."""
    path = _path(grammar)
    try:
        data = path.read_bytes()
        if data[:32] != _key(grammar):
            return None
        parser = pickle.loads(data[32:])
    except _PROBLEMS as error:
        logger.debug("parse tables in %s: %s", path, error)
        return None
    return parser if isinstance(parser, Lark) else None


def store(grammar: str, parser: Lark) -> None:
    """Keep a parser, where byte code may be kept, and if it still parses when it is read again."""
    if sys.dont_write_bytecode:
        return
    path = _path(grammar)
    made = path.with_suffix(f".{os.getpid()}")
    try:
        kept = io.BytesIO()
        _Pickler(kept, _PROTOCOL).dump(parser)
        if _probe(pickle.loads(kept.getvalue())) != _probe(parser):
            raise pickle.PicklingError("it parses otherwise")
        path.parent.mkdir(exist_ok=True)
        made.write_bytes(_key(grammar) + kept.getvalue())
        made.replace(path)
    except (*_PROBLEMS, pickle.PicklingError, AssertionError) as error:
        logger.debug("the parser is not kept in %s: %s", path, error)


def _probe(parser: Lark) -> Tree[Token]:
    state = parser.parse_interactive("")
    tree = None
    for terminal in _PROBE:
        tree = state.feed_token(Token(terminal, ""))
    assert isinstance(tree, Tree)
    return tree


def _path(grammar: str) -> Path:
    name = f"grammar-{_kind(grammar)}.{sys.implementation.cache_tag}"
    return Path(cache_from_source(__file__)).with_name(name)


def _kind(grammar: str) -> str:
    """Return which of the dialects' grammars it is: each has a file of its own."""
    return "v1" if "having" in grammar else "v0"


def _key(grammar: str) -> bytes:
    return hashlib.sha256(f"whole {lark.__version__}\n{grammar}".encode()).digest()
