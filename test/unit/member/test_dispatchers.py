"""Who carries an order: the stream, a courier or a dispatcher."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.member import courier, stream
from cluster.member.dispatchers import Dispatchers
from cluster.raft.effects import SendAppend
from cluster.raft.types import GroupId, LogIndex, NodeId, Term

ME, PEER = NodeId(1), NodeId(2)


class Log:
    """Entries of one size each; those from `cached_from` on are in memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.cached_from = 1

    def payload_bytes(self, lo: int, hi: int) -> int:
        return self.size * (hi - lo)

    def is_cached(self, lo: int) -> bool:
        return lo >= self.cached_from


class Taker:
    """A stream, or the couriers: takes orders, or does not."""

    def __init__(self, name: str, taken: list[str]) -> None:
        self.name = name
        self.taken = taken
        self.is_willing = True

    def to(self, _peer: NodeId) -> Taker:
        return self

    def offer(self, _sender: Any, _order: SendAppend) -> bool:
        if self.is_willing:
            self.taken.append(self.name)
        return self.is_willing


class Carriers:
    """Tells who took each order."""

    def __init__(self, size: int) -> None:
        self.taken: list[str] = []
        self.log = Log(size)
        self.stream, self.couriers = Taker("stream", self.taken), Taker("courier", self.taken)
        taken = self.taken

        class Threads:
            def spawn(self, name: str, _run: Any) -> None:
                taken.append(name)

        nothing: Any = lambda *_: None  # noqa: E731
        parts: Any = (self.log, Threads(), self.couriers, self.stream)
        log, threads, couriers, streams = parts
        self.dispatchers = Dispatchers(
            name="data-1",
            group_id=GroupId(1),
            node_id=ME,
            log=log,
            threads=threads,
            make_channel=nothing,
            call_timeout_s=1.0,
            couriers=couriers,
            streams=streams,
            current_term=lambda: Term(1),
            on_response=nothing,
            on_unreachable=nothing,
            on_failure=nothing,
        )

    def offer(self, lo: int = 5, hi: int = 6) -> list[str]:
        """Offer an order for the entries [lo, hi) and return who has taken any so far."""
        index = LogIndex(lo - 1)
        self.dispatchers.offer(
            SendAppend(
                to=PEER,
                term=Term(1),
                prev_index=index,
                prev_term=Term(1),
                lo=LogIndex(lo),
                hi=LogIndex(hi),
                commit=index,
                compact_to=index,
            )
        )
        return self.taken


def test_what_clients_write_goes_by_the_stream() -> None:
    assert Carriers(100).offer() == ["stream"]
    assert Carriers(stream.MAX_STREAM_BYTES).offer() == ["stream"]


@pytest.mark.parametrize("size", [100, courier.MAX_ORDER_BYTES])
def test_where_there_is_no_stream_a_courier_takes_what_is_small(size: int) -> None:
    carriers = Carriers(size)
    carriers.stream.is_willing = False
    assert carriers.offer() == ["courier"]


def test_a_courier_takes_nothing_else() -> None:
    carriers = Carriers(courier.MAX_ORDER_BYTES + 1)
    carriers.stream.is_willing = False
    assert carriers.offer() == ["dispatcher-data-1-2"]


def test_much_is_a_dispatchers() -> None:
    assert Carriers(stream.MAX_STREAM_BYTES // 2).offer(5, 8) == ["dispatcher-data-1-2"]


def test_what_has_to_be_read_from_the_disk_is_a_dispatchers_unless_it_is_little() -> None:
    carriers = Carriers(courier.MAX_ORDER_BYTES + 1)
    carriers.log.cached_from = 6
    assert carriers.offer(6, 7) == ["stream"]
    assert carriers.offer(5, 6) == ["stream", "dispatcher-data-1-2"]
    little = Carriers(100)
    little.log.cached_from = 6
    assert little.offer(5, 6) == ["stream"]
