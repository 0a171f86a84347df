"""What query execution needs of the world: schema lookups and column streams.

The cluster's implementation is in `cluster.coordinator.cluster_backend`; tests use one over a
dictionary; embedded mode uses one over the local engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cluster.schema.paths import PathPattern
from cluster.schema.series import DeviceInfo, SeriesInfo
from iotdb_engine.types import Aggregate, ColumnBatch


class QueryBackend(Protocol):
    """All methods raise ClusterError; none answers partially. Order of results is stable."""

    def storage_groups(self, pattern: PathPattern) -> list[str]:
        """Return the matching storage groups' paths, sorted."""
        ...

    def match_series(self, pattern: PathPattern) -> list[SeriesInfo]:
        """Return the series whose path (or alias path) matches, sorted by device, then creation."""
        ...

    def match_devices(self, pattern: PathPattern) -> list[DeviceInfo]:
        """Return the devices whose path matches, sorted by path."""
        ...

    def node_types(self, pattern: PathPattern, level: int | None = None) -> dict[str, str]:
        """Return the nodes of every kind whose path matches: path → kind, as 1.x names it.

        With a level, instead of the matching nodes their ancestors (or they themselves) with that
        many nodes after root.
        """
        ...

    def read(
        self,
        series: Sequence[SeriesInfo],
        t_min: int,
        t_max: int,
        *,
        descending: bool = False,
        max_rows: int | None = None,
    ) -> Iterator[ColumnBatch]:
        """Stream the rows (union of timestamps) of series that all belong to ONE storage group.

        Args:
            series: unique; the batches' columns are parallel to it.
            t_min: first time, inclusive.
            t_max: last time, inclusive.
            descending: newest first.
            max_rows: stop after that many rows; None: all.
        """
        ...

    def aggregate(self, series: Sequence[SeriesInfo], t_min: int, t_max: int) -> list[Aggregate]:
        """Return one aggregate for each series (of any storage groups), over [t_min, t_max]."""
        ...
