"""Which request a plan belongs to, so that one that is sent twice is applied once.

A plan may be preceded by 25 bytes: 0xF0, then three u64, big-endian: who coordinates the request,
its number, and the lowest number of that coordinator in this group whose outcome it still waits
for. The third is what keeps the groups' memory of outcomes small (RIFL, Lee et al., SOSP 2015):
what is below will not be asked for again.
"""

from __future__ import annotations

import struct
import threading
from typing import Any, NamedTuple

MARKER = 0xF0
_HEADER = struct.Struct(">BQQQ")
_IDS = struct.Struct(">xQQQ")
HEADER_BYTES = _HEADER.size
_VIEW_FROM_BYTES = 4096


class RequestId(NamedTuple):
    """Name of a request within a group.

    Attributes:
        coordinator: random, made anew with each start of a node.
        number: ascending from 1 in each group.
        first_open: lowest number that the coordinator still waits for; at most `number`.
    """

    coordinator: int
    number: int
    first_open: int

    def encode(self) -> bytes:
        """Return what goes before the plan."""
        return _HEADER.pack(MARKER, *self)


class Requested(NamedTuple):
    """What a payload is decoded to: a plan, and the request that it belongs to, if there is one."""

    request: RequestId | None
    plan: Any


def split_request(data: bytes | memoryview) -> tuple[RequestId | None, bytes | memoryview]:
    """Take a payload apart: the request, if there is one, and the plan's own bytes.

    Raises:
        ValueError: malformed.
    """
    size = len(data)
    if not size or data[0] != MARKER:
        return None, data
    if size < HEADER_BYTES:
        raise ValueError("malformed plan: cut off in its request id")
    coordinator, number, first_open = _IDS.unpack_from(data)
    request = RequestId(coordinator, number, first_open)
    if not 1 <= first_open <= number:
        raise ValueError(f"malformed plan: {request}")
    if size < _VIEW_FROM_BYTES:
        return request, data[HEADER_BYTES:]
    return request, memoryview(data)[HEADER_BYTES:]


class RequestNumbers:
    """Gives out the numbers of one coordinator in one group; thread-safe."""

    def __init__(self, coordinator: int) -> None:
        self._coordinator = coordinator
        self._lock = threading.Lock()
        self._last = 0
        self._open: dict[int, None] = {}

    def begin(self) -> RequestId:
        """Return the id of a new request; its outcome is kept until `end`."""
        with self._lock:
            self._last = number = self._last + 1
            self._open[number] = None
            # ascending, since numbers are added in order
            return RequestId(self._coordinator, number, next(iter(self._open)))

    def end(self, request: RequestId) -> None:
        """The outcome is known, or nobody waits for it any more."""
        with self._lock:
            self._open.pop(request.number, None)
