"""Appends past the page cache: the file holds what was written, whatever the sizes."""

from __future__ import annotations

import errno
import os
import random
import threading

import pytest

from cluster.log.direct_tail import BLOCK_BYTES, DirectTail, aligned_buffer
from cluster.log.file_ops import FileOps
from cluster.raft.effects import Persist
from harness.raft_log import WAIT_S, FaultyDisk, Waited, all_entries, make_entry, segments

SEGMENT = 8192
STEP = 256 << 10


class DirectCalls(FaultyDisk):
    """Plain files that say they take direct writes, and remember them."""

    refuses = 0
    opened = None
    most = 1 << 30

    def __init__(self):
        super().__init__()
        self.writes = []

    def open_direct(self, path, flags=0):
        fd = self.open(path, os.O_RDWR | flags)
        if not flags & os.O_CREAT:  # a segment, and none that is being made ahead
            self.opened = fd
        return fd

    def pwritev_durably(self, fd, parts, offset):
        if fd != self.opened:
            return super().pwritev_durably(fd, parts, offset)
        self.writes.append((offset, sum(map(len, parts))))
        if self.refuses:
            raise OSError(errno.EINVAL, "invalid argument")
        joined = b"".join(parts)
        return super().pwritev_durably(fd, [joined[: self.most]], offset)


def tail_of(files, path, written, buffer_bytes=1 << 20, full=1 << 20):
    """A tail behind what is written; the file has the blocks that it has."""
    size = path.stat().st_size
    reach = size - size % BLOCK_BYTES
    kept = written[len(written) - len(written) % BLOCK_BYTES :]
    return DirectTail(files, path, kept, aligned_buffer(buffer_bytes), reach=reach, full=full)


def checked_appends(files, path, start, sizes, buffer_bytes):
    rng = random.Random(3)
    expected = rng.randbytes(start)
    path.write_bytes(expected + b"old" * 300_000)
    tail = tail_of(files, path, expected, buffer_bytes)
    for size in sizes:
        new = rng.randbytes(size)
        cut = rng.randrange(size + 1)
        tail.write_durably([new[:cut], new[cut:]], len(expected))
        expected += new
        assert path.read_bytes()[: len(expected)] == expected
    tail.close()


@pytest.mark.parametrize("start", [0, 48, BLOCK_BYTES, 5000])
def test_what_is_written_is_in_the_file(tmp_path, start):
    files = DirectCalls()
    sizes = [1, 100, BLOCK_BYTES, 3 * BLOCK_BYTES - 1, 20_000, 7, 16 * BLOCK_BYTES, 50_000, 0, 1]
    checked_appends(files, tmp_path / "segment", start, sizes, 4 * BLOCK_BYTES)
    assert all(offset % BLOCK_BYTES == 0 == size % BLOCK_BYTES for offset, size in files.writes)


def test_a_short_write_goes_on_at_a_block(tmp_path):
    files = DirectCalls()
    files.most = BLOCK_BYTES + 700
    checked_appends(files, tmp_path / "segment", 10, [30_000, 5, 9000], 8 * BLOCK_BYTES)
    assert all(offset % BLOCK_BYTES == 0 for offset, _ in files.writes)


def test_a_write_that_goes_nowhere_is_an_error(tmp_path):
    files = DirectCalls()
    files.most = 100
    with pytest.raises(OSError, match="wrote 100 of"):
        checked_appends(files, tmp_path / "segment", 10, [30_000], 8 * BLOCK_BYTES)


def test_the_real_disk(tmp_path):
    try:
        checked_appends(FileOps(), tmp_path / "segment", 300, [10, 70_000, 4096], 1 << 16)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        pytest.skip("the file system of the temporary folder has no direct writes")


def test_a_small_write_lays_out_blocks_for_many_others(tmp_path):
    files, path = DirectCalls(), tmp_path / "segment"
    expected = b"h" * 100
    path.write_bytes(expected)
    tail = tail_of(files, path, expected)
    for _ in range(60):
        tail.write_durably([b"x" * 3000], len(expected))
        expected += b"x" * 3000
    assert path.read_bytes() == expected.ljust(STEP, b"\0")
    sizes = [size for _, size in files.writes]
    assert sizes[0] == STEP
    assert set(sizes[1:]) <= {BLOCK_BYTES, 2 * BLOCK_BYTES}
    tail.write_durably([b"y" * 50_000], len(expected))
    expected += b"y" * 50_000
    tail.write_durably([b"z" * 50_000], len(expected))
    expected += b"z" * 50_000
    assert path.read_bytes() == expected.ljust(2 * STEP, b"\0")
    tail.close()


