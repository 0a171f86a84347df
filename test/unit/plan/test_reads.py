from __future__ import annotations

import math

import pytest

from cluster.plan.reads import (
    AggregateRead,
    AppliedIndexRead,
    MatchDevicesRead,
    MatchSeriesRead,
    Read,
    ResolveRead,
    RowsRead,
    decode_aggregates,
    decode_read,
    encode_aggregates,
    encode_read,
)
from iotdb_engine.types import Aggregate, DataType

SERIES = ((1 << 40 | 7, DataType.DOUBLE), (3, DataType.TEXT))


@pytest.mark.parametrize(
    "read",
    [
        AppliedIndexRead(),
        ResolveRead(5, "root.sg.'a.b'", ("s1", "ü")),
        MatchSeriesRead((1, 2), ("root", "**"), True),
        MatchDevicesRead((), ("root", "a*"), False),
        RowsRead(SERIES, (1, 2), -5, 2**63 - 1, True, 10),
        RowsRead(SERIES, None, -(2**63), 0, False, 1),
        AggregateRead(SERIES, None, 0, 9),
    ],
)
def test_reads_survive(read: Read) -> None:
    assert decode_read(encode_read(read)) == read


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'["Nothing", {}]', b'["RowsRead", {"x": 1}]', b"\xff"]
)
def test_malformed_reads_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text, but no other kind of error
        decode_read(data)


def test_aggregates_survive() -> None:
    items = [
        Aggregate(),
        Aggregate(3, -1, 5, 1.5, math.inf, -math.inf, 2.5, 1e300),
        Aggregate(1, 0, 0, b"\x00\xff", "ü".encode(), None, None, None),
        Aggregate(2, 0, 1, True, False, None, None, None),
    ]
    assert decode_aggregates(encode_aggregates(items)) == items
