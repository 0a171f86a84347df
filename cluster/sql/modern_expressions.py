"""Expressions of 1.x from parse trees, and the conditions among them (sql.md 7.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from lark import Token

from cluster.sql.constants import is_date, literal_of
from cluster.sql.context import semantic_error
from cluster.sql.expression_builder import ExpressionBuilder
from cluster.sql.names import path_text
from cluster.sql.nodes import Node, parts, subtrees, tokens_of
from cluster.sql.statements.expressions import (
    END_TIME,
    ConstantExpression,
    Expression,
    FunctionCall,
    Negation,
    Operation,
    Operator,
    PathExpression,
    TimeExpression,
)
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.statements.select import (
    And,
    Comparison,
    Condition,
    Not,
    Or,
    TimeCompare,
    TimeIn,
    ValueCompare,
    ValueContains,
    ValueIn,
    ValueLike,
    ValueRegexp,
)
from cluster.sql.tokens import unquote
from cluster.sql.values import integer_or_none

_COMPARED = {
    "_EQ": Operator.EQ,
    "NE": Operator.NE,
    "LT": Operator.LT,
    "LE": Operator.LE,
    "GT": Operator.GT,
    "GE": Operator.GE,
}
_COMPARISONS = {
    Operator.EQ: Comparison.EQ,
    Operator.NE: Comparison.NE,
    Operator.LT: Comparison.LT,
    Operator.LE: Comparison.LE,
    Operator.GT: Comparison.GT,
    Operator.GE: Comparison.GE,
}
_TURNED = {
    Operator.LT: Operator.GT,
    Operator.GT: Operator.LT,
    Operator.LE: Operator.GE,
    Operator.GE: Operator.LE,
}
_MATCHES = ("liked", "searched", "contained")
_TESTS = {
    "between": Operator.BETWEEN,
    "within": Operator.IN,
    "nulled": Operator.IS_NULL,
    "liked": Operator.LIKE,
    "searched": Operator.REGEXP,
    "contained": Operator.CONTAINS,
}


class ModernExpressionBuilder(ExpressionBuilder):
    """Turns the trees of one statement of 1.x into expressions."""

    def build(self, node: Node, depth: int = 0) -> Expression:
        """Return the expression of an `expression` or anything below it; see the base."""
        self.check_depth(depth)
        inner = depth + 1
        match node.data:
            case "expression":
                return Operation(Operator.OR, self._all(subtrees(node), inner))
            case "both":
                return Operation(Operator.AND, self._all(subtrees(node), inner))
            case "inverse":
                return Operation(Operator.NOT, self._all(subtrees(node), inner))
            case "compared":
                left, comparator, right = subtrees(node)
                return Operation(comparison_of(comparator), self._all([left, right], inner))
            case "between" | "within" | "nulled" | "liked" | "searched" | "contained":
                return self._test(node, inner)
            case "cast_call":
                name, type_word = tokens_of(node)
                attributes = (("type", str(type_word).upper()),)
                return FunctionCall(
                    str(name), self._all(subtrees(node), inner), attributes, as_type=True
                )
            case "substring_call":
                return self._substring(node, inner)
            case "function_call":
                return _with_constants(super().build(node, depth))
            case "case_of":
                return self._case(node, inner)
            case "time_operand":
                return TimeExpression()
            case "select_path":
                path = path_text(tokens_of(node))
                return PathExpression(path, end_time=path == END_TIME)
            case "date_expression":
                literal = literal_of(node, self._context)
                return ConstantExpression(literal, literal.text)
            case _:
                return super().build(node, depth)

    def attribute_text(self, token: Token) -> str:
        """Return key or value of a function's attribute."""
        return unquote(str(token))

    def _all(self, nodes: list[Node], depth: int) -> tuple[Expression, ...]:
        return tuple(self.build(node, depth) for node in nodes)

    def _test(self, node: Node, depth: int) -> Expression:
        negated = any(token.type == "NOT" for token in tokens_of(node))
        operands = self._all(subtrees(node), depth)
        pattern = ""
        if node.data in _MATCHES:
            pattern, *escape = [
                unquote(str(token)) for token in tokens_of(node) if token.type == "STRING"
            ]
            if escape:
                pattern = _with_backslashes(pattern, escape[0])
        return Operation(_TESTS[str(node.data)], operands, pattern, negated)

    def _substring(self, node: Node, depth: int) -> Expression:
        name, *numbers = map(str, tokens_of(node))
        if name.lower() != "substring":
            raise semantic_error(f"{name} takes no FROM: its arguments stand behind commas")
        attributes = tuple((str(place), text) for place, text in enumerate(numbers, 1))
        words = ("FROM", "FOR")[: len(numbers)]
        return FunctionCall(
            name, self._all(subtrees(node), depth), attributes, modern=True, words=words
        )

    def _case(self, node: Node, depth: int) -> Expression:
        subjects = [self.build(subtrees(s)[0], depth) for s in parts(node, "case_subject")]
        operands: list[Expression] = []
        for when in parts(node, "case_when"):
            condition, value = self._all(subtrees(when), depth)
            if subjects:
                condition = Operation(Operator.EQ, (subjects[0], condition))
            operands += [condition, value]
        operands += [self.build(subtrees(e)[0], depth) for e in parts(node, "case_else")]
        return Operation(Operator.CASE, tuple(operands))


