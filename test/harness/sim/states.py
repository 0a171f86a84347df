"""What becomes durable of a node's state machine, and how it travels: the stub's way.

`engine_states` has the same for the product's state machine over the real engine in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cluster.raft.types import SnapshotMeta
from harness.sim.machine import Machine, Request

PIECES = 3


class Reference(Protocol):
    """The state that the one true history leads to, by a model that is slow and dumb."""

    def apply(self, request: Request) -> dict[int, int]:
        """Apply a request that takes effect; returns the new values of keys."""

    def check(self, machine: Any) -> str:
        """Compare with a machine that has applied all of the history; returns what differs."""


class Counts:
    """A write adds one to its key."""

    def __init__(self) -> None:
        self._values: dict[int, int] = {}

    def apply(self, request: Request) -> dict[int, int]:
        value = self._values[request.key] = self._values.get(request.key, 0) + 1
        return {request.key: value}

    def check(self, machine: Any) -> str:
        return "" if machine.state == self._values else f"{machine.state}, not {self._values}"


class Kind(Protocol):
    """A kind of state machine: what requests are in the log, and the states of one disk."""

    def encode(self, request: Request) -> bytes:
        """Return the payload of an entry."""

    def decode(self, data: bytes) -> Request:
        """Read it back."""

    def reference(self) -> Reference:
        """Return the model."""

    def states(self, base: SnapshotMeta, chance: Callable[[], float]) -> Any:
        """Return what is durable on a new disk; see StubStates."""


class StubKind:
    """Counters."""

    def encode(self, request: Request) -> bytes:
        return request.encode()

    def decode(self, data: bytes) -> Request:
        return Request.decode(data)

    def reference(self) -> Reference:
        return Counts()

    def states(self, base: SnapshotMeta, chance: Callable[[], float]) -> StubStates:
        return StubStates(base)


class StubStates:
    """The last copy that was made.

    Attributes:
        meta: what the durable state covers.
        may_be_taken_over: it says of itself that it may be newer than the log.
    """

    may_be_taken_over = True

    def __init__(self, base: SnapshotMeta) -> None:
        self.meta = base
        self._saved = Machine()

    def boot(self) -> Machine:
        """Return the machine that a start finds."""
        return self._saved.copy()

    def save(self, machine: Machine, meta: SnapshotMeta, *, may_fail: bool) -> bool:
        """Make the present state durable; False: the process dies on the way."""
        self.meta, self._saved = meta, machine.copy()
        return True

    def crash(self) -> None:
        """Lose what is not durable."""

    def close(self) -> None:
        """The run is over."""

    def pieces(self, machine: Machine, meta: SnapshotMeta) -> tuple[str, list[bytes]]:
        """Return the present state for another node, in PIECES pieces, and its name.

        Two of the same name are the same bytes.
        """
        data = machine.to_bytes()
        size = len(data) // PIECES + 1
        return "", [data[i * size : (i + 1) * size] for i in range(PIECES)]

    def stage(self, pieces: list[bytes], last: Any) -> Any:
        """Put a state that has arrived beside the present one."""
        return Machine.from_bytes(b"".join(pieces))

    def install(self, staged: Any, meta: SnapshotMeta) -> Machine:
        """Make it the present one, durably."""
        self.meta, self._saved = meta, staged.copy()
        return staged

    def drop(self, staged: Any) -> None:
        """It is not wanted any more."""
