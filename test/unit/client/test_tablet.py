from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cluster.rpc.convert import tablet_to_fragment_parts, tablet_types
from iotdb_client.errors import DataError
from iotdb_client.tablet import OutOfRange, encode_columns, encode_times
from iotdb_client.types import DataType

I32, I64, F32, F64, TEXT, BOOL = (
    DataType.INT32,
    DataType.INT64,
    DataType.FLOAT,
    DataType.DOUBLE,
    DataType.TEXT,
    DataType.BOOLEAN,
)


def test_the_worked_example_of_the_protocol():
    found = encode_columns(
        ["i", "b", "t"], [I32, BOOL, TEXT], [[7, None, 9], [True, None, False], ["hi", None, ""]], 3
    )
    assert found.hex() == ("0000000700000000000000090100000000000268690000000000000000010201020102")
    assert encode_times([1, 2, 3]).hex() == "000000000000000100000000000000020000000000000003"


def test_null_bitmaps_have_a_byte_more_than_they_need():
    nine = encode_columns(
        ["a", "b"],
        [BOOL, BOOL],
        [[None if n in (0, 3, 6) else True for n in range(9)], [True] * 9],
        9,
    )
    assert nine[18:].hex() == "01490000"
    eight = encode_columns(["a", "b"], [BOOL, BOOL], [[True] * 7 + [None], [True] * 8], 8)
    assert eight[16:].hex() == "01800000"


def test_masked_cells_are_null():
    """What lies below the mask was written."""
    kinds = [I32, F64, TEXT, BOOL]
    masked = [
        np.ma.array([1, 2], mask=[False, True]),
        np.ma.array([0.5, np.nan], mask=[False, True]),
        np.ma.array(["a", "b"], mask=[False, True]),
        np.ma.array([True, True], mask=[False, True]),
    ]
    lists = [[1, None], [0.5, None], ["a", None], [True, None]]
    names = list("abcd")
    assert encode_columns(names, kinds, masked, 2) == encode_columns(names, kinds, lists, 2)
    whole = [np.ma.array([1, 2])]
    assert encode_columns(["a"], [I32], whole, 2) == encode_columns(["a"], [I32], [[1, 2]], 2)


@pytest.mark.parametrize(
    ("kind", "cells", "columns"),
    [
        (
            F64,
            [0.5, None],
            [
                pd.array([0.5, None], dtype="Float64"),
                pd.Series([0.5, None], dtype="Float64", index=[7, 8]),
                pa.array([0.5, None]),
                pa.chunked_array([[0.5], [None]]),
                pl.Series([0.5, None]),
            ],
        ),
        (
            I32,
            [7, None],
            [pd.array([7, None], dtype="Int32"), pa.array([7, None]), pl.Series([7, None])],
        ),
        (
            BOOL,
            [True, None],
            [pd.array([True, None], dtype="boolean"), pa.array([True, None])],
        ),
        (
            TEXT,
            ["a", None],
            [
                pd.array(["a", None], dtype="string"),
                pd.Series(["a", None], dtype="category"),
                pa.array(["a", None]),
                pl.Series(["a", None]),
            ],
        ),
    ],
)
def test_nulls_of_other_libraries_are_null(kind, cells, columns):
    """Those of floats became NaN, those of other types were refused."""
    for column in columns:
        assert encode_columns(["a"], [kind], [column], 2) == encode_columns(
            ["a"], [kind], [cells], 2
        )


def test_all_types_without_nulls_have_no_null_section():
    columns = [np.array([1, 2]), [1.5, -2.0], np.array([0.5, 0.25], np.float32), [True, False]]
    data = encode_columns(["a", "b", "c", "d"], [I64, F64, F32, BOOL], columns, 2)
    assert len(data) == 16 + 16 + 8 + 2
    assert data[:16].hex() == "00000000000000010000000000000002"
    assert data[16:24].hex() == "3ff8000000000000"


