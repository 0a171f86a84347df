"""Small databases and SELECTs over them, at random: for `harness.naive`.

Names, times and values are few, so that conditions are met, windows are empty and devices lack
series as often as not; now and then they are extreme.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from harness.naive.columns import FUNCTIONS
from harness.naive.data import NUMERIC, Data, Path, Series, as_float32
from harness.naive.query import (
    Aggregate,
    Arithmetic,
    Both,
    Call,
    Compared,
    Constant,
    Either,
    FillMode,
    IsNull,
    Item,
    Like,
    Negative,
    Not,
    Query,
    SeriesAt,
    TimeIn,
    TimeIs,
    ValueIn,
    ValueIs,
    Windows,
)

_TYPES = {
    "b": "BOOLEAN",
    "i": "INT32",
    "l": "INT64",
    "f": "FLOAT",
    "d": "DOUBLE",
    "t": "TEXT",
    "a+b": "DOUBLE",
    "温度": "INT32",
}
"""Measurements; the last ones need backquotes, or are not ASCII."""

_DEVICES: tuple[Path, ...] = (
    ("root", "a", "d1"),
    ("root", "a", "d2"),
    ("root", "a", "d2", "x"),
    ("root", "b", "d1"),
    ("root", "b", "e f"),
)
_GROUPS = (("root", "a"), ("root", "b"))

_TEXTS = ("", "a", "ab", "b%", "ä", "true", "1")
_FLOATS = (0.0, 1.0, -1.0, 0.1, -2.5, 3.33, 1e10, -1e30)
_INTS = (0, 1, -1, 2, 5, -5, 7, 100)
_EXTREME = {
    "INT32": (2**31 - 1, -(2**31)),
    "INT64": (2**63 - 1, -(2**63), 2**53 + 1),
    "FLOAT": (3e38, -3e38, float("nan"), 1e-40),
    "DOUBLE": (1.7e308, -1.7e308, float("nan"), 5e-324),
}
_FAR = (-(2**63), -(2**62), 2**62, 2**63 - 1)

_AGGREGATES = (
    *("count", "sum", "avg", "min_value", "max_value", "extreme"),
    *("first_value", "last_value", "min_time", "max_time", "COUNT", "Max_Value"),
)
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")


class Settle(NamedTuple):
    """All that was written is to be stored, and merged if so wanted."""

    merged: bool


class Maker:
    """Makes databases and queries of one generator of random numbers."""

    def __init__(self, rng: random.Random, unit: int = 1) -> None:
        """Make nothing yet.

        Args:
            rng: decides.
            unit: times and distances are multiples of it, mostly.
        """
        self._rng = rng
        self._unit = unit
        self._far = self._chance(0.1)

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _pick(self, choices: Sequence[Any]) -> Any:
        return choices[self._rng.randrange(len(choices))]

    def _some(self, make: Callable[[], Any], most: int, least: int = 1) -> tuple[Any, ...]:
        return tuple(make() for _ in range(self._rng.randint(least, most)))

    # ---- data ----

    def data(self) -> Data:
        """Return a database; series of one name are mostly of one type."""
        series: list[Series] = []
        for device in _DEVICES:
            if self._chance(0.3):
                continue
            aligned = self._chance(0.2)
            for name, data_type in _TYPES.items():
                if self._chance(0.5):
                    continue
                kind = self._pick(tuple(_TYPES.values())) if self._chance(0.03) else data_type
                aliased = name == "d" and not aligned and self._chance(0.2)
                alias = "other" if aliased else None
                series.append(Series(device, name, kind, alias=alias, aligned=aligned))
        self._rng.shuffle(series)
        return Data(series)

    def changes(self, data: Data, count: int) -> Iterator[str | Settle]:
        """Change a database; yield what makes the same changes, once they are made there."""
        for _ in range(count):
            choice = self._rng.random()
            if choice < 0.15:
                yield Settle(merged=self._chance(0.3))
            elif choice < 0.25:
                yield from self._deleted(data)
            elif choice < 0.3 and data.series:
                yield from self._made_anew(data)
            elif data.series:
                yield self._written(data)

    def _written(self, data: Data) -> str:
        device = self._pick(data.series).device
        present = [one for one in data.series if one.device == device]
        chosen = self._rng.sample(present, self._rng.randint(1, len(present)))
        rows = []
        for time in self._some(self._time, 12):
            cells = [None if self._chance(0.2) else self.value(one.type) for one in chosen]
            for one, cell in zip(chosen, cells, strict=True):
                if cell is not None:
                    one.points[time] = cell
            texts = ["null" if cell is None else literal_of(cell) for cell in cells]
            rows.append(f"({', '.join([str(time), *texts])})")
        names = ", ".join(node_of(one.name) for one in chosen)
        aligned = " ALIGNED" if chosen[0].aligned else ""
        return f"INSERT INTO {text_of(device)}(time, {names}){aligned} VALUES {', '.join(rows)}"

    def _deleted(self, data: Data) -> Iterator[str]:
        pattern = (*self._prefix(), *self._path(wild=0.5))
        low, high = sorted((self._time(), self._time()))
        for one in data.match(pattern):
            one.points = {t: value for t, value in one.points.items() if not low <= t <= high}
        yield f"DELETE FROM {text_of(pattern)} WHERE time >= {low} AND time <= {high}"

    def _made_anew(self, data: Data) -> Iterator[str]:
        old = self._pick(data.series)
        data.series.remove(old)
        yield f"DELETE TIMESERIES {text_of(old.path)}"
        if old.aligned and not any(one.device == old.device for one in data.series):
            return
        kind = self._pick(tuple(_TYPES.values()))
        data.series.append(Series(old.device, old.name, kind, aligned=old.aligned))
        yield create_of(data.series[-1])

    def _time(self) -> int:
        if self._far and self._chance(0.2):
            return self._pick(_FAR)
        time = self._rng.randint(-5, 20) * self._unit
        return time + self._rng.choice((0, 0, 0, 0, 1, -1)) if self._unit > 1 else time

    def value(self, data_type: str) -> Any:
        """Return a value of a type."""
        if data_type in _EXTREME and self._chance(0.06):
            value = self._pick(_EXTREME[data_type])
        elif data_type == "BOOLEAN":
            return self._chance(0.5)
        elif data_type == "TEXT":
            return self._pick(_TEXTS)
        else:
            value = self._pick(_INTS if data_type.startswith("INT") else _FLOATS)
        return as_float32(value) if data_type == "FLOAT" else value

    # ---- queries ----

    def query(self) -> Query:
        """Return a SELECT, which may be one that is to be refused."""
        kind = self._pick(("raw", "raw", "function", "aggregate", "aggregate", "fill", "last"))
        by_device = kind != "last" and self._chance(0.3)
        aggregated = kind == "aggregate"
        items = self._some(lambda: self._item(kind, plain=by_device), 3)
        query: dict[str, Any] = {
            "items": items,
            "prefixes": self._some(self._prefix, 2) if self._chance(0.3) else (self._prefix(),),
            "by_device": by_device,
            "last": kind == "last",
        }
        if aggregated and self._chance(0.6):
            query["windows"] = self._windows()
            if self._chance(0.4) and all(isinstance(i.expression, Aggregate) for i in items):
                query.update(self._fill())
        filled = "fill" in query or "typed_fill" in query
        if aggregated and not by_device and not filled and self._chance(0.3):
            query["levels"] = self._some(lambda: self._rng.randint(0, 4), 2)
        if kind == "fill":
            query.update(self._fill())
            query["where"] = TimeIs("=", self._time())
        elif kind == "last":
            if self._chance(0.4):
                query["where"] = TimeIs(self._pick((">", ">=")), self._time())
        elif self._chance(0.6):
            query["where"] = self._condition(2)
        if kind != "fill":
            self._add_tail(query, items)
        if self._chance(0.25):
            query["series_limit"] = self._rng.randint(1, 4)
            query["series_offset"] = self._rng.choice((0, 0, 1, 2))
        return Query(**query)

    def _add_tail(self, query: dict[str, Any], items: Sequence[Item]) -> None:
        query["order"] = self._pick(("", "", "asc", "desc"))
        if self._chance(0.3):
            query["limit"] = self._rng.randint(1, 12)
            query["offset"] = self._rng.choice((0, 0, 1, 3, 30))
        if query["last"] or self._chance(0.8):
            return
        query["without_null"] = self._pick(("any", "all"))

    def _item(self, kind: str, *, plain: bool) -> Item:
        alias = "n" if self._chance(0.05) else None
        if kind == "function" and not plain:
            return Item(self._expression(2), alias)
        if kind == "aggregate":
            if not plain and self._chance(0.15):
                return Item(self._over_aggregates(2), alias)
            return Item(self._aggregate(), alias)
        return Item(SeriesAt(self._path(wild=0.3)), alias)

    def _prefix(self) -> Path:
        return self._pick(
            (
                *_DEVICES,
                ("root", "a", "*"),
                ("root", "*", "d1"),
                ("root", "*", "*"),
                ("root", "**"),
                ("root", "a", "**"),
                ("root", "a", "d*"),
            )
        )

    def _path(self, wild: float = 0.0) -> Path:
        if self._chance(wild):
            return (self._pick(("*", "*", "*b")),)
        return (self._pick((*_TYPES, *_TYPES, "other", "none")),)

    def _number_path(self) -> Path:
        return (self._pick(("i", "l", "f", "d", "a+b")),)

    def _aggregate(self) -> Aggregate:
        name = self._pick(_AGGREGATES)
        if name.lower() in ("sum", "avg", "min_value", "max_value", "extreme"):
            return Aggregate(name, self._number_path())
        return Aggregate(name, self._path(wild=0.3))

    def _expression(self, depth: int) -> Any:
        return self._composed(depth, lambda: SeriesAt(self._number_path()))

    def _over_aggregates(self, depth: int) -> Any:
        return self._composed(depth, self._aggregate)

    def _composed(self, depth: int, leaf: Callable[[], Any]) -> Any:
        choice = self._rng.random()
        if not depth or choice < 0.3:
            return leaf()
        inner = lambda: self._composed(depth - 1, leaf)  # noqa: E731
        if choice < 0.45:
            return Negative(inner())
        if choice < 0.6:
            return Call(self._pick(tuple(FUNCTIONS)), inner())
        other = Constant(self._pick(("0", "1", "2.5", "1e3"))) if self._chance(0.4) else inner()
        pair = (inner(), other) if self._chance(0.5) else (other, inner())
        return Arithmetic(self._pick(("+", "-", "*", "/", "%")), *pair)

    def _condition(self, depth: int) -> Any:
        choice = self._rng.random()
        if depth and choice < 0.15:
            return Not(self._condition(depth - 1))
        if depth and choice < 0.5:
            kind = Both if choice < 0.35 else Either
            return kind(self._some(lambda: self._condition(depth - 1), 3, 2))
        if choice < 0.7:
            if self._chance(0.2):
                return TimeIn(self._some(self._time, 4), self._chance(0.5))
            return TimeIs(self._pick(_OPERATORS), self._time())
        name = self._pick(tuple(_TYPES))
        path: Path = (name,)
        if self._chance(0.15):
            path = (*self._pick(_DEVICES), name)
        data_type = _TYPES[name]
        if data_type == "TEXT" and self._chance(0.5):
            return Like(path, self._pick(("a%", "%b", "_", "%", "ab", "")))
        if self._chance(0.2):
            literals = self._some(lambda: self.literal(data_type), 3)
            return ValueIn(path, literals, self._chance(0.5))
        operators = _OPERATORS if data_type in NUMERIC else _OPERATORS[:2]
        return ValueIs(path, self._pick(operators), self.literal(data_type))

    def literal(self, data_type: str) -> str:
        """Return a literal, mostly of a type."""
        if self._chance(0.02):
            data_type = self._pick(tuple(_TYPES.values()))
        return literal_of(self.value(data_type))

    def _windows(self) -> Windows:
        if self._far and self._chance(0.3):
            start, end = self._pick(((-(2**63), 2**63 - 1), (-(2**62), 30), (0, 2**63 - 1)))
            return Windows(start, end, 2**62, 2**62 + self._rng.choice((0, 5)), self._chance(0.3))
        unit = self._unit
        start = self._rng.randint(-8, 15) * unit
        interval = self._rng.randint(1, 9) * unit
        step = interval + self._rng.choice((0, 0, 1, 4)) * unit
        length = self._rng.randint(1, 30) * unit - self._rng.randint(0, unit - 1)
        return Windows(start, start + length, interval, step, self._chance(0.3))

    def _fill(self) -> dict[str, Any]:
        if self._chance(0.3):
            kinds = tuple(sorted(set(self._some(lambda: self._pick(tuple(_TYPES.values())), 3))))
            mode = self._mode(literals=False)
            kinds = tuple(kind for kind in kinds if mode.method != "linear" or kind in NUMERIC)
            if kinds:
                return {"typed_fill": tuple((kind, mode) for kind in kinds)}
        return {"fill": self._mode(literals=True)}

    def _mode(self, *, literals: bool) -> FillMode:
        method = self._pick(("previous", "previousuntillast", "linear", "value"))
        if method == "value" and literals:
            return FillMode("value", literal=self._pick(("7", "1.5", "'x'", "true", "-3")))
        if method == "value":
            method = "previous"
        if self._chance(0.5):
            return FillMode(method)
        before, after = (self._rng.randint(1, 12) * self._unit for _ in range(2))
        return FillMode(method, before, after if method == "linear" else None)


class ModernMaker(Maker):
    """Makes queries of 1.x."""

    def query(self) -> Query:
        """Return a SELECT with what 1.x has, or one that 0.13 has, too."""
        found = super().query()
        if found.last:
            return replace(found, modern=True)
        if found.filled and found.windows is None:
            found = replace(found, where=self._condition(2) if self._chance(0.5) else None)
        if found.by_device:
            items = tuple(item._replace(alias=None) for item in found.items)
            found = replace(found, items=items)
        added: dict[str, Any] = {"modern": True}
        if found.levels:
            found = replace(found, where=None)
        if not found.levels:
            aggregated = any(isinstance(item.expression, Aggregate) for item in found.items)
            if aggregated and self._chance(0.3):
                literal = self._pick(("0", "1", "2.5", "-1"))
                added["having"] = (self._counted(), self._pick(_OPERATORS), literal)
            if self._chance(0.3) and not found.order and self._can_sort(found):
                added["keys"] = self._some(lambda: self._key(len(found.items)), 2)
        if found.limit is None and self._chance(0.2):
            added["offset"] = self._rng.randint(1, 3)
        return replace(found, **added)

    def _counted(self) -> Aggregate:
        names = ("count", "sum", "max_value", "min_time")
        return Aggregate(self._pick(names), self._number_path())

    def _can_sort(self, query: Query) -> bool:
        wild = any("*" in text_of(prefix) for prefix in query.prefixes)
        wild = wild or any("*" in _expression_text(item.expression) for item in query.items)
        one = len(query.prefixes) == 1 and query.series_limit is None
        return (one and not wild) or (query.by_device and query.series_limit is None and not wild)

    def _key(self, count: int) -> tuple[int | None, bool, bool]:
        number = None if self._chance(0.2) else self._rng.randrange(count)
        return number, self._chance(0.5), self._chance(0.5)

    def _windows(self) -> Windows:
        windows = super()._windows()
        if self._chance(0.3) and windows.interval < 2**60:
            step = self._rng.randint(1, windows.interval // self._unit) * self._unit
            return windows._replace(step=step)
        return windows

    def _fill(self) -> dict[str, Any]:
        return {"fill": self._mode(literals=True)._replace(modern=True)}

    def _mode(self, *, literals: bool) -> FillMode:
        mode = super()._mode(literals=literals)
        return mode._replace(method="previous") if "until" in mode.method else mode

    def _condition(self, depth: int) -> Any:
        if self._chance(0.25):
            if self._chance(0.3):
                return IsNull(self._expression(1), self._chance(0.5))
            left = self._expression(1)
            right = Constant(self._pick(("0", "1", "0.1", "2.5", "1e3", "1e40")))
            if self._chance(0.5):
                right = self._expression(1)
            return Compared(left, self._pick(_OPERATORS), right)
        return super()._condition(depth)

    def literal(self, data_type: str) -> str:
        """Return a literal; for numbers, of any numeric type."""
        if data_type in NUMERIC and self._chance(0.4):
            return self._pick(("0.1", "2.5", "-2.5", "1.0", "1e20", "-1e20", "1e39", "NaN", "3"))
        return super().literal(data_type)


# ---- SQL ----


def literal_of(value: Any) -> str:
    """Return the literal of a value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'"
    if value != value:
        return "NaN"
    return repr(value)


