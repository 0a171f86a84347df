"""Slows wrong logins down, so that passwords can't be tried by the thousand.

The first two mistakes of a host for a user cost nothing: people mistype. From then on each attempt
waits, twice as long each time, whether its password is right or not, and attempts that come at the
same time wait one after the other. Where that would take too long they are refused unheard.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE_MISTAKES = 2
_FIRST_WAIT_S = 0.25
MAX_WAIT_S = 4.0
_MOST_DOUBLINGS = 16
"""More than `MAX_WAIT_S` anyway; who goes on for hours gets beyond what a float can hold."""
_FORGIVEN_AFTER_S = 300.0
_MAX_KNOWN = 10_000
_KEY_CHARS = 64
"""What is kept of a user's name: strangers name users of any length."""


@dataclass
class _Record:
    mistakes: int
    last_s: float
    free_at_s: float
    """When the next attempt may be looked at."""


class LoginThrottle:
    """Thread-safe.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()

    def wait_s(self, host: str, user: str) -> float | None:
        """Return how long an attempt has to wait before it is looked at; None: refuse it.

        The time is taken: the next attempt comes after it.
        """
        with self._lock:
            record = self._known(host, user)
            if record is None or record.mistakes <= FREE_MISTAKES:
                return 0.0
            now = self._clock()
            doublings = min(_MOST_DOUBLINGS, record.mistakes - FREE_MISTAKES - 1)
            pause = min(MAX_WAIT_S, _FIRST_WAIT_S * 2**doublings)
            start = max(now, record.free_at_s)
            if start - now > MAX_WAIT_S:
                return None
            record.free_at_s = start + pause
            return record.free_at_s - now

    def wrong(self, host: str, user: str) -> None:
        """Note a wrong password, or a user that does not exist."""
        now = self._clock()
        with self._lock:
            record = self._known(host, user)
            if record is None:
                record = self._records[_key(host, user)] = _Record(0, now, now)
                if len(self._records) > _MAX_KNOWN:
                    self._records.popitem(last=False)
            record.mistakes += 1
            record.last_s = now
            self._records.move_to_end(_key(host, user))

    def right(self, host: str, user: str) -> None:
        """Forget the mistakes of a host for a user."""
        with self._lock:
            self._records.pop(_key(host, user), None)

    def _known(self, host: str, user: str) -> _Record | None:
        record = self._records.get(_key(host, user))
        if record is not None and self._clock() - record.last_s > _FORGIVEN_AFTER_S:
            del self._records[_key(host, user)]
            return None
        return record


def _key(host: str, user: str) -> tuple[str, str]:
    return host, user[:_KEY_CHARS]
