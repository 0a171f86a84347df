from __future__ import annotations

import pytest

from cluster.config import settings
from cluster.partition.slots import HASH_SALT, SLOT_COUNT, murmur3_x64_128, partition_id, slot_of


@pytest.mark.parametrize(
    ("data", "h1", "h2"),
    [
        (b"", 0, 0),
        (b"hello", 0xCBD8A7B341BD9B02, 0x5B1E906A48AE1D19),
        (b"foo", 16316970633193145697, 9128664383759220103),
        (
            b"The quick brown fox jumps over the lazy dog",
            0xE34BBC7BBC071B6C,
            0x7A433CA9C49A9347,
        ),
    ],
)
def test_hash_has_the_published_values(data: bytes, h1: int, h2: int) -> None:
    assert murmur3_x64_128(data, 0) == (h1, h2)


def test_slots_are_frozen() -> None:
    # data on disk is keyed by slot: these may never change
    assert slot_of("root.sg", 0) == 5806
    assert slot_of("root.sg1", 0) == 4393
    assert slot_of("root.温度", -5) == 6163


def test_slots_spread() -> None:
    hits = [0] * 10
    for number in range(2000):
        slot = slot_of("root.sg", number)
        assert 0 <= slot < SLOT_COUNT
        hits[slot // 1000] += 1
    assert min(hits) > 120


@pytest.mark.parametrize(
    ("time", "expected"), [(0, 0), (9, 0), (10, 1), (-1, 0), (-9, 0), (-10, -1), (-11, -1)]
)
def test_partitions_truncate_as_java_does(time: int, expected: int) -> None:
    assert partition_id(time, 10, True) == expected
    assert partition_id(time, 10, False) == 0


def test_extreme_partitions_have_slots() -> None:
    for time in (-(1 << 63), (1 << 63) - 1):
        assert 0 <= slot_of("root.a", partition_id(time, 1, True)) < SLOT_COUNT


def test_nodes_compare_the_salt_that_they_use() -> None:
    assert settings.HASH_SALT == HASH_SALT
