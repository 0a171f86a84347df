"""RocksDB's files, byte by byte: does every byte still say what was written?

Problem: RocksDB checks a block when it reads it, and reads neither filters nor properties in a
scan; a damaged record at the end of a MANIFEST looks to it like one that was cut off, and is passed
over. Idea: the files are walked as bytes. In a table file the blocks that its index and metaindex
name, each with its checksum, and the footer with its own, leave no byte uncovered. The MANIFEST is
a log of records with a CRC-32C each, and CURRENT is compared with what it must be.

What is relied on, and set by `store._rocks_options` and `table_file`: block-based tables of format
version 6 with one index block. RocksDB writes them with XXH64, this project with XXH3; older ones
have CRC-32C, which rocksdict computes without the processor's instruction, five times slower.
Written after RocksDB's description of its formats and after the files themselves; nothing here
needs RocksDB.

Cost: about 1 GB/s, memory of one block (which holds at least one whole record).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from iotdb_engine.table_format import (
    CHECKSUMS,
    EXTENDED_MAGIC,
    FOOTER,
    FORMAT_VERSION,
    LZ4,
    MAGIC,
    NO_COMPRESSION,
    TRAILER,
    WORD,
    XXH64,
    masked_crc32c,
    modifier,
)

CONFIG = "rocksdict-config.json"
"""What rocksdict says of a store; it writes it anew whenever it opens one, to read only too."""

_LOG_BLOCK = 32768
_LOG_HEAD = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_CURRENT = re.compile(rb"MANIFEST-\d{6,}\n")
_NOT_MINE = re.compile(r"LOG(\.old.*)?|LOCK|IDENTITY|OPTIONS-\d+(\.dbtmp)?|MANIFEST-\d+|\d+\.log")


class Damage(NamedTuple):
    """A stretch of a file that is not what was written.

    Attributes:
        file: its name.
        offset: of the first byte.
        size: in bytes.
        what: part of the file, in words: "data block", "footer", …
        problem: what is wrong with it.
        low: every key of a damaged data block is above this one (b"": from the start).
        high: … and at most this one; None where it is not known which keys are concerned.
    """

    file: str
    offset: int
    size: int
    what: str
    problem: str
    low: bytes = b""
    high: bytes | None = None


class _Bad(Exception):
    """Bytes that can't be what was written."""


class _Handle(NamedTuple):
    offset: int
    size: int


def check_files(folder: Path) -> Iterator[Damage]:
    """Yield what is damaged in the files of a store that nobody writes to."""
    yield from _check_config(folder)
    yield from _check_manifest(folder)
    for path in sorted(folder.glob("*.sst")):
        yield from check_table(path)


