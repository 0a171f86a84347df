"""A submitter may write by itself; the log is the same, whoever writes."""

from __future__ import annotations

import threading
import time

import pytest

from cluster.log.errors import LogFailed
from cluster.raft.effects import Persist
from harness.raft_log import WAIT_S, FaultyDisk, Waited, all_entries, make_entry


def submit(group, index, done, *, size=20):
    group.submit(Persist(None, 0, (make_entry(index, size=size),)), done, wake=False)


def test_where_the_disk_is_idle_the_caller_writes(open_log):
    log = open_log()
    threads = []
    for index in range(1, 4):
        submit(log.group(1), index, lambda: threads.append(threading.get_ident()))
        log.group(1).write_here()
    assert threads == [threading.get_ident()] * 3
    log.close()
    again = open_log()
    assert all_entries(again.group(1)) == [make_entry(index) for index in (1, 2, 3)]


def test_where_somebody_writes_it_is_left_to_them(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk)
    Waited(log.group(1)).append(1)
    disk.gate.clear()
    first, second = threading.Event(), threading.Event()
    submit(log.group(1), 2, first.set)
    writer = threading.Thread(target=log.group(1).write_here)
    writer.start()
    while not log._writer._role.locked():  # it stands at the gate
        pass
    submit(log.group(2), 1, second.set)
    log.group(2).write_here()  # returns at once
    assert not first.is_set()
    disk.gate.set()
    assert first.wait(WAIT_S)
    assert second.wait(WAIT_S)
    writer.join(WAIT_S)
    assert not writer.is_alive()


def test_with_periodic_sync_the_thread_writes_and_syncs(open_log):
    log = open_log(sync="periodic", sync_interval_ms=5)
    done = threading.Event()
    threads = []

    def durable():
        threads.append(threading.get_ident())
        done.set()

    submit(log.group(1), 1, durable)
    log.group(1).write_here()
    assert done.wait(WAIT_S)
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize("what", ["fail_sync", "fail_write"])
def test_a_failed_write_of_a_caller_is_final(open_log, what):
    disk = FaultyDisk()
    failures = []
    log = open_log(files=disk, on_failure=failures.append)
    durable = Waited(log.group(1)).append(2)
    setattr(disk, what, True)
    reported = []
    submit(log.group(1), 3, lambda: reported.append(3))
    log.group(1).write_here()
    assert [type(error) for error in failures] == [OSError]
    setattr(disk, what, False)
    with pytest.raises(LogFailed, match="an earlier write failed"):
        submit(log.group(1), 4, lambda: reported.append(4))
    log.group(1).write_here()
    log.close()
    assert reported == []
    assert all_entries(open_log().group(1)) == durable


def test_the_log_may_be_closed_from_a_callback_of_a_write(open_log):
    log = open_log()
    submit(log.group(1), 1, log.close)
    log.group(1).write_here()
    late = []
    with pytest.raises(LogFailed, match="closed"):
        submit(log.group(1), 2, lambda: late.append(2))
    log.group(1).write_here()
    assert late == []


def test_many_threads_write_and_every_group_keeps_its_order(open_log):
    log = open_log(segment_bytes=1 << 16)
    order = {group: [] for group in range(1, 5)}
    locks = {group: threading.Lock() for group in order}
    last = dict.fromkeys(order, 0)
    left = threading.Semaphore(0)

    def note(group, index):
        order[group].append(index)
        left.release()

    def work(number):
        for _ in range(150):
            group = number % 4 + 1
            with locks[group]:
                last[group] += 1
                index = last[group]
                submit(
                    log.group(group), index, lambda g=group, i=index: note(g, i), size=index % 700
                )
            log.group(group).write_here()
            number += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(8 * 150):
        assert left.acquire(timeout=WAIT_S)
    for thread in threads:
        thread.join(WAIT_S)
    assert all(order[group] == list(range(1, last[group] + 1)) for group in order)
    log.close()
    again = open_log()
    for group in order:
        assert all_entries(again.group(group)) == [
            make_entry(index, size=index % 700) for index in range(1, last[group] + 1)
        ]


def test_the_log_tells_since_when_it_waits_for_the_disk(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk)
    Waited(log.group(1)).append(1)
    disk.gate.clear()
    before = time.monotonic()
    submit(log.group(1), 2, lambda: None)
    writer = threading.Thread(target=log.group(1).write_here)
    writer.start()
    while not log.waits_since:
        pass
    assert before <= log.waits_since <= time.monotonic()
    assert log.group(1).waits_since == log.waits_since
    disk.gate.set()
    writer.join(WAIT_S)
    assert log.waits_since == 0.0


def test_a_log_that_failed_waits_for_nothing(open_log):
    disk = FaultyDisk()
    log = open_log(files=disk)
    Waited(log.group(1)).append(1)
    disk.fail_write = True
    submit(log.group(1), 2, lambda: None)
    log.group(1).write_here()
    assert log.waits_since == 0.0
