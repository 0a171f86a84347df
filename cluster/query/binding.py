"""Binding of the select list: items × FROM prefixes × matching series (sql.md 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import partial
from itertools import product
from math import prod
from typing import NamedTuple, Protocol, TypeVar

from cluster.errors import ClusterError
from cluster.query.aggregates import AGGREGATE_FUNCTIONS, MODERN_AGGREGATES, AggregateFunction
from cluster.query.backend import QueryBackend
from cluster.query.errors import metadata_error, query_error
from cluster.query.expressions import (
    AggregateLeaf,
    Bound,
    Call,
    ConstantLeaf,
    EndTimeLeaf,
    RowAggregateLeaf,
    SeriesLeaf,
    TimeLeaf,
    binary,
    is_delayed,
    negated,
    operand_name,
    operation_name,
)
from cluster.query.functions.function import Bind, FunctionError
from cluster.query.functions.operators import Operand, bind_operator, constant_operand
from cluster.query.functions.registry import BUILT_IN, KNOWN
from cluster.query.row_aggregates import COUNT_TIME, ROW_AGGREGATES
from cluster.query.where import times_around
from cluster.query.without_null import listed_text
from cluster.schema.paths import PathPattern
from cluster.schema.series import SeriesInfo
from cluster.sql.modern_expressions import constant_or_none
from cluster.sql.nodes import data_type_of
from cluster.sql.statements.expressions import (
    END_TIME,
    BinaryExpression,
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
    Condition,
    Not,
    Or,
    Select,
    SelectItem,
    TimeCompare,
    TimeIn,
)
from iotdb_engine.types import DataType

_MAX_COLUMNS = 100_000


class SeriesResolver:
    """Looks series up by pattern, each distinct pattern once for a query."""

    def __init__(self, backend: QueryBackend, *, prefix_dialect: bool) -> None:
        self._backend = backend
        self._prefix_dialect = prefix_dialect
        self._known: dict[str, list[SeriesInfo]] = {}

    def match(self, pattern: str) -> list[SeriesInfo]:
        """Return the series that match, in the backend's order."""
        found = self._known.get(pattern)
        if found is None:
            compiled = PathPattern.parse(pattern, prefix=self._prefix_dialect)
            found = self._known[pattern] = self._backend.match_series(compiled)
        return found

    def prefetch(self, select: Select) -> None:
        """Look all series of a SELECT up at once, so that `match` finds them.

        They are then of one moment, too: a device whose series are being created shows all that it
        has, whichever the paths. What is no path is left to `match`, which refuses it in its turn.
        """
        wanted: dict[str, PathPattern] = {}
        for text in _series_paths(select):
            if text not in self._known and text not in wanted:
                try:
                    wanted[text] = PathPattern.parse(text, prefix=self._prefix_dialect)
                except ClusterError:
                    continue
        found = self._backend.match_all(list(wanted.values()), partial(_span_of, select))
        self._known.update(zip(wanted, found, strict=True))


def _span_of(select: Select) -> tuple[int, int]:
    """Return a range of time that holds what a SELECT looks at, as far as is easily told."""
    low, high = times_around(select.where)
    if select.windows is not None:
        low, high = max(low, select.windows.start), min(high, select.windows.end)
    return low, high


def _series_paths(select: Select) -> Iterator[str]:
    """Yield the full paths of a SELECT and its WHERE clause."""
    for item in select.items:
        for path in paths_of(item.expression):
            for prefix in select.prefixes:
                yield f"{prefix}.{path}"
    control = None if select.segments is None else select.segments.control
    others = [part for part in (select.rest, select.having, control) if part is not None]
    for path in [
        *condition_paths(select.where),
        *(path for part in others for path in paths_of(part)),
    ]:
        if path == "root" or path.startswith("root."):
            yield path
        else:
            for prefix in select.prefixes:
                yield f"{prefix}.{path}"


def paths_of(expression: Expression) -> Iterator[str]:
    """Yield the paths of an expression."""
    for part in parts_of(expression):
        if isinstance(part, PathExpression) and not part.end_time:
            yield part.path


