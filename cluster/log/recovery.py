"""From the files of a directory back to the groups' state.

Problem: after a power cut the last write may be there in part; after bit rot, or a human's help,
anything may be wrong anywhere. The first must be cut off without a word from the operator, the
second must never be: cutting there would throw acknowledged writes away.

Too simple: "cut at the first bad record". Rot in the middle would silently lose all that follows.
Too simple: "refuse when a good record follows the bad one". One write of many records reaches the
disk page by page in any order, so a power cut can leave a hole before good records.

So every record carries the offset up to which its segment was durable when it was packed. A record
after the bad place whose `synced` lies beyond it proves that the bytes there were durable once:
rot. Without such a proof they belong to the last, unfinished write: a torn tail. An orderly close
ends the log with a record that proves all of it. (What can't be told apart is rot in the very last
write of a log that was not closed; as its records look torn, they are cut.)
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cluster.log.errors import LogCorrupt
from cluster.log.file_ops import FileOps
from cluster.log.record import (
    RECORD_HEADER_BYTES,
    RECORD_MARKER_BYTES,
    SEGMENT_HEADER_BYTES,
    RecordHeader,
    RecordType,
    payload_matches,
    seed_of,
    unpack_record_or_none,
    unpack_segment_header,
)
from cluster.log.segment import POSITION_SHIFT, OpenSegment, segment_path, sequence_or_none
from cluster.log.written import WrittenGroup
from cluster.raft.membership import decode_membership
from cluster.raft.types import EntryKind, GroupId, HardState, Membership, NodeId, Term

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RecoveredGroup:
    """One group while its records are replayed, and after.

    `terms`, `sizes`, `positions` are of the entries from `start` on, `memberships` of those among
    them that carry one. Entries in (base, start) are known to have existed but stand in no file
    that was read so far, other than the `moved` ones; at the end there must be none.
    `has_moved`: the positions need not ascend.
    """

    written: WrittenGroup = field(default_factory=WrittenGroup)
    start: int = 1
    terms: list[Term] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    memberships: dict[int, Membership] = field(default_factory=dict)
    moved: dict[int, tuple[Term, int, int]] = field(default_factory=dict)
    has_moved: bool = False

    def append(self, header: RecordHeader, segment: int, offset: int) -> None:
        """Take an ENTRY record at `offset` of `segment`."""
        written = self.written
        if header.entry_index != written.last + 1:
            raise ValueError(f"entry {header.entry_index} follows entry {written.last}")
        self.terms.append(Term(header.term))
        self.sizes.append(header.payload_bytes)
        self.positions.append(segment << POSITION_SHIFT | offset)
        written.append(segment, header.entry_index, header.entry_index)

    def move(self, header: RecordHeader, segment: int, offset: int) -> None:
        """Take a MOVED record at `offset` of `segment`."""
        index = header.entry_index
        if not self.written.base_index < index <= self.written.last:
            raise ValueError(f"entry {index} was moved, the last one is {self.written.last}")
        at = index - self.start
        position = segment << POSITION_SHIFT | offset
        if at < 0:
            self.moved[index] = (Term(header.term), header.payload_bytes, position)
        elif (self.terms[at], self.sizes[at]) != (header.term, header.payload_bytes):
            raise ValueError(f"entry {index} was moved, and another one stands there")
        else:
            self.positions[at] = position
        self.written.move(segment, index, index)
        self.has_moved = True

    def settle(self) -> None:
        """Put the moved entries before those that follow them."""
        found = []
        while self.start - 1 > self.written.base_index and self.start - 1 in self.moved:
            self.start -= 1
            found.append(self.moved[self.start])
        found.reverse()
        self.terms[:0] = [term for term, _, _ in found]
        self.sizes[:0] = [size for _, size, _ in found]
        self.positions[:0] = [position for _, _, position in found]
        self.moved.clear()

    def truncate(self, index: int) -> None:
        """Take a TRUNCATE record."""
        written = self.written
        if index <= written.base_index:
            raise ValueError(f"entries from {index} truncated, compacted to {written.base_index}")
        written.truncate(index)
        self._cut_from(max(0, index - self.start))
        self.start = min(self.start, index)
        self.memberships = {i: found for i, found in self.memberships.items() if i < index}
        self.moved = {i: found for i, found in self.moved.items() if i < index}

    def restart(self, index: int, term: int, membership: bytes) -> None:
        """Take a RESTART record."""
        self.written.restart(index, term, membership)
        self._cut_from(0)
        self.memberships.clear()
        self.moved.clear()
        self.start = index + 1

    def rebase(self, index: int, term: int, membership: bytes) -> None:
        """Take a BASE record."""
        written = self.written
        if index < written.base_index:
            raise ValueError(f"base moves back from {written.base_index} to {index}")
        written.rebase(index, term, membership)
        self.memberships = {i: found for i, found in self.memberships.items() if i > index}
        self.moved = {i: found for i, found in self.moved.items() if i > index}
        gone = index + 1 - self.start
        if gone >= 0:
            del self.terms[:gone], self.sizes[:gone], self.positions[:gone]
            self.start = index + 1

    def begin_at(self, last: int) -> None:
        """Take a LAST record of the oldest segment: older entries may be in deleted files."""
        self.written.last = last
        self.start = last + 1

    def _cut_from(self, keep: int) -> None:
        del self.terms[keep:], self.sizes[keep:], self.positions[keep:]


class Recovered(NamedTuple):
    """What a directory holds.

    Attributes:
        seeds: record seed of each segment.
        tail: the last segment, open for writing and durable as far as it goes; None: no log yet.
        closed: the log ends with the mark of an orderly close.
    """

    groups: dict[GroupId, RecoveredGroup]
    seeds: dict[int, int]
    tail: OpenSegment | None
    closed: bool


class SegmentSummary(NamedTuple):
    """One segment file as it was read.

    Attributes:
        valid_bytes: where its records end; what follows is a torn tail, or space made ahead.
    """

    sequence: int
    path: Path
    file_bytes: int
    valid_bytes: int
    records: int


class LogContents(NamedTuple):
    """What a directory holds, as it lies there.

    Attributes:
        segments: ascending, without gaps.
        seeds: record seed of each segment.
        closed: the log ends with the mark of an orderly close.
    """

    groups: dict[GroupId, RecoveredGroup]
    segments: list[SegmentSummary]
    seeds: dict[int, int]
    closed: bool


def recover(directory: Path, files: FileOps) -> Recovered:
    """Replay the segments in `directory`; cut a torn tail off the last one.

    Raises:
        LogCorrupt: see the module's text. Nothing was changed then.
    """
    groups, segments, seeds, closed = read_log(directory)
    _remove_unfinished(directory, files)
    if not segments:
        return Recovered(groups, seeds, None, closed=False)
    last = segments[-1]
    tail = _open_tail(directory, files, last.sequence, seeds, last.valid_bytes, last.file_bytes)
    return Recovered(groups, seeds, tail, closed)


def read_log(directory: Path) -> LogContents:
    """Read the segments in `directory` and change nothing.

    Cost: reads every byte once, one segment at a time in memory; about 3 µs a record.

    Raises:
        LogCorrupt: see the module's text.
    """
    sequences = _segment_sequences(directory)
    groups: dict[GroupId, RecoveredGroup] = {}
    seeds: dict[int, int] = {}
    segments: list[SegmentSummary] = []
    previous_bytes: int | None = None
    closed = False
    for sequence in sequences:
        path = segment_path(directory, sequence)
        data = path.read_bytes()
        last = sequence == sequences[-1]
        header = unpack_segment_header(data)
        if isinstance(header, str):
            raise LogCorrupt(path, 0, header)
        if header.sequence != sequence:
            raise LogCorrupt(
                path, 0, f"this is a copy of segment {header.sequence:016x} under another name"
            )
        if previous_bytes is not None and header.previous_bytes != previous_bytes:
            raise LogCorrupt(
                segment_path(directory, sequence - 1),
                min(previous_bytes, header.previous_bytes),
                f"the file has {previous_bytes} bytes; it had {header.previous_bytes} when the "
                "next segment was started",
            )
        seeds[sequence] = seed_of(sequence, header.salt)
        replay = _Replay(path, sequence, seeds[sequence], memoryview(data), groups)
        checkpoint_end = SEGMENT_HEADER_BYTES + header.checkpoint_bytes
        replay.checkpoint(checkpoint_end, first=sequence == sequences[0])
        valid_bytes, closed = replay.records(checkpoint_end, may_be_torn=last)
        previous_bytes = len(data)
        segments.append(SegmentSummary(sequence, path, len(data), valid_bytes, replay.record_count))
    _check_nothing_missing(directory, sequences, groups)
    return LogContents(groups, segments, seeds, closed)


def _segment_sequences(directory: Path) -> list[int]:
    sequences = []
    for path in directory.iterdir():
        sequence = sequence_or_none(path.name)
        if sequence is not None:
            sequences.append(sequence)
        elif path.suffix == ".log":
            logger.warning("%s is not a segment's name; left alone and not read", path)
    sequences.sort()
    for before, after in itertools.pairwise(sequences):
        if after != before + 1:
            missing = segment_path(directory, before + 1)
            raise LogCorrupt(missing, 0, "the file is missing: older and newer segments exist")
    return sequences


def _check_nothing_missing(
    directory: Path, sequences: list[int], groups: dict[GroupId, RecoveredGroup]
) -> None:
    for group_id, group in groups.items():
        group.settle()
        base = group.written.base_index
        if group.start > base + 1:
            missing = segment_path(directory, sequences[0] - 1)
            raise LogCorrupt(
                missing,
                0,
                f"the file, or one before it, is missing: it has entries {base + 1} to "
                f"{group.start - 1} of group {group_id}, which are still needed",
            )


def _remove_unfinished(directory: Path, files: FileOps) -> None:
    for path in directory.glob("*.tmp"):
        logger.info("removing %s, a segment whose making was interrupted", path)
        files.unlink(path)


def _open_tail(
    directory: Path,
    files: FileOps,
    sequence: int,
    seeds: dict[int, int],
    keep_bytes: int,
    file_bytes: int,
) -> OpenSegment:
    path = segment_path(directory, sequence)
    fd = files.open(path, os.O_RDWR)
    try:
        if keep_bytes < file_bytes:
            logger.warning(
                "%s: the last complete record ends at offset %d; cutting off the %d bytes after "
                "it: an unfinished write, or space made ahead",
                path,
                keep_bytes,
                file_bytes - keep_bytes,
            )
            files.truncate(fd, keep_bytes)
        # What was read may have been in the page cache only (the process was killed between write
        # and sync). Members will act on it as durable, so it must be.
        files.fdatasync(fd)
        files.sync_directory(directory)
    except BaseException:
        files.close(fd)
        raise
    return OpenSegment(sequence, seeds[sequence], fd, keep_bytes)


class _Replay:
    """Replays one segment into the groups."""

    def __init__(
        self,
        path: Path,
        sequence: int,
        seed: int,
        data: memoryview,
        groups: dict[GroupId, RecoveredGroup],
    ) -> None:
        self._path = path
        self._sequence = sequence
        self._seed = seed
        self._data = data
        self._groups = groups
        self.record_count = 0

    def checkpoint(self, end: int, *, first: bool) -> None:
        """Take the checkpoint of the oldest segment; compare that of a later one.

        A later segment's checkpoint must be what the records before it lead to.
        """
        for offset, header in self._valid_records(SEGMENT_HEADER_BYTES, end):
            group = self._group(header.group)
            written = group.written
            ok: bool
            match header.type:
                case RecordType.HARD_STATE:
                    state = HardState(Term(header.term), NodeId(header.entry_index))
                    if first:
                        written.hard_state = state
                    ok = written.hard_state == state
                case RecordType.BASE:
                    if first:
                        membership = self._payload(offset, header)
                        group.rebase(header.entry_index, header.term, membership)
                    ok = (written.base_index, written.base_term) == (
                        header.entry_index,
                        header.term,
                    )
                case RecordType.LAST:
                    if first:
                        group.begin_at(header.entry_index)
                    ok = written.last == header.entry_index and written.base_index <= written.last
                case _:
                    ok = False
            if not ok:
                raise LogCorrupt(
                    self._path,
                    offset,
                    f"the checkpoint of group {header.group} contradicts the segments before it",
                )

    def records(self, start: int, *, may_be_torn: bool) -> tuple[int, bool]:
        """Replay the records from `start` on.

        Returns:
            Where the valid records end, and whether the last one marks an orderly close.
        """
        end = start
        closed = False
        take: dict[int, Callable[[int, RecordHeader], None]] = {
            RecordType.ENTRY: self._entry,
            RecordType.HARD_STATE: self._hard_state,
            RecordType.TRUNCATE: self._truncate,
            RecordType.BASE: self._base,
            RecordType.CLOSED: self._closed,
            RecordType.RESTART: self._restart,
            RecordType.MOVED: self._moved,
        }
        for offset, header in self._valid_prefix(start):
            action = take.get(header.type)
            if action is None or header.reserved != 0:
                raise LogCorrupt(
                    self._path, offset, f"record type {header.type} is unknown to this release"
                )
            try:
                action(offset, header)
            except ValueError as error:
                raise LogCorrupt(
                    self._path, offset, f"group {header.group}: {error}: records are missing"
                ) from error
            self.record_count += 1
            closed = header.type == RecordType.CLOSED
            end = offset + RECORD_HEADER_BYTES + header.payload_bytes
        if end < len(self._data):
            self._check_torn(end, may_be_torn)
        return end, closed

    def _check_torn(self, bad: int, may_be_torn: bool) -> None:
        if not may_be_torn:
            raise LogCorrupt(
                self._path, bad, "a record's checksum is wrong, and newer segments follow"
            )
        proof = self._proof_or_none(bad)
        if proof is not None:
            raise LogCorrupt(
                self._path,
                bad,
                f"a record's checksum is wrong, and the record at offset {proof} shows that it "
                "was stored completely once",
            )

    def _proof_or_none(self, bad: int) -> int | None:
        """Return the offset of a record which shows that the bytes at `bad` were durable."""
        data = self._data.obj
        assert isinstance(data, bytes)
        at = data.find(RECORD_MARKER_BYTES, bad + 1)
        while at >= 0:
            header = unpack_record_or_none(data, at, self._seed)
            if header is not None and header.synced > bad:
                return at
            at = data.find(RECORD_MARKER_BYTES, at + 1)
        return None

    def _valid_prefix(self, start: int) -> Iterator[tuple[int, RecordHeader]]:
        data, seed = self._data, self._seed
        offset = start
        while True:
            header = unpack_record_or_none(data, offset, seed)
            if header is None or not payload_matches(data, offset, header):
                return
            yield offset, header
            offset += RECORD_HEADER_BYTES + header.payload_bytes

    def _valid_records(self, start: int, end: int) -> Iterator[tuple[int, RecordHeader]]:
        """Yield the records of [start, end), all of which must be valid."""
        at = start
        for offset, header in self._valid_prefix(start):
            if offset >= end:
                break
            yield offset, header
            at = offset + RECORD_HEADER_BYTES + header.payload_bytes
        if at != end:
            raise LogCorrupt(self._path, at, "the segment's checkpoint is damaged")

    def _group(self, group: int) -> RecoveredGroup:
        group_id = GroupId(group)
        found = self._groups.get(group_id)
        if found is None:
            found = self._groups[group_id] = RecoveredGroup()
        return found

    def _entry(self, offset: int, header: RecordHeader) -> None:
        group = self._group(header.group)
        group.append(header, self._sequence, offset)
        if header.kind == EntryKind.MEMBERSHIP:
            group.memberships[header.entry_index] = decode_membership(self._payload(offset, header))

    def _moved(self, offset: int, header: RecordHeader) -> None:
        group = self._group(header.group)
        group.move(header, self._sequence, offset)
        if header.kind == EntryKind.MEMBERSHIP:
            group.memberships[header.entry_index] = decode_membership(self._payload(offset, header))

    def _hard_state(self, offset: int, header: RecordHeader) -> None:
        state = HardState(Term(header.term), NodeId(header.entry_index))
        self._group(header.group).written.hard_state = state

    def _truncate(self, offset: int, header: RecordHeader) -> None:
        self._group(header.group).truncate(header.entry_index)

    def _base(self, offset: int, header: RecordHeader) -> None:
        membership = self._payload(offset, header)
        self._group(header.group).rebase(header.entry_index, header.term, membership)

    def _restart(self, offset: int, header: RecordHeader) -> None:
        membership = self._payload(offset, header)
        self._group(header.group).restart(header.entry_index, header.term, membership)

    def _payload(self, offset: int, header: RecordHeader) -> bytes:
        start = offset + RECORD_HEADER_BYTES
        return bytes(self._data[start : start + header.payload_bytes])

    def _closed(self, offset: int, header: RecordHeader) -> None:
        """Nothing to do: the record is there for what it proves."""
