"""With sync="periodic" the engine never has more on disk than the log."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import iotdb_client
from cluster.log.errors import LogFailed
from harness.joining import join_all
from harness.raft_log import FaultyDisk, Waited
from iotdb_client.embedded import EmbeddedTransport

SELDOM = {"raft_log_sync": "periodic", "raft_log_sync_interval_ms": "3600000"}


@pytest.mark.parametrize(("sync", "syncs"), [("periodic", 1), ("always", 0)])
def test_what_was_reported_is_made_durable_by_any_thread(open_log, sync, syncs):
    disk = FaultyDisk()
    log = open_log(sync=sync, sync_interval_ms=3_600_000, files=disk)
    Waited(log.group(1)).append(3)
    before = disk.sync_calls
    log.sync_written()
    assert disk.sync_calls == before + syncs


def test_a_failed_sync_is_told_and_ends_the_log_at_its_own_next_one(open_log):
    disk = FaultyDisk()
    log = open_log(sync="periodic", sync_interval_ms=1, files=disk)
    disk.fail_sync = True  # before there is something to sync, or the log's thread may have done it
    Waited(log.group(1)).append(1)
    with pytest.raises((OSError, LogFailed)):
        log.sync_written()
    join_all(log._thread)
    with pytest.raises(LogFailed):
        log.sync_written()


def test_after_a_power_cut_a_flush_has_no_more_than_the_log(tmp_path, monkeypatch):
    """A node whose state was ahead of its log could not start."""
    synced: dict[str, int] = {}
    fdatasync = os.fdatasync

    def noting(fd: int) -> None:
        fdatasync(fd)
        name = Path(f"/proc/self/fd/{fd}").readlink().with_suffix(".log").name
        synced[name] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fdatasync", noting)
    held = EmbeddedTransport(f"{tmp_path}/db", SELDOM)
    with iotdb_client.connect(tmp_path / "db") as connection:
        cursor = connection.cursor()
        cursor.execute("insert into root.a.b(time, c) values (1, 1)")
        cursor.execute("flush")
        for member in held._node._meta, *held._node._groups.all():
            member.machine.region.flush(wait=True)
        shutil.copytree(tmp_path / "db", tmp_path / "cut")
        for path in (tmp_path / "cut" / "raft-log").glob("*.log"):
            os.truncate(path, synced[path.name])
    held.close()
    with iotdb_client.connect(tmp_path / "cut") as connection:
        cursor = connection.cursor()
        cursor.execute("select c from root.a.b")
        assert cursor.fetchall() == [(1, 1.0)]
