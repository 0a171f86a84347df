"""The replicated state: a few counters, and a table that lets every request take effect once."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from cluster.raft.types import Entry, EntryKind


class Request(NamedTuple):
    """What a client asks for; `seq` counts its requests, so (client, seq) names one for ever."""

    client: int
    seq: int
    key: int
    size: int

    def encode(self) -> bytes:
        """Return the payload; `size` bytes of padding make entries differ in length."""
        return b"%d %d %d %s" % (self.client, self.seq, self.key, b"." * self.size)

    @staticmethod
    def decode(data: bytes) -> Request:
        """Read a payload; ValueError when it is none."""
        client, seq, key, padding = data.split(b" ")
        return Request(int(client), int(seq), int(key), len(padding))


class Machine:
    """Counters by key; a write adds to one, so applying it twice shows.

    `latest` is the dedupe table: a client has one request under way at a time, so its newest
    one is all there is to remember (bounded by clients). An older one that turns up late was given
    up by its client, and takes no effect.
    """

    __slots__ = ("digest", "index", "latest", "state", "term")

    def __init__(self) -> None:
        self.index = 0
        self.term = 0
        self.digest = 0
        self.state: dict[int, int] = {}
        self.latest: dict[int, int] = {}

    def copy(self) -> Machine:
        """Return an independent copy."""
        other = Machine()
        other.index, other.term, other.digest = self.index, self.term, self.digest
        other.state = dict(self.state)
        other.latest = dict(self.latest)
        return other

    def apply(self, entry: Entry) -> None:
        """Apply the next entry."""
        assert entry.index == self.index + 1
        if entry.kind == EntryKind.PLAN:
            request = Request.decode(entry.data)
            if self.is_new(request):
                self.latest[request.client] = request.seq
                self.state[request.key] = self.state.get(request.key, 0) + 1
        self.index = entry.index
        self.term = entry.term
        self.digest = zlib.crc32(
            b"%d %d %d " % (entry.index, entry.term, entry.kind) + entry.data, self.digest
        )

    def is_new(self, request: Request) -> bool:
        """Whether a request takes effect: the dedupe rule."""
        return request.seq > self.latest.get(request.client, 0)

    def to_bytes(self) -> bytes:
        """Return the whole state."""
        words = [self.index, self.term, self.digest, len(self.state)]
        for table in (self.state, self.latest):
            for key in sorted(table):
                words += [key, table[key]]
        return b" ".join([b"%d" % word for word in words])

    @staticmethod
    def from_bytes(data: bytes) -> Machine:
        """Read what `to_bytes` wrote."""
        words = [int(word) for word in data.split()]
        machine = Machine()
        machine.index, machine.term, machine.digest, count = words[:4]
        pairs = list(zip(words[4::2], words[5::2], strict=True))
        machine.state = dict(pairs[:count])
        machine.latest = dict(pairs[count:])
        return machine
