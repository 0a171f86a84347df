"""Literals to values: type inference, conversion to a series' type, and bytes (sql.md 1.10)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from cluster.sql.statements.literals import Literal, LiteralKind
from iotdb_engine.types import DataType

_LONG_INFERENCE_BOUND = 2 << 24
"""Integers above it are inferred by `long_string_infer_type` (0.13 `TypeInferenceUtils`)."""

_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fFdD]?|Infinity)\Z")

_I32 = struct.Struct(">i")
_I64 = struct.Struct(">q")
_F32 = struct.Struct(">f")
_F64 = struct.Struct(">d")

_INT_RANGE = {
    DataType.INT32: (-(1 << 31), (1 << 31) - 1),
    DataType.INT64: (-(1 << 63), (1 << 63) - 1),
}


@dataclass(frozen=True)
class InferenceSettings:
    """Types given to series that an insert creates, by the look of the literal."""

    boolean: DataType = DataType.BOOLEAN
    integer: DataType = DataType.FLOAT
    long: DataType = DataType.DOUBLE
    floating: DataType = DataType.FLOAT
    nan: DataType = DataType.DOUBLE


def integer_or_none(text: str) -> int | None:
    """Return signed decimal digits as a 64-bit integer, None when it does not fit.

    Long texts are refused before conversion: `int` takes quadratic time and refuses 4300 digits.
    """
    if len(text) > 20 and len(text.lstrip("+-").lstrip("0")) > 19:
        return None
    value = int(text.lstrip("+-").lstrip("0") or "0") * (-1 if text[0] == "-" else 1)
    low, high = _INT_RANGE[DataType.INT64]
    return value if low <= value <= high else None


def infer_type(literal: Literal, inference: InferenceSettings) -> DataType | None:
    """Return the type for a new series that is first written with `literal`; None for NULL."""
    kind, text = literal
    if kind is LiteralKind.NUMBER:
        if "." in text:
            return inference.floating
        if _INTEGER.match(text) is None:
            return inference.long
        value = integer_or_none(text)
        if value is None or value > _LONG_INFERENCE_BOUND:
            return inference.long
        return inference.integer
    if kind is LiteralKind.STRING:
        return DataType.TEXT
    if kind is LiteralKind.BOOLEAN:
        return inference.boolean
    if kind is LiteralKind.NAN:
        return inference.nan
    return None


def parse_value(literal: Literal, data_type: DataType) -> Any:  # noqa: ANN401
    """Return the literal as a value of `data_type`: bool, int, float or bytes.

    A FLOAT is returned as the double that was written, not yet rounded to 32 bits.

    Raises:
        ValueError: it is no such value; the text is the reason given to users.
    """
    kind, text = literal
    if data_type is DataType.TEXT:
        if kind is LiteralKind.NULL:
            raise ValueError("null is not a value")
        return text.encode("utf-8", "surrogatepass")
    if kind is LiteralKind.NULL or kind is LiteralKind.STRING:
        # a quoted text is no number, whatever it says: 0.13 parses it with its quotes
        raise ValueError(_mismatch(literal, data_type))
    if data_type is DataType.BOOLEAN:
        return _parse_boolean(literal)
    if data_type in _INT_RANGE:
        if kind is not LiteralKind.NUMBER or _INTEGER.match(text) is None:
            raise ValueError(_mismatch(literal, data_type))
        value = integer_or_none(text)
        low, high = _INT_RANGE[data_type]
        if value is None or not low <= value <= high:
            raise ValueError(_mismatch(literal, data_type))
        return value
    return _parse_floating(literal, data_type)


def _parse_boolean(literal: Literal) -> bool:
    text = literal.text.lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0"):
        return False
    raise ValueError("The BOOLEAN should be true/TRUE, false/FALSE or 0/1")


def _parse_floating(literal: Literal, data_type: DataType) -> float:
    if literal.kind is LiteralKind.NAN:
        return float("nan")
    if literal.kind is not LiteralKind.NUMBER:
        raise ValueError(_mismatch(literal, data_type))
    try:
        value = float(literal.text)
    except ValueError:
        value = float(literal.text.rstrip("fFdD"))  # Java's suffixes, from string records
    try:
        if value - value != 0:
            raise OverflowError
        if data_type is DataType.FLOAT:
            _F32.pack(value)
    except OverflowError:
        raise ValueError(f"The input {data_type.name.lower()} value is Infinity") from None
    return value


def _mismatch(literal: Literal, data_type: DataType) -> str:
    quoted = f"'{literal.text}'" if literal.kind is LiteralKind.STRING else literal.text
    return f'For input string: "{quoted}", which is not a {data_type.name} value'


def encode_value(value: Any, data_type: DataType) -> bytes:  # noqa: ANN401
    """Return one cell as a fragment carries it; `value` as `parse_value` returns it."""
    if data_type is DataType.DOUBLE:
        return _F64.pack(value)
    if data_type is DataType.FLOAT:
        return _F32.pack(value)
    if data_type is DataType.INT64:
        return _I64.pack(value)
    if data_type is DataType.INT32:
        return _I32.pack(value)
    if data_type is DataType.BOOLEAN:
        return b"\x01" if value else b"\x00"
    return _I32.pack(len(value)) + bytes(value)


def literal_of_text(text: str) -> Literal:
    """Return the literal that a value sent as bare text stands for (string records).

    `null`/`NULL` exactly is NULL, `NaN` exactly is NaN, what Java reads as a double is a number,
    true/false in any case is a boolean; anything else is a string, without one pair of
    surrounding quotes.
    """
    if text in ("null", "NULL"):
        return Literal(LiteralKind.NULL, text)
    if text == "NaN":
        return Literal(LiteralKind.NAN, text)
    if _NUMBER.match(text) is not None:
        return Literal(LiteralKind.NUMBER, text)
    if text.lower() in ("true", "false"):
        return Literal(LiteralKind.BOOLEAN, text)
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return Literal(LiteralKind.STRING, text[1:-1])
    return Literal(LiteralKind.STRING, text)
