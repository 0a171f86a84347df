"""What became of the requests that may still be sent again: part of every group's state.

Deterministic: a function of the entries applied. Stored with each flush of the group's region,
together with the applied index that it belongs to, so a replica that restarts, or takes over
a snapshot, answers like the others.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.errors import OutcomeUnknown
from cluster.plan.codec import decode_result, encode_result
from cluster.plan.request_id import RequestId

KEY_PREFIX = b"requests/"

MAX_COORDINATORS = 256
"""The one not heard of for longest is forgotten: each start of a node makes a new one."""
MAX_OUTCOMES = 4096
"""Of one coordinator. Above it the lower half counts as no longer waited for."""

_HEAD = struct.Struct(">QQI")
_ITEM = struct.Struct(">QI")


class Known:
    """Outcome of a request that was applied before; it is not to be applied again."""

    __slots__ = ("outcome",)

    def __init__(self, outcome: Any) -> None:  # noqa: ANN401
        self.outcome = outcome


class _Coordinator:
    """Requests below `low` are settled; above, `done` has the outcomes of those applied."""

    __slots__ = ("done", "low", "used")

    def __init__(self) -> None:
        self.low = 0
        self.used = 0
        self.done: dict[int, Any] = {}

    def settle(self, low: int) -> None:
        if low - self.low > len(self.done):
            self.done = {number: done for number, done in self.done.items() if number >= low}
        else:
            for number in range(self.low, low):
                self.done.pop(number, None)
        self.low = low


class RequestTable:
    """Outcomes by coordinator and number. One thread at a time: the applier.

    `late_puts` is called by whoever holds the region's lock, at a border between two entries; the
    table changes inside `Region.entry` only, which takes the same lock.
    """

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Read the table back from its records; raises ValueError when one is damaged."""
        self._by_id = {
            int.from_bytes(key[len(KEY_PREFIX) :], "big"): _decode(value) for key, value in pairs
        }
        self._changed: set[int] = set()

    def find(self, request: RequestId) -> Known | None:
        """Return what became of a request, or None when it is new.

        One that is below what its coordinator waits for is a straggler: it is known not to
        have to be applied, whatever happened to its twin.
        """
        coordinator = self._by_id.get(request.coordinator)
        if coordinator is None:
            return None
        if request.number < coordinator.low:
            # each its own: an exception that is raised again and again keeps all its frames
            return Known(
                OutcomeUnknown(
                    "the request came after its coordinator had given it up; it was not applied now"
                )
            )
        if request.number in coordinator.done:
            return Known(coordinator.done[request.number])
        return None

    def note(self, request: RequestId, outcome: Any, index: int) -> None:  # noqa: ANN401
        """Remember the outcome of a request that entry `index` applied."""
        coordinator = self._by_id.get(request.coordinator)
        if coordinator is None:
            coordinator = self._add(request.coordinator)
        coordinator.used = index
        coordinator.done[request.number] = outcome
        if request.first_open > coordinator.low:
            coordinator.settle(request.first_open)
        if len(coordinator.done) > MAX_OUTCOMES:
            coordinator.settle(sorted(coordinator.done)[MAX_OUTCOMES // 2])
        self._changed.add(request.coordinator)

    def late_puts(self) -> Mapping[bytes, bytes | None]:
        """Return the records that changed since the last call."""
        if not self._changed:
            return {}
        puts: dict[bytes, bytes | None] = {}
        for coordinator_id in sorted(self._changed):
            coordinator = self._by_id.get(coordinator_id)
            key = KEY_PREFIX + coordinator_id.to_bytes(8, "big")
            puts[key] = None if coordinator is None else _encode(coordinator)
        self._changed.clear()
        return puts

    def digest(self) -> tuple[int, bytes]:
        """Return the number of outcomes kept, and a digest of the whole table."""
        found = hashlib.blake2b(digest_size=16)
        count = 0
        for coordinator_id in sorted(self._by_id):
            coordinator = self._by_id[coordinator_id]
            count += len(coordinator.done)
            found.update(coordinator_id.to_bytes(8, "big") + _encode(coordinator))
        return count, found.digest()

    def _add(self, coordinator_id: int) -> _Coordinator:
        if len(self._by_id) >= MAX_COORDINATORS:
            oldest = min(self._by_id, key=lambda known: (self._by_id[known].used, known))
            del self._by_id[oldest]
            self._changed.add(oldest)
        added = self._by_id[coordinator_id] = _Coordinator()
        return added


def _encode(coordinator: _Coordinator) -> bytes:
    parts = [_HEAD.pack(coordinator.low, coordinator.used, len(coordinator.done))]
    for number in sorted(coordinator.done):
        outcome = encode_result(coordinator.done[number])
        parts += (_ITEM.pack(number, len(outcome)), outcome)
    return b"".join(parts)


def _decode(data: bytes) -> _Coordinator:
    try:
        coordinator = _Coordinator()
        coordinator.low, coordinator.used, count = _HEAD.unpack_from(data)
        at = _HEAD.size
        for _ in range(count):
            number, size = _ITEM.unpack_from(data, at)
            at += _ITEM.size
            coordinator.done[number] = decode_result(data[at : at + size])
            at += size
    except struct.error as error:
        raise ValueError(f"a record of requests is damaged: {error}") from error
    if at != len(data):
        raise ValueError(f"a record of requests has {len(data) - at} bytes too many")
    return coordinator
