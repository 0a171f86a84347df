"""What SQL texts mean, as values. Immutable; equal texts give equal statements.

Paths are text with backquotes removed (`cluster.schema.paths.split_path` takes them apart); times
are integers in units of the configured precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from cluster.schema.series import SeriesSpec
from iotdb_engine.types import T_MAX, T_MIN, DataType


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


# ---- schema ----


@dataclass(frozen=True)
class SetStorageGroup:
    """SET STORAGE GROUP TO, CREATE STORAGE GROUP, CREATE DATABASE."""

    path: str


@dataclass(frozen=True)
class DeleteStorageGroup:
    """DELETE STORAGE GROUP, DROP DATABASE."""

    patterns: tuple[str, ...]


@dataclass(frozen=True)
class CreateTimeseries:
    """CREATE TIMESERIES. `encoding` or `compressor` None: the default; `props` keys lower-case."""

    path: str
    data_type: DataType
    encoding: int | None = None
    compressor: int | None = None
    alias: str | None = None
    props: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CreateAlignedTimeseries:
    """CREATE ALIGNED TIMESERIES device (column, …), defaults filled in."""

    device: str
    columns: tuple[SeriesSpec, ...]


@dataclass(frozen=True)
class DeleteTimeseries:
    """DELETE TIMESERIES, DROP TIMESERIES."""

    patterns: tuple[str, ...]


# ---- data ----


@dataclass(frozen=True)
class DeleteData:
    """DELETE FROM; the range is inclusive."""

    patterns: tuple[str, ...]
    t_min: int = T_MIN
    t_max: int = T_MAX


@dataclass(frozen=True)
class Insert:
    """INSERT INTO.

    Attributes:
        times: one for each row; None means the server's time.
        rows: literals parallel to `measurements`.
    """

    device: str
    measurements: tuple[str, ...]
    aligned: bool
    times: tuple[int | None, ...]
    rows: tuple[tuple[Literal, ...], ...]


@dataclass(frozen=True)
class Flush:
    """FLUSH. No paths: everything; `sequence` None: both kinds of memtables."""

    paths: tuple[str, ...] = ()
    sequence: bool | None = None


# ---- SELECT ----


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


# ---- SHOW and COUNT ----


@dataclass(frozen=True)
class ShowStorageGroup:
    """SHOW STORAGE GROUP, SHOW DATABASES."""

    pattern: str = "root.**"


@dataclass(frozen=True)
class ShowTimeseries:
    """SHOW TIMESERIES."""

    pattern: str = "root.**"
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class ShowDevices:
    """SHOW DEVICES [WITH STORAGE GROUP]."""

    pattern: str = "root.**"
    with_storage_group: bool = False
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class ShowVersion:
    """SHOW VERSION."""


@dataclass(frozen=True)
class CountTimeseries:
    """COUNT TIMESERIES [GROUP BY LEVEL]; `level` counts root as 0, None: one total."""

    pattern: str = "root.**"
    level: int | None = None


@dataclass(frozen=True)
class CountDevices:
    """COUNT DEVICES."""

    pattern: str = "root.**"


@dataclass(frozen=True)
class CountStorageGroup:
    """COUNT STORAGE GROUP, COUNT DATABASES."""

    pattern: str = "root.**"


Query = (
    Select
    | ShowStorageGroup
    | ShowTimeseries
    | ShowDevices
    | ShowVersion
    | CountTimeseries
    | CountDevices
    | CountStorageGroup
)
Command = (
    SetStorageGroup
    | DeleteStorageGroup
    | CreateTimeseries
    | CreateAlignedTimeseries
    | DeleteTimeseries
    | DeleteData
    | Insert
    | Flush
)
Statement = Query | Command

_QUERIES = (
    Select,
    ShowStorageGroup,
    ShowTimeseries,
    ShowDevices,
    ShowVersion,
    CountTimeseries,
    CountDevices,
    CountStorageGroup,
)


def is_query(statement: Statement) -> bool:
    """Return whether the statement answers with rows."""
    return isinstance(statement, _QUERIES)
