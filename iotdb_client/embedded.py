"""A database inside this process, behind the same sessions as a server: no port, no network.

Connections of one process to the same folder share one open database; it closes with the last of
them. `:memory:` is a database of its own for each connection. The only module of the driver that
knows the server's code, and it imports that when the first folder is opened.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iotdb_client.errors import InternalError, OperationalError
from iotdb_client.transport import Lost

if TYPE_CHECKING:
    from cluster.embedded import EmbeddedNode

MEMORY_PATH = ":memory:"


class _Open:
    """A database and how many connections it has."""

    def __init__(self, node: EmbeddedNode) -> None:
        self.node = node
        self.users = 0


_lock = threading.Lock()
_open: dict[str, _Open] = {}
"""By resolved path; a database in memory by the id of its node."""
_used = False
"""Whether this process, or one that it was forked from, has opened a database."""
_forked = False
"""Whether this process was forked after that."""


def _acquire(folder: str, properties: dict[str, str]) -> tuple[str, _Open]:
    from cluster.config.settings import ConfigError
    from cluster.embedded import EmbeddedNode
    from cluster.errors import ClusterError
    from iotdb_engine.errors import EngineError

    global _used
    if _forked:
        raise OperationalError(
            f"{folder}: no database can be opened in a process that was forked from one which had "
            "opened a database. Start processes before that, or with the method 'spawn'"
        )
    with _lock:
        _used = True
        key = "" if folder == MEMORY_PATH else str(Path(folder).expanduser().resolve())
        found = _open.get(key)
        if found is None:
            try:
                found = _Open(EmbeddedNode(key or MEMORY_PATH, properties))
            except (ClusterError, EngineError, ConfigError, ValueError, OSError) as error:
                raise OperationalError(f"{folder}: {error}") from error
            key = key or f"{MEMORY_PATH}{id(found)}"
            _open[key] = found
        elif properties and not _agrees(found.node, properties):
            raise OperationalError(f"{folder} is open in this process with other properties")
        found.users += 1
        return key, found


def _agrees(node: EmbeddedNode, properties: dict[str, str]) -> bool:
    return all(node.properties.get(key) == value for key, value in properties.items())


def _release(key: str) -> None:
    with _lock:
        found = _open.get(key)
        if found is None:
            return
        found.users -= 1
        if found.users <= 0:
            del _open[key]
            found.node.close()


@atexit.register
def _close_all() -> None:
    """Close what was left open, so that nothing is replayed at the next start."""
    with _lock:
        for found in _open.values():
            found.node.close()
        _open.clear()


def _leave_to_parent() -> None:
    """In a forked process: the open databases are the parent's, and no thread of theirs is here.

    To close one would write into files that the parent is writing. Nor can one be opened: RocksDB's
    threads are missing, though it counts on them.
    """
    global _lock, _forked
    _lock = threading.Lock()
    _forked = _used
    for found in _open.values():
        found.node.leave_to_parent()
    _open.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


class EmbeddedTransport:
    """One connection to a database in this process; see `iotdb_client.transport.Transport`.

    Calls of the main thread run on a thread of the transport: a Ctrl-C must end the wait, not the
    middle of a write.

    Args:
        folder: of the data, or ":memory:".
        properties: of the node, where they differ from the defaults.
        share: connect to the database of this connection, even if it is in memory.
    """

    def __init__(
        self, folder: str, properties: dict[str, str], share: EmbeddedTransport | None = None
    ) -> None:
        self.where = folder
        if share is None:
            self._key, self._opened = _acquire(folder, properties)
        else:
            self._key, self._opened = share._key, share._opened
            with _lock:
                self._opened.users += 1
        self._node = self._opened.node
        self._connection = self._node.connect()
        self._runner: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False

    def call(self, method: str, *arguments: Any) -> Any:  # noqa: ANN401
        """Run a method of the client service here."""
        from cluster.errors import Unavailable

        def run() -> Any:  # noqa: ANN401
            return self._node.call(self._connection, method, *arguments)

        try:
            return self._protected(run)
        except Unavailable as error:
            raise Lost(error.message, sent=False) from error
        except Exception as error:
            raise InternalError(f"{type(error).__name__}: {error}", definite=False) from error

    def _protected(self, run: Callable[[], Any]) -> Any:  # noqa: ANN401
        if threading.current_thread() is not threading.main_thread():
            return run()
        if self._runner is None:
            self._runner = ThreadPoolExecutor(1, thread_name_prefix="embedded-call")
        future = self._runner.submit(run)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                self._node.cancel(self._connection)
            raise

    def close(self) -> None:
        """End the connection's session; the last connection closes the database."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._runner is not None:
            self._runner.shutdown()
        self._node.disconnect(self._connection)
        _release(self._key)