def node_of(name: str) -> str:
    """Return a node of a path as it is written."""
    plain = name.replace("*", "").isalnum() or not name.replace("*", "")
    return name if plain and name.isascii() else f"`{name}`"


def text_of(path: Path) -> str:
    """Return a path as it is written."""
    return ".".join(map(node_of, path))


def sql_of(query: Query) -> str:
    """Return the statement of a query."""
    items = ", ".join(
        _expression_text(item.expression) + (f" AS {item.alias}" if item.alias else "")
        for item in query.items
    )
    parts = [
        f"SELECT {'LAST ' if query.last else ''}{items}",
        f"FROM {', '.join(map(text_of, query.prefixes))}",
    ]
    if query.where is not None:
        parts.append(f"WHERE {_condition_text(query.where)}")
    grouping = []
    windows = query.windows
    if windows is not None:
        ends = "({}, {}]" if windows.left_open else "[{}, {})"
        step = "" if windows.step == windows.interval else f", {windows.step}ms"
        span = ends.format(windows.start, windows.end)
        grouping.append(f"({span}, {windows.interval}ms{step})")
    if query.levels:
        grouping.append(f"LEVEL = {', '.join(map(str, query.levels))}")
    if grouping:
        parts.append(f"GROUP BY {', '.join(grouping)}")
    if query.having is not None:
        aggregate, operator, literal = query.having
        parts.append(f"HAVING {_expression_text(aggregate)} {operator} {literal}")
    if query.filled:
        parts.append(_fill_text(query))
    if query.keys:
        parts.append(f"ORDER BY {', '.join(_key_text(query, key) for key in query.keys)}")
    if query.order:
        parts.append(f"ORDER BY TIME {query.order.upper()}")
    if query.without_null:
        parts.append(f"WITHOUT NULL {query.without_null.upper()}")
    if query.limit is not None:
        parts.append(f"LIMIT {query.limit}")
    if query.offset:
        parts.append(f"OFFSET {query.offset}")
    if query.series_limit is not None:
        offset = f" SOFFSET {query.series_offset}" if query.series_offset else ""
        parts.append(f"SLIMIT {query.series_limit}{offset}")
    if query.by_device:
        parts.append("ALIGN BY DEVICE")
    return " ".join(parts)


