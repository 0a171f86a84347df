"""SIGTERM and Ctrl-C as a call from a thread.

A handler of Python's `signal` runs in the main thread between two steps of whatever that does, so
it may take no lock: `Event.set` there waits for ever if the main thread was just about to wait for
that event. A thread that is told through a pipe may take any.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Waits for the first signal that asks this process to stop."""

    def __init__(
        self, on_signal: Callable[[], None], spawn: Callable[[str, Callable[[], None]], object]
    ) -> None:
        """Take the signals from now on. Called in the main thread.

        Args:
            on_signal: called once, in a thread of its own.
            spawn: starts a thread.
        """
        self._on_signal = on_signal
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        # the interpreter writes the signal's number from its own handler, whatever main does
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        spawn("stop-signals", self._run)

    def close(self) -> None:
        """Have the thread end; a signal that comes later changes nothing."""
        signal.set_wakeup_fd(-1)
        os.close(self._writer)

    def _run(self) -> None:
        told = False
        while os.read(self._reader, 64):
            if not told:
                told = True
                self._on_signal()
        os.close(self._reader)
