"""NodeLog and GroupLog as their callers see them."""

from __future__ import annotations

import threading

import pytest

from cluster.log import log_writer
from cluster.log.errors import LogFailed, LogLocked, LogTruncated
from cluster.log.log_writer import fair_level
from cluster.log.node_log import LogOptions
from cluster.raft.effects import Persist
from cluster.raft.types import INITIAL_HARD_STATE, EntryMeta, HardState
from harness.raft_log import WAIT_S, FaultyDisk, Waited, all_entries, make_entry, segments


def test_a_new_group_is_empty(open_log):
    log = open_log()
    group = log.group(3)
    assert group.hard_state == INITIAL_HARD_STATE
    assert (group.first_index, group.last_index, group.base) == (1, 0, (0, 0))
    assert group.metas() == []
    assert group.entries(1, 1, 100) == []
    assert log.group(3) is group
    assert log.groups() == [3]


def test_what_was_submitted_is_readable_before_it_is_durable(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk, cache_bytes=0)
    group = log.group(1)
    disk.gate.clear()
    done = threading.Event()
    entries = [make_entry(1), make_entry(2, 1, 0)]
    group.submit(Persist(HardState(1, 2), 0, tuple(entries)), done.set)
    assert group.hard_state == HardState(1, 2)
    assert group.entries(1, 3, 1 << 20) == entries
    assert group.metas() == [EntryMeta(1, 1, 20), EntryMeta(2, 1, 0)]
    assert log.queued_bytes == 20
    assert not done.is_set()
    disk.gate.set()
    assert done.wait(WAIT_S)
    assert log.queued_bytes == 0


def test_reopen_after_close(open_log):
    log = open_log()
    a, b = Waited(log.group(-1)), Waited(log.group(1 << 40))
    expected = a.append(3) + a.append(1, term=2, size=5000)
    a.put(hard_state=HardState(2, -7))
    b.append(2, size=0)
    log.close()
    again = open_log()
    assert again.groups() == [-1, 1 << 40]
    assert again.group(-1).hard_state == HardState(2, -7)
    assert all_entries(again.group(-1)) == expected
    assert again.group(-1).metas() == [EntryMeta(e.index, e.term, len(e.data)) for e in expected]
    assert again.group(1 << 40).last_index == 2
    assert again.group(1 << 40).hard_state == INITIAL_HARD_STATE


def test_closing_again_without_writes_adds_nothing(open_log, tmp_path):
    log = open_log()
    Waited(log.group(1)).append(1)
    log.close()
    size = segments(tmp_path / "log")[0].stat().st_size
    open_log().close()
    assert segments(tmp_path / "log")[0].stat().st_size == size


def test_close_makes_what_is_queued_durable(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk)
    done = []
    disk.gate.clear()
    for i in range(1, 50):
        log.group(1).submit(Persist(None, 0, (make_entry(i),)), lambda i=i: done.append(i))
    disk.gate.set()
    log.close()
    assert done == list(range(1, 50))
    with pytest.raises(LogFailed, match="closed"):
        log.group(1).submit(Persist(None, 0, (make_entry(50),)), lambda: None)
    assert log.group(1).last_index == 49
    assert len(all_entries(log.group(1))) == 49


def test_a_directory_in_use_is_refused(open_log):
    log = open_log()
    with pytest.raises(LogLocked, match=r"in use by process \d+"):
        open_log()
    log.close()
    open_log()


def test_groups_interleaved(open_log):
    log = open_log(segment_bytes=4096)
    groups = [Waited(log.group(g)) for g in range(5)]
    for round_ in range(40):
        for g, waited in enumerate(groups):
            if (round_ + g) % 3:
                waited.append(1 + g % 2, size=10 * g)
    expected = {w.group.group_id: all_entries(w.group) for w in groups}
    log.close()
    again = open_log()
    assert {g: all_entries(again.group(g)) for g in range(5)} == expected
    assert again.stats()["segments"] > 3


def test_entries_respects_max_bytes(open_log):
    log = open_log(cache_bytes=0)
    waited = Waited(log.group(1))
    expected = waited.append(10, size=100)
    group = waited.group
    for _ in ("cache", "disk"):
        assert group.entries(1, 11, 1 << 20) == expected
        assert group.entries(1, 11, 250) == expected[:2]
        assert group.entries(3, 11, 300) == expected[2:5]
        assert group.entries(3, 11, 0) == expected[2:3]
        assert group.entries(10, 11, 1) == expected[9:]
        assert group.entries(11, 11, 1) == []
        log.close()
        log = open_log()
        group = log.group(1)


