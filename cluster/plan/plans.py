"""Physical plans: the commands of the replicated state machines.

A plan is immutable and says everything that its outcome depends on, so that every replica applies
it alike: no clock, no configuration, no randomness at apply time. Meta plans go to the meta group,
data plans to a data group. `cluster.plan.codec` gives their byte form in the Raft log.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from cluster.schema.registry import ContinuousQuery
from cluster.schema.series import NewSeries, SeriesChange
from cluster.schema.templates import TemplateSeries
from iotdb_engine.types import Fragment

# ---- meta group ----


@dataclass(frozen=True)
class SetStorageGroupPlan:
    """Create a storage group; refused when it is nested in or contains another one.

    Attributes:
        path: of the storage group.
        ttl: time to live of its points in ms; 0: for ever.
    """

    path: str
    ttl: int = 0


@dataclass(frozen=True)
class DeleteStorageGroupsPlan:
    """Forget storage groups by their ids (unknown ids are ignored)."""

    sg_ids: tuple[int, ...]


@dataclass(frozen=True)
class SetTtlPlan:
    """Set the time to live of storage groups in ms (unknown ids are ignored); 0: for ever."""

    sg_ids: tuple[int, ...]
    ttl: int


@dataclass(frozen=True)
class SetPartitionTablePlan:
    """Adopt a partition table unless the present one is as new or newer."""

    table: bytes


@dataclass(frozen=True)
class RegisterNodePlan:
    """Record a node's identity and present addresses.

    The first incarnation registered for a node id stays; another one is refused.
    """

    node_id: int
    incarnation: str
    internal_ip: str
    meta_port: int
    data_port: int
    rpc_address: str
    rpc_port: int


@dataclass(frozen=True)
class SetUserPlan:
    """Create a user, or replace a user's password hash (`cluster.auth.users`)."""

    name: str
    password_hash: str


class AuthorAction(IntEnum):
    """What an AuthorPlan does; frozen, it is in logs."""

    CREATE_USER = 1
    CREATE_ROLE = 2
    SET_PASSWORD = 3
    DROP_USER = 4
    DROP_ROLE = 5
    GRANT_USER = 6
    GRANT_ROLE = 7
    GRANT_ROLE_TO_USER = 8
    REVOKE_USER = 9
    REVOKE_ROLE = 10
    REVOKE_ROLE_FROM_USER = 11


@dataclass(frozen=True)
class AuthorPlan:
    """Change users, roles or what they may do. Fields that an action does not need are empty."""

    action: AuthorAction
    user: str = ""
    role: str = ""
    password_hash: str = ""
    privileges: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()


class TemplateAction(IntEnum):
    """What a TemplatePlan does; frozen, it is in logs."""

    CREATE = 1
    DROP = 2
    APPEND = 3
    PRUNE = 4
    SET = 5
    UNSET = 6


@dataclass(frozen=True)
class TemplatePlan:
    """Change a schema template, or where it is set.

    Attributes:
        action: what to do.
        name: of the template.
        path: SET, UNSET: the node; PRUNE: of the measurement below the device.
        aligned: CREATE only.
        series: CREATE, APPEND.
    """

    action: TemplateAction
    name: str
    path: str = ""
    aligned: bool = False
    series: tuple[TemplateSeries, ...] = ()


class RegistryAction(IntEnum):
    """What is done to something registered by name; frozen, it is in logs."""

    CREATE = 1
    DROP = 2
    START = 3
    STOP = 4
    CLAIM = 5


@dataclass(frozen=True)
class FunctionPlan:
    """CREATE or DROP a function."""

    action: RegistryAction
    name: str
    class_name: str = ""


@dataclass(frozen=True)
class TriggerPlan:
    """CREATE, DROP, START or STOP a trigger; all but the name only for CREATE."""

    action: RegistryAction
    name: str
    event: str = ""
    path: str = ""
    class_name: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CreateContinuousQueryPlan:
    """Register a continuous query."""

    query: ContinuousQuery


@dataclass(frozen=True)
class ContinuousQueryPlan:
    """DROP a continuous query, or CLAIM its run that is due at `due`."""

    action: RegistryAction
    name: str
    due: int = 0
    next_run: int = 0


@dataclass(frozen=True)
class SystemModePlan:
    """Refuse (or accept again) everything that changes data or schema, cluster-wide."""

    read_only: bool


# ---- data groups ----


@dataclass(frozen=True)
class CreateSeriesPlan(NewSeries):
    """Create series of one device; a plan is what is to be created, and nothing else."""


@dataclass(frozen=True)
class AlterSeriesPlan(SeriesChange):
    """Change tags, attributes or alias of a series."""


@dataclass(frozen=True)
class DeleteSeriesPlan:
    """Remove series from the schema (where it lives) and their data (wherever it is)."""

    series_ids: tuple[int, ...]


@dataclass(frozen=True)
class DropStorageGroupDataPlan:
    """Remove schema and data of whole storage groups, by id."""

    sg_ids: tuple[int, ...]


@dataclass(frozen=True)
class InsertPlan:
    """Write fragments. Those with a series that was dropped are refused, the others written."""

    fragments: tuple[Fragment, ...]


@dataclass(frozen=True)
class DeleteDataPlan:
    """Delete the points of series in the inclusive time range [t_min, t_max]."""

    series_ids: tuple[int, ...]
    t_min: int
    t_max: int


@dataclass(frozen=True)
class SetDataTtlPlan:
    """Let the engine drop expired points of storage groups; `ttl` in units of the precision, 0: no.

    What queries see is decided by the coordinators, from the meta state.
    """

    sg_ids: tuple[int, ...]
    ttl: int


class MergeKind(IntEnum):
    """How much a replica is asked to merge. Numbers are in logs: frozen."""

    NONE = 0
    PARTIAL = 1
    FULL = 2


@dataclass(frozen=True)
class FlushPlan:
    """Have every replica of the group write its memtables to disk; no effect on the state.

    `merge`: what of the chunks is to be merged then, in the background.
    """

    merge: MergeKind = MergeKind.NONE


# ---- any group ----


@dataclass(frozen=True)
class DigestPlan:
    """Have every replica remember its state as of this entry, to be compared with the others.

    No effect on the state. Its outcome is the index of the entry. `now_ns`: the time since 1970 by
    which points are expired, so that replicas do not go by their clocks; 0: they do.
    """

    now_ns: int = 0


MetaPlan: TypeAlias = (
    SetStorageGroupPlan
    | DeleteStorageGroupsPlan
    | SetPartitionTablePlan
    | RegisterNodePlan
    | SetUserPlan
    | DigestPlan
    | SetTtlPlan
    | AuthorPlan
    | TemplatePlan
    | FunctionPlan
    | TriggerPlan
    | CreateContinuousQueryPlan
    | ContinuousQueryPlan
    | SystemModePlan
)
DataPlan: TypeAlias = (
    CreateSeriesPlan
    | AlterSeriesPlan
    | DeleteSeriesPlan
    | DropStorageGroupDataPlan
    | InsertPlan
    | DeleteDataPlan
    | SetDataTtlPlan
    | FlushPlan
    | DigestPlan
)
Plan: TypeAlias = MetaPlan | DataPlan
