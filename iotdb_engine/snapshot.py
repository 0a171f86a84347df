"""A whole region as a stream of records: out of one engine, into another, switched in atomically.

Problem: a replica that lacks more than its leader's log still has must take over the leader's whole
state. It must not be seen half, survive a kill at any point, and cost neither side memory.

Too simple: export rows. Decoding and encoding every point again costs a hundred times the copying.
Too simple: write the records over the old ones. A kill in between leaves a mixture.

So the records travel as they are stored, pages and all. A RocksDB iterator keeps the state in which
it was made, and any such state is one that a crash could have left: it holds exactly what its
COMMIT record says, at the applied index in there. The receiver writes them under the number of
a *space* that no region uses (`Directory`), into files beside the store (`staging`), with a note of
how far it got after each, from which the transfer can go on after a crash. The store takes in the
files at once; then one batch switches: the region now lives in that space, and the old one is
deleted.

A small state, as that of most groups, is kept in memory instead and written like any other record:
files of its own cost six syncs more than the one flush that it takes to switch.
"""

from __future__ import annotations

import json
import logging
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import google_crc32c

from iotdb_engine.errors import Corruption, EngineError
from iotdb_engine.flush import decode_commit, decode_intent, encode_commit, encode_intent
from iotdb_engine.key_format import (
    Kind,
    commit_key,
    intent_key,
    is_visible,
    kind_prefix,
    prefix_end,
    region_of,
    region_range,
    split_chunk_key,
)
from iotdb_engine.staging import Staging
from iotdb_engine.store import Batch, Store, View

logger = logging.getLogger(__name__)

REGION_MAX = 0x7FFF
"""Highest region id; numbers above name spaces of regions that were taken over."""
_FIRST_SPACE = 0x8000
_LAST_SPACE = 0xFFFE
DIRECTORY = 0xFFFF
"""Prefix of the directory's own keys."""

_HELD_BYTES = 1 << 20
"""Through memory tables a megabyte takes a millisecond more of the processor than in files."""
_HELD_OF_MORE_BYTES = 256 << 10
"""With so much there and more to come it will not stay below that."""
_LARGE_BYTES = 4 << 10
"""A file of these is quicker made here, one of smaller records by RocksDB."""
_MUCH_BYTES = 256 << 10
_BREATH_BYTES = 512 << 10
"""To add so much to a file of RocksDB's takes 0.3 ms: whoever serves a client should not have to
wait for more. After less it would cost too much, since a breath is a sleep of 0.06 ms."""
_READ_BREATH_BYTES = 1 << 20
"""The same of what is read from RocksDB."""
_ALL_HELD_BYTES = 16 << 20
_HELD_BATCH_BYTES = 256 << 10
"""`Store.write` keeps every other thread waiting for a third of a millisecond with this."""

_CRC = struct.Struct("<I")
_BY_SEQUENCE = frozenset((Kind.CHUNK, Kind.DATA, Kind.TIMES))
_OWN_RECORDS = frozenset((Kind.INTENT, Kind.COMMIT, Kind.STAGE, Kind.ORIGIN))

Records = Sequence[tuple[bytes, bytes]]
"""Keys without their space, and values, in key order."""


