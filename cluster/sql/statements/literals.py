"""Literals as they were written."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class LiteralKind(IntEnum):
    """How a literal was written."""

    NUMBER = 0
    STRING = 1
    BOOLEAN = 2
    NULL = 3
    NAN = 4


class Literal(NamedTuple):
    """A literal. `text`: a number as typed (sign included); a string unquoted and unescaped."""

    kind: LiteralKind
    text: str
