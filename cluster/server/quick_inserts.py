"""insertTablet and insertRecord where they look like earlier ones of the connection.

The same checks, the same writing and the same answers as by `InsertMethods`, without decoding and
encoding what does not change (`cluster.server.insert_shapes`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from thrift.Thrift import TMessageType

from cluster.auth.privileges import ADMINISTRATOR, Privilege
from cluster.coordinator.inserter import Inserter, InsertItem
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.raft.types import NodeId
from cluster.rpc.convert import tablet_to_fragment_parts
from cluster.rpc.deadline import Deadline
from cluster.rpc.framing import BinaryOutput, output_like
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client.ttypes import TSStatus
from cluster.rpc.server import Connection, current_connection
from cluster.rpc.status import Generation
from cluster.server.handler_base import plain_paths
from cluster.server.insert_methods import InsertMethods, record_item
from cluster.server.insert_shapes import (
    METHOD_BYTES,
    RECORD,
    TABLET,
    InsertShapes,
    RecordParts,
    TabletParts,
)

logger = logging.getLogger(__name__)

_STATE = "insert_shapes"
_VIEW_FROM_BYTES = 4096
_FIRST = b"\0\0\0\0"
"""The number that most clients give every request of theirs."""
_MOST_HINTS = 1000
_SEQUENCE = slice(METHOD_BYTES, METHOD_BYTES + 4)


class QuickInserts:
    """Answers what it can; thread-safe, one connection at a time by one thread."""

    def __init__(self, handler: InsertMethods) -> None:
        self._handler = handler
        self._success = {
            method: _reply(method, _FIRST, TSStatus(code=int(StatusCode.SUCCESS)))
            for method in (TABLET, RECORD)
        }
        self._hinting: dict[tuple[bytes, NodeId, str, Generation], bytes] = {}

    def answer(self, connection: Connection, payload: bytes) -> bytes | None:
        """Carry out a request and return the whole answer; None: it has to be decoded."""
        method = payload[:METHOD_BYTES]
        if method not in self._success:
            return None
        shapes = connection.state.get(_STATE)
        if shapes is None:
            if self._handler.session_or_none() is None:
                return None  # nothing is remembered for who has not logged in
            shapes = connection.state[_STATE] = InsertShapes()
        parts = shapes.tablet(payload) if method == TABLET else shapes.record(payload)
        if parts is None:
            return None
        return self._answer(payload, self._status(parts))

    def _answer(self, payload: bytes, status: TSStatus | None) -> bytes:
        method = payload[:METHOD_BYTES]
        if status is not None:
            return _reply(method, payload[_SEQUENCE], status)
        return _numbered(self._success[method], payload)

    # ---- for the loop ----

    def is_quick(self, payload: bytes) -> bool:
        """Whether this is a row, or a tablet, in the binary protocol."""
        return payload.startswith((RECORD, TABLET))

    @property
    def inserter(self) -> Inserter:
        """Writes the rows."""
        return self._handler.coordinator.inserter

    def item(self, connection: Connection, payload: bytes) -> tuple[InsertItem, Deadline] | None:
        """Return what a request of this connection wants written, and until when.

        Whether the system takes changes is for `Inserter.begin_one` to see.

        Returns:
            None: it has to be looked at by `answer`; nothing was done.
        """
        shapes = connection.state.get(_STATE)
        if shapes is None:
            return None
        parts: TabletParts | RecordParts | None
        if payload.startswith(TABLET):
            parts = shapes.tablet(payload)
        else:
            parts = shapes.record(payload) if payload.startswith(RECORD) else None
        handler = self._handler
        session = handler.sessions.of(connection)
        if parts is None or session is None:
            return None
        try:
            if session.user != ADMINISTRATOR and not handler.executor.authorizer.is_known_to_hold(
                session.user, Privilege.INSERT_TIMESERIES, plain_paths(parts.shape.paths())
            ):
                return None
            item = _tablet(parts) if isinstance(parts, TabletParts) else _record(parts)
        except ClusterError:
            return None
        return None if item is None else (item, handler.write_deadline())

    def success(self, payload: bytes, better: NodeId) -> bytes:
        """Return the answer to what was written; `better` as `Inserter.insert_one` says."""
        method = payload[:METHOD_BYTES]
        if not better:
            return _numbered(self._success[method], payload)
        key = method, better, current_connection().peer[0], self._handler.generation()
        answer = self._hinting.get(key)
        if answer is None:
            if len(self._hinting) >= _MOST_HINTS:
                self._hinting.clear()
            status = self._handler.wire_one(OK, better)
            answer = self._hinting[key] = self._answer(payload, status)
        return _numbered(answer, payload)

    def carry_on(self, payload: bytes, rest: Callable[[], tuple[Status, NodeId]]) -> bytes:
        """Do the rest of a row that the loop has begun, and return the answer."""
        try:
            status = self._handler.wire_one(*rest())
        except Exception as error:  # noqa: BLE001 - the request border: every error gets a status
            status = self._handler.wire_error(error)
        return self._answer(payload, status)

    # ---- inside ----

    def _status(self, parts: TabletParts | RecordParts) -> TSStatus | None:
        """Carry it out; None is plain success."""
        handler = self._handler
        try:
            shape = parts.shape
            handler.writing_session(Privilege.INSERT_TIMESERIES, shape.paths)
            item = _tablet(parts) if isinstance(parts, TabletParts) else _record(parts)
            return None if item is None else handler.write_one(item)
        except Exception as error:  # noqa: BLE001 - the request border: every error gets a status
            return handler.wire_error(error)


def _tablet(parts: TabletParts) -> InsertItem | None:
    shape, size, times, view = parts
    types = shape.types
    if not size or not types.physical:
        return None  # nothing to write
    values: bytes | memoryview = view
    nulls = b""
    if not types.fixed or len(view) != size * types.row_width or len(times) != 8 * size:
        values, nulls = tablet_to_fragment_parts(types, size, times, bytes(view))
    if len(values) < _VIEW_FROM_BYTES:
        values = bytes(values)  # a view would keep all of the message
    prepared = shape.prepared
    device, measurements, physical, aligned = prepared.key
    return InsertItem(device, measurements, physical, size, times, values, nulls, aligned, prepared)


def _record(parts: RecordParts) -> InsertItem | None:
    shape, time, values = parts
    cells = shape.cells(values)
    if cells is not None and shape.prepared is not None:
        prepared = shape.prepared
        device, names, types, aligned = prepared.key
        return InsertItem(device, names, types, 1, time, cells, b"", aligned, prepared)
    item = record_item(
        shape.device,
        shape.names,
        values,
        int.from_bytes(time, "big", signed=True),
        aligned=shape.aligned,
    )
    if item is not None and item.measurements == shape.names:
        shape.learn(item.types, values)
    return item


def _numbered(answer: bytes, payload: bytes) -> bytes:
    """Return an answer with the number of the request."""
    if payload.startswith(answer[_SEQUENCE], METHOD_BYTES):
        return answer
    return answer[:METHOD_BYTES] + payload[_SEQUENCE] + answer[METHOD_BYTES + 4 :]


def _reply(method: bytes, sequence: bytes, status: TSStatus) -> bytes:
    name = method[8:].decode()
    result = getattr(IClientRPCService, f"{name}_result")(success=status)
    output = output_like(BinaryOutput)
    output.writeMessageBegin(name, TMessageType.REPLY, int.from_bytes(sequence, "big"))
    result.write(output)
    output.writeMessageEnd()
    return b"".join(output.trans.take())
