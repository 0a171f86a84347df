"""Writes a table file of RocksDB, for records that are large and compressed already.

Problem: RocksDB's own writer (rocksdict's SstFileWriter) takes 0.55 ms a megabyte of such records,
all of it with the interpreter's lock: two thirds of what receiving a state took. It copies each
record three times, and its checksum is not the quickest.

Idea: a table is simple where nothing is compressed and no key shares its beginning with another:
a large record is a block of its own, whose bytes go where the file will have them in one copy;
small ones share blocks. 0.05 ms a megabyte; a file of nothing but small records takes several, so
those are left to RocksDB.

What RocksDB finds in such a file (its names): a block-based table of format version 6, restart
points at each entry, index of whole user keys by binary search, XXH3, no filter (the engine reads
by iterators, which use none), sequence 0, version 2 of a file to be taken in. Memory: that of the
index, some 60 bytes a block.
"""

from __future__ import annotations

import secrets
import string
import struct
from collections.abc import Mapping, Sequence
from typing import Protocol

import xxhash

from iotdb_engine.table_format import (
    EXTENDED_MAGIC,
    FOOTER,
    FORMAT_VERSION,
    MAGIC,
    NO_COMPRESSION,
    TRAILER,
    WORD,
    XXH3,
    modifier,
    varint,
    with_last_byte,
)

BLOCK_BYTES = 4 << 10
"""Records that are not smaller get a block each; the others share one of about this size."""

_ALIGNMENT = 4096
"""The file's size is a multiple of it: to cut off a part of a block, the system would read it."""
_PADDING = b"padding"
"""A property of no meaning. Its length, and that of all properties, take two bytes in any case."""
_LEAST_PADDING = 128

_U32 = struct.Struct("<I")
_PUT = (1).to_bytes(8, "little")
"""What follows a key in a data block: sequence 0 (56 bits), and that it is a put."""
_ONE_RESTART = bytes(4) + _U32.pack(1)
_ANY_FAMILY = varint(0x7FFFFFFF)
_SESSION_LETTERS = string.digits + string.ascii_uppercase


class Sink(Protocol):
    """Takes bytes one behind the other."""

    def put(self, part: bytes) -> None:
        """Add some; they are not needed any more on return."""

    def finish(self, *, sync: bool) -> None:
        """Write what is left, and close; `sync`: all of it is durable then."""

    def drop(self) -> None:
        """Give it up, and close; may be repeated, and called by any thread."""


