"""One thread that does, for many connections, what never waits.

Problem: a row that is inserted is a little work and many hand-overs: a thread for each connection,
one for each follower, one for the log, each woken by another one, over a lock that only one can
hold. With three nodes that came to 14 switches of threads a row, and four fifths of the time.

Idea: whoever has something for this thread leaves it here; the thread looks at all its sockets and
at all that was left, then has the log written once for everything, then sends what has become
known. What gathers during a round goes together in the next.

Nothing that runs here may wait for another thread or another node. What waits for the disk does so
in `away`: when that takes long, another thread goes on with the loop meanwhile.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)

_LOOK_S = 0.25
_MOST_POLLS = 4
"""So often a round looks at its sockets: what has come meanwhile goes together with the rest."""
_AWAY_S = 0.2
"""Whoever is away for so long is relieved."""
_RELIEF_LOOK_S = 0.1
READABLE = 1  # EPOLLIN
WRITABLE = 4  # EPOLLOUT


class _Relieved(BaseException):
    """Another thread has taken over."""


class FrameLoop:
    """The thread's work, and what others leave for it; `run` is the thread.

    Args:
        spawn: starts a thread that runs its argument, when the present one has to be relieved;
            None: it never is.

    Attributes:
        now: monotonic seconds at the beginning of the round; only for the thread itself.
    """

    def __init__(self, spawn: Callable[[Callable[[], None]], object] | None = None) -> None:
        self._spawn = spawn
        self._relief = threading.Lock()
        self._shift = 0
        self._away_since = 0.0
        self._busy = threading.Event()
        self._done = threading.Event()
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, READABLE)
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._flushes: list[Callable[[], None]] = []
        self._turns: list[Callable[[], None]] = []
        self._watches: list[Callable[[float], bool]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()
        self._leavers: list[Callable[[], None]] = []
        self._is_watching = False
        self._asleep = False
        self._stopping = False
        self._ended = threading.Lock()
        self._is_open = True
        self._thread = 0
        self.now = time.monotonic()

    @staticmethod
    def is_possible() -> bool:
        """Whether this system has what it takes."""
        return hasattr(select, "epoll") and hasattr(os, "eventfd")

    # ---- from any thread ----

    def call(self, work: Callable[[], None]) -> bool:
        """Have `work` run by the thread soon, in order; False: it runs no more."""
        if self._stopping:
            return False
        self._calls.append(work)
        # the thread looks at the calls after it has said that it sleeps: one sees the other
        if self._asleep and not self.is_this_thread:
            self._asleep = False
            self._ring()
        return True

    @property
    def has_ended(self) -> bool:
        """Whether nothing that was left here will be done any more."""
        return not self._is_open

    @property
    def is_stopping(self) -> bool:
        """Whether this is the last round."""
        return self._stopping

    @property
    def is_this_thread(self) -> bool:
        """Whether the calling thread is the one that does the loop's work now."""
        return threading.get_ident() == self._thread

    def stop(self) -> None:
        """End the thread; whoever has registered is told in the thread, before it ends."""
        if not self._stopping:
            self._stopping = True
            self._busy.set()
            self._ring()

    def wait_for_end(self, most_s: float) -> bool:
        """Wait until the thread has done its last round; False: it has not yet."""
        return self._done.wait(most_s)

    def _ring(self) -> None:
        # a loop that has ended has no bell, and needs none
        with self._ended, contextlib.suppress(BlockingIOError):
            if self._is_open:
                os.eventfd_write(self._bell, 1)

    def each_turn(self, work: Callable[[], None]) -> None:
        """Have `work` run in every round, behind what sockets and calls have brought."""
        self._turns.append(work)

    def watch(self, look: Callable[[float], bool]) -> None:
        """Have `look` called with the time, some times a second.

        It returns whether it has something to look after: while nobody has, and nothing comes, the
        thread sleeps.
        """
        self._watches.append(look)

    def before_end(self, leave: Callable[[], None]) -> None:
        """Have `leave` called by the thread when it ends."""
        self._leavers.append(leave)

    # ---- in the thread ----

    def register(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with an event mask while there is something to read."""
        self._handlers[fd] = handler
        self._epoll.register(fd, READABLE)

    def await_room(self, fd: int, wanted: bool) -> None:
        """Have the handler called also when there is room to write, or no more."""
        self._epoll.modify(fd, READABLE | WRITABLE if wanted else READABLE)

    def unregister(self, fd: int) -> None:
        """Call no handler any more; before the socket is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def flush_later(self, flush: Callable[[], None]) -> None:
        """Call `flush` at the end of the round."""
        self._flushes.append(flush)

    def call_at(self, when: float, work: Callable[[], None]) -> None:
        """Have `work` run at a time on the monotonic clock, a millisecond late at most, or soon."""
        heapq.heappush(self._timers, (when, next(self._timer_numbers), work))

    def away(self, work: Callable[[], None]) -> None:
        """Do something that may wait for the disk; call it where nothing is half done.

        When it takes long, the loop goes on in another thread, and this call does not return: it
        leaves the thread's body with an exception that nobody is to catch.
        """
        shift = self._shift
        self._away_since = time.monotonic()
        try:
            work()
        finally:
            with self._relief:
                relieved = self._shift != shift
                if not relieved:
                    self._away_since = 0.0
        if relieved:
            raise _Relieved

    def watch_over(self) -> None:
        """Body of a second thread: sees to it that the loop goes on while its thread is away."""
        while not self._stopping:
            self._busy.wait()
            time.sleep(_RELIEF_LOOK_S)
            self._relieve()

    def _relieve(self) -> None:
        assert self._spawn is not None
        with self._relief:
            since = self._away_since
            if not since or time.monotonic() - since < _AWAY_S or self._stopping:
                return
            logger.info("the log's disk takes its time: rows go on without it where they can")
            self._away_since = 0.0
            self._shift += 1
            self._calls.append(lambda: None)  # there may be more to do than what comes
            try:
                self._spawn(self.run)
            except RuntimeError:  # no room for a thread
                self._shift -= 1
                self._away_since = since

    def run(self) -> None:
        """Thread body."""
        with contextlib.suppress(_Relieved):
            self._run()

    def _run(self) -> None:
        self._thread = threading.get_ident()
        look_at = time.monotonic() + _LOOK_S
        relieved = False
        try:
            while not self._stopping:
                found = self._wait()
                for _ in range(_MOST_POLLS):
                    self._handle(found)
                    found = self._epoll.poll(0)
                    if not found:
                        break
                self._round()
                if self.now >= look_at:
                    look_at = self.now + _LOOK_S
                    self._look()
                    self._round()
        except _Relieved:
            relieved = True
            raise
        finally:
            if not relieved:
                self._end()

    def _handle(self, found: list[tuple[int, int]]) -> None:
        events = iter(found)
        handlers = self._handlers
        while True:
            try:
                for fd, mask in events:
                    handler = handlers.get(fd)
                    if handler is not None:
                        handler(mask)
                    elif fd == self._bell:
                        os.eventfd_read(fd)
                return
            except Exception:
                logger.exception("a call of the loop failed")

    def _wait(self) -> list[tuple[int, int]]:
        self._asleep = True
        timers = self._timers
        timeout = 0.0 if self._calls else _LOOK_S if self._is_watching else -1
        if timers and timeout:
            timeout = min(_LOOK_S, max(0.0, timers[0][0] - time.monotonic()))
        found = self._epoll.poll(timeout)
        self._asleep = False
        if not self._is_watching and (found or self._calls):
            self._is_watching = True
            self._busy.set()
        self.now = time.monotonic()
        while timers and timers[0][0] <= self.now:
            self._calls.append(heapq.heappop(timers)[2])
        return found

    def _look(self) -> None:
        watching = False
        for look in self._watches:
            try:
                watching = look(self.now) or watching
            except Exception:
                logger.exception("a watch of the loop failed")
        self._is_watching = watching
        if not watching:
            self._busy.clear()

    def _round(self) -> None:
        while True:
            self._run_calls()
            _run_each(self._turns)
            if not self._calls:
                break
        self._flush()

    def settle(self) -> None:
        """Do now what was left here, and send what is known, before more work is taken up."""
        self._run_calls()
        self._flush()

    def _flush(self) -> None:
        flushes, self._flushes = self._flushes, []
        if flushes:
            _run_each(flushes)

    def _run_calls(self) -> None:
        calls = self._calls
        count = len(calls)
        while count:
            try:
                while count:
                    count -= 1
                    calls.popleft()()
            except Exception:
                logger.exception("a call of the loop failed")

    def _end(self) -> None:
        self._stopping = True
        self._busy.set()
        self._run_calls()
        _run_each(self._leavers)
        _run_each(self._flushes)
        with self._ended:
            self._is_open = False
            self._epoll.close()
            os.close(self._bell)
        self._done.set()


def _run_each(works: Iterable[Callable[[], None]]) -> None:
    """Run them all: one connection's trouble is not that of the others."""
    remaining = iter(works)
    while True:
        try:
            for work in remaining:
                work()
            return
        except Exception:
            logger.exception("a call of the loop failed")
