"""Types and fields of plans in their byte form: what may stand in them, and how it is checked.

Checks raise ValueError or TypeError; they are run before a plan is proposed, since a plan that is
in the log must be applicable on every replica.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from enum import IntEnum
from typing import Any, TypeVar

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
    DigestPlan,
    DropStorageGroupDataPlan,
    FlushPlan,
    FunctionPlan,
    MergeKind,
    RegisterNodePlan,
    RegistryAction,
    SetDataTtlPlan,
    SetStorageGroupPlan,
    SetTtlPlan,
    SetUserPlan,
    SystemModePlan,
    TemplateAction,
    TemplatePlan,
    TriggerPlan,
)
from cluster.schema.registry import ContinuousQuery
from cluster.schema.series import SERIES_PER_STORAGE_GROUP_BITS, AlterAction, SeriesSpec
from cluster.schema.templates import TemplateSeries, series_plain
from iotdb_engine.types import SERIES_ID_MAX, SLOT_MAX, DataType

E = TypeVar("E", bound=IntEnum)

_TYPES = {int(data_type): data_type for data_type in DataType}


FORMAT_VERSION = 1


class PlanType(IntEnum):
    """First byte of a plan; frozen, it is in logs."""

    SET_STORAGE_GROUP = 1
    DELETE_STORAGE_GROUPS = 2
    SET_PARTITION_TABLE = 3
    REGISTER_NODE = 4
    SET_USER = 5
    CREATE_SERIES = 16
    DELETE_SERIES = 17
    DROP_STORAGE_GROUP_DATA = 18
    INSERT = 19
    DELETE_DATA = 20
    FLUSH = 21
    ALTER_SERIES = 22
    SET_DATA_TTL = 23
    SET_TTL = 6
    AUTHOR = 7
    TEMPLATE = 8
    FUNCTION = 9
    TRIGGER = 10
    CREATE_CONTINUOUS_QUERY = 11
    CONTINUOUS_QUERY = 12
    SYSTEM_MODE = 13
    DIGEST = 64


def text_field(value: Any) -> str:  # noqa: ANN401
    """Check a text that UTF-8 can hold."""
    if type(value) is not str:
        raise ValueError(f"malformed plan: {value!r} is not a text")
    if not value.isascii():
        value.encode()  # raises on a lone surrogate, which JSON can spell but no key can hold
    return value


def flag_field(value: Any) -> bool:  # noqa: ANN401
    """Check a boolean."""
    if type(value) is not bool:
        raise ValueError(f"malformed plan: {value!r} is not true or false")
    return value


def integer_field(low: int, high: int) -> Callable[[Any], int]:
    """Return the check of an integer in [low, high]."""

    def check(value: Any) -> int:  # noqa: ANN401
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"malformed plan: {value!r} is not an integer in [{low}, {high}]")
        return value

    return check


time_field = integer_field(-(1 << 63), (1 << 63) - 1)
length_field = integer_field(0, (1 << 63) - 1)
id_field = integer_field(0, SERIES_ID_MAX)
sg_id_field = integer_field(0, SERIES_ID_MAX >> SERIES_PER_STORAGE_GROUP_BITS)
port_field = integer_field(0, SLOT_MAX)
byte_field = integer_field(0, 255)


def ids_field(value: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Check a list of ids of series."""
    if type(value) is not list:
        raise ValueError("malformed plan: ids are not a list")
    return tuple(map(id_field, value))


