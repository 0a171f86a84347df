"""Runs a module under a wall clock that can be set: `stepped_clock.py FILE MODULE [ARGUMENT]...`

FILE holds the offset in ns as 8 little-endian bytes and may change at any time. The monotonic clock
is left alone, as when an administrator or a time server sets a real machine's clock. (libfaketime
0.9.10 can't stand in: with it preloaded, time.sleep of CPython 3.11 fails with EINVAL.)
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_OFFSET = struct.Struct("<q")


def set_offset(path: Path, offset_ns: int) -> None:
    """Set the clock of the process that runs under `path`, or make the file."""
    if not path.exists():
        path.write_bytes(bytes(_OFFSET.size))
    with path.open("r+b") as file:
        file.write(_OFFSET.pack(offset_ns))


def _install(path: Path) -> None:
    with path.open("r+b") as file:
        offset = mmap.mmap(file.fileno(), _OFFSET.size, prot=mmap.PROT_READ)
    real_ns = time.time_ns
    time.time_ns = lambda: real_ns() + _OFFSET.unpack_from(offset)[0]
    time.time = lambda: time.time_ns() / 1e9


def main() -> None:
    path, module = Path(sys.argv[1]), sys.argv[2]
    _install(path)
    sys.argv[:] = [module, *sys.argv[3:]]
    sys.path[0] = ""
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
