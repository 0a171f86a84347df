"""One group's part of the node's log: its index and its recent entries, in memory.

An entry costs about 90 bytes of index until it is compacted, and its payload while it is cached.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from cluster.log.errors import LogTruncated
from cluster.log.record import MAX_PAYLOAD_BYTES
from cluster.log.segment import POSITION_SHIFT, Place
from cluster.raft.membership import decode_membership, encode_membership
from cluster.raft.types import (
    NO_INDEX,
    Entry,
    EntryKind,
    EntryMeta,
    GroupId,
    HardState,
    LogIndex,
    Membership,
    Term,
)

if TYPE_CHECKING:
    from cluster.log.recovery import RecoveredGroup
    from cluster.log.segment import SegmentReader
    from cluster.raft.effects import Persist

# what a cached entry costs beside its payload: tuple, three ints, list slot, bytes header
_CACHED_ENTRY_BYTES = 192


class WriteOp:
    """One queued write of a group: a Persist, or the record of a new base.

    Attributes:
        base: index, term and membership of a new base.
        restarts: whether everything goes that is in the log, not only what is up to the base.
        moves: whether the entries are in the log already, in older segments.
        hi: the entries below this index still count; lowered when a later submission truncates
            them before they are written. Guarded by the group's lock.
    """

    __slots__ = (
        "base",
        "entries",
        "group",
        "hard_state",
        "hi",
        "moves",
        "on_durable",
        "payload_bytes",
        "restarts",
        "truncate_from",
    )

    def __init__(
        self,
        group: GroupLog,
        persist: Persist | None,
        base: tuple[LogIndex, Term, bytes] | None,
        payload_bytes: int,
        on_durable: Callable[[], None] | None,
    ) -> None:
        self.group = group
        self.base = base
        self.payload_bytes = payload_bytes
        self.on_durable = on_durable
        self.hard_state: HardState | None = None
        self.truncate_from = NO_INDEX
        self.entries: tuple[Entry, ...] = ()
        self.hi = 0
        self.moves = False
        self.restarts = persist is not None and persist.snapshot is not None
        if persist is not None:
            self.hard_state = persist.hard_state
            self.truncate_from = persist.truncate_from
            self.entries = persist.entries
            if self.entries:
                self.hi = self.entries[-1].index + 1


class WriteQueue(Protocol):
    """What a group needs of the writer; thread-safe."""

    @property
    def segment(self) -> int:
        """Sequence of the segment that is being written."""

    @property
    def waits_since(self) -> float:
        """Since when the disk is waited for, in monotonic seconds; 0.0: it is not."""

    def check_usable(self) -> None:
        """Raise LogFailed when the log takes no more writes."""

    def put(self, op: WriteOp) -> None:
        """Queue `op` behind all that were put before; `wake` or `write_here` must follow."""

    def feed(self, call: Callable[[], None]) -> None:
        """Have `call` made just before the next write; `wake` or `write_here` must follow."""

    def wake(self) -> None:
        """Have the log-writer thread write what is queued."""

    def write_here(self) -> None:
        """Write what is queued in the calling thread, unless somebody is writing."""


class GroupLog:
    """The log of one group; made by `NodeLog.group`.

    Reads are thread-safe against everything. Calls of `submit` and `compact` are serialised by
    the caller's lock (the member's); what they change is readable when they return. No method
    waits for the disk but `entries`, and that only for entries that left the cache.

    Invariants (under `_lock`):
        1. `_terms`, `_sizes` are of the entries base + 1 … last.
        2. `_positions` is of a prefix of these: the durable ones. Ascending, unless entries were
           moved (`_scattered`).
        3. `_cache` is a suffix of these, and holds at least every entry that is not durable.
    """

    def __init__(
        self,
        group_id: GroupId,
        recovered: RecoveredGroup,
        queue: WriteQueue,
        reader: SegmentReader,
    ) -> None:
        written = recovered.written
        self.group_id = group_id
        self.written = written  # the writer thread's
        self._queue = queue
        self._reader = reader
        # taken after the member's lock; inside it only the queue's own
        self._lock = threading.Lock()
        self._hard_state = written.hard_state
        self._base = LogIndex(written.base_index)
        self._base_term = Term(written.base_term)
        self._base_membership = written.base_membership
        self._memberships = recovered.memberships
        self._base_unlogged = False
        self._terms = recovered.terms
        self._sizes = recovered.sizes
        self._positions = recovered.positions
        self._scattered = recovered.has_moved
        self._cache: list[Entry] = []
        self._pending: deque[WriteOp] = deque()
        self.cached_bytes = 0
        self.queued_bytes = 0
        self.batch_listener: Callable[[], None] | None = None
        """Called from the log-writer thread when the `on_durable` calls of a batch are done."""

    @property
    def hard_state(self) -> HardState:
        """Term and vote last submitted, or recovered."""
        return self._hard_state

    @property
    def first_index(self) -> LogIndex:
        """Index of the first kept entry; last_index + 1 when there is none."""
        return LogIndex(self._base + 1)

    @property
    def last_index(self) -> LogIndex:
        """Index of the last entry, durable or not; that of the base when there is none."""
        with self._lock:
            return LogIndex(self._base + len(self._terms))

    @property
    def base(self) -> tuple[LogIndex, Term]:
        """Position just before the first kept entry; (0, 0) for a whole log."""
        with self._lock:
            return self._base, self._base_term

    @property
    def base_membership(self) -> Membership | None:
        """The membership in force at the base, or None if it was never told."""
        with self._lock:
            data = self._base_membership
        return decode_membership(data) if data else None

    def metas(self) -> list[EntryMeta]:
        """Return the metas of all kept entries, in order."""
        with self._lock:
            return [
                EntryMeta(LogIndex(index), term, size, self._memberships.get(index))
                for index, (term, size) in enumerate(
                    zip(self._terms, self._sizes, strict=True), self._base + 1
                )
            ]

    def submit(
        self,
        persist: Persist,
        on_durable: Callable[[], None],
        *,
        wake: bool = True,
    ) -> None:
        """Queue `persist` for the writer.

        Args:
            persist: written hard state first, then truncation or new start, then entries, so that
                any prefix of it that survives a crash is a legal state.
            on_durable: called once by the thread that writes, when `persist` is durable (with
                sync="periodic": written), in the order of submission over all groups. Never
                called when the log fails first. It must not block; it may submit.
            wake: have the log-writer thread write it; otherwise `wake` or `write_here` must follow.

        Raises:
            LogFailed: nothing was changed.
            ValueError: the entries don't follow the log's end, an entry that was compacted
                would be truncated, or the payload is above 1 GiB; nothing was changed.
        """
        truncate_from, entries = persist.truncate_from, persist.entries
        sizes = [len(entry.data) for entry in entries]
        payload_bytes = sum(sizes)
        snapshot = persist.snapshot
        base = None
        if snapshot is not None:
            if truncate_from or entries:
                raise ValueError(f"group {self.group_id}: a new start with entries or truncation")
            base = (snapshot.index, snapshot.term, encode_membership(snapshot.membership))
        op = WriteOp(self, persist, base, payload_bytes, on_durable)
        memberships: dict[int, Membership] = {
            entry.index: decode_membership(entry.data)
            for entry in entries
            if entry.kind is EntryKind.MEMBERSHIP
        }
        with self._lock:
            self._queue.check_usable()
            self._check_locked(truncate_from, entries, payload_bytes)
            if op.hard_state is not None:
                self._hard_state = op.hard_state
            if base is not None:
                self._restart_locked(*base)
            if truncate_from:
                self._truncate_locked(truncate_from)
            if memberships:
                self._memberships.update(memberships)
            if entries:
                self._terms += [entry.term for entry in entries]
                self._sizes += sizes
                self._cache += entries
                self.cached_bytes += payload_bytes + _CACHED_ENTRY_BYTES * len(entries)
                self.queued_bytes += payload_bytes
            self._pending.append(op)
            self._queue.put(op)
        if wake:
            self._queue.wake()

    @property
    def waits_since(self) -> float:
        """Since when the disk is waited for, in monotonic seconds; 0.0: it is not. Of the node."""
        return self._queue.waits_since

    def feed(self, call: Callable[[], None]) -> None:
        """Have `call` submit what it has, without waking anybody, just before the next write.

        `wake` or `write_here` must follow. It is called once by the thread that writes, also when
        the log takes no more writes; the same call may be waiting several times.
        """
        self._queue.feed(call)

    def wake(self) -> None:
        """Have the log-writer thread write what was submitted."""
        self._queue.wake()

    def write_here(self) -> None:
        """Write what was submitted in the calling thread, or leave it to who is writing already.

        Callbacks of any group are called meanwhile: no lock may be held that they take. It takes
        as long as the disk does.
        """
        self._queue.write_here()

    def entries(self, lo: LogIndex, hi: LogIndex, max_bytes: int) -> list[Entry]:
        """Return entries from `lo` on, below `hi`, with payloads of at most `max_bytes` together.

        At least one entry is returned if lo < hi, however large it is. Entries that are not yet
        durable are returned, too. Thread-safe; a consistent picture of one moment.

        Raises:
            LogTruncated: a KeyError: not all of [lo, hi) is in the log.
            LogCorrupt: a record on disk is damaged.
            OSError: the disk can't be read.
        """
        places: list[Place] = []
        while True:
            with self._lock:
                before = places
                places, cached = self._places_locked(lo, hi, max_bytes)
            try:
                return self._reader.read(self.group_id, places) + cached if places else cached
            except FileNotFoundError:
                # dropped, truncated or moved since; if they stand where they stood, a file is gone
                if places == before:
                    raise

    def _places_locked(
        self, lo: LogIndex, hi: LogIndex, max_bytes: int
    ) -> tuple[list[Place], list[Entry]]:
        """Return where the entries stand that `entries` is to read, and those that follow them."""
        base = self._base
        last = base + len(self._terms)
        if not base < lo <= hi <= last + 1:
            raise LogTruncated(self.group_id, lo, hi, base + 1, last)
        if lo == hi:
            return [], []
        start = lo - base - 1
        stop = self._stop_locked(start, hi - base - 1, max_bytes)
        uncached = len(self._terms) - len(self._cache)
        if start >= uncached:
            return [], self._cache[start - uncached : stop - uncached]
        from_disk = min(stop, uncached)
        places = [
            Place(LogIndex(lo + i), term, size, position)
            for i, (term, size, position) in enumerate(
                zip(
                    self._terms[start:from_disk],
                    self._sizes[start:from_disk],
                    self._positions[start:from_disk],
                    strict=True,
                )
            )
        ]
        return places, self._cache[: stop - uncached] if stop > uncached else []

    def payload_bytes(self, lo: LogIndex, hi: LogIndex) -> int:
        """Return the payload bytes of the entries [lo, hi), as far as they are in the log."""
        with self._lock:
            start = lo - self._base - 1
            return sum(self._sizes[max(0, start) : max(0, hi - self._base - 1)])

    def is_cached(self, lo: LogIndex) -> bool:
        """Whether the entries from `lo` on, as far as there are any, are in memory."""
        with self._lock:
            return lo > self._base + len(self._terms) - len(self._cache)

    def cached_entries(self, lo: LogIndex, hi: LogIndex) -> list[Entry]:
        """Return the entries [lo, hi), or none unless all are in memory. Never waits for a disk."""
        with self._lock:
            last = self._base + len(self._terms)
            start = lo - (last - len(self._cache) + 1)
            if start < 0 or not lo <= hi <= last + 1:
                return []
            return self._cache[start : start + hi - lo]

    def compact(self, up_to: LogIndex, membership: Membership | None = None) -> None:
        """Drop the entries up to and including `up_to`, which nobody will need again.

        `membership` is the one in force there (None: not told).

        Memory is freed at once; files go when no group needs anything in them. The new base
        becomes durable when it lets a file go, when a segment is full, and at close: after a
        crash the log may start earlier than it did before, never later. No-op when
        `up_to` is not above the base.

        Raises:
            LogFailed: the log takes no more writes.
            ValueError: `up_to` is beyond the last entry.
        """
        with self._lock:
            gone = up_to - self._base
            if gone <= 0:
                return
            self._queue.check_usable()
            if gone > len(self._terms):
                raise ValueError(
                    f"group {self.group_id}: compact to {up_to}, but the last entry is "
                    f"{self._base + len(self._terms)}"
                )
            positions = self._positions
            # a record (and its sync) only where it lets go of the last entry in an old segment
            oldest = self._oldest_locked(0)
            frees = (
                oldest is not None
                and oldest < self._queue.segment
                and self._oldest_locked(gone) != oldest
            )
            uncached = len(self._terms) - len(self._cache)
            if gone > uncached:
                self._uncache_locked(0, gone - uncached)
            self._base_term = self._terms[gone - 1]
            self._base = up_to
            self._base_membership = b"" if membership is None else encode_membership(membership)
            for index in [index for index in self._memberships if index <= up_to]:
                del self._memberships[index]
            del self._terms[:gone], self._sizes[:gone], positions[:gone]
            self._base_unlogged = True
            if frees:
                self._log_base_locked()

    def oldest_segment(self) -> int | None:
        """Return the sequence of the oldest segment that has an entry of this group, or None."""
        with self._lock:
            return self._oldest_locked(0)

    def move_oldest(self, max_bytes: int) -> int:
        """Have entries that stand in the oldest segment written again, so that it may go.

        For entries that can't be dropped, because no quorum takes them or the state machine does
        not come to them, while other groups fill one segment after the other. Reads the disk.

        Args:
            max_bytes: payload to be written by this call, about; the next one goes on.

        Returns:
            How many entries are being written again.

        Raises:
            LogFailed: the log takes no more writes.
            LogCorrupt, OSError: see `entries`.
        """
        with self._lock:
            oldest = self._oldest_locked(0)
            present = self._queue.segment
            if oldest is None or oldest >= present:
                return 0
            segments = [position >> POSITION_SHIFT for position in self._positions]
            start = segments.index(oldest)
            stop = next(
                (at for at in range(start, len(segments)) if segments[at] == present), len(segments)
            )
            lo, hi = LogIndex(self._base + 1 + start), LogIndex(self._base + 1 + stop)
        try:
            entries = self.entries(lo, hi, max_bytes)
        except LogTruncated:
            return 0  # dropped meanwhile
        with self._lock:
            self._queue.check_usable()
            durable = self._base + len(self._positions)
            still = tuple(
                entry
                for entry in entries
                if self._base < entry.index <= durable
                and self._terms[entry.index - self._base - 1] == entry.term
            )
            if not still:
                return 0
            op = WriteOp(self, None, None, sum(len(entry.data) for entry in still), None)
            op.moves, op.entries, op.hi = True, still, still[-1].index + 1
            self.queued_bytes += op.payload_bytes
            self._pending.append(op)
            self._queue.put(op)
        self._queue.wake()
        return len(still)

    # ---- for the writer ----

    def maybe_log_base(self) -> None:
        """Queue a record of the base if it has moved since the last one."""
        with self._lock:
            if self._base_unlogged:
                self._log_base_locked()

    def written_durably(self, op: WriteOp, positions: list[int]) -> None:
        """Take note that `op`, the oldest pending one, is durable with its entries there."""
        with self._lock:
            oldest = self._pending.popleft()
            assert oldest is op
            if positions and op.moves:
                self._note_moved_locked(op, positions)
            elif positions:
                self.queued_bytes -= op.payload_bytes
                first = op.entries[0].index
                # entries truncated or compacted since the submission have no place in the index
                lo = max(first, self._base + len(self._positions) + 1)
                self._positions += positions[lo - first : max(0, op.hi - first)]

    def evict(self, want_bytes: int) -> None:
        """Drop the oldest durable entries from the cache, `want_bytes` or all there are."""
        with self._lock:
            cache = self._cache
            durable = len(self._positions) - (len(self._terms) - len(cache))
            freed = count = 0
            while count < durable and freed < want_bytes:
                freed += len(cache[count].data) + _CACHED_ENTRY_BYTES
                count += 1
            self._uncache_locked(0, count)

    def uncache(self, up_to: LogIndex) -> None:
        """Let go of the payloads up to there that are durable; `entries` reads them from disk."""
        with self._lock:
            uncached = len(self._terms) - len(self._cache)
            stop = min(up_to - self._base, len(self._positions)) - uncached
            if stop > 0:
                self._uncache_locked(0, stop)

    # ---- under the lock ----

    def _oldest_locked(self, start: int) -> int | None:
        """Return the oldest segment with one of the durable entries from the `start`-th on."""
        positions = self._positions
        if start >= len(positions):
            return None
        oldest = min(positions[start:]) if self._scattered else positions[start]
        return oldest >> POSITION_SHIFT

    def _note_moved_locked(self, op: WriteOp, positions: list[int]) -> None:
        self.queued_bytes -= op.payload_bytes
        first = op.entries[0].index
        # what was compacted or truncated meanwhile has no place in the index any more
        for index in range(max(first, self._base + 1), op.hi):
            self._positions[index - self._base - 1] = positions[index - first]
        self._scattered = True

    def _check_locked(
        self, truncate_from: LogIndex, entries: tuple[Entry, ...], payload_bytes: int
    ) -> None:
        last = self._base + len(self._terms)
        if truncate_from:
            if truncate_from <= self._base:
                raise ValueError(
                    f"group {self.group_id}: truncation from {truncate_from} would remove "
                    f"compacted entries (base {self._base})"
                )
            last = min(last, truncate_from - 1)
        if not entries:
            return
        first = entries[0].index
        if first != last + 1 or entries[-1].index != last + len(entries):
            raise ValueError(
                f"group {self.group_id}: entries {first}…{entries[-1].index} don't follow {last}"
            )
        if payload_bytes > MAX_PAYLOAD_BYTES:
            raise ValueError(f"group {self.group_id}: {payload_bytes} payload bytes in one write")

    def _restart_locked(self, index: LogIndex, term: Term, membership: bytes) -> None:
        for op in self._pending:
            op.hi = 0
        self._uncache_locked(0, len(self._cache))
        self._terms, self._sizes, self._positions = [], [], []
        self._memberships.clear()
        self._base, self._base_term, self._base_membership = index, term, membership
        self._base_unlogged = False

    def _truncate_locked(self, index: LogIndex) -> None:
        keep = index - self._base - 1
        if keep >= len(self._terms):
            return
        for op in self._pending:
            op.hi = min(op.hi, index)
        uncached = len(self._terms) - len(self._cache)
        self._uncache_locked(max(0, keep - uncached), len(self._cache))
        del self._terms[keep:], self._sizes[keep:], self._positions[keep:]
        for later in [later for later in self._memberships if later >= index]:
            del self._memberships[later]

    def _uncache_locked(self, start: int, stop: int) -> None:
        gone = self._cache[start:stop]
        del self._cache[start:stop]
        self.cached_bytes -= sum(len(entry.data) for entry in gone)
        self.cached_bytes -= _CACHED_ENTRY_BYTES * len(gone)

    def _stop_locked(self, start: int, stop: int, max_bytes: int) -> int:
        """Return where, in [start + 1, stop], the payloads from `start` on exceed `max_bytes`."""
        total = 0
        sizes = self._sizes
        for i in range(start, stop):
            total += sizes[i]
            if total > max_bytes:
                return max(i, start + 1)
        return stop

    def _log_base_locked(self) -> None:
        self._base_unlogged = False
        base = (self._base, self._base_term, self._base_membership)
        op = WriteOp(self, None, base, 0, None)
        self._pending.append(op)
        self._queue.put(op)
        self._queue.wake()
