"""One SELECT, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.naive.data import Path


class SeriesAt(NamedTuple):
    """A path of the select list, relative to the prefixes."""

    path: Path


class Constant(NamedTuple):
    """A number, as written."""

    text: str


class Negative(NamedTuple):
    operand: Any


class Arithmetic(NamedTuple):
    operator: str
    left: Any
    right: Any


class Call(NamedTuple):
    """A function of the list `FUNCTIONS`."""

    name: str
    argument: Any


class Aggregate(NamedTuple):
    name: str
    path: Path


class TimeIs(NamedTuple):
    operator: str
    value: int


class TimeIn(NamedTuple):
    values: tuple[int, ...]
    negated: bool


class ValueIs(NamedTuple):
    path: Path
    operator: str
    literal: str


class ValueIn(NamedTuple):
    path: Path
    literals: tuple[str, ...]
    negated: bool


class Like(NamedTuple):
    """`pattern` has no escapes."""

    path: Path
    pattern: str


class Compared(NamedTuple):
    """Two expressions, of 1.x only."""

    left: Any
    operator: str
    right: Any


class IsNull(NamedTuple):
    """Of 1.x only."""

    operand: Any
    negated: bool


class Not(NamedTuple):
    operand: Any


class Both(NamedTuple):
    parts: tuple[Any, ...]


class Either(NamedTuple):
    parts: tuple[Any, ...]


class Windows(NamedTuple):
    start: int
    end: int
    interval: int
    step: int
    left_open: bool


class FillMode(NamedTuple):
    """`method`: previous, previousuntillast, linear or value (with its literal)."""

    method: str
    before: int | None = None
    after: int | None = None
    literal: str = ""
    modern: bool = False


class Item(NamedTuple):
    expression: Any
    alias: str | None = None


@dataclass(frozen=True)
class Query:
    """One SELECT."""

    items: tuple[Item, ...]
    prefixes: tuple[Path, ...]
    where: Any = None
    windows: Windows | None = None
    levels: tuple[int, ...] = ()
    fill: FillMode | None = None
    typed_fill: tuple[tuple[str, FillMode], ...] = ()
    order: str = ""
    limit: int | None = None
    offset: int = 0
    series_limit: int | None = None
    series_offset: int = 0
    without_null: str = ""
    null_items: tuple[int, ...] = ()
    by_device: bool = False
    last: bool = False
    modern: bool = False
    """Of a session of 1.x, which knows the rest."""
    keys: tuple[tuple[int | None, bool, bool], ...] = ()
    """ORDER BY: an item by its number or the time, descending, nulls first."""
    having: tuple[Any, str, str] | None = None
    """Aggregate, operator, number."""

    @property
    def filled(self) -> bool:
        return self.fill is not None or bool(self.typed_fill)

    def fill_of(self, data_type: str) -> FillMode:
        if self.fill is not None:
            return self.fill
        return dict(self.typed_fill).get(data_type, FillMode("previous"))

    def window_fill_of(self, data_type: str) -> FillMode | None:
        return self.fill if self.fill is not None else dict(self.typed_fill).get(data_type)