def _key_text(query: Query, key: tuple[int | None, bool, bool]) -> str:
    number, descending, nulls_first = key
    text = "TIME" if number is None else _expression_text(query.items[number].expression)
    nulls = "FIRST" if nulls_first else "LAST"
    return f"{text} {'DESC' if descending else 'ASC'} NULLS {nulls}"


def _fill_text(query: Query) -> str:
    if query.fill is not None:
        return f"FILL({_mode_text(query.fill)})"
    modes = (f"{kind}[{_mode_text(mode)}]" for kind, mode in query.typed_fill)
    return f"FILL({', '.join(modes)})"


def _mode_text(mode: FillMode) -> str:
    if mode.method == "value":
        return mode.literal
    reaches = [f"{reach}ms" for reach in (mode.before, mode.after) if reach is not None]
    return ", ".join([mode.method.upper(), *reaches])


def _expression_text(expression: Any) -> str:
    match expression:
        case SeriesAt(path):
            return text_of(path)
        case Aggregate(name, path):
            return f"{name}({text_of(path)})"
        case Constant(text):
            return text
        case Negative(inner):
            return f"-({_expression_text(inner)})"
        case Call(name, argument):
            return f"{name}({_expression_text(argument)})"
        case Arithmetic(operator, left, right):
            return f"({_expression_text(left)}) {operator} ({_expression_text(right)})"
    raise AssertionError(expression)


