"""A network that loses, repeats, delays and reorders, and that can be cut in either direction."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from cluster.raft.types import NodeId
from harness.sim.plan import Settings
from harness.sim.scheduler import Scheduler


class SimNetwork:
    """Delivers messages (anything with `frm` and `to`) between nodes.

    Each direction of each pair draws its chances from a stream of its own.

    Attributes:
        blocked: directed pairs that can't talk now; a dict for its order.
        deliver, undeliverable: set by the cluster.
    """

    def __init__(self, scheduler: Scheduler, settings: Settings) -> None:
        self._scheduler = scheduler
        self._seed = settings.seed
        self._loss = settings.loss / 100
        self._duplication = settings.duplication / 100
        self._slow = settings.slow / 100
        self._slowest_us = settings.slowest_us
        self._links: dict[tuple[NodeId, NodeId], Callable[[], float]] = {}
        self.blocked: dict[tuple[NodeId, NodeId], bool] = {}
        self.deliver: Callable[[Any], None] = lambda message: None
        self.undeliverable: Callable[[Any], None] = lambda message: None
        self.sent = 0
        self.lost = 0

    def send(self, message: Any) -> None:
        """Send; the sender sometimes learns that it failed, and sometimes doesn't."""
        pair = (message.frm, message.to)
        chance = self._links.get(pair)
        if chance is None:
            chance = self._links[pair] = random.Random(
                f"link/{self._seed}/{pair[0]}/{pair[1]}"
            ).random
        self.sent += 1
        if (self.blocked and pair in self.blocked) or (self._loss and chance() < self._loss):
            self.lost += 1
            if chance() < 0.3:
                self._scheduler.after(self._delay(chance), self.undeliverable, message)
            return
        self._scheduler.after(self._delay(chance), self._arrive, message)
        if self._duplication and chance() < self._duplication:
            self._scheduler.after(self._delay(chance), self._arrive, message)

    def is_cut(self, frm: NodeId, to: NodeId) -> bool:
        """Whether nothing goes from one to the other now."""
        return (frm, to) in self.blocked

    def heal(self) -> None:
        """Mend every cut and stop losing."""
        self.blocked.clear()
        self._loss = self._duplication = self._slow = 0.0

    def _delay(self, chance: Callable[[], float]) -> int:
        if self._slow and chance() < self._slow:
            return int(chance() * self._slowest_us)
        return 300 + int(chance() * 4_000)

    def _arrive(self, message: Any) -> None:
        if self.blocked and (message.frm, message.to) in self.blocked:
            self.lost += 1
            return
        self.deliver(message)
