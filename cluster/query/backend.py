"""What query execution needs of the world: schema lookups and column streams.

The cluster's implementation is in `cluster.coordinator.cluster_backend`; tests use one over a
dictionary; embedded mode uses one over the local engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from cluster.scan.filters import RowFilter
from cluster.scan.windows import AggregateTable, Needs, Windows
from cluster.schema.meta_state import MetaState
from cluster.schema.paths import PathPattern
from cluster.schema.series import DeviceInfo, SeriesInfo
from iotdb_engine.types import T_MAX, T_MIN, ColumnBatch


class QueryBackend(Protocol):
    """All methods raise ClusterError; none answers partially. Order of results is stable."""

    def meta(self) -> MetaState:
        """Return the meta state, as new as any change acknowledged before the query began."""
        ...

    def storage_groups(self, pattern: PathPattern) -> list[str]:
        """Return the matching storage groups' paths, sorted."""
        ...

    def match_series(self, pattern: PathPattern) -> list[SeriesInfo]:
        """Return the series whose path (or alias path) matches, sorted by device, then creation."""
        ...

    def match_all(
        self,
        patterns: Sequence[PathPattern],
        span: Callable[[], tuple[int, int]] = lambda: (T_MIN, T_MAX),
    ) -> list[list[SeriesInfo]]:
        """Return what `match_series` would for each pattern, at the cost of one look-up.

        Args:
            patterns: of the series.
            span: tells the inclusive range in which points will mostly be read next; only a hint.
        """
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
        selected: int | None = None,
        row_filter: RowFilter | None = None,
        descending: bool = False,
        max_rows: int | None = None,
    ) -> Iterator[ColumnBatch]:
        """Stream the rows (union of timestamps) of series that all belong to ONE storage group.

        Args:
            series: unique; the columns of `row_filter` are parallel to it.
            t_min: first time, inclusive.
            t_max: last time, inclusive.
            selected: only the first so many columns are wanted, and the rows that have a value in
                one of them; None: all.
            row_filter: only rows that pass are wanted; None: all.
            descending: newest first.
            max_rows: stop after that many rows; None: all.
        """
        ...

    def aggregate(
        self,
        series: Sequence[SeriesInfo],
        windows: Windows,
        intervals: Sequence[tuple[int, int]],
        needs: Needs,
        *,
        selected: int | None = None,
        row_filter: RowFilter | None = None,
    ) -> AggregateTable:
        """Return the aggregates of series over windows.

        Args:
            series: unique; of any storage groups, but of ONE if there is a filter.
            windows: inclusive.
            intervals: inclusive, disjoint, ascending: only points in them count.
            needs: what is wanted besides counts.
            selected: only the first so many series are aggregated; None: all.
            row_filter: only points of rows that pass count; its columns are parallel to `series`.
        """
        ...

    def last(self, series: Sequence[SeriesInfo]) -> list[tuple[int, Any] | None]:
        """Return the latest time and value (bytes for TEXT) of each series, None: no points."""
        ...
