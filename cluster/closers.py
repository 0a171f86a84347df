"""Closing what was opened, in reverse order."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cluster.threads import ThreadRegistry
from iotdb_engine import Engine
from iotdb_engine.errors import EngineError

logger = logging.getLogger(__name__)

_THREADS_S = 5.0


class Closers:
    """What a node has opened so far; `close` may be called from any thread, and again."""

    def __init__(self) -> None:
        self._closers: list[Callable[[], None]] = []

    def add(self, close: Callable[[], None]) -> None:
        """Have this called before everything that was added earlier."""
        self._closers.append(close)

    def close(self, threads: ThreadRegistry, *, after_failure: bool = False) -> None:
        """Call each once, the latest first, then wait for the threads of the node.

        An error of one is logged and keeps none of the others from being closed.

        Args:
            threads: of the node.
            after_failure: it stops because it can't go on, so that errors are no surprise.
        """
        while self._closers:
            close = self._closers.pop()
            try:
                close()
            except Exception as error:
                if after_failure:
                    logger.warning("not closed as it should be: %s", error)
                else:
                    logger.exception("closing failed; going on with the rest")
        left = threads.join_all(_THREADS_S)
        if left:
            logger.warning("threads that did not end: %s", ", ".join(left))


def close_engine(engine: Engine, *, flush: bool = True) -> None:
    """Close an engine whose entries come from a log, so that nothing is lost if it can't store.

    Args:
        engine: to be closed.
        flush: store what is in memory first.
    """
    try:
        engine.close(flush=flush)
    except EngineError as error:
        logger.warning(
            "what was in memory could not be stored, and is taken from the log at the next "
            "start: %s",
            error,
        )
