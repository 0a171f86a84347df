"""Processes that were forked from one that has RocksDB open.

RocksDB's threads are not in such a process. At its end RocksDB waits for them all the same, which
is a segmentation fault; and a store that is freed would wait for them to write its memory tables,
into files that the parent is writing. So a forked process frees no store, and ends without the exit
handlers of its libraries, as by `os._exit`, but after Python's own end and with its exit code.
"""

from __future__ import annotations

import ctypes
import os
import weakref

_open: weakref.WeakSet[object] = weakref.WeakSet()
_is_prepared = False


def keep_in_children(store: object) -> None:
    """Have a store of RocksDB never be freed in processes that are forked from this one."""
    global _is_prepared
    _open.add(store)
    if not _is_prepared:
        _is_prepared = True
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_leave_to_parent)


def _leave_to_parent() -> None:
    for store in list(_open):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(store))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # of glibc; what was registered last is called first
        libc.on_exit.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)
