"""The engine against a plain dictionary: any order of writes, deletes, flushes and crashes."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from harness.engine_machine import FEW, PARTITION, SERIES, EngineMachine
from harness.engine_mutants import MUTANTS
from iotdb_engine import T_MAX, T_MIN, DataType, errors, memtable_flush, memtable_view, region_reads
from iotdb_engine.memtable_pages import PageSize

EXAMPLES = int(os.environ.get("TEST_MODEL_EXAMPLES", "60"))
pytestmark = pytest.mark.timeout(300 + 2 * EXAMPLES)

TEST_SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have memory tables of a few rows read as those of millions are."""
    monkeypatch.setattr(memtable_view, "_BLOCK_CELLS", 24)
    monkeypatch.setattr(memtable_view, "_MILD_OVERLAP", 1.5)
    monkeypatch.setattr(memtable_view, "_HELD_CELLS", 40)
    monkeypatch.setattr(memtable_view, "_SAMPLE_STEP", 3)
    monkeypatch.setattr(memtable_flush, "_PAGE", PageSize(2, 10))
    monkeypatch.setattr(memtable_flush, "_PIECE_PAGES", 2)
    monkeypatch.setattr(region_reads, "PageSize", lambda rows, text_bytes: PageSize(2, text_bytes))


def test_engine_follows_the_model() -> None:
    run_state_machine_as_test(EngineMachine, settings=TEST_SETTINGS)


def rows_in_no_order(seed: int) -> None:
    """Read a slot's rows that came in any order: all pages overlap, so blocks are made of them.

    No time is missing, so no end of a block is without a row. The machine seldom writes so many
    rows of one layout between two flushes.
    """
    rng = random.Random(seed)
    machine = EngineMachine()
    machine.open()
    try:
        ids = rng.sample(FEW, rng.randint(1, 2))
        times = rng.sample(range(PARTITION), PARTITION)
        for time in times:
            cells = [as_value(time, SERIES[i]) for i in ids]
            machine.apply(("write", [(tuple(ids), [(time, cells)])]))
        machine.look()
    finally:
        machine.teardown()


@pytest.mark.parametrize("seed", range(6))
def test_rows_in_no_order_are_all_read(seed: int) -> None:
    rows_in_no_order(seed)


def found_broken() -> bool:
    """Run a broken engine through histories, then the machine; tell whether any noticed."""
    few = settings(
        TEST_SETTINGS,
        max_examples=int(os.environ.get("TEST_MUTANT_EXAMPLES", "1200")),
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        print_blob=False,
    )
    try:
        for seed in range(6):
            rows_in_no_order(seed)
        run_state_machine_as_test(EngineMachine, settings=few)
    except (AssertionError, errors.EngineError, ValueError, IndexError):
        return True
    return False


def chosen_mutants() -> list[str]:
    wanted = os.environ.get("TEST_MUTANTS", "a dropped fsync,a swapped sequence")
    return sorted(MUTANTS) if wanted == "all" else wanted.split(",")


@pytest.mark.mutants
@pytest.mark.parametrize("name", chosen_mutants())
def test_the_model_notices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert found_broken()


def random_entry(rng: random.Random) -> tuple[Any, ...]:
    """Make an entry over few series and times, so that entries meet each other often."""
    what = rng.random()
    ids = rng.sample([2, 3, 4, 5], rng.randint(1, 3))
    if what < 0.6:
        rows = [
            (rng.randint(0, 40), [cell(rng, SERIES[i]) for i in ids])
            for _ in range(rng.choice([1, 2, 12]))
        ]
        return "write", [(tuple(ids), rows)]
    if what < 0.85:
        low = rng.randint(0, 40)
        return "delete", ids, low, low + rng.randint(0, 20)
    return "put", {rng.choice([b"a", b"b"]): rng.choice([None, b"1", b"2"])}


def cell(rng: random.Random, kind: DataType) -> Any:
    if kind is DataType.TEXT:
        return rng.choice([None, b"x", b"yy"])
    return rng.choice([None, *(as_value(number, kind) for number in range(5))])


def as_value(number: int, kind: DataType) -> Any:
    if kind is DataType.TEXT:
        return b"%d" % number
    return float(number) if kind in (DataType.FLOAT, DataType.DOUBLE) else number


def crash_everywhere(seed: int) -> None:
    """Crash a flush after each of its batches; go on after a replay; compare after each."""
    rng = random.Random(seed)
    before = [random_entry(rng) for _ in range(8)]
    during = [random_entry(rng) for _ in range(rng.randint(1, 8))]
    after = [random_entry(rng) for _ in range(3)]
    keep = batches = 0
    while keep <= batches:
        machine = EngineMachine()
        machine.open()
        try:
            for entry in before:
                machine.apply(entry)
            machine.flush()
            for entry in during:
                machine.apply(entry)
            with machine.region.state.lock:
                machine.region.flushing.freeze()
            for _ in machine.region.flushing.store():
                pass
            batches = machine.store.unsynced_count()
            survivor = machine.store.crash(keep)
            machine.engine.close(flush=False)
            machine.start(survivor)
            for index in range(machine.region.applied_index + 1, len(machine.log) + 1):
                machine.apply_to_engine(machine.log[index - 1], index)
            for entry in after:
                machine.apply(entry)
                machine.flush()
                machine.read([2, 3, 4, 5], [T_MIN, T_MAX], False, None, True)
            machine.scan(b"")
            machine.aggregate([2, 3, 4, 5], [0, 30])
        finally:
            machine.teardown()
        keep += 1


@pytest.mark.parametrize("seed", range(6))
def test_a_crash_between_any_two_batches_of_a_flush(seed: int) -> None:
    crash_everywhere(seed)


@pytest.mark.mutants
def test_ghosts_of_an_unfinished_flush_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotdb_engine.region_state.decode_intent", lambda data: (0, frozenset()))
    for seed in range(6):
        try:
            crash_everywhere(seed)
        except AssertionError:
            return
    pytest.fail("reusing the sequence of an unfinished flush went unnoticed")
