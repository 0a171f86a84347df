from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config.memory import default_memtable_bytes, memory_bytes
from cluster.config.settings import Settings


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (128 << 20, 64 << 20),
        (8 << 30, 1 << 30),
        (12 << 30, 3 << 29),
        (20 << 30, 5 << 29),
        (256 << 30, 3 << 30),
    ],
)
def test_an_eighth_within_bounds(memory: int, expected: int) -> None:
    assert default_memtable_bytes(memory) == expected


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_containers_limit_counts(tmp_path: Path, name: str) -> None:
    machine = memory_bytes(tmp_path)
    limit = tmp_path / name
    limit.parent.mkdir(exist_ok=True)
    for text, expected in (("max\n", machine), (f"{machine + 1}\n", machine), ("4096\n", 4096)):
        limit.write_text(text)
        assert memory_bytes(tmp_path) == expected


def test_the_setting_goes_first() -> None:
    assert Settings.from_values({"memtable_bytes": "100000000"}).node.memtable_bytes == 100_000_000
    unset = Settings.from_values({}).node.memtable_bytes
    assert unset == default_memtable_bytes(memory_bytes())
