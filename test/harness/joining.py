"""Waiting for a test's threads: one that does not end is a failure, not a pause."""

from __future__ import annotations

import threading

_JOIN_S = 120.0
"""For what hangs: longer than a machine may stand still."""


def join_all(*threads: threading.Thread) -> None:
    """Return when all threads have ended.

    Raises:
        AssertionError: one has not; it is named.
    """
    for thread in threads:
        thread.join(_JOIN_S)
    left = [thread.name for thread in threads if thread.is_alive()]
    assert not left, f"threads that did not end: {left}"
