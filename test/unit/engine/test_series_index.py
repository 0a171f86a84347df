"""The page tables of a series as one: the way for one chunk tells what the general one does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotdb_engine.key_format import Kind, chunk_key
from iotdb_engine.page import PageEncoder, pack_chunk, unpack_chunk
from iotdb_engine.series_index import Epochs, SeriesIndex
from iotdb_engine.types import BATCH_DTYPES, DataType

KINDS = [kind for kind in DataType if kind in BATCH_DTYPES]


def chunks_of(kind: DataType, cells: list[float | None], page_rows: int) -> list[tuple]:
    """One chunk with a row for each cell, every 10."""
    times = 10 * np.arange(len(cells), dtype=np.int64)
    valid = np.array([cell is not None for cell in cells])
    if kind is DataType.TEXT:
        values = np.array([b"x" if cell is None else b"%f" % cell for cell in cells], object)
    else:
        values = np.array([0 if cell is None else cell for cell in cells]).astype(
            BATCH_DTYPES[kind]
        )
    (column,) = PageEncoder(kind, 1, 1).encode(
        times, values[np.newaxis], None if valid.all() else valid, page_rows
    )
    record, _ = pack_chunk(kind, 3, 0, 5, column)
    key = chunk_key(region=1, kind=Kind.CHUNK, slot=7, series_id=3, first_time=0, sequence=5)
    return [(key, 5, unpack_chunk(record))]


CELLS = st.lists(
    st.none() | st.integers(-50, 50).map(float) | st.just(math.nan), min_size=1, max_size=24
).filter(lambda cells: any(cell is not None for cell in cells))


@given(st.sampled_from(KINDS), CELLS, st.sampled_from([1, 3, 100]))
def test_one_chunk(kind: DataType, cells: list[float | None], page_rows: int) -> None:
    if kind not in (DataType.FLOAT, DataType.DOUBLE, DataType.TEXT):
        cells = [0.0 if cell is not None and math.isnan(cell) else cell for cell in cells]
    chunks = chunks_of(kind, cells, page_rows)
    found = SeriesIndex.of(chunks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeriesIndex, "_of_one", lambda _: None)
        expected = SeriesIndex.of(chunks)
    for name in ("pages", "chunk_of", "number_of", "top"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
    for name in ("kind", "chunks", "disjoint", "layout_key"):
        assert getattr(found, name) == getattr(expected, name)
    mine = found.whole()
    count = sum(cell is not None for cell in cells)
    assert mine.count == count
    if kind is not DataType.TEXT:
        values = [cell for cell in cells if cell is not None]
        first = np.array(values).astype(BATCH_DTYPES[kind])[0].item()
        assert type(mine.first) is type(first)
        assert mine.first == first or math.isnan(first)


def test_epochs_are_shared_until_they_change() -> None:
    epochs = Epochs()
    before = epochs.copy()
    assert epochs.copy() is before
    epochs.bump([5], 2)
    after = epochs.copy()
    assert (before.of(5), after.of(5), after.of(6)) == (0, 2, 0)
    epochs.bump([5], 1)
    assert epochs.copy().of(5) is None
    epochs.bump([5], 1)
    epochs.bump_all()
    assert epochs.copy().of(5) == 6
    assert after.of(5) == 2
