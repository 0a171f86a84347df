"""fetchResults of a query that has no more rows.

Clients up to 0.13 ask once more after the last page, to learn that it was the last: every short
query has such a request in its wake. Decoding it and encoding the answer, always the same, costs
several times as much as finding out that there is no such query any more.
"""

from __future__ import annotations

from struct import Struct

from thrift.Thrift import TMessageType

from cluster.errors import OK
from cluster.rpc.framing import BinaryOutput, output_like
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client.ttypes import TSFetchResultsResp
from cluster.rpc.server import Connection
from cluster.rpc.status import Generation, to_wire
from cluster.server.handler_base import HandlerBase

FETCH = b"\x80\x01\x00\x01\x00\x00\x00\x0cfetchResults"
_METHOD_BYTES = len(FETCH)
_SEQUENCE = slice(_METHOD_BYTES, _METHOD_BYTES + 4)
_HEAD_AT = _SEQUENCE.stop
_HEAD = Struct(">3s3sq3si")
"""Argument, field 1 (session), field 2 (length of the statement)."""
_TAIL = Struct(">3si3sq3sB")
"""Fields 3 (rows), 4 (query), 5 (whether aligned)."""
_MARKS = (b"\x0c\x00\x01", b"\x0a\x00\x01", b"\x0b\x00\x02")
_TAIL_MARKS = (b"\x08\x00\x03", b"\x0a\x00\x04", b"\x02\x00\x05")
_TIMEOUT, _STATEMENT = b"\x0a\x00\x06", b"\x0a\x00\x07"
_OPTIONAL_BYTES = 11
_END = b"\0\0"


class QuickFetches:
    """Answers what it can; thread-safe, one connection at a time by one thread."""

    def __init__(self, handler: HandlerBase) -> None:
        self._handler = handler
        self._answers = {
            (generation, align): _answer(generation, align=align)
            for generation in Generation
            for align in (False, True)
        }

    def answer(self, connection: Connection, payload: bytes) -> bytes | None:
        """Return the whole answer; None: the request has to be decoded."""
        asked = _asked(payload)
        if asked is None:
            return None
        session = self._handler.session_or_none()
        query_id, align = asked
        if session is None or session.query(query_id) is not None:
            return None
        known = self._answers[session.generation, align]
        return known[:_METHOD_BYTES] + payload[_SEQUENCE] + known[_SEQUENCE.stop :]


def _asked(payload: bytes) -> tuple[int, bool] | None:
    """Return which query a request is for, and whether aligned; None: it is of another form.

    The form is that of the generated clients: the fields in order, the optional ones there or not.
    """
    size = len(payload)
    if size < _HEAD_AT + _HEAD.size + _TAIL.size:
        return None
    argument, first, _, second, text = _HEAD.unpack_from(payload, _HEAD_AT)
    at = _HEAD_AT + _HEAD.size + text
    end = at + _TAIL.size
    if (argument, first, second) != _MARKS or text < 0 or size < end + len(_END):
        return None
    third, _, fourth, query_id, fifth, align = _TAIL.unpack_from(payload, at)
    if (third, fourth, fifth) != _TAIL_MARKS or align > 1:
        return None
    for mark in (_TIMEOUT, _STATEMENT):
        if payload.startswith(mark, end):
            end += _OPTIONAL_BYTES
    return (query_id, bool(align)) if payload[end:] == _END else None


def _answer(generation: Generation, *, align: bool) -> bytes:
    response = TSFetchResultsResp(
        status=to_wire(OK.code, OK.message, generation), hasResultSet=False, isAlign=align
    )
    output = output_like(BinaryOutput)
    output.writeMessageBegin("fetchResults", TMessageType.REPLY, 0)
    IClientRPCService.fetchResults_result(success=response).write(output)
    output.writeMessageEnd()
    return b"".join(output.trans.take())
