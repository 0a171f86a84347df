"""The product's state machine over the real engine in memory, for the simulator.

Entries carry real plans under real request ids; `DataMachine` applies them to an engine region,
snapshots are that region's records, taken over by `begin_import` … `finish_import`, and a crash
keeps any prefix of the batches that the engine had not made durable. Everything runs in the
simulation's thread, or is waited for by it, so a seed replays exactly.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from cluster.member.data_machine import DataMachine
from cluster.member.snapshot_receiver import decode_origin, encode_origin
from cluster.plan.codec import encode_plan
from cluster.plan.plans import DeleteDataPlan, InsertPlan
from cluster.plan.request_id import RequestId
from cluster.raft.types import Entry, EntryKind, LogIndex, SnapshotMeta, Term
from cluster.rpc.convert_snapshot import pack_records, unpack_records
from harness.sim.machine import Request
from harness.sim.states import PIECES
from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions, Fragment, Layout
from iotdb_engine.store import MemoryStore

KEYS = range(3)
APPLIED = -1
"""As a key: how many requests were applied."""
GROUP = 1
OPTIONS = EngineOptions(
    page_points=8, chunk_points=16, batch_bytes=300, transfer_file_bytes=400, compaction=False
)
_HISTORY = b"history"
_TIMES_OF_A_CLIENT = 100_000
_ERASE_EVERY = 4
_TORN_SAVES = 0.1


def _number(key: int) -> int:
    return 1 + key


def _text(key: int) -> int:
    return 101 + key


def _time(client: int, seq: int) -> int:
    return client * _TIMES_OF_A_CLIENT + seq


class EngineKind:
    """Points: a write adds one of its own; each fourth erases its client's in that key."""

    def __init__(self) -> None:
        self._requests: dict[bytes, Request] = {}

    def encode(self, request: Request) -> bytes:
        client, seq, key, size = request
        if seq % _ERASE_EVERY:
            layout = Layout((_number(key), _text(key)), (DataType.INT64, DataType.TEXT))
            value = struct.pack(">qi", seq, size) + b"." * size
            time = struct.pack(">q", _time(client, seq))
            plan: Any = InsertPlan((Fragment(0, layout, 1, time, value, b""),))
        else:
            span = _time(client, 0), _time(client, seq)
            plan = DeleteDataPlan((_number(key), _text(key)), *span)
        data = RequestId(client + 1, seq, seq).encode() + bytes(encode_plan(plan))
        self._requests[data] = request
        return data

    def decode(self, data: bytes) -> Request:
        return self._requests[data]

    def reference(self) -> Points:
        return Points()

    def states(self, base: SnapshotMeta, chance: Callable[[], float]) -> EngineStates:
        return EngineStates(base, chance)


