from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import StatusCode
from cluster.plan.codec import (
    FORMAT_VERSION,
    PlanType,
    decode_plan,
    decode_result,
    encode_plan,
    encode_result,
)
from cluster.plan.outcomes import Outcome
from cluster.plan.plans import (
    AlterSeriesPlan,
    AuthorAction,
    AuthorPlan,
    ContinuousQueryPlan,
    CreateContinuousQueryPlan,
    CreateSeriesPlan,
    DeleteDataPlan,
    DeleteSeriesPlan,
    DeleteStorageGroupsPlan,
    DropStorageGroupDataPlan,
    FlushPlan,
    FunctionPlan,
    InsertPlan,
    MergeKind,
    Plan,
    RegisterNodePlan,
    RegistryAction,
    SetDataTtlPlan,
    SetPartitionTablePlan,
    SetStorageGroupPlan,
    SetTtlPlan,
    SetUserPlan,
    SystemModePlan,
    TemplateAction,
    TemplatePlan,
    TriggerPlan,
)
from cluster.schema.registry import ContinuousQuery
from cluster.schema.series import AlterAction, DeviceInfo, SeriesInfo, SeriesSpec
from cluster.schema.templates import TemplateSeries
from cluster.schema.tree import SeriesOutcome
from iotdb_engine.types import DataType, Fragment, Layout

SPEC = SeriesSpec(
    "s'温", DataType.TEXT, 0, 1, "alias", (("p", "1"),), (("t", "ü"), ("u", "")), (("a", "b"),)
)
LAYOUT = Layout((7 << 32 | 1, (1 << 64) - 1), (DataType.DOUBLE, DataType.BOOLEAN))
FRAGMENT = Fragment(65535, LAYOUT, 2, b"t" * 16, b"v" * 18)
PLANS: list[Plan] = [
    SetStorageGroupPlan("root.温度"),
    DeleteStorageGroupsPlan((1, (1 << 32) - 1)),
    SetPartitionTablePlan(b"\x00\xff"),
    SetPartitionTablePlan(b""),
    RegisterNodePlan((1 << 48) - 1, "ab", "10.0.0.1", 9003, 40010, "0.0.0.0", 6667),
    SetUserPlan("root", "scrypt$1"),
    CreateSeriesPlan(7, "root.sg", "root.sg.d", True, (SPEC, SPEC), False),
    DeleteSeriesPlan((3, 1, 2)),
    DropStorageGroupDataPlan(()),
    DeleteDataPlan((1,), -(1 << 63), (1 << 63) - 1),
    FlushPlan(),
    FlushPlan(MergeKind.FULL),
    SetTtlPlan((1, 2), 1000),
    SetDataTtlPlan((1, 2), 1000),
    AuthorPlan(AuthorAction.GRANT_ROLE, role="ops", privileges=(1, 30), paths=("root.a",)),
    TemplatePlan(
        TemplateAction.CREATE,
        "t1",
        aligned=True,
        series=(TemplateSeries("gps", True, SeriesSpec("x", DataType.FLOAT, 8, 1)),),
    ),
    FunctionPlan(RegistryAction.CREATE, "f", "module:Class"),
    TriggerPlan(RegistryAction.CREATE, "t", "before insert", "root.a", "m:C", (("k", "v"),)),
    CreateContinuousQueryPlan(
        ContinuousQuery("cq", 1000, 1000, -5, "select", "select into", "root.t", "Z", 7)
    ),
    ContinuousQueryPlan(RegistryAction.CLAIM, "cq", 7, 1007),
    SystemModePlan(True),
    AlterSeriesPlan(5, AlterAction.UPSERT, (("t", "v"),), (("a", "b"),), "alias"),
    InsertPlan(()),
    InsertPlan((FRAGMENT, FRAGMENT._replace(nulls=b"\x01\x02"))),
    InsertPlan(
        (Fragment(0, Layout((1,), (DataType.TEXT,)), 1, b"t" * 8, b"\x00\x00\x00\x01x", b""),)
    ),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: type(plan).__name__)
def test_round_trip(plan: Plan) -> None:
    data = encode_plan(plan)
    assert data[1] == FORMAT_VERSION
    assert decode_plan(data) == plan
    assert decode_plan(memoryview(data)) == plan
    assert encode_plan(decode_plan(data)) == data


