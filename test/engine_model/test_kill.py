"""A process that writes to real RocksDB is killed in the middle of flushes, again and again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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
            ghosts = max(ghosts, len(region.state.aborted))
        finally:
            with_replay.close(flush=False)
    assert ghosts, "no kill came in the middle of a flush: the test has lost its point"


LOCAL_KILLS = 4


@pytest.mark.parametrize("sync", ["always", "never"])
def test_an_engine_by_itself_loses_nothing_that_it_acknowledged(tmp_path: Path, sync: str) -> None:
    """A process that writes by name is killed again and again; in every mode that costs nothing."""
    rng = random.Random(2)
    folder = tmp_path / "data"
    acknowledged = 0
    for _ in range(LOCAL_KILLS):
        command = [sys.executable, "-m", "harness.local_writer", str(folder), sync]
        path = os.pathsep.join([str(ROOT), str(ROOT / "test")])
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, text=True
        )
        assert process.stdout is not None
        with process:
            assert process.stdout.readline(), "the writer ended by itself"
            threading.Event().wait(rng.random() / 5)
            process.kill()
            lines = [line for line in process.stdout if line.endswith("\n")]
        acknowledged = int(lines[-1]) if lines else acknowledged
        with Engine(folder, OPTIONS) as engine:
            times, columns = engine.fetch(["count", "text"])
            assert engine.verify().intact
        count = len(times)
        assert count >= acknowledged
        assert times.tolist() == list(range(count))
        assert columns["count"].values.tolist() == [n * n for n in range(count)]
        assert columns["text"].values.tolist() == [b"text %d" % n for n in range(count)]
    assert acknowledged > 100
