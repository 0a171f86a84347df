"""Ports for nodes under test that nobody else takes: not another test run, not the system.

A node that is down for a while finds its ports free when it starts again only if they are none of
those that the system gives to outgoing connections. So they are from below these, and each process
has a block of them to itself, by a lock that ends with it and with the last of its nodes: one that
outlives its test would look for its cluster at ports that belong to another test's nodes by then.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_FIRST = 10_240
_BLOCK = 1000


def free_ports(count: int) -> list[int]:
    """Ports that are free now; none is given out again before the rest of the block was."""
    ports, _ = _own_block()
    tried = itertools.islice(ports, _BLOCK)
    found = list(itertools.islice(filter(_is_free, tried), count))
    assert len(found) == count, "too few ports of this process's block are free"
    return found


def lock() -> int:
    """The descriptor that a node process has to inherit."""
    return _own_block()[1]


@cache
def _own_block() -> tuple[Iterator[int], int]:
    """The ports of a block that no other process has, again and again, and what locks it."""
    end = _end()
    folder = Path(tempfile.gettempdir()) / f"iotdb-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for first in range(_FIRST, end - _BLOCK, _BLOCK):
        held = os.open(folder / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
        else:
            return itertools.cycle(range(first, first + _BLOCK)), held
    raise AssertionError(f"every block of ports from {_FIRST} to {end} is taken: see {folder}")


def _end() -> int:
    """The first port that the system gives to outgoing connections."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except FileNotFoundError:
        return 32_768  # no system that we know begins below


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
