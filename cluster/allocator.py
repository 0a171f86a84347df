"""Settings of the C library's allocator that suit a server with large, long-lived buffers.

A tablet's bytes are allocated by the thread of its connection and stay until a flush. With glibc's
defaults every thread grows an arena of its own in steps of a few pages, and gives memory back to
the system as soon as it can: for each tablet some system calls, and twenty page faults. One
arena that grows and shrinks in large steps spares most of that (docs/notes/memory.md). Threads
that allocate hold the GIL anyhow, so they don't wait for one another at the arena's lock.
"""

from __future__ import annotations

import ctypes

# parameters of mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_STEP_BYTES = 32 << 20
_LEAST_KEPT_BYTES = 128 << 20
_MOST_KEPT_BYTES = (1 << 31) - 1
"""The largest that mallopt(3) takes."""
_MAPPED_FROM_BYTES = 4 << 20


def tune_allocator(keep_bytes: int = 0) -> bool:
    """Set the allocator up, before threads start; False where it is not glibc's.

    Args:
        keep_bytes: free memory that the process keeps for its next tables.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_TOP_PAD, _STEP_BYTES)
    mallopt(_M_TRIM_THRESHOLD, min(max(keep_bytes, _LEAST_KEPT_BYTES), _MOST_KEPT_BYTES))
    mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
    return True