def test_blocks_are_laid_out_up_to_where_a_segment_is_full(tmp_path):
    files, path = DirectCalls(), tmp_path / "segment"
    path.write_bytes(b"")
    tail = tail_of(files, path, b"", full=5 * BLOCK_BYTES)
    written = 0
    for size, blocks in ((100, 5), (3 * BLOCK_BYTES, 5), (2 * BLOCK_BYTES, 6), (1, 6), (4096, 7)):
        tail.write_durably([b"x" * size], written)
        written += size
        assert path.stat().st_size == blocks * BLOCK_BYTES
    tail.close()


def test_a_large_write_makes_the_file_longer_by_no_more_than_itself(tmp_path):
    files, path = DirectCalls(), tmp_path / "segment"
    path.write_bytes(b"")
    tail = tail_of(files, path, b"")
    tail.write_durably([b"x" * 100_000], 0)
    assert path.stat().st_size == 25 * BLOCK_BYTES
    tail.close()


def test_what_makes_the_file_longer_is_not_begun(tmp_path):
    class Writes:
        begun = ()

        def begin(self, _fd, size, offset):
            self.begun = (size, offset)

    path, writes = tmp_path / "segment", Writes()
    path.write_bytes(bytes(3 * BLOCK_BYTES))
    tail = tail_of(DirectCalls(), path, b"")
    assert not tail.begin([b"x" * (3 * BLOCK_BYTES + 1)], 0, writes)
    assert tail.begin([b"x" * (3 * BLOCK_BYTES)], 0, writes)
    assert writes.begun == (3 * BLOCK_BYTES, 0)
    tail.close()


def test_segments_that_were_not_made_ahead_are_written_directly(open_log, copy_of, tmp_path):
    """The first one, and one that is gone on with after a kill: a small log has no others."""
    files = DirectCalls()
    waited = Waited(open_log(segment_bytes=1 << 20, ahead="segments", files=files).group(1))
    expected = [entry for _ in range(20) for entry in waited.append(1, size=500)]
    assert [size for _, size in files.writes].count(STEP) == 1
    assert len(files.writes) == 20
    assert segments(tmp_path / "log")[0].stat().st_size == STEP
    copy_of("log", "killed")
    files = DirectCalls()
    log = open_log("killed", segment_bytes=1 << 20, ahead="segments", files=files)
    assert all_entries(log.group(1)) == expected
    waited = Waited(log.group(1))
    expected += [entry for _ in range(20) for entry in waited.append(1, size=500)]
    assert len(files.writes) == 20
    log.close()
    assert segments(tmp_path / "killed")[0].stat().st_size < 40 * 600
    assert all_entries(open_log("killed").group(1)) == expected


def write_until_direct(waited, files, most=200):
    expected = []
    for _ in range(most):
        expected += waited.append(1, size=500)
        if files.writes:
            return expected
    raise AssertionError("no segment was written directly")


def test_segments_are_written_directly(open_log, copy_of, tmp_path):
    files = DirectCalls()
    log = open_log(segment_bytes=SEGMENT, ahead="segments", files=files)
    waited = Waited(log.group(1))
    expected = write_until_direct(waited, files)
    expected += [entry for _ in range(60) for entry in waited.append(1, size=500)]
    copy_of("log", "killed")
    assert all_entries(open_log("killed").group(1)) == expected
    log.close()
    assert segments(tmp_path / "log")[-1].stat().st_size < SEGMENT + BLOCK_BYTES
    assert all_entries(open_log().group(1)) == expected


def test_where_the_disk_refuses_direct_writes_the_page_cache_serves(open_log, caplog):
    files = DirectCalls()
    files.refuses = True
    log = open_log(segment_bytes=SEGMENT, ahead="segments", files=files)
    waited = Waited(log.group(1))
    expected = write_until_direct(waited, files)
    expected += [entry for _ in range(5) for entry in waited.append(1, size=500)]
    assert any("through the page cache" in line for line in caplog.messages)
    log.close()
    assert all_entries(open_log().group(1)) == expected


def test_a_failed_direct_write_ends_the_log(open_log, copy_of):
    files = DirectCalls()
    failed = threading.Event()
    log = open_log(
        segment_bytes=SEGMENT,
        ahead="segments",
        files=files,
        on_failure=lambda _error: failed.set(),
    )
    waited = Waited(log.group(1))
    expected = write_until_direct(waited, files)
    files.fail_sync = True
    reported = []
    entry = make_entry(log.group(1).last_index + 1, size=500)
    log.group(1).submit(Persist(None, 0, (entry,)), lambda: reported.append(entry))
    assert failed.wait(WAIT_S)
    copy_of("log", "left")
    assert all_entries(open_log("left").group(1)) == expected
    assert not reported