def test_numbers_are_frozen() -> None:
    assert {kind.name: int(kind) for kind in PlanType} == {
        "SET_STORAGE_GROUP": 1,
        "DELETE_STORAGE_GROUPS": 2,
        "SET_PARTITION_TABLE": 3,
        "REGISTER_NODE": 4,
        "SET_USER": 5,
        "CREATE_SERIES": 16,
        "DELETE_SERIES": 17,
        "DROP_STORAGE_GROUP_DATA": 18,
        "INSERT": 19,
        "DELETE_DATA": 20,
        "FLUSH": 21,
        "DIGEST": 64,
        "ALTER_SERIES": 22,
        "SET_DATA_TTL": 23,
        "SET_TTL": 6,
        "AUTHOR": 7,
        "TEMPLATE": 8,
        "FUNCTION": 9,
        "TRIGGER": 10,
        "CREATE_CONTINUOUS_QUERY": 11,
        "CONTINUOUS_QUERY": 12,
        "SYSTEM_MODE": 13,
    }
    assert encode_plan(InsertPlan((FRAGMENT,))) == (
        b"\x13\x01\x00\x00\x00\x01"
        b"\xff\xff\x00\x00\x00\x02\x00\x00\x00\x16\x00\x00\x00\x12\x00\x00\x00\x00"
        b"\x00\x00\x00\x02\x00\x00\x00\x07\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\x04\x00"
        + b"t" * 16
        + b"v" * 18
    )
    assert encode_plan(SetStorageGroupPlan("root.a")) == b'\x01\x01{"path":"root.a","ttl":0}'


def test_a_decoded_plan_owns_its_bytes_and_shares_its_layout() -> None:
    data = bytearray(encode_plan(InsertPlan((FRAGMENT,))))
    one, two = decode_plan(memoryview(data)), decode_plan(bytes(data))
    data[:] = bytes(len(data))
    assert isinstance(one, InsertPlan)
    assert isinstance(two, InsertPlan)
    assert one.fragments == (FRAGMENT,)
    assert one.fragments[0].layout is two.fragments[0].layout


def test_many_short_lived_layouts_are_not_mixed_up() -> None:
    for number in range(2000):
        layout = Layout((number,), (DataType.INT32,))
        plan = InsertPlan((Fragment(1, layout, 1, b"t" * 8, b"vvvv"),))
        decoded = decode_plan(encode_plan(plan))
        assert decoded == plan


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: type(plan).__name__)
def test_every_cut_is_refused(plan: Plan) -> None:
    data = encode_plan(plan)
    if isinstance(plan, SetPartitionTablePlan):
        return  # opaque; the table has its own checksum
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r".+"):
            decode_plan(data[:length])
    with pytest.raises(ValueError, match=r".+"):
        decode_plan(data + b"\x00")


def fragment_bytes(
    *,
    rows: int = 1,
    layout: bytes = struct.pack(">IQB", 1, 5, 1),
    values: bytes = b"vvvv",
    nulls: bytes = b"",
) -> bytes:
    header = struct.pack(">HIIII", 0, rows, len(layout), len(values), len(nulls))
    return b"\x13\x01\x00\x00\x00\x01" + header + layout + b"t" * 8 * rows + values + nulls


def test_malformed_fragments_are_refused() -> None:
    assert decode_plan(fragment_bytes()) == InsertPlan(
        (Fragment(0, Layout((5,), (DataType.INT32,)), 1, b"t" * 8, b"vvvv"),)
    )
    for bad in (
        fragment_bytes(rows=0, values=b""),
        fragment_bytes(values=b"vvv"),
        fragment_bytes(values=b"vvvvv"),
        fragment_bytes(nulls=b"\x00\x00"),
        fragment_bytes(layout=b""),
        fragment_bytes(layout=struct.pack(">I", 0)),
        fragment_bytes(layout=struct.pack(">IQB", 1, 5, 9)),
        fragment_bytes(layout=struct.pack(">IQB", 2, 5, 1)),
        fragment_bytes(layout=struct.pack(">IQQBB", 2, 5, 5, 1, 1), values=b"v" * 8),
        fragment_bytes(layout=struct.pack(">IQB", 1, 5, 5), values=b"vvv"),
        b"\x13\x01\xff\xff\xff\xff",
    ):
        with pytest.raises(ValueError, match="malformed plan"):
            decode_plan(bad)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"path":1,"ttl":0}',
        b'{"path":"a","ttl":"0"}',
        b'{"path":"a","ttl":0,"more":1}',
        b'{"ttl":0,"path":"\\ud800"}',
        b'{"ttl":0,"path":"\xff"}',
        b'{"path":' + b"[" * 100_000,
        b'{"path":"a","ttl":0} ,',
    ],
)
def test_malformed_json_plans_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_plan(b"\x01\x01" + body)


