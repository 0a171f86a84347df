"""Closing what was opened, in reverse order."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cluster.threads import ThreadRegistry

logger = logging.getLogger(__name__)

_THREADS_S = 5.0


class Closers:
    """What a node has opened so far; `close` may be called from any thread, and again."""

    def __init__(self) -> None:
        self._closers: list[Callable[[], None]] = []

    def add(self, close: Callable[[], None]) -> None:
        """Have this called before everything that was added earlier."""
        self._closers.append(close)

    def close(self, threads: ThreadRegistry) -> None:
        """Call each once, the latest first, then wait for the threads of the node.

        An error of one is logged and keeps none of the others from being closed.
        """
        while self._closers:
            close = self._closers.pop()
            try:
                close()
            except Exception:
                logger.exception("closing failed; going on with the rest")
        left = threads.join_all(_THREADS_S)
        if left:
            logger.warning("threads that did not end: %s", ", ".join(left))
