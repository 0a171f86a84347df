"""A failed write or sync is the end of the log, and of nothing that was reported."""

from __future__ import annotations

import threading

import pytest

from cluster.log.errors import LogCorrupt, LogFailed
from cluster.raft.effects import Persist
from harness.raft_log import WAIT_S, FaultyDisk, Waited, all_entries, make_entry, segments


@pytest.mark.parametrize("what", ["fail_sync", "fail_write"])
def test_a_failed_write_is_final(open_log, tmp_path, what, caplog):
    disk = FaultyDisk()
    failures = []
    failed = threading.Event()

    def on_failure(error):
        failures.append(error)
        failed.set()

    log = open_log(files=disk, on_failure=on_failure)
    waited = Waited(log.group(1))
    durable = waited.append(3)
    reported = []
    setattr(disk, what, True)
    syncs = disk.sync_calls
    for i in range(4, 8):
        try:
            log.group(1).submit(Persist(None, 0, (make_entry(i),)), lambda i=i: reported.append(i))
        except LogFailed:
            break
    assert failed.wait(WAIT_S)
    setattr(disk, what, False)
    with pytest.raises(LogFailed, match="an earlier write failed"):
        log.group(2).submit(Persist(None, 0, (make_entry(1),)), lambda: reported.append(0))
    with pytest.raises(LogFailed):
        log.group(1).compact(2)
    assert log.group(2).last_index == 0
    assert log.group(1).entries(1, 4, 1 << 20) == durable, "reads go on"
    log.close()
    assert reported == []
    assert len(failures) == 1
    assert isinstance(failures[0], OSError)
    assert disk.sync_calls <= syncs + 1, "a failed sync is never tried again"
    told = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert [record.exc_info for record in told] == [None], "a line, no traceback"
    assert str(failures[0]) in told[0].getMessage()
    # the page cache may have had more than the disk: it is gone
    again = open_log()
    assert all_entries(again.group(1)) == durable


def test_a_full_disk_at_the_start_of_a_segment(open_log):
    disk = FaultyDisk()
    failed = threading.Event()
    log = open_log(files=disk, segment_bytes=4096, on_failure=lambda error: failed.set())
    waited = Waited(log.group(1))
    expected = waited.append(1, size=5000)

    def no_rename(source, target):
        raise OSError(28, "no space left on device")

    disk.rename = no_rename
    log.group(1).submit(Persist(None, 0, (make_entry(2),)), lambda: None)
    assert failed.wait(WAIT_S)
    log.close()
    assert all_entries(open_log().group(1)) == expected


def test_a_failing_callback_harms_nobody_else(open_log, caplog):
    log = open_log()

    def broken():
        raise RuntimeError("a bug of the caller")

    log.group(1).submit(Persist(None, 0, (make_entry(1),)), broken)
    Waited(log.group(2)).append(1)
    assert "group 1: on_durable failed" in caplog.text


def test_a_callback_may_submit(open_log):
    log = open_log()
    done = threading.Event()

    def then():
        log.group(1).submit(Persist(None, 0, (make_entry(2),)), done.set)

    log.group(1).submit(Persist(None, 0, (make_entry(1),)), then)
    assert done.wait(WAIT_S)
    assert log.group(1).last_index == 2


def test_damage_on_disk_is_found_when_read(open_log, tmp_path):
    log = open_log(cache_bytes=0)
    waited = Waited(log.group(1))
    waited.append(3, size=100)
    log.close()
    path = segments(tmp_path / "log")[0]
    data = bytearray(path.read_bytes())
    data[48 + 48 + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogCorrupt, match="checksum") as caught:
        waited.group.entries(1, 2, 1 << 20)
    assert caught.value.offset == 48
    assert waited.group.entries(2, 4, 1 << 20) == [make_entry(i, 1, 100) for i in (2, 3)]


def test_a_failing_deletion_is_not_the_end(open_log, tmp_path, caplog):
    disk = FaultyDisk()
    log = open_log(files=disk, segment_bytes=4096)
    waited = Waited(log.group(1))
    for _ in range(20):
        waited.append(1, size=1000)
    unlink = disk.unlink

    def no_unlink(path):
        raise OSError(13, "permission denied")

    disk.unlink = no_unlink
    waited.group.compact(12)
    waited.append(0)
    waited.append(0)
    assert "can't delete" in caplog.text
    disk.unlink = unlink
    waited.group.compact(19)
    log.close()
    assert len(segments(tmp_path / "log")) <= 2
    assert open_log().group(1).last_index == 20
