"""CREATE CONTINUOUS QUERY from parse trees (sql.md 3.17)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lark import Token

from cluster.schema.paths import is_wildcard, join_path, split_path
from cluster.sql.constants import time_of
from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.expression_builder import ExpressionBuilder
from cluster.sql.names import identifier_text, path_text
from cluster.sql.nodes import Node, part, parts, patterns_of, subtrees, tokens_of
from cluster.sql.statements.expressions import FunctionCall, PathExpression
from cluster.sql.statements.registry import CreateContinuousQuery
from cluster.sql.timestamps import parse_duration
from cluster.sql.tokens import ID_CHARACTERS

_UNITS_PER_S = {"ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_PLAIN_NODE = re.compile(rf"[{ID_CHARACTERS}]*[^0-9\W][{ID_CHARACTERS}]*\Z", re.ASCII)
PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
"""`${n}` of a target: the n-th node of the path that a result belongs to, root is 0."""


def cq_error(text: str) -> Exception:
    """Return the error of a continuous query that can't be."""
    return semantic_error(f"CQ: {text}")


def build_continuous_query(node: Node, context: ParseContext) -> CreateContinuousQuery:
    """Return the statement of a `create_continuous_query` tree.

    Raises:
        ClusterError: METADATA_ERROR.
    """
    select = part(node, "continuous_select")
    assert select is not None
    call, path = _aggregate(select, context)
    patterns = patterns_of(select)
    targets = parts(select, "continuous_target")
    if len(patterns) > 1 or len(targets) > 1:
        raise cq_error("CQ currently does not support multiple series.")
    _check_policy(part(node, "timeout_policy"))
    (step_token,) = [token for token in tokens_of(select) if token.type == "DURATION"]
    step = _length(step_token, context)
    resample = part(node, "resample")
    every, every_text = _given(resample, "every", step, str(step_token), context)
    span, span_text = _given(resample, "for_span", step, str(step_token), context)
    end = "now()"
    back = part(resample, "run_range") if resample is not None else None
    if context.modern and back is None:
        span, span_text = every, every_text
    elif back is not None:
        span, span_text, end = _range(back, context)
    if every < _UNITS_PER_S[context.precision]:
        raise cq_error("every interval should not be lower than the minimum value you configured.")
    step_text = str(step_token) if step <= span else span_text
    levels = _levels(select)
    depth = len(split_path(patterns[0])) - 1
    if levels and max(levels) > depth:
        raise cq_error("Level should not exceed the <from_prefix> length.")
    query = (
        f"select {call.name}({quoted(path)}) from {quoted(patterns[0])} "
        f"group by ([now() - {span_text}, {end}), {step_text})"
    )
    if levels:
        query += f", level = {', '.join(map(str, levels))}"
    return CreateContinuousQuery(
        name=identifier_text(tokens_of(node)[0]),
        every=every,
        span=span,
        boundary=_boundary(resample, context),
        query=query,
        pattern=patterns[0],
        target=_target(_target_text(targets[0]), patterns[0], path, levels),
    )


def _target_text(node: Node) -> str:
    """Return the path of a target; in 1.x the measurement may stand in parentheses after it."""
    (path,) = parts(node, "into_target")
    return ".".join(
        [path_text(tokens_of(path)), *(path_text([token]) for token in tokens_of(node))]
    )


def _check_policy(node: Node | None) -> None:
    if node is not None and tokens_of(node)[0].type == "DISCARD":
        raise cq_error(
            "runs that are late are made up for; TIMEOUT POLICY DISCARD is not supported."
        )


def _range(node: Node, context: ParseContext) -> tuple[int, str, str]:
    """Return how far back a run looks, as number and text, and the text of where it ends."""
    first, *others = tokens_of(node)
    span = _length(first, context)
    if not others or str(others[0]).strip("0").isalpha():
        return span, str(first), "now()"
    if _length(others[0], context) >= span:
        raise cq_error("the end of RANGE should be later than its start.")
    return span, str(first), f"now() - {others[0]}"


def quoted(path: str) -> str:
    """Return a path as it has to be typed: nodes that are no plain names between backquotes."""
    nodes = split_path(path) if path.startswith("root") else split_path(f"root.{path}")[1:]
    return ".".join(
        node if _PLAIN_NODE.match(node) or is_wildcard(node) else f"`{node}`" for node in nodes
    )


def _aggregate(select: Node, context: ParseContext) -> tuple[FunctionCall, str]:
    items = parts(select, "select_item")
    if len(items) > 1:
        raise cq_error("CQ currently does not support multiple result columns.")
    expression = ExpressionBuilder(context).build(subtrees(items[0])[0])
    if (
        not isinstance(expression, FunctionCall)
        or len(expression.arguments) != 1
        or not isinstance(expression.arguments[0], PathExpression)
        or expression.attributes
    ):
        raise cq_error("the result column should be an aggregate function of one path.")
    return expression, expression.arguments[0].path


def _length(token: Token, context: ParseContext) -> int:
    try:
        duration = parse_duration(str(token), context.precision)
    except ValueError as error:
        raise cq_error(f"{error}.") from error
    if duration.months or duration.units <= 0:
        raise cq_error(f"{token} is no length in time that is the same at all times.")
    return duration.units


def _given(
    resample: Node | None, rule: str, default: int, default_text: str, context: ParseContext
) -> tuple[int, str]:
    clause = part(resample, rule) if resample is not None else None
    if clause is None:
        return default, default_text
    (token,) = tokens_of(clause)
    return _length(token, context), str(token)


def _boundary(resample: Node | None, context: ParseContext) -> int:
    clause = part(resample, "boundary") if resample is not None else None
    return context.now if clause is None else time_of(subtrees(clause)[0], context)


def _levels(select: Node) -> tuple[int, ...]:
    found = []
    for level in parts(select, "level"):
        text = str(level.children[0])
        if len(text) > 4:
            raise cq_error("Level should not exceed the <from_prefix> length.")
        found.append(int(text))
    return tuple(found)


def _target(text: str, pattern: str, path: str, levels: Sequence[int]) -> str:
    """Return the whole path of the target: a lone name stands below the nodes of its source."""
    nodes = split_path(pattern)
    inner = split_path(f"root.{path}")[1:]
    if not text.startswith("root."):
        if levels:
            depth = max(levels)
        elif "**" in (*nodes, *inner):
            raise cq_error(
                "with ** in the FROM clause the target should be a whole path, from root on."
            )
        else:
            depth = len(nodes) + len(inner) - 2
        text = join_path(["root", *(f"${{{number}}}" for number in range(1, depth + 1)), text])
    limit = max(levels) if levels else len(nodes) + len(inner) - 1
    for name in PLACEHOLDER.findall(text):
        if not name.isdecimal():
            raise cq_error("the x of ${x} should be an integer.")
        if "**" in nodes and not levels:
            continue
        if len(name) > 4 or not 1 <= int(name) <= limit:
            raise cq_error(
                "the x of ${x} should be greater than 0 and equal to or less than <level> "
                "or the length of queried path prefix."
            )
    return text