class Held:
    """How much of small states is in memory, over all transfers. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[int, int] = {}

    def grow(self, region_id: int, size_bytes: int) -> bool:
        """Tell that so much of a transfer is to be held; False: it must go to files now."""
        with self._lock:
            others = sum(self._sizes.values()) - self._sizes.pop(region_id, 0)
            if others + size_bytes > _ALL_HELD_BYTES:
                return False
            self._sizes[region_id] = size_bytes
            return True

    def forget(self, region_id: int) -> None:
        """Nothing of a transfer is held any more."""
        with self._lock:
            self._sizes.pop(region_id, None)


class Breath:
    """Gives the GIL to a thread that waits for it, now and then: else that takes a millisecond.

    Copying, which all this is, holds it from one call to the network to the next. Used by one
    thread.
    """

    def __init__(self, after_bytes: int) -> None:
        self._after = after_bytes
        self._copied = 0

    def taken(self) -> None:
        """Tell that the lock was given away, as by every call to the network."""
        self._copied = 0

    def copied(self, size_bytes: int) -> None:
        """Tell that so much was copied since the last call."""
        self._copied += size_bytes
        if self._copied >= self._after:
            self._copied = 0
            # not without a sleep: this thread would have the lock again before any other is awake
            time.sleep(0)


# ---- where regions live ----


class Directory:
    """Which space of keys each region lives in: its own number, unless it was taken over.

    Guarded by the engine's lock.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._spaces: dict[int, int] = {}
        view = store.view()
        try:
            prefix = kind_prefix(DIRECTORY, Kind.PLACE)
            for key, value in view.scan(prefix, prefix_end(prefix)):
                self._spaces[int.from_bytes(key[len(prefix) :], "big")] = int.from_bytes(
                    value, "big"
                )
            found = _spaces_in(view)
        finally:
            view.release()
        live = set(self._spaces.values())
        self.regions = sorted(
            {space for space in found if space <= REGION_MAX and space not in self._spaces}
            | set(self._spaces)
        )
        self._remains = {space for space in found if space in self._spaces} - live
        self._remains |= {space for space in found if space >= _FIRST_SPACE} - live
        self._staged: dict[int, tuple[int, Staging]] = {}
        self.held = Held()
        for name in store.stagings():
            staging = store.staging(name)
            stage = _stage_of(staging)
            if stage is None or not name.isdecimal() or stage[0] in self._staged:
                staging.discard()
            else:
                self._staged[stage[0]] = int(name), staging

    def space_of(self, region_id: int) -> int:
        """Return the number that a region's keys begin with."""
        return self._spaces.get(region_id, region_id)

    def clean(self) -> None:
        """Remove what a kill right after a switch left of the old spaces."""
        batch = Batch()
        for space in self._remains:
            batch.delete_range(*region_range(space))
        self._remains = set()
        if len(batch):
            self._store.write(batch)
            # or a region that moves into one of them, durably, could find them again after a crash
            self._store.flush()

    def begin(self, region_id: int, source: str) -> tuple[int, Staging, Progress]:
        """Return a space for a transfer, its files, and what is there.

        One of the same source goes on. An unfinished transfer of the region from another source is
        removed.
        """
        self.held.forget(region_id)
        if region_id in self._staged:
            space, staging = self._staged[region_id]
            staging.close()  # whoever wrote to it: only complete files go on
            staging = self._store.staging(str(space))
            self._staged[region_id] = space, staging
            stage = _stage_of(staging)
            if stage is not None and stage[1].source == source:
                return space, staging, stage[1]
            self.discard(region_id)
        space = self._free_space()
        staging = self._store.staging(str(space))
        self._staged[region_id] = space, staging
        return space, staging, Progress(source)

    def _free_space(self) -> int:
        """Return a space without keys: one that was not used before, as long as there are any.

        Where a range was deleted, the store takes in files only after a merge.
        """
        used = {*self._spaces.values(), *(space for space, _ in self._staged.values())}
        count = _LAST_SPACE + 1 - _FIRST_SPACE
        highest = max((space for space in used if space >= _FIRST_SPACE), default=_LAST_SPACE)
        view = self._store.view()
        try:
            for step in range(1, count + 1):
                space = _FIRST_SPACE + (highest + step - _FIRST_SPACE) % count
                if space not in used and view.first_key(*region_range(space)) is None:
                    return space
        finally:
            view.release()
        raise EngineError("no free space for another snapshot: too many transfers are unfinished")

    def discard(self, region_id: int) -> None:
        """Remove an unfinished transfer."""
        self.held.forget(region_id)
        _, staging = self._staged.pop(region_id, (0, None))
        if staging is not None:
            staging.discard()

    def close(self) -> None:
        """Let go of unfinished transfers; what is complete of them is found again."""
        for _, staging in self._staged.values():
            staging.close()

    def switch(
        self, region_id: int, space: int, seal: Batch, *, was: int, is_durable: bool
    ) -> None:
        """Let the region live in `space` from now on; durable on return.

        The store must not be written to under the old space any more.

        Args:
            region_id: that was taken over.
            space: where it is.
            seal: what makes a region of the records in the space.
            was: the old space.
            is_durable: the records in the space are; then the store is to be flushed soon.
        """
        batch = Batch()
        batch.delete_range(*region_range(was))
        batch.puts += seal.puts
        batch.put(
            kind_prefix(DIRECTORY, Kind.PLACE) + region_id.to_bytes(2, "big"),
            space.to_bytes(2, "big"),
        )
        if is_durable:
            self._store.write_durably(batch)
        else:
            self._store.write(batch)
            self._store.flush()
        self._staged.pop(region_id, None)
        self._spaces[region_id] = space

    def forget(self, region_id: int) -> Batch:
        """Return the changes that remove a region, wherever it lives."""
        batch = Batch()
        batch.delete_range(*region_range(self.space_of(region_id)))
        # it will live under its own number again, where remains of its first life may lie
        batch.delete_range(*region_range(region_id))
        if self._spaces.pop(region_id, None) is not None:
            batch.delete(kind_prefix(DIRECTORY, Kind.PLACE) + region_id.to_bytes(2, "big"))
        return batch


