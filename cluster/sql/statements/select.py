"""SELECT: expressions, conditions, clauses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum

from cluster.sql.statements.expressions import Expression
from cluster.sql.statements.literals import Literal
from cluster.sql.timestamps import Duration
from iotdb_engine.types import DataType


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
class ValueContains:
    """`path CONTAINS 'part'`, the part unescaped."""

    path: str
    part: str


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


ValueCondition = ValueCompare | ValueIn | ValueLike | ValueRegexp | ValueContains
Condition = TimeCompare | TimeIn | ValueCondition | Not | And | Or


class FillMethod(Enum):
    """How null cells get values."""

    PREVIOUS = "previous"
    PREVIOUS_UNTIL_LAST = "previousuntillast"
    LINEAR = "linear"
    VALUE = "value"


@dataclass(frozen=True)
class FillMode:
    """One way to fill.

    Attributes:
        method: the way.
        before: how far back a value is looked for; None: any distance.
        after: how far ahead (LINEAR only); None: any distance.
        literal: of VALUE.
        text: of VALUE, what a TEXT column gets: as it was written; in 1.x without its quotes.
    """

    method: FillMethod
    before: Duration | None = None
    after: Duration | None = None
    literal: Literal | None = None
    text: str = ""


@dataclass(frozen=True)
class Fill:
    """FILL (…): one mode for all types, or modes by type (the 0.12 syntax)."""

    mode: FillMode | None = None
    by_type: tuple[tuple[DataType, FillMode], ...] = ()


@dataclass(frozen=True)
class TimeWindows:
    """GROUP BY ([start, end), interval, step).

    Attributes:
        left_open: whether it is `(start, end]` instead.
        sliding: distance of the windows' starts.
    """

    start: int
    end: int
    interval: Duration
    sliding: Duration
    left_open: bool = False


class SegmentKind(Enum):
    """How 1.x divides rows that follow each other, besides by time."""

    VARIATION = "variation"
    CONDITION = "condition"
    SESSION = "session"
    COUNT = "count"


@dataclass(frozen=True)
class Segments:
    """GROUP BY VARIATION, CONDITION, SESSION or COUNT.

    Attributes:
        kind: which.
        control: what is looked at; None: SESSION, which looks at the times.
        delta: of VARIATION.
        keep_operator, keep: of CONDITION: how many rows a group has to have.
        distance: of SESSION.
        size: of COUNT.
        ignore_null: leave out rows in which `control` is null.
    """

    kind: SegmentKind
    control: Expression | None = None
    delta: float = 0.0
    keep_operator: str = ">="
    keep: int = 1
    distance: Duration | None = None
    size: int = 1
    ignore_null: bool = True


@dataclass(frozen=True)
class WithoutNull:
    """WITHOUT NULL ANY | ALL [(columns)].

    Attributes:
        any_null: ANY: drop rows with a null in some column; else ALL: with nulls in all.
        columns: expressions, or texts of whole column names; none: all columns.
    """

    any_null: bool
    columns: tuple[Expression | str, ...] = ()


class SortBy(Enum):
    """What rows are sorted by, besides expressions; of 1.x but for TIME."""

    TIME = "time"
    DEVICE = "device"
    TIMESERIES = "timeseries"
    VALUE = "value"
    DATATYPE = "datatype"


@dataclass(frozen=True)
class SortKey:
    """One key of ORDER BY; nulls come last unless it says otherwise."""

    by: SortBy | Expression
    descending: bool = False
    nulls_first: bool = False


class Alignment(Enum):
    """What the rows of an answer are."""

    TIME = "time"
    """One row for each timestamp."""

    DEVICE = "device"
    """One row for each timestamp of each device."""

    NONE = "none"
    """No rows: each column has its own timestamps."""


@dataclass(frozen=True)
class IntoGroup:
    """A target of 1.x: series of one device, which may have `::` and `${i}` in it."""

    device: str
    names: tuple[str, ...]
    aligned: bool


@dataclass(frozen=True)
class Into:
    """INTO: targets parallel to the items; not starting with root: below the FROM prefix.

    Of 1.x: `groups` in place of targets; the answer has rows then.
    """

    targets: tuple[str, ...]
    aligned: bool = False
    groups: tuple[IntoGroup, ...] = ()


@dataclass(frozen=True)
class Select:
    """SELECT. `limit`, `series_limit` None: no limit; no `levels`: no GROUP BY LEVEL.

    Of 1.x only:

    Attributes:
        modern: written in that dialect: FILL is of the rows of the answer, whatever WHERE says.
        rest: what WHERE says besides `where`: both must hold.
        having: which rows of aggregates stay.
        sort_keys: of ORDER BY, where it is more than TIME.
        segments: of GROUP BY, where it is not by time or level.
        tags: keys of GROUP BY TAGS.
    """

    items: tuple[SelectItem, ...]
    prefixes: tuple[str, ...]
    where: Condition | None = None
    limit: int | None = None
    offset: int = 0
    series_limit: int | None = None
    series_offset: int = 0
    order_descending: bool = False
    last: bool = False
    windows: TimeWindows | None = None
    levels: tuple[int, ...] = ()
    fill: Fill | None = None
    without_null: WithoutNull | None = None
    alignment: Alignment = Alignment.TIME
    into: Into | None = None
    order_given: bool = False
    tracing: bool = False
    modern: bool = False
    rest: Expression | None = None
    having: Expression | None = None
    sort_keys: tuple[SortKey, ...] = ()
    segments: Segments | None = None
    tags: tuple[str, ...] = ()

    @property
    def in_windows(self) -> bool:
        """Whether aggregates are of windows or groups of rows, each a row with a time."""
        return self.windows is not None or self.segments is not None

    def with_parts(self, parts: Mapping[str, object]) -> Select:
        """Return the same with other attributes; at a fraction of what `replace` costs."""
        changed = object.__new__(Select)
        changed.__dict__.update(self.__dict__)
        changed.__dict__.update(parts)
        return changed