def test_ranges_not_in_the_log_are_refused(open_log):
    log = open_log()
    waited = Waited(log.group(1))
    waited.append(10)
    group = waited.group
    group.compact(4)
    for lo, hi in ((4, 6), (5, 12), (12, 12), (0, 1), (7, 6)):
        with pytest.raises(LogTruncated, match=r"entries \[.*has \[5, 11\)"):
            group.entries(lo, hi, 100)
    with pytest.raises(KeyError):
        group.entries(1, 2, 100)


def test_truncate_and_append_again(open_log):
    log = open_log()
    waited = Waited(log.group(1))
    kept = waited.append(5)
    new = [make_entry(i, 2, 33) for i in (4, 5, 6)]
    waited.put(hard_state=HardState(2, 0), truncate_from=4, entries=new)
    assert all_entries(waited.group) == kept[:3] + new
    waited.put(truncate_from=9)  # nothing there: nothing to do
    waited.put(truncate_from=6)
    assert waited.group.last_index == 5
    log.close()
    again = open_log()
    assert all_entries(again.group(1)) == kept[:3] + new[:2]


def test_truncation_of_entries_still_in_the_queue(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk, cache_bytes=0)
    group = log.group(1)
    disk.gate.clear()
    first = tuple(make_entry(i) for i in range(1, 11))
    second = tuple(make_entry(i, 2, 7) for i in range(7, 12))
    third = tuple(make_entry(i, 3, 900) for i in range(5, 8))
    done = threading.Event()
    group.submit(Persist(None, 0, first), lambda: None)
    group.submit(Persist(None, 7, second), lambda: None)
    group.compact(2)
    group.submit(Persist(None, 5, third), done.set)
    expected = list(first[2:4] + third)
    assert all_entries(group) == expected
    disk.gate.set()
    assert done.wait(WAIT_S)
    log.close()
    assert log.stats()["cached_bytes"] == 0
    assert all_entries(group) == expected
    assert all_entries(open_log().group(1)) == expected


def test_submissions_that_would_break_the_log_are_refused_unchanged(open_log):
    log = open_log()
    waited = Waited(log.group(1))
    waited.append(5)
    waited.group.compact(2)
    bad = [
        Persist(HardState(9, 9), 0, (make_entry(7),)),
        Persist(HardState(9, 9), 0, (make_entry(5),)),
        Persist(HardState(9, 9), 0, (make_entry(6), make_entry(8))),
        Persist(HardState(9, 9), 2, ()),
        Persist(HardState(9, 9), 4, (make_entry(6),)),
    ]
    for persist in bad:
        with pytest.raises(ValueError, match="group 1"):
            waited.group.submit(persist, lambda: None)
    with pytest.raises(ValueError, match="compact to 6"):
        waited.group.compact(6)
    assert waited.group.hard_state == INITIAL_HARD_STATE
    assert [e.index for e in all_entries(waited.group)] == [3, 4, 5]


def test_an_empty_persist_is_reported_in_order(open_log):
    log = open_log()
    order = []
    done = threading.Event()
    log.group(1).submit(Persist(None, 0, (make_entry(1),)), lambda: order.append(1))
    log.group(2).submit(Persist(None, 0, ()), lambda: order.append(2))
    log.group(1).submit(Persist(None, 0, ()), lambda: (order.append(3), done.set()))
    assert done.wait(WAIT_S)
    assert order == [1, 2, 3]


def test_one_batch_one_sync_for_all_groups(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk)
    disk.gate.clear()
    done = threading.Semaphore(0)
    log.group(0).submit(Persist(None, 0, (make_entry(1),)), done.release)
    before = log.stats()["syncs"]
    for g in range(1, 101):
        log.group(g).submit(Persist(None, 0, (make_entry(1),)), done.release)
    disk.gate.set()
    for _ in range(101):
        assert done.acquire(timeout=WAIT_S)
    assert log.stats()["syncs"] - before <= 2
    assert log.stats()["records"] == 101


def test_batches_are_bounded(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk, max_batch_bytes=1000)
    disk.gate.clear()
    done = threading.Semaphore(0)
    for i in range(1, 21):
        log.group(0).submit(Persist(None, 0, (make_entry(i, 1, 500),)), done.release)
    disk.gate.set()
    for _ in range(20):
        assert done.acquire(timeout=WAIT_S)
    assert log.stats()["batches"] >= 10


