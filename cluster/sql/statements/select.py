"""SELECT: expressions, conditions, clauses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from cluster.sql.statements.literals import Literal


@dataclass(frozen=True)
class PathExpression:
    """A path of the select list, relative to each FROM prefix; may hold wildcards."""

    path: str


@dataclass(frozen=True)
class FunctionCall:
    """A function over expressions, its name as typed."""

    name: str
    arguments: tuple[Expression, ...]
    attributes: tuple[tuple[str, str], ...] = ()


Expression = PathExpression | FunctionCall


@dataclass(frozen=True)
class SelectItem:
    """One item of the select list; `alias` is its AS name."""

    expression: Expression
    alias: str | None = None


class Comparison(IntEnum):
    """Comparison operators."""

    EQ = 0
    NE = 1
    LT = 2
    LE = 3
    GT = 4
    GE = 5


@dataclass(frozen=True)
class TimeCompare:
    """`time <op> value`."""

    op: Comparison
    value: int


@dataclass(frozen=True)
class TimeIn:
    """`time [NOT] IN (…)`."""

    values: tuple[int, ...]
    negated: bool = False


@dataclass(frozen=True)
class ValueCompare:
    """`path <op> literal`; the path is absolute (starts with root) or relative to FROM."""

    path: str
    op: Comparison
    literal: Literal


@dataclass(frozen=True)
class ValueIn:
    """`path [NOT] IN (…)`."""

    path: str
    literals: tuple[Literal, ...]
    negated: bool = False


@dataclass(frozen=True)
class ValueLike:
    """`path LIKE 'pattern'`, the pattern raw, as between its quotes."""

    path: str
    pattern: str


@dataclass(frozen=True)
class ValueRegexp:
    """`path REGEXP 'pattern'`, the pattern raw; found anywhere in the value."""

    path: str
    pattern: str


@dataclass(frozen=True)
class Not:
    """NOT (condition)."""

    operand: Condition


@dataclass(frozen=True)
class And:
    """Conjunction of two or more."""

    operands: tuple[Condition, ...]


@dataclass(frozen=True)
class Or:
    """Disjunction of two or more."""

    operands: tuple[Condition, ...]


Condition = TimeCompare | TimeIn | ValueCompare | ValueIn | ValueLike | ValueRegexp | Not | And | Or


@dataclass(frozen=True)
class Select:
    """SELECT over a time axis. `limit`, `series_limit` None: no limit."""

    items: tuple[SelectItem, ...]
    prefixes: tuple[str, ...]
    where: Condition | None = None
    limit: int | None = None
    offset: int = 0
    series_limit: int | None = None
    series_offset: int = 0
    order_descending: bool = False
