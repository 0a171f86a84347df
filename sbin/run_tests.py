"""Runs lint, types, the comparison of generated code and the tests, and sums up.

usage: run_tests.py [ARGUMENT OF PYTEST]...

With arguments: one step after the other, pytest with these arguments last. Without: the parts of
`WAITING`, and beside them two at a time of those of `COMPUTING`, then `LAST` with the machine to
itself. Each part's output is kept and printed whole when the part has ended. Exit code 1 when any
failed. test/README.md says why these parts.

Uses nothing but the standard library.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable

# Node processes are not woken in time when tests that compute compete with them on equal terms.
NICENESS = 10


class Part(NamedTuple):
    """One command, with a line of its own in the summary.

    Attributes:
        niceness: added to that of this process.
        excuses: exit codes that are no failure, and what they mean.
    """

    name: str
    command: Sequence[str]
    niceness: int = 0
    excuses: Mapping[int, str] = {}


class Outcome(NamedTuple):
    """How a part went; `processor_s` counts its descendants, too, once they were waited for."""

    name: str
    ok: bool
    text: str
    elapsed_s: float
    processor_s: float


# Every test is in one of these five, whatever its marks; `unit` is divided by folders below.
MARKS = {
    "unit": "not (integration or compat or quiet or mutants)",
    "mutants": "mutants and not (integration or compat or quiet)",
    "integration": "integration and not (compat or quiet)",
    "compat": "compat and not quiet",
    "quiet": "quiet",
}

# Where all tests of a part are, if not anywhere; test/conftest.py sees to it. To import all others
# takes ten seconds of a slow core.
FOLDERS = {
    "integration": ("test/compat", "test/integration", "test/unit/sbin"),
    "compat": ("test/compat", "test/integration"),
    "quiet": ("test/integration",),
    "mutants": ("test/sim", "test/engine_model"),
}

# What is in `unit` by its marks runs in these parts; what is in none of their folders, in `unit`.
UNIT_FOLDERS = {
    "models": ("test/sim", "test/engine_model"),
    "unit queries": ("test/unit/query",),
    "unit engine": ("test/unit/engine",),
}


def _pytest(*arguments: str) -> list[str]:
    return [PYTHON, "-m", "pytest", *arguments]


def _tests(part: str) -> list[str]:
    """The tests of a part; tells why any were skipped, and which took long."""
    marks = MARKS["unit" if part in UNIT_FOLDERS else part]
    options = ["-m", marks, "-rfEs", "--durations=10", "--durations-min=5"]
    # not where pytest keeps those of its last runs: another one that ends tidies up there, too
    options.append(f"--basetemp={_folder_of_tests(part)}")
    if part == "unit":
        options += [f"--ignore={folder}" for folders in UNIT_FOLDERS.values() for folder in folders]
    return _pytest(*options, *FOLDERS.get(part, ()), *UNIT_FOLDERS.get(part, ()))


def _folder_of_tests(part: str) -> Path:
    return Path(tempfile.gettempdir()) / f"run-tests-{os.getpid()}-{part.replace(' ', '-')}"


CHECKS = (
    Part("ruff check", [PYTHON, "-m", "ruff", "check", "."]),
    Part("ruff format", [PYTHON, "-m", "ruff", "format", "--check", "."]),
    Part("mypy", [PYTHON, "-m", "mypy"]),
    Part(
        "thrift check",
        ["thrift/generate.sh", "--check"],
        excuses={2: "not compared: the Thrift compiler of thrift/generate.sh is not installed"},
    ),
)

# mostly wait: elections, time-outs, processes that start
WAITING = (Part("integration", _tests("integration")), Part("compat", _tests("compat")))

# each takes a core while it has it; two lanes take from this row, so they end at about the same
# time if the long ones come first
COMPUTING = (
    Part("unit", _tests("unit"), NICENESS),
    Part("mutants", _tests("mutants"), NICENESS),
    Part("models", _tests("models"), NICENESS),
    Part("unit queries", _tests("unit queries"), NICENESS),
    Part("unit engine", _tests("unit engine"), NICENESS),
    *(check._replace(niceness=NICENESS) for check in CHECKS),
)
LAST = Part("quiet", _tests("quiet"))


def lanes() -> list[Iterable[Part]]:
    """What runs side by side; a part of `COMPUTING` is taken by the lane that is free first."""
    row = _each_once(COMPUTING)
    return [WAITING, row, row]


def _each_once(parts: Sequence[Part]) -> Iterator[Part]:
    """Give each part to one of the threads that ask."""
    return iter(parts)  # that of a tuple or list: one call of the interpreter, under its lock


class Terminated(KeyboardInterrupt):
    """Only this process was told to end: those that it runs were not."""


def run_here(parts: Sequence[Part]) -> list[Outcome]:
    """Run parts one after the other, with our own input and output."""
    outcomes = []
    for part in parts:
        _say(f"\n==> {part.name}\n")
        began = time.monotonic()
        process = subprocess.Popen(part.command, cwd=ROOT)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt as interrupt:
            # it ends what it started; the terminal has told it as well
            if isinstance(interrupt, Terminated):
                process.send_signal(signal.SIGINT)
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        outcomes.append(_outcome(part, process.returncode, time.monotonic() - began, usage))
    return outcomes


class SideBySide:
    """Lanes of parts, each a thread; a part is printed whole when it has ended."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.outcomes: list[Outcome] = []
        self._say = say
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._stopped = False

    def run(self, lanes: Sequence[Iterable[Part]]) -> None:
        """Return when all lanes are through; raises what interrupts it, with the parts ended."""
        with (
            tempfile.TemporaryDirectory(prefix="run-tests-") as folder,
            ThreadPoolExecutor(len(lanes)) as pool,
        ):
            running = [pool.submit(self._run_lane, lane, Path(folder)) for lane in lanes]
            try:
                for lane in running:
                    lane.result()
            except BaseException:
                self._stop()
                raise

    def _stop(self) -> None:
        """Interrupt what is running, so that tests end the nodes they started; begin nothing."""
        with self._lock:
            self._stopped = True
            for pid in self._running:
                os.kill(pid, signal.SIGINT)

    def _run_lane(self, lane: Iterable[Part], folder: Path) -> None:
        for part in lane:
            output = folder / part.name.replace(" ", "-")
            began = time.monotonic()
            with output.open("wb") as file:
                process = self._start(part, file)
            if process is None:
                return
            # not reaped before it is struck off the list: its number is signalled to nobody else
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with self._lock:
                self._running.remove(process.pid)
                _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            outcome = _outcome(part, process.returncode, time.monotonic() - began, usage)
            said = output.read_text(encoding="utf-8", errors="replace")
            with self._lock:
                self.outcomes.append(outcome)
                self._say(f"\n==> {part.name}\n{said}")

    def _start(self, part: Part, output: BinaryIO) -> subprocess.Popen[bytes] | None:
        command = part.command
        if part.niceness:
            command = ["nice", "-n", str(part.niceness), *command]
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's interrupt reaches it once, through us
            )
            self._running.add(process.pid)
            self._say(f"    {part.name} has begun, output so far in {output.name}\n")
        return process


