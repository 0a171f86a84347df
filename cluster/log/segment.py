"""Segment files: their names, how one is made, and how entries are read back from them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cluster.log.errors import LogCorrupt
from cluster.log.file_ops import FileOps
from cluster.log.record import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    RecordType,
    SegmentHeader,
    pack_record,
    pack_segment_header,
    payload_matches,
    seed_of,
    unpack_record_or_none,
)
from cluster.log.written import WrittenGroup
from cluster.raft.types import Entry, EntryKind, GroupId, LogIndex, Term

# an entry's place is one int: segment << 40 | offset of its record; offsets stay below 2**32
POSITION_SHIFT = 40
POSITION_MASK = (1 << POSITION_SHIFT) - 1

_NAME = re.compile(r"([0-9a-f]{16})\.log")
# two wanted records at most this far apart are fetched with one read
_READ_GAP_BYTES = 32 << 10
_READ_BYTES = 4 << 20


class OpenSegment(NamedTuple):
    """A segment that can be written to; whoever holds it closes `fd`."""

    sequence: int
    seed: int
    fd: int
    size_bytes: int


class Place(NamedTuple):
    """Where one entry's record is, and what must stand there."""

    entry_index: LogIndex
    term: Term
    payload_bytes: int
    position: int


def segment_path(directory: Path, sequence: int) -> Path:
    """Return the file of segment `sequence`."""
    return directory / f"{sequence:016x}.log"


def sequence_or_none(name: str) -> int | None:
    """Return the sequence in a segment's file name, or None for another file."""
    match = _NAME.fullmatch(name)
    return int(match[1], 16) if match else None


def write_fully(
    write: Callable[[int, Sequence[bytes], int], int],
    fd: int,
    parts: Sequence[bytes],
    offset: int,
) -> None:
    """Write all of `parts` at `offset`, going on after short writes.

    Args:
        write: `FileOps.pwritev` or `FileOps.pwritev_durably`.
        fd: of the file.
        parts: written one after another.
        offset: of the first of them.
    """
    total = sum(map(len, parts))
    done = write(fd, parts, offset)
    while done < total:
        if done <= 0:
            raise OSError("the system wrote nothing and reported no error")
        rest: list[bytes] = []
        skip = done
        for part in parts:
            if skip >= len(part):
                skip -= len(part)
            else:
                rest.append(part[skip:] if skip else part)
                skip = 0
        parts, offset, total = rest, offset + done, total - done
        done = write(fd, parts, offset)


def checkpoint_records(groups: Iterable[tuple[GroupId, WrittenGroup]], seed: int) -> bytes:
    """Return the records with which a segment starts.

    They say about every group all that older segments say, but for the entries themselves.
    """
    parts: list[bytes] = []
    for group, written in groups:
        term, vote = written.hard_state
        parts += (
            pack_record(seed, 0, RecordType.HARD_STATE, group, term, vote),
            pack_record(
                seed,
                0,
                RecordType.BASE,
                group,
                written.base_term,
                written.base_index,
                payload=written.base_membership,
            ),
            written.base_membership,
            pack_record(seed, 0, RecordType.LAST, group, 0, written.last),
        )
    return b"".join(parts)


def create_segment(
    files: FileOps,
    directory: Path,
    sequence: int,
    previous_bytes: int,
    groups: Iterable[tuple[GroupId, WrittenGroup]],
    spare: Path | None = None,
) -> OpenSegment:
    """Make a segment with its checkpoint, in `spare` if there is one, else in a new file.

    It gets its name when all of that is durable, so a named segment always has a valid header and
    checkpoint: whatever a crash leaves of an unfinished one is a `.tmp` file.
    """
    salt = int.from_bytes(os.urandom(8), "little")
    seed = seed_of(sequence, salt)
    records = checkpoint_records(groups, seed)
    header = pack_segment_header(SegmentHeader(sequence, salt, previous_bytes, len(records)))
    path = segment_path(directory, sequence)
    unfinished = path.with_suffix(".tmp")
    if spare is not None:
        files.rename(spare, unfinished)
        fd = files.open(unfinished, os.O_RDWR)
    else:
        fd = files.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        write_fully(files.pwritev, fd, [header, records], 0)
        files.fdatasync(fd)
        files.rename(unfinished, path)
        files.sync_directory(directory)
    except BaseException:
        files.close(fd)
        raise
    return OpenSegment(sequence, seed, fd, SEGMENT_HEADER_BYTES + len(records))


