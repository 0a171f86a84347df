"""What meta plans make of the meta state, and what is stored of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError, StatusCode
from cluster.member.meta_plans import apply_meta_plan
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.plan.outcomes import Outcome
from cluster.plan.plans import (
    DeleteStorageGroupsPlan,
    FlushPlan,
    MetaPlan,
    RegisterNodePlan,
    SetPartitionTablePlan,
    SetStorageGroupPlan,
    SetUserPlan,
)
from cluster.raft.types import NodeId
from cluster.schema.meta_state import MetaState
from cluster.schema.paths import PathPattern, split_path
from cluster.schema.registry import Registry

ALL = PathPattern.parse("root.**")


class Stored:
    """A MetaState with what it asked to be stored."""

    def __init__(self) -> None:
        self.state = MetaState()
        self.pairs: dict[bytes, bytes] = {}
        self.index = 0

    def apply(self, plan: MetaPlan) -> Outcome:
        self.index += 1
        outcome, puts = apply_meta_plan(self.state, plan, self.index)
        for key, value in puts.items():
            if value is None:
                del self.pairs[key]
            else:
                self.pairs[key] = value
        if not outcome.ok:
            assert not puts
        return outcome

    def reloaded(self) -> MetaState:
        return MetaState.load(sorted(self.pairs.items()))


def test_storage_groups_do_not_nest() -> None:
    stored = Stored()
    assert stored.apply(SetStorageGroupPlan("root.a.b")) == Outcome(StatusCode.SUCCESS, value=1)
    exists = StatusCode.PATH_ALREADY_EXISTS
    assert stored.apply(SetStorageGroupPlan("root.a.b"))[:2] == (
        exists,
        "root.a.b has already been set to storage group",
    )
    assert stored.apply(SetStorageGroupPlan("root.a.b.c"))[:2] == (
        exists,
        "root.a.b has already been set to storage group",
    )
    assert stored.apply(SetStorageGroupPlan("root.a"))[:2] == (
        exists,
        "some children of root.a have already been set to storage group",
    )
    assert stored.apply(SetStorageGroupPlan("root.a.bb")).ok
    illegal = stored.apply(SetStorageGroupPlan('root."x"'))
    assert illegal.status is StatusCode.PATH_ILLEGAL
    assert stored.state.match_storage_groups(ALL) == [("root.a.b", 1), ("root.a.bb", 5)]


def test_longest_prefix_look_up() -> None:
    stored = Stored()
    stored.apply(SetStorageGroupPlan("root.a.b"))
    state = stored.state
    for path in ("root.a.b", "root.a.b.d", "root.a.b.d.e.f"):
        assert state.storage_group_of(split_path(path)) == ("root.a.b", 1)
    for path in ("root", "root.a", "root.a.c", "root.b", "root.a.b2"):
        assert state.storage_group_of(split_path(path)) is None


def test_matching() -> None:
    stored = Stored()
    for path in ("root.ln.wf01.wt01", "root.ln.wf01.wt02", "root.ln1.wf01.wt01"):
        stored.apply(SetStorageGroupPlan(path))

    def matched(text: str, prefix: bool = False) -> list[str]:
        pattern = PathPattern.parse(text, prefix=prefix)
        return [path for path, _ in stored.state.match_storage_groups(pattern)]

    assert matched("root.ln.wf01.**") == ["root.ln.wf01.wt01", "root.ln.wf01.wt02"]
    assert matched("root.ln.wf01.wt01") == ["root.ln.wf01.wt01"]
    assert matched("root.ln.wf01.wt01.status") == []
    assert matched("root.ln.wf01") == []
    assert matched("root.ln.wf01", prefix=True) == ["root.ln.wf01.wt01", "root.ln.wf01.wt02"]
    assert matched("root.*.wf01.wt01") == ["root.ln.wf01.wt01", "root.ln1.wf01.wt01"]


def test_delete_frees_the_path_but_not_the_id() -> None:
    stored = Stored()
    stored.apply(SetStorageGroupPlan("root.a.b"))
    assert stored.apply(DeleteStorageGroupsPlan((1, 99))) == Outcome(StatusCode.SUCCESS, value=[1])
    assert stored.state.match_storage_groups(ALL) == []
    assert stored.pairs == {}
    assert stored.apply(SetStorageGroupPlan("root.a")).value == 3


def test_an_entry_applied_again_has_the_same_outcome() -> None:
    state = MetaState()
    first, _ = apply_meta_plan(state, SetStorageGroupPlan("root.a"), 7)
    again, puts = apply_meta_plan(state, SetStorageGroupPlan("root.a"), 7)
    assert again == first
    assert puts == {}


def test_partition_table_only_gets_newer() -> None:
    stored = Stored()
    ring = (NodeId(1), NodeId(2))
    table = SlotPartitionTable.founding(ring, 1)
    other = SlotPartitionTable.founding(ring, 2)
    newer = SlotPartitionTable(2, 2, other.ring, other.groups, other.slots)
    assert stored.state.partition_table == b""
    assert stored.apply(SetPartitionTablePlan(table.encode())).value is True
    assert stored.apply(SetPartitionTablePlan(other.encode())).value is False
    assert stored.state.partition_table == table.encode()
    assert stored.apply(SetPartitionTablePlan(newer.encode())).value is True
    assert not stored.apply(SetPartitionTablePlan(b"damaged")).ok
    assert stored.state.partition_table == newer.encode()
    assert stored.reloaded().partition_table == newer.encode()
    before = stored.reloaded()
    apply_meta_plan(before, SetPartitionTablePlan(table.encode()), 99)
    assert before.partition_table == newer.encode()


def test_first_incarnation_stays() -> None:
    stored = Stored()
    plan = RegisterNodePlan(5, "one", "10.0.0.1", 9003, 40010, "10.0.0.1", 6667)
    assert stored.apply(plan).ok
    moved = RegisterNodePlan(5, "one", "10.0.0.2", 9003, 40010, "10.0.0.2", 6667)
    assert stored.apply(moved).ok
    refused = stored.apply(RegisterNodePlan(5, "two", "10.0.0.3", 9003, 40010, "10.0.0.3", 6667))
    assert not refused.ok
    assert "another data folder" in refused.message
    (info,) = stored.reloaded().nodes()
    assert info._asdict() == vars(moved)
    assert stored.pairs[b"node/" + (5).to_bytes(8, "big")] == (
        b'{"data_port": 40010, "incarnation": "one", "internal_ip": "10.0.0.2", '
        b'"meta_port": 9003, "node_id": 5, "rpc_address": "10.0.0.2", "rpc_port": 6667}'
    )
    assert stored.state.node(NodeId(5)) == info
    assert stored.state.node(NodeId(6)) is None


def test_users() -> None:
    stored = Stored()
    assert stored.state.password_hash("root") is None
    stored.apply(SetUserPlan("root", "h1"))
    stored.apply(SetUserPlan("root", "h2"))
    stored.apply(SetUserPlan("ann", "h3"))
    for state in (stored.state, stored.reloaded()):
        assert state.password_hash("root") == "h2"
        assert state.auth.users() == ["ann", "root"]


def test_a_damaged_record_is_named() -> None:
    for key, value in (
        (b"node/" + bytes(8), b"{"),
        (b"table", b"x"),
        (b"sg/nonsense", b"\x01"),
        (b"user/a", b"\xff"),
    ):
        with pytest.raises(ValueError, match="damaged"):
            MetaState.load([(key, value)])
    assert MetaState.load([(b"other/key", b"")]).partition_table == b""


def test_a_data_plan_is_refused() -> None:
    with pytest.raises(TypeError, match="FlushPlan"):
        apply_meta_plan(MetaState(), FlushPlan(), 1)  # type: ignore[arg-type]


node_names = st.sampled_from(["a", "b", "c"])
sg_paths = st.lists(node_names, min_size=1, max_size=3).map(
    lambda nodes: ".".join(["root", *nodes])
)


@settings(max_examples=60)
@given(st.lists(sg_paths | st.integers(1, 20), max_size=20), sg_paths)
def test_equals_a_plain_dictionary(steps: list[str | int], probe: str) -> None:
    stored = Stored()
    model: dict[str, int] = {}
    for step in steps:
        if isinstance(step, int):
            stored.apply(DeleteStorageGroupsPlan((step,)))
            model = {path: sg_id for path, sg_id in model.items() if sg_id != step}
        else:
            outcome = stored.apply(SetStorageGroupPlan(step))
            clash = any(
                (step + ".").startswith(path + ".") or (path + ".").startswith(step + ".")
                for path in model
            )
            assert outcome.ok is not clash
            if not clash:
                model[step] = stored.index
    owners = [item for item in model.items() if (probe + ".").startswith(item[0] + ".")]
    for state in (stored.state, stored.reloaded()):
        assert state.match_storage_groups(ALL) == sorted(model.items())
        assert state.storage_group_of(split_path(probe)) == (owners[0] if owners else None)


@pytest.mark.parametrize(
    ("class_name", "told"),
    [("m:A", "and the class name"), ("m:B", "but a different class name")],
)
def test_second_registration_of_a_function_tells_whether_its_class_is_the_same(class_name, told):
    registry = Registry()
    registry.create_function("f", "m:A")
    with pytest.raises(ClusterError) as caught:
        registry.create_function("F", class_name)
    assert caught.value.message.endswith(
        f"with the same function name {told} has already been registered."
    )
