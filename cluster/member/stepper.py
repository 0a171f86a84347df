"""Steps a member's core: events in, under the member's lock; effects out, in the order of steps.

Whoever has an event takes the lock, steps the core, and has the router queue what the step wants.
Both happen in one hold of the lock, so effects leave in the order of the steps, which is what the
core's promises rest on. What may be applied now is applied after the lock is given back.

This is what those parts of a member get that bring events: proposals (`inbox.py`), reads
(`read_barrier.py`), peers' requests (`peer_requests.py`). Those that carry effects out are behind
the router, and know nothing of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from cluster.member.applier import Applier
from cluster.member.effect_router import EffectRouter
from cluster.member.tick_clock import TickClock
from cluster.raft.core import RaftCore
from cluster.raft.effects import Effects
from cluster.raft.events import Event, Persisted, Received, Tick
from cluster.raft.types import Role


class Stepper:
    """Of one member. What ends in `_locked` is for who holds the lock.

    Args:
        router: carries out what steps want.
        applier: is offered what was committed, once the lock is given back.
        on_broken: the core broke an invariant: the replica must not go on. Called with the lock.
        may_campaign: whether the member could make a vote durable now; see Tick.

    Attributes:
        core: to look at, under the lock; a property may be read without it.
        lock: the member's.
        router: for who routes the effects of a `core_step_locked`.
        ticks: time that the core was not told of yet; guarded by the lock.
        is_stopped: no event is taken any more, for good.
    """

    def __init__(
        self,
        *,
        core: RaftCore,
        lock: threading.Lock,
        router: EffectRouter,
        applier: Applier,
        ticks: TickClock,
        on_broken: Callable[[BaseException], None],
        may_campaign: Callable[[], bool] = lambda: True,
    ) -> None:
        self.core = core
        self.lock = lock
        self.router = router
        self.ticks = ticks
        self.is_stopped = False
        self._applier = applier
        self._on_broken = on_broken
        self._may_campaign = may_campaign
        self._ticks_ahead = 1

    # ---- without the lock ----

    def step(self, event: Event) -> Effects | None:
        """Step the core and carry out what it wants; return that, or None after a stop."""
        effects = None
        with self.lock:
            if not self.is_stopped:
                if isinstance(event, Received):
                    self.make_up_ticks_locked()
                effects = self.core_step_locked(event)
                self.router.route(effects)
        self._applier.catch_up()
        return effects

    def tick(self) -> int:
        """Let time pass; return after how many ticks of time it is to be called again."""
        with self.lock:
            if not self.is_stopped:
                self._tick_locked()
                self._ticks_ahead = self.core.ticks_until_due
        self._applier.catch_up()
        return self._ticks_ahead

    def batch_durable(self) -> None:
        """The log writer's call: all of this group's writes in the batch have been noted."""
        due = self.router.take_due()
        with self.lock:
            self.router.release(due.writes)
            for index, term in due.reports:
                if not self.is_stopped:
                    self.step_locked(Persisted(index, term))
        self._applier.catch_up()

    # ---- with the lock ----

    def stop_locked(self) -> None:
        """Take no event any more."""
        self.is_stopped = True

    def step_locked(self, event: Event, request_id: int = 0, *, wake: bool = True) -> bool:
        """Step and route; True when the answer to `request_id` is held for durability.

        The caller lets the applier catch up when it has given the lock back; without `wake` it has
        the log written then, too.
        """
        return self.router.route(self.core_step_locked(event), request_id, wake=wake)

    def core_step_locked(self, event: Event) -> Effects:
        """Step, and leave it to the caller to route what the step wants, before any other step."""
        assert self.lock.locked()
        try:
            return self.core.step(event)
        except AssertionError as error:
            # What the step had done already never reached the log: nothing may follow from it.
            self.is_stopped = True
            self._on_broken(error)
            raise

    def make_up_ticks_locked(self) -> None:
        """Tell of the time that passed before a message, which may start time-outs anew."""
        if self.core.role is not Role.LEADER and self.ticks.late():
            self._tick_locked()

    def _tick_locked(self) -> None:
        passed = self.ticks.take()
        counted = min(passed, self._ticks_ahead)
        self.step_locked(Tick(passed, counted, self._may_campaign()))
