"""One process that runs code of a user, and what is said to it."""

from __future__ import annotations

import logging
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path

from cluster.query.udf import wire, worker

logger = logging.getLogger(__name__)

START_S = 20.0
"""Longest that a module takes to load and a class to be made."""

Code = tuple[str, int]
"""A class, and when its module was last written: a process that has it must be of that time."""


def code_of(folder: Path, class_name: str) -> Code:
    """Return the version of a class's module as it is on disk now."""
    module = folder.joinpath(*class_name.partition(":")[0].split("."))
    try:
        return class_name, module.with_suffix(".py").stat().st_mtime_ns
    except OSError:
        return class_name, 0


class UdfError(Exception):
    """A function or trigger of a user failed; the text says how."""


class WorkerProcess:
    """One worker; used by one thread at a time.

    Raises:
        UdfError: it can't be started.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", worker.__name__, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={
                    "PATH": os.environ.get("PATH", ""),
                    "PYTHONPATH": str(Path(__file__).parents[3]),
                    "OPENBLAS_NUM_THREADS": "1",
                },
                cwd=folder,
            )
        except OSError as error:  # no room for one, or no such folder any more
            raise UdfError(f"its process can't be started: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input = self._process.stdin.fileno()
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)

    def ask(self, request: bytes, timeout_s: float) -> wire.Message:
        """Send a request and return its answer.

        Raises:
            UdfError: the function failed, took too long, or ended its process. The last two end
                this worker.
        """
        end = time.monotonic() + timeout_s
        try:
            self._send(request, end)
            message = wire.decode(lambda count: self._receive(count, end))
        except (OSError, ValueError) as error:
            self.close()
            raise UdfError(f"its process ended: {error}") from error
        except BaseException:
            self.close()  # what is left in its pipes would be the answer to the next request
            raise
        if "error" in message.head:
            raise UdfError(str(message.head["error"]))
        return message

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process; any thread may. Who asks it meanwhile is told so, and closes it."""
        self._process.kill()

    def close(self) -> None:
        """End the process, and give back what it held."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError as error:
                    logger.debug("pipe of a function's process: %s", error)

    def _send(self, request: bytes, end: float) -> None:
        left = memoryview(request)
        while left:
            self._wait(self._input, selectors.EVENT_WRITE, end)
            left = left[os.write(self._input, left[: 1 << 16]) :]

    def _receive(self, count: int, end: float) -> bytes:
        parts = []
        while count:
            self._wait(self._output, selectors.EVENT_READ, end)
            part = os.read(self._output, min(count, 1 << 20))
            if not part:
                raise UdfError("its process ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    @staticmethod
    def _wait(descriptor: int, event: int, end: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            if not selector.select(max(0.0, end - time.monotonic())):
                raise UdfError("it took too long (udf_timeout_ms)")
