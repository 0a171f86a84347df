"""NodeLog: opens a log directory and hands out the logs of its groups."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

from cluster.log.errors import LogLocked
from cluster.log.file_ops import FileOps
from cluster.log.group_log import GroupLog
from cluster.log.log_writer import LogWriter
from cluster.log.options import LogOptions
from cluster.log.recovery import RecoveredGroup, recover
from cluster.log.segment import SegmentReader, create_segment
from cluster.log.spares import SpareSegments
from cluster.raft.types import GroupId
from cluster.threads import ThreadRegistry

__all__ = ["GroupLog", "LogOptions", "NodeLog"]


class NodeLog:
    """The durable Raft log of a node, shared by all its groups; thread-safe.

    Opening locks the directory, recovers what is there, and starts the thread "log-writer".

    Args:
        directory: made if missing; must be on a local disk.
        on_failure: called once, from the log-writer thread, when a write or sync fails: the
            log takes no more writes and the node should stop.
        files: system calls; tests replace them.

    Raises:
        LogLocked: another process has the directory.
        LogCorrupt: the files can't be trusted; nothing was changed.
        OSError: the directory can't be read or written.
    """

    def __init__(
        self,
        directory: Path,
        threads: ThreadRegistry,
        options: LogOptions | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
        *,
        files: FileOps | None = None,
    ) -> None:
        files = files or FileOps()
        self._options = options or LogOptions()
        self._lock = threading.Lock()
        self._groups: dict[GroupId, GroupLog] = {}
        self._closed = False
        directory.mkdir(parents=True, exist_ok=True)
        self._lock_fd = _lock_directory(directory)
        try:
            recovered = recover(directory, files)
            tail = recovered.tail or create_segment(files, directory, 1, 0, ())
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._seeds = recovered.seeds
        self._seeds[tail.sequence] = tail.seed
        self._reader = SegmentReader(directory, files, self._seeds)
        spares = None
        if self._options.ahead == "segments":
            spares = SpareSegments(directory, files, self._options.segment_bytes, threads.spawn)
        self._writer = LogWriter(
            directory,
            files,
            self._options,
            self._seeds,
            tail,
            closed=recovered.closed,
            spares=spares,
            on_failure=on_failure,
        )
        for group_id, state in recovered.groups.items():
            group = GroupLog(group_id, state, self._writer, self._reader)
            self._groups[group_id] = group
            self._writer.adopt(group)
        self._thread = threads.spawn("log-writer", self._writer.run)

    def group(self, group_id: GroupId) -> GroupLog:
        """Return the log of a group, an empty one at its first use."""
        with self._lock:
            group = self._groups.get(group_id)
            if group is None:
                group = GroupLog(group_id, RecoveredGroup(), self._writer, self._reader)
                self._groups[group_id] = group
            return group

    def groups(self) -> list[GroupId]:
        """Return the groups that have a log here, sorted."""
        with self._lock:
            return sorted(self._groups)

    @property
    def newest_segment(self) -> int:
        """Sequence of the segment that is being written."""
        return self._writer.segment

    @property
    def queued_bytes(self) -> int:
        """Payload bytes submitted and not yet durable."""
        with self._lock:
            groups = list(self._groups.values())
        return sum(group.queued_bytes for group in groups)

    @property
    def last_write_s(self) -> float:
        """How long the disk took for the last write."""
        return self._writer.last_write_s

    @property
    def waits_since(self) -> float:
        """Since when the disk is waited for, in monotonic seconds; 0.0: it is not."""
        return self._writer.waits_since

    def feed(self, call: Callable[[], None]) -> None:
        """Have `call` made just before the next write; see `GroupLog.feed`."""
        self._writer.feed(call)

    def wake(self) -> None:
        """Have the log-writer thread write what was submitted."""
        self._writer.wake()

    def write_here(self) -> None:
        """Write what was submitted in the calling thread; see `GroupLog.write_here`."""
        self._writer.write_here()

    @property
    def event_fd(self) -> int:
        """Readable when a write of `begin_write` has ended; -1: none will be under way."""
        return self._writer.event_fd

    @property
    def is_under_way(self) -> bool:
        """Whether a write was begun that has not ended; only who began it may have an answer."""
        return self._writer.is_under_way

    def begin_write(self) -> None:
        """As `write_here`, without waiting for the disk where the system can do that.

        When `event_fd` is readable, `end_write` must be called, by any thread: until then nobody
        writes, and nothing is reported.
        """
        self._writer.begin_write()

    def end_write(self, *, wait: bool = False) -> None:
        """End what `begin_write` has begun, if it has ended; `wait`: when it has."""
        self._writer.end_write(wait=wait)

    def sync_written(self) -> None:
        """Make durable what was reported until now; with sync="always" it is.

        To be called before the state of what was applied is stored: a state that is ahead of its
        log after a power cut would have no place in it.

        Raises:
            OSError, LogFailed: it is not durable.
        """
        self._writer.sync_written()

    def stats(self) -> dict[str, int]:
        """Return counters since the start (syncs, bytes, records, batches, …) and present sizes."""
        with self._lock:
            groups = list(self._groups.values())
        writer = self._writer
        return {
            "syncs": writer.syncs,
            "bytes": writer.bytes,
            "records": writer.records,
            "batches": writer.batches,
            "async_writes": writer.async_writes,
            "write_ms": round(writer.write_s * 1000),
            "slow_writes": writer.slow_writes,
            "slowest_write_ms": round(writer.slowest_write_s * 1000),
            "segments": len(self._seeds),
            "queued_bytes": sum(group.queued_bytes for group in groups),
            "cached_bytes": sum(group.cached_bytes for group in groups),
        }

    def leave_to_parent(self) -> None:
        """In a forked process: hold the directory's lock no longer; the parent still has it."""
        os.close(self._lock_fd)

    def close(self) -> None:
        """Make everything submitted durable and end the thread; idempotent.

        Reads still work afterwards; submissions raise LogFailed. From a callback of a write it
        returns at once.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            groups = list(self._groups.values())
        for group in groups:
            group.maybe_log_base()
        self._writer.close()
        if not self._writer.is_writing():
            self._thread.join()
        os.close(self._lock_fd)


def _lock_directory(directory: Path) -> int:
    """Lock the directory for this object; the lock ends with the process, however that ends."""
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        # flock belongs to the open file: a second NodeLog in this process is refused, too
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise LogLocked(directory, f"process {owner}" if owner else "") from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
