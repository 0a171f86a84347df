"""Acceptance test 14: the state after replay equals the state after a snapshot was taken over."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.errors import StatusCode
from cluster.member.data_machine import DataMachine
from cluster.member.digest import ReplicaDigest
from cluster.member.group_machine import GroupMachine
from cluster.member.meta_machine import MetaMachine
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.plan import plans
from cluster.plan.codec import PlanType, decode_plan, encode_plan
from cluster.plan.request_id import RequestId
from cluster.raft.types import Entry, EntryKind, LogIndex, NodeId, Term
from cluster.rpc.deadline import Deadline
from cluster.schema.registry import ContinuousQuery
from cluster.schema.series import AlterAction, SeriesSpec
from cluster.schema.templates import TemplateSeries
from harness.fragments import make_fragment, make_layout
from iotdb_engine import DataType, Engine, EngineOptions
from iotdb_engine.errors import Closed

SMALL = EngineOptions(page_points=10, chunk_points=50, batch_bytes=3000)
SG = 5
SERIES = [SG << 32 | number for number in range(1, 7)]
TYPES = list(DataType)
VALUES: dict[DataType, Callable[[int], Any]] = {
    DataType.BOOLEAN: lambda n: n % 3 == 0,
    DataType.INT32: lambda n: n,
    DataType.INT64: lambda n: n << 33,
    DataType.FLOAT: lambda n: struct.unpack("f", struct.pack("f", n / 7))[0],
    DataType.DOUBLE: lambda n: n / 7 if n % 5 else float("nan"),
    DataType.TEXT: lambda n: b"text %d" % n,
}


def spec(number: int, **more: Any) -> SeriesSpec:
    return SeriesSpec(f"m{number}", TYPES[number], 0, 1, **more)


def insert(lo: int, hi: int, *numbers: int, slot: int = 0) -> plans.InsertPlan:
    layout = make_layout({SERIES[n]: TYPES[n] for n in numbers})
    rows = [
        (t, [None if (t + n) % 9 == 0 else VALUES[TYPES[n]](t) for n in numbers])
        for t in range(lo, hi)
    ]
    random.Random(lo).shuffle(rows)
    return plans.InsertPlan((make_fragment(layout, rows, slot),))


def create(device: str, specs: tuple[SeriesSpec, ...], **more: Any) -> plans.CreateSeriesPlan:
    options: dict[str, Any] = {"aligned": False, "if_absent": False, **more}
    return plans.CreateSeriesPlan(
        sg_id=SG, sg_path="root.sg", device=device, specs=specs, **options
    )


DATA_SCRIPT: list[plans.Plan] = [
    create("root.sg.d", (spec(0, alias="other name", tags=(("place", "höfn"),)), spec(1), spec(2))),
    create("root.sg.d", (spec(3), spec(4, attributes=(("unit", "K"),)), spec(5))),
    create("root.sg.d", (spec(1),)),  # refused: it is there
    create("root.sg.e", (spec(0), spec(1)), aligned=True, if_absent=True),
    insert(0, 200, 0, 1, 2, 3, 4, 5),
    plans.FlushPlan(),
    insert(150, 250, 0, 3, 5, slot=9),
    insert(0, 20, 1, 2),
    plans.DeleteDataPlan((SERIES[0], SERIES[4]), 30, 60),
    insert(40, 45, 4),
    plans.DeleteSeriesPlan((SERIES[2],)),
    insert(500, 505, 2),  # refused: dropped
    plans.DropStorageGroupDataPlan((77, 78)),
    plans.SetDataTtlPlan((99, 98), 1 << 40),
    create("root.sg.t", (spec(0), spec(1)), if_absent=True, template="t1"),
    plans.AlterSeriesPlan(
        SERIES[0], AlterAction.UPSERT, (("place", "vík"),), (("unit", "m"),), "new name"
    ),
    plans.AlterSeriesPlan(SERIES[1], AlterAction.RENAME, (("none", "other"),)),  # refused
    plans.DigestPlan(),
]


def registration(port: int) -> plans.RegisterNodePlan:
    return plans.RegisterNodePlan(3, "abc", "127.0.0.1", port, port + 1, "127.0.0.1", port + 2)


TEMPLATE = (
    TemplateSeries("", True, SeriesSpec("s1", DataType.INT32, 2, 1)),
    TemplateSeries("gps", False, SeriesSpec("x", DataType.FLOAT, 8, 1)),
)
META_SCRIPT: list[plans.Plan] = [
    plans.SetUserPlan("root", "hash"),
    plans.SetPartitionTablePlan(
        SlotPartitionTable.founding((NodeId(3), NodeId(4), NodeId(5)), 3).encode()
    ),
    registration(1000),
    registration(2000),
    plans.SetStorageGroupPlan("root.a.b"),
    plans.SetStorageGroupPlan("root.a"),  # refused
    plans.SetStorageGroupPlan("root.höfn"),
    plans.SetStorageGroupPlan("root.gone"),
    plans.DeleteStorageGroupsPlan((9,)),
    plans.SetUserPlan("root", "another"),
    plans.SetTtlPlan((5, 7, 99), 3600_000),
    *(
        plans.AuthorPlan(action, "anna", "ops1", "hash", (1, 3), ("root.b", "root.a"))
        for action in plans.AuthorAction
        if "DROP" not in action.name and "REVOKE" not in action.name
    ),
    plans.AuthorPlan(plans.AuthorAction.REVOKE_USER, "anna", "", "", (1,), ("root.b",)),
    plans.AuthorPlan(plans.AuthorAction.DROP_USER, "root"),  # refused
    plans.TemplatePlan(plans.TemplateAction.CREATE, "t1", aligned=True, series=TEMPLATE[:1]),
    plans.TemplatePlan(plans.TemplateAction.APPEND, "t1", series=TEMPLATE[1:]),
    plans.TemplatePlan(plans.TemplateAction.SET, "t1", "root.a.b.c"),
    plans.TemplatePlan(plans.TemplateAction.DROP, "t1"),  # refused
    plans.FunctionPlan(plans.RegistryAction.CREATE, "f", "module:Class"),
    plans.TriggerPlan(plans.RegistryAction.CREATE, "t", "before insert", "root.a.b", "m:C"),
    plans.TriggerPlan(plans.RegistryAction.STOP, "t"),
    plans.CreateContinuousQueryPlan(
        ContinuousQuery("cq", 1000, 1000, 0, "select", "select into", "root.t", "Z", 1000)
    ),
    plans.ContinuousQueryPlan(plans.RegistryAction.CLAIM, "cq", 1000, 2000),
    plans.SystemModePlan(True),
    plans.DigestPlan(),
]

KINDS: dict[str, tuple[type[GroupMachine], list[plans.Plan]]] = {
    "data": (DataMachine, DATA_SCRIPT),
    "meta": (MetaMachine, META_SCRIPT),
}


def entries(script: list[plans.Plan]) -> list[Entry]:
    """Every second plan is of a request."""
    found = []
    for index, plan in enumerate(script, 1):
        request = RequestId(1234, index, max(1, index - 3)) if index % 2 else None
        found.append(Entry(LogIndex(index), Term(1), EntryKind.PLAN, encode_plan(plan, request)))
    return found


def apply_all(machine: GroupMachine, todo: list[Entry]) -> list[Any]:
    return [machine.apply(entry) for entry in todo if entry.index > machine.applied_index]


def digest(machine: GroupMachine) -> ReplicaDigest:
    index = LogIndex(machine.applied_index + 1)
    machine.apply(Entry(index, Term(1), EntryKind.PLAN, encode_plan(plans.DigestPlan())))
    found = machine.digests.get(index, Deadline.after(0))
    assert found is not None
    return found


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(":memory:", SMALL) as made:
        yield made


def test_the_scripts_have_every_kind_of_statement() -> None:
    """Whoever adds a kind of plan adds it to a script, so that snapshots are known to carry it."""
    covered = {encode_plan(plan)[0] for _, script in KINDS.values() for plan in script}
    assert covered == set(PlanType)


@pytest.mark.parametrize("kind", KINDS)
def test_14_state_after_replay_equals_state_after_snapshot(kind: str, engine: Engine) -> None:
    """At every index of the script: export there, take over elsewhere, and go on on both."""
    make, script = KINDS[kind]
    todo = entries(script)
    source = make(engine.region(1))
    for at in range(len(todo) + 1):
        if at:
            source.apply(todo[at - 1])
        export = engine.export(1)
        assert export.index == at
        with Engine(":memory:", SMALL) as other:
            target = make(other.region(1))
            apply_all(target, todo[: at // 2])
            transfer = other.begin_import(1, "x")
            while records := export.piece(transfer.progress.last_key, 5000):
                transfer.write(records)
            target.adopt(
                other.finish_import(transfer, index=at, sequence=export.sequence, origin=b"")
            )
            assert target.applied_index == at
            outcomes = apply_all(target, todo)
            with Engine(":memory:") as third:
                replayed = make(third.region(1))
                assert apply_all(replayed, todo)[at:] == outcomes
                one, two = digest(target), digest(replayed)
                assert one.leaves == two.leaves
                assert one.root == two.root
                assert len(one.leaves) > 5
        export.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_replays_to_the_same_digest(kind: str, tmp_path: Any) -> None:
    make, script = KINDS[kind]
    todo = entries(script)
    with Engine(tmp_path / "a", SMALL) as engine:
        machine = make(engine.region(1))
        apply_all(machine, todo[: len(todo) // 2])
        engine.region(1).flush()
        apply_all(machine, todo)
        expected = digest(machine)
        engine.close(flush=False)
    with Engine(tmp_path / "a", SMALL) as engine:
        machine = make(engine.region(1))
        assert machine.applied_index == len(todo) // 2
        apply_all(machine, todo)
        assert digest(machine).leaves == expected.leaves


def test_digests_tell_states_apart(engine: Engine) -> None:
    todo = entries(DATA_SCRIPT)
    one, two = DataMachine(engine.region(1)), DataMachine(engine.region(2))
    apply_all(one, todo)
    apply_all(two, todo)
    same = digest(one)
    assert digest(two).root == same.root
    extra = insert(99_999, 100_000, 1)
    two.apply(Entry(LogIndex(two.applied_index + 1), Term(1), EntryKind.PLAN, encode_plan(extra)))
    other = digest(two)
    assert other.root != same.root
    differing = [a.label for a, b in zip(same.leaves, other.leaves, strict=True) if a != b]
    assert differing == [b"s" + SERIES[1].to_bytes(8, "big")]


def test_11_a_request_that_comes_twice_is_applied_once(engine: Engine) -> None:
    """Acceptance test 11, in the state machine: also when its twin is far behind, or a snapshot."""
    machine = DataMachine(engine.region(1))
    apply_all(machine, entries(DATA_SCRIPT[:4]))

    def send(plan: plans.Plan, request: RequestId) -> Any:
        index = LogIndex(machine.applied_index + 1)
        return machine.apply(Entry(index, Term(1), EntryKind.PLAN, encode_plan(plan, request)))

    first = send(insert(0, 5, 1), RequestId(7, 1, 1))
    created = send(create("root.sg.f", (spec(0),)), RequestId(7, 2, 1))
    send(plans.DeleteDataPlan((SERIES[1],), 0, 100), RequestId(8, 1, 1))
    assert send(insert(0, 5, 1), RequestId(7, 1, 1)) == first
    assert send(create("root.sg.f", (spec(0),)), RequestId(7, 2, 1)) == created
    points = machine.region.aggregate([(SERIES[1], TYPES[1])], 0, 1000)[0]
    assert points.count == 0  # the delete stands
    # what the coordinator has settled is forgotten; its stragglers are not applied
    send(insert(200, 201, 1), RequestId(7, 3, 3))
    late = send(insert(0, 5, 1), RequestId(7, 1, 1))
    assert late.definite is False
    assert machine.region.aggregate([(SERIES[1], TYPES[1])], 0, 1000)[0].count == 1
    # and all of that survives a flush and a snapshot
    export = engine.export(1)
    with Engine(":memory:", SMALL) as other:
        transfer = other.begin_import(1, "x")
        transfer.write(export.piece(b"", 1 << 30))
        region = other.finish_import(
            transfer, index=export.index, sequence=export.sequence, origin=b""
        )
        machine = DataMachine(region)
        (refused,) = send(insert(200, 201, 1), RequestId(7, 3, 3))
        assert not refused
        assert machine.region.aggregate([(SERIES[1], TYPES[1])], 0, 1000)[0].count == 1
    export.close()


def random_requests(seed: int) -> list[Entry]:
    """Mostly inserts: new ones, repeated ones, and some that come after they were given up."""
    rng = random.Random(seed)
    found = []
    open_numbers = {7: 1, 8: 1}
    for index in range(1, 120):
        coordinator = rng.choice((7, 8))
        number = rng.randint(max(1, index // 2 - 6), index // 2 + 3)
        if rng.random() < 0.2:
            open_numbers[coordinator] = max(open_numbers[coordinator], number - 3)
        plan: plans.Plan = insert(index, index + rng.randint(1, 3), rng.randint(0, 5))
        what = rng.random()
        if what < 0.05:
            plan = plans.DeleteDataPlan((SERIES[1],), 0, index // 2)
        elif what < 0.08:
            plan = plans.DeleteSeriesPlan((rng.choice(SERIES),))
        elif what < 0.1:
            plan = plans.FlushPlan()
        request = RequestId(coordinator, number, min(number, open_numbers[coordinator]))
        payload = encode_plan(plan, request if rng.random() < 0.9 else None)
        kind = EntryKind.NOOP if rng.random() < 0.05 else EntryKind.PLAN
        found.append(
            Entry(LogIndex(index), Term(1), kind, payload if kind == EntryKind.PLAN else b"")
        )
    return found


@pytest.mark.parametrize("seed", range(8))
def test_inserts_that_are_applied_together_are_applied_as_one_by_one(seed: int) -> None:
    todo = random_requests(seed)
    rng = random.Random(seed)
    with Engine(":memory:", SMALL) as engine:
        one, two = (DataMachine(engine.region(number)) for number in (1, 2))
        outcomes: list[list[Any]] = [[one.apply_all([entry])[0] for entry in todo], []]
        rest = todo
        while rest:
            size = rng.choice((1, 2, 5, 70, 100))
            outcomes[1] += two.apply_all(rest[:size])
            rest = rest[size:]
        assert list(map(str, outcomes[0])) == list(map(str, outcomes[1]))
        assert len({str(outcome) for outcome in outcomes[0]}) > 2
        assert one.applied_index == two.applied_index == len(todo)
        assert one._requests.digest() == two._requests.digest()
        assert digest(one).root == digest(two).root


def test_of_inserts_that_can_not_be_written_none_counts_as_applied() -> None:
    todo = random_requests(1)
    with Engine(":memory:", SMALL) as engine:
        machine = DataMachine(engine.region(1))
        before = machine._requests.digest()
        engine.close()
        with pytest.raises(Closed):
            machine.apply_all(todo[:9])
        assert machine._requests.digest() == before
        assert machine.applied_index == 0


def test_a_request_is_read_back_with_its_plan() -> None:
    plan = insert(0, 300, 1, 5)
    payload = encode_plan(plan, RequestId(1, 2, 2))
    assert decode_plan(payload) == plan
    for bad in (payload[:10], payload[:25], RequestId(1, 2, 3).encode() + payload[25:]):
        with pytest.raises(ValueError, match="malformed"):
            decode_plan(bad)


def test_what_comes_after_a_drop_does_not_bring_the_storage_group_back(tmp_path: Any) -> None:
    """Requests that were resolved before the drop: the group's log may have them after it."""
    late: list[plans.Plan] = [create("root.sg.g", (spec(0),)), insert(0, 5, 1)]

    def send(machine: DataMachine, plan: plans.Plan) -> Any:
        index = LogIndex(machine.applied_index + 1)
        return machine.apply(Entry(index, Term(1), EntryKind.PLAN, encode_plan(plan)))

    with Engine(tmp_path / "a", SMALL) as engine:
        machine = DataMachine(engine.region(1))
        apply_all(machine, entries(DATA_SCRIPT[:5]))
        send(machine, plans.DropStorageGroupDataPlan((SG,)))
        for _ in range(2):  # the second time it is known from the disk only
            (refused,) = send(machine, late[0])
            assert refused.status is StatusCode.STORAGE_GROUP_NOT_EXIST
            assert send(machine, late[1]).refused == (0,)
            assert machine.region.aggregate([(SERIES[1], TYPES[1])], 0, 1000)[0].count == 0
            machine = DataMachine(engine.region(1))


