"""Ships this leader's state to followers that need entries which its log has no more.

One thread and one connection per (group, follower) that is being sent a snapshot, so neither log
entries nor heartbeats wait for it. Memory is that of one piece. A piece that is lost or damaged on
the way is sent again; a follower that restarts says how far it got. What could not be delivered
is kept for a while: the next order of the core goes on with the same state, if the log still
continues it.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from cluster.raft.effects import SendSnapshot
from cluster.raft.events import Event, SnapshotFailed, SnapshotSent
from cluster.raft.types import GroupId, LogIndex, NodeId, SnapshotMeta
from cluster.rpc.client_pool import RpcChannel, RpcError
from cluster.rpc.convert_snapshot import (
    SnapshotEnd,
    SnapshotPart,
    SnapshotReply,
    SnapshotVerdict,
    pack_records,
    part_to_wire,
    reply_from_wire,
)
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine
from iotdb_engine.errors import EngineError
from iotdb_engine.snapshot import Progress, RegionExport

logger = logging.getLogger(__name__)

_KEEP_S = 60.0
_TRIES_IN_A_ROW = 8
_WHOLE_TRIES = 3
_RETRY_S = 0.25
_INSTALL_TIMEOUT_S = 120.0


class SnapshotOptions(NamedTuple):
    """How snapshots travel.

    Attributes:
        piece_bytes: records in one call; also what each side holds in memory.
        rate_bytes_per_s: of one transfer; 0: as fast as it goes.
        call_timeout_s: for a piece.
    """

    piece_bytes: int = 512 << 10
    rate_bytes_per_s: int = 0
    call_timeout_s: float = 10.0


class _Export(NamedTuple):
    source: str
    meta: SnapshotMeta
    records: RegionExport


class Sending(Protocol):
    """What a sender needs of its member; thread-safe."""

    name: str
    group_id: GroupId

    def step(self, event: Event) -> None:
        """Step the core."""
        ...

    def meta_of(self, index: LogIndex) -> SnapshotMeta | None:
        """Return what a snapshot at `index` is; None when the log does not continue it."""
        ...


class SnapshotSenders:
    """The transfers of one member. `order`, `cancel` and `stop` return at once."""

    def __init__(
        self,
        *,
        member: Sending,
        node_id: NodeId,
        engine: Engine,
        threads: ThreadRegistry,
        make_channel: Callable[[NodeId], RpcChannel],
        options: SnapshotOptions,
    ) -> None:
        self._member = member
        self._node_id = node_id
        self._engine = engine
        self._threads = threads
        self._make_channel = make_channel
        self._options = options
        self._lock = threading.Lock()
        self._running: dict[NodeId, _Transfer] = {}
        self._kept: dict[NodeId, tuple[float, _Export]] = {}

    def order(self, order: SendSnapshot) -> None:
        """Begin a transfer; its end is told to the core."""
        transfer = _Transfer(order, self._make_channel(order.to))
        with self._lock:
            old = self._running.get(order.to)
            self._running[order.to] = transfer
        if old is not None:
            old.stop()
        self._threads.spawn(f"snapshot-{self._member.name}-{order.to}", lambda: self._run(transfer))

    def cancel(self, peer: NodeId) -> None:
        """Give a transfer up: nobody waits for it any more."""
        with self._lock:
            transfer = self._running.pop(peer, None)
        if transfer is not None:
            transfer.stop()

    def stop(self) -> None:
        """Give up everything."""
        with self._lock:
            transfers = list(self._running.values())
            self._running.clear()
            kept = [export for _, export in self._kept.values()]
            self._kept.clear()
        for transfer in transfers:
            transfer.stop()
        for export in kept:
            export.records.close()

    def expire(self) -> None:
        """Let go of states that nobody came back for; called now and then."""
        now = time.monotonic()
        with self._lock:
            old = [peer for peer, (at, _) in self._kept.items() if now - at > _KEEP_S]
            exports = [self._kept.pop(peer)[1] for peer in old]
        for export in exports:
            export.records.close()

    # ---- the thread ----

    def _run(self, transfer: _Transfer) -> None:
        order = transfer.order
        export = None
        index: int | None = None
        try:
            export = self._export(order)
            if export is not None:
                index = _Shipment(
                    transfer, export, self._member.group_id, self._node_id, self._options
                ).ship()
        except EngineError as error:
            logger.warning("group %d: snapshot not made: %s", self._member.group_id, error)
        finally:
            # whatever happened, the core is told: it sends nothing else to the follower meanwhile
            transfer.channel.close()
            self._finish(transfer, export, delivered=index is not None)
            if not transfer.stopped.is_set():
                self._member.step(
                    SnapshotFailed(order.to, order.term)
                    if index is None
                    else SnapshotSent(order.to, order.term, LogIndex(index))
                )

    def _export(self, order: SendSnapshot) -> _Export | None:
        with self._lock:
            kept = self._kept.pop(order.to, None)
        if kept is not None:
            export = kept[1]
            still = self._member.meta_of(export.meta.index) == export.meta
            if still and export.meta.index >= order.min_index:
                return export
            export.records.close()
        records = self._engine.export(self._member.group_id)
        # the log may have been compacted beyond it while the region was flushed
        meta = self._member.meta_of(LogIndex(records.index))
        if meta is None or meta.index < order.min_index:
            records.close()
            return None
        source = f"{self._node_id}/{order.term}/{meta.index}/{secrets.token_hex(8)}"
        return _Export(source, meta, records)

    def _finish(self, transfer: _Transfer, export: _Export | None, *, delivered: bool) -> None:
        with self._lock:
            if self._running.get(transfer.order.to) is transfer:
                del self._running[transfer.order.to]
            keep = export is not None and not delivered and not transfer.stopped.is_set()
            if keep and export is not None:
                self._kept[transfer.order.to] = (time.monotonic(), export)
        if export is not None and not keep:
            export.records.close()


class _Transfer:
    """An order under way; stopped from any thread."""

    def __init__(self, order: SendSnapshot, channel: RpcChannel) -> None:
        self.order = order
        self.channel = channel
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()
        self.channel.close()


class _Shipment:
    """Sends one state over one connection."""

    def __init__(
        self,
        transfer: _Transfer,
        export: _Export,
        group_id: GroupId,
        node_id: NodeId,
        options: SnapshotOptions,
    ) -> None:
        self._transfer = transfer
        self._export = export
        self._options = options
        self._part = SnapshotPart(
            group_id=group_id,
            frm=node_id,
            to=transfer.order.to,
            term=transfer.order.term,
            source=export.source,
            meta=export.meta,
            sequence=export.records.sequence,
        )
        self._failures = 0
        self._restarts = 0
        self._began = time.monotonic()
        self._sent_bytes = 0
        # what was read up to the piece before the last, and up to the last
        self._before = self._progress = Progress(export.source)

    def ship(self) -> int | None:
        """Return the index that the follower has now, or None when it was not delivered."""
        logger.info(
            "group %d: snapshot at %d goes to node %d",
            self._part.group_id,
            self._export.meta.index,
            self._part.to,
        )
        part: SnapshotPart | None = self._part
        while part is not None:
            reply = self._send(part)
            if reply is None:
                return None
            match reply.verdict:
                case SnapshotVerdict.INSTALLED | SnapshotVerdict.NOT_NEEDED:
                    logger.info(
                        "group %d: node %d: snapshot at %d %s after %.1f s, %d bytes sent",
                        self._part.group_id,
                        self._part.to,
                        self._export.meta.index,
                        reply.verdict.name.lower().replace("_", " "),
                        time.monotonic() - self._began,
                        self._sent_bytes,
                    )
                    return self._export.meta.index
                case SnapshotVerdict.STALE_TERM:
                    return None
                case SnapshotVerdict.GOING_ON:
                    if reply.last_key == self._progress.last_key:
                        self._failures = 0
                    part = self._next(reply.last_key)
                case SnapshotVerdict.DAMAGED | SnapshotVerdict.BUSY:
                    self._restarts += part.end is not None
                    going_on = self._restarts < _WHOLE_TRIES and self._may_retry(reply.message)
                    part = self._part if going_on else None
        return None

    def _next(self, after: bytes) -> SnapshotPart:
        """Return the piece behind a key, or the end."""
        read = self._read_up_to(after)
        records = self._export.records.piece(after, self._options.piece_bytes)
        if records:
            data = pack_records(records)
            self._before, self._progress = read, read.with_records(records)
            self._throttle(len(data))
            return self._part._replace(after_key=after, data=data)
        end = SnapshotEnd(read.records, read.total_bytes, read.crc)
        return self._part._replace(after_key=after, end=end)

    def _read_up_to(self, key: bytes) -> Progress:
        """Return what the state amounts to up to a key.

        That is known for the last two pieces. Where the follower goes on from elsewhere, because it
        has a part from an earlier connection or begins anew, that part is read again.
        """
        for known in (self._progress, self._before):
            if known.last_key == key:
                return known
        read = Progress(self._export.source)
        while read.last_key < key:
            records = self._export.records.piece(read.last_key, self._options.piece_bytes)
            records = [record for record in records if record[0] <= key]
            if not records:
                break
            read = read.with_records(records)
        return read

    def _send(self, part: SnapshotPart) -> SnapshotReply | None:
        """Call until there is an answer; None when there is none to be had."""
        timeout_s = self._options.call_timeout_s if part.end is None else _INSTALL_TIMEOUT_S
        while True:
            try:
                wire = self._transfer.channel.call(
                    "installSnapshot", part_to_wire(part), timeout_s=timeout_s
                )
                self._sent_bytes += len(part.data)
                return reply_from_wire(wire)
            except (RpcError, ValueError) as error:
                if not self._may_retry(str(error)):
                    return None
                if part.data:
                    # it may have arrived all the same: ask where to go on
                    part = self._part

    def _may_retry(self, message: str) -> bool:
        self._failures += 1
        logger.info(
            "group %d: snapshot to node %d: try %d: %s",
            self._part.group_id,
            self._part.to,
            self._failures,
            message,
        )
        if self._failures >= _TRIES_IN_A_ROW:
            return False
        return not self._transfer.stopped.wait(_RETRY_S * self._failures)

    def _throttle(self, size: int) -> None:
        rate = self._options.rate_bytes_per_s
        if rate:
            due = self._began + (self._sent_bytes + size) / rate
            self._transfer.stopped.wait(max(0.0, due - time.monotonic()))
