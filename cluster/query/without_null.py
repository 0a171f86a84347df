"""WITHOUT NULL: drops rows by their nulls (sql.md 3.11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from cluster.query.errors import query_error
from cluster.query.expressions import operation_name
from cluster.scan.filters import kept
from cluster.sql.statements.expressions import (
    BinaryExpression,
    ConstantExpression,
    Expression,
    FunctionCall,
    Negation,
    Operation,
    PathExpression,
    TimeExpression,
)
from cluster.sql.statements.select import WithoutNull
from iotdb_engine.types import ColumnBatch


class NamedColumn(Protocol):
    """A column of the answer."""

    @property
    def name(self) -> str:
        """Its title."""
        ...


class NullFilter(NamedTuple):
    """Which columns of a batch decide, and how."""

    columns: tuple[int, ...]
    any_null: bool


NamesOf = Callable[[Expression | str], Sequence[str]]
"""A listed column → the names of all columns that it stands for; none: no series matches."""


def null_filter(
    clause: WithoutNull | None,
    outputs: Sequence[NamedColumn],
    index: Sequence[int],
    names_of: NamesOf,
) -> NullFilter | None:
    """Return what decides over rows, None when nothing is dropped.

    Args:
        clause: as parsed.
        outputs: the columns of the answer.
        index: for each of them its number in the batches.
        names_of: expands what is listed.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: a listed column is not among the outputs, or only under
            an AS name.
    """
    if clause is None:
        return None
    if not clause.columns:
        return NullFilter(tuple(sorted(set(index))), clause.any_null)
    numbers: dict[str, list[int]] = {}
    for number, output in enumerate(outputs):
        numbers.setdefault(output.name, []).append(index[number])
    chosen: set[int] = set()
    for column in clause.columns:
        aliased = numbers.get(listed_text(column))
        names = [] if aliased is not None else names_of(column)
        chosen.update(aliased or ())
        for name in names:
            if name not in numbers:
                raise query_error(
                    "The without null columns don't match the columns queried. If there is an "
                    "alias, please use the alias."
                )
            chosen.update(numbers[name])
    return NullFilter(tuple(sorted(chosen)), clause.any_null) if chosen else None


def listed_text(column: Expression | str) -> str:
    """Return the text of a listed column as the header would have it, without prefixes."""
    match column:
        case str():
            return column
        case PathExpression():
            return column.path
        case ConstantExpression():
            return column.text
        case Negation():
            inner = listed_text(column.operand)
            return f"-({inner})" if isinstance(column.operand, BinaryExpression) else f"-{inner}"
        case BinaryExpression():
            return f"{_operand(column.left)} {column.op.value} {_operand(column.right)}"
        case FunctionCall():
            texts = [listed_text(argument) for argument in column.arguments]
            if column.as_type:
                return f"{column.name}({texts[0]} AS {column.attributes[0][1]})"
            if column.words:
                written = zip(column.words, column.attributes, strict=True)
                texts = [" ".join([texts[0], *(f"{word} {value}" for word, (_, value) in written)])]
                return f"{column.name}({texts[0]})"
            texts += [
                value if key.isdigit() else f'"{key}"="{value}"' for key, value in column.attributes
            ]
            return f"{column.name}({', '.join(texts)})"
        case Operation():
            texts = [listed_text(operand) for operand in column.operands]
            return operation_name(column.operator, texts, column.pattern, negated=column.negated)
        case TimeExpression():
            return "Time"


def _operand(expression: Expression) -> str:
    text = listed_text(expression)
    return f"({text})" if isinstance(expression, BinaryExpression) else text


def without_null(batches: Iterator[ColumnBatch], keep: NullFilter) -> Iterator[ColumnBatch]:
    """Yield the rows that stay."""
    for batch in batches:
        valids = [batch.columns[number].valid for number in keep.columns]
        given = [valid for valid in valids if valid is not None]
        if not given or (not keep.any_null and len(given) < len(valids)):
            yield batch
            continue
        combine = np.logical_and if keep.any_null else np.logical_or
        found = kept(batch, combine.reduce(given))
        if found is not None:
            yield found