def _with_spec(**changes: Any) -> bytes:
    spec = ["s", 4, 8, 1, None, [], [], []]
    for name, value in changes.items():
        spec[
            ("measurement", "data_type", "encoding", "compressor", "alias", "props").index(name)
        ] = value
    fields = {
        "sg_id": 1,
        "sg_path": "root.a",
        "device": "root.a.d",
        "aligned": False,
        "specs": [spec],
        "if_absent": True,
        "template": "",
    }
    return bytes((PlanType.CREATE_SERIES, 1)) + json.dumps(fields).encode()


def test_malformed_specs_are_refused() -> None:
    assert isinstance(decode_plan(_with_spec()), CreateSeriesPlan)
    for changes in (
        {"measurement": None},
        {"data_type": 6},
        {"data_type": True},
        {"encoding": -1},
        {"compressor": 256},
        {"alias": 1},
        {"props": [["a"]]},
        {"props": [["a", 1]]},
        {"props": {"a": "b"}},
    ):
        with pytest.raises(ValueError, match=r".+"):
            decode_plan(_with_spec(**changes))


def test_unknown_types_and_versions_are_refused() -> None:
    for data in (b"", b"\x01", b"\x00\x01{}", b"\xff\x01{}", b"\x13\x02\x00\x00\x00\x00"):
        with pytest.raises(ValueError, match=r".+"):
            decode_plan(data)
    with pytest.raises(TypeError, match="is not a plan"):
        encode_plan("no plan")  # type: ignore[arg-type]


@given(st.sampled_from([encode_plan(plan) for plan in PLANS]), st.data())
def test_damage_never_raises_anything_but_value_error(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    at = draw.draw(st.integers(0, len(data) - 1))
    damaged[at] = draw.draw(st.integers(0, 255))
    try:
        plan = decode_plan(bytes(damaged))
    except ValueError:
        return
    assert decode_plan(encode_plan(plan)) == plan


INFO = SeriesInfo(
    (7 << 32) + 1,
    "root.sg",
    "root.sg.d",
    "s",
    DataType.FLOAT,
    8,
    1,
    True,
    "alias",
    (("p", "1"),),
    (("t", "ü"),),
    (("a", "b"),),
)


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (None, None),
        (True, True),
        (-(1 << 63), -(1 << 63)),
        ("ü", "ü"),
        (b"\x00\xff", b"\x00\xff"),
        (((1, 2),), [[1, 2]]),
        ([], []),
        ([None, [INFO, None]], [None, [INFO, None]]),
        ([DeviceInfo("root.sg.d", "root.sg", False)], [DeviceInfo("root.sg.d", "root.sg", False)]),
        (
            [SeriesOutcome(INFO), SeriesOutcome(None, StatusCode.PATH_ILLEGAL, "no")],
            [SeriesOutcome(INFO), SeriesOutcome(None, StatusCode.PATH_ILLEGAL, "no")],
        ),
        (
            Outcome(StatusCode.SUCCESS, value=[1, 2]),
            Outcome(StatusCode.SUCCESS, value=[1, 2]),
        ),
    ],
)
def test_results_round_trip(value: Any, back: Any) -> None:
    decoded = decode_result(encode_result(value))
    assert decoded == back
    assert type(decoded) is type(back)


def test_results_are_strict() -> None:
    with pytest.raises(TypeError, match="is not a result"):
        encode_result(1.5)
    for data in (
        b"",
        b"1.5",
        b'{"x":1}',
        b"{}",
        b'{"s":[1]}',
        b'{"d":[1,2,3]}',
        b'{"o":[null,1,""]}',
        b'{"b":"zz"}',
        b'{"b":1}',
        b"[" * 100_000,
        b"\xff",
    ):
        with pytest.raises(ValueError, match=r".+"):
            decode_result(data)