def data_files(folder: Path) -> list[Path]:
    """Return the files that hold data or say which files do; the rest is diagnostics."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and (path == _manifest_of(folder) or not _NOT_MINE.fullmatch(path.name))
    )


# ---- MANIFEST and CURRENT ----


def _check_config(folder: Path) -> Iterator[Damage]:
    path = folder / CONFIG
    try:
        raw = path.read_bytes()
        if json.loads(raw) != {"raw_mode": True, "prefix_extractors": {}}:
            yield Damage(path.name, 0, len(raw), "configuration", f"says {raw!r}")
    except (OSError, ValueError) as error:
        yield Damage(path.name, 0, 0, "configuration", str(error))


def _manifest_of(folder: Path) -> Path | None:
    try:
        name = (folder / "CURRENT").read_bytes()
    except OSError:
        return None
    return folder / name[:-1].decode() if _CURRENT.fullmatch(name) else None


def _check_manifest(folder: Path) -> Iterator[Damage]:
    path = _manifest_of(folder)
    if path is None or not path.exists():
        yield Damage("CURRENT", 0, 16, "CURRENT", "it does not name a MANIFEST that is there")
        return
    data = path.read_bytes()
    at, inside = 0, False
    while at < len(data):
        left = _LOG_BLOCK - at % _LOG_BLOCK
        if left < _LOG_HEAD.size:
            if any(data[at : at + left]):
                yield Damage(path.name, at, left, "padding", "it is not zero")
            at += left
            continue
        problem, size, kind = _log_record(data, at, left, inside=inside)
        if problem:
            yield Damage(path.name, at, len(data) - at, "record", problem)
            return
        inside = kind in (_FIRST, _MIDDLE)
        at += size
    if inside:
        yield Damage(path.name, at, 0, "record", "the last record is cut off")


def _log_record(data: bytes, at: int, left: int, *, inside: bool) -> tuple[str, int, int]:
    """Return what is wrong with a record of a log (or ""), its bytes, and its kind."""
    if at + _LOG_HEAD.size > len(data):
        return "its heading is cut off", 0, 0
    crc, size, kind = _LOG_HEAD.unpack_from(data, at)
    end = at + _LOG_HEAD.size + size
    if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
        return f"kind {kind}", 0, 0
    if _LOG_HEAD.size + size > left or end > len(data):
        return f"{size} bytes announced, which are not there", 0, 0
    if masked_crc32c(data[at + _LOG_HEAD.size - 1 : end]) != crc:
        return "its checksum does not match", 0, 0
    if inside != (kind in (_MIDDLE, _LAST)):
        return "it does not follow on from the one before", 0, 0
    return "", end - at, kind


# ---- table files ----


def check_table(path: Path) -> Iterator[Damage]:
    """Yield what is damaged in a table file: at most one `Damage` a block."""
    with path.open("rb") as file:
        table = _Table(path.name, file)
        try:
            yield from table.check()
        except _Bad as bad:
            what, offset, problem = bad.args
            yield Damage(path.name, offset, table.size - offset, what, problem)


class _Table:
    """One table file, being checked."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._file = file
        self.size = file.seek(0, 2)
        self._context = 0
        self._kind = XXH64

    def check(self) -> Iterator[Damage]:
        footer_at = self.size - FOOTER.size
        metaindex = self._read_footer(footer_at)
        parts = self._named_blocks(metaindex)
        index = parts.pop(b"rocksdb.index", None)
        if index is None:
            raise _Bad("metaindex", metaindex.offset, "it names no index")
        covered = [metaindex, index]
        for name, handle in parts.items():
            covered.append(handle)
            problem = self._problem(handle)
            if problem:
                yield self._damage(handle, name.decode("latin-1"), problem)
        low = b""
        user_keys = self._has_user_keys(parts)
        for key, handle in self._index_entries(index):
            high = key if user_keys else key[:-8]
            covered.append(handle)
            problem = self._problem(handle)
            if problem:
                yield self._damage(handle, "data block", problem)._replace(low=low, high=high)
            low = high
        yield from self._gaps(covered, footer_at)

    def _damage(self, handle: _Handle, what: str, problem: str) -> Damage:
        return Damage(self._name, handle.offset, handle.size + TRAILER.size, what, problem)

    def _read_footer(self, at: int) -> _Handle:
        if at < 0:
            raise _Bad("footer", 0, f"a file of {self.size} bytes")
        self._file.seek(at)
        raw = self._file.read(FOOTER.size)
        kind, extended, crc, context, size, version, magic = FOOTER.unpack(raw)
        known = kind in CHECKSUMS
        if not known or (extended, version, magic) != (EXTENDED_MAGIC, FORMAT_VERSION, MAGIC):
            raise _Bad("footer", at, "it is not that of a table as they are written here")
        self._context, self._kind = context, kind
        if not self._matches(raw[:5] + bytes(4) + raw[9:], at, crc):
            raise _Bad("footer", at, "its checksum does not match")
        return _Handle(at - TRAILER.size - size, size)

    def _matches(self, data: bytes, offset: int, checksum: int) -> bool:
        """Whether this is the checksum of what begins at an offset of the file."""
        return (CHECKSUMS[self._kind](data) + modifier(self._context, offset)) & WORD == checksum

    def _problem(self, handle: _Handle) -> str:
        """Return what is wrong with a block, or ""."""
        try:
            self._block(handle)
        except _Bad as bad:
            problem: str = bad.args[2]
            return problem
        return ""

    def _block(self, handle: _Handle) -> tuple[bytes, int]:
        """Return a block as it is stored, and how it is compressed."""
        if handle.offset < 0 or handle.offset + handle.size + TRAILER.size > self.size:
            raise _Bad("block", max(0, handle.offset), "it lies outside the file")
        self._file.seek(handle.offset)
        raw = self._file.read(handle.size + TRAILER.size)
        compression, checksum = TRAILER.unpack_from(raw, handle.size)
        if not self._matches(raw[: handle.size + 1], handle.offset, checksum):
            raise _Bad("block", handle.offset, "its checksum does not match")
        return raw[: handle.size], compression

    def _content(self, handle: _Handle, what: str) -> bytes:
        try:
            data, compression = self._block(handle)
        except _Bad as bad:
            raise _Bad(what, *bad.args[1:]) from bad
        if compression == NO_COMPRESSION:
            return data
        if compression != LZ4:
            raise _Bad(what, handle.offset, f"compression {compression}")
        size, at = _varint(data, 0)
        return _decode_lz4(data, at, size)

    def _named_blocks(self, handle: _Handle) -> dict[bytes, _Handle]:
        content = self._content(handle, "metaindex")
        return {key: _handle(value, 0)[0] for key, value in _entries(content)}

    def _has_user_keys(self, parts: dict[bytes, _Handle]) -> bool:
        """Tell whether the index has keys as they were given, without RocksDB's 8 bytes more."""
        handle = parts.get(b"rocksdb.properties")
        if handle is None or self._problem(handle):
            return True
        properties = dict(_entries(self._content(handle, "properties")))
        value = properties.get(b"rocksdb.index.key.is.user.key", b"\x01")
        return _varint(value, 0)[0] == 1

    def _index_entries(self, handle: _Handle) -> Iterator[tuple[bytes, _Handle]]:
        """Yield for each data block a key that is not below its last, and where it is."""
        content = self._content(handle, "index")
        end = _entries_end(content)
        at, key, last = 0, b"", _Handle(0, 0)
        while at < end:
            shared, at = _varint(content, at)
            more, at = _varint(content, at)
            key = key[:shared] + content[at : at + more]
            at += more
            if shared:
                step, at = _varint(content, at)
                size = last.size + ((step >> 1) ^ -(step & 1))
                last = _Handle(last.offset + last.size + TRAILER.size, size)
            else:
                last, at = _handle(content, at)
            yield key, last

    def _gaps(self, covered: list[_Handle], end: int) -> Iterator[Damage]:
        at = 0
        for handle in sorted(covered):
            if handle.offset != at:
                yield Damage(self._name, at, handle.offset - at, "gap", "no block names it")
            at = handle.offset + handle.size + TRAILER.size
        if at != end:
            yield Damage(self._name, at, end - at, "gap", "no block names it")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _handle(data: bytes, at: int) -> tuple[_Handle, int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return _Handle(offset, size), at


def _entries_end(block: bytes) -> int:
    """Return where the entries of a block end: before its restart points and their number."""
    count = int.from_bytes(block[-4:], "little") & 0x7FFFFFFF
    return len(block) - 4 - 4 * count


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a block of metadata."""
    end = _entries_end(block)
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        more, at = _varint(block, at)
        size, at = _varint(block, at)
        key = key[:shared] + block[at : at + more]
        at += more
        yield key, block[at : at + size]
        at += size


def _decode_lz4(data: bytes, at: int, size: int) -> bytes:
    """Decompress an LZ4 block; for index blocks, which are short."""
    out = bytearray()
    while at < len(data):
        token = data[at]
        at += 1
        length, at = _lz4_length(data, at, token >> 4)
        out += data[at : at + length]
        at += length
        if at >= len(data):
            break
        distance = int.from_bytes(data[at : at + 2], "little")
        at += 2
        length, at = _lz4_length(data, at, token & 15)
        start = len(out) - distance
        for _ in range(length + 4):  # it may overlap what it makes
            out.append(out[start])
            start += 1
    assert len(out) == size, "a block with a sound checksum does not decompress"
    return bytes(out)


def _lz4_length(data: bytes, at: int, length: int) -> tuple[int, int]:
    if length == 15:
        while True:
            byte = data[at]
            at += 1
            length += byte
            if byte < 255:
                break
    return length, at
