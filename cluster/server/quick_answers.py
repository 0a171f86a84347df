"""Requests that are answered by their bytes, before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable

from cluster.rpc.server import Connection
from cluster.server.insert_methods import InsertMethods
from cluster.server.insert_shapes import METHOD_BYTES, RECORD, TABLET
from cluster.server.quick_fetches import FETCH, QuickFetches
from cluster.server.quick_inserts import QuickInserts


class QuickAnswers:
    """The quick ways by method; thread-safe, one connection at a time by one thread.

    Attributes:
        inserts: the one for writing.
    """

    def __init__(self, handler: InsertMethods) -> None:
        self.inserts = QuickInserts(handler)
        fetches = QuickFetches(handler)
        self._ways: dict[bytes, Callable[[Connection, bytes], bytes | None]] = {
            TABLET: self.inserts.answer,
            RECORD: self.inserts.answer,
            FETCH: fetches.answer,
        }

    def answer(self, connection: Connection, payload: bytes) -> bytes | None:
        """Carry out a request and return the whole answer; None: it has to be decoded."""
        way = self._ways.get(payload[:METHOD_BYTES])
        return None if way is None else way(connection, payload)
