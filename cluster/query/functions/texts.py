"""Functions of 1.x that 0.13 does not have: texts, ROUND to digits, DIFF (sql.md 7.4).

Constants after the first argument come as attributes whose keys are their numbers: `ROUND(s, 2)`
has the attribute `1` with the text `2`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cluster.query.functions.function import (
    NUMERIC,
    Attributes,
    Bind,
    BoundFunction,
    FunctionError,
    ImmediateFunction,
    PointStep,
    RowStep,
    Times,
    Values,
    integer,
    over_points,
    required,
    single_argument,
)
from iotdb_engine.types import BATCH_DTYPES, Column, DataType

_TEXT = (DataType.TEXT,)


def _per_text(data_type: DataType, compute: Callable[[bytes], Any]) -> ImmediateFunction:
    def step(_: Times, values: Values) -> tuple[Values, None]:
        found = np.empty(len(values), BATCH_DTYPES[data_type])
        found[:] = [compute(bytes(value)) for value in values.tolist()]
        return found, None

    def start() -> PointStep:
        return step

    return over_points(data_type, start)


def _on_text(data_type: DataType, make: Callable[[Attributes], Callable[[bytes], Any]]) -> Bind:
    def bind(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
        single_argument(types, _TEXT)
        return _per_text(data_type, make(attributes))

    return bind


def _decoded(compute: Callable[[str], str]) -> Callable[[bytes], bytes]:
    return lambda value: compute(value.decode("utf-8", "replace")).encode()


def _locate(attributes: Attributes) -> Callable[[bytes], int]:
    target = required(attributes, "target")
    backwards = attributes.get("reverse", "false").lower() == "true"

    def find(value: bytes) -> int:
        text = value.decode("utf-8", "replace")
        return text.rfind(target) if backwards else text.find(target)

    return find


def _starts(attributes: Attributes) -> Callable[[bytes], bool]:
    target = required(attributes, "target").encode()
    return lambda value: value.startswith(target)


def _ends(attributes: Attributes) -> Callable[[bytes], bool]:
    target = required(attributes, "target").encode()
    return lambda value: value.endswith(target)


def _substring(attributes: Attributes) -> Callable[[bytes], bytes]:
    begin = integer(attributes, "1")
    length = integer(attributes, "2", 1 << 31)
    if begin < 0 or length < 0:
        raise FunctionError("SUBSTRING counts from 1, and its length is not negative")
    first = max(begin - 1, 0)
    return _decoded(lambda text: text[first : first + length])


def _replace(attributes: Attributes) -> Callable[[bytes], bytes]:
    old, new = required(attributes, "1"), required(attributes, "2")
    if not old:
        raise FunctionError("REPLACE needs a text to look for")
    return _decoded(lambda text: text.replace(old, new))


def _rows_of_texts(
    count: int, columns: Sequence[Column]
) -> tuple[list[list[bytes]], np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Return the texts of each column, and the rows in which none is null."""
    valid = np.ones(count, np.bool_)
    for column in columns:
        if column.valid is not None:
            valid &= column.valid
    rows = np.flatnonzero(valid)
    return [[bytes(v) for v in column.values[rows].tolist()] for column in columns], valid


def _of_several(
    data_type: DataType, compute: Callable[[tuple[bytes, ...]], Any]
) -> ImmediateFunction:
    def apply(times: Times, columns: Sequence[Column]) -> Column:
        texts, valid = _rows_of_texts(len(times), columns)
        found = np.zeros(len(times), BATCH_DTYPES[data_type])
        filled = np.empty(int(valid.sum()), BATCH_DTYPES[data_type])
        filled[:] = [compute(row) for row in zip(*texts, strict=True)]
        found[valid] = filled
        return Column(data_type, found, None if valid.all() else valid)

    def start() -> RowStep:
        return apply

    return ImmediateFunction(data_type, start)