def _with_backslashes(pattern: str, escape: str) -> str:
    """Return a pattern of LIKE whose escape character is another one with the usual one."""
    if len(escape) != 1:
        raise semantic_error(f"ESCAPE is one character, not {escape!r}")
    if escape == "\\":
        return pattern
    found = []
    characters = iter(pattern)
    for character in characters:
        literal = character == escape
        if literal:
            character = next(characters, "")
        if character == "\\":
            found.append("\\" * 4)  # see LikePattern
        else:
            found.append(f"\\{character}" if literal and character in ("%", "_") else character)
    return "".join(found)


def comparison_of(node: Node) -> Operator:
    """Return the operator of rule `comparator`."""
    return _COMPARED[cast("Token", node.children[0]).type]


_OF_CONSTANTS = ("round", "replace", "substring", "diff")


def _with_constants(call: Expression) -> Expression:
    """Return a call with its constant arguments as attributes, where the function takes any."""
    if not isinstance(call, FunctionCall):
        return call
    call = replace(call, modern=True)
    if call.name.lower() == "count_if":
        return _with_threshold(call)
    if call.name.lower() not in _OF_CONSTANTS:
        return call
    first, *others = call.arguments
    literals = [constant_or_none(argument) for argument in others]
    texts = [literal.text for literal in literals if literal is not None]
    if len(texts) < len(others):
        return call
    numbered = tuple((str(number), text) for number, text in enumerate(texts, 1))
    return replace(call, arguments=(first,), attributes=numbered + call.attributes)


def _with_threshold(call: FunctionCall) -> FunctionCall:
    """Return COUNT_IF(condition, n | keep >= n) with its threshold as attribute 1."""
    if len(call.arguments) != 2:
        return call
    condition, threshold = call.arguments
    constant = constant_or_none(threshold)
    text = None if constant is None else constant.text
    if isinstance(threshold, Operation) and threshold.operator in _COMPARISONS:
        name, limit = threshold.operands
        count = constant_or_none(limit)
        if isinstance(name, PathExpression) and name.path.lower() == "keep" and count is not None:
            text = f"keep {threshold.operator.value} {count.text}"
    if text is None:
        return call
    return replace(call, arguments=(condition,), attributes=(("1", text), *call.attributes))


def constant_or_none(expression: Expression) -> Literal | None:
    """Return a constant, a sign before a number included; None when it is no constant."""
    if isinstance(expression, ConstantExpression):
        return expression.literal
    if isinstance(expression, Negation):
        inner = constant_or_none(expression.operand)
        if inner is not None and inner.kind is LiteralKind.NUMBER:
            text = inner.text[1:] if inner.text.startswith("-") else f"-{inner.text}"
            return Literal(LiteralKind.NUMBER, text)
    return None