def test_layouts_that_are_known_to_be_live_are_bounded_by_their_columns(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.member.data_machine._MAX_LIVE_COLUMNS", 10)
    machine = DataMachine(engine.region(1))
    subsets = [[n for n in range(6) if chosen >> n & 1] for chosen in range(1, 64)]
    plans_of_rows: list[plans.Plan] = [insert(t, t + 1, *them) for t, them in enumerate(subsets)]
    apply_all(machine, entries([*DATA_SCRIPT[:2], *plans_of_rows]))
    assert 0 < sum(len(layout.series_ids) for layout in machine._live_layouts.values()) <= 10


@pytest.mark.parametrize(("now_ns", "counts"), [(0, [2, 1]), (9_500_000_000, [1, 1])])
def test_points_expire_by_the_time_of_the_plan(now_ns: int, counts: list[int]) -> None:
    """Of points at 1000 and 5000 that live 6 s, one replica's clock says 5 s, another's 9 s."""
    found = []
    for clock in (5_000, 9_000):
        options = EngineOptions(compaction=False, now=lambda now=clock: now)  # type: ignore[misc]
        with Engine(":memory:", options) as engine:
            machine = DataMachine(engine.region(1))
            layout = make_layout({SERIES[1]: DataType.INT32})
            rows = [(1_000, [1]), (5_000, [5])]
            script: list[plans.Plan] = [
                plans.InsertPlan((make_fragment(layout, rows, 0),)),
                plans.SetDataTtlPlan((SG,), 6_000),
                plans.DigestPlan(now_ns),
            ]
            apply_all(machine, entries(script))
            marked = machine.digests.get(LogIndex(len(script)), Deadline.after(0))
            assert marked is not None
            found.append(sum(leaf.count for leaf in marked.leaves if leaf.label[:1] == b"s"))
    assert found == counts


def test_a_digest_plan_of_before_goes_by_the_clock() -> None:
    data = bytes((PlanType.DIGEST, encode_plan(plans.DigestPlan())[1])) + b"{}"
    assert decode_plan(data) == plans.DigestPlan(0)
