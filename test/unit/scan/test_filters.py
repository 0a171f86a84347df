from __future__ import annotations

import numpy as np
import pytest

from cluster.scan.filters import AllOf, AnyOf, ValueFilter
from cluster.scan.value_tests import LikeTest
from iotdb_engine.types import Column, ColumnBatch, DataType


def test_a_filter_is_left_between_its_tests():
    """Of many regular expressions over one batch none is begun when the query has ended."""
    batch = ColumnBatch(
        np.arange(3, dtype=np.int64),
        (Column(DataType.TEXT, np.array([b"a", b"b", b"c"], dtype=object), None),),
    )
    tested = 0

    def check() -> None:
        nonlocal tested
        tested += 1
        if tested == 3:
            raise TimeoutError

    each = ValueFilter(0, LikeTest("%a%"))
    with pytest.raises(TimeoutError):
        AllOf((each, AnyOf((each, each)), each)).mask(batch, check)
    assert tested == 3
