"""Whatever decodes as a plan can be applied: one that raises would stop every replica of a group.

Plans are made field by field from the checks that decoding makes of them, at and around their
bounds, and go through a whole state machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.member.data_machine import DataMachine
from cluster.member.group_machine import GroupMachine
from cluster.member.meta_machine import MetaMachine
from cluster.plan import fields
from cluster.plan.codec import decode_plan, encode_plan
from cluster.plan.fields import FORMAT_VERSION, PLAN_FIELDS, PlanType
from cluster.plan.plans import (
    AuthorAction,
    AuthorPlan,
    CreateContinuousQueryPlan,
    CreateSeriesPlan,
    Plan,
    SetStorageGroupPlan,
    TemplateAction,
    TemplatePlan,
)
from cluster.raft.types import Entry, EntryKind, LogIndex, Term
from cluster.schema.registry import ContinuousQuery
from cluster.schema.series import SeriesSpec
from cluster.schema.templates import TemplateSeries
from iotdb_engine import DataType, Engine

WORDS = """
    root root.sg root.sg.d root.sg.d.s root.sg.d.`a s a * root.** abcd ops1 root.sg.** root..x t.s
    before_insert 温度 Z
"""
NAMES = st.sampled_from(["", "\x00", *WORDS.split()])
SMALL = st.sampled_from([0, 1, 2, 3, 27, 28, 31, 255])
PAIRS = st.lists(st.tuples(NAMES, NAMES).map(list), max_size=3)
SPECS = st.lists(
    st.tuples(NAMES, st.integers(0, 6), SMALL, SMALL, st.none() | NAMES, PAIRS, PAIRS, PAIRS).map(
        list
    ),
    max_size=3,
)
TEMPLATE_SERIES = st.lists(
    st.tuples(NAMES, st.booleans(), NAMES, st.integers(0, 6), SMALL, SMALL).map(list), max_size=3
)
NUMBERS = st.sampled_from(
    [
        *(-(1 << 63), -1, 0, 1, 2, 1000),
        *((1 << power) + less for power in (31, 32, 63, 64) for less in (-1, 0)),
    ]
)
QUERY = st.tuples(NAMES, NUMBERS, NUMBERS, NUMBERS, NAMES, NAMES, NAMES, NAMES, NUMBERS).map(list)

OF_CHECK: dict[Callable[[Any], Any], st.SearchStrategy[Any]] = {
    fields.text_field: NAMES,
    fields.flag_field: st.booleans(),
    fields.ids_field: st.lists(NUMBERS, max_size=3),
    fields.sg_ids_field: st.lists(NUMBERS, max_size=3),
    fields.pairs_field: PAIRS,
    fields.alias_field: st.none() | NAMES,
    fields.specs_field: SPECS,
}
OF_NAME = {
    "series": TEMPLATE_SERIES,
    "privileges": st.lists(SMALL, max_size=3),
    "paths": st.lists(NAMES, max_size=3),
    "query": QUERY,
    "action": st.integers(0, 12),
    "merge": st.integers(0, 3),
}
CODED = [number for number in PLAN_FIELDS if number is not PlanType.DIGEST]


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    number = draw(st.sampled_from(CODED))
    values = {
        name: draw(OF_NAME.get(name, OF_CHECK.get(check, NUMBERS)))
        for name, check in PLAN_FIELDS[number][1].items()
    }
    return bytes((number, FORMAT_VERSION)) + json.dumps(values).encode()


SPEC = SeriesSpec("s", DataType.TEXT, 0, 1, "a", (), (("s", "v"),), (("a", "b"),))
BEFORE: tuple[Plan, ...] = (
    SetStorageGroupPlan("root.sg"),
    CreateSeriesPlan(1, "root.sg", "root.sg.d", False, (SPEC,), False),
    AuthorPlan(AuthorAction.CREATE_USER, "abcd", password_hash="x"),
    AuthorPlan(AuthorAction.CREATE_ROLE, role="ops1"),
    AuthorPlan(AuthorAction.GRANT_USER, "abcd", privileges=(1, 27), paths=("root.sg",)),
    TemplatePlan(
        TemplateAction.CREATE,
        "s",
        series=(TemplateSeries("", False, SeriesSpec("x", DataType.FLOAT, 8, 1)),),
    ),
    CreateContinuousQueryPlan(ContinuousQuery("a", 1000, 1000, 0, "q", "p", "t", "Z", 0)),
)
"""So that there is something to change."""


def machines(engine: Engine) -> list[GroupMachine]:
    return [MetaMachine(engine.region(0)), DataMachine(engine.region(1))]


def apply(machine: GroupMachine, data: bytes) -> None:
    try:
        machine.check(decode_plan(data))
    except ValueError:
        return  # refused before it is appended
    index = LogIndex(machine.applied_index + 1)
    machine.apply(Entry(index, Term(1), EntryKind.PLAN, data))


@settings(max_examples=150)
@given(st.lists(payloads(), min_size=1, max_size=25))
def test_no_plan_raises_and_the_state_can_be_stored_and_read_back(plans: list[bytes]) -> None:
    engine = Engine(":memory:")
    try:
        both = machines(engine)
        for data in [*map(encode_plan, BEFORE), *plans]:
            for machine in both:
                apply(machine, data)
        for machine in both:
            machine.region.flush()
        for kept, again in zip(both, machines(engine), strict=True):
            assert kept.applied_index == again.applied_index
    finally:
        engine.close(flush=False)


@pytest.mark.parametrize("number", CODED, ids=lambda number: PlanType(number).name)
def test_every_field_has_a_source_here(number: PlanType) -> None:
    for name, check in PLAN_FIELDS[number][1].items():
        assert (
            name in OF_NAME
            or check in OF_CHECK
            or name
            in (
                "ttl",
                "node_id",
                "meta_port",
                "data_port",
                "rpc_port",
                "sg_id",
                "series_id",
                "t_min",
                "t_max",
                "due",
                "next_run",
            )
        )