class SegmentReader:
    """Reads entries from segment files; thread-safe.

    A file is opened for each call: some microseconds beside a disk read, and no descriptor has to
    be guarded against the deletion of its segment, nor does a long log hold thousands of them. One
    that becomes a later segment while it is read has other records then: that is no damage.

    Args:
        seeds: seed of every segment that exists; shared with the writer, which adds and removes.
    """

    def __init__(self, directory: Path, files: FileOps, seeds: dict[int, int]) -> None:
        self._directory = directory
        self._files = files
        self._seeds = seeds

    def read(self, group: GroupId, places: Sequence[Place]) -> list[Entry]:
        """Return the entries at `places`, in that order.

        Raises:
            FileNotFoundError: a segment has been deleted: its entries are no longer needed.
            LogCorrupt: what stands there is not what was written.
        """
        entries: list[Entry] = []
        start = 0
        while start < len(places):
            segment = places[start].position >> POSITION_SHIFT
            stop = start + 1
            while stop < len(places) and places[stop].position >> POSITION_SHIFT == segment:
                stop += 1
            self._read_segment(group, segment, places[start:stop], entries)
            start = stop
        return entries

    def _read_segment(
        self, group: GroupId, segment: int, places: Sequence[Place], out: list[Entry]
    ) -> None:
        path = segment_path(self._directory, segment)
        fd = self._files.open(path, os.O_RDONLY)
        try:
            seed = self._seeds.get(segment)
            if seed is None:
                raise FileNotFoundError(f"{path} is being deleted")
            start = 0
            while start < len(places):
                lo = places[start].position & POSITION_MASK
                end = lo
                stop = start
                while stop < len(places):
                    offset = places[stop].position & POSITION_MASK
                    next_end = offset + RECORD_HEADER_BYTES + places[stop].payload_bytes
                    far = offset - end > _READ_GAP_BYTES or next_end - lo > _READ_BYTES
                    far = far or offset < end  # entries that were moved come later
                    if stop > start and far:
                        break
                    end = next_end
                    stop += 1
                data = memoryview(self._files.pread(fd, end - lo, lo))
                try:
                    out += [
                        _entry_at(path, data, lo, seed, group, place)
                        for place in places[start:stop]
                    ]
                except LogCorrupt:
                    # The writer forgets the seed before it uses a file again (`SpareSegments`).
                    if self._seeds.get(segment) != seed:
                        raise FileNotFoundError(f"{path} is used again") from None
                    raise
                start = stop
        finally:
            self._files.close(fd)


def _entry_at(
    path: Path, data: memoryview, data_offset: int, seed: int, group: GroupId, place: Place
) -> Entry:
    offset = place.position & POSITION_MASK
    at = offset - data_offset
    header = unpack_record_or_none(data, at, seed)
    if header is None or not payload_matches(data, at, header):
        raise LogCorrupt(path, offset, "a record's checksum is wrong")
    expected = (group, place.term, place.entry_index)
    found = (header.group, header.term, header.entry_index)
    if header.type not in (RecordType.ENTRY, RecordType.MOVED) or found != expected:
        raise LogCorrupt(path, offset, f"not entry {place.entry_index} of group {group}")
    start = at + RECORD_HEADER_BYTES
    payload = bytes(data[start : start + header.payload_bytes])
    return Entry(place.entry_index, place.term, EntryKind(header.kind), payload)
