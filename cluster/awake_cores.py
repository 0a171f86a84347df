"""Keeps this machine's cores from halting while requests come in a stream.

Problem: between a request and its answer threads sleep and wake one another many times: the row
loop, the kernel's workers that end a write of the log, the clients. On a virtual machine a core
that has nothing to do is halted at once, and to wake it takes a trip to the host and back, 20 to
100 µs each time: a fifth of the time of a row (docs/notes/ingestion.md).

Idea: Linux takes requests for the longest time that waking a core may take: whoever holds
/dev/cpu_dma_latency open with a zero written to it has idle cores look for work instead of halting
(Documentation/power/pm_qos_interface.rst of the kernel). That costs the host their time, so it is
held only while it helps: as long as threads of this process are woken often. Closed, also by a
crash, it is gone.

Where the file is missing or refused (other systems, containers, users other than root) nothing is
held.
"""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

_REQUESTS = Path("/dev/cpu_dma_latency")
_DRIVER = Path("/sys/devices/system/cpu/cpuidle/current_driver")
_HALTING_DRIVER = "haltpoll"
_MOST_CORES = 8
"""All cores of the machine look for work, so a large one pays more than a node gains."""
_NO_LATENCY = bytes(4)
"""An int32, microseconds."""
_LOOK_S = 0.25
_WAKES_PER_S = 500.0
"""A node without requests has 20 to 150, one that serves a single client of rows some thousands."""


class AwakeCores:
    """`run` is a thread's body; `stop` may be called by any.

    Args:
        requests: the file that takes requests.
        wakes: returns how often threads of this process have slept and were woken so far.
        now: monotonic seconds.
    """

    def __init__(
        self,
        requests: Path,
        wakes: Callable[[], int],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = requests
        self._get_wakes = wakes
        self._now = now
        self._wakes = wakes()
        self._looked_at = now()
        self._fd = -1
        self._stopping = threading.Event()

    @property
    def holds(self) -> bool:
        """Whether cores are kept from halting."""
        return self._fd >= 0

    def run(self) -> None:
        """Thread body: look a few times a second, until `stop` or until the system refuses."""
        try:
            while not self._stopping.wait(_LOOK_S) and self.look():
                pass
        finally:
            self._let_go()

    def stop(self) -> None:
        """End the thread, which lets go."""
        self._stopping.set()

    def look(self) -> bool:
        """Hold or let go, by what has happened since the last look; False: the system refuses."""
        wakes, now = self._get_wakes(), self._now()
        is_stream = wakes - self._wakes >= _WAKES_PER_S * (now - self._looked_at)
        self._wakes, self._looked_at = wakes, now
        if not is_stream:
            self._let_go()
        elif not self.holds:
            try:
                self._hold()
            except OSError as error:
                self._let_go()
                logger.info("idle cores halt also while requests come: %s", error)
                return False
        return True

    def _hold(self) -> None:
        self._fd = os.open(self._requests, os.O_WRONLY | os.O_CLOEXEC)
        os.write(self._fd, _NO_LATENCY)

    def _let_go(self) -> None:
        if self.holds:
            os.close(self._fd)
            self._fd = -1


def awake_cores(wanted: str, driver: Path = _DRIVER, cores: int | None = None) -> AwakeCores | None:
    """Return what keeps cores awake; None: nothing should here.

    Args:
        wanted: `keep_cores_awake` of the settings.
        driver: tells what Linux does with idle cores.
        cores: of this machine; None: as many as it has.
    """
    if wanted == "never" or (wanted == "auto" and not _is_worth_it(driver, cores)):
        return None
    return AwakeCores(_REQUESTS, _voluntary_switches)


def _is_worth_it(driver: Path, cores: int | None) -> bool:
    """Whether this is a small virtual machine whose idle cores go back to its host."""
    try:
        name = driver.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return name == _HALTING_DRIVER and (cores or os.cpu_count() or 1) <= _MOST_CORES


def _voluntary_switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
