"""Verifying: is everything on disk what was written, and does it all fit together?

Two layers. `rocks_files` looks at the bytes of the files. Here the records are walked: checksums,
order, statistics against the data, times against the chunks that share them, the lists of series in
TIMES records, deletes and the records that say what is committed. What crashes, drops and merges
leave behind by design is no fault: it is counted as remains.

A walk looks at one state of the store and holds little: one chunk, and the TIMES records and
decoded pages of its neighbours.

Cost: 10 to 20 ns a point on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from iotdb_engine.cache import ByteCache
from iotdb_engine.compaction import decode_number
from iotdb_engine.errors import Corruption, EngineError
from iotdb_engine.flush import decode_commit, decode_intent
from iotdb_engine.key_format import (
    CHUNK_KEY_BYTES,
    COMPACTED,
    ChunkKey,
    Kind,
    chunk_key,
    commit_key,
    compaction_key,
    intent_key,
    is_visible,
    kind_prefix,
    prefix_end,
    record_sequence,
    region_range,
    split_chunk_key,
    with_kind,
)
from iotdb_engine.page import Chunk, check_statistics, unpack_chunk, unpack_page
from iotdb_engine.rocks_files import CONFIG, Damage, check_files, check_table
from iotdb_engine.snapshot import live_spaces
from iotdb_engine.store import FolderLock, RocksStore, Store, View
from iotdb_engine.times_record import TimesHead, unpack_times, unpack_times_page
from iotdb_engine.tombstones import DroppedSeries, decode_drop, decode_tombstone
from iotdb_engine.ttl import decode_rule
from iotdb_engine.verify_report import Fault, FaultKind, Report
from iotdb_engine.wal import WAL_FOLDER, read_log

_T = TypeVar("_T")
_CACHE_BYTES = 32 << 20
_END = b"\xff" * 64


def verify(path: str | Path) -> Report:
    """Verify a store that nobody has open; changes nothing.

    Raises:
        Locked: somebody has it open.
        EngineError: there is no store.
    """
    folder = Path(path)
    report = Report()
    lock = FolderLock(folder)
    try:
        note_files(folder, report)
        note_log(folder, report)
        config = folder / CONFIG
        was = config.read_bytes() if config.exists() else None
        try:
            _verify_records(folder, report)
        finally:
            if was is not None and config.read_bytes() != was:
                config.write_bytes(was)
    finally:
        lock.release()
    return report


def _verify_records(folder: Path, report: Report) -> None:
    try:
        store = RocksStore(folder, read_only=True)
    except EngineError as error:
        report.faults.append(Fault(FaultKind.UNREADABLE, f"RocksDB cannot open it: {error}"))
        return
    try:
        verify_store(store, report)
    finally:
        store.close()


def note_files(folder: Path, report: Report) -> None:
    """Check the files of a store that nobody writes to."""
    report.files += len(list(folder.glob("*.sst")))
    for damage in check_files(folder):
        report.faults.append(Fault(FaultKind.FILE, damage.problem, damage=damage))


def note_log(folder: Path, report: Report) -> None:
    """Check the write-ahead log of a store that nobody writes to."""
    for path, contents in read_log(folder / WAL_FOLDER):
        report.files += 1
        name = f"{WAL_FOLDER}/{path.name}"
        for at, end in contents.lost:
            damage = Damage(name, at, end - at, "log", "steps that were acknowledged are lost")
            report.faults.append(Fault(FaultKind.LOG, damage.problem, damage=damage))


def note_tables(folder: Path, report: Report) -> None:
    """Check the table files of a store that is open; they come and go, and never change."""
    for path in sorted(folder.glob("*.sst")):
        try:
            damages = list(check_table(path))
        except FileNotFoundError:
            continue
        report.files += 1
        report.faults += [Fault(FaultKind.FILE, one.problem, damage=one) for one in damages]


def verify_store(store: Store, report: Report) -> None:
    """Walk the records of a store as it is now."""
    walk = Records(store.view(), report)
    try:
        for space in live_spaces(walk):
            report.regions += 1
            _Space(walk, space, report).check()
    finally:
        walk.release()


class Records:
    """A view of a store in which what cannot be read is noted and passed over.

    Which records RocksDB cannot read is known from the files' faults in the report.
    """

    def __init__(self, view: View, report: Report) -> None:
        self._view = view
        self._report = report
        self._holes = sorted(
            fault.damage.high
            for fault in report.faults
            if fault.damage is not None and fault.damage.high is not None
        )
        self._noted: set[bytes] = set()

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the records in [lo, hi) that can be read."""
        last = lo
        while lo < hi:
            try:
                for key, value in self._view.scan(lo, hi):
                    last = key
                    self._report.records += 1
                    yield key, value
                return
            except Corruption as error:
                lo = last = self._behind(last, error)

    def first_key(self, lo: bytes, hi: bytes) -> bytes | None:
        """Return the lowest key in [lo, hi) that can be read."""
        while lo < hi:
            try:
                return self._view.first_key(lo, hi)
            except Corruption as error:
                lo = self._behind(lo, error)
        return None

    def get(self, key: bytes) -> bytes | None:
        """Return a record; None where there is none, or it cannot be read."""
        try:
            return self._view.get(key)
        except Corruption as error:
            self._behind(key, error)
            return None

    def release(self) -> None:
        """Let go of the view."""
        self._view.release()

    def _behind(self, key: bytes, error: Corruption) -> bytes:
        """Return the key behind the stretch that cannot be read, and note it once."""
        end = next((hole for hole in self._holes if hole >= key), _END)
        if end not in self._noted:
            self._noted.add(end)
            fault = Fault(FaultKind.UNREADABLE, str(error.found), key=key or b"\0", high=end)
            self._report.faults.append(fault)
        return end + b"\0"


