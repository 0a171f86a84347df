"""How fast a snapshot leaves its node.

Problem: a transfer takes the interpreter and a core from the requests of clients. A fixed rate that
protects a busy leader keeps a new replica waiting on an idle one.

Idea: the node's other threads show how busy it is. A transfer leaves them the part of a core that
they use, by resting between pieces: where they use nothing it goes as fast as disk and network let
it, where they use all of one it keeps a small share, so that it ends some time.

What the engine's own threads do counts only where they leave no core to the transfer: nobody waits
for a merge, and one may go on for minutes after the writes that a follower has missed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

_LEAST_SHARE = 0.15
_WINDOW_S = 0.02
_LIST_S = 1.0
_ENGINE = "engine-"
_ROCKSDB = "rocksdb:"


class Pace:
    """Tells one thread how long to rest; used by that thread only.

    Args:
        rate_bytes_per_s: an upper bound on top; 0: none.
        now, all_cpu, own_cpu, background_cpu: clocks, in seconds: time, processor time of the
            process, of the calling thread, and of the engine's threads.
        cores: that the process may use.
        window_s: how busy the others are is looked at so often.
    """

    def __init__(
        self,
        rate_bytes_per_s: int,
        now: Callable[[], float] = time.monotonic,
        all_cpu: Callable[[], float] = time.process_time,
        own_cpu: Callable[[], float] = time.thread_time,
        background_cpu: Callable[[], float] | None = None,
        cores: int = 0,
        window_s: float = _WINDOW_S,
    ) -> None:
        self._rate = rate_bytes_per_s
        self._now = now
        self._all_cpu = all_cpu
        self._background_cpu = background_cpu or BackgroundCpu().seconds
        self._cores = cores or os.cpu_count() or 1
        self._own_cpu = own_cpu
        self._window_s = window_s
        self._share = 1.0
        self._began = now()
        self._sent_bytes = 0
        # of the engine's threads nothing is known in the first window: to list them takes as long
        # as to send a piece
        self._window = now(), all_cpu(), own_cpu(), 0.0
        self._piece = self._window[0], self._window[2]

    def rest_s(self, size_bytes: int) -> float:
        """Return how long to rest after a piece of that size was made and sent, in seconds."""
        now, own = self._now(), self._own_cpu()
        if now - self._window[0] > self._window_s:
            window = self._look()
            passed, all_cpu, mine, background = (
                new - old for new, old in zip(window, self._window, strict=True)
            )
            self._window = window
            others = max(0.0, all_cpu - mine) / passed
            if others <= self._cores - 1:
                others = max(0.0, others - background / passed)
            self._share = max(_LEAST_SHARE, 1 - others)
        rest = max(0.0, (own - self._piece[1]) / self._share - (now - self._piece[0]))
        self._sent_bytes += size_bytes
        if self._rate:
            rest = max(rest, self._began + self._sent_bytes / self._rate - now)
        return rest

    def rested(self) -> None:
        """Begin the next piece."""
        self._piece = self._now(), self._own_cpu()

    def _look(self) -> tuple[float, float, float, float]:
        return self._now(), self._all_cpu(), self._own_cpu(), self._background_cpu()


class BackgroundCpu:
    """Processor time of the threads of the engine and of RocksDB, from Linux's accounts.

    Elsewhere it is 0: such threads then count like any others.
    """

    def __init__(self, tasks: Path = Path("/proc/self/task")) -> None:
        self._tasks = tasks
        self._listed = -_LIST_S
        self._seen_ns: dict[int, int] = {}
        self._sum_ns = 0

    def seconds(self) -> float:
        """Return what they took since this object saw them first."""
        now = time.monotonic()
        if now - self._listed >= _LIST_S:
            self._listed = now
            self._list()
        for task, seen in list(self._seen_ns.items()):
            took = self._read(task)
            if took is None:
                del self._seen_ns[task]
            else:
                self._seen_ns[task] = took
                self._sum_ns += took - seen
        return self._sum_ns / 1e9

    def _list(self) -> None:
        """Look for threads that have begun; those of RocksDB are not known to Python."""
        ours = {thread.native_id: thread.name for thread in threading.enumerate()}
        try:
            tasks = [int(name) for name in os.listdir(self._tasks)]
        except OSError:
            return
        for task in tasks:
            if task in self._seen_ns:
                continue
            name = ours.get(task)
            if name is None:
                name = self._name(task)
            if name.startswith((_ENGINE, _ROCKSDB)):
                took = self._read(task)
                if took is not None:
                    self._seen_ns[task] = took

    def _name(self, task: int) -> str:
        try:
            return (self._tasks / str(task) / "comm").read_text()
        except OSError:
            return ""

    def _read(self, task: int) -> int | None:
        """Return nanoseconds on a processor; None when the thread has ended."""
        try:
            return int((self._tasks / str(task) / "schedstat").read_bytes().split()[0])
        except (OSError, ValueError, IndexError):
            return None
