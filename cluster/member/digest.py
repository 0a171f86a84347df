"""A digest of a replica's whole state at one applied index.

By parts, so that replicas can be compared and the first part that differs be named.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from cluster.member.request_table import KEY_PREFIX as REQUESTS_PREFIX
from cluster.rpc.deadline import Deadline
from iotdb_engine.picture import DIGEST_BYTES, RegionPicture, points_digest

_KEY = b"k"
_REQUESTS = b"r"
_SERIES = b"s"
_KEEP_S = 120.0


class Leaf(NamedTuple):
    """One part of the state.

    Attributes:
        label: unique, ascending: a key of the key-value state, the table of requests, or a series.
        count: points of a series, outcomes of the table; 1 for a key.
        digest: of the part.
    """

    label: bytes
    count: int  # type: ignore[assignment]
    digest: bytes


def series_of_label(label: bytes) -> int | None:
    """Return the series that a label is of, or None."""
    return int.from_bytes(label[1:], "big") if label[:1] == _SERIES else None


def label_text(label: bytes) -> str:
    """Return a label for people."""
    if label[:1] == _KEY:
        return f"key {label[1:].decode('utf-8', 'backslashreplace')}"
    if label[:1] == _REQUESTS:
        return "table of requests"
    return f"points of series {series_of_label(label)}"


class ReplicaDigest:
    """The leaves of one state, in memory: about 40 bytes each and the keys."""

    def __init__(self, index: int, leaves: Iterator[Leaf]) -> None:
        self.index = index
        self.leaves = list(leaves)
        root = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for label, count, digest in self.leaves:
            root.update(len(label).to_bytes(4, "big") + label)
            root.update(count.to_bytes(8, "big") + digest)
        self.root = root.digest()

    def after(self, label: bytes, limit: int) -> list[Leaf]:
        """Return up to `limit` leaves with labels above `label`."""
        lo, hi = 0, len(self.leaves)
        while lo < hi:
            middle = (lo + hi) // 2
            if self.leaves[middle].label <= label:
                lo = middle + 1
            else:
                hi = middle
        return self.leaves[lo : lo + limit]


class DigestBook:
    """The state that a DigestPlan marked last, until somebody asks for its digest. Thread-safe.

    The applier only takes a picture; whoever asks computes. A picture pins files of the store, so
    one that nobody asks for is let go.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._picture: RegionPicture | None = None
        self._requests = (0, b"")
        self._taken_at = 0.0
        self._computing = False
        self._done: ReplicaDigest | None = None

    def mark(self, picture: RegionPicture, requests: tuple[int, bytes]) -> None:
        """Take a picture in; the one before is dropped."""
        with self._changed:
            old, self._picture = self._picture, picture
            self._requests = requests
            self._taken_at = time.monotonic()
            self._done = None
            self._changed.notify_all()
        if old is not None:
            old.close()

    def expire(self) -> None:
        """Let go of what is old; called now and then."""
        with self._changed:
            if time.monotonic() - self._taken_at < _KEEP_S:
                return
            old, self._picture, self._done = self._picture, None, None
        if old is not None:
            old.close()

    def get(self, index: int, deadline: Deadline) -> ReplicaDigest | None:
        """Return the digest of the state that entry `index` marked.

        None when the entry is not applied before the deadline, or its state is kept no longer.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._at(index) and not self._computing, deadline.remaining_s()
            )
            if self._done is not None and self._done.index == index:
                return self._done
            if self._computing or self._picture is None or self._picture.index != index:
                return None
            picture, self._picture = self._picture, None
            requests = self._requests
            self._computing = True
        done = None
        try:
            done = ReplicaDigest(index, _leaves(picture, requests))
        finally:
            picture.close()
            with self._changed:
                self._computing = False
                if self._picture is None:
                    self._done = done
                self._changed.notify_all()
        return done

    def _at(self, index: int) -> bool:
        at = self._picture or self._done
        return self._computing or (at is not None and at.index >= index)


def _leaves(picture: RegionPicture, requests: tuple[int, bytes]) -> Iterator[Leaf]:
    for key, value in picture.key_values():
        # their stored form is as old as the last flush; the table itself was asked
        if not key.startswith(REQUESTS_PREFIX):
            digest = hashlib.blake2b(value, digest_size=DIGEST_BYTES).digest()
            yield Leaf(_KEY + key, 1, digest)
    yield Leaf(_REQUESTS, *requests)
    for series_id, kind in picture.series():
        count, digest = points_digest(kind, picture.read(series_id, kind))
        if count:
            yield Leaf(_SERIES + series_id.to_bytes(8, "big"), count, digest)
