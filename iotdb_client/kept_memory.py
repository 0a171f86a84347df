"""Memory of large results, kept for the next one for some seconds.

Problem: large memory comes from the system filled with zeros, page by page as it is touched: a
tenth of the time in which a result is read. Idea: what a result's arrays no longer need is kept,
`MOST_BYTES` at most, until for `KEEP_S` nothing has come back.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_BYTES = 256 << 20
KEEP_S = 10.0
_MOST_SLACK = 1.5
"""Memory of up to so many times the size that is wanted will do."""

_Memory = npt.NDArray[np.uint8]


class KeptMemory:
    """Pieces of memory that were given back; thread-safe.

    Args:
        most_bytes: of all pieces.
        keep_s: all are let go when nothing has come back for so long.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, keep_s: float = KEEP_S) -> None:
        self._most_bytes = most_bytes
        self._keep_s = keep_s
        self._reset()

    def _reset(self) -> None:
        # Arrays end wherever the garbage collector happens to run: only a SimpleQueue may be put
        # into there, since it never waits for a lock that the same thread may hold.
        self._returned: SimpleQueue[_Memory] = SimpleQueue()
        self._kept: deque[_Memory] = deque()
        self._lock = threading.Lock()
        self._tidied = False

    def take(self, size: int) -> _Memory:
        """Return memory of at least so many bytes, holding anything; it comes back by itself."""
        with self._lock:
            memory = next(
                (one for one in self._kept if size <= len(one) <= _MOST_SLACK * size), None
            )
            if memory is not None:
                self._kept = deque(one for one in self._kept if one is not memory)
            elif not self._tidied and size <= self._most_bytes:
                self._tidied = True
                threading.Thread(  # noqa: TID251 one for the process, which waits for its end
                    target=self._tidy, name="kept-memory", daemon=True
                ).start()
        if memory is None:
            memory = np.empty(size, np.uint8)
        return np.asarray(_Lease(memory, self._returned)) if size <= self._most_bytes else memory

    def kept_bytes(self) -> int:
        """Return how much waits for the next result."""
        with self._lock:
            return sum(map(len, self._kept))

    def _tidy(self) -> None:
        returned = self._returned
        while True:
            timeout = self._keep_s if self.kept_bytes() else None
            try:
                memory = returned.get(timeout=timeout)
            except Empty:
                with self._lock:
                    self._kept.clear()
                continue
            with self._lock:
                self._kept.append(memory)
                del memory
                while sum(map(len, self._kept)) > self._most_bytes:
                    self._kept.popleft()


class _Lease:
    """What arrays refer to as their memory: gives it back when the last of them is gone."""

    __slots__ = ("__array_interface__", "_memory", "_returned")

    def __init__(self, memory: _Memory, returned: SimpleQueue[_Memory]) -> None:
        self._memory = memory
        self._returned = returned
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        self._returned.put(self._memory)


KEPT = KeptMemory()

if hasattr(os, "register_at_fork"):  # a child has neither the thread nor a sound lock
    os.register_at_fork(after_in_child=KEPT._reset)