def parts_of(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and all that it is made of."""
    yield expression
    match expression:
        case Negation():
            yield from parts_of(expression.operand)
        case BinaryExpression():
            yield from parts_of(expression.left)
            yield from parts_of(expression.right)
        case FunctionCall():
            for argument in expression.arguments:
                yield from parts_of(argument)
        case Operation():
            for operand in expression.operands:
                yield from parts_of(operand)
        case PathExpression() | ConstantExpression() | TimeExpression():
            return


def condition_paths(condition: Condition | None) -> Iterator[str]:
    """Yield the paths of a WHERE clause."""
    match condition:
        case None | TimeCompare() | TimeIn():
            return
        case Not():
            yield from condition_paths(condition.operand)
        case And() | Or():
            for operand in condition.operands:
                yield from condition_paths(operand)
        case _:
            yield condition.path


MatchedSeries = tuple[SeriesInfo, str]
"""A series that a path stands for, and how the header calls it."""

PathMatcher = Callable[[str], Sequence[MatchedSeries]]
"""A path of the select list → the series that it stands for, over all prefixes."""


class ItemKind(Enum):
    """What a select item is made of."""

    SERIES = "series"
    AGGREGATE = "aggregate"
    FUNCTION = "function"
    """Time-series functions or arithmetic over series."""


def aggregate_of(expression: Expression) -> AggregateFunction | None:
    """Return the aggregate function that an expression calls, None when it is no such call."""
    if not isinstance(expression, FunctionCall):
        return None
    name = expression.name.lower()
    found = AGGREGATE_FUNCTIONS.get(name)
    return MODERN_AGGREGATES.get(name) if found is None and expression.modern else found


def is_row_aggregate(expression: Expression) -> bool:
    """Return whether an expression calls an aggregate of 1.x that needs the rows themselves."""
    return (
        isinstance(expression, FunctionCall)
        and expression.modern
        and expression.name.lower() in ROW_AGGREGATES
    )


def kind_of(item: SelectItem) -> ItemKind:
    """Return what an item is made of.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: series and aggregates in one item; METADATA_ERROR:
            constants only.
    """
    kinds = _kinds(item.expression)
    if not kinds:
        raise metadata_error(f"Constant operand is not allowed: {listed_text(item.expression)}")
    kind = kinds[0]
    if kinds.count(kind) < len(kinds):
        raise query_error("User-defined and built-in hybrid aggregation is not supported together.")
    if kind is ItemKind.SERIES and not isinstance(item.expression, PathExpression):
        return ItemKind.FUNCTION
    return kind


def _kinds(expression: Expression) -> list[ItemKind]:
    match expression:
        case PathExpression():
            return [ItemKind.AGGREGATE if expression.end_time else ItemKind.SERIES]
        case ConstantExpression():
            return []
        case Negation():
            return _kinds(expression.operand)
        case BinaryExpression():
            return _kinds(expression.left) + _kinds(expression.right)
        case FunctionCall():
            if aggregate_of(expression) is not None or is_row_aggregate(expression):
                return [ItemKind.AGGREGATE]
            return [kind for argument in expression.arguments for kind in _kinds(argument)]
        case Operation():
            return [kind for operand in expression.operands for kind in _kinds(operand)]
        case TimeExpression():
            raise metadata_error("time is no column: it can be tested in WHERE")


class Binder:
    """Binds expressions.

    Args:
        match: says what paths stand for.
        functions: finds those of users.
        with_time: whether the time of the row is a column, too.
    """

    def __init__(
        self,
        match: PathMatcher,
        functions: Callable[[str], Bind | None] | None = None,
        *,
        with_time: bool = False,
    ) -> None:
        self._match = match
        self._functions = functions
        self._with_time = with_time

    def bind(self, expression: Expression) -> list[Bound]:
        """Return all bound forms: the product over the matches of its paths, the left outermost.

        Raises:
            ClusterError: QUERY_PROCESS_ERROR: an operand's or argument's type does not do, an
                unknown function, or its arguments are wrong.
        """
        match expression:
            case PathExpression() if expression.end_time:
                return [EndTimeLeaf(END_TIME)]
            case PathExpression():
                return [SeriesLeaf(*matched) for matched in self._match(expression.path)]
            case ConstantExpression():
                return [_constant(expression)]
            case Negation():
                return [negated(operand) for operand in self.bind(expression.operand)]
            case BinaryExpression():
                return [
                    binary(expression.op, left, right)
                    for left, right in _combinations(
                        self.bind(expression.left), self.bind(expression.right)
                    )
                ]
            case FunctionCall():
                return self._call(expression)
            case Operation():
                return self._operations(expression)
            case TimeExpression():
                if self._with_time:
                    return [TimeLeaf()]
                raise metadata_error("time is no column: it can be tested in WHERE")

    def _operations(self, operation: Operation) -> list[Bound]:
        """Bind an operator of 1.x; constants among its operands are no columns of the rows."""
        constants = [constant_or_none(operand) for operand in operation.operands]
        choices = _combinations(
            *(
                self.bind(operand)
                for operand, constant in zip(operation.operands, constants, strict=True)
                if constant is None
            )
        )
        return [_bound_operation(operation, constants, columns) for columns in choices]

    def _call(self, call: FunctionCall) -> list[Bound]:
        aggregate = aggregate_of(call)
        if aggregate is not None:
            return self._aggregates(call, aggregate)
        if is_row_aggregate(call):
            return self._row_aggregates(call)
        name = call.name.lower()
        bind = BUILT_IN.get(name)
        if bind is None and self._functions is not None:
            bind = self._functions(name)
        bind = bind or KNOWN.get(name)
        if bind is None:
            raise query_error(
                f"Failed to reflect UDF instance, because UDF {call.name} has not been registered."
            )
        if any(isinstance(argument, ConstantExpression) for argument in call.arguments):
            texts = [listed_text(argument) for argument in call.arguments]
            raise metadata_error(f"Constant operand is not allowed: {', '.join(texts)}")
        choices = _combinations(*(self.bind(argument) for argument in call.arguments))
        return [_bound_call(call, bind, arguments) for arguments in choices]

    def _aggregates(self, call: FunctionCall, function: AggregateFunction) -> list[Bound]:
        if (
            len(call.arguments) != 1
            or call.attributes
            or not isinstance(call.arguments[0], PathExpression)
        ):
            raise query_error("The argument of the aggregation function must be a time series.")
        found = self._match(call.arguments[0].path)
        for data_type in dict.fromkeys(series.data_type for series, _ in found):
            function.check_type(data_type)
        name = call.name
        return [AggregateLeaf(function, series, f"{name}({shown})") for series, shown in found]

    def _row_aggregates(self, call: FunctionCall) -> list[Bound]:
        key = call.name.lower()
        if any(set(_kinds_but_time(argument)) != {ItemKind.SERIES} for argument in call.arguments):
            raise query_error(f"The arguments of {call.name} must be made of time series.")
        if key == COUNT_TIME:
            found = [leaf for argument in call.arguments for leaf in self.bind(argument)]
            texts = [text for argument in call.arguments for text in paths_of(argument)]
            name = f"{call.name}({', '.join(texts)})"
            return [_row_aggregate(call, found, name)] if found else []
        choices = _combinations(*(self._row_argument(argument) for argument in call.arguments))
        bound: list[Bound] = []
        for arguments in choices:
            texts = [argument.name for argument in arguments]
            texts += [attribute_name(name, value) for name, value in call.attributes]
            bound.append(_row_aggregate(call, arguments, f"{call.name}({', '.join(texts)})"))
        return bound

    def _row_argument(self, expression: Expression) -> Sequence[Bound]:
        return [TimeLeaf()] if isinstance(expression, TimeExpression) else self.bind(expression)


def _kinds_but_time(expression: Expression) -> list[ItemKind]:
    """Return as `_kinds`; the time of the row may be an argument, too."""
    return [ItemKind.SERIES] if isinstance(expression, TimeExpression) else _kinds(expression)


def _row_aggregate(call: FunctionCall, arguments: Sequence[Bound], name: str) -> RowAggregateLeaf:
    delayed = next((argument for argument in arguments if is_delayed(argument)), None)
    if delayed is not None:
        raise query_error(f"{call.name}: {delayed.name} can't be computed row by row")
    bind = ROW_AGGREGATES[call.name.lower()]
    types = [argument.data_type for argument in arguments]
    try:
        function = bind(types, dict(call.attributes))
    except FunctionError as error:
        raise query_error(f"{call.name}: {error}") from error
    return RowAggregateLeaf(call.name.lower(), tuple(arguments), call.attributes, function, name)


def _combinations(*choices: Sequence[Bound]) -> Iterator[tuple[Bound, ...]]:
    """Yield all combinations; QUERY_PROCESS_ERROR when they are too many columns to be meant."""
    count = prod(map(len, choices))
    if count > _MAX_COLUMNS:
        raise query_error(
            f"the operands of an expression match {count} combinations of series; "
            f"no more than {_MAX_COLUMNS} are allowed"
        )
    return product(*choices)


def _constant(expression: ConstantExpression) -> ConstantLeaf:
    kind, text = expression.literal
    if kind is LiteralKind.NUMBER:
        return ConstantLeaf(float(text), expression.text)
    if kind is LiteralKind.NAN:
        return ConstantLeaf(float("nan"), expression.text)
    if kind is LiteralKind.BOOLEAN:
        true = float(text.lower() == "true")
        return ConstantLeaf(true, expression.text, data_type=DataType.BOOLEAN)
    return ConstantLeaf(0.0, expression.text, data_type=DataType.TEXT)


def _bound_operation(
    operation: Operation, constants: Sequence[Literal | None], columns: Sequence[Bound]
) -> Call:
    """Return an operator over columns, and constants in the places that have them."""
    if not columns:
        raise metadata_error(f"Constant operand is not allowed: {listed_text(operation)}")
    left = iter(enumerate(columns))
    operands: list[Operand] = []
    names: list[str] = []
    keys: list[tuple[str, str]] = []
    try:
        for number, constant in enumerate(constants):
            if constant is None:
                place, column = next(left)
                operands.append(Operand(column.data_type, place))
                case = operation.operator is Operator.CASE
                names.append(column.name if case else operand_name(column))
            else:
                operands.append(constant_operand(constant))
                text = constant.text
                names.append(f'"{text}"' if constant.kind is LiteralKind.STRING else text)
                keys.append((f"{number} {constant.kind.name}", text))
        function = bind_operator(
            operation.operator, operands, operation.pattern, negated=operation.negated
        )
    except FunctionError as error:
        raise query_error(str(error)) from error
    keys.append(("pattern", operation.pattern))
    keys.append(("negated", str(operation.negated)))
    return Call(
        key=f"operator {operation.operator.value}",
        arguments=tuple(columns),
        attributes=tuple(keys),
        function=function,
        name=operation_name(
            operation.operator, names, operation.pattern, negated=operation.negated
        ),
    )


def _bound_call(call: FunctionCall, bind: Bind, arguments: Sequence[Bound]) -> Call:
    attributes = dict(call.attributes)
    if call.as_type:
        attributes["type"] = data_type_of(attributes["type"]).name
    try:
        function = bind([argument.data_type for argument in arguments], attributes)
    except FunctionError as error:
        raise query_error(f"{call.name}: {error}") from error
    texts = [argument.name for argument in arguments]
    if call.words:
        written = zip(call.words, call.attributes, strict=True)
        texts = [" ".join([texts[0], *(f"{word} {value}" for word, (_, value) in written)])]
    else:
        texts += [attribute_name(key, value) for key, value in call.attributes]
    if call.name.lower() == "cast" and call.as_type:
        texts = [f"{texts[0]} AS {call.attributes[0][1]}"]
    return Call(
        key=call.name.lower(),
        arguments=tuple(arguments),
        attributes=call.attributes,
        function=function,
        name=f"{call.name}({', '.join(texts)})",
    )


def attribute_name(key: str, value: str) -> str:
    """Return how the header shows an attribute: a constant argument of 1.x as itself."""
    return value if key.isdigit() else f'"{key}"="{value}"'


def from_prefixes(prefixes: Sequence[str], *, prefix_dialect: bool) -> tuple[str, ...]:
    """Return the FROM paths as patterns: in 0.12 a `*` at their end means any depth."""
    if not prefix_dialect:
        return tuple(prefixes)
    return tuple(f"{path}*" if path.endswith(".*") else path for path in prefixes)


class SeriesMatcher(Protocol):
    """Finds series: a SeriesResolver, or what stands for one."""

    def match(self, pattern: str) -> Sequence[SeriesInfo]:
        """Return the series that match."""
        ...


def match_over(prefixes: Sequence[str], resolver: SeriesMatcher) -> PathMatcher:
    """Return the matcher of paths relative to FROM prefixes."""

    def match(path: str) -> Sequence[MatchedSeries]:
        return [
            (series, series.path if series.alias is None else shown_path(series, pattern))
            for pattern in (f"{prefix}.{path}" for prefix in prefixes)
            for series in resolver.match(pattern)
        ]

    return match


def shown_path(series: SeriesInfo, pattern: str) -> str:
    """Return the full path, ending in the alias if that is how the query calls the series."""
    alias = series.alias
    if alias is None or not pattern.endswith("." + alias):
        return series.path
    # `*.alias` may also be matched by a series whose measurement has that name
    return series.path if series.measurement == alias else f"{series.device}.{alias}"


_Cut = TypeVar("_Cut")


class Output(NamedTuple):
    """One column of the answer."""

    name: str
    expression: Bound


def bind_items(
    items: Sequence[SelectItem],
    match: PathMatcher,
    functions: Callable[[str], Bind | None] | None = None,
) -> list[Output]:
    """Return the output columns before SLIMIT: item after item, prefix after prefix.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR, as `Binder.bind`; an AS name for several columns.
    """
    binder = Binder(match, functions)
    outputs: list[Output] = []
    for item in items:
        bound = binder.bind(item.expression)
        if item.alias is not None and len(bound) != 1:
            raise query_error(f"alias '{item.alias}' can only be matched with one time series")
        outputs.extend(Output(item.alias or expression.name, expression) for expression in bound)
    return outputs


def cut_columns(columns: Sequence[_Cut], limit: int | None, offset: int) -> list[_Cut]:
    """Apply SLIMIT and SOFFSET.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: the offset leaves nothing.
    """
    if offset and offset >= len(columns):
        raise query_error(
            f"The value of SOFFSET ({offset}) is equal to or exceeds the number of sequences "
            f"({len(columns)}) that can actually be returned."
        )
    return list(columns[offset : None if limit is None else offset + limit])
