from __future__ import annotations

import random

import numpy as np
import pytest

from cluster.coordinator.plan_router import PlanRouter, take_columns, take_rows
from cluster.errors import ClusterError, StatusCode
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.partition.slots import slot_of
from cluster.raft.types import NodeId
from harness.fragments import make_fragment, make_layout
from iotdb_engine import DataType, Fragment
from iotdb_engine.fragment import decode_columns, decode_times

LAYOUT = make_layout({10 + kind: kind for kind in DataType})


def fragment(times: list[int], rng: random.Random) -> Fragment:
    """Rows of all six types with nulls."""

    def row(time: int) -> list[object]:
        cells = [bool(time % 2), time % 7, time, float(time), time / 2, str(time).encode()]
        return [None if rng.random() < 0.3 else cell for cell in cells]

    return make_fragment(LAYOUT, [(time, row(time)) for time in times])


def cells(piece: Fragment) -> dict[int, list[object]]:
    """Time -> cells, None for null."""
    columns = []
    for values, valid in decode_columns(piece.layout, [piece], range(len(piece.layout.types))):
        mask = np.ones(piece.row_count, bool) if valid is None else valid
        columns.append(
            [v if ok else None for v, ok in zip(values.tolist(), mask.tolist(), strict=True)]
        )
    times = decode_times([piece]).tolist()
    return {time: list(row) for time, *row in zip(times, *columns, strict=True)}


def router(*, enabled: bool, interval: int = 10) -> PlanRouter:
    table = SlotPartitionTable.founding([NodeId(1), NodeId(2), NodeId(3)], 1)
    return PlanRouter(lambda: table, interval, enabled=enabled)


def test_without_partitions_a_fragment_goes_whole_and_uncopied() -> None:
    whole = fragment(list(range(-5, 40)), random.Random(1))
    ((group, piece),) = router(enabled=False).split("root.sg", whole)
    assert piece.slot == slot_of("root.sg", 0)
    assert piece.values is whole.values
    assert group == router(enabled=False).schema_group("root.sg")


def test_within_one_partition_a_fragment_is_not_copied() -> None:
    whole = fragment([11, 12, 19], random.Random(1))
    ((_, piece),) = router(enabled=True).split("root.sg", whole)
    assert piece.values is whole.values
    assert piece.slot == slot_of("root.sg", 1)


@pytest.mark.parametrize("seed", range(10))
def test_every_row_goes_to_the_partition_of_its_own_time(seed: int) -> None:
    rng = random.Random(seed)
    times = rng.sample(range(-60, 60), 30)
    whole = fragment(times, rng)
    expected = cells(whole)
    found: dict[int, list[object]] = {}
    for _, piece in router(enabled=True).split("root.sg", whole):
        for time, row in cells(piece).items():
            assert piece.slot == slot_of("root.sg", int(time / 10))
            assert time not in found
            found[time] = row
    assert found == expected


@pytest.mark.parametrize("interval", [1, 1000, 604_800_000])
def test_the_first_and_the_last_time_have_one_slot_each_however_they_come(interval: int) -> None:
    ends = [-(1 << 63), 1 - (1 << 63), 1 - interval, -interval, 0, (1 << 63) - 1]
    routes = router(enabled=True, interval=interval)
    for _, piece in routes.split("root.sg", fragment(ends, random.Random(1))):
        for time in decode_times([piece]).tolist():
            ((_, alone),) = routes.split("root.sg", fragment([time], random.Random(1)))
            assert piece.slot == alone.slot


def test_taking_rows_and_columns_keeps_cells() -> None:
    rng = random.Random(3)
    whole = fragment(list(range(20)), rng)
    rows = take_rows(whole, np.array([3, 17, 4]))
    assert list(cells(rows)) == [3, 17, 4]
    assert all(cells(rows)[time] == cells(whole)[time] for time in (3, 17, 4))
    columns = take_columns(whole, [5, 0, 2])
    assert columns.layout.series_ids == tuple(LAYOUT.series_ids[n] for n in (5, 0, 2))
    for time, row in cells(columns).items():
        full = cells(whole)[time]
        assert row == [full[5], full[0], full[2]]


def test_without_a_table_the_error_says_so() -> None:
    with pytest.raises(ClusterError) as caught:
        PlanRouter(lambda: None, 1, enabled=False).schema_group("root.sg")
    assert caught.value.status is StatusCode.PARTITION_NOT_READY


def test_groups_of_a_range_are_those_that_own_its_points() -> None:
    partitioned = router(enabled=True)
    everywhere = [group.group_id for group in partitioned.data_groups("root.sg")]
    assert len(everywhere) == 3
    for low, high in [(0, 0), (-9, 9), (-25, -3), (7, 41), (-31, 58), (-700, 700)]:
        found = [group.group_id for group in partitioned.data_groups("root.sg", low, high)]
        owners = {partitioned.group_at("root.sg", time) for time in range(low, high + 1)}
        assert set(found) == owners or (set(found) == set(everywhere) and high - low > 500)
        assert found == [group_id for group_id in everywhere if group_id in found]
    whole = router(enabled=False)
    assert [g.group_id for g in whole.data_groups("root.sg", 5, 900)] == [
        whole.schema_group("root.sg")
    ]
