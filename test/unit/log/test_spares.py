"""Segments in files made ahead: the log is the same, before and after a kill."""

from __future__ import annotations

import threading
import time

import pytest

from cluster.log import spares
from cluster.log.errors import LogTruncated
from cluster.raft.types import HardState
from harness.raft_log import WAIT_S, FaultyDisk, Waited, all_entries, segments

SIZE = 8192


def spare_of(folder):
    """Wait until a spare is there."""
    end = time.monotonic() + WAIT_S
    while not list(folder.glob("*.spare")):
        assert time.monotonic() < end
        time.sleep(0.005)
    (spare,) = folder.glob("*.spare")
    return spare


def fill(waited, count):
    return [entry for _ in range(count) for entry in waited.append(1, size=500)]


def test_a_spare_becomes_the_next_segment(open_log, copy_of, tmp_path):
    log = open_log(segment_bytes=SIZE, ahead="segments")
    waited = Waited(log.group(1))
    expected = fill(waited, 8)
    inode = spare_of(tmp_path / "log").stat().st_ino
    while len(segments(tmp_path / "log")) < 2:
        expected += fill(waited, 1)
    newest = segments(tmp_path / "log")[-1]
    assert newest.stat().st_ino == inode
    assert newest.stat().st_size >= SIZE
    copy_of("log", "killed")
    killed = open_log("killed", segment_bytes=SIZE, ahead="segments")
    assert all_entries(killed.group(1)) == expected
    Waited(killed.group(1)).append(2)
    log.close()
    assert newest.stat().st_size < SIZE
    again = open_log(segment_bytes=SIZE)
    assert all_entries(again.group(1)) == expected


def test_a_large_write_leaves_a_segment_that_was_not_made_ahead(open_log, tmp_path):
    log = open_log(segment_bytes=1 << 20, ahead="segments")
    waited = Waited(log.group(1))
    expected = [entry for _ in range(5) for entry in waited.append(1, size=60_000)]
    inode = spare_of(tmp_path / "log").stat().st_ino
    expected += waited.append(1, size=500)
    assert len(segments(tmp_path / "log")) == 1, "to small ones it makes no difference"
    for _ in range(5):
        expected += waited.append(1, size=60_000)
    assert [path.stat().st_ino for path in segments(tmp_path / "log")][1:] == [inode]
    log.close()
    assert all_entries(open_log(segment_bytes=1 << 20).group(1)) == expected


def test_no_room_for_the_thread_that_makes_a_spare_is_no_trouble_of_the_log(
    open_log, monkeypatch, tmp_path
):
    log = open_log(segment_bytes=SIZE, ahead="segments")
    refused = []

    def no_more(name, _run):
        refused.append(name)
        raise RuntimeError("can't start new thread")

    waited = Waited(log.group(1))
    monkeypatch.setattr(log._writer._spares, "_spawn", no_more)
    fill(waited, 8)
    assert refused == ["log-spare"], "and it is not tried with every write"
    monkeypatch.undo()
    monkeypatch.setattr(spares, "_RETRY_S", 0.0)
    log._writer._spares._retry_at = 0.0
    fill(waited, 1)
    assert spare_of(tmp_path / "log")


def test_a_segment_that_is_not_needed_is_used_again_and_its_old_records_stay_dead(
    open_log, copy_of, tmp_path
):
    log = open_log(segment_bytes=SIZE, ahead="segments")
    waited = Waited(log.group(1))
    waited.put(hard_state=HardState(3, 1))
    expected = fill(waited, 20)
    oldest = segments(tmp_path / "log")[0]
    inode = oldest.stat().st_ino
    spare_of(tmp_path / "log")
    # use up the spare that was made, and let the oldest segment be the next one
    waited.group.compact(15)
    reused = False
    for _ in range(200):
        expected += fill(waited, 1)
        waited.group.compact(waited.group.last_index - 2)
        reused = reused or any(
            path.stat().st_ino == inode and path != oldest for path in segments(tmp_path / "log")
        )
    assert reused
    for number in range(5):
        expected += fill(waited, 1)
        copy_of("log", f"killed{number}")
        killed = open_log(f"killed{number}", segment_bytes=SIZE, ahead="segments")
        group = killed.group(1)
        assert group.hard_state == HardState(3, 1)
        assert group.last_index == waited.group.last_index
        assert all_entries(group) == expected[-(group.last_index - group.first_index + 1) :]
        assert len(list((tmp_path / f"killed{number}").glob("*.spare"))) <= 4


