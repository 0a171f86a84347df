"""The meta group's state machine: MetaState over the engine's region 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from cluster.member.group_machine import GroupMachine
from cluster.member.meta_plans import apply_meta_plan
from cluster.plan.plans import MetaPlan, SetPartitionTablePlan
from cluster.raft.types import Entry, EntryKind, LogIndex
from cluster.schema.meta_state import MetaState
from iotdb_engine import Region


class MetaMachine(GroupMachine):
    """Applies meta plans; persists what they change in the same region as its applied index."""

    state: MetaState

    def __init__(self, region: Region) -> None:
        self._table_listeners: list[Callable[[], None]] = []
        self._told_table = b""
        super().__init__(region)
        self._told_table = self.state.partition_table

    def on_table_changed(self, listener: Callable[[], None]) -> None:
        """Call `listener` from the applier after a new partition table is in."""
        self._table_listeners.append(listener)

    def adopt(self, region: Region) -> None:
        """Also tell of the partition table that came with the state."""
        super().adopt(region)
        self._tell_table()

    def _load(self, region: Region) -> None:
        self.state = MetaState.load(region.scan(b""))

    def _apply(self, plan: Any, index: LogIndex) -> Any:  # noqa: ANN401
        outcome, puts = apply_meta_plan(self.state, plan, index)
        if puts:
            self._region.put(puts, index)
        else:
            self._region.mark_applied(index)
        return outcome

    def _after(self, plan: Any) -> None:  # noqa: ANN401
        if isinstance(plan, SetPartitionTablePlan) and self.state.partition_table:
            # a restart must find the table without its neighbours' help, so it is stored at once
            self._region.flush(wait=True)
            self._tell_table()

    def _tell_table(self) -> None:
        table = self.state.partition_table
        if table != self._told_table:
            self._told_table = table
            for listener in self._table_listeners:
                listener()

    def are_quick(self, entries: Sequence[Entry]) -> bool:
        """Meta plans are rare, and some wait for a flush: none is quick."""
        return all(entry.kind != EntryKind.PLAN for entry in entries)

    def check(self, plan: object) -> None:
        """Raise ValueError unless `plan` is a meta plan."""
        if not isinstance(plan, get_args(MetaPlan)):
            raise ValueError(f"the meta group can't apply a {type(plan).__name__}")
