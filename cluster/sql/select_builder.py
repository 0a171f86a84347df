"""SELECT from parse trees."""

from __future__ import annotations

from lark import Token

from cluster.sql.conditions import condition_of
from cluster.sql.constants import literal_of, number_text, time_of
from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.expression_builder import ExpressionBuilder
from cluster.sql.names import identifier_text, path_text
from cluster.sql.nodes import (
    Node,
    data_type_of,
    limit_of,
    part,
    parts,
    patterns_of,
    subtrees,
    tokens_of,
)
from cluster.sql.statements.explain import Explain
from cluster.sql.statements.expressions import Expression
from cluster.sql.statements.literals import LiteralKind
from cluster.sql.statements.select import (
    Alignment,
    Fill,
    FillMethod,
    FillMode,
    Into,
    Select,
    SelectItem,
    TimeWindows,
    WithoutNull,
)
from cluster.sql.timestamps import UNITS_PER_SECOND, Duration, parse_duration
from cluster.sql.values import integer_or_none
from iotdb_engine.types import DataType

_ALIGNMENTS = {"DEVICE": Alignment.DEVICE, "DISABLE": Alignment.NONE}
_DAYS_OF_MONTH = 30
_MOST_DAYS_OF_MONTH = 31
_NOT_LINEAR = (DataType.BOOLEAN, DataType.TEXT)


