"""A cache of decoded arrays, bounded in bytes, least recently used out first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any


class ByteCache:
    """Maps keys to values with a size each. Thread-safe; O(1) for each key.

    Values are shared between readers and never changed. Keys name immutable things (a page of a
    chunk whose sequence is never reused, the first n rows of a memory table), so nothing has to be
    invalidated.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._used = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable) -> Any | None:  # noqa: ANN401 the key tells the type
        """Return the value, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.misses += 1
                return None
            self._entries.move_to_end(key)
            self.hits += 1
            return entry[0]

    def get_many(self, keys: Sequence[Hashable]) -> list[Any]:
        """Return for each key the value, or None."""
        entries = self._entries
        with self._lock:
            found = [entries.get(key) for key in keys]
            missing = 0
            for key, entry in zip(keys, found, strict=True):
                if entry is None:
                    missing += 1
                else:
                    entries.move_to_end(key)
            self.misses += missing
            self.hits += len(keys) - missing
        return [None if entry is None else entry[0] for entry in found]

    def put(self, key: Hashable, value: object, size: int) -> None:
        """Keep a value of `size` bytes; one larger than a quarter of the limit is not kept."""
        if size > self._limit // 4:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._used -= old[1]
            self._entries[key] = (value, size)
            self._used += size
            while self._used > self._limit:
                self._used -= self._entries.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._used = 0

    @property
    def limit_bytes(self) -> int:
        """Most bytes that are kept."""
        return self._limit

    @property
    def used_bytes(self) -> int:
        """Bytes of what is kept."""
        return self._used
