from __future__ import annotations

import numpy as np

from cluster.plan.batch_codec import decode_batches, encode_batches
from iotdb_engine.types import BATCH_DTYPES, Column, ColumnBatch, DataType


def column(data_type: DataType, values: list[object], valid: list[bool] | None) -> Column:
    array = np.empty(len(values), dtype=BATCH_DTYPES[data_type])
    array[:] = values
    return Column(data_type, array, None if valid is None else np.array(valid))


def batch() -> ColumnBatch:
    return ColumnBatch(
        np.array([1, 5, 2**62], dtype=np.int64),
        (
            column(DataType.BOOLEAN, [True, False, True], None),
            column(DataType.INT32, [-1, 0, 2**31 - 1], [True, False, True]),
            column(DataType.INT64, [-(2**63), 0, 2**63 - 1], None),
            column(DataType.FLOAT, [1.5, float("nan"), -0.0], [True, True, False]),
            column(DataType.DOUBLE, [1e308, -1e-308, 0.0], None),
            column(DataType.TEXT, ["ü".encode(), b"", b"gone"], [True, True, False]),
        ),
    )


def test_all_types_survive_with_validity() -> None:
    original = batch()
    (first, second) = decode_batches(encode_batches([original, original]))
    for decoded in (first, second):
        assert decoded.times.tolist() == original.times.tolist()
        for got, want in zip(decoded.columns, original.columns, strict=True):
            assert got.type is want.type
            assert got.values.dtype == want.values.dtype
            mask = np.ones(3, bool) if want.valid is None else want.valid
            if want.valid is None:
                assert got.valid is None
            else:
                assert got.valid is not None
                assert got.valid.tolist() == want.valid.tolist()
            pairs = zip(got.values[mask].tolist(), want.values[mask].tolist(), strict=True)
            assert all(a == b or (a != a and b != b) for a, b in pairs)


def test_no_batches_and_empty_batches() -> None:
    assert decode_batches(encode_batches([])) == []
    empty = ColumnBatch(np.empty(0, np.int64), (column(DataType.TEXT, [], None),))
    (decoded,) = decode_batches(encode_batches([empty]))
    assert len(decoded.times) == 0
    assert len(decoded.columns[0].values) == 0
