"""A process that writes to real RocksDB is killed in the middle of flushes, again and again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

from harness.engine_script import OPTIONS, REGION, SERIES, ScriptModel, apply
from harness.fragments import plain_rows
from iotdb_engine import T_MAX, T_MIN, Engine

ROOT = Path(__file__).parents[2]
KILLS = 6


def run_until_killed(folder: Path, rng: random.Random) -> int:
    """Return the last durable index that the process told before it was killed."""
    command = [sys.executable, "-m", "harness.engine_script", str(folder)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "test")])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, text=True
    )
    assert process.stdout is not None
    with process:
        durable = 0
        for _ in range(rng.randint(1, 8)):
            line = process.stdout.readline()
            assert line, "the writer ended by itself"
            durable = int(line)
        # Any moment is a good one; right after a flush was told would always be the same one.
        threading.Event().wait(rng.random() / 20)
        process.kill()
        for line in process.stdout:
            if line.endswith("\n"):
                durable = int(line)
    return durable


def test_kill_in_the_middle_of_flushes(tmp_path: Path) -> None:
    rng = random.Random(1)
    folder = tmp_path / "data"
    model = ScriptModel()
    ghosts = kills = 0
    while kills < KILLS or (not ghosts and kills < 5 * KILLS):
        kills += 1
        durable = run_until_killed(folder, rng)
        with_replay = Engine(folder, OPTIONS)
        try:
            region = with_replay.region(REGION)
            assert region.applied_index >= durable
            # The model cannot go back: a replay always reaches further than the last one did.
            last = max(model.index, region.applied_index) + rng.randint(0, 30)
            for index in range(region.applied_index + 1, last + 1):
                apply(region, index)
            model.advance(last)
            found = plain_rows(region.read(list(SERIES.items()), T_MIN, T_MAX))
            assert found == model.rows()
            assert region.scan(b"") == sorted(model.kv.items())
            ghosts = max(ghosts, len(region._aborted))
        finally:
            with_replay.close(flush=False)
    assert ghosts, "no kill came in the middle of a flush: the test has lost its point"
