"""Coordinator: classifies what clients ask for, and runs it on the groups that own it.

Meta plans (storage groups, users, the registry) go to the meta group; data plans to the data groups
that own the slots; FLUSH and the like to every group. Insertion is in `inserter`, reading in
`cluster_backend`, schema operations in `schema_operations`, templates in `template_operations`;
this class is their front.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.config.settings import Settings
from cluster.coordinator.cluster_backend import ClusterBackend
from cluster.coordinator.groups_access import GroupsAccess
from cluster.coordinator.insert_triggers import InsertTriggers
from cluster.coordinator.inserter import Inserter
from cluster.coordinator.plan_router import PlanRouter
from cluster.coordinator.query_reads import QueryReads
from cluster.coordinator.row_writer import Propose, RowWriter
from cluster.coordinator.schema_cache import SchemaCache
from cluster.coordinator.schema_operations import SchemaOperations
from cluster.coordinator.storage_groups import StorageGroups
from cluster.coordinator.template_operations import TemplateOperations
from cluster.errors import Status
from cluster.member.raft_member import RaftMember
from cluster.member.stream import PeerStreams
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.plan.plans import MetaPlan, TriggerPlan
from cluster.plan.reads import Consistency
from cluster.query.udf.triggers import TriggerRuntime
from cluster.raft.types import GroupId
from cluster.rpc.deadline import Deadline
from cluster.rpc.loop import FrameLoop
from cluster.schema.meta_state import MetaState

_UNITS_PER_S = {"ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}


class Coordinator:
    """Runs statements' effects cluster-wide; thread-safe.

    Args:
        settings: of this node.
        access: to the groups.
        meta_state: returns this node's replica of the meta state.
        table: returns the present partition table, None while there is none.

    Attributes:
        schema: storage groups, series, deletion of points.
        templates: schema templates.
        inserter: points.
        triggers: run for the points that are inserted here.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        access: GroupsAccess,
        meta_state: Callable[[], MetaState],
        table: Callable[[], SlotPartitionTable | None],
    ) -> None:
        cluster, node = settings.cluster, settings.node
        self._meta_state = meta_state
        self._access = access
        self._query_level = Consistency[node.consistency_level.upper()]
        self._units_per_s = _UNITS_PER_S[cluster.timestamp_precision]
        self.router = PlanRouter(
            table,
            cluster.partition_interval * self._units_per_s,
            enabled=cluster.enable_partition,
        )
        self.storage_groups = StorageGroups(
            meta_state=meta_state,
            execute_meta=access.execute_meta,
            sync_meta=access.sync_meta,
            auto_create=node.enable_auto_create_schema,
            level=node.default_storage_group_level,
            units_per_ms=self._units_per_s // 1000,
        )
        self._cache = cache = SchemaCache()
        self.schema = SchemaOperations(
            access=access,
            router=self.router,
            storage_groups=self.storage_groups,
            cache=cache,
            backend=self.backend,
            triggers=lambda: meta_state().registry.triggers(),
            templates=lambda: meta_state().templates,
            units_per_ms=self._units_per_s // 1000,
        )
        self.templates = TemplateOperations(
            access=access,
            router=self.router,
            storage_groups=self.storage_groups,
            cache=cache,
            meta_state=meta_state,
            backend=self.backend,
            delete=self.schema.delete_found,
        )
        self.triggers = TriggerRuntime(
            Path(node.udf_dir) if node.udf_dir else None, node.udf_timeout_ms / 1000
        )
        self._insert_triggers = InsertTriggers(lambda: meta_state().registry, self.triggers)
        self.inserter = Inserter(
            access=access,
            router=self.router,
            storage_groups=self.storage_groups,
            cache=cache,
            templates=self.templates,
            triggers=self._insert_triggers,
            auto_create=node.enable_auto_create_schema,
            float_precision=node.float_precision,
            now=self.now,
        )

    def close(self) -> None:
        """Stop helper threads and the triggers' processes."""
        self.triggers.close()
        self._access.close()

    def relay(
        self, group_id: GroupId, method: str, payload: bytes, deadline: Deadline
    ) -> bytes | None:
        """Pass on the request of a node that does not reach a leader; see `Forwarder.relay`."""
        return self._access.relay(group_id, method, payload, deadline)

    def row_writer(self, loop: FrameLoop, streams: PeerStreams, propose: Propose) -> RowWriter:
        """Return what writes single rows in a loop."""
        return self._access.row_writer(loop, streams, propose)

    def follow_leaders(self, member: RaftMember) -> None:
        """Learn of a group's leaders from this node's member of it."""
        self._access.follow_leaders(member)

    @property
    def meta_state(self) -> MetaState:
        """This node's replica of the meta state."""
        return self._meta_state()

    def now(self) -> int:
        """Return the wall clock in units of the timestamp precision."""
        return time.time_ns() * self._units_per_s // 1_000_000_000

    def backend(
        self, deadline: Deadline, check: Callable[[str], None] | None = None
    ) -> ClusterBackend:
        """Return a view for one query; what is past its time to live is decided once, now.

        Args:
            deadline: of the query.
            check: see `ClusterBackend`.
        """
        return self._view(self._access.reads(deadline), deadline, check)

    def query_backend(
        self,
        deadline: Deadline,
        check: Callable[[str], None] | None = None,
        *,
        stored: bool = False,
        early: bool = False,
    ) -> ClusterBackend:
        """Return a view for one query that changes nothing, at the configured consistency level.

        `stored`, `early`: see `ClusterBackend`.
        """
        reads = self._access.reads(deadline, self._query_level)
        return self._view(reads, deadline, check, stored=stored, early=early)

    @property
    def leads_meta(self) -> bool:
        """Whether this node leads the meta group, as far as it knows."""
        return self._access.leads_meta

    def answering_nodes(self, deadline: Deadline) -> set[int]:
        """Return the ids of the meta group's nodes that answer, this one included."""
        return self._access.answering_nodes(deadline)

    def forget_schema(self) -> None:
        """Drop what this node remembers of devices' schema; it is looked up again when needed."""
        self._cache.clear()

    def execute_meta(self, plan: MetaPlan, deadline: Deadline) -> Any:  # noqa: ANN401
        """Apply a meta plan and return its Outcome."""
        return self._access.execute_meta(plan, deadline)

    def change_meta(self, plan: MetaPlan, deadline: Deadline) -> Status:
        """Apply a meta plan, and see that reachable nodes know it too before this returns."""
        outcome = self.execute_meta(plan, deadline)
        self._access.announce_meta(deadline)
        return Status(outcome.status, outcome.message)

    def change_triggers(self, plan: TriggerPlan, deadline: Deadline) -> Status:
        """Apply a change of a trigger; what runs here of one that is stopped ends at once."""
        status = self.change_meta(plan, deadline)
        self._insert_triggers.any_started()
        return status

    def sync_meta(self, deadline: Deadline) -> None:
        """Make this node's meta state as new as any acknowledged change."""
        self._access.sync_meta(deadline)

    def _view(
        self,
        reads: QueryReads,
        deadline: Deadline,
        check: Callable[[str], None] | None,
        *,
        stored: bool = False,
        early: bool = False,
    ) -> ClusterBackend:
        return ClusterBackend(
            reads=reads,
            router=self.router,
            storage_groups=self.storage_groups,
            deadline=deadline,
            now=self.now(),
            check=check,
            stored=stored,
            early=early,
        )
