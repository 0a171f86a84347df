"""The loop and the node's log: large writes go on while the loop does."""

from __future__ import annotations

import threading

import pytest

from cluster.log.node_log import LogOptions, NodeLog
from cluster.rpc.loop import FrameLoop
from cluster.server.loop_turn import LogTurn
from cluster.threads import ThreadRegistry
from harness.async_disk import LARGE, SEGMENT_BYTES, SMALL, Begun, DirectDisk
from harness.raft_log import WAIT_S, all_entries


class Streams:
    """Notes which threads have them send."""

    def __init__(self):
        self.flushed = []

    def flush(self):
        self.flushed.append(threading.current_thread())


class Member:
    """What the turn knows of a member; a plan is an entry of that size."""

    def __init__(self, begun):
        self._begun = begun
        self._waiting = []
        self.loop_side = self
        self.catches = 0

    def propose(self, notice, payload, plan, now):
        self._waiting.append((notice, len(payload)))
        self._begun.log.feed(self._append)
        return 0.0

    def _append(self):
        waiting, self._waiting = self._waiting, []
        for notice, size in waiting:
            self._begun.submit(size, notice)

    def catch_up(self):
        self.catches += 1


class Node:
    """A loop with a log whose present segment is written directly."""

    def __init__(self, folder):
        self.threads = ThreadRegistry()
        self.disk = DirectDisk()
        self.folder = folder
        self.begun = Begun(self._open, self.disk)
        self.log = self.begun.log
        self.loop = FrameLoop(lambda run: self.threads.spawn("relief", run))
        self.streams = Streams()
        self.turn = LogTurn(self.loop, self.log, self.streams)
        self.member = Member(self.begun)
        self.told = []
        self.thread = self.threads.spawn("loop", self.loop.run)
        self.threads.spawn("watch", self.loop.watch_over)

    def _open(self, **options):
        files = options.pop("files")
        return NodeLog(self.folder, self.threads, LogOptions(**options), files=files)

    def in_loop(self, work):
        done = threading.Event()
        assert self.loop.call(lambda: (work(), done.set())[0])
        assert done.wait(WAIT_S)

    def propose(self, size, also=lambda: None):
        """Have the loop take a plan; returns what is set when it is durable."""
        durable = threading.Event()

        def told():
            also()
            self.told.append(threading.current_thread())
            durable.set()

        self.in_loop(lambda: self.turn.propose(self.member, told, bytes(size), None))
        return durable

    def close(self):
        self.loop.stop()
        assert self.loop.wait_for_end(WAIT_S)
        self.log.close()
        assert self.threads.join_all(WAIT_S) == []

    def entries(self):
        """What a next start finds."""
        log = self._open(files=DirectDisk(), segment_bytes=SEGMENT_BYTES)
        found = all_entries(log.group(1))
        log.close()
        return [len(entry.data) for entry in found[len(self.begun.durable) :]]


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path / "log")
    yield made
    made.close()


def test_the_loop_goes_on_while_the_disk_writes(node):
    writes = node.disk.writes
    writes.is_held = True
    first = node.propose(LARGE)
    node.in_loop(lambda: None)
    assert node.log.is_under_way
    second, third = node.propose(SMALL), node.propose(LARGE)
    node.in_loop(lambda: node.turn.stepped(node.member))
    node.in_loop(lambda: None)
    assert node.member.catches, "what is committed is applied meanwhile"
    assert not node.told
    batches = node.log.stats()["batches"]
    writes.is_held = False
    writes.release()
    for durable in (first, second, third):
        assert durable.wait(WAIT_S)
    assert node.log.stats()["batches"] == batches + 2, "what came meanwhile goes together"
    node.close()
    assert node.entries() == [LARGE, SMALL, LARGE]


def test_answers_leave_before_the_next_write_begins(node):
    writes = node.disk.writes
    writes.is_held = True
    begun_before = []

    def answer():
        node.loop.flush_later(lambda: begun_before.append(len(writes.begun)))

    node.propose(LARGE, also=lambda: node.loop.call(answer))
    node.in_loop(lambda: None)
    second = node.propose(LARGE)
    writes.is_held = False
    writes.release()
    assert second.wait(WAIT_S)
    assert begun_before == [1]
    assert len(writes.begun) == 2


def test_a_loop_that_ends_waits_for_the_write(node):
    writes = node.disk.writes
    writes.is_held = True
    durable = node.propose(LARGE)
    node.in_loop(lambda: None)
    assert node.log.is_under_way
    node.loop.stop()
    assert not node.loop.wait_for_end(0)
    writes.release()
    assert node.loop.wait_for_end(WAIT_S)
    assert durable.is_set()
    node.close()
    assert node.entries() == [LARGE]


def test_a_loop_that_ends_leaves_a_write_of_the_log_thread_to_it(node):
    """The log's thread has the role: the loop begins nothing, and has nothing to wait for."""
    writing, go_on = threading.Event(), threading.Event()
    node.begun.submit(SMALL, lambda: (writing.set(), go_on.wait(WAIT_S)))
    node.log.wake()
    assert writing.wait(WAIT_S)
    durable = node.propose(LARGE)
    node.in_loop(lambda: None)
    assert not node.log.is_under_way
    node.loop.stop()
    assert node.loop.wait_for_end(WAIT_S)
    assert not durable.is_set()
    go_on.set()
    assert durable.wait(WAIT_S)
    node.close()
    assert node.entries() == [SMALL, LARGE]


def test_another_thread_goes_on_with_the_loop_where_the_end_of_a_write_takes_long(node):
    """The rest of a short write is waited for."""
    disk, writes = node.disk, node.disk.writes
    writes.is_held = True
    writes.most = 8192
    first = node.propose(LARGE)
    node.in_loop(lambda: None)
    disk.gate.clear()
    writes.release()
    second = node.propose(LARGE)  # which the loop takes although its thread is away
    assert not first.is_set()
    writes.is_held = False
    writes.most = 1 << 30
    disk.gate.set()
    assert first.wait(WAIT_S)
    assert second.wait(WAIT_S)
    node.close()
    assert node.entries() == [LARGE, LARGE]


def test_a_failed_write_is_told_to_nobody(node):
    node.disk.writes.error = 5
    durable = node.propose(LARGE)
    node.in_loop(lambda: None)
    node.log._thread.join(WAIT_S)
    assert not node.log._thread.is_alive(), "the log takes no more"
    assert not durable.is_set()
    node.close()
    assert node.entries() == []


def test_only_the_loop_sends_by_its_streams_whoever_writes(node):
    assert node.propose(SMALL).wait(WAIT_S)
    assert set(node.streams.flushed) == {node.thread}
    writing, go_on = threading.Event(), threading.Event()
    node.begun.submit(SMALL, lambda: (writing.set(), go_on.wait(WAIT_S)))
    other = node.threads.spawn("other", node.log.write_here)
    assert writing.wait(WAIT_S)
    durable = node.propose(SMALL)  # the log is the other thread's, and then the log writer's
    node.in_loop(lambda: None)
    go_on.set()
    assert durable.wait(WAIT_S)
    other.join(WAIT_S)
    assert set(node.streams.flushed) == {node.thread}
