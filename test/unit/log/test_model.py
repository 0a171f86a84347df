"""Two groups against a dictionary: append, truncate, compact, restart, crash."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster.log import direct_writer
from cluster.log.node_log import LogOptions, NodeLog
from cluster.raft.effects import Persist
from cluster.raft.types import INITIAL_HARD_STATE, HardState
from cluster.threads import ThreadRegistry
from harness.async_disk import DirectDisk
from harness.raft_log import WAIT_S, FaultyDisk, Waited, make_entry

GROUPS = (1, 2)
OPTIONS = LogOptions(segment_bytes=4096, cache_bytes=3000, max_batch_bytes=4000)
groups = st.sampled_from(GROUPS)


class GroupModel:
    def __init__(self):
        self.hard_state = INITIAL_HARD_STATE
        self.entries = {}
        self.base = (0, 0)

    @property
    def last(self):
        return max(self.entries, default=self.base[0])

    def copy(self):
        other = GroupModel()
        other.hard_state, other.base = self.hard_state, self.base
        other.entries = dict(self.entries)
        return other


class LogMachine(RuleBasedStateMachine):
    """While the disk stalls, submissions wait; a crash then loses exactly these."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="log-model-"))
        self.lives = 0
        self.term = 1
        self.models = {g: GroupModel() for g in GROUPS}
        self.waiting = []
        self.durable = None
        self.open()

    def open(self):
        self.disk = FaultyDisk()
        self.directory = self.root / str(self.lives)
        self.log = NodeLog(self.directory, ThreadRegistry(), OPTIONS, files=self.disk)

    def teardown(self):
        self.disk.gate.set()
        self.log.close()
        shutil.rmtree(self.root)

    def submit(self, g, persist):
        done = threading.Event()
        self.log.group(g).submit(persist, done.set)
        self.waiting.append(done)
        if self.durable is None:
            self.settle()

    def settle(self):
        for done in self.waiting:
            assert done.wait(WAIT_S)
        self.waiting.clear()

    def quiesce(self):
        """Let the writer finish what it does after its reports: deleting files."""
        if self.durable is None:
            for _ in range(2):
                self.submit(1, Persist(None, 0, ()))

    @rule(g=groups, sizes=st.lists(st.integers(0, 1500), max_size=5), vote=st.booleans())
    def append(self, g, sizes, vote):
        model = self.models[g]
        state = HardState(self.term, g) if vote else None
        first = model.last + 1
        entries = tuple(make_entry(first + i, self.term, size) for i, size in enumerate(sizes))
        model.entries.update({entry.index: entry for entry in entries})
        model.hard_state = state or model.hard_state
        self.submit(g, Persist(state, 0, entries))

    @rule(g=groups, back=st.integers(0, 8), sizes=st.lists(st.integers(0, 300), max_size=3))
    def truncate(self, g, back, sizes):
        model = self.models[g]
        self.term += 1
        start = max(model.base[0] + 1, model.last + 1 - back)
        for index in range(start, model.last + 1):
            del model.entries[index]
        entries = tuple(make_entry(start + i, self.term, size) for i, size in enumerate(sizes))
        model.entries.update({entry.index: entry for entry in entries})
        self.submit(g, Persist(None, start, entries))

    @rule(g=groups, keep=st.integers(0, 10))
    def compact(self, g, keep):
        model = self.models[g]
        up_to = model.last - keep
        if up_to > model.base[0]:
            model.base = (up_to, model.entries[up_to].term)
            model.entries = {i: e for i, e in model.entries.items() if i > up_to}
        self.log.group(g).compact(max(up_to, 0))

    @rule(g=groups, max_bytes=st.integers(0, 4000))
    def move(self, g, max_bytes):
        if self.log.group(g).move_oldest(max_bytes) and self.durable is None:
            self.quiesce()

    @precondition(lambda self: self.durable is None)
    @rule()
    def stall(self):
        self.quiesce()
        self.disk.gate.clear()
        self.durable = {g: model.copy() for g, model in self.models.items()}

    @precondition(lambda self: self.durable is not None)
    @rule()
    def go_on(self):
        self.disk.gate.set()
        self.durable = None
        self.settle()

    @rule()
    def close_and_reopen(self):
        self.disk.gate.set()
        self.durable = None
        self.log.close()
        self.settle()
        self.open()

    @rule()
    def crash(self):
        self.quiesce()
        shutil.copytree(self.directory, self.root / str(self.lives + 1))
        self.disk.gate.set()
        self.log.close()
        self.waiting.clear()
        if self.durable is not None:
            self.models, self.durable = self.durable, None
        self.lives += 1
        self.open()
        for g, model in self.models.items():
            group = self.log.group(g)
            assert group.base[0] <= model.base[0]
            group.compact(model.base[0])

    @invariant()
    def same(self):
        for g, model in self.models.items():
            group = self.log.group(g)
            assert group.hard_state == model.hard_state
            assert group.base == model.base
            assert (group.first_index, group.last_index) == (model.base[0] + 1, model.last)
            expected = [model.entries[i] for i in sorted(model.entries)]
            assert [meta[:2] for meta in group.metas()] == [entry[:2] for entry in expected]
            assert [meta[2] for meta in group.metas()] == [len(entry.data) for entry in expected]
            found = group.entries(group.first_index, group.last_index + 1, 1 << 30)
            assert found == expected


LogMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLogModel = LogMachine.TestCase


class AsyncLogMachine(LogMachine):
    """The same with writes that the submitter begins and ends, in segments made ahead.

    The disk stalls with one of them under way: a crash leaves a part of it, or nothing.
    """

    def open(self):
        self.disk = DirectDisk()
        self.registry = ThreadRegistry()
        self.directory = self.root / str(self.lives)
        options = LogOptions(segment_bytes=1 << 16, cache_bytes=3000, ahead="segments")
        self.log = NodeLog(self.directory, self.registry, options, files=self.disk)
        self.under_way = []
        filler = Waited(self.log.group(max(GROUPS) + 1))
        while not self.disk.is_made_ahead(1 << 16):
            filler.append(size=20_000)
            self.log.group(filler.group.group_id).compact(filler.group.last_index)

    def close_log(self):
        if self.disk.writes.is_held:
            self.disk.writes.is_held = False
            self.disk.writes.release()
        self.log.end_write(wait=True)
        self.log.close()
        assert self.registry.join_all(WAIT_S) == []
        self.durable = None

    def teardown(self):
        self.close_log()
        shutil.rmtree(self.root)

    def submit(self, g, persist):
        done = threading.Event()
        self.log.group(g).submit(persist, done.set, wake=False)
        with patch.object(direct_writer, "ASYNC_FROM_BYTES", 1):
            self.log.begin_write()
        self.waiting.append(done)
        if self.durable is None:
            self.settle()

    def settle(self):
        end = time.monotonic() + WAIT_S
        for done in self.waiting:
            while not done.is_set():
                assert time.monotonic() < end
                self.log.end_write()
                self.log.wake()
        self.waiting.clear()

    def quiesce(self):
        """Also until the log's thread, which writes seldom, has deleted what it deletes."""
        super().quiesce()
        writer = self.log._writer
        while self.durable is None and writer._may_free:
            self.log.wake()
        if self.durable is None:
            assert writer._role.acquire(timeout=WAIT_S)
            writer._role.release()

    # whether a write is under way depends on threads, so there are no preconditions

    @rule(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=5))
    def stall(self, sizes=(10,)):
        if self.durable is not None:
            return
        self.quiesce()
        self.durable = {g: model.copy() for g, model in self.models.items()}
        self.disk.writes.is_held = True
        self.append(1, list(sizes), vote=False)
        if self.log.is_under_way:
            start = self.durable[1].last + 1
            self.under_way = [self.models[1].entries[start + i] for i in range(len(sizes))]
        else:  # the segment is not written directly, or somebody else wrote
            self.disk.writes.is_held = False
            self.durable = None
            self.settle()

    @rule()
    def go_on(self):
        if self.durable is None:
            return
        self.disk.writes.is_held = False
        self.disk.writes.release()
        self.durable = None
        self.settle()

    @rule()
    def close_and_reopen(self):
        self.close_log()
        self.settle()
        self.open()

    @rule(torn=st.integers(0, 20_000))
    def crash(self, torn=0):
        self.quiesce()
        stalled = self.durable
        if stalled is not None:
            self.disk.writes.tear(torn)
        unfinished = shutil.ignore_patterns("*.tmp", "*.spare")
        shutil.copytree(self.directory, self.root / str(self.lives + 1), ignore=unfinished)
        under_way = self.under_way
        self.close_log()
        self.waiting.clear()
        self.lives += 1
        self.open()
        if stalled is not None:
            self.models = stalled
            for entry in under_way:
                if entry.index <= self.log.group(1).last_index:
                    self.models[1].entries[entry.index] = entry
        for g, model in self.models.items():
            group = self.log.group(g)
            assert group.base[0] <= model.base[0]
            group.compact(model.base[0])


AsyncLogMachine.TestCase.settings = settings(
    LogMachine.TestCase.settings, max_examples=15, stateful_step_count=30
)
TestAsyncLogModel = AsyncLogMachine.TestCase
