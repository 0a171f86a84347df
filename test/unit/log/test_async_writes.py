"""Writes that go on while the thread does something else: the log is the same, however they end."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import threading

import pytest

from cluster.log import async_writes
from cluster.log.async_writes import AsyncWrites
from cluster.log.direct_tail import BLOCK_BYTES, aligned_buffer
from cluster.log.errors import LogFailed
from cluster.log.file_ops import FileOps
from cluster.raft.effects import Persist
from harness.async_disk import LARGE, SEGMENT_BYTES, SMALL, Begun, DirectDisk
from harness.raft_log import WAIT_S, Waited, all_entries, make_entry, segments


@pytest.fixture
def begun(open_log):
    return Begun(open_log, DirectDisk())


def test_a_large_write_is_reported_when_it_has_ended(begun, open_log, copy_of):
    writes = begun.disk.writes
    writes.is_held = True
    entry = begun.begin()
    assert begun.log.is_under_way
    begun.log.end_write()  # it has not ended
    assert begun.log.is_under_way
    assert begun.log.waits_since
    assert not begun.reported
    assert begun.group.entries(entry.index, entry.index + 1, 1 << 20) == [entry]
    copy_of("log", "killed")
    writes.release()
    assert select.select([begun.log.event_fd], [], [], WAIT_S)[0]
    begun.log.end_write()
    assert not begun.log.is_under_way
    assert not begun.log.waits_since
    assert begun.reported == [entry]
    begun.log.end_write()  # there is none
    begun.log.close()
    assert writes.is_closed
    assert all_entries(open_log().group(1)) == [*begun.durable, entry]
    assert all_entries(open_log("killed").group(1)) == begun.durable, "a kill before the end"


def test_small_writes_are_waited_for(begun):
    entry = begun.begin(SMALL)
    assert not begun.log.is_under_way
    assert begun.reported == [entry]
    assert not begun.disk.writes.begun


def test_who_comes_meanwhile_waits_for_the_end(begun, open_log):
    writes = begun.disk.writes
    writes.is_held = True
    entries = [begun.begin()]
    entries.append(begun.submit(SMALL))
    begun.group.write_here()  # it is left to the log's thread, which waits for its turn
    entries.append(begun.submit())
    begun.log.begin_write()
    assert not begun.reported
    writes.is_held = False
    writes.release()
    begun.log.end_write()
    assert begun.reported[:1] == entries[:1]
    begun.group.wake()
    begun.log.close()
    assert begun.reported == entries
    assert all_entries(open_log().group(1)) == begun.durable + entries


def test_writes_one_after_the_other_share_their_blocks(begun, open_log):
    sizes = (LARGE, LARGE + 1, SMALL, 40_960, LARGE, SMALL, SMALL, 33_000) * 5
    entries = [begun.write(size) for size in sizes]
    assert len(begun.disk.writes.begun) > 10
    assert all(not offset % BLOCK_BYTES for offset, _ in begun.disk.writes.begun)
    begun.log.close()
    assert all_entries(open_log().group(1)) == begun.durable + entries


def test_what_the_buffer_does_not_hold_is_waited_for(begun, open_log):
    entry = begun.begin(3 << 20)
    assert not begun.log.is_under_way
    assert begun.reported == [entry]
    begun.log.close()
    assert all_entries(open_log().group(1)) == [*begun.durable, entry]


def test_a_short_write_is_gone_on_with(begun, open_log):
    begun.disk.writes.most = 3 * BLOCK_BYTES + 17
    before = begun.disk.direct_writes
    entry = begun.begin()
    begun.log.end_write()
    assert begun.disk.direct_writes == before + 1
    assert begun.reported == [entry]
    begun.log.close()
    assert all_entries(open_log().group(1)) == [*begun.durable, entry]


@pytest.mark.parametrize("most", [0, BLOCK_BYTES - 1])
def test_a_write_that_goes_nowhere_ends_the_log(begun, most):
    begun.disk.writes.most = most
    begun.begin()
    begun.log.end_write()
    assert not begun.reported
    with pytest.raises(LogFailed, match="an earlier write failed"):
        begun.submit()


def test_a_failed_write_ends_the_log(open_log, copy_of):
    failures = []
    begun = Begun(open_log, DirectDisk(), on_failure=failures.append)
    begun.disk.writes.error = errno.EIO
    begun.begin()
    begun.submit(SMALL)
    begun.log.end_write()
    assert [error.errno for error in failures] == [errno.EIO]
    assert not begun.log.is_under_way
    with pytest.raises(LogFailed, match="an earlier write failed"):
        begun.submit()
    begun.log.begin_write()
    begun.log.end_write(wait=True)
    copy_of("log", "left")
    assert not begun.reported
    assert all_entries(open_log("left").group(1)) == begun.durable
    begun.log.close()
    assert not begun.reported


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EINVAL, errno.ENOSYS])
def test_where_the_system_refuses_a_write_it_is_waited_for(begun, open_log, caplog, number):
    begun.disk.writes.refusal = number
    entries = [begun.begin()]
    assert begun.reported == entries
    begun.disk.writes.refusal = 0
    entries.append(begun.begin())
    assert begun.reported == entries, "it is not tried again"
    assert len([line for line in caplog.messages if "is waited for from now on" in line]) == 1
    begun.log.close()
    assert all_entries(open_log().group(1)) == begun.durable + entries


@pytest.mark.parametrize("refuses", [False, True])
def test_a_write_that_is_refused_late_is_written_in_another_way(begun, open_log, refuses):
    begun.disk.writes.error = errno.EINVAL
    begun.disk.refuses = refuses  # then the page cache serves
    entries = [begun.begin()]
    begun.log.end_write()
    assert begun.reported == entries
    entries.append(begun.begin())
    assert begun.reported == entries
    begun.log.close()
    assert all_entries(open_log().group(1)) == begun.durable + entries


def test_closing_waits_for_a_write_that_nobody_ends(begun, open_log):
    writes = begun.disk.writes
    writes.is_held = True
    entries = [begun.begin(), begun.submit()]
    closer = threading.Thread(target=begun.log.close)
    closer.start()
    writes.is_held = False
    writes.release()
    closer.join(WAIT_S)
    assert not closer.is_alive()
    assert begun.reported == entries
    assert writes.is_closed
    assert all_entries(open_log().group(1)) == begun.durable + entries


def test_the_log_may_be_closed_from_a_callback_of_such_a_write(begun, open_log):
    entry = make_entry(begun.group.last_index + 1, size=LARGE)
    begun.group.submit(Persist(None, 0, (entry,)), begun.log.close, wake=False)
    begun.log.begin_write()
    begun.log.end_write()
    with pytest.raises(LogFailed, match="closed"):
        begun.submit()
    begun.log._thread.join(WAIT_S)
    assert all_entries(open_log().group(1)) == [*begun.durable, entry]


def test_a_segment_that_is_full_ends_between_two_writes(begun, open_log, tmp_path):
    entries = [begun.write() for _ in range(60)]
    begun.log.close()
    assert begun.reported == entries
    assert len(segments(tmp_path / "log")) > 2
    assert all_entries(open_log().group(1)) == begun.durable + entries


def test_with_periodic_sync_nothing_is_begun(open_log):
    disk = DirectDisk()
    log = open_log(segment_bytes=SEGMENT_BYTES, ahead="segments", files=disk, sync="periodic")
    assert log.event_fd == -1
    assert disk.writes is None


def test_a_system_without_asynchronous_writes(open_log, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    log = open_log(segment_bytes=SEGMENT_BYTES, ahead="segments")
    assert log.event_fd == -1
    Waited(log.group(1)).append(3)


# ---- the real calls ----


@pytest.fixture
def real(tmp_path):
    """The calls of this system, and a file for them."""
    buffer = aligned_buffer(1 << 16)
    try:
        fd = FileOps().open_direct(tmp_path / "file", os.O_CREAT)
        writes = AsyncWrites(buffer)
    except OSError as error:
        pytest.skip(f"this system has no asynchronous direct writes: {error}")
    yield buffer, fd, writes
    writes.close()
    writes.close()
    os.close(fd)


def test_the_real_calls(real, tmp_path):
    buffer, fd, writes = real
    assert writes.end() is None
    for turn in range(1, 20):
        buffer[:8192] = bytes([turn]) * 8192
        writes.begin(fd, 8192, 4096 * turn)
        if turn % 2:
            assert select.select([writes.event_fd], [], [], WAIT_S)[0]
            assert writes.end() == 8192
        else:
            assert writes.end(wait=True) == 8192
        assert writes.end() is None
        data = (tmp_path / "file").read_bytes()
        assert data[4096 * turn : 4096 * turn + 8192] == bytes([turn]) * 8192


def test_real_errors(real):
    _, fd, writes = real
    with pytest.raises(OSError, match="io_submit"):
        writes.begin(1 << 20, 4096, 0)
    writes.begin(fd, 4096, 1 << 62)
    with pytest.raises(OSError, match="large"):
        writes.end(wait=True)
    writes.begin(fd, 4096, 0)
    assert writes.end(wait=True) == 4096


def test_closing_ends_a_write_that_is_under_way(real, tmp_path):
    buffer, fd, writes = real
    buffer[:4096] = b"x" * 4096
    writes.begin(fd, 4096, 0)
    writes.close()
    assert (tmp_path / "file").read_bytes() == b"x" * 4096


def test_what_is_laid_out_is_what_the_system_reads():
    assert async_writes._IOCB.size == 64
    assert async_writes._EVENT.size == 32
    assert ctypes.sizeof(ctypes.c_ulong) == 8
