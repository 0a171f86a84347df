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


END_TIME = "__endTime"
"""How 1.x calls the last time of a window in the select list."""


@dataclass(frozen=True)
class PathExpression:
    """A path of the select list, relative to each FROM prefix; may hold wildcards.

    Attributes:
        path: its text.
        end_time: it is no path, but what 1.x calls the last time of a window.
    """

    path: str
    end_time: bool = False


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
    as_type: bool = False
    """Written as CAST(… AS type)."""
    modern: bool = False
    """In a statement of 1.x, which has more aggregates."""
    words: tuple[str, ...] = ()
    """Before each attribute, where it was written so: SUBSTRING(… FROM … FOR …)."""


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


class Operator(str, Enum):
    """What 1.x has in expressions besides arithmetic; values are how names show it."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    AND = "&"
    OR = "|"
    NOT = "!"
    IS_NULL = "IS NULL"
    IN = "IN"
    LIKE = "LIKE"
    REGEXP = "REGEXP"
    CONTAINS = "CONTAINS"
    BETWEEN = "BETWEEN"
    CASE = "CASE"


@dataclass(frozen=True)
class Operation:
    """An operator of 1.x over expressions.

    Attributes:
        operator: which.
        operands: of CASE: condition, value, condition, value, …, and what else there is; of
            BETWEEN: value, low, high; of IN: value, then the list.
        pattern: of LIKE, REGEXP and CONTAINS.
        negated: of tests: IS NOT NULL, NOT IN, NOT LIKE …
    """

    operator: Operator
    operands: tuple[Expression, ...]
    pattern: str = ""
    negated: bool = False


@dataclass(frozen=True)
class TimeExpression:
    """The timestamp of the row; only WHERE of 1.x has it."""


Expression = (
    PathExpression
    | ConstantExpression
    | FunctionCall
    | Negation
    | BinaryExpression
    | Operation
    | TimeExpression
)
