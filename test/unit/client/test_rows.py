from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.fake_database import dataset
from iotdb_client.errors import DataError, InternalError
from iotdb_client.rows import Page, decode_page, result_shape

TIMES = struct.pack(">3q", 1, 2, 3)


def shape_of(columns, types, index=None, *, ignore_time=False):
    return result_shape(columns, types, index, ignore_time=ignore_time)


def test_the_worked_example_of_the_protocol():
    page = Page(
        TIMES,
        [
            bytes.fromhex("0000000700000009"),
            bytes.fromhex("0100"),
            bytes.fromhex("00000002686900000000"),
        ],
        [b"\xa0"] * 3,
    )
    shape = shape_of(["i", "b", "t"], ["INT32", "BOOLEAN", "TEXT"])
    assert decode_page(page, shape) == [
        (1, 7, True, "hi"),
        (2, None, None, None),
        (3, 9, False, ""),
    ]
    assert [column.name for column in shape.description] == ["Time", "i", "b", "t"]


def test_bits_run_over_into_a_second_byte():
    page = Page(struct.pack(">9q", *range(9)), [struct.pack(">3q", 5, 6, 7)], [b"\xc0\x80"])
    rows = decode_page(page, shape_of(["l"], ["INT64"]))
    assert [row[1] for row in rows] == [5, 6, None, None, None, None, None, None, 7]


def test_duplicate_columns_share_one_column_of_the_page():
    page = Page(TIMES, [struct.pack(">3i", 1, 2, 3), b"\0\0\0\1x" * 3], [b"\xe0", b"\xe0"])
    expected = [(1, 1, "x", 1), (2, 2, "x", 2), (3, 3, "x", 3)]
    columns, types = ["i", "t", "i"], ["INT32", "TEXT", "INT32"]
    assert decode_page(page, shape_of(columns, types, {"i": 0, "t": 1})) == expected
    assert decode_page(page, shape_of(columns, types)) == expected
    swapped = Page(page.time, page.values[::-1], page.bitmaps[::-1])
    assert decode_page(swapped, shape_of(columns, types, {"i": 1, "t": 0})) == expected


def test_rows_without_time():
    shape = shape_of(["storage group"], ["TEXT"], ignore_time=True)
    assert decode_page(Page(TIMES, [b"\0\0\0\1a" * 3], [b"\xe0"]), shape) == [("a",)] * 3
    assert decode_page(Page(b"", [b""], [b""]), shape) == []


@pytest.mark.parametrize(
    ("values", "bitmap"),
    [
        (b"\0\0\0\1", b"\xe0"),  # one value for three
        (b"\0" * 12, b""),  # no bitmap
    ],
)
def test_a_page_that_contradicts_itself_is_refused(values, bitmap):
    with pytest.raises(InternalError):
        decode_page(Page(TIMES, [values], [bitmap]), shape_of(["i"], ["INT32"]))


@pytest.mark.parametrize(
    "values", [b"\0\0\0\5a", b"\xff\xff\xff\xff", b"\0\0\0\1ab", b"\0\0", b"\0\0\0\0\0\0\0\1"]
)
def test_a_cut_text_column_is_refused(values):
    page = Page(struct.pack(">q", 1), [values], [b"\x80"])
    with pytest.raises(InternalError):
        decode_page(page, shape_of(["t"], ["TEXT"]))


def test_text_that_is_not_utf8_says_so():
    page = Page(struct.pack(">q", 1), [b"\0\0\0\1\xff"], [b"\x80"])
    with pytest.raises(DataError, match="UTF-8"):
        decode_page(page, shape_of(["t"], ["TEXT"]))


CELLS = {
    "BOOLEAN": st.booleans(),
    "INT32": st.integers(-(2**31), 2**31 - 1),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "FLOAT": st.floats(width=32, allow_nan=False),
    "DOUBLE": st.floats(allow_nan=False),
    "TEXT": st.text(),
}


@given(st.data())
def test_any_page_comes_back(data):
    types = data.draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=4))
    rows = data.draw(
        st.lists(st.tuples(*(st.none() | CELLS[kind] for kind in types)), min_size=1, max_size=20)
    )
    times = list(range(len(rows)))
    wire = dataset(types, times, rows)
    shape = shape_of([f"c{number}" for number in range(len(types))], types)
    found = decode_page(Page(wire.time, wire.valueList, wire.bitmapList), shape)
    assert found == [(time, *row) for time, row in zip(times, rows, strict=True)]
    assert all(
        type(a) is type(b)
        for f, r in zip(found, rows, strict=True)
        for a, b in zip(f[1:], r, strict=True)
    )