def live_spaces(view: View) -> list[int]:
    """Return the spaces that regions live in; others hold transfers, or remains of them."""
    prefix = kind_prefix(DIRECTORY, Kind.PLACE)
    places = {
        int.from_bytes(key[len(prefix) :], "big"): int.from_bytes(value, "big")
        for key, value in view.scan(prefix, prefix_end(prefix))
    }
    own = {space for space in _spaces_in(view) if space <= REGION_MAX and space not in places}
    return sorted(own | set(places.values()))


def _spaces_in(view: View) -> set[int]:
    found = set()
    lo = b""
    while (key := view.first_key(lo, b"\xff\xff")) is not None:
        found.add(region_of(key))
        lo = region_range(region_of(key))[1]
    return found


def _stage_of(staging: Staging) -> tuple[int, Progress] | None:
    """Return the region that a transfer is of and how far it got; None: there is nothing of it."""
    if not staging.note:
        return None
    try:
        return _decode_stage(staging.note)
    except ValueError as error:
        logger.warning("the note of an unfinished snapshot transfer is damaged: %s", error)
        return None


def _encode_stage(region_id: int, progress: Progress) -> bytes:
    body = region_id.to_bytes(2, "big") + progress.encode()
    return body + _CRC.pack(zlib.crc32(body))


def _decode_stage(data: bytes) -> tuple[int, Progress]:
    body = data[: -_CRC.size]
    if len(body) < 2 or data[-_CRC.size :] != _CRC.pack(zlib.crc32(body)):
        raise ValueError("its checksum does not match")
    return int.from_bytes(body[:2], "big"), Progress.decode(body[2:])


# ---- out ----


class RegionExport:
    """A region's state at one applied index, as records. One thread at a time.

    Memory is that of one piece. While it is open, RocksDB keeps the files that it reads.

    Attributes:
        index: applied index of the state.
        is_at_end: the last piece was the last there is.
    """

    def __init__(self, space: int, store: Store) -> None:
        """Take the state that the store holds now; `Engine.export` flushes first."""
        self._space = space
        self._view = store.view(bulk=True)
        # where the last piece ended: to go on costs less than to seek
        self._scan: Iterator[tuple[bytes, bytes]] | None = None
        self._next: tuple[bytes, bytes] | None = None
        self._last_key = b""
        self._breath = Breath(_READ_BREATH_BYTES)
        self.is_at_end = False
        self._path = store.path
        try:
            data = self._view.get(commit_key(space))
            self._committed, self.index = decode_commit(data) if data is not None else (0, 0)
            data = self._view.get(intent_key(space))
            self._aborted = decode_intent(data)[1] if data is not None else frozenset()
        except ValueError as error:
            self._view.release()
            raise Corruption(store.path, commit_key(space), "a sound record", error) from error

    def piece(self, after: bytes, max_bytes: int) -> list[tuple[bytes, bytes]]:
        """Return the records behind the key `after` (b"": from the start), until `max_bytes`.

        At least one record, unless there is none left.
        """
        if self._scan is None or after != self._last_key:
            lo, hi = region_range(self._space)
            self._scan = self._view.scan(lo + after + b"\0" if after else lo, hi)
            self._next = None
        found: list[tuple[bytes, bytes]] = []
        size = 0
        self._breath.taken()
        head = len(region_range(self._space)[0])
        record = self._next or next(self._scan, None)
        while record is not None:
            key, value = record
            self._breath.copied(len(value))
            if self._belongs(key):
                size += len(key) + len(value)
                if found and size > max_bytes:
                    break
                found.append((key[head:], value))
            record = next(self._scan, None)
        self._next = record
        self.is_at_end = record is None
        self._last_key = found[-1][0] if found else after
        return found

    def close(self) -> None:
        """Let go of the state."""
        self._scan = self._next = None
        self._view.release()

    def _belongs(self, key: bytes) -> bool:
        """Tell whether a record is part of the committed state."""
        kind = key[2]
        if kind in _OWN_RECORDS:
            return False
        if kind in _BY_SEQUENCE:
            return is_visible(split_chunk_key(key).sequence, self._committed, self._aborted)
        return True

    @property
    def sequence(self) -> int:
        """Sequence of the flush that the state is of; the importer goes on after it."""
        return self._committed


# ---- in ----