def test_short_writes_and_many_parts(open_log):
    disk = FaultyDisk()
    disk.short_writes = True
    log = open_log(files=disk)
    waited = Waited(log.group(1))
    # above 1024 buffers and too large to be joined
    expected = waited.append(1500, size=1000)
    log.close()
    assert all_entries(open_log().group(1)) == expected


def test_cache_is_bounded_and_reads_come_from_disk(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk, cache_bytes=40_000, segment_bytes=8192)
    big, small = Waited(log.group(1)), Waited(log.group(2))
    expected = [entry for _ in range(50) for entry in big.append(2, size=1000)]
    recent = small.append(3)
    log.close()
    assert 0 < log.stats()["cached_bytes"] <= 40_000
    preads = disk.preads
    assert small.group.entries(1, 4, 1 << 20) == recent
    assert big.group.entries(100, 101, 1 << 20) == expected[99:]
    assert disk.preads == preads, "recent entries are cached"
    assert big.group.entries(1, 101, 1 << 20) == expected
    assert disk.preads > preads


def test_fair_level():
    assert fair_level([], 10) == 0
    assert fair_level([1, 2, 3], 10) == 3
    assert fair_level([100, 1, 1], 52) == 50
    assert fair_level([100, 100], 50) == 25
    assert fair_level([5, 5], 0) == 0


def test_periodic_reports_before_it_syncs(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk, sync="periodic", sync_interval_ms=600_000)
    waited = Waited(log.group(1))
    syncs = disk.sync_calls
    for _ in range(20):
        waited.append(1)
    assert disk.sync_calls == syncs
    log.close()
    assert disk.sync_calls > syncs
    assert open_log().group(1).last_index == 20


def test_periodic_syncs_by_itself(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk, sync="periodic", sync_interval_ms=20)
    synced = threading.Event()
    original = disk.fdatasync

    def fdatasync(fd):
        original(fd)
        synced.set()

    disk.fdatasync = fdatasync
    Waited(log.group(1)).append(1)
    assert synced.wait(WAIT_S)


def test_options_are_checked():
    for bad in (
        {"sync": "never"},
        {"segment_bytes": 10},
        {"sync_interval_ms": 0},
        {"max_batch_bytes": 0},
        {"cache_bytes": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            LogOptions(**bad)


def test_submitters_in_parallel(open_log):
    """Each group's reports come in its order, and nobody's entries get mixed up."""
    log = open_log(segment_bytes=1 << 16, cache_bytes=20_000)
    count, groups = 150, 8
    reported = {g: [] for g in range(groups)}
    errors = []
    all_reported = []

    def submitter(g):
        try:
            group = log.group(g)
            done = threading.Semaphore(0)

            def report(i):
                reported[g].append(i)
                all_reported.append((g, i))
                done.release()

            for i in range(1, count + 1):
                entries = (make_entry(i, g, 50 * (i % 7)),)
                group.submit(Persist(None, 0, entries), lambda i=i: report(i))
                if i % 3 == 0:
                    assert done.acquire(timeout=WAIT_S)
                if i % 10 == 0:
                    lo = max(group.first_index, i - 40)
                    found = group.entries(lo, i + 1, 1 << 20)
                    assert found == [make_entry(j, g, 50 * (j % 7)) for j in range(lo, i + 1)]
                if i % 50 == 0:
                    group.compact(i - 45)
        except Exception as error:  # noqa: BLE001 - reported by the main thread
            errors.append(error)

    threads = [threading.Thread(target=submitter, args=(g,)) for g in range(groups)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    log.close()
    assert errors == []
    assert all(reported[g] == list(range(1, count + 1)) for g in range(groups))
    assert len(all_reported) == groups * count
    again = open_log()
    for g in range(groups):
        assert again.group(g).base == (105, g)
        assert all_entries(again.group(g)) == [
            make_entry(j, g, 50 * (j % 7)) for j in range(106, count + 1)
        ]


def test_a_slow_disk_is_told_of(open_log, monkeypatch, caplog):
    log = open_log()
    waited = Waited(log.group(1))
    waited.append(1)
    assert log.stats()["slow_writes"] == 0
    assert not caplog.messages
    monkeypatch.setattr(log_writer, "_SLOW_WRITE_S", 0.0)
    waited.append(1)
    assert log.stats()["slow_writes"] == 1
    assert [line for line in caplog.messages if "took" in line and "bytes" in line]
