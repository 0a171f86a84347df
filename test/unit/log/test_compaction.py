"""Compaction frees memory and files, and what it leaves survives a restart."""

from __future__ import annotations

import errno
import shutil
from contextlib import suppress

import pytest

from cluster.log.errors import LogTruncated
from cluster.raft.effects import Persist
from cluster.raft.types import HardState
from harness.raft_log import FaultyDisk, Waited, all_entries, make_entry, segments


def fill(waited, count=30, size=1000):
    return [entry for _ in range(count) for entry in waited.append(1, size=size)]


def test_compaction_deletes_segments_and_survives_reopen(open_log, tmp_path):
    log = open_log(segment_bytes=4096)
    waited = Waited(log.group(1))
    waited.put(hard_state=HardState(4, 2))
    expected = fill(waited)
    before = len(segments(tmp_path / "log"))
    waited.group.compact(25)
    assert waited.group.base == (25, 1)
    assert waited.group.first_index == 26
    waited.append(0)  # a round trip through the writer
    waited.append(0)
    assert len(segments(tmp_path / "log")) <= 3 < before
    assert log.stats()["segments"] <= 3
    log.close()
    again = open_log(segment_bytes=4096)
    group = again.group(1)
    assert group.base == (25, 1)
    assert group.hard_state == HardState(4, 2)
    assert all_entries(group) == expected[25:]
    with pytest.raises(LogTruncated):
        group.entries(25, 26, 100)
    Waited(group).append(1)
    assert group.last_index == 31


def test_compacting_everything(open_log, tmp_path):
    log = open_log(segment_bytes=4096)
    waited = Waited(log.group(1))
    fill(waited)
    waited.group.compact(30)
    assert (waited.group.first_index, waited.group.last_index) == (31, 30)
    assert waited.group.metas() == []
    log.close()
    again = open_log()
    group = again.group(1)
    assert (group.first_index, group.last_index, group.base) == (31, 30, (30, 1))
    more = Waited(group).append(2, term=7)
    again.close()
    assert all_entries(open_log().group(1)) == more


def test_the_slowest_group_keeps_the_files(open_log, tmp_path):
    log = open_log(segment_bytes=4096)
    slow, fast = Waited(log.group(1)), Waited(log.group(2))
    kept = slow.append(1)
    fill(fast)
    fast.group.compact(30)
    log.close()
    first = tmp_path / "log" / f"{1:016x}.log"
    assert first.exists()
    log = open_log()
    assert all_entries(log.group(1)) == kept
    log.group(1).compact(1)
    log.close()
    assert not first.exists()
    assert len(segments(tmp_path / "log")) == 1


def at_rest(copy):
    """A copy during which no file was deleted."""
    while True:
        with suppress(shutil.Error):
            return copy()


def test_entries_that_cannot_be_dropped_are_moved(open_log, tmp_path, copy_of):
    log = open_log(segment_bytes=4096, cache_bytes=0)
    stuck, busy = Waited(log.group(1)), Waited(log.group(2))
    stuck.put(hard_state=HardState(3, 1))
    kept = stuck.append(3, size=500)
    for _ in range(4):
        fill(busy, 10)
        kept += stuck.append(1, size=500)
    busy.group.compact(40)
    busy.append(1)
    before = len(segments(tmp_path / "log"))
    assert before > 8
    while stuck.group.move_oldest(1000):
        busy.append(1)
        assert all_entries(stuck.group) == kept
        # whatever a kill leaves at this point has all of them
        again = open_log(at_rest(lambda: copy_of("log", "killed")).name)
        assert all_entries(again.group(1)) == kept
        again.close()
    assert stuck.group.oldest_segment() == log.newest_segment
    busy.group.compact(busy.group.last_index)
    busy.append(1)  # a round trip through the writer
    busy.append(1)
    assert len(segments(tmp_path / "log")) <= 2
    kept += stuck.append(2)
    log.close()
    log = open_log(segment_bytes=4096)
    stuck = Waited(log.group(1))
    assert all_entries(stuck.group) == kept
    assert stuck.group.hard_state == HardState(3, 1)
    # and it goes on like any other log
    stuck.put(truncate_from=6, entries=[make_entry(6, 9)])
    stuck.group.compact(4)
    kept = [*kept[4:5], make_entry(6, 9), *stuck.append(20, term=9, size=900)]
    assert all_entries(stuck.group) == kept
    stuck.group.compact(5)
    log.close()
    assert len(segments(tmp_path / "log")) > 1
    log = open_log()
    assert all_entries(log.group(1)) == kept[1:]
    assert log.group(1).move_oldest(1 << 20) > 0


