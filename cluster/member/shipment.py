"""One state on its way to one follower, in pieces over one connection.

Pieces are posted one after the other, `window` of them before the first is answered: so this side
reads the next ones while the other stores what came, and neither waits for the network. The last
one says that it is the last, and its answer that the state is installed. Any answer that is not the
expected one, and any lost call, ends that: answers under way are awaited, and it begins again with
an offer, whose answer says how far the follower is. A state that was never sent needs none.

Memory: one piece here, the unanswered ones in the connection's buffers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import NamedTuple

from cluster.member.pace import Pace
from cluster.raft.effects import SendSnapshot
from cluster.raft.types import GroupId, NodeId, SnapshotMeta
from cluster.rpc.client_pool import RpcChannel, RpcError
from cluster.rpc.convert_snapshot import (
    DATA_FIELD,
    SnapshotEnd,
    SnapshotPart,
    SnapshotReply,
    SnapshotVerdict,
    pack_records,
    part_to_wire,
    reply_from_wire,
)
from iotdb_engine.snapshot import Progress, RegionExport

logger = logging.getLogger(__name__)

_METHOD = "installSnapshot"
_TRIES_IN_A_ROW = 8
_WHOLE_TRIES = 3
_RETRY_S = 0.25
_FIRST_BYTES = 384 << 10
"""The first piece is small: the follower begins while the next one is read."""
_INSTALL_TIMEOUT_S = 120.0


class SnapshotOptions(NamedTuple):
    """How snapshots travel.

    Attributes:
        piece_bytes: records in one call; with its heading it is to fit in what a server receives at
            once.
        window: pieces that may be under way at a time.
        rate_bytes_per_s: of one transfer at most; 0: as fast as it goes beside the node's other
            work (`pace`).
        call_timeout_s: for a piece.
    """

    piece_bytes: int = (1 << 20) - (8 << 10)
    window: int = 4
    rate_bytes_per_s: int = 0
    call_timeout_s: float = 10.0


class Export(NamedTuple):
    """A state to be sent.

    Attributes:
        source: names it.
        meta: what it covers.
        is_new: the follower can't have a part of it.
    """

    source: str
    meta: SnapshotMeta
    records: RegionExport
    is_new: bool = False


class Transfer:
    """An order under way; stopped from any thread."""

    def __init__(self, order: SendSnapshot, channel: RpcChannel) -> None:
        self.order = order
        self.channel = channel
        self.stopped = threading.Event()
        self.ordered_at = time.monotonic()

    def prepare(self, options: SnapshotOptions) -> None:
        """Do what takes time before there is something to send: connect.

        Raises:
            RpcError: not connected; the first piece will find the same.
        """
        self.channel.connect(options.call_timeout_s)

    def stop(self) -> None:
        """Have the thread that ships end soon."""
        self.stopped.set()
        self.channel.close()


class _Part(NamedTuple):
    """What is to be posted: the request, and its data in parts."""

    head: SnapshotPart
    data: list[bytes]


class _Posted(NamedTuple):
    """A call under way; `last_key`: what the follower has after it, None for an offer."""

    last_key: bytes | None
    is_end: bool


class Shipment:
    """Sends one state; used by one thread."""

    def __init__(
        self,
        transfer: Transfer,
        export: Export,
        group_id: GroupId,
        node_id: NodeId,
        options: SnapshotOptions,
    ) -> None:
        self._transfer = transfer
        self._export = export
        self._options = options
        self._offer = SnapshotPart(
            group_id=group_id,
            frm=node_id,
            to=transfer.order.to,
            term=transfer.order.term,
            source=export.source,
            meta=export.meta,
            sequence=export.records.sequence,
        )
        self._failures = 0
        self._whole_failures = 0
        self._began = time.monotonic()
        self._sent_bytes = 0
        self._pace = Pace(options.rate_bytes_per_s)
        self._under_way: deque[_Posted] = deque()
        # where the next piece begins; None until the follower has said it
        self._at: Progress | None = Progress(export.source) if export.is_new else None
        self._ended = False
        self._known: deque[Progress] = deque([Progress(export.source)], options.window + 2)

    def ship(self) -> int | None:
        """Return the index that the follower has now, or None when it was not delivered."""
        logger.info(
            "group %d: snapshot at %d goes to node %d, %.3f s after it was ordered",
            self._offer.group_id,
            self._export.meta.index,
            self._offer.to,
            self._began - self._transfer.ordered_at,
        )
        while True:
            try:
                posted, reply = self._exchange()
            except (RpcError, ValueError) as error:
                # it may have arrived all the same: ask where to go on
                if not self._begin_again(str(error)):
                    return None
                continue
            match reply.verdict:
                case SnapshotVerdict.INSTALLED | SnapshotVerdict.NOT_NEEDED:
                    self._report(reply.verdict)
                    return self._export.meta.index
                case SnapshotVerdict.STALE_TERM:
                    return None
                case SnapshotVerdict.DAMAGED | SnapshotVerdict.BUSY:
                    self._whole_failures += posted.is_end and not reply.last_key
                    problem = reply.message
                case SnapshotVerdict.GOING_ON if posted.last_key is None:
                    self._at = self._read_up_to(reply.last_key)
                    continue
                case SnapshotVerdict.GOING_ON if not posted.is_end and posted.last_key == (
                    reply.last_key
                ):
                    self._failures = 0
                    continue
                case _:
                    problem = "it has another part of the state than was expected"
            if self._whole_failures >= _WHOLE_TRIES or not self._begin_again(problem):
                return None

    # ---- inside ----

    def _exchange(self) -> tuple[_Posted, SnapshotReply]:
        """Post what there is room for, and return the oldest call's answer."""
        while len(self._under_way) < self._options.window:
            part = self._next_part()
            if part is None:
                break
            self._transfer.channel.post(
                _METHOD,
                part_to_wire(part.head, part.data),
                timeout_s=self._options.call_timeout_s,
                tail=(DATA_FIELD, part.data) if part.data else None,
            )
            last_key = None if self._at is None else self._at.last_key
            self._under_way.append(_Posted(last_key, part.head.end is not None))
            if part.data:
                size = sum(map(len, part.data))
                self._sent_bytes += size
                rest_s = self._pace.rest_s(size)
                if rest_s > 0:
                    self._transfer.stopped.wait(rest_s)
                self._pace.rested()
        posted = self._under_way.popleft()
        return posted, self._answer(posted)

    def _answer(self, posted: _Posted) -> SnapshotReply:
        timeout_s = _INSTALL_TIMEOUT_S if posted.is_end else self._options.call_timeout_s
        return reply_from_wire(self._transfer.channel.answer(_METHOD, timeout_s=timeout_s))

    def _next_part(self) -> _Part | None:
        """Return what is to be posted next, an offer or a piece; None: first an answer."""
        if self._at is None:
            return None if self._under_way else _Part(self._offer, [])
        if self._ended:
            return None
        at = self._at
        size = self._options.piece_bytes
        if not at.records:
            size = min(size, _FIRST_BYTES)
        records = self._export.records.piece(at.last_key, size)
        self._at = reached = at.with_records(records)
        self._known.append(reached)
        end = None
        if self._export.records.is_at_end:
            self._ended = True
            end = SnapshotEnd(reached.records, reached.total_bytes, reached.crc)
        return _Part(self._offer._replace(after_key=at.last_key, end=end), pack_records(records))

    def _begin_again(self, problem: str) -> bool:
        """Prepare for another offer, after a while; False when it is given up."""
        self._failures += 1
        logger.info(
            "group %d: snapshot to node %d: try %d: %s",
            self._offer.group_id,
            self._offer.to,
            self._failures,
            problem,
        )
        while self._under_way:
            posted = self._under_way.popleft()
            try:
                self._answer(posted)
            except (RpcError, ValueError) as error:
                logger.debug("group %d: %s", self._offer.group_id, error)
        self._at = None
        self._ended = False
        if self._failures >= _TRIES_IN_A_ROW:
            return False
        return not self._transfer.stopped.wait(_RETRY_S * self._failures)

    def _read_up_to(self, key: bytes) -> Progress:
        """Return what the state amounts to up to a key.

        That is known for the last pieces. Where the follower goes on from elsewhere, because it
        has a part from an earlier connection or begins anew, that part is read again.
        """
        for known in self._known:
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

    def _report(self, verdict: SnapshotVerdict) -> None:
        now = time.monotonic()
        logger.info(
            "group %d: node %d: snapshot at %d %s after %.4f s, %d bytes sent",
            self._offer.group_id,
            self._offer.to,
            self._export.meta.index,
            verdict.name.lower().replace("_", " "),
            now - self._began,
            self._sent_bytes,
        )
