"""The log keeper: one group's trouble keeps neither the others' log nor the node from going on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.log.errors import LogFailed
from cluster.member.log_keeper import LogKeeper
from cluster.raft.types import GroupId
from iotdb_engine.errors import Closed

SEGMENT = 100


class Member:
    """A member whose oldest entry stands in the first of ten segments."""

    def __init__(self, group_id: int, durable: int = 0) -> None:
        self.group_id = GroupId(group_id)
        self.applied_index = 10
        self.durable_index = durable
        self.compacted: list[Any] = []
        self.error: Exception | None = None
        nothing = SimpleNamespace(expire=lambda: None)
        self.snapshots = nothing
        self.group_machine = SimpleNamespace(digests=nothing)

    def maybe_compact(self, keep: Any = None) -> None:
        if self.error is not None:
            raise self.error
        self.compacted.append(keep)


def keeper(members: list[Member], flush: Any, *, oldest: int = 1, newest: int = 10) -> LogKeeper:
    group = SimpleNamespace(oldest_segment=lambda: oldest, move_oldest=lambda _: 0)
    return LogKeeper(
        log=SimpleNamespace(newest_segment=newest, group=lambda _: group),  # type: ignore[arg-type]
        members=lambda: members,  # type: ignore[arg-type, return-value]
        flush=flush,
        segment_bytes=SEGMENT,
        flush_after_bytes=5 * SEGMENT,
        flush_after_entries=10,
        max_bytes=9 * SEGMENT,
    )


def test_what_pins_old_segments_is_flushed_and_then_given_up() -> None:
    behind, stored = Member(1), Member(2, durable=10)
    flushed: list[int] = []
    keeper([behind, stored], flushed.append, newest=5).keep()
    assert (flushed, len(behind.compacted)) == ([], 1)
    keeper([behind, stored], flushed.append, newest=6).keep()
    assert (flushed, len(behind.compacted)) == ([1], 2)
    keeper([behind, stored], flushed.append, newest=10).keep()
    assert flushed == [1, 1]
    assert [keep is None for keep in stored.compacted] == [True, True, True, False]


def test_many_small_entries_are_flushed_although_they_pin_little() -> None:
    """A restarted member applies each of them again: not for minutes."""
    member = Member(1)
    flushed: list[int] = []
    keeper([member], flushed.append, newest=1).keep()
    assert flushed == []
    member.applied_index = 11
    keeper([member], flushed.append, newest=1).keep()
    assert flushed == [1]


@pytest.mark.parametrize("error", [Closed("region 1 is closed"), LogFailed("it is closed")])
def test_trouble_of_one_group_is_no_end(error: Exception) -> None:
    """A region is closed while a snapshot takes its place; the log when it has failed."""
    broken, sound = Member(1), Member(2)
    flushed: list[int] = []

    def flush(group_id: GroupId) -> None:
        if group_id == 1:
            raise error
        flushed.append(group_id)

    keeper([broken, sound], flush).keep()
    assert flushed == [2]
    broken.error = error
    keeper([broken, sound], flush).keep()
    assert flushed == [2, 2]
