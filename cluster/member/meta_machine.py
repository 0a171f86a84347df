"""The meta group's state machine: MetaState over the engine's region 0."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, get_args

from cluster.plan.codec import decode_plan
from cluster.plan.plans import MetaPlan, SetPartitionTablePlan
from cluster.raft.types import Entry, LogIndex
from cluster.schema.meta_state import MetaState
from iotdb_engine import Region

logger = logging.getLogger(__name__)


class MetaMachine:
    """Applies meta plans; persists what they change in the same region as its applied index."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._applied = LogIndex(region.applied_index)
        self.state = MetaState.load(region.scan(b""))
        self._table_listeners: list[Callable[[], None]] = []

    @property
    def applied_index(self) -> LogIndex:
        """Everything up to here has been applied."""
        return self._applied

    def on_table_changed(self, listener: Callable[[], None]) -> None:
        """Call `listener` from the applier after a new partition table is in."""
        self._table_listeners.append(listener)

    def apply(self, entry: Entry) -> Any:  # noqa: ANN401
        """Apply a meta plan and return its Outcome."""
        plan = decode_plan(entry.data)
        before = self.state.partition_table
        outcome, puts = self.state.apply(plan, entry.index)  # type: ignore[arg-type]
        if puts:
            self._region.put(puts, entry.index)
        else:
            self._region.mark_applied(entry.index)
        self._applied = entry.index
        if isinstance(plan, SetPartitionTablePlan) and self.state.partition_table != before:
            # a restart must find the table without its neighbours' help, so it is stored at once
            self._region.flush(wait=True)
            for listener in self._table_listeners:
                listener()
        return outcome

    def is_quick(self, entry: Entry) -> bool:
        """Meta plans are rare, and some wait for a flush: none is quick."""
        return False

    def check(self, plan: object) -> None:
        """Raise ValueError unless `plan` is a meta plan."""
        if not isinstance(plan, get_args(MetaPlan)):
            raise ValueError(f"the meta group can't apply a {type(plan).__name__}")

    def skip(self, index: LogIndex) -> None:
        """Note an entry without effect."""
        self._region.mark_applied(index)
        self._applied = index
