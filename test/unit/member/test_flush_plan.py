"""FLUSH, MERGE and FULL MERGE as a replica applies them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.member.data_machine import DataMachine
from cluster.plan.codec import encode_plan
from cluster.plan.plans import FlushPlan, MergeKind
from cluster.raft.types import Entry, EntryKind, LogIndex, Term
from iotdb_engine import Engine


@pytest.mark.parametrize("kind", list(MergeKind))
def test_a_flush_plan_asks_for_the_merge_it_names(tmp_path: Path, monkeypatch, kind) -> None:
    with Engine(tmp_path / "engine") as engine:
        machine = DataMachine(engine.region(1))
        asked = []
        monkeypatch.setattr(
            machine.region, "request_compaction", lambda *, full: asked.append(full)
        )
        machine.apply(Entry(LogIndex(1), Term(1), EntryKind.PLAN, encode_plan(FlushPlan(kind))))
        assert machine.applied_index == 1
        assert (
            asked == {MergeKind.NONE: [], MergeKind.PARTIAL: [False], MergeKind.FULL: [True]}[kind]
        )
