"""What becomes of plans."""

from __future__ import annotations

from typing import Any, NamedTuple

from cluster.errors import StatusCode


class Outcome(NamedTuple):
    """Result of a meta plan.

    Attributes:
        value: SetStorageGroupPlan: the storage group's id; DeleteStorageGroupsPlan: the ids that
            were there; SetPartitionTablePlan: whether the table was taken; else None.
    """

    status: StatusCode
    message: str = ""
    value: Any = None

    @property
    def ok(self) -> bool:
        """Whether the plan took effect or had nothing to do."""
        return self.status == StatusCode.SUCCESS
