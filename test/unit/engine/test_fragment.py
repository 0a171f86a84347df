from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.fragments import make_fragment, make_layout
from iotdb_engine import DataType, Fragment, Layout, check_fragment, check_layout
from iotdb_engine.fragment import BlockDecoder, decode_columns, decode_times
from iotdb_engine.types import WIRE_DTYPES

ALL = make_layout({10 + kind: kind for kind in DataType})
FIXED = make_layout({10 + kind: kind for kind in DataType if kind is not DataType.TEXT})


def good(rows: int = 3) -> Fragment:
    cells = [True, 1, 2, 3.0, 4.0, b"five"]
    return make_fragment(ALL, [(n, cells if n % 2 else [None] * 6) for n in range(rows)])


def test_a_good_fragment_passes() -> None:
    check_fragment(good(1))
    check_fragment(good(9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row_count": 0}, "row_count is 0"),
        ({"slot": -1}, "slot -1"),
        ({"slot": 65536}, "slot 65536"),
        ({"times": bytes(23)}, "24 bytes of times, not 23"),
        ({"nulls": b"\x00"}, "take 6 bytes, not 1"),
        ({"values": good().values + b"x"}, "1 bytes too many"),
        ({"values": good().values[:-6]}, "bytes announced"),
        ({"values": good().values[:4]}, "column 1 (INT32)"),
        ({"values": good().values[:75] + b"\xff\xff\xff\xff"}, "length -1"),
        ({"values": good().values[:77]}, "length is cut off"),
    ],
)
def test_a_damaged_fragment_is_refused_with_the_reason(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        check_fragment(good()._replace(**change))


@given(st.binary(max_size=60), st.integers(1, 3))
def test_no_bytes_make_the_check_fail_otherwise_or_decode_wrongly(values: bytes, rows: int) -> None:
    layout = make_layout({1: DataType.TEXT, 2: DataType.INT32, 3: DataType.TEXT})
    fragment = Fragment(0, layout, rows, bytes(8 * rows), values)
    try:
        check_fragment(fragment)
    except ValueError:
        return
    decoded = decode_columns(layout, [fragment], [0, 1, 2])
    assert [len(column.values) for column in decoded] == [rows] * 3


def test_layouts_are_checked() -> None:
    check_layout(ALL)
    with pytest.raises(ValueError, match="twice"):
        check_layout(ALL._replace(series_ids=(1, 1, 2, 3, 4, 5)))
    with pytest.raises(ValueError, match="2 series and 6 types"):
        check_layout(ALL._replace(series_ids=(1, 2)))
    with pytest.raises(ValueError, match="no column"):
        check_layout(make_layout({}))
    with pytest.raises(ValueError, match="outside"):
        check_layout(make_layout({1 << 64: DataType.INT32}))


VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.BOOLEAN: st.booleans(),
    DataType.INT32: st.integers(-(1 << 31), (1 << 31) - 1),
    DataType.INT64: st.integers(-(1 << 63), (1 << 63) - 1),
    DataType.FLOAT: st.floats(width=32, allow_nan=False),
    DataType.DOUBLE: st.floats(allow_nan=False),
    DataType.TEXT: st.binary(max_size=5),
}


@pytest.mark.parametrize("layout", [ALL, FIXED], ids=["with text", "fixed width"])
@given(data=st.data())
def test_decoding_gives_back_the_rows(layout: Any, data: st.DataObject) -> None:
    """Row counts are mixed so that all three ways of decoding are taken."""
    kinds = layout.types
    nullable = data.draw(st.booleans())
    counts = data.draw(st.lists(st.sampled_from([1, 1, 1, 2, 5, 30]), min_size=1, max_size=6))
    rows = []
    fragments = []
    for count in counts:
        part = []
        for _ in range(count):
            cells = (
                [
                    data.draw(st.none() | VALUES[k]) if nullable else data.draw(VALUES[k])
                    for k in kinds
                ]
                if len(rows) + len(part) < 6
                else [None if nullable else (b"" if k == 5 else 0) for k in kinds]
            )
            part.append((len(rows) + len(part), cells))
        rows += part
        fragments.append(make_fragment(layout, part))
    assert decode_times(fragments).tolist() == [time for time, _ in rows]
    wanted = data.draw(st.lists(st.sampled_from(range(len(kinds))), min_size=1, unique=True))
    for column, (values, valid) in zip(
        wanted, decode_columns(layout, fragments, wanted), strict=True
    ):
        found = values.tolist()
        if valid is not None:
            found = [v if ok else None for v, ok in zip(found, valid.tolist(), strict=True)]
        assert found == [cells[column] for _, cells in rows]


@pytest.mark.parametrize("seed", range(6))
def test_a_block_holds_the_same_columns(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short and long fragments, changing row counts, with and without nulls, any buffer."""
    monkeypatch.setattr("iotdb_engine.fragment._PIECE_BYTES", 300)
    rng = np.random.default_rng(seed)
    kinds = tuple(
        kind
        for kind in (
            DataType.BOOLEAN,
            DataType.INT32,
            DataType.INT64,
            DataType.FLOAT,
            DataType.DOUBLE,
        )
        for _ in range(3)
    )
    layout = Layout(tuple(range(len(kinds))), kinds)
    fragments = []
    for _ in range(30):
        rows = int(rng.choice([1, 2, 2, 2, 9] if seed < 3 else [1, 9, 9, 20]))
        body = b"".join(
            rng.integers(0, 2 if kind is DataType.BOOLEAN else 100, rows)
            .astype(WIRE_DTYPES[kind])
            .tobytes()
            for kind in kinds
        )
        nulls = b""
        if seed % 2 and rng.random() < 0.5:
            nulls = rng.bytes(len(kinds) * ((rows + 7) // 8))
        times = np.arange(rows, dtype=">i8").tobytes()
        fragments.append(Fragment(0, layout, rows, times, body, nulls))
    decoder = BlockDecoder(layout, fragments, np.empty(1000, np.uint8))
    expected = decode_columns(layout, fragments, range(len(kinds)))
    for lo, hi in ((0, 3), (3, 4), (4, 6), (6, 9), (9, 12), (13, 15), (12, 13)):
        block = decoder.block(lo, hi)
        for column in range(lo, hi):
            assert block.dtype == expected[column].values.dtype
            assert block[column - lo].tolist() == expected[column].values.tolist()
    for column, (_, valid) in enumerate(expected):
        got = decoder.valid(column)
        assert (got is None) == (valid is None)
        if got is not None and valid is not None:
            assert got.tolist() == valid.tolist()
