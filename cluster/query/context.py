"""What a query may use, and when it must end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone, tzinfo
from typing import Protocol

from cluster.errors import QUERY_CANCELLED, QUERY_TIMED_OUT, ClusterError, StatusCode
from cluster.query.functions.function import Bind
from cluster.query.node_view import NodeView


class HasRemaining(Protocol):
    """A point in time that work must end by."""

    def remaining_s(self) -> float:
        """Return the seconds left, 0 or less when there are none."""
        ...


class Flag(Protocol):
    """Something that may be set."""

    def is_set(self) -> bool:
        """Tell whether it is."""
        ...


@dataclass(frozen=True)
class QueryContext:
    """What a query may use.

    Attributes:
        deadline: after it the query fails with TIME_OUT.
        version: what SHOW VERSION says.
        prefix_dialect: whether paths mean what they meant in 0.12 (sql.md 1.6).
        cancelled: set to make the query fail at its next batch.
        max_series: most distinct series that one SELECT may read.
        zone: calendar of the months in GROUP BY.
        precision: unit of timestamps, "ms", "us" or "ns".
        aligned_functions: whether functions and arithmetic may read aligned series, which 0.13
            refuses and 1.x does not.
        modern: whether the client is of 1.0 or later and gets the headers of that (sql.md 7.2).
        node: the node that answers, None where there is no server.
        replica_count: replicas of each group.
        partition_interval: length of a time partition, in units of the precision.
        functions: finds the functions of users by name.
    """

    deadline: HasRemaining
    version: str
    prefix_dialect: bool = False
    cancelled: Flag | None = None
    max_series: int = 1000
    zone: tzinfo = timezone.utc
    precision: str = "ms"
    aligned_functions: bool = False
    modern: bool = False
    node: NodeView | None = None
    replica_count: int = 1
    partition_interval: int = 0
    functions: Callable[[str], Bind | None] | None = None

    def at(self, deadline: HasRemaining, cancelled: Flag | None) -> QueryContext:
        """Return the same for a query of its own; a fraction of the cost of `replace`."""
        changed = object.__new__(QueryContext)
        changed.__dict__.update(self.__dict__, deadline=deadline, cancelled=cancelled)
        return changed

    def check(self) -> None:
        """Raise ClusterError if the query must end."""
        if self.deadline.remaining_s() <= 0:
            raise ClusterError(StatusCode.TIME_OUT, QUERY_TIMED_OUT)
        if self.cancelled is not None and self.cancelled.is_set():
            raise ClusterError(StatusCode.QUERY_PROCESS_ERROR, QUERY_CANCELLED)
