"""The node's one log writer: group commit over all groups.

It takes whatever all groups have queued, packs it, makes it durable with one write, and reports it,
in order. While it waits for the disk the next batch gathers, so the number of syncs a second is the
disk's, and the size of a batch follows the load.

Writing is a role: one thread at a time has it. Where the disk is idle, a request's own thread takes
it (`write_here`): to wake another one, and to be woken by it, costs about as much as the write.
Under load the log-writer thread has it, and does not sleep between batches. A thread that has other
things to do may begin a write and end it later (`begin_write`, `end_write`): from one to the other
it has the role, and nobody else writes.

Cost: one wake-up and one sync a batch; about 3 µs of Python a record; payload bytes are read once
(CRC) and handed to the kernel where they are. Records of small batches are joined first: one buffer
is cheaper for the kernel than hundreds.

A failed write or sync is final. After a failed fdatasync the kernel may have dropped the dirty
pages and marked them clean, so a second one that succeeds would prove nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from cluster.log.direct_writer import ASYNC_FROM_BYTES, DirectWriter
from cluster.log.errors import LogFailed
from cluster.log.file_ops import FileOps
from cluster.log.group_log import GroupLog, WriteOp
from cluster.log.options import LogOptions
from cluster.log.record import RECORD_HEADER_BYTES, RecordType, pack_record
from cluster.log.segment import (
    POSITION_SHIFT,
    OpenSegment,
    create_segment,
    segment_path,
    write_fully,
)
from cluster.log.spares import SpareSegments
from cluster.raft.types import GroupId

logger = logging.getLogger(__name__)

_IOV_MAX = 1024  # Linux's; POSIX promises 16, but nothing in use has less than Linux
_JOIN_BELOW_BYTES = 512
_SLOW_WRITE_S = 1.0
_LOOK_S = 0.5


class _Write(NamedTuple):
    """A batch with its bytes and places, on its way to the disk."""

    batch: list[WriteOp]
    positions: list[list[int]]
    parts: list[bytes]
    start: int
    began: float


class LogWriter:
    """Writes what groups queue; `run` is the thread, the rest is thread-safe where it says so.

    Args:
        seeds: record seed of every segment, kept up to date for readers.
        groups: recovered groups; new ones are added when they first write.
        tail: the segment to go on with.
        spares: files made ahead, or None to make each when it is needed.
        closed: `tail` ends with the mark of an orderly close.
        on_failure: called once, by who was writing, when the log can't go on.
    """

    def __init__(
        self,
        directory: Path,
        files: FileOps,
        options: LogOptions,
        seeds: dict[int, int],
        tail: OpenSegment,
        *,
        closed: bool,
        spares: SpareSegments | None,
        on_failure: Callable[[BaseException], None] | None,
    ) -> None:
        self._spares = spares
        self._directory = directory
        self._files = files
        self._options = options
        self._seeds = seeds
        self._on_failure = on_failure
        self._queue: deque[WriteOp] = deque()
        self._feeders: deque[Callable[[], None]] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        # Whoever holds it writes, and owns the fields below but for the flags.
        self._role = threading.Lock()
        self._writing = 0
        self._under_way: _Write | None = None
        self._ending = threading.Lock()
        self._ended = False
        self._groups: dict[GroupId, GroupLog] = {}
        self._fd = tail.fd
        self._direct: DirectWriter | None = None
        if options.ahead != "nothing" and options.sync == "always":
            self._direct = DirectWriter(files)
            path = segment_path(directory, tail.sequence)
            self._direct.begin_segment(tail.fd, path, tail.size_bytes, options.segment_bytes)
        self._seed = tail.seed
        self._first_segment = min(seeds)
        self._synced = tail.size_bytes
        self._offset = tail.size_bytes
        self._marked_closed = closed
        self._may_free = True
        self._next_sync = 0.0
        self._closing = False
        self._is_made_ahead = False
        self._failure: BaseException | None = None
        self.waits_since = 0.0
        """Since when who writes waits for the disk, in monotonic seconds; 0.0: nobody does."""
        self.segment = tail.sequence
        self.syncs = 0
        self.bytes = 0
        self.records = 0
        self.batches = 0
        self.async_writes = 0
        self.slow_writes = 0
        self.last_write_s = 0.0
        self.write_s = 0.0
        self.slowest_write_s = 0.0

    # ---- for other threads ----

    def adopt(self, group: GroupLog) -> None:
        """Take over a recovered group; before `run` starts."""
        self._groups[group.group_id] = group

    def check_usable(self) -> None:
        """Raise LogFailed when the log takes no more writes. Thread-safe."""
        if self._failure is not None:
            raise LogFailed(f"an earlier write failed: {self._failure}") from self._failure
        if self._closing:
            raise LogFailed("it is closed")

    def put(self, op: WriteOp) -> None:
        """Queue `op`; `wake` or `write_here` must follow. Thread-safe; never blocks."""
        self._queue.append(op)

    def feed(self, call: Callable[[], None]) -> None:
        """Have `call` put what it has when the next write begins. Thread-safe; never blocks.

        `wake` or `write_here` must follow.
        """
        self._feeders.append(call)

    def wake(self) -> None:
        """Have the thread write what is queued. Thread-safe; never blocks."""
        if self._asleep:
            self._asleep = False
            self._bell.put(None)

    def write_here(self) -> None:
        """Write what is queued in the calling thread, or leave it to who is writing already.

        Saves two switches of threads where the disk is idle. Callbacks of any group are called: no
        lock may be held that they take. Thread-safe.
        """
        self._write_here(may_begin=False)

    def begin_write(self) -> None:
        """As `write_here`, but where the disk would be waited for, return at once.

        `is_under_way` then; `end_write` must be called when `event_fd` is readable.
        """
        self._write_here(may_begin=True)

    def _write_here(self, *, may_begin: bool) -> None:
        here = self._options.sync == "always" or self._ended
        if here and (self._queue or self._feeders) and self._role.acquire(blocking=False):
            self._writing = threading.get_ident()
            is_under_way = False
            try:
                self._feed()
                if self._queue and not self._ended and self._failure is None:
                    is_under_way = self._write(self._take(), may_begin=may_begin)
            except Exception as error:  # noqa: BLE001 - whatever it was, the log is not to be trusted
                self._fail(error)
            finally:
                self._writing = 0
                if not is_under_way:
                    self._role.release()
            if is_under_way:
                return
        if self._queue or self._feeders or self._may_free or self._failure is not None:
            self.wake()

    @property
    def is_under_way(self) -> bool:
        """Whether a write was begun that has not ended."""
        return self._under_way is not None

    @property
    def event_fd(self) -> int:
        """Readable when a write that was begun has ended; -1: none will be begun."""
        return -1 if self._direct is None else self._direct.event_fd

    def end_write(self, *, wait: bool = False) -> None:
        """End the write that was begun, if there is one and it has ended: as `write_here` ends.

        Thread-safe.

        Args:
            wait: until it has ended.
        """
        with self._ending:
            write = self._under_way
            if write is None:
                return
            assert self._direct is not None
            self._writing = threading.get_ident()
            try:
                is_durable = self._direct.end(wait=wait)
                if is_durable is None:
                    return
                self._under_way = None
                if is_durable:
                    self._note_synced()
                else:
                    self._write_parts(write.parts, write.start)
                self._written(write)
            except Exception as error:  # noqa: BLE001 - see write_here
                self._under_way = None
                self._fail(error)
            finally:
                self._writing = 0
                if self._under_way is None:
                    self._role.release()
        if self._may_free or self._failure is not None:
            self.wake()

    def sync_written(self) -> None:
        """Make durable what was reported until now; with sync="always" it is. Thread-safe.

        By a descriptor of its own: after a failed sync the writer's own one is told, too.

        Raises:
            OSError: it failed.
            LogFailed: an earlier write or sync did.
        """
        if self._options.sync == "always":
            return
        if self._failure is not None:
            raise LogFailed(f"an earlier write failed: {self._failure}") from self._failure
        with suppress(FileNotFoundError):  # full, so it was synced, and needed by nobody since
            fd = self._files.open(segment_path(self._directory, self.segment), os.O_RDWR)
            try:
                self._files.fdatasync(fd)
            finally:
                self._files.close(fd)

    def is_writing(self) -> bool:
        """Whether the calling thread is inside a callback of a write of its own."""
        return self._writing == threading.get_ident()

    def close(self) -> None:
        """Take nothing new; the thread ends when all that is queued is durable. Thread-safe."""
        self._closing = True
        if self._spares is not None:
            self._spares.close()
        self.wake()

    # ---- the thread ----

    def run(self) -> None:
        """Write until closed or failed."""
        going_on = True
        while going_on:
            self._sleep()
            self._take_role()
            self._writing = threading.get_ident()
            try:
                going_on = self._work()
            except Exception as error:  # noqa: BLE001 - see write_here
                self._fail(error)
                going_on = False
            finally:
                self._writing = 0
                if not going_on:
                    self._ended = True
                    if self._direct is not None:
                        self._direct.close()
                    self._files.close(self._fd)
                self._role.release()

    def _take_role(self) -> None:
        while not self._role.acquire(timeout=_LOOK_S):
            if self._closing:  # who began a write may not be there any more to end it
                self.end_write(wait=True)

    def _sleep(self) -> None:
        """Wait for the bell, or for the next periodic sync."""
        self._asleep = True
        # who queues something looks at `_asleep` afterwards: one of both sees the other
        if not (self._queue or self._feeders or self._closing or self._may_free or self._failure):
            due = self._options.sync == "periodic" and self._synced < self._offset
            wait_s = max(0.0, self._next_sync - time.monotonic()) if due else None
            with suppress(Empty):
                self._bell.get(timeout=wait_s)
        self._asleep = False

    # ---- with the role ----

    def _work(self) -> bool:
        """Do all there is to do; False: it was the last time."""
        self._feed()
        while self._queue and self._failure is None:
            self._write(self._take())
            self._feed()
        if self._failure is not None:
            return False
        self.waits_since = time.monotonic()
        if self._synced < self._offset and time.monotonic() >= self._next_sync:
            self._sync()
        if self._may_free:
            self._delete_unneeded()
        self.waits_since = 0.0
        if not self._closing or self._queue or self._feeders:
            return True
        self._mark_closed()
        return False

    def _feed(self) -> None:
        """Let those put something who waited for this moment."""
        feeders = self._feeders
        for _ in range(len(feeders)):  # a feeder that comes meanwhile waits for the next write
            feeders.popleft()()

    def _take(self) -> list[WriteOp]:
        """Take what is queued, up to a batch."""
        queue = self._queue
        batch: list[WriteOp] = []
        room = self._options.max_batch_bytes
        while queue and room > 0:
            op = queue.popleft()
            batch.append(op)
            room -= op.payload_bytes
        return batch

    def _write(self, batch: list[WriteOp], *, may_begin: bool = False) -> bool:
        """Write a batch; True: that is under way."""
        self.waits_since = time.monotonic()
        if self._is_left(batch):
            self._roll()
        start = self._offset
        parts, positions = self._pack(batch)
        write = _Write(batch, positions, parts, start, time.monotonic())
        direct = self._direct
        if may_begin and direct is not None and direct.begin(parts, self._offset - start, start):
            self._under_way = write
            self.async_writes += 1
            return True
        if parts:
            self._write_parts(parts, start)
        self._written(write)
        return False

    def _written(self, write: _Write) -> None:
        """Tell of a batch that is durable (with sync="periodic": written)."""
        self.waits_since = 0.0
        batch, positions, parts, start, began = write
        if parts:
            self._note_duration(time.monotonic() - began, self._offset - start)
            self._marked_closed = False
            self.batches += 1
            self.bytes += self._offset - start
            if self._options.sync == "periodic" and self._synced == start:
                self._next_sync = time.monotonic() + self._options.sync_interval_ms / 1000
        for op, placed in zip(batch, positions, strict=True):
            op.group.written_durably(op, placed)
            if op.on_durable is not None:
                try:
                    op.on_durable()
                except Exception:
                    # the caller's bug is not the log's: the other groups go on
                    logger.exception("group %d: on_durable failed", op.group.group_id)
        for group in dict.fromkeys([op.group for op in batch]):
            if group.batch_listener is not None:
                try:
                    group.batch_listener()
                except Exception:
                    logger.exception("group %d: batch_listener failed", group.group_id)
        self._evict()
        # the thread is woken only where it has something to do
        self._may_free = self._may_free and self._first_segment < self._oldest_needed()
        if self._spares is not None and self._offset * 4 > self._options.segment_bytes:
            self._spares.prepare()  # a small log never pays for it

    def _pack(self, batch: list[WriteOp]) -> tuple[list[bytes], list[list[int]]]:
        """Return the batch's bytes, and for each op the positions of its entries."""
        parts: list[bytes] = []
        all_positions: list[list[int]] = []
        seed, synced, segment = self._seed, self._synced, self.segment
        place = segment << POSITION_SHIFT
        offset = self._offset
        records = 0
        for op in batch:
            group_id, written = op.group.group_id, op.group.written
            self._groups[group_id] = op.group
            before = len(parts)
            if op.hard_state is not None:
                term, vote = op.hard_state
                parts.append(pack_record(seed, synced, RecordType.HARD_STATE, group_id, term, vote))
                written.hard_state = op.hard_state
            if op.base is not None:
                index, term, membership = op.base
                record = RecordType.RESTART if op.restarts else RecordType.BASE
                header = pack_record(
                    seed, synced, record, group_id, term, index, payload=membership
                )
                parts.append(header + membership)
                offset += len(membership)
                (written.restart if op.restarts else written.rebase)(index, term, membership)
                self._may_free = True
            if op.truncate_from and op.truncate_from <= written.last:
                index = op.truncate_from
                parts.append(pack_record(seed, synced, RecordType.TRUNCATE, group_id, 0, index))
                written.truncate(index)
                self._may_free = True
            records += len(parts) - before
            offset += RECORD_HEADER_BYTES * (len(parts) - before)
            positions: list[int] = []
            entries = op.entries
            type_ = RecordType.MOVED if op.moves else RecordType.ENTRY
            for index, term, kind, data in entries:
                parts.append(pack_record(seed, synced, type_, group_id, term, index, kind, data))
                parts.append(data)
                positions.append(place | offset)
                offset += RECORD_HEADER_BYTES + len(data)
            if entries:
                records += len(entries)
                note = written.move if op.moves else written.append
                note(segment, entries[0].index, entries[-1].index)
                self._may_free = self._may_free or op.moves
            all_positions.append(positions)
        self._offset = offset
        self.records += records
        return parts, all_positions

    def _note_duration(self, seconds: float, size_bytes: int) -> None:
        """Say when the disk was slow: nothing of any group here is acknowledged meanwhile."""
        self.last_write_s = seconds
        self.write_s += seconds
        if seconds > self.slowest_write_s:
            self.slowest_write_s = seconds
        if seconds >= _SLOW_WRITE_S:
            self.slow_writes += 1
            logger.warning(
                "the disk of %s took %.1f s for a write of %d bytes",
                self._directory,
                seconds,
                size_bytes,
            )

    def _write_parts(self, parts: list[bytes], offset: int) -> None:
        if self._direct is not None and self._direct.write(parts, offset):
            self._note_synced()
            return
        if self._offset - offset < _JOIN_BELOW_BYTES * len(parts):
            parts = [b"".join(parts)]
        always = self._options.sync == "always"
        if always and len(parts) <= _IOV_MAX:
            write_fully(self._files.pwritev_durably, self._fd, parts, offset)
            self._note_synced()
            return
        for start in range(0, len(parts), _IOV_MAX):
            chunk = parts[start : start + _IOV_MAX]
            write_fully(self._files.pwritev, self._fd, chunk, offset)
            offset += sum(map(len, chunk))
        if always:
            self._sync()

    def _sync(self) -> None:
        self._files.fdatasync(self._fd)
        self._note_synced()

    def _note_synced(self) -> None:
        self.syncs += 1
        self._synced = self._offset

    def _is_left(self, batch: list[WriteOp]) -> bool:
        """Whether a write begins a new segment.

        A large one leaves a segment that was not made ahead for one that was, where it makes no
        file longer, so nobody has to wait for it.
        """
        if self._offset >= self._options.segment_bytes:
            return True
        if self._is_made_ahead or self._spares is None or not self._spares.has_one:
            return False
        return sum([op.payload_bytes for op in batch]) >= ASYNC_FROM_BYTES

    def _roll(self) -> None:
        """Begin a new segment; the old one is durable to its end before."""
        if self._synced < self._offset:
            self._sync()
        if self._direct is not None:
            self._direct.end_segment()
        # A file made ahead may be longer. It must have its final size before the next segment,
        # whose header tells that size, has a name.
        self._files.truncate(self._fd, self._offset)
        self._files.fdatasync(self._fd)
        groups = ((group_id, group.written) for group_id, group in self._groups.items())
        spare = self._spares.take() if self._spares is not None else None
        tail = create_segment(
            self._files, self._directory, self.segment + 1, self._offset, groups, spare
        )
        self.syncs += 1
        self._seeds[tail.sequence] = tail.seed
        old_fd, self._fd = self._fd, tail.fd
        self._seed = tail.seed
        self._synced = self._offset = tail.size_bytes
        self.segment = tail.sequence
        self._files.close(old_fd)
        self._is_made_ahead = spare is not None
        if self._direct is not None:
            path = segment_path(self._directory, self.segment)
            self._direct.begin_segment(self._fd, path, self._offset, self._options.segment_bytes)
        # from here on compactions see the new segment; those before may wait for a record
        for group in list(self._groups.values()):
            group.maybe_log_base()
        self._may_free = True

    def _oldest_needed(self) -> int:
        """Return the oldest segment in which a group has an entry; the present one if none has."""
        oldest = [group.written.oldest_segment for group in self._groups.values()]
        return min([self.segment, *(segment for segment in oldest if segment is not None)])

    def _delete_unneeded(self) -> None:
        """Delete the oldest segments as long as no group has an entry in them.

        The directory is synced after each: were a later removal durable before an earlier one,
        the next start would find a gap.
        """
        self._may_free = False
        needed = self._oldest_needed()
        if self._first_segment >= needed:
            return
        if self._synced < self._offset:
            self._sync()  # the records that make the entries obsolete go first
        while self._first_segment < needed:
            path = segment_path(self._directory, self._first_segment)
            try:
                with suppress(FileNotFoundError):  # it went with a try whose sync failed
                    if self._spares is None or not self._spares.give(path):
                        self._files.unlink(path)
                self._files.sync_directory(self._directory)
            except OSError:
                # space is not freed, nothing else is wrong: the next compaction tries again
                logger.exception("can't delete %s, which is no longer needed", path)
                return
            del self._seeds[self._first_segment]
            self._first_segment += 1

    def _evict(self) -> None:
        """Bring the payload cache back to 7/8 of its budget when it is above it.

        The groups with the largest caches give, down to a common level.
        """
        budget = self._options.cache_bytes
        groups = self._groups.values()
        if sum([group.cached_bytes for group in groups]) <= budget:
            return
        level = fair_level([group.cached_bytes for group in groups], budget - budget // 8)
        for group in groups:
            if group.cached_bytes > level:
                group.evict(group.cached_bytes - level)

    def _mark_closed(self) -> None:
        if self._synced < self._offset:
            self._sync()
        if not self._marked_closed:
            record = pack_record(self._seed, self._synced, RecordType.CLOSED, 0, 0, 0)
            write_fully(self._files.pwritev, self._fd, [record], self._offset)
            self._offset += len(record)
            self._sync()
            self._files.truncate(self._fd, self._offset)
            self._files.fdatasync(self._fd)

    def _fail(self, error: BaseException) -> None:
        """Stop for good. Nothing that is not reported yet will ever be.

        With sync="always" the file is cut to what is known durable: after a failed sync the page
        cache may show a restarted process bytes that the disk does not have.
        """
        # of a disk the system has said what there is to say
        trace = None if isinstance(error, OSError) else error
        logger.critical("the Raft log in %s failed: %s", self._directory, error, exc_info=trace)
        self._failure = error
        self.waits_since = 0.0
        if self._options.sync == "always":
            try:
                self._files.truncate(self._fd, self._synced)
            except OSError:
                logger.exception("can't cut %s to what is durable", self._directory)
        if self._on_failure is not None:
            try:
                self._on_failure(error)
            except Exception:
                logger.exception("on_failure of the Raft log failed")


def fair_level(sizes: list[int], target: int) -> int:
    """Return the highest level such that sum(min(size, level)) <= target, roughly.

    Args:
        sizes: none negative, in any order.
        target: not negative.

    Returns:
        At most max(sizes); rounding makes the sum fall short by less than len(sizes).
    """
    remaining = target
    for rank, size in enumerate(sorted(sizes)):
        share = remaining // (len(sizes) - rank)
        if size > share:
            return share
        remaining -= size
    return max(sizes, default=0)
