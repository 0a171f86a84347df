"""Calls to a leader that was replaced end; others go on."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from cluster.coordinator.call_watch import LONG_S, CallWatch
from cluster.raft.types import GroupId, NodeId

GROUP, OTHER_GROUP = GroupId(1), GroupId(2)
OLD, NEW, NOBODY = NodeId(10), NodeId(11), NodeId(0)


def own_watch() -> CallWatch:
    return CallWatch(lambda group_id: True, lambda group_id, but: NOBODY)


def test_only_calls_to_the_former_leader_of_the_group_are_cut() -> None:
    watch = own_watch()
    cut = []
    with (
        watch.over(GROUP, OLD) as old,
        watch.over(GROUP, NEW) as new,
        watch.over(OTHER_GROUP, OLD) as other,
    ):
        for name, call in (("old", old), ("new", new), ("other", other)):
            call.started(lambda n=name: cut.append(n))
        watch.leader_is(GROUP, NOBODY)
        assert not cut
        watch.leader_is(GROUP, NEW)
    assert cut == ["old"]
    assert (old.superseded, new.superseded, other.superseded) == (True, False, False)


def test_a_call_that_starts_after_the_change_is_cut_at_once() -> None:
    watch = own_watch()
    cut = []
    with watch.over(GROUP, OLD) as call:
        watch.leader_is(GROUP, NEW)
        call.started(lambda: cut.append(1))
    assert cut == [1]


def test_a_call_that_has_ended_is_left_alone() -> None:
    watch = own_watch()
    cut = []
    with watch.over(GROUP, OLD) as call:
        call.started(lambda: cut.append(1))
    watch.leader_is(GROUP, NEW)
    assert not cut


def test_the_members_of_a_foreign_group_are_asked_while_a_call_takes_long() -> None:
    asked = []
    answers = [NOBODY, NEW]
    cut = threading.Event()

    def find_leader(group_id: GroupId, but: NodeId) -> NodeId:
        asked.append((group_id, but))
        return answers.pop(0)

    watch = CallWatch(lambda group_id: group_id == OTHER_GROUP, find_leader)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        with watch.over(OTHER_GROUP, OLD), watch.over(GROUP, OLD) as call:
            call.started(cut.set)
            assert cut.wait(10)
    finally:
        watch.stop()
        thread.join(10)
    assert not thread.is_alive()
    assert asked == [(GROUP, OLD), (GROUP, OLD)]


def test_a_mute_target_ends_calls_that_take_long_only() -> None:
    pinged: list[list[NodeId]] = []
    mute: Any = SimpleNamespace(probe=pinged.append, is_mute=lambda node_id: node_id == OLD)
    watch = CallWatch(lambda group_id: True, lambda group_id, but: NOBODY, mute, lambda: [OLD, NEW])
    with watch.over(GROUP, OLD) as young, watch.over(GROUP, NEW) as other:
        watch._look()
        assert not pinged
        other.began -= 2 * LONG_S
        with watch.over(GROUP, OLD) as old:
            old.began -= 2 * LONG_S
            watch._look()
        assert pinged == [[OLD, NEW]]
        assert (old.superseded, young.superseded, other.superseded) == (True, False, False)
