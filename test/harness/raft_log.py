"""For tests of the Raft log: a disk that misbehaves, and short ways to write and read entries."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from cluster.log.file_ops import FileOps
from cluster.log.node_log import GroupLog
from cluster.raft.effects import Persist
from cluster.raft.types import Entry, EntryKind, HardState

WAIT_S = 20.0


def came(event: threading.Event, most_s: float = WAIT_S) -> bool:
    """Wait for an event; time in which the whole process stood still does not count."""
    return any(event.wait(1.0) for _ in range(round(most_s)))


class FaultyDisk(FileOps):
    """Real files; fails or stalls on demand, and counts."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.fail_sync = False
        self.fail_write = False
        self.short_writes = False
        self.preads = 0
        self.sync_calls = 0
        self.events = []

    def pwritev(self, fd, parts, offset):
        assert came(self.gate)
        if self.fail_write:
            os.pwritev(fd, [parts[0][:10]], offset)
            raise OSError(errno.ENOSPC, "no space left on device")
        if self.short_writes:
            joined = b"".join(parts)
            return super().pwritev(fd, [joined[: max(1, len(joined) // 2)]], offset)
        return super().pwritev(fd, parts, offset)

    def pwritev_durably(self, fd, parts, offset):
        written = self.pwritev(fd, parts, offset)
        self.fdatasync(fd)
        return written

    def fdatasync(self, fd):
        self.sync_calls += 1
        self.events.append("sync")
        if self.fail_sync:
            raise OSError(errno.EIO, "input/output error")
        super().fdatasync(fd)

    def pread(self, fd, size_bytes, offset):
        self.preads += 1
        return super().pread(fd, size_bytes, offset)

    def unlink(self, path):
        self.events.append("unlink")
        super().unlink(path)


class Waited:
    """Submits to a group and waits until it is durable."""

    def __init__(self, group: GroupLog):
        self.group = group

    def put(self, *, hard_state=None, truncate_from=0, entries=()):
        done = threading.Event()
        self.group.submit(Persist(hard_state, truncate_from, tuple(entries)), done.set)
        assert came(done), "not durable in time"

    def append(self, count=1, *, term=1, size=20):
        first = self.group.last_index + 1
        entries = [make_entry(i, term, size) for i in range(first, first + count)]
        self.put(entries=entries)
        return entries


def make_entry(index, term=1, size=20):
    pattern = f"{index}/{term};".encode()
    data = (pattern * (size // len(pattern) + 1))[:size]
    return Entry(index, term, EntryKind.PLAN, data)


def hard_state(term, vote=1):
    return HardState(term, vote)


def all_entries(group):
    entries = []
    while group.first_index + len(entries) <= group.last_index:
        lo = group.first_index + len(entries)
        entries += group.entries(lo, group.last_index + 1, 1000)
    return entries


def segments(directory: Path):
    return sorted(directory.glob("*.log"))
