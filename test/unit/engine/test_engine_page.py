"""docs/engine.md says what is so: its example runs, and its counters are those that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iotdb_engine import Engine, EngineOptions, region_flush

PAGE = (Path(__file__).parents[3] / "docs" / "engine.md").read_text()


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example, "docs/engine.md", "exec"), {"__name__": "example"})
    assert (tmp_path / "plant-data").is_dir()


def counters_of_the_page() -> set[str]:
    table = PAGE[PAGE.index("## Counters") :]
    return {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }


def test_counters_are_on_the_page_and_each_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = EngineOptions(memtable_bytes=200_000, stall_s=0.05, page_points=64, chunk_points=128)
    seen: dict[str, set[int]] = {}

    def note(engine: Engine) -> None:
        for name, value in engine.stats().items():
            seen.setdefault(name, set()).add(value)

    original = region_flush.write_table

    def in_the_middle_of_a_flush(*args: Any, **more: Any) -> Any:
        note(engine)
        return original(*args, **more)

    with Engine(tmp_path / "data", options) as engine:
        monkeypatch.setattr(region_flush, "write_table", in_the_middle_of_a_flush)
        note(engine)
        for step in range(12):
            # more at once than the budget allows: the next one has to wait
            engine.write(
                np.arange(20_000) + step, {"a": np.random.default_rng(step).random(20_000)}
            )
            note(engine)
        engine.region(1)
        engine.flush()
        for _ in range(3):
            engine.fetch(["a"])
            note(engine)
        engine.write([1, 2], {"b": [1.0, 2.0]})
        engine.flush()
        engine.set_ttl(["b"], 1000)
        engine.flush()
        engine.compact(0, full=True, wait=True)
        engine.fetch(["a"])
        note(engine)
    assert set(seen) == counters_of_the_page()
    still = {name for name, values in seen.items() if len(values) < 2}
    assert not still