def _outcome(part: Part, code: int, elapsed_s: float, usage: resource.struct_rusage) -> Outcome:
    ok = code == 0 or code in part.excuses
    text = part.excuses.get(code, "ok" if ok else f"FAILED ({code})")
    return Outcome(part.name, ok, text, elapsed_s, usage.ru_utime + usage.ru_stime)


def summary(outcomes: Sequence[Outcome]) -> str:
    """A line for each part: its time, its time of a processor, how it went."""
    lines = [
        f"{name:<14} {elapsed_s:>6.0f} s, {processor_s:>6.0f} s of a processor  {text}"
        for name, _, text, elapsed_s, processor_s in outcomes
    ]
    return "\n".join(["", "==> summary", *lines, ""])


def _tidy(outcomes: Sequence[Outcome]) -> None:
    """Remove what tests have written, but for those of a part that failed."""
    for outcome in outcomes:
        folder = _folder_of_tests(outcome.name)
        if outcome.ok:
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.exists():
            _say(f"\nfiles of {outcome.name}: {folder}\n")


def _say(text: str) -> None:
    print(text, end="", flush=True)  # noqa: T201


def _terminated(_signal: int, _frame: object) -> None:
    raise Terminated


def main(arguments: Sequence[str]) -> int:
    """Run everything, print the summary, and return the exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        if arguments:
            outcomes = run_here([*CHECKS, Part("pytest", _pytest(*arguments))])
        else:
            parts = SideBySide(_say)
            parts.run(lanes())
            parts.run([[LAST]])
            outcomes = parts.outcomes
            _tidy(outcomes)
    except KeyboardInterrupt:
        _say("\ninterrupted\n")
        return 130
    _say(summary(outcomes))
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
