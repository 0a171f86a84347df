from __future__ import annotations

import pytest

from cluster.errors import ClusterError
from cluster.schema.encodings import (
    ALLOWED_ENCODINGS,
    DEFAULT_ENCODINGS,
    Encoding,
    compressor_by_name,
    compressor_name,
    default_encoding,
    encoding_by_name,
    encoding_name,
    encoding_problem,
)
from iotdb_engine.types import DataType


def test_defaults_are_those_of_0_13_and_allowed() -> None:
    assert [encoding_name(default_encoding(data_type)) for data_type in DataType] == [
        "RLE",
        "RLE",
        "RLE",
        "GORILLA",
        "GORILLA",
        "PLAIN",
    ]
    for data_type in DataType:
        assert DEFAULT_ENCODINGS[data_type] in ALLOWED_ENCODINGS[data_type]


def test_names_and_numbers() -> None:
    for encoding in Encoding:
        assert encoding_by_name(encoding.name.lower()) == encoding
        assert encoding_name(int(encoding)) == encoding.name
    assert encoding_by_name("plain_dictionary") == 1
    assert encoding_name(99) == "99"
    assert compressor_by_name("lz4") == 7
    assert compressor_name(7) == "LZ4"
    assert compressor_name(3) == "3"
    for look_up in (encoding_by_name, compressor_by_name):
        with pytest.raises(ClusterError, match=r"unknown .* nonsense"):
            look_up("nonsense")


@pytest.mark.parametrize(
    ("data_type", "encoding", "compressor", "problem"),
    [
        (DataType.BOOLEAN, 4, 1, "encoding TS_2DIFF does not support BOOLEAN"),
        (DataType.TEXT, 8, 1, "encoding GORILLA does not support TEXT"),
        (DataType.INT32, 1, 1, "encoding DICTIONARY does not support INT32"),
        (DataType.INT64, 7, 1, "encoding REGULAR does not support INT64"),
        (DataType.DOUBLE, 77, 1, "encoding 77 does not support DOUBLE"),
        (DataType.DOUBLE, 8, 3, "unknown compressor 3"),
        (DataType.DOUBLE, 6, 7, None),
        (DataType.TEXT, 1, 0, None),
    ],
)
def test_what_goes_together(
    data_type: DataType, encoding: int, compressor: int, problem: str | None
) -> None:
    assert encoding_problem(data_type, encoding, compressor) == problem
