"""Ships this leader's state to followers that need entries which its log has no more.

One thread and one connection per (group, follower) that is being sent a snapshot, so neither log
entries nor heartbeats wait for it; a node has few of them at a time (`snapshot_turns`). How the
pieces travel is in `shipment`. What could not be
delivered is kept for a while: the next order of the core goes on with the same state, if the log
still continues it.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Protocol

from cluster.member.shipment import Export, Shipment, SnapshotOptions, Transfer
from cluster.member.snapshot_turns import SnapshotTurns
from cluster.raft.effects import SendSnapshot
from cluster.raft.events import Event, SnapshotFailed, SnapshotSent
from cluster.raft.types import GroupId, LogIndex, NodeId, SnapshotMeta
from cluster.rpc.client_pool import RpcChannel, RpcError
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine
from iotdb_engine.errors import EngineError

logger = logging.getLogger(__name__)

_KEEP_S = 60.0
_TAIL_BYTES = 4 << 20
"""So much of the newest a follower gets from the log: a flush takes longer, and disturbs more."""


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
        turns: SnapshotTurns,
    ) -> None:
        self._member = member
        self._turns = turns
        self._node_id = node_id
        self._engine = engine
        self._threads = threads
        self._make_channel = make_channel
        self._options = options
        self._lock = threading.Lock()
        self._running: dict[NodeId, Transfer] = {}
        self._kept: dict[NodeId, tuple[float, Export]] = {}

    def order(self, order: SendSnapshot) -> None:
        """Begin a transfer, now or when it is its turn; its end is told to the core."""
        transfer = Transfer(order, self._make_channel(order.to))
        with self._lock:
            old = self._running.get(order.to)
            self._running[order.to] = transfer
        if old is not None:
            old.stop()
        self._turns.ask(order.to, lambda: self._begin(transfer))

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
        self._turns.look()

    def _begin(self, transfer: Transfer) -> bool:
        if transfer.stopped.is_set():
            return False
        name = f"snapshot-{self._member.name}-{transfer.order.to}"
        self._threads.spawn(name, lambda: self._run(transfer))
        return True

    # ---- the thread ----

    def _run(self, transfer: Transfer) -> None:
        try:
            self._send(transfer)
        finally:
            self._turns.end(transfer.order.to)

    def _send(self, transfer: Transfer) -> None:
        order = transfer.order
        export = None
        index: int | None = None
        try:
            export = self._export(transfer)
            if export is not None:
                index = Shipment(
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

    def _export(self, transfer: Transfer) -> Export | None:
        order = transfer.order
        with self._lock:
            kept = self._kept.pop(order.to, None)
        if kept is not None:
            export = kept[1]
            still = self._member.meta_of(export.meta.index) == export.meta
            if still and export.meta.index >= order.min_index:
                return export._replace(is_new=False)
            export.records.close()
        region = self._engine.region(self._member.group_id)
        is_stored = region.durable_index >= order.min_index
        records = self._engine.export(
            self._member.group_id,
            lambda: self._prepare(transfer),
            flush=not is_stored or region.unstored_bytes() > _TAIL_BYTES,
        )
        # the log may have been compacted beyond it while the region was flushed
        meta = self._member.meta_of(LogIndex(records.index))
        if meta is None or meta.index < order.min_index:
            records.close()
            return None
        source = f"{self._node_id}/{order.term}/{meta.index}/{secrets.token_hex(8)}"
        return Export(source, meta, records, is_new=True)

    def _prepare(self, transfer: Transfer) -> None:
        try:
            transfer.prepare(self._options)
        except RpcError as error:
            logger.debug("group %d: snapshot: %s", self._member.group_id, error)

    def _finish(self, transfer: Transfer, export: Export | None, *, delivered: bool) -> None:
        with self._lock:
            if self._running.get(transfer.order.to) is transfer:
                del self._running[transfer.order.to]
            keep = export is not None and not delivered and not transfer.stopped.is_set()
            if keep and export is not None:
                self._kept[transfer.order.to] = (time.monotonic(), export)
        if export is not None and not keep:
            export.records.close()