def split_where(expression: Expression) -> tuple[Condition | None, Expression | None]:
    """Return a WHERE clause as a condition that 0.13 knows as well, and what is left of it.

    The condition can be tested where the points are. Both must hold.
    """
    condition = condition_or_none(expression)
    if condition is not None:
        return condition, None
    if not isinstance(expression, Operation) or expression.operator is not Operator.AND:
        return None, expression
    known: list[Condition] = []
    left: list[Expression] = []
    for operand in expression.operands:
        found, remaining = split_where(operand)
        known += () if found is None else (found,)
        left += () if remaining is None else (remaining,)
    rest = left[0] if len(left) == 1 else Operation(Operator.AND, tuple(left))
    if not known:
        return None, rest
    return known[0] if len(known) == 1 else And(tuple(known)), rest


def condition_or_none(expression: Expression) -> Condition | None:
    """Return an expression as a condition over series, constants and time, if it is one."""
    if not isinstance(expression, Operation):
        return None
    if expression.negated:
        inner = condition_or_none(replace(expression, negated=False))
        return None if inner is None else Not(inner)
    operator, operands = expression.operator, expression.operands
    match operator:
        case Operator.AND | Operator.OR:
            parts_of = [condition_or_none(operand) for operand in operands]
            known = tuple(part for part in parts_of if part is not None)
            if len(known) < len(parts_of):
                return None
            return And(known) if operator is Operator.AND else Or(known)
        case Operator.NOT:
            inner = condition_or_none(operands[0])
            return None if inner is None else Not(inner)
        case Operator.BETWEEN:
            value, low, high = operands
            return condition_or_none(
                Operation(
                    Operator.AND,
                    (Operation(Operator.GE, (value, low)), Operation(Operator.LE, (value, high))),
                )
            )
        case Operator.IN:
            return _in(operands)
        case Operator.LIKE | Operator.REGEXP | Operator.CONTAINS:
            return _text_match(operator, operands[0], expression.pattern)
        case Operator.IS_NULL | Operator.CASE:
            return None
        case _:
            return _compared(operator, *operands)


def _compared(operator: Operator, left: Expression, right: Expression) -> Condition | None:
    if constant_or_none(left) is not None:
        left, right, operator = right, left, _TURNED.get(operator, operator)
    literal = constant_or_none(right)
    if literal is None:
        return None
    op = _COMPARISONS[operator]
    if isinstance(left, TimeExpression):
        return TimeCompare(op, _time_of(literal))
    if isinstance(left, PathExpression):
        return ValueCompare(left.path, op, literal)
    return None


def _in(operands: tuple[Expression, ...]) -> Condition | None:
    value, *listed = operands
    literals = [constant_or_none(item) for item in listed]
    known = tuple(literal for literal in literals if literal is not None)
    if len(known) < len(literals):
        return None
    if isinstance(value, TimeExpression):
        return TimeIn(tuple(map(_time_of, known)))
    return ValueIn(value.path, known) if isinstance(value, PathExpression) else None


def _text_match(operator: Operator, value: Expression, pattern: str) -> Condition | None:
    if not isinstance(value, PathExpression):
        return None
    if operator is Operator.LIKE:
        return ValueLike(value.path, pattern)
    if operator is Operator.REGEXP:
        return ValueRegexp(value.path, pattern)
    return ValueContains(value.path, pattern)


def _time_of(literal: Literal) -> int:
    whole = literal.kind is LiteralKind.NUMBER and literal.text.lstrip("-").isdecimal()
    value = integer_or_none(literal.text) if whole else None
    if value is None:
        raise semantic_error(f"{literal.text} is not a time: give an integer, a date or now()")
    return value


__all__ = ["ModernExpressionBuilder", "constant_or_none", "is_date", "split_where"]
