"""Coordinator: classifies what clients ask for, and runs it on the groups that own it.

Meta plans (storage groups, users, the registry) go to the meta group; data plans to the data groups
that own the slots; FLUSH and the like to every group. Insertion is in `inserter`, reading in
`cluster_backend`; this class is their front, and owns the schema operations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from cluster.config.settings import Settings
from cluster.coordinator.cluster_backend import ClusterBackend
from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.groups_access import GroupsAccess
from cluster.coordinator.inserter import Inserter
from cluster.coordinator.plan_router import PlanRouter
from cluster.coordinator.schema_cache import SchemaCache
from cluster.coordinator.storage_groups import StorageGroups
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.member.data_groups import DataGroups
from cluster.member.meta_member import META_GROUP_ID, MetaMember
from cluster.member.raft_member import RaftMember
from cluster.plan.plans import (
    CreateSeriesPlan,
    DataPlan,
    DeleteDataPlan,
    DeleteSeriesPlan,
    DeleteStorageGroupsPlan,
    DropStorageGroupDataPlan,
    FlushPlan,
    MetaPlan,
    SetStorageGroupPlan,
)
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.client_pool import ClientPool
from cluster.rpc.deadline import Deadline
from cluster.schema.paths import PathPattern, join_path, split_path
from cluster.schema.series import SeriesInfo, SeriesSpec

_PRECISION_PER_S = {"ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}


class Coordinator:
    """Runs statements' effects cluster-wide; thread-safe."""

    def __init__(
        self,
        *,
        settings: Settings,
        node_id: NodeId,
        meta_member: MetaMember,
        data_groups: DataGroups,
        meta_pool: ClientPool,
        data_pool: ClientPool,
        wait: Callable[[float], bool],
    ) -> None:
        self._settings = settings
        self._meta = meta_member
        self._data_groups = data_groups
        cluster = settings.cluster
        self.router = PlanRouter(
            lambda: meta_member.table,
            cluster.partition_interval * _PRECISION_PER_S[cluster.timestamp_precision],
            enabled=cluster.enable_partition,
        )
        self._access = GroupsAccess(
            Forwarder(
                node_id=node_id,
                find_member=self._find_member,
                members_of=self._members_of,
                meta_pool=meta_pool,
                data_pool=data_pool,
                wait=wait,
            ),
            meta_member,
        )
        self.storage_groups = StorageGroups(
            meta_member=meta_member,
            execute_meta=self._access.execute_meta,
            sync_meta=self._access.sync_meta,
            auto_create=settings.node.enable_auto_create_schema,
            level=settings.node.default_storage_group_level,
        )
        self._cache = SchemaCache()
        self.inserter = Inserter(
            access=self._access,
            router=self.router,
            storage_groups=self.storage_groups,
            cache=self._cache,
            auto_create=settings.node.enable_auto_create_schema,
        )

    def close(self) -> None:
        """Stop helper threads."""
        self._access.close()

    @property
    def meta_state(self) -> Any:  # noqa: ANN401
        """This node's replica of the meta state."""
        return self._meta.state

    # ---- reading ----

    def backend(self, deadline: Deadline) -> ClusterBackend:
        """Return a view for one query."""
        return ClusterBackend(
            access=self._access,
            router=self.router,
            storage_groups=self.storage_groups,
            deadline=deadline,
        )

    # ---- meta group ----

    def execute_meta(self, plan: MetaPlan, deadline: Deadline) -> Any:  # noqa: ANN401
        """Apply a meta plan and return its Outcome."""
        return self._access.execute_meta(plan, deadline)

    def sync_meta(self, deadline: Deadline) -> None:
        """Make this node's meta state as new as any acknowledged change."""
        self._access.sync_meta(deadline)

    def set_storage_group(self, path: str, deadline: Deadline) -> Status:
        """Create a storage group."""
        outcome = self.execute_meta(SetStorageGroupPlan(join_path(split_path(path))), deadline)
        return Status(outcome.status, outcome.message)

    def delete_storage_groups(
        self, patterns: Sequence[str], deadline: Deadline, *, prefix: bool = False
    ) -> Status:
        """Drop storage groups with schema and points.

        The meta group forgets them first: from then on nothing of them is visible, whatever becomes
        of the clean-up in the data groups; ids are never used again.
        """
        self._access.sync_meta(deadline)
        found = {}
        for text in patterns:
            refs = self.storage_groups.matching(PathPattern.parse(text, prefix=prefix))
            if not refs:
                return Status(StatusCode.TIMESERIES_NOT_EXIST, f"Path [{text}] does not exist")
            found.update({ref.sg_id: ref for ref in refs})
        outcome = self.execute_meta(DeleteStorageGroupsPlan(tuple(sorted(found))), deadline)
        if not outcome.ok:
            return Status(outcome.status, outcome.message)
        self._cache.clear()
        by_group: dict[GroupId, list[int]] = defaultdict(list)
        for ref in found.values():
            owners = {self.router.schema_group(ref.path)}
            owners.update(group.group_id for group in self.router.data_groups(ref.path))
            for group_id in owners:
                by_group[group_id].append(ref.sg_id)
        return self._on_groups(
            {
                group_id: DropStorageGroupDataPlan(tuple(sorted(sg_ids)))
                for group_id, sg_ids in by_group.items()
            },
            deadline,
        )

    # ---- schema ----

    def create_series(
        self,
        device: str,
        specs: Sequence[SeriesSpec],
        deadline: Deadline,
        *,
        aligned: bool = False,
    ) -> list[Status]:
        """Create series of one device; a status for each."""
        device = join_path(split_path(device))
        storage_group = self.storage_groups.of_device(device, deadline)
        plan = CreateSeriesPlan(
            sg_id=storage_group.sg_id,
            sg_path=storage_group.path,
            device=device,
            aligned=aligned,
            specs=tuple(specs),
            if_absent=False,
        )
        outcomes = self._access.execute_data(
            self.router.schema_group(storage_group.path), plan, deadline
        )
        self._cache.forget_device(device)
        return [Status(outcome.status, outcome.message) for outcome in outcomes]

    def delete_series(
        self, patterns: Sequence[str], deadline: Deadline, *, prefix: bool = False
    ) -> list[Status]:
        """Delete series and their points; a status for each pattern."""
        backend = self.backend(deadline)
        statuses = []
        for text in patterns:
            matched = backend.match_series(PathPattern.parse(text, prefix=prefix))
            if not matched:
                statuses.append(
                    Status(StatusCode.TIMESERIES_NOT_EXIST, f"Path [{text}] does not exist")
                )
                continue
            plans: dict[GroupId, list[int]] = defaultdict(list)
            for info in matched:
                self._cache.forget_device(info.device)
                for group_id in self._owners(info):
                    plans[group_id].append(info.series_id)
            statuses.append(
                self._on_groups(
                    {group: DeleteSeriesPlan(tuple(ids)) for group, ids in plans.items()},
                    deadline,
                )
            )
        return statuses

    def delete_data(
        self,
        patterns: Sequence[str],
        t_min: int,
        t_max: int,
        deadline: Deadline,
        *,
        prefix: bool = False,
    ) -> Status:
        """Delete the points of matching series in [t_min, t_max]; no match is a success."""
        backend = self.backend(deadline)
        plans: dict[GroupId, set[int]] = defaultdict(set)
        for text in patterns:
            for info in backend.match_series(PathPattern.parse(text, prefix=prefix)):
                for group in self.router.data_groups(info.storage_group):
                    plans[group.group_id].add(info.series_id)
        return self._on_groups(
            {
                group: DeleteDataPlan(tuple(sorted(ids)), t_min, t_max)
                for group, ids in plans.items()
            },
            deadline,
        )

    def flush(self, paths: Sequence[str], deadline: Deadline) -> Status:
        """Have every replica of the groups that hold these storage groups (all: ()) flush."""
        self._access.sync_meta(deadline)
        if paths:
            groups: set[GroupId] = set()
            unknown = []
            for text in paths:
                refs = self.storage_groups.matching(PathPattern.parse(text))
                if not refs:
                    unknown.append(text)
                for ref in refs:
                    groups.update(group.group_id for group in self.router.data_groups(ref.path))
            if unknown:
                return Status(
                    StatusCode.STORAGE_GROUP_NOT_EXIST,
                    f"storage group {', '.join(unknown)} does not exist",
                )
        else:
            groups = {group.group_id for group in self.router.table().groups}
        return self._on_groups({group: FlushPlan() for group in groups}, deadline)

    # ---- inside ----

    def _owners(self, info: SeriesInfo) -> set[GroupId]:
        owners = {self.router.schema_group(info.storage_group)}
        owners.update(group.group_id for group in self.router.data_groups(info.storage_group))
        return owners

    def _on_groups(self, plans: dict[GroupId, Any], deadline: Deadline) -> Status:
        """Run one plan per group side by side; the first failure, or success."""
        if not plans:
            return OK

        def call(group_id: GroupId, plan: DataPlan) -> Callable[[], Any]:
            return lambda: self._access.execute_data(group_id, plan, deadline)

        results = self._access.in_parallel(
            [call(group_id, plan) for group_id, plan in plans.items()]
        )
        for result in results:
            if isinstance(result, ClusterError):
                return Status(result.status, result.message)
            if isinstance(result, Exception):
                raise result
        return OK

    def _find_member(self, group_id: GroupId) -> RaftMember | None:
        if group_id == META_GROUP_ID:
            return self._meta
        return self._data_groups.get(group_id)

    def _members_of(self, group_id: GroupId) -> Sequence[NodeId]:
        if group_id == META_GROUP_ID:
            return self._meta.voters
        group = self.router.table().group_by_id(group_id)
        return group.members if group is not None else ()
