"""A log that starts anew behind a snapshot, and the memberships that it remembers."""

from __future__ import annotations

import threading

import pytest

from cluster.raft.effects import Persist
from cluster.raft.membership import encode_membership
from cluster.raft.types import Entry, EntryKind, HardState, Membership, SnapshotMeta
from harness.raft_log import FaultyDisk, Waited, all_entries, make_entry, segments

THREE = Membership((1, 2, 3))
FOUR = Membership((1, 2, 3, 4), (1, 2, 3), (5,))
META = SnapshotMeta(100, 7, FOUR)


def restart(waited, meta=META, hard_state=None):
    done = threading.Event()
    waited.group.submit(Persist(hard_state, 0, (), meta), done.set)
    assert done.wait(20)


def test_everything_before_is_gone_and_the_next_entry_follows_the_snapshot(open_log, tmp_path):
    log = open_log(segment_bytes=4096)
    other = Waited(log.group(2))
    kept = other.append(3)
    waited = Waited(log.group(1))
    for _ in range(20):
        waited.append(1, size=1000)
    files = len(segments(tmp_path / "log"))
    restart(waited, hard_state=HardState(8, 0))
    group = waited.group
    assert (group.first_index, group.last_index, group.base) == (101, 100, (100, 7))
    assert group.base_membership == FOUR
    assert group.metas() == []
    with pytest.raises(ValueError, match="don't follow"):
        group.submit(Persist(None, 0, (make_entry(21),)), lambda: None)
    after = waited.append(2, term=8)
    assert [entry.index for entry in after] == [101, 102]
    other.group.compact(3)
    other.append(1)
    other.append(1)
    assert len(segments(tmp_path / "log")) < files
    log.close()
    group = open_log().group(1)
    assert (group.base, group.base_membership) == ((100, 7), FOUR)
    assert group.hard_state == HardState(8, 0)
    assert all_entries(group) == after
    assert kept


def test_what_was_still_queued_when_the_log_was_restarted_is_void(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk)
    waited = Waited(log.group(1))
    waited.append(2)
    disk.gate.clear()
    reports = []
    group = waited.group
    for number in range(3, 6):
        entry = make_entry(number)
        group.submit(Persist(None, 0, (entry,)), lambda n=number: reports.append(n))
    group.submit(Persist(None, 0, (), META), lambda: reports.append("restart"))
    later = Entry(101, 9, EntryKind.PLAN, b"later")
    group.submit(Persist(None, 0, (later,)), lambda: reports.append(101))
    disk.gate.set()
    log.close()
    assert reports == [3, 4, 5, "restart", 101]
    assert all_entries(group) == [later]
    again = open_log()
    assert all_entries(again.group(1)) == [later]


def test_a_kill_anywhere_leaves_the_old_or_the_new_log(open_log, copy_of, tmp_path):
    log = open_log()
    waited = Waited(log.group(1))
    old = waited.append(3)
    size = segments(tmp_path / "log")[-1].stat().st_size
    restart(waited)
    copy_of("log", "whole")
    log.close()
    end = segments(tmp_path / "whole")[-1].stat().st_size
    found = set()
    for cut in (*range(size, end, 9), end - 1, end):
        copy = copy_of("whole", "cut")
        with segments(copy)[-1].open("r+b") as file:
            file.truncate(cut)
        opened = open_log("cut")
        group = opened.group(1)
        if group.base == (0, 0):
            assert all_entries(group) == old
        else:
            assert (group.base, group.base_membership) == ((100, 7), FOUR)
            assert all_entries(group) == []
        found.add(group.base)
        opened.close()
    assert found == {(0, 0), (100, 7)}


def test_memberships_in_entries_and_at_the_base_survive(open_log, copy_of, tmp_path):
    log = open_log(segment_bytes=4096)
    waited = Waited(log.group(1))
    waited.append(1)
    waited.put(entries=[Entry(2, 1, EntryKind.MEMBERSHIP, encode_membership(THREE))])
    waited.append(1)
    waited.put(entries=[Entry(4, 1, EntryKind.MEMBERSHIP, encode_membership(FOUR))])
    group = waited.group
    expected = [None, THREE, None, FOUR]
    assert [meta.membership for meta in group.metas()] == expected
    copy_of("log", "copy")
    assert [meta.membership for meta in open_log("copy").group(1).metas()] == expected
    assert group.base_membership is None
    group.compact(3, THREE)
    assert [meta.membership for meta in group.metas()] == [FOUR]
    for _ in range(8):  # into further segments, whose checkpoints carry it
        waited.append(1, size=1000)
    log.close()
    again = open_log().group(1)
    assert again.base_membership == THREE
    assert again.metas()[0].membership == FOUR
    again_waited = Waited(again)
    again_waited.put(truncate_from=4)
    assert again.metas() == []


def test_a_restart_with_entries_is_refused(open_log):
    group = open_log().group(1)
    with pytest.raises(ValueError, match="a new start with entries"):
        group.submit(Persist(None, 0, (make_entry(101),), META), lambda: None)
