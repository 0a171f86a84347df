"""The Raft core under the simulator: thousands of faults, and proof that the checkers bite."""

from __future__ import annotations

import pytest

from harness.sim.cluster import SimCluster, SimResult
from harness.sim.mutations import MUTATIONS, first_catch

_CHUNK = 50


def run_seeds(first: int, count: int, node_count: int, *, harsh: bool = False) -> SimResult:
    total = SimResult(first)
    for seed in range(first, first + count):
        try:
            total.add(SimCluster(seed, node_count, harsh=harsh).run())
        except Exception as error:
            flag = " --harsh" if harsh else ""
            raise AssertionError(
                f"seed {seed}: {error!r}; replay with: python test/sim/run.py "
                f"--nodes {node_count} --seeds 1 --first-seed {seed} --trace{flag}"
            ) from error
    return total


@pytest.mark.parametrize("first", range(0, 250, _CHUNK))
@pytest.mark.parametrize("node_count", [3, 5])
def test_seeds(node_count, first):
    total = run_seeds(first, _CHUNK, node_count)
    # the faults did happen, and the group worked between them
    assert total.crashes > 5 * _CHUNK
    assert total.partitions > 5 * _CHUNK
    assert total.lost > 50 * _CHUNK
    assert total.acked > 20 * _CHUNK
    assert total.reads > 20 * _CHUNK
    assert total.elections > 3 * _CHUNK


@pytest.mark.parametrize("node_count", [3, 5])
def test_harsh_seeds(node_count):
    total = run_seeds(10_000, _CHUNK, node_count, harsh=True)
    assert total.elections > 5 * _CHUNK


@pytest.mark.parametrize("node_count", [1, 2, 4])
def test_other_group_sizes(node_count):
    total = run_seeds(20_000, 20, node_count)
    assert total.acked > 20


def test_a_seed_replays_exactly():
    first, second = (SimCluster(42, 3, trace=True) for _ in range(2))
    assert first.run() == second.run()
    assert first.trace == second.trace
    assert first.trace
    other = SimCluster(43, 3, trace=True)
    other.run()
    assert other.trace != first.trace


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_noticed(name):
    caught = first_catch(MUTATIONS[name])
    assert caught is not None, f"not noticed within {MUTATIONS[name].seeds} seeds"
