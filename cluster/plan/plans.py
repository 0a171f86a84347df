"""Physical plans: the commands of the replicated state machines.

A plan is immutable and says everything that its outcome depends on, so that every replica applies
it alike: no clock, no configuration, no randomness at apply time. Meta plans go to the meta group,
data plans to a data group. `cluster.plan.codec` gives their byte form in the Raft log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cluster.schema.series import SeriesSpec
from iotdb_engine.types import Fragment

# ---- meta group ----


@dataclass(frozen=True)
class SetStorageGroupPlan:
    """Create a storage group; refused when it is nested in or contains another one."""

    path: str


@dataclass(frozen=True)
class DeleteStorageGroupsPlan:
    """Forget storage groups by their ids (unknown ids are ignored)."""

    sg_ids: tuple[int, ...]


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


# ---- data groups ----


@dataclass(frozen=True)
class CreateSeriesPlan:
    """Create series of one device in the schema of a storage group.

    Attributes:
        sg_id, sg_path: the storage group.
        device: full path of the device, text form.
        aligned: whether the device is (to be) aligned.
        specs: what to create.
        if_absent: an existing series of the same type is a success (auto-creation on insert);
            otherwise it is refused with PATH_ALREADY_EXISTS.
    """

    sg_id: int
    sg_path: str
    device: str
    aligned: bool
    specs: tuple[SeriesSpec, ...]
    if_absent: bool


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
class FlushPlan:
    """Have every replica of the group write its memtables to disk; no effect on the state."""


# ---- any group ----


@dataclass(frozen=True)
class DigestPlan:
    """Have every replica remember its state as of this entry, to be compared with the others.

    No effect on the state. Its outcome is the index of the entry.
    """


MetaPlan: TypeAlias = (
    SetStorageGroupPlan
    | DeleteStorageGroupsPlan
    | SetPartitionTablePlan
    | RegisterNodePlan
    | SetUserPlan
    | DigestPlan
)
DataPlan: TypeAlias = (
    CreateSeriesPlan
    | DeleteSeriesPlan
    | DropStorageGroupDataPlan
    | InsertPlan
    | DeleteDataPlan
    | FlushPlan
    | DigestPlan
)
Plan: TypeAlias = MetaPlan | DataPlan