def _check_texts(types: Sequence[DataType], least: int, most: int | None = None) -> None:
    if any(kind is not DataType.TEXT for kind in types):
        raise FunctionError("the input series have to be TEXT")
    if len(types) < least or (most is not None and len(types) > most):
        raise FunctionError(f"the number of the input series [{len(types)}] is not as expected")


def _concat(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    """CONCAT(s, …, 'target1'='x', …): texts in the order of their numbers, after the series."""
    _check_texts(types, 1)
    texts = b"".join(
        attributes[key].encode() for key in sorted(attributes) if key.startswith("target")
    )
    if attributes.get("series_behind", "false").lower() == "true":
        return _of_several(DataType.TEXT, lambda row: texts + b"".join(row))
    return _of_several(DataType.TEXT, lambda row: b"".join(row) + texts)


def _strcmp(types: Sequence[DataType], _: Attributes) -> BoundFunction:
    _check_texts(types, 2, 2)
    return _of_several(DataType.INT32, lambda row: (row[0] > row[1]) - (row[0] < row[1]))


def round_to_digits(data_type: DataType, digits: int) -> ImmediateFunction:
    """Return ROUND(s, digits): half to even, as ROUND(s)."""
    if not -18 <= digits <= 18:
        raise FunctionError(f"ROUND to {digits} digits: give a number from -18 to 18")
    scale = 10.0**digits

    def step(_: Times, values: Values) -> tuple[Values, None]:
        wide = values.astype(np.float64)
        with np.errstate(all="ignore"):
            return np.rint(wide * scale) / scale, None

    def start() -> PointStep:
        return step

    return over_points(DataType.DOUBLE, start)


def _diff(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    """DIFF: the difference to the point before as DOUBLE; a null before gives null if asked."""
    single_argument(types, NUMERIC)
    ignore = attributes.get("ignoreNull", attributes.get("1", "true")).lower() == "true"

    def start() -> RowStep:
        before: list[float] = []

        def apply(times: Times, columns: Sequence[Column]) -> Column:
            (column,) = columns
            count = len(times)
            present = np.ones(count, np.bool_) if column.valid is None else column.valid
            values = np.zeros(count, np.float64)
            valid = np.zeros(count, np.bool_)
            rows = np.flatnonzero(present)
            if not len(rows):
                return Column(DataType.DOUBLE, values, valid)
            wide = column.values[rows].astype(np.float64)
            with np.errstate(all="ignore"):
                values[rows[1:]] = wide[1:] - wide[:-1]
                valid[rows[1:]] = True
                if before:
                    values[rows[0]] = wide[0] - before[0]
                    valid[rows[0]] = True
            if not ignore:
                adjacent = np.zeros(count, np.bool_)
                adjacent[1:] = present[1:] & present[:-1]
                adjacent[0] = bool(before) and before[1:] == [1.0]
                valid &= adjacent
            before[:] = [float(wide[-1]), 1.0 if present[-1] else 0.0]
            return Column(DataType.DOUBLE, values, None if valid.all() else valid)

        return apply

    return ImmediateFunction(DataType.DOUBLE, start)


MODERN: dict[str, Bind] = {
    "length": _on_text(
        DataType.INT32, lambda _: lambda value: len(value.decode("utf-8", "replace"))
    ),
    "upper": _on_text(DataType.TEXT, lambda _: _decoded(str.upper)),
    "lower": _on_text(DataType.TEXT, lambda _: _decoded(str.lower)),
    "trim": _on_text(DataType.TEXT, lambda _: _decoded(str.strip)),
    "locate": _on_text(DataType.INT32, _locate),
    "startswith": _on_text(DataType.BOOLEAN, _starts),
    "endswith": _on_text(DataType.BOOLEAN, _ends),
    "substring": _on_text(DataType.TEXT, _substring),
    "replace": _on_text(DataType.TEXT, _replace),
    "concat": _concat,
    "strcmp": _strcmp,
    "diff": _diff,
}
"""By lower-case name."""
