from __future__ import annotations

import random

import numpy as np
import pytest

from cluster.coordinator.cluster_backend import interleave
from iotdb_engine.types import T_MAX, T_MIN, Column, ColumnBatch, DataType


def batches(times: list[int], rng: random.Random) -> list[ColumnBatch]:
    """Cut times into batches of random sizes; the value of a row is its time."""
    found = []
    at = 0
    while at < len(times):
        size = rng.randint(1, 7)
        part = np.array(times[at : at + size], dtype=np.int64)
        found.append(ColumnBatch(part, (Column(DataType.INT64, part, part % 3 != 0),)))
        at += size
    return found


@pytest.mark.parametrize("descending", [False, True])
def test_interleave_at_the_ends_of_time(descending: bool) -> None:
    rng = random.Random(1)
    streams = [[T_MIN, -5, T_MAX - 1], [T_MIN + 1, 7, T_MAX]]
    merged = interleave(
        [iter(batches(sorted(s, reverse=descending), rng)) for s in streams], descending=descending
    )
    times = [time for batch in merged for time in batch.times.tolist()]
    assert times == sorted(streams[0] + streams[1], reverse=descending)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_interleave_is_a_sort(seed: int, descending: bool) -> None:
    rng = random.Random(seed)
    everything = rng.sample(range(-1000, 1000), rng.randint(0, 200))
    streams: list[list[int]] = [[] for _ in range(rng.randint(1, 4))]
    for time in everything:
        rng.choice(streams).append(time)
    merged = list(
        interleave(
            [iter(batches(sorted(s, reverse=descending), rng)) for s in streams],
            descending=descending,
        )
    )
    times = [time for batch in merged for time in batch.times.tolist()]
    assert times == sorted(everything, reverse=descending)
    for batch in merged:
        (column,) = batch.columns
        assert column.values.tolist() == batch.times.tolist()
        assert column.valid is not None
        assert column.valid.tolist() == [time % 3 != 0 for time in batch.times.tolist()]
