"""SELECT of 1.x from parse trees (sql.md 7.4)."""

from __future__ import annotations

from dataclasses import replace

from lark import Token

from cluster.sql.constants import count_of
from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.modern_expressions import ModernExpressionBuilder, comparison_of, split_where
from cluster.sql.names import identifier_text, path_text
from cluster.sql.nodes import Node, part, parts, patterns_of, subtrees, tokens_of
from cluster.sql.select_builder import SelectBuilder, alignment_of, has_token, levels_of
from cluster.sql.statements.expressions import (
    Expression,
    PathExpression,
    TimeExpression,
)
from cluster.sql.statements.select import (
    Alignment,
    Into,
    IntoGroup,
    SegmentKind,
    Segments,
    Select,
    SortBy,
    SortKey,
)
from cluster.sql.values import integer_or_none

_ONCE = (
    "order_by",
    "fill",
    "limit_only",
    "offset_only",
    "slimit_only",
    "soffset_only",
    "without_null",
    "alignment",
)


class ModernSelectBuilder(SelectBuilder):
    """Builds what `v1/select.lark` parses."""

    _may_overlap = True
    _plain_fill = True

    def __init__(self, context: ParseContext) -> None:
        super().__init__(context)
        self._expressions = ModernExpressionBuilder(context)

    def build_select(self, node: Node) -> Select:
        """Build rule `select`."""
        for clause in _ONCE:
            if len(parts(node, clause)) > 1:
                words = clause.removesuffix("_only").replace("_", " ").upper()
                raise semantic_error(f"{words} stands twice")
        items = tuple(self._select_item(item) for item in parts(node, "select_item"))
        where, rest = None, None
        clause_of_where = part(node, "where_any")
        if clause_of_where is not None:
            where, rest = split_where(self._expressions.build(subtrees(clause_of_where)[0]))
        alignment = alignment_of(part(node, "alignment"))
        keys = self._sort_keys(part(node, "order_by"))
        by_time, left = _time_order(keys, alignment)
        modifier = part(node, "select_modifier")
        having = part(node, "having")
        return Select(
            items=items,
            prefixes=patterns_of(node),
            where=where,
            limit=_count(node, "limit_only", "LIMIT", "N", zero=False),
            offset=_count(node, "offset_only", "OFFSET", "OFFSETValue") or 0,
            series_limit=_count(node, "slimit_only", "SLIMIT", "SN", zero=False),
            series_offset=_count(node, "soffset_only", "SOFFSET", "SOFFSETValue") or 0,
            order_descending=by_time is not None and by_time.descending,
            last=modifier is not None and has_token(modifier, "LAST"),
            windows=self._windows(part(node, "group_by_time")),
            levels=levels_of(node),
            fill=self._fill(node),
            without_null=self._without_null(part(node, "without_null")),
            alignment=alignment,
            into=_into(part(node, "into")),
            order_given=by_time is not None,
            tracing=has_token(node, "TRACING"),
            modern=True,
            rest=rest,
            having=None if having is None else self._expressions.build(subtrees(having)[0]),
            sort_keys=left,
            segments=self._segments(part(node, "group_by_rows")),
            tags=_tags(part(node, "group_by_tags") or part(node, "group_by_time")),
        )

    def _segments(self, node: Node | None) -> Segments | None:
        if node is None:
            return None
        (rule,) = subtrees(node)
        kind = SegmentKind(str(rule.data).removeprefix("by_"))
        if kind is SegmentKind.SESSION:
            distance = self._duration(tokens_of(rule)[0])
            if distance.months or distance.units <= 0:
                raise semantic_error("GROUP BY SESSION needs a time above 0, without months")
            return Segments(kind, distance=distance)
        nulls = part(rule, "ignore_null")
        segments = Segments(
            kind,
            control=self._expressions.build(subtrees(rule)[0]),
            ignore_null=nulls is None or str(tokens_of(nulls)[0]).lower() == "true",
        )
        number, keep = part(rule, "difference"), part(rule, "keep")
        if number is not None:
            text = "".join(map(str, number.scan_values(lambda _: True)))
            return replace(segments, delta=float(text))
        if keep is not None:
            count = _whole(tokens_of(keep)[-1], "the number behind keep")
            comparators = subtrees(keep)
            operator = ">=" if not comparators else comparison_of(comparators[0]).value
            return replace(segments, keep=count, keep_operator=operator)
        if kind is SegmentKind.COUNT:
            return replace(segments, size=_size(tokens_of(rule)[0]))
        return segments

    def _sort_keys(self, node: Node | None) -> tuple[SortKey, ...]:
        return () if node is None else tuple(map(self._sort_key, parts(node, "sort_key")))

    def _sort_key(self, node: Node) -> SortKey:
        expression = self._expressions.build(subtrees(node)[0])
        nulls = part(node, "nulls_first")
        return SortKey(
            _sort_by(expression),
            descending=has_token(node, "DESC"),
            nulls_first=nulls is not None and has_token(nulls, "FIRST"),
        )