class Points:
    """The model: key → time → value."""

    def __init__(self) -> None:
        self._points: dict[int, dict[int, int]] = {key: {} for key in KEYS}
        self._applied = 0

    def apply(self, request: Request) -> dict[int, int]:
        self._applied += 1
        client, seq, key, _ = request
        points = self._points[key]
        if seq % _ERASE_EVERY:
            points[_time(client, seq)] = seq
        else:
            for time in [t for t in points if t // _TIMES_OF_A_CLIENT == client]:
                del points[time]
        return {key: len(points), APPLIED: self._applied}

    def check(self, machine: EngineMachine) -> str:
        for key, points in self._points.items():
            found = machine.points(key)
            if found != points:
                return f"key {key} has {found}, not {points}"
        return machine.damage()


class CountingMachine(DataMachine):
    """Counts what it applies, since points that are written twice show nothing."""

    count = 0

    def _apply(self, plan: Any, index: LogIndex) -> Any:
        self.count += 1
        return super()._apply(plan, index)


class EngineMachine:
    """One replica's region, as the simulator's node wants it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.group = CountingMachine(engine.region(GROUP))
        self.state = self
        self.load()

    def load(self) -> None:
        """Take the history's end from the region: it must fit the rest."""
        data = self.group.region.get(_HISTORY)
        words = map(int, data.split()) if data else (0, 0, 0, 0)
        self.term, self.digest, self._at, self.group.count = words
        assert self._at == self.index, f"history at {self._at}, state at {self.index}"

    @property
    def index(self) -> int:
        return self.group.applied_index

    def apply(self, entry: Entry) -> None:
        assert entry.index == self.index + 1
        if entry.kind == EntryKind.PLAN:
            self.group.apply(entry)
        else:
            self.group.skip(entry.index)
        self.term = entry.term
        self.digest = zlib.crc32(
            b"%d %d %d " % (entry.index, entry.term, entry.kind) + entry.data, self.digest
        )
        line = b"%d %d %d %d" % (self.term, self.digest, entry.index, self.group.count)
        self.group.region.put({_HISTORY: line}, entry.index)

    def points(self, key: int) -> dict[int, int]:
        """Return time → value of a key; each must have its text, too."""
        series = [(_number(key), DataType.INT64), (_text(key), DataType.TEXT)]
        found: dict[int, int] = {}
        for batch in self.group.region.read(series, T_MIN, T_MAX):
            assert all(column.valid is None for column in batch.columns)
            found.update(zip(batch.times.tolist(), batch.columns[0].values.tolist(), strict=True))
        return found

    def damage(self) -> str:
        """Return what the engine's own check finds wrong."""
        return "; ".join(str(fault) for fault in self._engine.verify().faults)

    # as a dictionary of values by key

    def get(self, key: int, default: int = 0) -> int:
        if key == APPLIED:
            return self.group.count
        return sum(
            len(batch.times)
            for batch in self.group.region.read([(_number(key), DataType.INT64)], T_MIN, T_MAX)
        )

    def __iter__(self) -> Iterator[int]:
        return iter((APPLIED, *KEYS))


class StoreInMemory(MemoryStore):
    """A memory store that can lose power in the middle of a flush."""

    is_dying = False

    def flush(self) -> None:
        if not self.is_dying:
            super().flush()


class EngineStates:
    """One disk's engine; see StubStates."""

    def __init__(self, base: SnapshotMeta, chance: Callable[[], float]) -> None:
        self.meta = base
        self.may_be_taken_over = False
        self._founding = base
        self._chance = chance
        self._store = StoreInMemory()
        self._engine: Engine | None = None
        self._machine: EngineMachine | None = None

    def boot(self) -> EngineMachine:
        self._engine = Engine("", OPTIONS, store=self._store)
        self._machine = machine = EngineMachine(self._engine)
        # as the product does at a start: a state that was taken over says what it covers
        origin = decode_origin(machine.group.region.origin)
        self.may_be_taken_over = origin is not None and origin.index == machine.index
        if origin is not None and self.may_be_taken_over:
            self.meta = origin
        else:
            membership = self._founding.membership  # of no use: the log has the entry
            self.meta = SnapshotMeta(LogIndex(machine.index), Term(machine.term), membership)
        return machine

    def save(self, machine: EngineMachine, meta: SnapshotMeta, *, may_fail: bool) -> bool:
        self._store.is_dying = may_fail and self._chance() < _TORN_SAVES
        machine.group.region.flush()
        if self._store.is_dying:
            return False
        self.meta = meta
        return True

    def crash(self) -> None:
        if self._engine is None:
            return
        self._engine.close(flush=False)
        survivor = self._store.crash(int(self._chance() * (self._store.unsynced_count() + 1)))
        self._store = StoreInMemory()
        vars(self._store).update(vars(survivor))
        self._engine = self._machine = None

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close(flush=False)
            self._engine = None

    def pieces(self, machine: EngineMachine, meta: SnapshotMeta) -> tuple[str, list[bytes]]:
        assert self._engine is not None
        export = self._engine.export(GROUP)
        try:
            assert export.index == meta.index
            records = export.piece(b"", 1 << 30)
            sequence = export.sequence
        finally:
            export.close()
        self.meta = meta  # the flush made it durable
        share = len(records) // PIECES + 1
        pieces = [
            b"".join(pack_records(records[i * share : (i + 1) * share])) for i in range(PIECES)
        ]
        # replicas have the same points, not the same records
        source = f"{self._chance()}"
        return source, [sequence.to_bytes(8, "big") + piece for piece in pieces]

    def stage(self, pieces: list[bytes], last: Any) -> Any:
        assert self._engine is not None
        transfer = self._engine.begin_import(GROUP, last.source)
        for piece in pieces:
            records = unpack_records(piece[8:])
            transfer.write([item for item in records if item[0] > transfer.progress.last_key])
        return transfer, int.from_bytes(pieces[0][:8], "big")

    def install(self, staged: Any, meta: SnapshotMeta) -> EngineMachine:
        transfer, sequence = staged
        assert self._engine is not None
        assert self._machine is not None
        region = self._engine.finish_import(
            transfer, index=meta.index, sequence=sequence, origin=encode_origin(meta)
        )
        self._machine.group.adopt(region)
        self._machine.load()
        self.meta = meta
        return self._machine

    def drop(self, staged: Any) -> None:
        assert self._engine is not None
        self._engine.cancel_import(staged[0])