class _Bad(Exception):
    """A page that is not what it should be."""

    def __init__(self, kind: FaultKind, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind


class _Times(NamedTuple):
    """A TIMES record that a chunk names: parsed, or what is wrong with it."""

    record: bytes
    head: TimesHead | None
    problem: str


class _Space:
    """One region's space, being walked."""

    def __init__(self, walk: Records, space: int, report: Report) -> None:
        self._walk = walk
        self._space = space
        self._report = report
        self._cache = ByteCache(_CACHE_BYTES)
        self._committed = 0
        self._aborted: frozenset[int] = frozenset()
        self._merges = 0
        self._dropped = DroppedSeries()
        self._named: set[bytes] = set()
        self._highest_merge = 0
        self._has_commit = False
        # A crash in a region's first flush leaves chunks and no COMMIT; anything else does not.
        self._unexplained = False

    def check(self) -> None:
        self._check_state()
        self._check_kinds()
        last: dict[int, int] = {}
        place: tuple[int, int] | None = None
        for key, record in self._walk.scan(*self._range(Kind.CHUNK)):
            parts = self._parts(key)
            if parts is None:
                continue
            if (parts.slot, parts.series_id) != place:
                place, last = (parts.slot, parts.series_id), {}
            if parts.series_id in self._dropped:
                self._report.remains += 1
                continue
            chunk = self._check_chunk(key, parts, record)
            if chunk is None:
                continue
            if parts.first_time <= last.get(parts.sequence, parts.first_time - 1):
                self._fault(FaultKind.OVERLAP, key, "it overlaps another of the same sequence")
            last[parts.sequence] = chunk.last
        self._check_times()
        self._check_data()
        if not self._has_commit and (self._unexplained or self._highest_merge):
            self._fault(FaultKind.RECORD, commit_key(self._space), "there is none")
        if self._highest_merge > self._merges:
            self._fault(
                FaultKind.RECORD,
                compaction_key(self._space),
                f"it says {self._merges}, and there are chunks of merge {self._highest_merge}",
            )

    def _fault(self, kind: FaultKind, key: bytes, problem: object, **more: Any) -> None:  # noqa: ANN401
        self._report.faults.append(Fault(kind, str(problem), key, **more))

    def _range(self, kind: Kind) -> tuple[bytes, bytes]:
        prefix = kind_prefix(self._space, kind)
        return prefix, prefix_end(prefix)

    # The region's own state

    def _check_state(self) -> None:
        has_faults = len(self._report.faults)
        commit = self._one(commit_key(self._space), decode_commit)
        self._committed = commit[0] if commit else 0
        if len(self._report.faults) > has_faults:
            self._committed = COMPACTED - 1  # damaged: everything may be part of the state
        intent = self._one(intent_key(self._space), decode_intent)
        if intent:
            begun, self._aborted = intent
            if begun > self._committed:
                self._aborted |= {begun}
        self._merges = self._one(compaction_key(self._space), decode_number) or 0
        self._has_commit = bool(self._committed)
        for key, value in self._walk.scan(*self._range(Kind.TOMBSTONE)):
            sequence = self._parse(key, record_sequence, key)
            if sequence is None or self._parse(key, _tombstone, key, value) is None:
                continue
            if sequence > self._committed:
                self._fault(FaultKind.RECORD, key, "its sequence is above the last committed one")
        drops = [
            self._parse(key, decode_drop, value)
            for key, value in self._walk.scan(*self._range(Kind.DROP))
        ]
        self._dropped = DroppedSeries(drop for drop in drops if drop is not None)
        for key, value in self._walk.scan(*self._range(Kind.TTL)):
            rule = self._parse(key, decode_rule, value)
            if rule is not None and not record_sequence(key) < rule[0]:
                self._fault(FaultKind.RECORD, key, f"a range that ends at {rule[0]}")

    def _one(self, key: bytes, parse: Callable[[bytes], _T]) -> _T | None:
        value = self._walk.get(key)
        self._report.records += value is not None
        return None if value is None else self._parse(key, parse, value)

    def _parse(self, key: bytes, parse: Callable[..., _T], *values: bytes) -> _T | None:
        try:
            return parse(*values)
        except (ValueError, ArithmeticError) as error:
            self._fault(FaultKind.RECORD, key, error)
            return None

    def _check_kinds(self) -> None:
        """Look for keys of a kind that does not exist, without reading what is between."""
        lo, hi = region_range(self._space)
        known = {int(kind) for kind in Kind}
        while (key := self._walk.first_key(lo, hi)) is not None:
            number = key[2] if len(key) > 2 else 0
            if number not in known:
                self._fault(FaultKind.RECORD, key, "no such kind of record exists")
            lo = prefix_end(key[:3])
        for _ in self._walk.scan(*self._range(Kind.KEY_VALUE)):
            pass  # the caller's own: what can be read is what was written

    # Chunks

    def _parts(self, key: bytes) -> ChunkKey | None:
        """Take a key apart; None for what is not part of the state."""
        if len(key) != CHUNK_KEY_BYTES:
            self._fault(FaultKind.RECORD, key, f"a key of {len(key)} bytes")
            return None
        parts = split_chunk_key(key)
        if parts.sequence >= COMPACTED:
            self._highest_merge = max(self._highest_merge, parts.sequence - COMPACTED)
        if not is_visible(parts.sequence, self._committed, self._aborted):
            self._report.remains += 1
            self._unexplained |= parts.sequence not in self._aborted
            return None
        return parts

    def _check_chunk(self, key: bytes, parts: ChunkKey, record: bytes) -> Chunk | None:
        self._report.chunks += 1
        try:
            chunk = unpack_chunk(record)
        except ValueError as error:
            self._fault(FaultKind.CHUNK, key, error)
            return None
        span = (parts.first_time, chunk.last)
        times_key = chunk_key(
            region=self._space,
            kind=Kind.TIMES,
            slot=parts.slot,
            series_id=chunk.owner,
            first_time=chunk.times_first,
            sequence=parts.sequence,
        )
        self._named.add(times_key)
        times = self._times(times_key)
        body = (
            chunk.inline if chunk.inline is not None else self._walk.get(with_kind(key, Kind.DATA))
        )
        problem = self._problem_of(parts, chunk, times, body)
        if problem or body is None or times.head is None:
            self._fault(FaultKind.CHUNK, key, problem, span=span)
            return chunk
        for number in np.flatnonzero(chunk.pages["count"]).tolist():
            entry = chunk.pages[number]
            self._report.pages += 1
            self._report.points += int(entry["count"])
            try:
                self._check_page(chunk, number, body, times_key, times)
            except _Bad as bad:
                low, high = int(entry["low"]), int(entry["high"])
                self._fault(bad.kind, key, bad, page=number, span=(low, high))
        return chunk

    def _problem_of(self, parts: ChunkKey, chunk: Chunk, times: _Times, body: bytes | None) -> str:
        """Return what is wrong with a chunk as a whole, or ""."""
        pages = chunk.pages
        filled = np.flatnonzero(pages["count"])
        sizes = pages["size"].astype(np.int64)
        if times.head is None:
            return f"its times: {times.problem}"
        if body is None:
            return "its pages are missing"
        if not len(filled):
            return "it has no values"
        if (pages["count"] > pages["rows"]).any():
            return "a page has more values than rows"
        if (
            int(sizes.sum()) != len(body)
            or (np.cumsum(sizes) - sizes != pages["offset"])[filled].any()
        ):
            return f"its pages do not fill their {len(body)} bytes"
        if int(pages["low"][filled[0]]) != parts.first_time:
            return f"its first value is at {int(pages['low'][filled[0]])}"
        if int(pages["high"][filled[-1]]) != chunk.last:
            return f"its last value is at {int(pages['high'][filled[-1]])}, not at {chunk.last}"
        if parts.series_id not in times.head.members:
            return "its times do not name its series"
        if not np.array_equal(times.head.pages["rows"], pages["rows"]):
            return "its pages and those of its times have different rows"
        if chunk.order != times.head.order:
            return f"order {chunk.order}, and {times.head.order} of its times"
        if parts.sequence >= COMPACTED and chunk.order > self._committed:
            return f"order {chunk.order}, above the last committed sequence {self._committed}"
        return ""

    def _times(self, key: bytes) -> _Times:
        found: _Times | None = self._cache.get(key)
        if found is None:
            record = self._walk.get(key)
            try:
                head = None if record is None else unpack_times(record)
                found = _Times(record or b"", head, "none, or they cannot be read")
            except ValueError as error:
                found = _Times(record or b"", None, str(error))
            self._cache.put(key, found, len(found.record) + 1000)
        return found

    def _time_page(self, key: bytes, times: _Times, number: int) -> npt.NDArray[np.int64]:
        assert times.head is not None
        cache_key = (key, number)
        found: npt.NDArray[np.int64] | None = self._cache.get(cache_key)
        if found is None:
            found = unpack_times_page(times.record, times.head, number)
            self._cache.put(cache_key, found, found.nbytes + 200)
        return found

    def _check_page(
        self, chunk: Chunk, number: int, body: bytes, times_key: bytes, times: _Times
    ) -> None:
        entry = chunk.pages[number]
        try:
            rows = self._time_page(times_key, times, number)
        except ValueError as error:
            raise _Bad(FaultKind.PAGE, f"its times: {error}") from error
        try:
            values, valid = unpack_page(chunk.kind, entry, body)
        except ValueError as error:
            raise _Bad(FaultKind.PAGE, str(error)) from error
        if len(values) != len(rows):
            raise _Bad(FaultKind.PAGE, f"{len(values)} values at {len(rows)} times")
        if valid is not None:
            rows, values = rows[valid], values[valid]
        problem = check_statistics(chunk.kind, entry, rows, values)
        if problem:
            raise _Bad(FaultKind.STATISTICS, problem)

    # Times and data

    def _check_times(self) -> None:
        for key, record in self._walk.scan(*self._range(Kind.TIMES)):
            parts = self._parts(key)
            if parts is None:
                continue
            try:
                head = unpack_times(record)
            except ValueError as error:
                self._fault(FaultKind.TIMES, key, error)
                continue
            if key not in self._named:
                self._report.remains += 1
            self._check_time_pages(key, parts, record, head)

    def _check_time_pages(
        self, key: bytes, parts: ChunkKey, record: bytes, head: TimesHead
    ) -> None:
        pages = head.pages
        sizes = pages["size"].astype(np.int64)
        ends = (int(pages["low"][0]), int(pages["high"][-1])) if len(pages) else None
        if ends != (parts.first_time, head.last):
            self._fault(FaultKind.TIMES, key, f"its pages reach over {ends}")
            return
        if int(sizes.sum()) != len(record) - head.body_at:
            self._fault(FaultKind.TIMES, key, "its pages do not fill it")
            return
        if (pages["low"][1:] <= pages["high"][:-1]).any():
            self._fault(FaultKind.TIMES, key, "its pages overlap")
            return
        for number, page in enumerate(pages):
            span = (int(page["low"]), int(page["high"]))
            try:
                times = self._time_page(key, _Times(record, head, ""), number)
            except ValueError as error:
                self._fault(FaultKind.TIMES_PAGE, key, error, page=number, span=span)
                continue
            if (int(times[0]), int(times[-1])) != span or (times[1:] <= times[:-1]).any():
                problem = "its times are not in order, or not within what it says of itself"
                self._fault(FaultKind.TIMES_PAGE, key, problem, page=number, span=span)

    def _check_data(self) -> None:
        """Count DATA records without a chunk: merges that were cut off leave them."""
        lo, hi = self._range(Kind.DATA)
        while (key := self._walk.first_key(lo, hi)) is not None:
            lo = key + b"\0"
            self._report.records += 1
            if self._parts(key) is None:
                continue
            record = self._walk.get(with_kind(key, Kind.CHUNK))
            self._report.remains += record is None


def _tombstone(key: bytes, value: bytes) -> object:
    return decode_tombstone(record_sequence(key), value)
