"""Acceptance test 2 of the design: a power cut at each point where something is written."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.raft.core import RaftCore
from harness.sim.checkers import SimViolation
from harness.sim.cluster import SimCluster
from harness.sim.disk import SimDisk
from harness.sim.mutations import MUTATIONS
from harness.sim.plan import Action, Plan, Settings

SCENARIO = Plan(
    Settings(seed=20, chaos_us=2_000_000, keep=60),
    (
        *(
            Action(at, "write", (number % 2, number % 3, 1 + number % 3, 20))
            for number, at in enumerate(range(700_000, 1_900_000, 40_000))
        ),
        *(
            Action(at, "read", (2, at % 3, -1, "strong"))
            for at in range(750_000, 1_900_000, 90_000)
        ),
        Action(900_000, "compact", (2,)),
        Action(1_000_000, "transfer", (2,)),
        Action(1_200_000, "compact", (6,)),
        Action(1_300_000, "isolate-leader", ()),
        Action(1_700_000, "mend", ()),
    ),
)
"""Elections, a transfer, a leader that is cut off with entries of its own, compaction."""


class CuttingDisk(SimDisk):
    """The power fails at the `at`-th write of `node`; what it was doing to the disk is `how`."""

    node = 0
    at = 0
    how = ""
    writes: dict[int, int] = {}  # noqa: RUF012 - of the run under way

    def __init__(
        self, scheduler: Any, settings: Settings, node_id: int, membership: Any, kind: Any
    ) -> None:
        super().__init__(scheduler, settings, node_id, membership, kind)
        self.node_id = node_id

    def submit(self, persist: Any, done: Any) -> None:
        count = self.writes[self.node_id] = self.writes.get(self.node_id, 0) + 1
        if (self.node_id, count) == (self.node, self.at):
            self.trap = self.how
        super().submit(persist, done)


def run(node: int, at: int, how: str, core_class: type[RaftCore] = RaftCore) -> dict[int, int]:
    """Run the scenario under the checkers; how many writes each node began."""
    CuttingDisk.node, CuttingDisk.at, CuttingDisk.how, CuttingDisk.writes = node, at, how, {}
    result = SimCluster(SCENARIO, core_class=core_class, disk_class=CuttingDisk).run()
    assert result.crashes == (1 if at else 0)
    assert result.written > 10  # acknowledged; the checkers look for every one of them
    return CuttingDisk.writes


@pytest.mark.parametrize("how", ["lost", "torn", "kept"])
def test_02_power_is_cut_at_each_write_point(how: str) -> None:
    """No vote is given twice, and nothing acknowledged is lost: the simulator's checkers say so."""
    writes = run(0, 0, how)
    assert min(writes.values()) > 20
    for node, count in writes.items():
        for at in range(1, count + 1):
            try:
                run(node, at, how)
            except Exception as error:
                raise AssertionError(f"node {node}, write {at}, {how}: {error!r}") from error


@pytest.mark.mutants
@pytest.mark.parametrize(
    "name",
    [
        "acknowledged before durable",
        "applied before durable",
        "vote leaves before it is durable",
    ],
)
def test_a_cut_reveals_what_was_promised_too_early(name: str) -> None:
    def cut_everywhere(core_class: type[RaftCore]) -> None:
        for node in (1, 2, 3):
            for at in range(1, 30):
                run(node, at, "lost", core_class)

    with MUTATIONS[name].apply() as (core_class, _), pytest.raises(SimViolation):
        cut_everywhere(core_class)
