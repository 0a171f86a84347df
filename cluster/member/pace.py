"""How fast a snapshot leaves its node.

Problem: a transfer takes the interpreter and a core from the requests of clients. A fixed rate that
protects a busy leader keeps a new replica waiting on an idle one.

Idea: the node's other threads show how busy it is. A transfer leaves them the part of a core that
they use, by resting between pieces: where they use nothing it goes as fast as disk and network let
it, where they use all of one it keeps a small share, so that it ends some time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_SHARE = 0.15


class Pace:
    """Tells one thread how long to rest; used by that thread only.

    Args:
        rate_bytes_per_s: an upper bound on top; 0: none.
        now, all_cpu, own_cpu: clocks, in seconds: time, processor time of the process, and of the
            calling thread.
    """

    def __init__(
        self,
        rate_bytes_per_s: int,
        now: Callable[[], float] = time.monotonic,
        all_cpu: Callable[[], float] = time.process_time,
        own_cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._rate = rate_bytes_per_s
        self._clocks = (now, all_cpu, own_cpu)
        self._began = now()
        self._sent_bytes = 0
        self._last = self._look()

    def rest_s(self, size_bytes: int) -> float:
        """Return how long to rest after a piece of that size was made and sent, in seconds."""
        now, all_cpu, own_cpu = self._look()
        took, own = now - self._last[0], own_cpu - self._last[2]
        others = max(0.0, all_cpu - self._last[1] - own)
        rest = 0.0
        if took > 0:
            share = max(_LEAST_SHARE, 1 - others / took)
            rest = max(0.0, own / share - took)
        self._sent_bytes += size_bytes
        if self._rate:
            rest = max(rest, self._began + self._sent_bytes / self._rate - now)
        return rest

    def rested(self) -> None:
        """Begin the next piece."""
        self._last = self._look()

    def _look(self) -> tuple[float, float, float]:
        now, all_cpu, own_cpu = self._clocks
        return now(), all_cpu(), own_cpu()
