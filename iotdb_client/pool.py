"""A pool of connections, for programs with many threads and few statements at a time."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from iotdb_client.connection import Connection, connect
from iotdb_client.errors import InterfaceError, OperationalError


class ConnectionPool:
    """Connections that are made when needed and used again; thread-safe.

    In a forked process it begins empty: the connections are those of the parent.

    Args:
        url_or_host: and the other arguments: see `iotdb_client.connect`.
        max_size: connections at most; who wants one more waits.
        max_idle_s: a connection unused for longer is closed rather than used again.
        wait_s: for a connection to become free.
        options: further arguments of `connect`.
    """

    def __init__(
        self,
        url_or_host: str | os.PathLike[str] = "jdbc:iotdb://127.0.0.1:6667/",
        user: str = "root",
        password: str = "root",
        *,
        max_size: int = 8,
        max_idle_s: float = 300.0,
        wait_s: float = 30.0,
        **options: Any,  # noqa: ANN401 - of connect
    ) -> None:
        if max_size < 1:
            raise InterfaceError(f"max_size must be positive, not {max_size}")
        self._connect: Callable[[], Connection] = lambda: connect(
            url_or_host, user, password, **options
        )
        self._max_size = max_size
        self._max_idle_s = max_idle_s
        self._wait_s = wait_s
        self._news = threading.Condition()
        self._idle: deque[tuple[float, Connection]] = deque()
        self._size = 0
        self._pid = os.getpid()
        self._closed = False

    @property
    def size(self) -> int:
        """Connections that exist, in use or not."""
        return self._size

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection for a `with` block.

        Raises:
            OperationalError: none became free in time, or none can be made.
            InterfaceError: the pool is closed.
        """
        connection = self.take()
        try:
            yield connection
        finally:
            self.give_back(connection)

    def take(self) -> Connection:
        """Take a connection; `give_back` it. See `connection`."""
        end = time.monotonic() + self._wait_s
        if self._pid != os.getpid():
            self._begin_empty()
        while True:
            stale: list[Connection] = []
            found = None
            with self._news:
                while True:
                    if self._closed:
                        raise InterfaceError("the pool is closed")
                    stale += self._stale_locked()
                    if self._idle:
                        found = self._idle.pop()[1]
                        break
                    if self._size < self._max_size:
                        self._size += 1
                        break
                    if not self._news.wait(max(0.0, end - time.monotonic())):
                        raise OperationalError(
                            f"no connection became free in {self._wait_s:g} s: "
                            f"all {self._max_size} are in use"
                        )
            for connection in stale:
                connection.close()
            if found is not None:
                return found
            try:
                return self._connect()
            except BaseException:
                self._gone()
                raise

    def give_back(self, connection: Connection) -> None:
        """Give a connection back that `take` returned; a closed one makes room for another."""
        with self._news:
            if not self._closed and not connection.closed:
                self._idle.append((time.monotonic(), connection))
                self._news.notify()
                return
        connection.close()
        self._gone()

    def close(self) -> None:
        """Close what is idle now, and the rest when it is given back."""
        with self._news:
            self._closed = True
            idle, self._idle = self._idle, deque()
            self._size -= len(idle)
            self._news.notify_all()
        for _, connection in idle:
            connection.close()

    def __enter__(self) -> ConnectionPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _begin_empty(self) -> None:
        self._pid = os.getpid()
        self._news = threading.Condition()  # the old one may be held by a thread of the parent
        self._idle.clear()
        self._size = 0

    def _stale_locked(self) -> list[Connection]:
        """Take out what has been idle for too long, the oldest first."""
        stale = []
        while self._idle and time.monotonic() - self._idle[0][0] > self._max_idle_s:
            stale.append(self._idle.popleft()[1])
        self._size -= len(stale)
        return stale

    def _gone(self) -> None:
        with self._news:
            self._size -= 1
            self._news.notify()
