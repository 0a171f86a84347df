"""Expressions of the select list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cluster.sql.statements.literals import Literal


class Arithmetic(str, Enum):
    """Binary operators, as they are written."""

    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    MODULO = "%"


@dataclass(frozen=True)
class PathExpression:
    """A path of the select list, relative to each FROM prefix; may hold wildcards."""

    path: str


@dataclass(frozen=True)
class ConstantExpression:
    """A constant without sign; `text` is how it was written, quotes included."""

    literal: Literal
    text: str


@dataclass(frozen=True)
class FunctionCall:
    """A function over expressions, its name as typed, its attributes' texts raw."""

    name: str
    arguments: tuple[Expression, ...]
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Negation:
    """Unary minus."""

    operand: Expression


@dataclass(frozen=True)
class BinaryExpression:
    """Arithmetic over two expressions."""

    op: Arithmetic
    left: Expression
    right: Expression


Expression = PathExpression | ConstantExpression | FunctionCall | Negation | BinaryExpression
