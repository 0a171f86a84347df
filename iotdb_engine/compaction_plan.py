"""Which chunks to merge: pure decisions over layers.

A *layer* is one TIMES record with the chunks that share it. A group is all layers of one owner in
one slot. Problem: every merge rewrites points, so a rule that merges eagerly rewrites old points
again and again; a lazy one leaves readers with many small or overlapping chunks. Rules:

1. Small layers that follow each other are merged when `FAN_IN` stand in a row and what comes out
   is at least twice the largest of them. Rows of about one size (a *tier*, log base `FAN_IN`) go
   first, so in the common case a point is rewritten once a tier, log_8(65536 / rows of a flush)
   times in its life and once more for good; at worst log_2.
2. Layers that overlap are merged when all but the largest hold an eighth of its rows, so that
   rewriting the large one is paid by at most eight times as many new points.
3. Full chunks that a flush wrote are encoded for speed; they are rewritten once, with a neighbour
   if they are not quite full. What comes out is *settled*: only rule 2 touches it again.

A full merge takes everything that is not settled or the best that can be made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

FAN_IN = 8
_OVERLAP_SHARE = 8
_MOST_OVERLAPS = 32
"""So many layers over each other are merged however small they are."""
_MOST_CHUNKS = 16
"""Rows of one merge, in full chunks: bounds what a crash has done again, and memory for times."""


class Layer(NamedTuple):
    """What a TIMES record says of itself.

    Attributes:
        first: time of the first row.
        last: time of the last row.
        rows: how many.
        best: encoded as small as can be.
    """

    first: int
    last: int
    rows: int
    best: bool


class Span(NamedTuple):
    """An inclusive time range whose layers are to be merged.

    Attributes:
        best: whether what comes out is to be encoded as small as can be.
    """

    t_min: int
    t_max: int
    best: bool


def pick(
    layers: Sequence[Layer],
    chunk_rows: int,
    *,
    full: bool,
    deleted: Sequence[tuple[int, int]] = (),
) -> list[Span]:
    """Return what to merge of a group, in time order; the spans do not touch each other.

    Args:
        layers: in any order.
        chunk_rows: rows of a full chunk.
        full: a full merge.
        deleted: inclusive time ranges in which rows are deleted that are still stored; a full
            merge rewrites what they touch.
    """
    clusters = _clusters(layers)
    if full:
        return _everything(clusters, chunk_rows, deleted)
    found: list[Span] = []
    quiet: list[_Cluster] = []
    for cluster in clusters:
        if cluster.is_worth_merging():
            found.extend(_by_size(quiet, chunk_rows))
            quiet = []
            found.append(cluster.span_to(cluster, chunk_rows))
        else:
            quiet.append(cluster)
    found.extend(_by_size(quiet, chunk_rows))
    return found


class _Cluster:
    """Layers that overlap each other, one or more, as one stretch of time."""

    __slots__ = ("best", "count", "first", "largest", "last", "rows")

    def __init__(self, layer: Layer) -> None:
        self.first, self.last, self.rows, self.best = layer
        self.largest = layer.rows
        self.count = 1

    def add(self, layer: Layer) -> None:
        self.last = max(self.last, layer.last)
        self.rows += layer.rows
        self.largest = max(self.largest, layer.rows)
        self.count += 1
        self.best = False

    def is_worth_merging(self) -> bool:
        """Rule 2."""
        if self.count == 1:
            return False
        enough = (self.rows - self.largest) * _OVERLAP_SHARE >= self.largest
        return enough or self.count > _MOST_OVERLAPS

    def is_settled(self, chunk_rows: int) -> bool:
        return self.best and self.rows >= chunk_rows // 2

    def span_to(self, end: _Cluster, chunk_rows: int, *, rows: int | None = None) -> Span:
        total = self.rows if rows is None else rows
        return Span(self.first, end.last, total >= chunk_rows // 2)


def _clusters(layers: Sequence[Layer]) -> list[_Cluster]:
    found: list[_Cluster] = []
    for layer in sorted(layers):
        if found and layer.first <= found[-1].last:
            found[-1].add(layer)
        else:
            found.append(_Cluster(layer))
    return found


def _tier(rows: int, chunk_rows: int) -> int:
    tier = 0
    limit = FAN_IN
    while rows >= limit and limit <= chunk_rows // 2:
        tier += 1
        limit *= FAN_IN
    return tier


def _by_size(clusters: Sequence[_Cluster], chunk_rows: int) -> list[Span]:
    """Rules 1 and 3."""
    tiers = [
        None if cluster.is_settled(chunk_rows) else _tier(cluster.rows, chunk_rows)
        for cluster in clusters
    ]
    found: list[Span] = []
    for tier in sorted({tier for tier in tiers if tier is not None}):
        for lo, hi in _rows_up_to(tiers, clusters, tier, chunk_rows):
            some = clusters[lo:hi]
            total = sum(cluster.rows for cluster in some)
            largest = max(cluster.rows for cluster in some)
            many = len(some) >= FAN_IN or total >= chunk_rows
            if largest >= chunk_rows or (many and total >= 2 * largest):
                found.append(some[0].span_to(some[-1], chunk_rows, rows=total))
                tiers[lo:hi] = [None] * len(some)
    return sorted(found)


def _rows_up_to(
    tiers: Sequence[int | None], clusters: Sequence[_Cluster], tier: int, chunk_rows: int
) -> list[tuple[int, int]]:
    """Return [lo, hi) of the longest rows of neighbours of at most a tier, cut where long."""
    found: list[tuple[int, int]] = []
    lo: int | None = None
    rows = 0
    for at, one in enumerate([*tiers, None]):
        fits = one is not None and one <= tier
        if lo is not None and (not fits or rows >= _MOST_CHUNKS * chunk_rows):
            found.append((lo, at))
            lo = None
        if fits:
            if lo is None:
                lo, rows = at, 0
            rows += clusters[at].rows
    return found


def _everything(
    clusters: Sequence[_Cluster], chunk_rows: int, deleted: Sequence[tuple[int, int]]
) -> list[Span]:
    """Return stretches of everything that could still be better."""
    found: list[Span] = []
    row: list[_Cluster] = []
    must = False

    def close() -> None:
        if row and (must or len(row) > 1 or not row[0].best):
            found.append(Span(row[0].first, row[-1].last, True))

    rows = 0
    for cluster in clusters:
        hit = any(low <= cluster.last and cluster.first <= high for low, high in deleted)
        settled = cluster.is_settled(chunk_rows) and not hit
        if settled or rows >= _MOST_CHUNKS * chunk_rows:
            close()
            row, rows, must = [], 0, False
        if not settled:
            row.append(cluster)
            rows += cluster.rows
            must |= hit
    close()
    return found