def test_without_room_for_a_spare_the_log_goes_on(open_log, tmp_path):
    class NoSpares(FaultyDisk):
        def open(self, path, flags):
            if path.name == "next.tmp":
                raise OSError(28, "no space left on device")
            return super().open(path, flags)

    log = open_log(segment_bytes=SIZE, ahead="segments", files=NoSpares())
    waited = Waited(log.group(1))
    expected = fill(waited, 60)
    assert len(segments(tmp_path / "log")) > 2
    assert not list(tmp_path.glob("log/*.spare"))
    log.close()
    assert all_entries(open_log(segment_bytes=SIZE).group(1)) == expected


def test_no_spare_is_begun_that_would_take_the_last_room(open_log, tmp_path, monkeypatch, caplog):
    class Tight(FaultyDisk):
        free = 2 * SIZE
        begun = 0

        def __init__(self):
            super().__init__()
            self.has_begun, self.may_make = threading.Event(), threading.Event()

        def free_bytes(self, directory):
            return self.free

        def open(self, path, flags):
            if path.name == "next.tmp":
                self.begun += 1
                self.has_begun.set()
                # a spare that is there at once may be a segment before anybody looks
                assert self.may_make.wait(WAIT_S)
            return super().open(path, flags)

    monkeypatch.setattr(spares, "_RETRY_S", 0.0)
    disk = Tight()
    log = open_log(segment_bytes=SIZE, ahead="segments", files=disk)
    waited = Waited(log.group(1))
    fill(waited, 60)
    assert not disk.begun
    assert len([line for line in caplog.messages if "made ahead" in line]) == 1
    disk.free = 10 * SIZE
    end = time.monotonic() + WAIT_S
    while not disk.has_begun.wait(0.005):  # another thread makes it, when it gets its time
        assert time.monotonic() < end
        fill(waited, 1)
    disk.may_make.set()
    spare_of(tmp_path / "log")
    assert disk.begun == 1


def test_an_attempt_that_failed_is_not_repeated_at_once(open_log, monkeypatch):
    class NoSpares(FaultyDisk):
        tries = 0

        def open(self, path, flags):
            if path.name == "next.tmp":
                self.tries += 1
                raise OSError(28, "no space left on device")
            return super().open(path, flags)

    disk = NoSpares()
    log = open_log(segment_bytes=SIZE, ahead="segments", files=disk)
    fill(Waited(log.group(1)), 60)
    log.close()
    assert disk.tries == 1


@pytest.mark.parametrize("name", ["0000000000000009.spare", "next.spare"])
def test_a_spare_of_an_earlier_run_is_taken_over_if_large_enough(open_log, tmp_path, name):
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / name).write_bytes(b"\xff" * SIZE)
    (folder / "short.spare").write_bytes(b"x")
    log = open_log(segment_bytes=SIZE, ahead="segments")
    assert [path.name for path in folder.glob("*.spare")] == [name]
    expected = fill(Waited(log.group(1)), 20)
    log.close()
    assert all_entries(open_log(segment_bytes=SIZE).group(1)) == expected


def test_a_segment_that_is_used_again_while_it_is_read_is_no_damage(open_log, tmp_path):
    class Slow(FaultyDisk):
        before_read = None

        def pread(self, fd, size_bytes, offset):
            hook, self.before_read = self.before_read, None
            if hook is not None:
                hook()
            return super().pread(fd, size_bytes, offset)

    disk = Slow()
    log = open_log(segment_bytes=SIZE, ahead="segments", cache_bytes=0, files=disk)
    waited = Waited(log.group(1))
    fill(waited, 20)
    spare_of(tmp_path / "log")
    inode = segments(tmp_path / "log")[0].stat().st_ino

    def use_it_again():
        """A follower too far behind is being sent entries that are compacted just now."""
        waited.group.compact(waited.group.last_index - 2)
        for _ in range(200):
            fill(waited, 1)
            newest = segments(tmp_path / "log")[-1]
            if newest.stat().st_ino == inode and newest.stat().st_size >= SIZE:
                break
            waited.group.compact(waited.group.last_index - 2)
        assert newest.stat().st_ino == inode
        fill(waited, 10)

    disk.before_read = use_it_again
    with pytest.raises(LogTruncated):
        waited.group.entries(1, 5, 1 << 20)
