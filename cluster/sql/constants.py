"""Constants of the grammar: literals, and time values with now(), dates and arithmetic."""

from __future__ import annotations

from lark import Token, Tree

from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.timestamps import check_time, parse_datetime, parse_duration, shift_time
from cluster.sql.tokens import unquote
from cluster.sql.values import integer_or_none

_INT32_MAX = (1 << 31) - 1
_KINDS = {
    "string": LiteralKind.STRING,
    "boolean": LiteralKind.BOOLEAN,
    "null": LiteralKind.NULL,
    "nan": LiteralKind.NAN,
}


def number_text(node: Tree[Token]) -> str:
    """Return a number as typed, white space between its tokens left out."""
    return "".join(
        str(child) if isinstance(child, Token) else number_text(child) for child in node.children
    )


def is_date(node: Tree[Token]) -> bool:
    """Return whether a constant is a date, now(), or arithmetic on them."""
    return node.data == "date_expression"


def literal_of(node: Tree[Token], context: ParseContext) -> Literal:
    """Return a constant as a literal; a date becomes the number of its timestamp."""
    if node.data == "number":
        return Literal(LiteralKind.NUMBER, number_text(node))
    if is_date(node):
        return Literal(LiteralKind.NUMBER, str(_date_value(node, context)))
    token = node.children[0]
    kind = _KINDS[node.data]
    if kind is LiteralKind.STRING:
        return Literal(kind, unquote(str(token)))
    return Literal(kind, str(token))


def time_of(node: Tree[Token], context: ParseContext) -> int:
    """Return a constant that stands for a time.

    Raises:
        ClusterError: METADATA_ERROR: it is no integer, date or now().
    """
    if is_date(node):
        return _date_value(node, context)
    if node.data == "number" and all(
        isinstance(child, Token) and child.type != "EXP" for child in node.children
    ):
        text = number_text(node)
        value = integer_or_none(text)
        if value is None:
            raise semantic_error(f"time {text} is outside the range of 64 bits")
        return value
    what = "".join(str(token) for token in node.scan_values(lambda _: True))
    raise semantic_error(f"{what} is not a time: give an integer, a date or now()")


def _date_value(node: Tree[Token], context: ParseContext) -> int:
    try:
        zone = context.time_zone
        value = 0
        for child in node.children:
            assert isinstance(child, Tree)
            token = child.children[-1]
            if child.data == "date_shift":
                duration = parse_duration(str(token), context.precision)
                sign = -1 if str(child.children[0]) == "-" else 1
                value = shift_time(value, duration, sign, zone, context.precision)
            elif isinstance(token, Token) and token.type == "NOW":
                value = context.now
            else:
                value = parse_datetime(str(token), zone, context.precision, context.now)
        return check_time(value, str(value))
    except ValueError as error:
        raise semantic_error(str(error)) from error


def count_of(node: Tree[Token], clause: str, symbol: str, *, zero: bool) -> int:
    """Return the number of LIMIT, OFFSET, SLIMIT or SOFFSET.

    Args:
        node: rule `count`.
        clause: the keyword.
        symbol: what 0.13's messages call the number.
        zero: whether 0 is allowed.
    """
    value = integer_or_none("".join(map(str, node.children)))
    if value is None or value > _INT32_MAX:
        raise semantic_error(f"Out of range. {clause} <{symbol}>: {symbol} should be Int32.")
    if value < 0 and zero:
        raise semantic_error(f"{clause} <{symbol}>: {symbol} should >= 0.")
    if value <= 0 and not zero:
        raise semantic_error(f"{clause} <{symbol}>: {symbol} should be greater than 0.")
    return value
