"""WHERE clauses from parse trees, and the time range of DELETE."""

from __future__ import annotations

from lark import Token

from cluster.sql.constants import is_date, literal_of, time_of
from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.names import path_text
from cluster.sql.nodes import Node, part, subtrees, tokens_of
from cluster.sql.statements.literals import Literal
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
from iotdb_engine.types import T_MAX, T_MIN

_COMPARISONS = {
    "_EQ": Comparison.EQ,
    "NE": Comparison.NE,
    "LT": Comparison.LT,
    "LE": Comparison.LE,
    "GT": Comparison.GT,
    "GE": Comparison.GE,
}
_NOT_ATOMIC = (
    "For delete statement, where clause can only contain atomic expressions like : "
    "time > XXX, time <= XXX, or two atomic expressions connected by 'AND'"
)


class ConditionBuilder:
    """Turns the trees of one statement's WHERE clause into conditions."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build(self, node: Node) -> Condition:
        """Return the condition of a `disjunction` or anything below it."""
        match node.data:
            case "disjunction":
                return Or(tuple(self.build(child) for child in subtrees(node)))
            case "conjunction":
                return And(tuple(self.build(child) for child in subtrees(node)))
            case "negation":
                return Not(self.build(subtrees(node)[0]))
            case "comparison":
                return self._comparison(node)
            case "in_list":
                return self._in_list(node)
            case _:
                return self._text_match(node)

    def _comparison(self, node: Node) -> Condition:
        operand, comparator, constant = subtrees(node)
        token = comparator.children[0]
        assert isinstance(token, Token)
        op = _COMPARISONS[token.type]
        if operand.data == "time_operand":
            return TimeCompare(op, time_of(constant, self._context))
        path = _operand_path(operand)
        return ValueCompare(path, op, self._value(constant, path))

    def _in_list(self, node: Node) -> Condition:
        operand, *constants = subtrees(node)
        negated = any(isinstance(child, Token) for child in node.children)
        if operand.data == "time_operand":
            return TimeIn(tuple(time_of(c, self._context) for c in constants), negated)
        path = _operand_path(operand)
        return ValueIn(path, tuple(self._value(c, path) for c in constants), negated)

    def _value(self, constant: Node, path: str) -> Literal:
        if is_date(constant):
            raise semantic_error(f"Unsupported type: [{path}]. Date can only be used to time")
        return literal_of(constant, self._context)

    def _text_match(self, node: Node) -> Condition:
        operand = subtrees(node)[0]
        pattern = str(node.children[-1])
        word = str(node.data).capitalize()
        if operand.data == "time_operand":
            raise semantic_error(f"Unsupported type: [time]. Only TEXT is supported in '{word}'")
        if node.data == "contains":
            return ValueContains(_operand_path(operand), unquote(pattern))
        if pattern[0] != "'":
            raise semantic_error(
                f"the pattern of '{word}' is in double quotes. Please use single quotation marks"
            )
        kind = ValueLike if node.data == "like" else ValueRegexp
        return kind(_operand_path(operand), pattern[1:-1])


def condition_of(node: Node, context: ParseContext) -> Condition | None:
    """Return the condition of the `where` below a node, None when there is none."""
    where = part(node, "where")
    return None if where is None else ConditionBuilder(context).build(subtrees(where)[0])


def _operand_path(node: Node) -> str:
    return path_text(tokens_of(node))


def delete_range(condition: Condition | None) -> tuple[int, int]:
    """Return the inclusive time range of a DELETE's WHERE clause (sql.md 4.3).

    Raises:
        ClusterError: METADATA_ERROR: value filters, OR, NOT, IN, !=, more than two conditions,
            or an empty range.
    """
    if condition is None:
        return T_MIN, T_MAX
    if _has_value_filter(condition):
        raise semantic_error(
            "For delete statement, where clause can only contain time expressions, value filter "
            "is not currently supported."
        )
    atoms = condition.operands if isinstance(condition, And) else (condition,)
    t_min, t_max = T_MIN, T_MAX
    for atom in atoms:
        if len(atoms) > 2 or not isinstance(atom, TimeCompare) or atom.op is Comparison.NE:
            raise semantic_error(_NOT_ATOMIC)
        low, high = interval_of(atom)
        t_min, t_max = max(t_min, low), min(t_max, high)
    if t_min > t_max:
        raise semantic_error(f"Invalid delete range: [{t_min}, {t_max}]")
    return t_min, t_max


def interval_of(condition: TimeCompare) -> tuple[int, int]:
    """Return the inclusive range of a comparison other than `!=`; low > high when it is empty."""
    value = condition.value
    match condition.op:
        case Comparison.LT:
            return T_MIN, value - 1
        case Comparison.LE:
            return T_MIN, value
        case Comparison.GT:
            return value + 1, T_MAX
        case Comparison.GE:
            return value, T_MAX
        case Comparison.EQ:
            return value, value
        case Comparison.NE:
            raise ValueError("!= is no interval")


def _has_value_filter(condition: Condition) -> bool:
    match condition:
        case And() | Or():
            return any(_has_value_filter(operand) for operand in condition.operands)
        case Not():
            return _has_value_filter(condition.operand)
        case TimeCompare() | TimeIn():
            return False
        case _:
            return True
