"""Threads that talk to one other node each: made on first use, and kept until the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class PeerThread(Protocol):
    """What is kept here."""

    def run(self) -> None:
        """Thread body."""
        ...

    def stop(self) -> None:
        """Make `run` return; a call under way is cut."""
        ...


Key = TypeVar("Key", bound=Hashable)
Worker = TypeVar("Worker", bound=PeerThread)


class PeerThreads(Generic[Key, Worker]):
    """By what they are for, mostly a node; thread-safe.

    Args:
        make: makes one; does not connect.
        spawn: starts its thread; raises RuntimeError where there is no room for one.
    """

    def __init__(
        self,
        make: Callable[[Key], Worker],
        spawn: Callable[[Key, Callable[[], None]], object],
    ) -> None:
        self._make = make
        self._spawn = spawn
        self._lock = threading.Lock()
        self._by_key: dict[Key, Worker] = {}
        self._stopped = False

    def to(self, key: Key) -> Worker | None:
        """Return one, made and started if need be.

        Returns:
            None: all is over, or there is no room for a thread now: what is to be said is lost, as
            a message may be; the next one tries again.
        """
        worker = self._by_key.get(key)
        if worker is not None:  # mostly
            return worker
        with self._lock:
            if self._stopped:
                return None
            worker = self._by_key.get(key)
            if worker is None:
                worker = self._make(key)
                try:
                    self._spawn(key, worker.run)
                except RuntimeError:
                    return None
                self._by_key[key] = worker
        return worker

    def stop(self) -> None:
        """Stop each of them; there are no others from now on."""
        with self._lock:
            self._stopped = True
            workers = list(self._by_key.values())
        for worker in workers:
            worker.stop()
