"""Keeps the grammar's parse tables beside the byte code of this package.

To compute them takes a third of a second, to read them 25 ms: what a start of a node, and most of
all of a database in a user's own process, would wait for. The file is trusted exactly as the byte
code next to it is: who can write there can change the program as well.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import sys
from importlib.util import cache_from_source
from pathlib import Path

import lark
from lark import Lark

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


def load(grammar: str) -> Lark | None:
    """Return the parser of a grammar, or None when its tables are not kept."""
    path = _path(grammar)
    try:
        data = path.read_bytes()
        if data[:32] != _key(grammar):
            return None
        parser = Lark.__new__(Lark)
        parser._load(pickle.loads(data[32:]))
    except _PROBLEMS as error:
        logger.debug("parse tables in %s: %s", path, error)
        return None
    return parser


def store(grammar: str, parser: Lark) -> None:
    """Keep the tables of a parser, where byte code may be kept."""
    if sys.dont_write_bytecode:
        return
    path = _path(grammar)
    made = path.with_suffix(f".{os.getpid()}")
    try:
        tables = io.BytesIO()
        parser.save(tables)
        path.parent.mkdir(exist_ok=True)
        made.write_bytes(_key(grammar) + tables.getvalue())
        made.replace(path)
    except OSError as error:
        logger.debug("parse tables are not kept in %s: %s", path, error)


def _path(grammar: str) -> Path:
    name = f"grammar-{_kind(grammar)}.{sys.implementation.cache_tag}"
    return Path(cache_from_source(__file__)).with_name(name)


def _kind(grammar: str) -> str:
    """Return which of the dialects' grammars it is: each has a file of its own."""
    return "v1" if "having" in grammar else "v0"


def _key(grammar: str) -> bytes:
    return hashlib.sha256(f"{lark.__version__}\n{grammar}".encode()).digest()
