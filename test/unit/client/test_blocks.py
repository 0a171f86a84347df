"""Blocks as the server writes them and the driver reads them, and tables made of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

import iotdb_client
from cluster.rpc import columnar
from cluster.rpc.columnar import block_bytes, encode_block, encode_blocks
from harness.fragments import make_fragment, make_layout
from iotdb_client import blocks
from iotdb_client.blocks import Blocks, decode_block, decode_pages
from iotdb_client.columns import PageColumns
from iotdb_client.decoders import Decoders
from iotdb_client.errors import DataError, InternalError
from iotdb_client.frames import TableBuilder
from iotdb_client.rows import result_shape, rows_of
from iotdb_engine import T_MAX, T_MIN, Column, ColumnBatch, DataType, Engine
from iotdb_engine.stored import StoredBatch
from iotdb_engine.types import BATCH_DTYPES

KINDS = list(DataType)
NAMES = [kind.name for kind in KINDS]
CELLS = [
    [True, False, None, True],
    [-(2**31), None, 0, 2**31 - 1],
    [None, -(2**63), 2**63 - 1, 7],
    [1.5, float("inf"), None, -0.0],
    [float("nan"), 0.1, -1e308, None],
    ["\u6d4b\u8bd5".encode(), None, b"", b"x" * 300],
]
SHAPE = result_shape(NAMES, NAMES, None, ignore_time=False)


def whole_block(batch: ColumnBatch, *, ignore_time: bool) -> bytes:
    return b"".join(encode_block(batch, ignore_time=ignore_time))


def column(kind: DataType, cells: Sequence[Any]) -> Column:
    valid = np.array([cell is not None for cell in cells])
    values = np.zeros(len(cells), BATCH_DTYPES[kind])
    for number, cell in enumerate(cells):
        if cell is not None:
            values[number] = cell
    return Column(kind, values, None if valid.all() else valid)


def batch(rows: int = 4, nulls: bool = True) -> ColumnBatch:
    columns = []
    for kind, cells in zip(KINDS, CELLS, strict=True):
        some = cells if nulls else [cell for cell in cells if cell is not None]
        columns.append(column(kind, [some[n % len(some)] for n in range(rows)]))
    return ColumnBatch(np.arange(rows, dtype=np.int64) * 1000, tuple(columns))


def stored_batches(rows: int) -> list[ColumnBatch]:
    layout = make_layout(dict(enumerate(KINDS, start=1)))
    cells = [[cell for cell in one if cell is not None] for one in CELLS]
    fragment = make_fragment(
        layout, [(n, [one[n % 3] if n % 5 else one[0] for one in cells]) for n in range(rows)]
    )
    with Engine(":memory:") as engine:
        region = engine.region(1)
        region.write([fragment], 1)
        region.flush()
        series = list(zip(layout.series_ids, layout.types, strict=True))
        return list(region.read(series, T_MIN, T_MAX, stored=True))


def expected_rows(batches: Sequence[ColumnBatch]) -> list[tuple[Any, ...]]:
    rows = []
    for one in batches:
        cells = []
        for part in one.columns:
            values = part.values.tolist()
            if part.type is DataType.TEXT:
                values = [value.decode() if value else "" for value in values]
            if part.valid is not None:
                values = [v if ok else None for v, ok in zip(values, part.valid, strict=True)]
            cells.append(values)
        rows += list(zip(one.times.tolist(), *cells, strict=True))
    return rows


def table_of(pages: Sequence[PageColumns], workers: Any = None) -> Any:
    builder = TableBuilder(SHAPE, "ms", workers)
    middle = len(pages) // 2
    builder.add(pages[:middle])
    builder.add(pages[middle:])
    return builder.finish()


def test_a_page_that_is_written_is_not_kept() -> None:
    sent = stored_batches(5000)
    numbers = [part for part in range(len(KINDS)) if KINDS[part] is not DataType.TEXT]
    names = [NAMES[part] for part in numbers]
    pages = []
    for one in sent:
        some = ColumnBatch(one.times, tuple(one.columns[part] for part in numbers))
        pages.append(decode_block(whole_block(some, ignore_time=False), names))
    with_null = batch()
    some = ColumnBatch(with_null.times, tuple(with_null.columns[part] for part in numbers))
    pages.append(decode_block(whole_block(some, ignore_time=False), names))
    pages[0] = pages[0]._replace(rows_after=sum(page.rows for page in pages[1:]))
    with Decoders(2) as workers:
        builder = TableBuilder(result_shape(names, names, None, ignore_time=False), "ms", workers)
        builder.add(pages)
        assert builder._pages == [None] * len(sent) + [pages[-1]]
        table = builder.finish()
    assert table.rows == 5004
    assert [column.nulls is None for column in table.columns] == [False] * len(numbers)
    assert table.columns[2].values[:5000].tolist() == [
        value for one in sent for value in one.columns[2].values.tolist()
    ]


@pytest.mark.parametrize("rows", [1, 4, 7, 8, 9, 1000])
@pytest.mark.parametrize("nulls", [False, True])
def test_every_type_comes_back(rows: int, nulls: bool) -> None:
    sent = batch(rows, nulls)
    block = whole_block(sent, ignore_time=False)
    (page,) = decode_pages(Blocks([block]), NAMES)
    assert repr(rows_of(page, SHAPE)) == repr(expected_rows([sent]))
    assert 0.5 * block_bytes(sent) < len(block) < 2 * block_bytes(sent) + 300


def test_a_result_without_time() -> None:
    block = whole_block(batch(), ignore_time=True)
    shape = result_shape(NAMES, NAMES, None, ignore_time=True)
    (page,) = decode_pages(Blocks([block]), NAMES)
    assert [len(row) for row in rows_of(page, shape)] == [6] * 4


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("rows", [5000, 20_000, 150_000])
def test_stored_pages_come_back_as_rows_and_tables(join: bool, rows: int) -> None:
    sent = stored_batches(rows)
    assert isinstance(sent[0], StoredBatch)
    encoded = [b"".join(block) for block in encode_blocks(sent, ignore_time=False, join=join)]
    assert len(encoded) == (1 if join else -(-rows // 8192))
    assert sum(map(len, encoded)) < rows * 20
    pages = decode_pages(Blocks(encoded), NAMES)
    expected = expected_rows(sent)
    assert repr([row for page in pages for row in rows_of(page, SHAPE)]) == repr(expected)
    frame = table_of(decode_pages(Blocks(encoded), NAMES)).pandas("int")
    assert repr(list(frame.itertuples(index=False, name=None))) == repr(expected)


@pytest.mark.parametrize(
    "estimates", [[0, 0, 0], [12, 8, 0], [9, 3, 0], [100, 100, 100], [5, 40, 0]]
)
@pytest.mark.parametrize("threads", [0, 3])
def test_a_table_is_right_whatever_the_server_thought(estimates: list[int], threads: int) -> None:
    sent = [batch(4), batch(6, nulls=False), batch(6)]
    pages = [
        decode_block(whole_block(one, ignore_time=False), NAMES)._replace(rows_after=estimate)
        for one, estimate in zip(sent, estimates, strict=True)
    ]
    if threads:
        with Decoders(threads) as workers:
            table = table_of(pages, workers)
    else:
        table = table_of(pages)
    assert table.rows == 16
    found = table.arrow("int").to_pylist()
    expected = expected_rows(sent)
    assert repr([tuple(row.values()) for row in found]) == repr(expected)
    frame = table.pandas("int")
    assert frame["DOUBLE"].isna().sum() == sum(
        row[5] is None or np.isnan(row[5]) for row in expected
    )
    assert frame["INT32"].isna().sum() == sum(row[2] is None for row in expected)


def test_an_estimate_that_no_machine_has_room_for_is_let_go() -> None:
    page = decode_block(whole_block(batch(), ignore_time=False), NAMES)
    with Decoders(1) as workers:
        table = table_of([page._replace(rows_after=1 << 60), page], workers)
    assert table.rows == 8


@pytest.mark.parametrize("place", ["head", "columns", "length", "type", "version", "longer"])
def test_damaged_blocks_are_refused(place: str) -> None:
    good = whole_block(batch(), ignore_time=False)
    types = NAMES
    if place == "head":
        bad = good[:10]
    elif place == "columns":
        bad = good[:20]
    elif place == "length":
        bad = good[:-1]
    elif place == "longer":
        bad = good + b"x"
    elif place == "version":
        bad = b"\x02" + good[1:]
    else:
        bad, types = good, ["INT32", *NAMES[1:]]
    with pytest.raises(InternalError):
        decode_block(bad, types)


@pytest.mark.parametrize("place", ["cut", "longer", "rows", "nested", "unknown", "page"])
def test_damaged_columns_of_several_pages_are_refused(place: str) -> None:
    one = struct.pack("<3d", 1, 2, 3)
    pages = [(0, 3, one), (0, 3, one)]
    if place == "rows":
        pages[1] = (0, 4, one)
    elif place == "nested":
        pages[1] = (65, 3, one)
    elif place == "unknown":
        pages[1] = (9, 3, one)
    elif place == "page":
        pages[1] = (5, 3, one)
    body = b"".join(struct.pack("<BxxxII", kind, n, len(data)) + data for kind, n, data in pages)
    body = {"cut": body[:-1], "longer": body + b"x"}.get(place, body)
    head = struct.pack("<BBHIQ", 1, 1, 1, 6, 0)
    block = head + struct.pack("<BBBxI", DataType.DOUBLE, 65, 0, len(body)) + body
    shape = result_shape(["x"], ["DOUBLE"], None, ignore_time=True)
    with pytest.raises(InternalError):
        rows_of(decode_block(block, ["DOUBLE"]), shape)
    if place == "page":
        builder = TableBuilder(shape, "ms", None)
        builder.add([decode_block(block, ["DOUBLE"])])
        with pytest.raises(InternalError):
            builder.finish()


def test_damaged_columns_are_refused() -> None:
    def block(kind: DataType, encoding: int, body: bytes) -> bytes:
        head = struct.pack("<BBHIQ", 1, 1, 1, 3, 0)
        return head + struct.pack("<BBBxI", kind, encoding, 0, len(body)) + body

    shape = result_shape(["x"], ["DOUBLE"], None, ignore_time=True)
    for encoding, body in ((0, b"short"), (1, b"no pcodec"), (5, b""), (5, b"\x02no"), (99, b"")):
        page = decode_block(block(DataType.DOUBLE, encoding, body), ["DOUBLE"])
        with pytest.raises(InternalError):
            rows_of(page, shape)
        builder = TableBuilder(shape, "ms", None)
        builder.add([decode_block(block(DataType.DOUBLE, encoding, body), ["DOUBLE"])])
        with pytest.raises(InternalError):
            builder.finish()
    text = decode_block(block(DataType.TEXT, 64, b"\x00\x00\x00\x01\xff" * 3), ["TEXT"])
    with pytest.raises(DataError, match="not UTF-8"):
        rows_of(text, result_shape(["x"], ["TEXT"], None, ignore_time=True))


def test_both_sides_mean_the_same_layout() -> None:
    for name in ("LAYOUT_KEY", "LAYOUT", "PAGES_KEY", "PAGES"):
        assert getattr(blocks, name) == getattr(columnar, name)


@pytest.mark.parametrize("fetch_size", [1, 7, 100, 10_000])
def test_rows_and_tables_of_a_database(fetch_size: int) -> None:
    frame = pd.DataFrame(
        {"a": np.arange(10_000) / 8, "b": np.arange(10_000), "c": [f"t{n}" for n in range(10_000)]},
        index=np.arange(10_000) * 10,
    )
    with iotdb_client.connect(":memory:", fetch_size=fetch_size) as connection:
        connection.insert_dataframe("root.sg.d", frame)
        for sql, count in (
            ("select a, b, c from root.sg.d", 10_000),
            ("select a, b, c from root.sg.d where b >= 50 limit 300", 300),
            ("select a, b, c from root.sg.d order by time desc limit 11", 11),
            ("select a, b, c from root.sg.d where b < 0", 0),
        ):
            read = connection.execute(sql).to_pandas(times="int")
            assert len(read) == count
            cursor = connection.execute(sql)
            some = cursor.fetchmany(20) if count < 1000 else []
            rows = some + (cursor.fetchall() if count < 1000 else [cursor.fetchone()])
            assert rows == list(read.head(len(rows)).itertuples(index=False, name=None))
