"""A data group's state machine: the schema it owns and the points of its slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cluster.errors import StatusCode
from cluster.member.digest import series_of_label
from cluster.member.group_machine import GroupMachine
from cluster.member.id_set import IdSet
from cluster.plan.codec import insert_fragment_count
from cluster.plan.plans import (
    AlterSeriesPlan,
    CreateSeriesPlan,
    DeleteDataPlan,
    DeleteSeriesPlan,
    DigestPlan,
    DropStorageGroupDataPlan,
    FlushPlan,
    InsertPlan,
    MergeKind,
    SetDataTtlPlan,
)
from cluster.raft.types import Entry, EntryKind, LogIndex
from cluster.schema.series import SERIES_PER_STORAGE_GROUP_BITS
from cluster.schema.tree import KEY_PREFIX, SchemaTree, SeriesOutcome
from iotdb_engine import Fragment, Layout, Region, check_fragment

_DROPPED_SERIES = b"dropped/series/"
_DROPPED_GROUP = b"dropped/group/"
_MAX_LIVE_COLUMNS = 1 << 20
"""Of all layouts that are remembered as live, some 50 bytes each."""
_QUICK_FRAGMENTS = range(1, 65)
_MOST_TOGETHER = 64
"""So many inserts in a row are one step for the region; readers wait for its end."""


class InsertOutcome(NamedTuple):
    """Result of an InsertPlan: numbers of the fragments refused because a series was dropped."""

    refused: tuple[int, ...]


_ALL_TAKEN = InsertOutcome(())
"""Shared: each is kept for a while (`RequestTable`), and is looked at by the garbage collector."""


class DataMachine(GroupMachine):
    """Applies data plans to one engine region.

    A dropped series' id is never used again, and its drop is remembered: a coordinator whose schema
    cache is old then gets a refusal instead of writing into nowhere (weakness: 0.13's remote schema
    cache has no invalidation).
    """

    schema: SchemaTree

    def __init__(self, region: Region) -> None:
        self._apply_by_type: dict[type, Callable[[Any, LogIndex], Any]] = {
            InsertPlan: self._insert,
            DeleteDataPlan: self._delete_data,
            CreateSeriesPlan: self._create_series,
            AlterSeriesPlan: self._alter_series,
            DeleteSeriesPlan: self._delete_series,
            DropStorageGroupDataPlan: self._drop_storage_groups,
            SetDataTtlPlan: self._set_ttl,
            FlushPlan: self._flush,
        }
        super().__init__(region)

    def _load(self, region: Region) -> None:
        self.schema = SchemaTree.load(region.scan(KEY_PREFIX))
        self._dropped_groups = {
            int.from_bytes(key[len(_DROPPED_GROUP) :], "big")
            for key, _ in region.scan(_DROPPED_GROUP)
        }
        self._dropped_series = IdSet()
        for key, _ in region.scan(_DROPPED_SERIES):
            series_id = int.from_bytes(key[len(_DROPPED_SERIES) :], "big")
            if series_id >> SERIES_PER_STORAGE_GROUP_BITS not in self._dropped_groups:
                self._dropped_series.add(series_id)
        # by identity, as callers share their layouts, and to hash one of a hundred columns costs
        # more than all else about an insert; what is held here keeps its id
        self._live_layouts: dict[int, Layout] = {}
        self._live_columns = 0
        self._inserts: Sequence[Entry] = ()
        """Entries of which `are_quick` has seen that all are inserts; they are applied next."""

    def _apply(self, plan: Any, index: LogIndex) -> Any:  # noqa: ANN401
        handler = self._apply_by_type.get(type(plan))
        if handler is None:
            raise TypeError(f"a data group can't apply a {type(plan).__name__}")
        return handler(plan, index)

    def are_quick(self, entries: Sequence[Entry]) -> bool:
        """Whether these are inserts of few fragments, and the engine has room for them."""
        if self._region.holds_back:
            return False
        all_insert = len(entries) <= _MOST_TOGETHER
        for _, _, kind, data in entries:
            if kind != EntryKind.PLAN:
                all_insert = False
            elif insert_fragment_count(data) not in _QUICK_FRAGMENTS:
                return False
        self._inserts = entries if all_insert else ()
        return True

    def check(self, plan: object) -> None:
        """Raise ValueError unless `plan` is a data plan with sound fragments."""
        if type(plan) not in self._apply_by_type and type(plan) is not DigestPlan:
            raise ValueError(f"a data group can't apply a {type(plan).__name__}")
        if isinstance(plan, InsertPlan):
            for fragment in plan.fragments:
                check_fragment(fragment)

    def leaf_text(self, label: bytes) -> str:
        """Return a part of a digest for people: a series by its path, where that is known here."""
        series_id = series_of_label(label)
        info = None if series_id is None else self.schema.series(series_id)
        return super().leaf_text(label) + ("" if info is None else f" ({info.path})")

    def _is_live(self, layout: Layout) -> bool:
        if self._live_layouts.get(id(layout)) is layout:
            return True
        for series_id in layout.series_ids:
            if (
                series_id in self._dropped_series
                or series_id >> SERIES_PER_STORAGE_GROUP_BITS in self._dropped_groups
            ):
                return False
        self._live_columns += len(layout.series_ids)
        if self._live_columns > _MAX_LIVE_COLUMNS:
            self._live_layouts.clear()
            self._live_columns = len(layout.series_ids)
        self._live_layouts[id(layout)] = layout
        return True

    def _forget_live(self) -> None:
        self._live_layouts.clear()
        self._live_columns = 0

    def apply_all(self, entries: Sequence[Entry]) -> list[Any]:
        """Apply entries, and return the outcome of each; inserts in a row are applied together."""
        known, self._inserts = self._inserts, ()
        if entries is known:
            return self._insert_all(entries)
        outcomes: list[Any] = []
        inserts: list[Entry] = []
        for entry in entries:
            if entry.kind == EntryKind.PLAN and insert_fragment_count(entry.data):
                if len(inserts) == _MOST_TOGETHER:
                    outcomes += self._insert_all(inserts)
                    inserts = []
                inserts.append(entry)
            else:
                outcomes += self._insert_all(inserts)
                inserts = []
                outcomes.append(self._apply_or_skip(entry))
        return outcomes + self._insert_all(inserts)

    def _insert_all(self, entries: Sequence[Entry]) -> list[Any]:
        """Apply inserts in one step for the region, which is most of what a row's costs.

        As if one after the other: a request may be there twice, or settle one that comes after it.
        """
        if len(entries) < 2:
            return [self.apply(entry) for entry in entries]
        inserts = [self._decoded(entry) for entry in entries]  # nothing is done where one can't be
        region, requests = self._region, self._requests
        live = self._live_layouts
        last = entries[-1].index
        outcomes: list[Any] = []
        fragments: list[Fragment] = []
        with region.entry():
            region.mark_applied(last)  # where that is refused, nothing is noted of any of them
            for entry, (request, plan) in zip(entries, inserts, strict=True):
                known = None if request is None else requests.find(request)
                if known is not None:
                    outcomes.append(known.outcome)
                    continue
                kept, outcome = plan.fragments, _ALL_TAKEN
                if len(kept) > 1 or id(kept[0].layout) not in live:
                    kept, outcome = self._live_part(plan)
                fragments += kept
                outcomes.append(outcome)
                if request is not None:
                    requests.note(request, outcome, entry.index)
            if fragments:
                region.write(fragments, last)
        self._applied = last
        return outcomes

    def _insert(self, plan: InsertPlan, index: LogIndex) -> InsertOutcome:
        kept, outcome = self._live_part(plan)
        if kept:
            self._region.write(kept, index)
        else:
            self._region.mark_applied(index)
        return outcome

    def _live_part(self, plan: InsertPlan) -> tuple[Sequence[Fragment], InsertOutcome]:
        """Return the fragments of series that were not dropped, and the outcome of writing them."""
        fragments = plan.fragments
        refused = [
            number
            for number, fragment in enumerate(fragments)
            if not self._is_live(fragment.layout)
        ]
        if not refused:
            return fragments, _ALL_TAKEN
        kept = [fragment for number, fragment in enumerate(fragments) if number not in refused]
        return kept, InsertOutcome(tuple(refused))

    def _delete_data(self, plan: DeleteDataPlan, index: LogIndex) -> None:
        self._region.delete(plan.series_ids, plan.t_min, plan.t_max, index)

    def _create_series(self, plan: CreateSeriesPlan, index: LogIndex) -> Any:  # noqa: ANN401
        if plan.sg_id in self._dropped_groups:
            self._region.mark_applied(index)
            refused = SeriesOutcome(
                None,
                StatusCode.STORAGE_GROUP_NOT_EXIST,
                f"storage group {plan.sg_path} was deleted meanwhile",
            )
            return [refused] * len(plan.specs)
        outcomes, puts = self.schema.create(plan)
        self._put(puts, index)
        return outcomes

    def _alter_series(self, plan: AlterSeriesPlan, index: LogIndex) -> SeriesOutcome:
        outcome, puts = self.schema.alter(plan)
        self._put(puts, index)
        return outcome

    def _delete_series(self, plan: DeleteSeriesPlan, index: LogIndex) -> int:
        removed, puts = self.schema.delete(plan.series_ids)
        changes: dict[bytes, bytes | None] = dict(puts)
        for series_id in plan.series_ids:
            self._dropped_series.add(series_id)
            changes[_DROPPED_SERIES + series_id.to_bytes(8, "big")] = b""
        self._forget_live()
        ranges = [(series_id, series_id + 1) for series_id in plan.series_ids]
        with self._region.entry():
            self._region.drop_series(ranges, index)
            self._region.put(changes, index)
        return len(removed)

    def _drop_storage_groups(self, plan: DropStorageGroupDataPlan, index: LogIndex) -> int:
        bits = SERIES_PER_STORAGE_GROUP_BITS
        removed, puts = self.schema.drop_storage_groups(plan.sg_ids)
        changes: dict[bytes, bytes | None] = dict(puts)
        for sg_id in plan.sg_ids:
            self._dropped_groups.add(sg_id)
            self._dropped_series.discard_range(sg_id << bits, (sg_id + 1) << bits)
            changes[_DROPPED_GROUP + sg_id.to_bytes(8, "big")] = b""
        self._forget_live()
        with self._region.entry():
            self._region.drop_series(
                [(sg_id << bits, (sg_id + 1) << bits) for sg_id in plan.sg_ids], index
            )
            self._region.put(changes, index)
        return removed

    def _set_ttl(self, plan: SetDataTtlPlan, index: LogIndex) -> None:
        bits = SERIES_PER_STORAGE_GROUP_BITS
        with self._region.entry():
            for sg_id in plan.sg_ids:
                self._region.set_ttl(sg_id << bits, (sg_id + 1) << bits, plan.ttl or None, index)
            self._region.mark_applied(index)

    def _flush(self, plan: FlushPlan, index: LogIndex) -> None:
        self._region.mark_applied(index)
        self._region.flush(wait=False)
        if plan.merge is not MergeKind.NONE:
            self._region.request_compaction(full=plan.merge is MergeKind.FULL)

    def _put(self, puts: dict[bytes, bytes | None], index: LogIndex) -> None:
        if puts:
            self._region.put(puts, index)
        else:
            self._region.mark_applied(index)