def _condition_text(condition: Any) -> str:
    match condition:
        case Not(inner):
            return f"NOT ({_condition_text(inner)})"
        case Compared(left, operator, right):
            return f"({_expression_text(left)}) {operator} ({_expression_text(right)})"
        case IsNull(operand, negated):
            return f"({_expression_text(operand)}) IS {'NOT ' if negated else ''}NULL"
        case Both(parts):
            return " AND ".join(f"({_condition_text(part)})" for part in parts)
        case Either(parts):
            return " OR ".join(f"({_condition_text(part)})" for part in parts)
        case TimeIs(operator, value):
            return f"time {operator} {value}"
        case TimeIn(values, negated):
            return f"time {'NOT ' if negated else ''}IN ({', '.join(map(str, values))})"
        case ValueIs(path, operator, literal):
            return f"{text_of(path)} {operator} {literal}"
        case ValueIn(path, literals, negated):
            return f"{text_of(path)} {'NOT ' if negated else ''}IN ({', '.join(literals)})"
        case Like(path, pattern):
            return f"{text_of(path)} LIKE '{pattern}'"
    raise AssertionError(condition)


def setup_of(data: Data) -> list[str]:
    """Return the statements that create a database without its points."""
    statements = [f"SET STORAGE GROUP TO {text_of(group)}" for group in _GROUPS]
    return statements + [create_of(one) for one in data.series]


def create_of(series: Series) -> str:
    """Return the statement that creates a series."""
    if series.aligned:
        name = node_of(series.name)
        return f"CREATE ALIGNED TIMESERIES {text_of(series.device)}({name} {series.type})"
    alias = f"({series.alias})" if series.alias else ""
    return f"CREATE TIMESERIES {text_of(series.path)}{alias} {series.type}"
