"""Repairing: a store that can be opened and is intact again, and what it cost.

Where a file is damaged, RocksDB cannot be made to pass over the spot for good: everything that can
be read is copied into a new store beside, which takes the old one's place at the end; the old one
stays, under another name. (A store that RocksDB cannot even open is first given a new MANIFEST, in
a copy.) Then the records are walked as `verify` does, and what is broken is taken out: pages where
only pages are, chunks otherwise. What is taken out is kept in a file beside the store.

A crash in between leaves either the old store or the new one, and perhaps remains that carry the
words "repair" or "damaged" in their names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from iotdb_engine.compaction import encode_number
from iotdb_engine.errors import EngineError, OutOfSpace
from iotdb_engine.flush import BatchWriter, decode_intent, encode_commit, encode_intent
from iotdb_engine.key_format import (
    COMPACTED,
    Kind,
    chunk_key,
    commit_key,
    describe_key,
    intent_key,
    kind_prefix,
    prefix_end,
    record_sequence,
    region_of,
    split_chunk_key,
    with_kind,
)
from iotdb_engine.page import rebuild_chunk, unpack_chunk
from iotdb_engine.rocks_files import CONFIG
from iotdb_engine.snapshot import live_spaces
from iotdb_engine.store import Batch, FolderLock, RocksStore, Store, repair_store
from iotdb_engine.times_record import rebuild_times, unpack_times
from iotdb_engine.verify import Records, note_files, note_log, verify_store
from iotdb_engine.verify_report import Fault, FaultKind, Report
from iotdb_engine.wal import WAL_FOLDER, read_log, write_segment

_BATCH_BYTES = 1 << 20
_ROUNDS = 8
_END = b"\xff" * 64
_STATE = (Kind.COMMIT, Kind.INTENT, Kind.COMPACTION)


class Repair:
    """What a repair found and did.

    Attributes:
        found: faults before.
        lost: what is gone for good, in words; empty if nothing is.
        aside: where the old store, and records that were taken out, are kept.
        left: faults that are still there; none, but for what nobody foresaw.
    """

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self.lost: list[str] = []
        self.aside: list[str] = []
        self.left: list[Fault] = []

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "found": [fault.to_json() for fault in self.found],
            "lost": self.lost,
            "set_aside": self.aside,
            "left": [fault.to_json() for fault in self.left],
        }

    def lines(self) -> list[str]:
        """Return it as text."""
        if not self.found:
            return ["intact: nothing was changed"]
        lines = [f"{len(self.found)} faults found", *map(str, self.found), ""]
        lines += [f"{len(self.lost)} losses", *self.lost, ""]
        lines += ["set aside: " + place for place in self.aside]
        lines += [f"not repaired: {fault}" for fault in self.left]
        return lines


def repair(path: str | Path) -> Repair:
    """Repair a store that nobody has open.

    Raises:
        Locked: somebody has it open.
        OutOfSpace: a copy of the store is needed, and there is no room for it; nothing was changed.
        EngineError: there is no store, or no table file of it can be read.
    """
    folder = Path(path).resolve()
    done = Repair()
    lock = FolderLock(folder)
    try:
        files = Report()
        note_files(folder, files)
        done.found += files.faults
        _mend_log(folder, done)
        # the configuration is written anew when the store is opened
        if any(fault.damage is None or fault.damage.file != CONFIG for fault in files.faults):
            fresh = _copy_readable(folder, files, done)
            _take_the_place(folder, fresh, done)
    finally:
        lock.release()
    store = RocksStore(folder)
    try:
        _mend_records(folder, store, done)
    finally:
        store.close()
    return done


# ---- files ----


def _copy_readable(folder: Path, files: Report, done: Repair) -> Path:
    """Copy what can be read into a new store, and return its folder."""
    size = sum(entry.stat().st_size for entry in folder.iterdir() if entry.is_file())
    if shutil.disk_usage(folder.parent).free < size:
        raise OutOfSpace(f"repairing {folder} takes {size} bytes more on its disk for a copy")
    fresh = _beside(folder, "repair")
    source = folder
    try:
        reading = RocksStore(folder, read_only=True)
    except EngineError:
        source = _reopenable(folder, done)
        reading = RocksStore(source, read_only=True)
        files = Report()
        note_files(source, files)
    try:
        writing = RocksStore(fresh)
        try:
            _copy(reading, writing, files)
        finally:
            writing.close()
        for fault in files.faults:
            if fault.kind is FaultKind.UNREADABLE:
                done.found.append(fault)
                done.lost.append(
                    f"records from [{describe_key(fault.key)}] to [{describe_key(fault.high)}]"
                )
    finally:
        reading.close()
    if source != folder:
        shutil.rmtree(source)
    if (folder / WAL_FOLDER).is_dir():
        shutil.copytree(folder / WAL_FOLDER, fresh / WAL_FOLDER)
    return fresh


def _copy(source: Store, target: Store, files: Report) -> None:
    writer = BatchWriter(target, _BATCH_BYTES)
    walk = Records(source.view(), files)
    try:
        for key, value in walk.scan(b"", _END):
            writer.put(key, value)
    finally:
        walk.release()
    writer.finish()
    target.flush()


def _reopenable(folder: Path, done: Repair) -> Path:
    """Copy the store, and make a new MANIFEST for the table files that can be opened."""
    copy = _beside(folder, "repair-source")
    shutil.copytree(folder, copy)
    before = {path.name for path in copy.glob("*.sst")}
    repair_store(copy)
    after = {path.name for path in copy.glob("*.sst")}
    done.lost += [
        f"the whole file {name} ({(folder / name).stat().st_size} bytes): it cannot be opened"
        for name in sorted(before - after)
    ]
    return copy


def _take_the_place(folder: Path, fresh: Path, done: Repair) -> None:
    aside = _beside(folder, "damaged")
    folder.rename(aside)
    fresh.rename(folder)
    fd = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    done.aside.append(str(aside))


def _mend_log(folder: Path, done: Repair) -> None:
    """Keep the sound records of the write-ahead log; those behind a gap are applied all the same.

    Leaving them out too would lose more, and each says by itself what it does.
    """
    log = Report()
    note_log(folder, log)
    if not log.faults:
        return
    done.found += log.faults
    aside = _beside(folder, "damaged-log")
    shutil.copytree(folder / WAL_FOLDER, aside)
    done.aside.append(str(aside))
    for path, contents in read_log(folder / WAL_FOLDER):
        if contents.lost:
            write_segment(path, contents.records)
            done.lost += [
                f"{path.name}: steps in bytes {at} to {end - 1} of the write-ahead log"
                for at, end in contents.lost
            ]


def _beside(folder: Path, word: str) -> Path:
    """Return a path beside the store that does not exist."""
    number = 1
    while (path := folder.with_name(f"{folder.name}.{word}-{number}")).exists():
        number += 1
    return path


# ---- records ----


def _mend_records(folder: Path, store: Store, done: Repair) -> None:
    """Take out what is broken until nothing is; taking a chunk out may show more."""
    kept: list[dict[str, str]] = []
    faults: list[Fault] = []
    for _ in range(_ROUNDS):
        report = Report()
        verify_store(store, report)
        faults = report.faults + _lost_commits(store, done)
        if not faults:
            break
        done.found += faults
        by_record = _by_record(faults)
        # What is visible depends on these, so they come first.
        state = {key: found for key, found in by_record.items() if _is_state(key)}
        for key, found in (state or by_record).items():
            _Mending(store, kept, done).mend(key, found)
        store.flush()
    done.left = faults
    if kept:
        path = _beside(folder, "damaged-records").with_suffix(".jsonl")
        path.write_text("".join(json.dumps(record) + "\n" for record in kept))
        done.aside.append(str(path))


def _lost_commits(store: Store, done: Repair) -> list[Fault]:
    """Return a fault for each region whose COMMIT was among the records that cannot be read."""
    view = store.view()
    try:
        missing = [commit_key(space) for space in live_spaces(view)]
        missing = [key for key in missing if view.get(key) is None]
    finally:
        view.release()
    return [
        Fault(FaultKind.RECORD, "it cannot be read", key)
        for key in missing
        if any(hole.key <= key <= hole.high for hole in done.found)
    ]


def _is_state(key: bytes) -> bool:
    return len(key) > 2 and key[2] in _STATE


def _by_record(faults: Iterable[Fault]) -> dict[bytes, list[Fault]]:
    found: dict[bytes, list[Fault]] = {}
    for fault in faults:
        found.setdefault(fault.key, []).append(fault)
    return found


class _Mending:
    """Mends one record after the other. Each mending is one batch."""

    def __init__(self, store: Store, kept: list[dict[str, str]], done: Repair) -> None:
        self._store = store
        self._kept = kept
        self._done = done
        self._batch = Batch()

    def mend(self, key: bytes, faults: list[Fault]) -> None:
        kinds = {fault.kind for fault in faults}
        if _is_state(key):
            self._renew_state(key)
        elif kinds <= {FaultKind.PAGE, FaultKind.STATISTICS}:
            self._without_pages(key, faults)
        elif kinds == {FaultKind.TIMES_PAGE}:
            self._with_made_up_times(key, faults)
        elif kinds & {FaultKind.CHUNK, FaultKind.PAGE, FaultKind.OVERLAP}:
            self._lose(str(faults[0]))
            self._take_out(key)
            self._take_out(with_kind(key, Kind.DATA))
        else:
            self._lose(str(faults[0]))
            self._take_out(key)
        self._store.write(self._batch)

    def _lose(self, what: str) -> None:
        self._done.lost.append(what)

    def _keep(self, key: bytes) -> bytes | None:
        value = self._store.get(key)
        if value is not None:
            record = {"record": describe_key(key), "key": key.hex(), "value": value.hex()}
            self._kept.append(record)
        return value

    def _take_out(self, key: bytes) -> None:
        if self._keep(key) is not None:
            self._batch.delete(key)

    def _without_pages(self, key: bytes, faults: list[Fault]) -> None:
        """Write the chunk again without some of its pages."""
        record = self._keep(key) or b""
        chunk = unpack_chunk(record)
        data_key = with_kind(key, Kind.DATA)
        body = chunk.inline if chunk.inline is not None else self._keep(data_key) or b""
        for fault in faults:
            self._lose(str(fault))
        self._batch.delete(key)
        self._batch.delete(data_key)
        column = rebuild_chunk(
            chunk, body, {fault.page for fault in faults if fault.page is not None}
        )
        if column is None:
            return
        first_time, new_record, data = column
        parts = split_chunk_key(key)
        new_key = chunk_key(**parts._replace(first_time=first_time)._asdict())
        self._batch.put(new_key, new_record)
        if data is not None:
            self._batch.put(with_kind(new_key, Kind.DATA), data)

    def _with_made_up_times(self, key: bytes, faults: list[Fault]) -> None:
        """Put any times in the place of pages that no chunk has values at any more.

        The pages themselves have to stay, since page i of a chunk belongs to page i of its times.
        """
        record = self._keep(key) or b""
        pages = {fault.page for fault in faults if fault.page is not None}
        self._batch.put(key, rebuild_times(record, unpack_times(record), pages))

    def _renew_state(self, key: bytes) -> None:
        """Work out what COMMIT, INTENT and COMPACTION must at least say."""
        space = region_of(key)
        kind = Kind(key[2])
        self._keep(key)
        flushed, merged = self._highest(space)
        if kind is Kind.COMPACTION:
            self._batch.put(key, encode_number(merged))
        elif kind is Kind.INTENT:
            self._lose(f"region {space}: which flushes were never finished; points may be back")
            self._batch.put(key, encode_intent(flushed, ()))
        else:
            self._lose(
                f"region {space}: up to which index it is applied; it says 0 now, and all that the "
                "log in front of it still has will be applied again"
            )
            self._batch.put(commit_key(space), encode_commit(flushed, 0))
            if not self._has_sound_intent(space):
                self._batch.put(intent_key(space), encode_intent(flushed, ()))

    def _has_sound_intent(self, space: int) -> bool:
        data = self._store.get(intent_key(space))
        try:
            return data is not None and bool(decode_intent(data))
        except ValueError:
            return False

    def _highest(self, space: int) -> tuple[int, int]:
        """Return the highest sequence of a flush, and the highest number of a merge, in records."""
        flushed = merged = 0
        view = self._store.view()
        try:
            for kind in (Kind.TOMBSTONE, Kind.DROP):
                for key, _ in view.scan(
                    kind_prefix(space, kind), prefix_end(kind_prefix(space, kind))
                ):
                    flushed = max(flushed, record_sequence(key))
            for kind in (Kind.CHUNK, Kind.TIMES):
                prefix = kind_prefix(space, kind)
                for key, record in view.scan(prefix, prefix_end(prefix)):
                    sequence = split_chunk_key(key).sequence
                    if sequence < COMPACTED:
                        flushed = max(flushed, sequence)
                        continue
                    merged = max(merged, sequence - COMPACTED)
                    flushed = max(flushed, _order_of(kind, record))
        finally:
            view.release()
        return flushed, merged


def _order_of(kind: Kind, record: bytes) -> int:
    try:
        return (unpack_times if kind is Kind.TIMES else unpack_chunk)(record).order
    except ValueError:
        return 0
