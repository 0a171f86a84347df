"""Nodes that branch off one process that has imported what they consist of.

Half of what the start of a node costs are its imports: more than a second of a slow core, hundreds
of times in a run of the tests. Here one process of each test run imports them, builds the grammars,
and is forked for every node. From there on it is a node as `python -m cluster.node_command` makes
one: a process and a session of its own, the same options, the same `main`, its own output, memory
and end. Nothing of a node's is done before the fork, and the stem has no thread of Python's.

`Node.own_interpreter` has a node run by its command all the same; so are those in a namespace or
under another clock, all of benches and long runs, whose figures are those of users, and all where
there are no descriptors of processes (Linux has them). test/conftest.py turns it on.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).resolve().parents[2]
_MODULE = "cluster.node_command"
_LARGEST = 1 << 17
_STATUS = "i"
"""Type of array of a status of wait(2), of process ids."""


# ---- in the process of the tests ----


class Branch:
    """A process that the stem was forked for; like a `subprocess.Popen`."""

    def __init__(self, pid: int, handle: int, told: int) -> None:
        """Take over two descriptors: of the process, and what the stem tells its end through."""
        self.pid = pid
        self.returncode: int | None = None
        self._handle = handle
        self._told = told
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code if it has ended; `-9` and the like by a signal."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended.

        Raises:
            subprocess.TimeoutExpired: it runs on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self.returncode is not None:
                    return self.returncode
                # of those who wait at the same time one hears of it: nobody waits here for long
                left = 0.05 if end is None else min(0.05, max(0.0, end - time.monotonic()))
                if select.select([self._told], [], [], left)[0]:
                    return self._take_end()
            if end is not None and time.monotonic() >= end:
                assert timeout is not None
                raise subprocess.TimeoutExpired(f"node, process {self.pid}", timeout)

    def send_signal(self, number: int) -> None:
        """Send a signal, to no other process than this one."""
        with self._lock:
            if self.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _take_end(self) -> int:
        said = os.read(self._told, 64)
        os.close(self._told)
        os.close(self._handle)
        assert said, "the stem ended before its node"
        self.returncode = os.waitstatus_to_exitcode(array.array(_STATUS, said)[0])
        return self.returncode


class _Stem:
    """The process that is forked, from here."""

    def __init__(self, keep: Sequence[int]) -> None:
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join([str(_ROOT), str(_ROOT / "test")])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.node_stem", str(theirs.fileno())],
                cwd=_ROOT,
                env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *keep),
                start_new_session=True,
            )
        atexit.register(self.close)

    def branch(
        self, options: Sequence[str], output: int, cwd: Path, env: Mapping[str, str]
    ) -> Branch:
        told, tell = os.pipe()
        try:
            request = json.dumps([list(options), str(cwd), dict(env)]).encode()
            assert len(request) <= _LARGEST
            with self._lock:
                socket.send_fds(self._ours, [request], [output, tell])
                said, handles, _, _ = socket.recv_fds(self._ours, 64, 1)
        finally:
            os.close(tell)
        assert handles, "the stem of nodes has ended"
        return Branch(array.array(_STATUS, said)[0], handles[0], told)

    def close(self) -> None:
        self._ours.close()
        self._process.wait()


_stems: dict[int, _Stem] = {}
_stems_lock = threading.Lock()
_is_on = False


def turn_on() -> None:
    """Have this process's nodes branch off, where that is possible."""
    global _is_on
    _is_on = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


def is_on() -> bool:
    """Whether nodes are to branch off."""
    return _is_on


def branch(
    options: Sequence[str], *, output: int, cwd: Path, env: Mapping[str, str], keep: Sequence[int]
) -> Branch:
    """Start a node.

    Args:
        options: of its command line.
        output: descriptor of the file for its output, as of one that is to be closed here.
        env: all of its environment.
        keep: descriptors that every node inherits; those of the first call count.
    """
    with _stems_lock:
        stem = _stems.get(os.getpid())
        if stem is None:
            stem = _stems[os.getpid()] = _Stem(keep)
    return stem.branch(options, output, cwd, env)


# ---- in the stem ----


class _Request(NamedTuple):
    """What to fork for; `output` and `tell` are descriptors."""

    options: list[str]
    cwd: str
    env: dict[str, str]
    output: int
    tell: int


class _Children:
    """The running nodes by the descriptors of their processes, and where to tell their ends."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[int, int]] = {}

    def handles(self) -> list[int]:
        return list(self._running)

    def add(self, pid: int, tell: int) -> int:
        # nobody else waits for it, so this is the process that was forked
        handle = os.pidfd_open(pid)
        self._running[handle] = (pid, tell)
        return handle

    def reap(self, handle: int) -> None:
        pid, tell = self._running.pop(handle)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(BrokenPipeError):  # who waited has ended
            os.write(tell, array.array(_STATUS, [status]).tobytes())
        os.close(tell)
        os.close(handle)

    def forget(self) -> None:
        """In a child: its siblings are none of its business."""
        for handle, (_, tell) in self._running.items():
            os.close(tell)
            os.close(handle)
        self._running.clear()


def _next_node(control: socket.socket) -> _Request | None:
    """Fork for each request: returns it in the child, and None in the stem, at the end."""
    children = _Children()
    while True:
        ready = select.select([control, *children.handles()], [], [])[0]
        for handle in ready:
            if handle is not control:
                children.reap(handle)
        if control not in ready:
            continue
        text, files, _, _ = socket.recv_fds(control, _LARGEST, 2)
        if not text:
            return None
        request = _Request(*json.loads(text), *files)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that numpy's threads are not in the child: it knows
            pid = os.fork()
        if not pid:
            children.forget()
            control.close()
            os.close(request.tell)
            return request
        os.close(request.output)
        said = array.array(_STATUS, [pid]).tobytes()
        socket.send_fds(control, [said], [children.add(pid, request.tell)])


def _become(request: _Request) -> None:
    """Be as a process that was started with that output, folder and environment."""
    os.setsid()
    os.dup2(request.output, 1)
    os.dup2(request.output, 2)
    os.close(request.output)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    time.tzset()
    sys.path[:] = [request.cwd, *(path for path in sys.path[1:] if path != str(_ROOT / "test"))]
    sys.argv = [_MODULE, *request.options]


def main() -> None:
    """Import what nodes consist of, and be forked."""
    # all that they import before they know their settings, and what they build then
    import cluster.main  # noqa: F401
    from cluster import node_command
    from cluster.server.client_server import prepare

    prepare()
    gc.collect()
    gc.freeze()  # or each child would copy the pages where it counts references to find cycles
    request = _next_node(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        _become(request)
        node_command.main(prog_name="start-node.sh")


if __name__ == "__main__":
    main()