def test_the_server_reads_what_the_driver_writes():
    kinds = [BOOL, I32, I64, F32, F64, TEXT]
    columns = [
        [None, True, False],
        [1, None, 3],
        [-(2**63), 2**63 - 1, None],
        [None, None, 1.5],
        [1.0, 2.0, 3.0],
        ["ä", "", None],
    ]
    data = encode_columns(list("abcdef"), kinds, columns, 3)
    values, nulls = tablet_to_fragment_parts(
        tablet_types(list(map(int, kinds))), 3, encode_times([1, 2, 3]), data
    )
    assert data.startswith(values)
    expected = [[cell is None for cell in column] for column in columns]
    found = [[bool(nulls[c] >> row & 1) for row in range(3)] for c in range(6)]
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "cells", "message"),
    [
        (I32, [2**31], "range of INT32"),
        (I64, [2**63], "INT64|whole number"),
        (I64, [-(2**63) - 1], "whole number"),
        (I32, [1.5], "whole number"),
        (I32, ["1"], "whole number"),
        (F64, ["x"], "not a DOUBLE"),
        (F64, np.array([1j]), "complex128 is no DOUBLE"),
        (F32, np.array(["2024-05-01"], "M8[s]"), r"datetime64\[s\] is no FLOAT"),
        (F32, np.array([5], "m8[s]"), r"timedelta64\[s\] is no FLOAT"),
        (F64, np.array([[1.0]]), "one dimension, not 2"),
        (TEXT, np.array([["a"]]), "one dimension, not 2"),
        (BOOL, ["true"], "True or False"),
        (TEXT, [1], "str or bytes"),
        (TEXT, ["\ud800"], "surrogates"),
    ],
)
def test_values_that_do_not_fit_are_named(kind, cells, message):
    with pytest.raises(DataError, match=message) as caught:
        encode_columns(["speed"], [kind], [cells], 1)
    assert "speed" in str(caught.value)


LARGEST = float(np.finfo(np.float32).max)
BEYOND = float.fromhex("0x1.ffffffp+127")  # half a step above the largest: rounds to infinity


@pytest.mark.parametrize(
    ("kind", "column", "row", "value"),
    [
        (F32, [1.0, 1e39], 1, "1e+39"),
        (F32, [-BEYOND, 1.0], 0, "-3.4028235677973366e+38"),
        (F32, np.array([0.0, 1.0, -1e300]), 2, "-1e+300"),
        (F32, [np.inf, 10**39], 1, "1" + "0" * 39),
        (F32, [None, 1e39], 1, "1e+39"),
        (F32, np.ma.array([1.0, 1e39], mask=[True, False]), 1, "1e+39"),
        (F32, [Decimal("1e39")], 0, "1E+39"),
        (F64, [1.0, Decimal("-1e999")], 1, "-1E+999"),
        (F64, [1.0, 10**400], 1, "1" + "0" * 19 + "… (401 characters)"),
        (F64, [1.0, -(10**5000)], 1, "a number of thousands of digits"),
        (F64, ["1e999"], 0, "1e999"),
        (F64, [np.longdouble("1e4000")], 0, "1e+4000"),
        (F64, np.array(["1e4000"], np.longdouble), 0, "1e+4000"),
    ],
)
def test_a_number_that_would_become_infinite_is_refused(kind, column, row, value):
    """As SQL does; a number is stored rounded at most, never as another one."""
    with pytest.raises(OutOfRange) as caught:
        encode_columns(["speed"], [kind], [column], len(column))
    low, high = (
        ("-3.4028235e+38", "3.4028235e+38")
        if kind is F32
        else ("-1.7976931348623157e+308", "1.7976931348623157e+308")
    )
    expected = f"speed: {value} is outside {low} to {high}, the range of {kind.name}"
    assert str(caught.value) == expected
    assert caught.value.row == row


@pytest.mark.parametrize("column", [[np.inf, -np.inf, np.nan], ["inf", " -Infinity", "NaN"]])
@pytest.mark.parametrize("kind", [F32, F64])
def test_what_is_infinite_stays_so(kind, column):
    data = encode_columns(["a"], [kind], [column], 3)
    found = np.frombuffer(data, ">f4" if kind is F32 else ">f8")
    assert found[0] == np.inf
    assert found[1] == -np.inf
    assert np.isnan(found[2])


def test_what_rounds_to_the_largest_float_is_inside():
    just_below = np.nextafter(BEYOND, 0.0)
    data = encode_columns(["a"], [F32], [[LARGEST, just_below, -just_below]], 3)
    assert np.frombuffer(data, ">f4").tolist() == [LARGEST, LARGEST, -LARGEST]


def test_what_lies_below_a_null_is_in_no_range():
    masks = [np.array([False, True])]
    found = encode_columns(["a"], [F32], [np.array([0.5, 1e300])], 2, masks)
    assert np.frombuffer(found[:4], ">f4").tolist() == [0.5]
    masked = np.ma.array([0.5, 1e300], mask=[False, True])
    assert encode_columns(["a"], [F32], [masked], 2) == encode_columns(
        ["a"], [F32], [[0.5, None]], 2
    )


def test_lengths_must_agree():
    with pytest.raises(DataError, match="2 values for 1 times"):
        encode_columns(["a"], [I32], [[1, 2]], 1)
