"""Renders parameters into a statement as SQL literals (sql.md 1.2, 1.3 of the 0.13 dialect).

The protocol has no parameters, so a `?` outside quotes is replaced by text that the server's lexer
reads as exactly one literal, whatever the value.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

from iotdb_client.errors import DataError, InterfaceError, ProgrammingError
from iotdb_client.types import plain_value, timestamp_of

_PIECE = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.|``)*`|(?P<mark>\?)|(?P<end>;)",
    re.DOTALL,
)
"""Quoted text of every kind, placeholders, statement ends."""


_NAMED = re.compile(_PIECE.pattern + r"|(?<![\w:]):(?P<name>[A-Za-z_]\w*)", re.DOTALL)
"""The colons of a time literal stand behind digits, and before digits."""

Parameters = Sequence[Any] | Mapping[str, Any]


def render(sql: str, parameters: Parameters, zone: dt.tzinfo, precision: str) -> str:
    """Return the statement with every `?`, or `:name` for a mapping, replaced by a parameter.

    Args:
        sql: one statement; a `?` or `:name` inside quotes stays.
        parameters: a sequence, or a mapping; unused entries of a mapping are ignored. Values:
            None, bool, int, float, Decimal, str, bytes (UTF-8), date, datetime, and NumPy's and
            pandas' scalars of these.
        zone: where naive datetimes are.
        precision: unit of timestamps of the server.

    Raises:
        ProgrammingError: too many or too few parameters.
        DataError: a value that no literal can express.
        InterfaceError: a value of another type.
    """
    if isinstance(parameters, Mapping):
        return _render_named(sql, parameters, zone, precision)
    if isinstance(parameters, (str, bytes)) or not isinstance(parameters, Sequence):
        raise ProgrammingError("parameters are a sequence, for instance a tuple, or a mapping")
    parts: list[str] = []
    start = used = 0
    for match in _PIECE.finditer(sql):
        if match["mark"] is None:
            continue
        if used < len(parameters):
            parts.append(sql[start : match.start()])
            parts.append(literal(parameters[used], zone, precision))
            start = match.end()
        used += 1
    if used != len(parameters):
        raise ProgrammingError(
            f"the statement has {used} placeholders, {len(parameters)} were given"
        )
    parts.append(sql[start:])
    return "".join(parts)


def _render_named(sql: str, parameters: Mapping[str, Any], zone: dt.tzinfo, precision: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if match["mark"] is not None:
            raise ProgrammingError("the statement has ? placeholders: parameters are a sequence")
        if name is None:
            return match[0]
        return literal(named_values(parameters, [name])[0], zone, precision)

    return _NAMED.sub(replaced, sql)


def named_values(parameters: Any, names: Sequence[Any]) -> list[Any]:  # noqa: ANN401
    """Return the values of some names; ProgrammingError where one is missing."""
    if not isinstance(parameters, Mapping):
        raise ProgrammingError("the statement has named placeholders: parameters are a mapping")
    missing = [name for name in names if name not in parameters]
    if missing:
        raise ProgrammingError(f"no value was given for :{missing[0]}")
    return [parameters[name] for name in names]


def literal(value: Any, zone: dt.tzinfo, precision: str) -> str:  # noqa: ANN401
    """Return one value as a literal; see `render`."""
    value = plain_value(value, precision)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return _quoted(bytes(value).decode())
        except UnicodeDecodeError as error:
            raise DataError(f"bytes are stored as TEXT, so they must be UTF-8: {error}") from error
    if isinstance(value, float):
        if math.isinf(value):
            raise DataError(
                "the dialect has no literal for infinity; executemany (where the series exists) "
                "and insert_tablet write it"
            )
        return "NaN" if math.isnan(value) else float.__repr__(value)
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            raise DataError(f"the dialect has no literal for {value}")
        return format(value, "f")
    if isinstance(value, dt.datetime):
        return str(timestamp_of(value, zone, precision))
    if isinstance(value, dt.date):
        return str(timestamp_of(dt.datetime.combine(value, dt.time()), zone, precision))
    try:
        return str(operator.index(value))
    except TypeError:
        raise InterfaceError(f"a {type(value).__name__} can't be a parameter") from None


def _quoted(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the text is not valid Unicode: {error}") from error
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def split_statements(text: str) -> list[str]:
    """Return the statements of a text, cut at `;` outside quotes; blank ones are left out."""
    found: list[str] = []
    start = 0
    for match in _PIECE.finditer(text):
        if match["end"] is not None:
            found.append(text[start : match.start()])
            start = match.end()
    found.append(text[start:])
    return [statement for piece in found if (statement := piece.strip())]