class _Entries:
    """A block of entries, each of which is a restart point."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._starts: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, *parts: bytes) -> None:
        self._starts.append(self.size)
        self._parts += parts
        self.size += sum(map(len, parts))

    def take(self) -> bytes:
        """Return the block, and begin another."""
        count = len(self._starts)
        self._parts.append(struct.pack(f"<{count + 1}I", *self._starts, count))
        block = b"".join(self._parts)
        self.size, self._parts, self._starts = 0, [], []
        return block


class TableFile:
    """One table file on its way to a sink. One thread at a time, but for `drop`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._at = 0
        self._context = secrets.randbits(32) | 1  # 0 means that checksums do not depend on a place
        self._small = _Entries()
        self._index = _Entries()
        self._last_key = b""
        self._count = self._key_bytes = self._value_bytes = 0

    def add(self, key: bytes, value: bytes) -> None:
        """Add a record; keys ascend."""
        assert key > self._last_key, "keys must ascend"
        if len(value) >= BLOCK_BYTES:
            self._end_small()
            self._data_block(key, (_head(key, value), value, _ONE_RESTART))
        else:
            self._small.add(_head(key, value), value)
        self._last_key = key
        self._count += 1
        self._key_bytes += len(key) + len(_PUT)
        self._value_bytes += len(value)
        if self._small.size >= BLOCK_BYTES:
            self._end_small()

    def finish(self, *, sync: bool) -> None:
        """Complete the file; `sync`: it is durable on return."""
        self._end_small()
        data_bytes, blocks = self._at, len(self._index)
        index = self._block((self._index.take(),))
        index_bytes = self._at - data_bytes
        properties = self._properties(data_bytes, index_bytes, blocks)
        start = self._at
        # the first time to learn how much is missing; no length of a length changes with it
        block = _properties_block(properties, 0)
        size = len(block) + len(_metaindex(index, _handle(start, len(block)))) + 2 * TRAILER.size
        block = _properties_block(properties, -(start + size + FOOTER.size) % _ALIGNMENT)
        handle = self._block((block,))
        metaindex = _metaindex(index, handle)
        self._block((metaindex,))
        self._sink.put(self._footer(len(metaindex)))
        self._sink.finish(sync=sync)

    def drop(self) -> None:
        """Give the file up; may be repeated, and called by any thread."""
        self._sink.drop()

    def _end_small(self) -> None:
        if len(self._small):
            self._data_block(self._last_key, (self._small.take(),))

    def _data_block(self, last_key: bytes, parts: Sequence[bytes]) -> None:
        handle = self._block(parts)
        # the length of the value is not told, since it is a handle
        self._index.add(b"\0" + varint(len(last_key)), last_key, handle)

    def _block(self, parts: Sequence[bytes]) -> bytes:
        """Add a block, in parts; returns its handle."""
        start, size = self._at, 0
        digest = xxhash.xxh3_64()
        for part in parts:
            digest.update(part)
            self._sink.put(part)
            size += len(part)
        checksum = with_last_byte(digest.intdigest(), NO_COMPRESSION)
        checksum = (checksum + modifier(self._context, start)) & WORD
        self._sink.put(TRAILER.pack(NO_COMPRESSION, checksum))
        self._at += size + TRAILER.size
        return _handle(start, size)

    def _properties(self, data_bytes: int, index_bytes: int, blocks: int) -> dict[str, bytes]:
        # it names the file in caches, with the file's number within it
        session = "".join(secrets.choice(_SESSION_LETTERS) for _ in range(20))
        no, yes = varint(0), varint(1)
        return {
            "block.based.table.index.type": bytes(4),
            "block.based.table.prefix.filtering": b"0",
            "block.based.table.whole.key.filtering": b"0",
            "column.family.id": _ANY_FAMILY,
            "comparator": b"leveldb.BytewiseComparator",
            "compression": b"NoCompression",
            "creating.db.identity": b"SST Writer",
            "creating.session.identity": session.encode(),
            "creation.time": no,
            "data.size": varint(data_bytes),
            "deleted.keys": no,
            "external_sst_file.global_seqno": bytes(8),
            "external_sst_file.version": _U32.pack(2),
            "filter.size": no,
            "fixed.key.length": no,
            "format.version": varint(FORMAT_VERSION),
            "index.key.is.user.key": yes,
            "index.size": varint(index_bytes),
            "index.value.is.delta.encoded": yes,
            "key.largest.seqno": no,
            "merge.operands": no,
            "num.data.blocks": varint(blocks),
            "num.entries": varint(self._count),
            "num.range-deletions": no,
            "original.file.number": yes,
            "raw.key.size": varint(self._key_bytes),
            "raw.value.size": varint(self._value_bytes),
            "tail.start.offset": varint(data_bytes),
        }

    def _footer(self, metaindex_bytes: int) -> bytes:
        context = self._context
        rest = (context, metaindex_bytes, FORMAT_VERSION, MAGIC)
        raw = FOOTER.pack(XXH3, EXTENDED_MAGIC, 0, *rest)
        checksum = with_last_byte(xxhash.xxh3_64_intdigest(raw[:-1]), raw[-1])
        checksum = (checksum + modifier(context, self._at)) & WORD
        return FOOTER.pack(XXH3, EXTENDED_MAGIC, checksum, *rest)


def _handle(start: int, size: int) -> bytes:
    """Return what names a block."""
    return varint(start) + varint(size)


def _properties_block(properties: Mapping[str, bytes], padding: int) -> bytes:
    padded = {_PADDING: bytes(_LEAST_PADDING + padding)}
    padded |= {b"rocksdb." + name.encode(): value for name, value in properties.items()}
    block = _Entries()
    for key, value in padded.items():  # in the order of their names
        block.add(_lengths(key, value), key, value)
    return block.take()


def _metaindex(index: bytes, properties: bytes) -> bytes:
    block = _Entries()
    for name, handle in ((b"rocksdb.index", index), (b"rocksdb.properties", properties)):
        block.add(_lengths(name, handle), name, handle)
    return block.take()


def _lengths(key: bytes, value: bytes) -> bytes:
    """Return what an entry begins with: nothing of the key is shared with the one before."""
    return b"\0" + varint(len(key)) + varint(len(value))


def _head(key: bytes, value: bytes) -> bytes:
    """Return an entry of a data block but for the value."""
    return b"".join((b"\0", varint(len(key) + len(_PUT)), varint(len(value)), key, _PUT))
