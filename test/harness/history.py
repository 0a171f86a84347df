"""What clients asked of a cluster and what they were told, with the times of both.

An operation is *ok* (it took effect between call and answer), *failed* (it has certainly not taken
effect), or *unknown* (it may have, or may yet). Times are of one monotonic clock, in ns.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any


class Outcome(str, Enum):
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Operation:
    """One call of one client.

    Attributes:
        process: the client; it has one call under way at a time.
        key: what is read or written; operations on different keys are independent.
        action: "read" or "write".
        value: what was written, or what an ok read returned.
        error: what the client was told when the outcome is not ok.
    """

    process: int
    key: str
    action: str
    value: Any
    called_ns: int
    answered_ns: int
    outcome: Outcome
    node: int = 0
    error: str = ""


class History:
    """Operations in the order of their answers; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: list[Operation] = []

    def add(self, operation: Operation) -> None:
        with self._lock:
            self._operations.append(operation)

    def operations(self) -> list[Operation]:
        with self._lock:
            return list(self._operations)

    def by_key(self) -> dict[str, list[Operation]]:
        keys: dict[str, list[Operation]] = defaultdict(list)
        for operation in self.operations():
            keys[operation.key].append(operation)
        return dict(keys)

    def tally(self) -> dict[str, int]:
        """How many operations had which outcome."""
        counts = dict.fromkeys((outcome.value for outcome in Outcome), 0)
        for operation in self.operations():
            counts[operation.outcome.value] += 1
        return counts

    def save(self, path: Path) -> None:
        """One JSON object a line; `load` reads it."""
        with path.open("w") as out:
            for operation in self.operations():
                out.write(json.dumps(asdict(operation)) + "\n")

    @staticmethod
    def load(path: Path) -> History:
        history = History()
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            history.add(Operation(**{**fields, "outcome": Outcome(fields["outcome"])}))
        return history


def now_ns() -> int:
    return time.monotonic_ns()


def longest_gap_s(times_ns: Iterable[int], since_ns: int, until_ns: int) -> float:
    """The longest time within [since, until] in which nothing happened."""
    inside = sorted(t for t in times_ns if since_ns <= t <= until_ns)
    points = [since_ns, *inside, until_ns]
    return max(b - a for a, b in itertools.pairwise(points)) / 1e9
