"""Views of RocksDB: iterators, each of which sees the state that it was made in.

Problem: an iterator takes 10 us to make and to drop, and most reads find all that they want in the
read cache. Idea: copy on write. A view has no iterator until it is looked into; before the store
changes, those that were not get theirs. Changes are flushes and merges: seldom, beside reads.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from iotdb_engine.errors import Closed, EngineError

RocksIterator = Any
"""`rocksdict.RdictIter`."""


class RocksViews:
    """The views of one store. Thread-safe.

    Args:
        make: returns an iterator over the state of now; its argument as in `Store.view`.
        translate: turns what RocksDB raises into an error of the engine; `key`: near what.
    """

    def __init__(
        self,
        make: Callable[[bool], RocksIterator],
        translate: Callable[..., EngineError],
    ) -> None:
        self._make = make
        self.translate = translate
        self._lock = threading.Lock()
        self._views: weakref.WeakSet[RocksView] = weakref.WeakSet()
        self._changes = 0
        self._open = True

    def new(self, *, bulk: bool) -> RocksView:
        """Return a view of the state of now.

        Raises:
            Closed: the store is closed.
        """
        view = RocksView(self, bulk=bulk)
        with self._lock:
            if not self._open:
                raise Closed("the engine is closed")
            if self._changes:  # it is to see all of a change, or nothing
                self._settle_locked(view)
            self._views.add(view)
        return view

    @contextmanager
    def change(self) -> Iterator[None]:
        """Let the store be changed within the block: views of before keep what they had."""
        with self._lock:
            for view in list(self._views):
                self._settle_locked(view)
            self._changes += 1
        try:
            yield
        finally:
            with self._lock:
                self._changes -= 1

    def settle(self, view: RocksView) -> RocksIterator:
        """Return a view's iterator, made now if it has none.

        Raises:
            Closed: it was released.
        """
        with self._lock:
            return self._settle_locked(view)

    def _settle_locked(self, view: RocksView) -> RocksIterator:
        if view.iterator is None and not view.released:
            view.iterator = self._make(view.bulk)
        return view.iterator

    def release(self, view: RocksView) -> None:
        """Drop a view's iterator, and make none for it."""
        with self._lock:
            view.released = True
            view.iterator = None
            self._views.discard(view)

    def close(self) -> bool:
        """Release all, and refuse new ones; False if that was done before."""
        with self._lock:
            if not self._open:
                return False
            self._open = False
            views = list(self._views)
        for view in views:
            view.release()
        return True


class RocksView:
    """One iterator, which sees the state it was created in, whatever happens later.

    Not a rocksdict Snapshot: iterators made from one (0.3.29) see the newest data, only its
    subscript heeds the snapshot.

    Attributes:
        bulk: as in `Store.view`.
        iterator: None where there is none yet, or no more; guarded by the lock of `RocksViews`.
        released: there will be none.
    """

    def __init__(self, views: RocksViews, *, bulk: bool) -> None:
        self._of = views
        self.bulk = bulk
        self.iterator: RocksIterator | None = None
        self.released = False
        self._lock = threading.Lock()
        self._seeks = 0

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        with self._lock:
            at = self._seek(key)
            if at.valid() and at.key() == key:
                value: bytes = at.value()
                return value
            return None

    def scan(self, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in [lo, hi), in key order."""
        with self._lock:
            at = self._seek(lo)
            seeks = self._seeks
            key = at.key() if at.valid() else hi
            value = at.value() if key < hi else b""
        while key < hi:
            yield key, value
            with self._lock:
                if seeks == self._seeks:
                    at = self._check()
                else:
                    # Another call moved the iterator since.
                    at = self._seek(key)
                    seeks = self._seeks
                at.next()
                self._status(at, key)
                key = at.key() if at.valid() else hi
                value = at.value() if key < hi else b""

    def first_key(self, lo: bytes, hi: bytes) -> bytes | None:
        """Return the lowest key in [lo, hi), or None."""
        with self._lock:
            at = self._seek(lo)
            key: bytes = at.key() if at.valid() else hi
            return key if key < hi else None

    def release(self) -> None:
        """Let go of what the view holds; later calls raise `Closed`."""
        with self._lock:
            self._of.release(self)

    def _check(self) -> RocksIterator:
        found = self.iterator
        if found is None:
            found = self._of.settle(self)
        if found is None:
            raise Closed("the engine was closed while it was read, or the view was released")
        return found

    def _seek(self, key: bytes) -> RocksIterator:
        at = self._check()
        self._seeks += 1
        at.seek(key)
        self._status(at, key)
        return at

    def _status(self, at: RocksIterator, key: bytes) -> None:
        """Raise what kept the iterator from going to a key, or behind it."""
        if at.valid():
            return
        try:
            at.status()
        except Exception as error:
            raise self._of.translate(error, key=key) from error
