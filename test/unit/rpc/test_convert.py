"""Byte layouts, against the worked examples of client-protocol 5."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError, StatusCode
from cluster.rpc.convert import (
    encode_query_dataset,
    encode_tsblock,
    record_values,
    tablet_to_fragment_parts,
    tablet_types,
)
from iotdb_engine.types import BATCH_DTYPES, Column, ColumnBatch, DataType

B, I, L, F, D, T = DataType  # noqa: E741


def h(text: str) -> bytes:
    return bytes.fromhex(text.replace("|", ""))


TIMES_3 = h("0000000000000001 0000000000000002 0000000000000003")


# ---- records, 5.1 ----


def test_record_example():
    values = h(
        "00 01 | 01 00000001 | 02 0000000000000002 | 03 3fc00000 | 04 4004000000000000 |"
        "05 00000004 74657874"
    )
    types, cells, nulls = record_values(values)
    assert types == (B, I, L, F, D, T)
    assert cells == h("01 00000001 0000000000000002 3fc00000 4004000000000000 00000004 74657874")
    assert nulls == ()


def test_record_newer_types():
    values = h("08 0000018bcfe56800 09 0134d6e6 0a 00000002 cafe 0b 00000001 73")
    types, cells, nulls = record_values(values)
    assert types == (L, I, T, T)
    assert cells == h("0000018bcfe56800 0134d6e6 00000002 cafe 00000001 73")
    assert nulls == ()


def test_record_null_markers():
    assert record_values(h("fe 01 00000007 fe fe 00 01")) == ((I, B), h("00000007 01"), (0, 2, 3))
    assert record_values(b"") == ((), b"", ())
    assert record_values(h("fe")) == ((), b"", (0,))


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ("01 000000", 0),
        ("00 01 04", 1),
        ("05 0000", 0),
        ("05 00000005 61", 0),
        ("00 01 05 ffffffff", 1),
        ("06 00", 0),
        ("07", 0),
        ("0c 00", 0),
        ("fe ff 00000001 61", 1),
    ],
)
def test_record_malformed(values, number):
    with pytest.raises(ClusterError, match=f"value {number} of the record") as caught:
        record_values(h(values))
    assert caught.value.status is StatusCode.WRITE_PROCESS_ERROR


# ---- tablets, 5.2 and 5.3 ----


def test_tablet_example():
    columns = h("00000007 00000000 00000009 | 01 00 00 | 00000002 6869 00000000 00000000")
    section = h("01 02 | 01 02 | 01 02")
    assert tablet_to_fragment_parts(tablet_types([1, 0, 5]), 3, TIMES_3, columns + section) == (
        columns,
        h("02 02 02"),
    )


def test_tablet_without_section():
    values = h("00000001 00000002 | 01 00 | 00000001 61 00000002 6263")
    assert tablet_to_fragment_parts(tablet_types([1, 0, 5]), 2, TIMES_3[:16], values) == (
        values,
        b"",
    )


def test_tablet_nine_rows():
    columns = bytes(9 * 4 * 2)
    assert tablet_to_fragment_parts(
        tablet_types([1, 1]), 9, bytes(72), columns + h("01 49 00 | 00")
    ) == (
        columns,
        h("4900 0000"),
    )


def test_tablet_eight_rows_has_a_spare_byte():
    columns = bytes(8 * 4 * 2)
    assert tablet_to_fragment_parts(
        tablet_types([1, 1]), 8, bytes(64), columns + h("01 80 00 | 00")
    ) == (
        columns,
        h("80 00"),
    )


def test_tablet_eight_rows_without_spare_byte():
    # Node: ceil(size / 8)
    columns = bytes(8 * 4 * 2)
    assert tablet_to_fragment_parts(
        tablet_types([1, 1]), 8, bytes(64), columns + h("01 80 | 01 01")
    )[1] == h("80 01")


def test_tablet_capacity_sized_bitmaps():
    # C++: maxRowNumber / 8 + 1, always present
    columns = bytes(3 * 4 * 3)
    full = bytes(126)
    section = b"\x01" + b"\x02" + full[1:] + b"\x00" + b"\x01" + b"\x04" + full[1:]
    assert tablet_to_fragment_parts(tablet_types([1, 1, 1]), 3, bytes(24), columns + section)[
        1
    ] == h("02 00 04")


def test_tablet_section_without_a_null_is_none():
    columns = bytes(3 * 4 * 2)
    for section in ("00 00", "01 00 | 00", "01 f8 | 01 f8"):  # bits behind the last row
        assert tablet_to_fragment_parts(
            tablet_types([1, 1]), 3, bytes(24), columns + h(section)
        ) == (
            columns,
            b"",
        )


def test_tablet_bits_behind_the_last_row_are_cleared():
    assert tablet_to_fragment_parts(tablet_types([1]), 3, bytes(24), bytes(12) + h("01 fa"))[
        1
    ] == h("02")


def test_tablet_of_a_table():
    values = h(
        "00000002 7231 00000002 7231 | 00000002 6d31 00000000 | 3fc00000 40200000 | 00 | 01 02 | 00"
    )
    body, nulls = tablet_to_fragment_parts(tablet_types([11, 11, 3]), 2, bytes(16), values)
    assert body == values[:-4]
    assert nulls == h("00 02 00")


def test_tablet_newer_types_have_physical_widths():
    values = bytes(8 * 2) + bytes(4 * 2) + h("00000000 00000001 61") + h("00000000 00000000")
    assert tablet_to_fragment_parts(tablet_types([8, 9, 10, 11]), 2, bytes(16), values) == (
        values,
        b"",
    )


def test_tablet_equal_and_different_text_lengths():
    equal = b"".join(struct.pack(">i", 5) + b"abcde" for _ in range(100))
    different = b"".join(struct.pack(">i", n % 7) + b"abcdefg"[: n % 7] for n in range(100))
    for texts in (equal, different, bytes(400)):
        values = texts + bytes(100)
        assert tablet_to_fragment_parts(tablet_types([5, 0]), 100, bytes(800), values) == (
            values,
            b"",
        )


@pytest.mark.parametrize(
    ("types", "size", "times", "values", "text"),
    [
        ([1], 0, 0, b"", "at least one row"),
        ([1], -1, 0, b"", "at least one row"),
        ([1], 2, 15, bytes(8), "timestamps"),
        ([1, 6], 1, 8, bytes(8), "column 1 has unknown type 6"),
        ([1, 99], 1, 8, bytes(8), "column 1 has unknown type 99"),
        ([1, 2], 1, 8, bytes(11), "column 1"),
        ([1, 5], 1, 8, bytes(7), "column 1"),
        ([5], 1, 8, h("00000002 61"), "column 0"),
        ([5], 2, 16, h("ffffffff 00000000"), "column 0"),
        ([5], 20, 160, h("7fffffff") * 40, "column 0"),
        ([1], 3, 24, bytes(12) + h("02 00"), "null section"),
        ([1], 3, 24, bytes(12) + h("00 00"), "null section"),
        ([1], 3, 24, bytes(12) + h("01"), "null section"),
        ([], 1, 8, b"\x00", "null section"),
    ],
)
def test_tablet_malformed(types, size, times, values, text):
    with pytest.raises(ClusterError, match=text) as caught:
        tablet_to_fragment_parts(tablet_types(types), size, bytes(times), values)
    assert caught.value.status is StatusCode.WRITE_PROCESS_ERROR


@given(
    size=st.integers(1, 40),
    nulls=st.lists(st.one_of(st.none(), st.integers(1, 2**40 - 1)), min_size=1, max_size=6),
    form=st.sampled_from(["java", "node", "cpp"]),
)
@settings(max_examples=200, deadline=None)
def test_tablet_null_forms_agree(size, nulls, form):
    """What every writer makes of the same nulls is read as the same nulls."""
    least = (size + 7) // 8
    masks = [0 if mask is None else mask % (1 << size) for mask in nulls]
    width = {"java": size // 8 + 1, "node": least, "cpp": 40 // 8 + 1}[form]
    section = b"".join(
        b"\x01" + mask.to_bytes(width, "little") if mask else b"\x00" for mask in masks
    )
    columns = bytes(size * 4 * len(masks))
    expected = b"".join(mask.to_bytes(least, "little") for mask in masks) if any(masks) else b""
    assert tablet_to_fragment_parts(
        tablet_types([1] * len(masks)), size, bytes(8 * size), columns + section
    ) == (
        columns,
        expected,
    )


# ---- results, 5.4 and 5.6 ----


def batch(times, *columns) -> ColumnBatch:
    made = []
    for data_type, cells in columns:
        filler = b"" if data_type is T else 0
        values = np.array([filler if cell is None else cell for cell in cells], dtype=object)
        valid = np.array([cell is not None for cell in cells], np.bool_)
        made.append(
            Column(
                data_type,
                values if data_type is T else values.astype(BATCH_DTYPES[data_type]),
                None if valid.all() else valid,
            )
        )
    return ColumnBatch(np.array(times, np.int64), tuple(made))


ROWS = [(I, [7, None, 9]), (B, [True, None, False]), (T, [b"hi", None, b""])]


def test_dataset_example():
    dataset = encode_query_dataset(batch([1, 2, 3], *ROWS))
    assert dataset.time == TIMES_3
    assert dataset.valueList == [h("00000007 00000009"), h("01 00"), h("00000002 6869 00000000")]
    assert dataset.bitmapList == [h("a0")] * 3


def test_dataset_nine_rows():
    cells = [1, 2, None, None, None, None, None, None, 3]
    dataset = encode_query_dataset(batch(range(9), (L, cells), (D, [0.5] * 9), (F, [None] * 9)))
    assert dataset.bitmapList == [h("c080"), h("ff80"), h("0000")]
    assert dataset.valueList[0] == struct.pack(">3q", 1, 2, 3)
    assert dataset.valueList[1] == struct.pack(">9d", *[0.5] * 9)
    assert dataset.valueList[2] == b""


def test_dataset_without_columns_keeps_its_times():
    dataset = encode_query_dataset(batch([5, 6]))
    assert (len(dataset.time), dataset.valueList, dataset.bitmapList) == (16, [], [])


def test_tsblock_example():
    block = encode_tsblock(
        batch([1, 2, 3], (B, [True, None, True]), (I, [7, None, 9]), (T, [b"hi", None, b""]))
    )
    assert block == h(
        "00000003 | 00 01 05 | 00000003 | 02 00 01 03 |"
        "00 0000000000000001 0000000000000002 0000000000000003 |"
        "01 40 a0 | 01 40 00000007 00000009 | 01 40 00000002 6869 00000000"
    )


def test_tsblock_other_types_without_nulls():
    block = encode_tsblock(batch([4], (L, [-1]), (F, [1.5]), (D, [2.5]), (B, [False])))
    assert block == h(
        "00000004 | 02 03 04 00 | 00000001 | 02 02 01 02 00 | 00 0000000000000004 |"
        "00 ffffffffffffffff | 00 3fc00000 | 00 4004000000000000 | 00 00"
    )


def test_tsblock_null_booleans_are_zero_bits():
    values = np.array([True, True], np.bool_)  # undefined where not valid
    column = Column(B, values, np.array([False, True]))
    block = encode_tsblock(ColumnBatch(np.array([1, 2]), (column,)))
    assert block.endswith(h("01 80 40"))


def test_tsblock_has_a_row():
    with pytest.raises(ValueError, match="at least one row"):
        encode_tsblock(batch([]))


@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
            st.one_of(st.none(), st.binary(max_size=9)),
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=100, deadline=None)
def test_dataset_is_what_clients_decode(rows):
    dataset = encode_query_dataset(
        batch(range(len(rows)), (I, [row[0] for row in rows]), (T, [row[1] for row in rows]))
    )
    for number, kind in enumerate("it"):
        data, bitmap = dataset.valueList[number], dataset.bitmapList[number]
        assert len(bitmap) == (len(rows) + 7) // 8
        at = 0
        for row, cells in enumerate(rows):
            if not bitmap[row // 8] & (0x80 >> row % 8):
                assert cells[number] is None
                continue
            (value,) = struct.unpack_from(">i", data, at)
            at += 4
            if kind == "t":
                value, at = data[at : at + value], at + value
            assert value == cells[number]
        assert at == len(data)
