"""The Raft core under the simulator: thousands of faults, and proof that the checkers bite.

The number of seeds is that of CI; `python test/sim/run.py` runs as many as one likes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.sim.cluster import SimCluster, SimResult
from harness.sim.mutations import MUTATIONS, first_catch
from harness.sim.plan import Plan, random_plan
from harness.sim.shrink import failure, shrink

_CHUNK = 50
_PLANS = sorted((Path(__file__).parent / "plans").glob("*.txt"))


def run_seeds(first: int, count: int, nodes: int, mode: str = "mixed") -> SimResult:
    total = SimResult(first)
    for seed in range(first, first + count):
        try:
            total.add(SimCluster(random_plan(seed, nodes, mode)).run())
        except Exception as error:
            raise AssertionError(
                f"seed {seed}: {error!r}; shrink and show it with: python test/sim/run.py "
                f"--nodes {nodes} --mode {mode} --seeds 1 --first-seed {seed}"
            ) from error
    return total


@pytest.mark.parametrize("first", range(0, 350, _CHUNK))
@pytest.mark.parametrize("nodes", [3, 5])
def test_seeds(nodes, first):
    total = run_seeds(first, _CHUNK, nodes)
    # the faults did happen, and the group worked between them
    assert total.crashes > 2 * _CHUNK
    assert total.partitions > 2 * _CHUNK
    assert total.pauses > _CHUNK // 2
    assert total.lost > 20 * _CHUNK
    assert total.written > 20 * _CHUNK
    assert total.reads > 20 * _CHUNK
    assert total.elections > 2 * _CHUNK
    assert total.memberships > 2 * _CHUNK
    assert total.snapshots > _CHUNK // 4
    assert total.flips > 2
    assert total.damaged_pieces > 5


@pytest.mark.parametrize("nodes", [3, 5])
def test_harsh_seeds(nodes):
    total = run_seeds(10_000, _CHUNK, nodes, "harsh")
    assert total.elections > 4 * _CHUNK


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_other_group_sizes(nodes):
    total = run_seeds(20_000, _CHUNK, nodes)
    assert total.written > 20 * _CHUNK


@pytest.mark.parametrize("nodes", [3, 5])
def test_the_products_state_machine_over_the_real_engine(nodes):
    total = run_seeds(40_000, _CHUNK if nodes == 3 else 10, nodes, "engine")
    assert total.written > 200
    assert total.crashes > 20
    assert total.snapshots > 10


def test_without_leases_no_clock_can_do_harm():
    total = run_seeds(30_000, _CHUNK, 3, "no-lease")
    assert total.reads > 20 * _CHUNK


def test_beyond_the_bound_leases_do_harm_and_the_checkers_see_it():
    """The bound is not for decoration: a clock that stands still makes reads stale."""
    broken = [seed for seed in range(60) if failure(random_plan(seed, 3, "clock")) is not None]
    assert len(broken) >= 3
    assert {failure(random_plan(seed, 3, "clock")) for seed in broken[:3]} == {"linearizable reads"}


@pytest.mark.parametrize("mode", ["mixed", "engine"])
def test_a_seed_replays_exactly(mode):
    plan = random_plan(42, 3, mode)
    first, second = (SimCluster(plan, trace=True) for _ in range(2))
    assert first.run() == second.run()
    assert first.trace == second.trace
    assert first.trace
    other = SimCluster(random_plan(43, 3, mode), trace=True)
    other.run()
    assert other.trace != first.trace


def test_a_script_says_all_that_a_plan_says():
    plan = random_plan(7, 5)
    assert Plan.from_text("# a comment\n\n" + plan.to_text()) == plan
    with pytest.raises(ValueError, match="line 2"):
        Plan.from_text("set seed 4\nat noon crash 1\nat five")


@pytest.mark.parametrize("path", _PLANS, ids=lambda path: path.stem)
def test_what_once_went_wrong_goes_well(path):
    text = path.read_text(encoding="utf-8")
    result = SimCluster(Plan.from_text(text)).run()
    assert result.crashes > 0
    assert result.flips == text.count(" flip ")


@pytest.mark.mutants
def test_a_failing_plan_is_shrunk_to_a_short_script_that_fails_alike():
    mutation = MUTATIONS["requests applied twice"]
    with mutation.apply():
        plan = next(p for p in (random_plan(s, 3) for s in range(1, 40)) if failure(p) is not None)
        rule = failure(plan)
        short = shrink(plan, tries=250)
        assert failure(short) == rule
    assert len(short.actions) <= 10 < len(plan.actions)
    assert failure(short) is None


@pytest.mark.mutants
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_noticed(name):
    caught = first_catch(MUTATIONS[name])
    assert caught is not None, f"not noticed within {MUTATIONS[name].seeds} seeds"
