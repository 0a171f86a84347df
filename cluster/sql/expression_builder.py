"""Expressions of the select list from parse trees."""

from __future__ import annotations

from lark import Token

from cluster.sql.context import ParseContext, semantic_error
from cluster.sql.names import path_text
from cluster.sql.nodes import Node, subtrees, tokens_of
from cluster.sql.statements.expressions import (
    Arithmetic,
    BinaryExpression,
    ConstantExpression,
    Expression,
    FunctionCall,
    Negation,
    PathExpression,
)
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.tokens import unquote

_KINDS = {
    "STRING": LiteralKind.STRING,
    "BOOLEAN_LITERAL": LiteralKind.BOOLEAN,
    "NULL": LiteralKind.NULL,
    "NAN": LiteralKind.NAN,
}


_MAX_DEPTH = 200
"""What is built, bound and computed for an expression recurses over it."""


class ExpressionBuilder:
    """Turns the trees of one statement's select list into expressions."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build(self, node: Node, depth: int = 0) -> Expression:
        """Return the expression of an `expression` or anything below it.

        Raises:
            ClusterError: METADATA_ERROR: it is nested too deeply.
        """
        self.check_depth(depth)
        match node.data:
            case "binary":
                return self._binary(node, depth)
            case "negated":
                return Negation(self.build(subtrees(node)[0], depth + 1))
            case "positive":
                return self.build(subtrees(node)[0], depth + 1)
            case "function_call":
                return self._function_call(node, depth)
            case "select_path":
                return PathExpression(path_text(tokens_of(node)))
            case _:
                return self._constant(node)

    @staticmethod
    def check_depth(depth: int) -> None:
        """Refuse what is nested too deeply."""
        if depth > _MAX_DEPTH:
            raise semantic_error(f"an expression has more than {_MAX_DEPTH} operators in a row")

    def attribute_text(self, token: Token) -> str:
        """Return key or value of a function's attribute: raw, as 0.13 shows it."""
        return str(token)[1:-1]

    def _binary(self, node: Node, depth: int) -> Expression:
        """Build a chain of operators; a long one leans left, so it is taken apart in a loop."""
        chain: list[tuple[Arithmetic, Node]] = []
        while node.data == "binary":
            left, right = subtrees(node)
            (operator,) = tokens_of(node)
            chain.append((Arithmetic(str(operator)), right))
            node = left
        depth += len(chain)
        result = self.build(node, depth)
        for op, right in reversed(chain):
            result = BinaryExpression(op, result, self.build(right, depth))
        return result

    def _function_call(self, node: Node, depth: int) -> Expression:
        (name,) = tokens_of(node)
        arguments = []
        attributes = []
        for child in subtrees(node):
            if child.data == "function_attribute":
                key, value = map(self.attribute_text, tokens_of(child))
                attributes.append((key, value))
            else:
                arguments.append(self.build(child, depth + 1))
        return FunctionCall(str(name), tuple(arguments), tuple(attributes))

    def _constant(self, node: Node) -> Expression:
        text = "".join(str(token) for token in node.scan_values(lambda _: True))
        tokens = tokens_of(node)
        kind = _KINDS.get(tokens[0].type, LiteralKind.NUMBER) if tokens else LiteralKind.NUMBER
        if self._context.prefix_dialect and tokens and tokens[0].type in ("INT", "STRING"):
            return PathExpression(path_text(tokens))  # 0.12 has no constants
        literal_text = unquote(text) if kind is LiteralKind.STRING else text
        return ConstantExpression(Literal(kind, literal_text), text)