def _tags(node: Node | None) -> tuple[str, ...]:
    keys = () if node is None else parts(node, "tag_key")
    found = tuple(identifier_text(tokens_of(key)[0]) for key in keys)
    if len(set(found)) < len(found):
        raise semantic_error("GROUP BY TAGS has a key twice")
    return found


def _size(token: Token) -> int:
    size = _whole(token, "the size of GROUP BY COUNT")
    if size <= 0:
        raise semantic_error("the size of GROUP BY COUNT should be greater than 0")
    return size


def _whole(token: Token, what: str) -> int:
    value = integer_or_none(str(token))
    if value is None:
        raise semantic_error(f"{what} is out of range: it should be of 64 bits")
    return value


def _sort_by(expression: Expression) -> SortBy | Expression:
    if isinstance(expression, TimeExpression):
        return SortBy.TIME
    if isinstance(expression, PathExpression) and "." not in expression.path:
        word = expression.path.lower()
        if word in {by.value for by in SortBy}:
            return SortBy(word)
    return expression


def _time_order(
    keys: tuple[SortKey, ...], alignment: Alignment
) -> tuple[SortKey | None, tuple[SortKey, ...]]:
    """Return the order of time that rows can be read in, and the keys to sort by then.

    Rows aligned by time have a timestamp once, so what follows TIME decides nothing.
    """
    if not keys:
        return None, ()
    if alignment is not Alignment.DEVICE:
        return (keys[0], ()) if keys[0].by is SortBy.TIME else (None, keys)
    first, *others = keys
    if first.by is SortBy.DEVICE and not first.descending:
        if not others:
            return None, ()
        if others[0].by is SortBy.TIME:
            return others[0], ()
    return None, keys


def _count(node: Node, rule: str, clause: str, symbol: str, *, zero: bool = True) -> int | None:
    found = part(node, rule)
    return None if found is None else count_of(subtrees(found)[0], clause, symbol, zero=zero)


def _into(node: Node | None) -> Into | None:
    """Return the targets of INTO: devices with names, or full paths as in 0.13."""
    if node is None:
        return None
    groups = []
    targets = []
    for group in parts(node, "into_group"):
        path = path_text(tokens_of(parts(group, "into_target")[0]))
        names = part(group, "into_names")
        if names is None:
            targets.append(path)
            continue
        texts = [
            identifier_text(token) if token.type == "BACKQUOTED" else str(token)
            for token in tokens_of(names)
        ]
        groups.append(IntoGroup(path, tuple(texts), has_token(group, "ALIGNED")))
    if targets and groups:
        raise semantic_error("select into: give each target names in brackets, or none of them")
    aligned = any(has_token(group, "ALIGNED") for group in parts(node, "into_group"))
    return Into(tuple(targets), aligned, tuple(groups))
