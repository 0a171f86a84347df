"""For tests of writes that nobody waits for: a disk that ends them when and how the test wants."""

from __future__ import annotations

import errno
import os
import threading
import time
from queue import Empty, SimpleQueue

from cluster.raft.effects import Persist
from harness.raft_log import WAIT_S, FaultyDisk, Waited, make_entry

SEGMENT_BYTES = 1 << 20
LARGE, SMALL = 50_000, 100
"""Payloads that are written without waiting, and with."""


class HeldWrites:
    """Asynchronous writes over plain files that end when the test says so, and how.

    Attributes:
        begun: offset and size of each.
        error: errno with which the next ones end.
        refusal: errno with which the next ones are refused.
        most: bytes that one write takes.
        is_held: nothing ends before `release`.
    """

    def __init__(self, buffer):
        self._buffer = buffer
        self._present = None
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.begun = []
        self.error = self.refusal = 0
        self.most = 1 << 30
        self.is_held = False
        self.is_closed = False
        self._go = threading.Event()

    def begin(self, fd, size, offset):
        assert self._present is None, "one at a time"
        if self.refusal:
            raise OSError(self.refusal, "refused")
        self.begun.append((offset, size))
        self._present = (fd, size, offset, bytes(self._buffer[:size]))
        if not self.is_held:
            self.release()

    def release(self):
        self._go.set()
        os.eventfd_write(self.event_fd, 1)

    def tear(self, size):
        """Leave in the file what a crash may leave of the present write: its first bytes."""
        fd, _, offset, data = self._present
        os.pwrite(fd, data[:size], offset)

    def end(self, *, wait=False):
        if wait:
            assert self._go.wait(WAIT_S)
        try:
            os.eventfd_read(self.event_fd)
        except BlockingIOError:
            if not wait:  # who waits need not be told: `release` may be between its two lines
                return None
        if self._present is None or not self._go.is_set():
            return None
        fd, size, offset, data = self._present
        self._present = None
        self._go.clear()
        assert bytes(self._buffer[:size]) == data, "changed while it was under way"
        if self.error:
            raise OSError(self.error, "failed")
        return os.pwrite(fd, data[: self.most], offset)

    def close(self):
        self.is_closed = True
        os.close(self.event_fd)


class DirectDisk(FaultyDisk):
    """Plain files that say they take direct and asynchronous writes."""

    def __init__(self):
        super().__init__()
        self.direct_writes = 0
        self.direct_fd = -1
        self.refuses = False
        self.writes = None

    def open_direct(self, path, flags=0):
        fd = self.open(path, os.O_RDWR | flags)
        if not flags & os.O_CREAT:  # a segment, and none that is being made ahead
            self.direct_fd = fd
        return fd

    def is_made_ahead(self, segment_bytes):
        """Whether the present segment has all of its blocks, so that nobody waits for a write."""
        return os.fstat(self.direct_fd).st_size >= segment_bytes

    def pwritev_durably(self, fd, parts, offset):
        if fd == self.direct_fd:
            self.direct_writes += 1
            if self.refuses:
                raise OSError(errno.EINVAL, "invalid argument")
        return super().pwritev_durably(fd, parts, offset)

    def async_writes(self, buffer):
        self.writes = HeldWrites(buffer)
        return self.writes


class WatchedBell:
    """In place of a log writer's bell: it knows whether the log's thread waits for it."""

    def __init__(self):
        self._queue = SimpleQueue()
        self._lock = threading.Lock()
        self._rung = self._waits = 0

    def put(self, item):
        with self._lock:
            self._rung += 1
        self._queue.put(item)

    def get(self, *, timeout):
        with self._lock:
            self._waits += 1
        try:
            return self._queue.get(timeout=timeout)
        except Empty:
            with self._lock:
                self._waits -= 1
            raise

    @property
    def is_waited_for(self):
        """The thread has nothing to do, and has not been woken: it will not write by itself."""
        with self._lock:
            return self._waits > self._rung


class Begun:
    """Submits to a group of a log whose present segment was made ahead.

    The log's thread is at rest then: the next write is begun by whoever asks for it.
    """

    def __init__(self, open_log, disk, **options):
        self.disk = disk
        self.log = open_log(segment_bytes=SEGMENT_BYTES, ahead="segments", files=disk, **options)
        writer = self.log._writer
        bell, writer._bell = writer._bell, WatchedBell()
        bell.put(None)  # the thread goes over from the old one
        self.group = self.log.group(1)
        self.reported = []
        waited = Waited(self.group)
        self.durable = []
        for _ in range(400):
            self.durable += waited.append(1, size=20_000)
            if disk.is_made_ahead(SEGMENT_BYTES):
                break
        else:
            raise AssertionError("no segment was made ahead")
        # what it wrote is told before it has done with it, and it may have segments to free
        end = time.monotonic() + WAIT_S
        while not writer._bell.is_waited_for:
            assert time.monotonic() < end, "the log's thread does not come to rest"
            time.sleep(0.001)

    def submit(self, size=LARGE, told=None):
        entry = make_entry(self.group.last_index + 1, size=size)
        self.group.submit(
            Persist(None, 0, (entry,)),
            told or (lambda: self.reported.append(entry)),
            wake=False,
        )
        return entry

    def begin(self, size=LARGE):
        entry = self.submit(size)
        self.log.begin_write()
        return entry

    def write(self, size=LARGE):
        """Begin and end; where the log's thread has something to do, it may be the one who does."""
        entry = self.begin(size)
        end = time.monotonic() + WAIT_S
        while self.reported[-1:] != [entry]:
            assert time.monotonic() < end, "not durable in time"
            self.log.end_write()
        return entry
