"""How much memory this process may have, and what share of it waits to be flushed by default."""

from __future__ import annotations

import os
from pathlib import Path

_LEAST_BYTES = 64 << 20
_MOST_BYTES = 3 << 30
_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")


def memory_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the machine's memory, or the container's limit where that is less.

    Args:
        cgroup: where a container sees its own control group (version 2, then 1).
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUP_LIMITS:
        try:
            text = (cgroup / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():  # "max" is no limit
            memory = min(memory, int(text))
    return memory


def default_memtable_bytes(memory: int) -> int:
    """Return the budget of memory tables for a node that has `memory` bytes.

    A large one lets bursts pass at the speed of the log, since encoding columns costs more than
    everything else that a tablet needs; what it costs is time to replay the log after a crash.
    """
    return min(max(memory // 8, _LEAST_BYTES), _MOST_BYTES)
