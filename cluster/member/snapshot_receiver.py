"""Takes over a leader's state, piece by piece, and switches to it at once.

Order, which survives a kill at any point:

1. pieces are stored beside the present state, each with a note of how far it got;
2. complete and checked, the new state replaces the old one in the engine, durably, together with
   a note of what it covers (`Region.origin`);
3. the core is told, and the log starts anew where it does not continue the state.

A kill before 2 leaves the old replica; one between 2 and 3 is made up for when the member is made
(`RaftMember`). Until 2 is durable the log keeps everything it has.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager
from typing import Protocol

from cluster.raft.membership import decode_membership, encode_membership
from cluster.raft.types import LogIndex, SnapshotMeta, Term
from cluster.rpc.convert_snapshot import (
    SnapshotPart,
    SnapshotReply,
    SnapshotVerdict,
    unpack_records,
)
from iotdb_engine import Engine, Region
from iotdb_engine.errors import EngineError
from iotdb_engine.snapshot import RegionImport

logger = logging.getLogger(__name__)


class Receiving(Protocol):
    """What a receiver needs of its member; thread-safe."""

    @property
    def term(self) -> Term:
        """Present term."""
        ...

    def wants_snapshot(self, meta: SnapshotMeta) -> bool:
        """Whether the core would take it now."""
        ...

    def replacing(self) -> AbstractContextManager[None]:
        """Apply nothing inside the context."""
        ...

    def take_over(self, region: Region, meta: SnapshotMeta) -> None:
        """The region in the engine is another one now; called inside `replacing`."""
        ...


class SnapshotReceiver:
    """The transfer into one member; one at a time. Thread-safe: calls come from any connection."""

    def __init__(self, member: Receiving, engine: Engine) -> None:
        self._member = member
        self._engine = engine
        self._lock = threading.Lock()
        self._transfer: RegionImport | None = None
        self._began = 0.0

    def take(self, part: SnapshotPart) -> SnapshotReply:
        """Take a part and say what is to follow."""
        if not self._lock.acquire(blocking=False):
            return self._reply(SnapshotVerdict.BUSY, "another part is being taken")
        try:
            return self._take(part)
        except EngineError as error:
            self._transfer = None
            return self._reply(SnapshotVerdict.BUSY, str(error))
        finally:
            self._lock.release()

    def _take(self, part: SnapshotPart) -> SnapshotReply:
        term = self._member.term
        if part.term < term:
            return self._reply(SnapshotVerdict.STALE_TERM, f"the term is {term}")
        if part.term > term:
            return self._reply(SnapshotVerdict.BUSY, f"no heartbeat of term {part.term} came yet")
        if not self._member.wants_snapshot(part.meta):
            self._give_up()
            return self._reply(SnapshotVerdict.NOT_NEEDED)
        transfer = self._transfer
        if transfer is None or transfer.progress.source != part.source:
            self._began = time.monotonic()
            transfer = self._transfer = self._engine.begin_import(part.group_id, part.source)
        progress = transfer.progress
        if part.is_damaged:
            return self._reply(SnapshotVerdict.DAMAGED, "the piece's checksum is wrong")
        if part.after_key == progress.last_key:
            if part.data:
                transfer.write(unpack_records(part.data), is_last=part.end is not None)
            if part.end is not None:
                return self._install(part, transfer)
        return self._reply(SnapshotVerdict.GOING_ON)

    def _install(self, part: SnapshotPart, transfer: RegionImport) -> SnapshotReply:
        progress = transfer.progress
        if part.end != (progress.records, progress.total_bytes, progress.crc):
            self._give_up()
            return self._reply(
                SnapshotVerdict.DAMAGED,
                f"the whole is {progress.records} records with {progress.total_bytes} bytes and "
                f"checksum {progress.crc}, expected were {part.end}: it starts anew",
            )
        complete = time.monotonic()
        with self._member.replacing():
            if not self._member.wants_snapshot(part.meta):
                self._give_up()
                return self._reply(SnapshotVerdict.NOT_NEEDED)
            region = self._engine.finish_import(
                transfer,
                index=part.meta.index,
                sequence=part.sequence,
                origin=encode_origin(part.meta),
            )
            self._transfer = None
            self._member.take_over(region, part.meta)
        logger.info(
            "group %d: snapshot at %d of node %d installed: %d records, %d bytes; complete %.4f s "
            "after the first part, installed in %.4f s",
            part.group_id,
            part.meta.index,
            part.frm,
            progress.records,
            progress.total_bytes,
            complete - self._began,
            time.monotonic() - complete,
        )
        return self._reply(SnapshotVerdict.INSTALLED)

    def _give_up(self) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            self._engine.cancel_import(transfer)

    def _reply(self, verdict: SnapshotVerdict, message: str = "") -> SnapshotReply:
        transfer = self._transfer
        last_key = b"" if transfer is None else transfer.progress.last_key
        return SnapshotReply(verdict, self._member.term, last_key, message)


def encode_origin(meta: SnapshotMeta) -> bytes:
    """Return what `Region.origin` says of a state that was taken over."""
    return (
        meta.index.to_bytes(8, "big")
        + meta.term.to_bytes(8, "big")
        + encode_membership(meta.membership)
    )


def decode_origin(data: bytes) -> SnapshotMeta | None:
    """Return what a state that was taken over covered then; None for one that was not.

    Raises:
        ValueError: damaged.
    """
    if not data:
        return None
    return SnapshotMeta(
        LogIndex(int.from_bytes(data[:8], "big")),
        Term(int.from_bytes(data[8:16], "big")),
        decode_membership(data[16:]),
    )