class Progress(NamedTuple):
    """How far a transfer got.

    Attributes:
        source: what it is a transfer of, as the caller named it.
        last_key: last record that is there, without its space; b"" for none.
        records: so many are there.
        total_bytes: of keys and values, likewise.
        crc: CRC-32C over all keys and values so far, in order.
    """

    source: str
    last_key: bytes = b""
    records: int = 0
    total_bytes: int = 0
    crc: int = 0

    def with_records(self, records: Records) -> Progress:
        """Return the progress after some more records."""
        crc, size = self.crc, self.total_bytes
        for key, value in records:
            crc = google_crc32c.extend(google_crc32c.extend(crc, key), value)
            size += len(key) + len(value)
        last_key = records[-1][0] if records else self.last_key
        return Progress(self.source, last_key, self.records + len(records), size, crc)

    def encode(self) -> bytes:
        """Return the byte form."""
        return json.dumps(
            [self.source, self.last_key.hex(), self.records, self.total_bytes, self.crc]
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Progress:
        """Read it back; raises ValueError."""
        source, last_key, records, total_bytes, crc = json.loads(data)
        return cls(source, bytes.fromhex(last_key), records, total_bytes, crc)


class RegionImport:
    """A transfer into a space of its own; made by `Engine.begin_import`. One thread at a time.

    Attributes:
        progress: what is there; after a restart, what survived.
    """

    def __init__(
        self,
        region_id: int,
        space: int,
        staging: Staging,
        progress: Progress,
        file_bytes: int,
        store: Store,
        held: Held,
    ) -> None:
        self.region_id = region_id
        self.space = space
        self.progress = progress
        self._staging = staging
        self._file_bytes = file_bytes
        self._store = store
        self._all_held = held
        # what there is while it is small; None: it is in files
        self._held: list[tuple[bytes, bytes]] | None = None if progress.records else []
        self._held_bytes = 0
        self._breath = Breath(_BREATH_BYTES)

    def write(self, records: Records, *, is_last: bool = False) -> None:
        """Add records, which follow those that are there, in key order.

        Each file of the staging brings its note of progress. After an EngineError this object is of
        no use any more: `Engine.begin_import` tells what is there.

        Args:
            records: one at least.
            is_last: it is known that no more will come.

        Raises:
            ValueError: out of order; nothing was written.
        """
        last = self.progress.last_key
        for key, _ in records:
            if not key > last or not key or key[0] in _OWN_RECORDS:
                raise ValueError(f"record {key.hex()} can't follow {last.hex()}")
            last = key
        if self._held is None:
            self._stage(records)
            return
        self._held += records
        self._held_bytes += sum([len(key) + len(value) for key, value in records])
        size = self._held_bytes
        most = _HELD_BYTES if is_last else _HELD_OF_MORE_BYTES
        if size <= min(most, self._file_bytes) and self._all_held.grow(self.region_id, size):
            self.progress = self.progress.with_records(records)
        else:
            self._all_held.forget(self.region_id)
            held, self._held = self._held, None
            self.progress = Progress(self.progress.source)
            self._stage(held)

    def _stage(self, records: Records) -> None:
        head = region_range(self.space)[0]
        start = 0
        self._breath.taken()
        is_dense = self._choose_file(records)
        for stop, (key, value) in enumerate(records, 1):
            self._staging.add(head + key, value)
            if not is_dense:  # large ones take little, and each write of theirs gives the GIL away
                self._breath.copied(len(value))
            if self._staging.size >= self._file_bytes:
                self.progress = self.progress.with_records(records[start:stop])
                self._complete()
                start = stop
        self.progress = self.progress.with_records(records[start:])

    def _choose_file(self, records: Records) -> bool:
        """Return whether these records are to go to a file of large ones.

        A file goes on with what it is not made for, unless much of that comes: small records,
        which say what large ones there are, come before them.
        """
        sizes = [len(value) for _, value in records]
        size = sum(sizes)
        is_dense = 2 * sum([value for value in sizes if value >= _LARGE_BYTES]) >= size
        staging = self._staging
        if staging.size and is_dense != staging.is_dense:
            if size < _MUCH_BYTES:
                return staging.is_dense
            self._complete()
        staging.is_dense = is_dense
        return is_dense

    def _complete(self) -> None:
        self._staging.complete(_encode_stage(self.region_id, self.progress))

    def ingest(self, origin: bytes) -> bool:
        """Have the store take in the records, not yet switched in.

        Args:
            origin: what the region's ORIGIN record says; the last of its keys.

        Returns:
            Whether they are durable; otherwise with the store's next flush.
        """
        last = kind_prefix(self.space, Kind.ORIGIN), origin
        if self._held is None:
            self._staging.add(*last)
            self._staging.ingest(*region_range(self.space))
            return True
        head = region_range(self.space)[0]
        batch = Batch()
        batch.put(*last)
        for key, value in self._held:
            batch.put(head + key, value)
            if batch.size >= _HELD_BATCH_BYTES:
                self._store.write(batch)
                batch = Batch()
        if len(batch):
            self._store.write(batch)
        self._held = None
        self._all_held.forget(self.region_id)
        self._staging.discard()
        return False


def seal(space: int, index: int, sequence: int) -> Batch:
    """Return what makes a region of the records in a space."""
    batch = Batch()
    batch.put(intent_key(space), encode_intent(sequence, ()))
    batch.put(commit_key(space), encode_commit(sequence, index))
    return batch
