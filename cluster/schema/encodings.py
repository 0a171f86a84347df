"""Names and numbers of encodings, compressors and types, and what goes together (sql.md 1.9).

The engine chooses its own physical encoding; these numbers are what users declared, kept and shown
as they are. Numbers: 0.13 `TSEncoding`, `CompressionType`, `TSDataType`; 9 and up of encodings, 8
and up of compressors are of 1.x clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from cluster.errors import ClusterError, StatusCode
from iotdb_engine.types import DataType


class Encoding(IntEnum):
    """Declared encodings; frozen, they are on the wire and in the schema."""

    PLAIN = 0
    DICTIONARY = 1
    RLE = 2
    DIFF = 3
    TS_2DIFF = 4
    BITMAP = 5
    GORILLA_V1 = 6
    REGULAR = 7
    GORILLA = 8
    ZIGZAG = 9
    FREQ = 10
    CHIMP = 11
    SPRINTZ = 12
    RLBE = 13


class Compressor(IntEnum):
    """Declared compressors; frozen, they are on the wire and in the schema."""

    UNCOMPRESSED = 0
    SNAPPY = 1
    GZIP = 2
    LZ4 = 7
    ZSTD = 8
    LZMA2 = 9


_INTEGERS = frozenset(
    {
        Encoding.PLAIN,
        Encoding.RLE,
        Encoding.TS_2DIFF,
        Encoding.GORILLA,
        Encoding.ZIGZAG,
        Encoding.CHIMP,
        Encoding.SPRINTZ,
        Encoding.RLBE,
    }
)
_FLOATS = (_INTEGERS - {Encoding.ZIGZAG}) | {Encoding.GORILLA_V1}

ALLOWED_ENCODINGS: dict[DataType, frozenset[Encoding]] = {
    DataType.BOOLEAN: frozenset({Encoding.PLAIN, Encoding.RLE}),
    DataType.INT32: _INTEGERS,
    DataType.INT64: _INTEGERS,
    DataType.FLOAT: _FLOATS,
    DataType.DOUBLE: _FLOATS,
    DataType.TEXT: frozenset({Encoding.PLAIN, Encoding.DICTIONARY}),
}
"""Which encodings a type may be declared with."""

DEFAULT_ENCODINGS: dict[DataType, Encoding] = {
    DataType.BOOLEAN: Encoding.RLE,
    DataType.INT32: Encoding.RLE,
    DataType.INT64: Encoding.RLE,
    DataType.FLOAT: Encoding.GORILLA,
    DataType.DOUBLE: Encoding.GORILLA,
    DataType.TEXT: Encoding.PLAIN,
}
"""What a series gets when nothing is said (0.13 `default_*_encoding`)."""

DEFAULT_COMPRESSOR = Compressor.SNAPPY

_ENCODING_NAMES = {encoding.name: encoding for encoding in Encoding}
_ENCODING_NAMES["PLAIN_DICTIONARY"] = Encoding.DICTIONARY  # 0.12
_COMPRESSOR_NAMES = {compressor.name: compressor for compressor in Compressor}


def default_encoding(data_type: DataType) -> int:
    """Return the number of the encoding a series of this type gets when nothing is said."""
    return int(DEFAULT_ENCODINGS[data_type])


def encoding_name(number: int) -> str:
    """Return the name that SHOW TIMESERIES prints, the number itself when unknown."""
    return Encoding(number).name if number in Encoding._value2member_map_ else str(number)


def compressor_name(number: int) -> str:
    """Return the name that SHOW TIMESERIES prints, the number itself when unknown."""
    return Compressor(number).name if number in Compressor._value2member_map_ else str(number)


def encoding_by_name(name: str) -> int:
    """Return an encoding's number by its name in any case.

    Raises:
        ClusterError: METADATA_ERROR, unknown name.
    """
    encoding = _ENCODING_NAMES.get(name.upper())
    if encoding is None:
        raise ClusterError(StatusCode.METADATA_ERROR, f"unknown encoding {name}")
    return int(encoding)


def compressor_by_name(name: str) -> int:
    """Return a compressor's number by its name in any case.

    Raises:
        ClusterError: METADATA_ERROR, unknown name.
    """
    compressor = _COMPRESSOR_NAMES.get(name.upper())
    if compressor is None:
        raise ClusterError(StatusCode.METADATA_ERROR, f"unknown compressor {name}")
    return int(compressor)


def encoding_problem(data_type: DataType, encoding: int, compressor: int) -> str | None:
    """Return why a series can't be declared so, or None when it can."""
    if encoding not in ALLOWED_ENCODINGS[data_type]:
        return f"encoding {encoding_name(encoding)} does not support {data_type.name}"
    if compressor not in Compressor._value2member_map_:
        return f"unknown compressor {compressor}"
    return None


def deadband_problem(props: Mapping[str, str]) -> str | None:
    """Return why the dead-band properties of a series can't be, or None (0.13 `checkSDTFormat`)."""
    if props.get("loss", "").lower() != "sdt":
        return None
    deviation = props.get("compdev")
    if deviation is None:
        return "SDT compression deviation is required"
    try:
        if float(deviation) < 0:
            return "SDT compression deviation cannot be negative"
    except ValueError:
        return "SDT compression deviation formatting error"
    bounds = {"minimum": ("compmintime", 0), "maximum": ("compmaxtime", (1 << 63) - 1)}
    found = {}
    for name, (key, default) in bounds.items():
        text = props.get(key)
        if text is not None and not (text.removeprefix("-").isdecimal() and len(text) < 20):
            return f"SDT compression {name} time formatting error"
        found[name] = default if text is None else int(text)
        if found[name] < 0:
            return f"SDT compression {name} time cannot be negative"
    if found["maximum"] <= found["minimum"]:
        return "SDT compression maximum time needs to be greater than compression minimum time"
    return None