class SelectBuilder:
    """Builds what `select.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context
        self._expressions: ExpressionBuilder = ExpressionBuilder(context)

    def build_select(self, node: Node) -> Select:
        """Build rule `select`."""
        order = part(node, "order_by_time")
        limit, offset = limit_of(node)
        series_limit, series_offset = limit_of(node, prefix="S")
        modifier = part(node, "select_modifier")
        return Select(
            items=tuple(self._select_item(item) for item in parts(node, "select_item")),
            prefixes=patterns_of(node),
            where=condition_of(node, self._context),
            limit=limit,
            offset=offset,
            series_limit=series_limit,
            series_offset=series_offset,
            order_descending=order is not None and has_token(order, "DESC"),
            last=modifier is not None and has_token(modifier, "LAST"),
            windows=self._windows(part(node, "group_by_time")),
            levels=levels_of(node),
            fill=self._fill(node),
            without_null=self._without_null(part(node, "without_null")),
            alignment=alignment_of(part(node, "alignment")),
            into=_into(part(node, "into")),
            order_given=order is not None,
            tracing=has_token(node, "TRACING"),
        )

    def build_explain(self, node: Node) -> Explain:
        """Build rule `explain`."""
        select = self.build_select(subtrees(node)[0])
        return Explain(select, has_token(node, "ANALYZE"), has_token(node, "VERBOSE"))

    def _select_item(self, node: Node) -> SelectItem:
        names = tokens_of(node)
        expression = self._expressions.build(subtrees(node)[0])
        return SelectItem(expression, identifier_text(names[0]) if names else None)

    # ---- GROUP BY ----

    _may_overlap = False
    """Whether windows may begin before the one before has ended."""

    def _windows(self, node: Node | None) -> TimeWindows | None:
        if node is None:
            return None
        window = subtrees(node)[0]
        start, end = (time_of(constant, self._context) for constant in subtrees(window))
        durations = [token for token in tokens_of(node) if token.type == "DURATION"]
        interval = self._duration(durations[0])
        sliding = self._duration(durations[1]) if len(durations) > 1 else interval
        if start >= end:
            raise semantic_error("Start time should be smaller than endTime in GroupBy")
        if not interval.months and interval.units <= 0:
            raise semantic_error("The second parameter time interval should be a positive integer.")
        if not sliding.months and sliding.units <= 0:
            raise semantic_error("The third parameter sliding step should be a positive integer.")
        month = _DAYS_OF_MONTH * 86_400 * UNITS_PER_SECOND[self._context.precision]
        if _shorter(sliding, interval, month) and not self._may_overlap:
            raise semantic_error(
                "The third parameter sliding step shouldn't be smaller than the second parameter "
                "time interval."
            )
        return TimeWindows(start, end, interval, sliding, left_open=window.data == "left_open")

    def _duration(self, token: Token) -> Duration:
        try:
            return parse_duration(str(token), self._context.precision)
        except ValueError as error:
            raise semantic_error(str(error)) from error

    # ---- FILL ----

    _plain_fill = False
    """Whether a text fills cells without its quotes."""

    def _fill(self, node: Node) -> Fill | None:
        fill = part(node, "fill")
        if fill is None:
            return None
        if not fill.children:
            raise semantic_error("fill value cannot be null")
        mode = part(fill, "fill_mode")
        if mode is not None:
            return Fill(self._fill_mode(mode))
        typed = [self._typed_fill(child) for child in parts(fill, "typed_fill")]
        everything = [mode for data_type, mode in typed if data_type is None]
        if everything:
            return Fill(by_type=tuple((data_type, everything[-1]) for data_type in DataType))
        if part(node, "group_by_time") is not None and len({mode for _, mode in typed}) > 1:
            raise semantic_error("The old type logic could only use one type of fill")
        return Fill(by_type=tuple((kind, mode) for kind, mode in typed if kind is not None))

    def _typed_fill(self, node: Node) -> tuple[DataType | None, FillMode]:
        (word,) = tokens_of(node)
        mode = self._fill_mode(subtrees(node)[0])
        if word.type == "ALL":
            if mode.method in (FillMethod.LINEAR, FillMethod.VALUE):
                raise semantic_error(f"fill all doesn't support {mode.method.value} fill")
            return None, mode
        data_type = data_type_of(str(word))
        if mode.method is FillMethod.LINEAR and data_type in _NOT_LINEAR:
            raise semantic_error(f"type {data_type.name} cannot use linear fill function")
        return data_type, mode

    def _fill_mode(self, node: Node) -> FillMode:
        constants = subtrees(node)
        if constants:
            literal = literal_of(constants[0], self._context)
            if literal.kind is LiteralKind.NULL:
                raise semantic_error("fill value cannot be null")
            text = literal.text if self._plain_fill else _written(constants[0])
            return FillMode(FillMethod.VALUE, literal=literal, text=text)
        word, *durations = tokens_of(node)
        before, after = ([self._duration(token) for token in durations] + [None, None])[:2]
        return FillMode(FillMethod(str(word).lower()), before, after)

    # ---- WITHOUT NULL ----

    def _without_null(self, node: Node | None) -> WithoutNull | None:
        if node is None:
            return None
        columns = tuple(
            self._null_column(subtrees(child)[0]) for child in parts(node, "null_column")
        )
        return WithoutNull(has_token(node, "ANY"), columns)

    def _null_column(self, node: Node) -> Expression | str:
        tokens = tokens_of(node)
        if node.data == "select_path" and len(tokens) == 1 and tokens[0].type == "BACKQUOTED":
            return identifier_text(tokens[0])  # the text of a whole column name, dots and all
        return self._expressions.build(node)


def has_token(node: Node, terminal: str) -> bool:
    """Return whether a token of a kind is among the children."""
    return any(token.type == terminal for token in tokens_of(node))


def _written(node: Node) -> str:
    """Return a constant as it was written."""
    if node.data == "number":
        return number_text(node)
    return "".join(str(token) for token in node.scan_values(lambda _: True))


def levels_of(node: Node) -> tuple[int, ...]:
    """Return the levels of GROUP BY."""
    levels = []
    for clause in (part(node, "group_by_time"), part(node, "group_by_level")):
        for child in parts(clause, "level") if clause is not None else ():
            level = integer_or_none(str(child.children[0]))
            if level is None:
                raise semantic_error(f"level {child.children[0]} is out of range")
            levels.append(level)
    return tuple(levels)


def _shorter(sliding: Duration, interval: Duration, month: int) -> bool:
    """Return whether a step is shorter than the windows, a month taken as so many units.

    A step without months is compared with the longest that months of windows can last.
    """
    if interval.months and sliding.months:
        return sliding < interval
    longest = month // _DAYS_OF_MONTH * _MOST_DAYS_OF_MONTH
    return sliding.months * month + sliding.units < interval.months * longest + interval.units


def alignment_of(node: Node | None) -> Alignment:
    """Return what the `alignment` clause says, by time when there is none."""
    if node is None:
        return Alignment.TIME
    words = [token.type for token in tokens_of(node)]
    return _ALIGNMENTS.get(words[0], Alignment.TIME)


def _into(node: Node | None) -> Into | None:
    if node is None:
        return None
    targets = tuple(path_text(tokens_of(target)) for target in parts(node, "into_target"))
    return Into(targets, aligned=has_token(node, "ALIGNED"))
