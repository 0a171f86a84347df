from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.values import (
    InferenceSettings,
    encode_value,
    infer_type,
    integer_or_none,
    literal_of_text,
    parse_value,
)
from iotdb_engine.types import WIRE_DTYPES, DataType

BOOLEAN, INT32, INT64, FLOAT, DOUBLE, TEXT = DataType


@pytest.mark.parametrize(
    ("text", "kind", "data_type"),
    [
        ("true", LiteralKind.BOOLEAN, BOOLEAN),
        ("FALSE", LiteralKind.BOOLEAN, BOOLEAN),
        ("1", LiteralKind.NUMBER, FLOAT),
        ("33554432", LiteralKind.NUMBER, FLOAT),
        ("33554433", LiteralKind.NUMBER, DOUBLE),
        ("-99999999999", LiteralKind.NUMBER, FLOAT),
        ("1e5", LiteralKind.NUMBER, DOUBLE),
        ("1.0", LiteralKind.NUMBER, FLOAT),
        ("9" * 30, LiteralKind.NUMBER, DOUBLE),
        ("-" + "9" * 5000, LiteralKind.NUMBER, DOUBLE),
        ("NaN", LiteralKind.NAN, DOUBLE),
        ("nan", LiteralKind.STRING, TEXT),
        ("null", LiteralKind.NULL, None),
        ("NULL", LiteralKind.NULL, None),
        ("Null", LiteralKind.STRING, TEXT),
        ("abc", LiteralKind.STRING, TEXT),
        ("1d", LiteralKind.NUMBER, DOUBLE),
        ("", LiteralKind.STRING, TEXT),
    ],
)
def test_bare_texts_and_their_types(text, kind, data_type):
    literal = literal_of_text(text)
    assert literal.kind is kind
    assert infer_type(literal, InferenceSettings()) is data_type


def test_one_pair_of_quotes_is_stripped_and_quoted_numbers_are_texts():
    assert literal_of_text("'1'") == Literal(LiteralKind.STRING, "1")
    assert literal_of_text("\"'a'\"") == Literal(LiteralKind.STRING, "'a'")
    assert literal_of_text("'") == Literal(LiteralKind.STRING, "'")


def test_inference_is_configurable():
    chosen = InferenceSettings(TEXT, INT32, INT64, DOUBLE, FLOAT)
    texts = ["true", "1", "33554433", "1.5", "NaN"]
    assert [infer_type(literal_of_text(t), chosen) for t in texts] == [
        TEXT,
        INT32,
        INT64,
        DOUBLE,
        FLOAT,
    ]


@pytest.mark.parametrize(
    ("text", "data_type", "value"),
    [
        ("1", BOOLEAN, True),
        ("0", BOOLEAN, False),
        ("TRUE", BOOLEAN, True),
        ("+7", INT32, 7),
        ("-2147483648", INT32, -(2**31)),
        ("9223372036854775807", INT64, 2**63 - 1),
        ("00000000000000000000000000000001", INT32, 1),
        ("1.5", FLOAT, 1.5),
        ("1e3", DOUBLE, 1000.0),
        ("1.50", TEXT, b"1.50"),
        ("true", TEXT, b"true"),
        ("'it'", TEXT, b"it"),
        ("2f", FLOAT, 2.0),
    ],
)
def test_values(text, data_type, value):
    assert parse_value(literal_of_text(text), data_type) == value


@pytest.mark.parametrize(
    ("text", "data_type", "reason"),
    [
        ("2", BOOLEAN, "should be true"),
        ("'x'", BOOLEAN, "For input string"),
        ("1.3", INT32, 'For input string: "1.3"'),
        ("1e3", INT64, "For input string"),
        ("2147483648", INT32, "For input string"),
        ("9" * 6000, INT64, "For input string"),
        ("NaN", INT32, "For input string"),
        ("true", DOUBLE, "For input string"),
        ("'1'", INT32, "For input string"),
        ("1e39", FLOAT, "The input float value is Infinity"),
        ("1e999", DOUBLE, "The input double value is Infinity"),
        ("Infinity", DOUBLE, "The input double value is Infinity"),
        ("null", TEXT, "null"),
    ],
)
def test_what_is_no_value(text, data_type, reason):
    with pytest.raises(ValueError, match=reason):
        parse_value(literal_of_text(text), data_type)


def test_nan():
    assert math.isnan(parse_value(literal_of_text("NaN"), FLOAT))


@given(st.integers())
def test_integers_within_64_bits(value):
    assert integer_or_none(str(value)) == (value if -(2**63) <= value < 2**63 else None)


@pytest.mark.parametrize(
    ("value", "data_type"),
    [(True, BOOLEAN), (-5, INT32), (2**62, INT64), (1.25, FLOAT), (0.1, DOUBLE)],
)
def test_cells_are_as_fragments_carry_them(value, data_type):
    data = encode_value(value, data_type)
    assert len(data) == WIRE_DTYPES[data_type].itemsize
    number = int.from_bytes(data, "big", signed=True)
    if data_type is DOUBLE:
        number = struct.unpack(">d", data)[0]
    elif data_type is FLOAT:
        number = struct.unpack(">f", data)[0]
    assert number == value


def test_text_cells_carry_their_length():
    assert encode_value("é".encode(), TEXT) == b"\x00\x00\x00\x02\xc3\xa9"
