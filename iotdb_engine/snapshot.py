"""A whole region as a stream of records: out of one engine, into another, switched in atomically.

Problem: a replica that lacks more than its leader's log still has must take over the leader's whole
state. It must not be seen half, survive a kill at any point, and cost neither side memory.

Too simple: export rows. Decoding and encoding every point again costs a hundred times the copying.
Too simple: write the records over the old ones. A kill in between leaves a mixture.

So the records travel as they are stored, pages and all. A RocksDB iterator keeps the state in which
it was made, and any such state is one that a crash could have left: it holds exactly what its
COMMIT record says, at the applied index in there. The receiver writes them under the number of
a *space* that no region uses (`Directory`), with a note of how far it got in every batch; since a
crash keeps a prefix of the batches, the note tells exactly what is there, and the transfer can go
on. The switch is one batch: the region now lives in that space, and the old one is deleted.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

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
from iotdb_engine.store import Batch, Store, View

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from iotdb_engine.region import Region

REGION_MAX = 0x7FFF
"""Highest region id; numbers above name spaces of regions that were taken over."""
_FIRST_SPACE = 0x8000
_LAST_SPACE = 0xFFFE
DIRECTORY = 0xFFFF
"""Prefix of the directory's own keys."""

_CRC = struct.Struct("<I")
_BY_SEQUENCE = frozenset((Kind.CHUNK, Kind.DATA, Kind.TIMES))
_OWN_RECORDS = frozenset((Kind.INTENT, Kind.COMMIT, Kind.STAGE, Kind.ORIGIN))

Records = Sequence[tuple[bytes, bytes]]
"""Keys without their space, and values, in key order."""


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
        others = {space for space in found if space >= _FIRST_SPACE} - live
        self._staged = {space for space in others if self._stage(space) is not None}
        self._remains = {space for space in found if space in self._spaces} - live
        self._remains |= others - self._staged

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

    def begin(self, region_id: int, source: str) -> tuple[int, Progress]:
        """Return a space for a transfer and what is there of it: one of the same source goes on.

        An unfinished transfer of the region from another source is removed.
        """
        space = self._staged_for(region_id)
        if space is not None:
            stage = self._stage(space)
            if stage is not None and stage[1].source == source:
                return space, stage[1]
            self.discard(space)
        return self._take_space(), Progress(source)

    def _staged_for(self, region_id: int) -> int | None:
        for space in sorted(self._staged):
            stage = self._stage(space)
            if stage is not None and stage[0] == region_id:
                return space
        return None

    def _stage(self, space: int) -> tuple[int, Progress] | None:
        data = self._store.get(_stage_key(space))
        if data is None:
            return None
        try:
            return _decode_stage(data)
        except ValueError as error:
            logger.warning("the note of an unfinished snapshot transfer is damaged: %s", error)
            return None

    def _take_space(self) -> int:
        used = set(self._spaces.values()) | self._staged
        for space in range(_FIRST_SPACE, _LAST_SPACE + 1):
            if space not in used:
                self.discard(space)  # remains of a region that lived there before
                self._staged.add(space)
                return space
        raise EngineError("no free space for another snapshot: too many transfers are unfinished")

    def discard(self, space: int) -> None:
        """Remove an unfinished transfer."""
        batch = Batch()
        batch.delete_range(*region_range(space))
        self._store.write(batch)
        self._staged.discard(space)

    def switch(self, region_id: int, space: int, *, was: int) -> None:
        """Let the region live in `space` from now on; durable on return.

        The store must not be written to under the old space any more.
        """
        batch = Batch()
        batch.delete_range(*region_range(was))
        batch.delete(_stage_key(space))
        batch.put(
            kind_prefix(DIRECTORY, Kind.PLACE) + region_id.to_bytes(2, "big"),
            space.to_bytes(2, "big"),
        )
        self._store.write(batch)
        self._store.flush()
        self._staged.discard(space)
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


def _stage_key(space: int) -> bytes:
    return kind_prefix(space, Kind.STAGE)


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
    """

    def __init__(self, space: int, store: Store) -> None:
        """Take the state that the store holds now; `Region.export` flushes first."""
        self._space = space
        self._view = store.view()
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
        lo, hi = region_range(self._space)
        head = lo
        found: list[tuple[bytes, bytes]] = []
        size = 0
        for key, value in self._view.scan(head + after + b"\0" if after else lo, hi):
            if not self._belongs(key):
                continue
            size += len(key) + len(value)
            if found and size > max_bytes:
                break
            found.append((key[len(head) :], value))
        return found

    def close(self) -> None:
        """Let go of the state."""
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
        crc: CRC-32 over all keys and values so far, in order.
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
            crc = zlib.crc32(value, zlib.crc32(key, crc))
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
        self, region_id: int, space: int, store: Store, progress: Progress, batch_bytes: int
    ) -> None:
        self.region_id = region_id
        self.space = space
        self.progress = progress
        self._store = store
        self._batch_bytes = batch_bytes

    def write(self, records: Records) -> None:
        """Add records, which follow those that are there, in key order.

        Written in batches that hold the GIL for a moment only; each brings its note of progress.

        Raises:
            ValueError: out of order; nothing was written.
        """
        last = self.progress.last_key
        for key, _ in records:
            if not key > last or not key or key[0] in _OWN_RECORDS:
                raise ValueError(f"record {key.hex()} can't follow {last.hex()}")
            last = key
        head = region_range(self.space)[0]
        start = 0
        while start < len(records):
            batch = Batch()
            stop = start
            while stop < len(records) and (stop == start or batch.size < self._batch_bytes):
                key, value = records[stop]
                batch.put(head + key, value)
                stop += 1
            self.progress = self.progress.with_records(records[start:stop])
            batch.put(_stage_key(self.space), _encode_stage(self.region_id, self.progress))
            self._store.write(batch)
            start = stop

    def seal(self, index: int, sequence: int, origin: bytes) -> None:
        """Write what makes a region of the records; durable on return, but not yet switched in."""
        batch = Batch()
        batch.put(kind_prefix(self.space, Kind.ORIGIN), origin)
        batch.put(intent_key(self.space), encode_intent(sequence, ()))
        batch.put(commit_key(self.space), encode_commit(sequence, index))
        self._store.write(batch)
        self._store.flush()


def export_region(region: Region, store: Store) -> RegionExport:
    """Flush a region and return its state as of then, or later."""
    region.flush()
    return RegionExport(region.id, store)