@pytest.mark.parametrize("truncates", [False, True])
def test_entries_that_are_moved_while_they_are_read_are_read_where_they_stand(
    open_log, tmp_path, truncates
):
    class Slow(FaultyDisk):
        before_open = None

        def open(self, path, flags, *more):
            hook, self.before_open = self.before_open, None
            if hook is not None:
                hook()
            return super().open(path, flags, *more)

    disk = Slow()
    log = open_log(segment_bytes=4096, cache_bytes=0, files=disk)
    stuck, busy = Waited(log.group(1)), Waited(log.group(2))
    kept = stuck.append(5)
    fill(busy, 20)
    first = segments(tmp_path / "log")[0]

    def move():
        while stuck.group.move_oldest(1 << 20):
            busy.append(1)
        if truncates:
            stuck.put(truncate_from=4, entries=[make_entry(4, 9)])
        busy.group.compact(busy.group.last_index)
        busy.append(1)
        busy.append(1)
        assert not first.exists()

    disk.before_open = move
    if truncates:
        with pytest.raises(LogTruncated):
            stuck.group.entries(1, 6, 1 << 20)
    else:
        assert stuck.group.entries(1, 6, 1 << 20) == kept


def test_what_was_truncated_while_it_moved_stays_away(open_log, tmp_path):
    disk = FaultyDisk()
    log = open_log(files=disk, segment_bytes=4096)
    stuck, busy = Waited(log.group(1)), Waited(log.group(2))
    kept = stuck.append(5)
    fill(busy, 10)
    disk.gate.clear()
    assert stuck.group.move_oldest(1 << 20) == 5
    later = [make_entry(3, 7), make_entry(4, 7)]
    stuck.group.submit(Persist(None, 3, tuple(later)), lambda: None)
    stuck.group.compact(1)
    disk.gate.set()
    busy.append(1)
    assert all_entries(stuck.group) == [kept[1], *later]
    log.close()
    assert all_entries(open_log().group(1))[-3:] == [kept[1], *later]


def test_a_base_in_the_current_segment_is_recorded_when_that_is_full(open_log, tmp_path):
    log = open_log(segment_bytes=4096)
    idle, busy = Waited(log.group(1)), Waited(log.group(2))
    idle.append(1)
    idle.group.compact(1)
    fill(busy, 20)
    busy.group.compact(19)
    log.close()
    assert len(segments(tmp_path / "log")) <= 2
    assert open_log().group(1).base == (1, 1)


def test_truncated_entries_keep_no_file(open_log, tmp_path):
    log = open_log(segment_bytes=4096)
    waited = Waited(log.group(1))
    fill(waited)
    waited.put(truncate_from=2, entries=[make_entry(2, 3)])
    waited.group.compact(1)
    log.close()
    assert len(segments(tmp_path / "log")) <= 2
    again = open_log()
    assert again.group(1).base == (1, 1)
    assert all_entries(again.group(1)) == [make_entry(2, 3)]


def test_a_file_goes_only_after_the_record_that_frees_it_is_durable(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk, segment_bytes=4096, sync="periodic", sync_interval_ms=10_000)
    waited = Waited(log.group(1))
    fill(waited)
    disk.events.clear()
    waited.group.compact(29)
    log.close()
    assert "unlink" in disk.events
    assert disk.events[0] == "sync"


def test_compaction_is_idempotent_and_never_goes_back(open_log):
    log = open_log()
    waited = Waited(log.group(1))
    waited.append(10)
    waited.group.compact(5)
    waited.group.compact(5)
    waited.group.compact(3)
    assert waited.group.base == (5, 1)


def test_after_a_crash_the_log_starts_no_later_than_compacted(open_log, copy_of):
    log = open_log()
    waited = Waited(log.group(1))
    expected = waited.append(10)
    waited.group.compact(5)
    waited.append(1)
    copy_of("log", "copy")
    group = open_log("copy").group(1)
    assert group.base[0] <= 5
    assert group.entries(6, 11, 1 << 20) == expected[5:]


def test_reads_race_with_compaction(open_log):
    """A read that started before its segment went away says so instead of failing oddly."""
    disk = FaultyDisk()
    log = open_log(files=disk, segment_bytes=4096, cache_bytes=0)
    waited = Waited(log.group(1))
    fill(waited)
    group = waited.group
    original = disk.open

    def open_late(path, flags):
        disk.open = original
        group.compact(30)
        waited.append(0)
        waited.append(0)
        return original(path, flags)

    disk.open = open_late
    with pytest.raises(LogTruncated):
        group.entries(1, 5, 1 << 20)


@pytest.mark.parametrize("ahead", ["nothing", "blocks", "segments"])
def test_a_directory_that_could_not_be_synced_keeps_no_file_for_good(open_log, tmp_path, ahead):
    class Disk(FaultyDisk):
        """Fails the sync of the directory from which a segment has just gone, once."""

        is_armed = is_due = False

        def unlink(self, path):
            super().unlink(path)
            self.is_due = self.is_armed

        def rename(self, source, target):
            super().rename(source, target)
            self.is_due = self.is_armed and source.suffix == ".log"

        def sync_directory(self, directory):
            if self.is_due:
                self.is_armed = self.is_due = False
                raise OSError(errno.EIO, "input/output error")
            super().sync_directory(directory)

    disk = Disk()
    log = open_log(files=disk, segment_bytes=8192, ahead=ahead)
    waited = Waited(log.group(1))
    fill(waited)
    disk.is_armed = True
    for index in (15, waited.group.last_index):
        waited.group.compact(index)
        waited.append(0)  # a round trip through the writer
        waited.append(0)
        assert not disk.is_armed
    assert len(segments(tmp_path / "log")) <= 2