def sg_ids_field(value: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Check a list of ids of storage groups."""
    if type(value) is not list:
        raise ValueError("malformed plan: ids are not a list")
    return tuple(map(sg_id_field, value))


def pairs_field(value: Any) -> tuple[tuple[str, str], ...]:  # noqa: ANN401
    """Check a list of pairs of texts."""
    if type(value) is not list:
        raise ValueError("malformed plan: pairs are not a list")
    return tuple((text_field(key), text_field(item)) for key, item in value)


def type_field(value: Any) -> DataType:  # noqa: ANN401
    """Check the number of a data type."""
    if type(value) is not int or value not in _TYPES:
        raise ValueError(f"malformed plan: unknown data type {value!r}")
    return _TYPES[value]


def alias_field(value: Any) -> str | None:  # noqa: ANN401
    """Check a text or None."""
    return None if value is None else text_field(value)


def spec_field(value: Any) -> SeriesSpec:  # noqa: ANN401
    """Check the list form of a SeriesSpec."""
    name, data_type, encoding, compressor, alias, props, tags, attributes = value
    return SeriesSpec(
        text_field(name),
        type_field(data_type),
        byte_field(encoding),
        byte_field(compressor),
        alias_field(alias),
        pairs_field(props),
        pairs_field(tags),
        pairs_field(attributes),
    )


def specs_field(value: Any) -> tuple[SeriesSpec, ...]:  # noqa: ANN401
    """Check a list of SeriesSpecs."""
    if type(value) is not list:
        raise ValueError("malformed plan: series are not a list")
    return tuple(map(spec_field, value))


def _texts_field(value: Any) -> tuple[str, ...]:  # noqa: ANN401
    if type(value) is not list:
        raise ValueError("malformed plan: texts are not a list")
    return tuple(map(text_field, value))


def _bytes_field(value: Any) -> tuple[int, ...]:  # noqa: ANN401
    if type(value) is not list:
        raise ValueError("malformed plan: numbers are not a list")
    return tuple(map(byte_field, value))


def _enum_field(kind: type[E]) -> Callable[[Any], E]:
    def check(value: Any) -> E:  # noqa: ANN401
        if type(value) is not int:
            raise ValueError(f"malformed plan: {value!r} is no {kind.__name__}")
        return kind(value)

    return check


def _template_series_field(value: Any) -> tuple[TemplateSeries, ...]:  # noqa: ANN401
    if type(value) is not list:
        raise ValueError("malformed plan: series are not a list")
    return tuple(
        TemplateSeries(
            text_field(prefix),
            flag_field(aligned),
            SeriesSpec(
                text_field(name),
                type_field(data_type),
                byte_field(encoding),
                byte_field(compressor),
            ),
        )
        for prefix, aligned, name, data_type, encoding, compressor in value
    )


def _continuous_query_field(value: Any) -> ContinuousQuery:  # noqa: ANN401
    name, every, span, boundary, query, pattern, target, zone, next_run = value
    return ContinuousQuery(
        text_field(name),
        time_field(every),
        time_field(span),
        time_field(boundary),
        text_field(query),
        text_field(pattern),
        text_field(target),
        text_field(zone),
        time_field(next_run),
    )


PLAN_FIELDS: dict[PlanType, tuple[type[Any], dict[str, Callable[[Any], Any]]]] = {
    PlanType.SET_STORAGE_GROUP: (SetStorageGroupPlan, {"path": text_field, "ttl": length_field}),
    PlanType.DELETE_STORAGE_GROUPS: (DeleteStorageGroupsPlan, {"sg_ids": sg_ids_field}),
    PlanType.REGISTER_NODE: (
        RegisterNodePlan,
        {
            "node_id": id_field,
            "incarnation": text_field,
            "internal_ip": text_field,
            "meta_port": port_field,
            "data_port": port_field,
            "rpc_address": text_field,
            "rpc_port": port_field,
        },
    ),
    PlanType.SET_USER: (SetUserPlan, {"name": text_field, "password_hash": text_field}),
    PlanType.CREATE_SERIES: (
        CreateSeriesPlan,
        {
            "sg_id": sg_id_field,
            "sg_path": text_field,
            "device": text_field,
            "aligned": flag_field,
            "specs": specs_field,
            "if_absent": flag_field,
            "template": text_field,
        },
    ),
    PlanType.DELETE_SERIES: (DeleteSeriesPlan, {"series_ids": ids_field}),
    PlanType.DROP_STORAGE_GROUP_DATA: (DropStorageGroupDataPlan, {"sg_ids": sg_ids_field}),
    PlanType.DELETE_DATA: (
        DeleteDataPlan,
        {"series_ids": ids_field, "t_min": time_field, "t_max": time_field},
    ),
    PlanType.FLUSH: (FlushPlan, {"merge": _enum_field(MergeKind)}),
    PlanType.DIGEST: (DigestPlan, {"now_ns": length_field}),
    PlanType.ALTER_SERIES: (
        AlterSeriesPlan,
        {
            "series_id": id_field,
            "action": _enum_field(AlterAction),
            "pairs": pairs_field,
            "attributes": pairs_field,
            "alias": alias_field,
        },
    ),
    PlanType.SET_DATA_TTL: (SetDataTtlPlan, {"sg_ids": sg_ids_field, "ttl": length_field}),
    PlanType.SET_TTL: (SetTtlPlan, {"sg_ids": sg_ids_field, "ttl": time_field}),
    PlanType.AUTHOR: (
        AuthorPlan,
        {
            "action": _enum_field(AuthorAction),
            "user": text_field,
            "role": text_field,
            "password_hash": text_field,
            "privileges": _bytes_field,
            "paths": _texts_field,
        },
    ),
    PlanType.TEMPLATE: (
        TemplatePlan,
        {
            "action": _enum_field(TemplateAction),
            "name": text_field,
            "path": text_field,
            "aligned": flag_field,
            "series": _template_series_field,
        },
    ),
    PlanType.FUNCTION: (
        FunctionPlan,
        {"action": _enum_field(RegistryAction), "name": text_field, "class_name": text_field},
    ),
    PlanType.TRIGGER: (
        TriggerPlan,
        {
            "action": _enum_field(RegistryAction),
            "name": text_field,
            "event": text_field,
            "path": text_field,
            "class_name": text_field,
            "attributes": pairs_field,
        },
    ),
    PlanType.CREATE_CONTINUOUS_QUERY: (
        CreateContinuousQueryPlan,
        {"query": _continuous_query_field},
    ),
    PlanType.CONTINUOUS_QUERY: (
        ContinuousQueryPlan,
        {
            "action": _enum_field(RegistryAction),
            "name": text_field,
            "due": time_field,
            "next_run": time_field,
        },
    ),
    PlanType.SYSTEM_MODE: (SystemModePlan, {"read_only": flag_field}),
}
"""By type of plan: its class, and the check of each of its fields."""

PLAN_NUMBERS = {cls: number for number, (cls, _) in PLAN_FIELDS.items()}


def plain_fields(plan: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the fields of a plan as JSON values."""
    fields = dict(vars(plan))
    if isinstance(plan, CreateSeriesPlan):
        fields["specs"] = [_spec_plain(spec) for spec in plan.specs]
    elif isinstance(plan, TemplatePlan):
        fields["series"] = series_plain(plan.series)
    elif isinstance(plan, CreateContinuousQueryPlan):
        fields["query"] = astuple(plan.query)
    return fields


def _spec_plain(spec: SeriesSpec) -> list[Any]:
    return [
        spec.measurement,
        int(spec.data_type),
        spec.encoding,
        spec.compressor,
        spec.alias,
        spec.props,
        spec.tags,
        spec.attributes,
    ]
