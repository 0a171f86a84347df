"""A network that loses, repeats, delays and reorders, and that can be cut in either direction."""

from __future__ import annotations

import random
from collections.abc import Callable

from cluster.raft.messages import Message
from cluster.raft.types import NodeId
from harness.sim.scheduler import Scheduler


class SimNetwork:
    """Delivers messages between nodes.

    Attributes:
        loss, duplication, slow: probability per message.
        slowest_us: a slow message takes up to that.
        blocked: directed pairs that can't talk now; a dict for its order.
        deliver, undeliverable: set by the cluster.
    """

    def __init__(self, scheduler: Scheduler, rng: random.Random) -> None:
        self._scheduler = scheduler
        self._rng = rng
        self.loss = rng.choice([0.0, 0.02, 0.1])
        self.duplication = rng.choice([0.0, 0.02, 0.1])
        self.slow = rng.choice([0.0, 0.05, 0.2])
        self.slowest_us = rng.choice([20_000, 120_000, 600_000])
        self.blocked: dict[tuple[NodeId, NodeId], bool] = {}
        self.deliver: Callable[[Message], None] = lambda message: None
        self.undeliverable: Callable[[Message], None] = lambda message: None
        self.sent = 0
        self.lost = 0

    def send(self, message: Message) -> None:
        """Send; the sender sometimes learns that it failed, and sometimes doesn't."""
        rng = self._rng
        self.sent += 1
        cut = bool(self.blocked) and (message.frm, message.to) in self.blocked
        if cut or (self.loss and rng.random() < self.loss):
            self.lost += 1
            if rng.random() < 0.3:
                self._scheduler.after(self._delay(), self.undeliverable, message)
            return
        self._scheduler.after(self._delay(), self._arrive, message)
        if self.duplication and rng.random() < self.duplication:
            self._scheduler.after(self._delay(), self._arrive, message)

    def heal(self) -> None:
        """Mend every cut and stop losing."""
        self.blocked.clear()
        self.loss = self.duplication = self.slow = 0.0

    def _delay(self) -> int:
        if self.slow and self._rng.random() < self.slow:
            return int(self._rng.random() * self.slowest_us)
        return 300 + int(self._rng.random() * 4_000)

    def _arrive(self, message: Message) -> None:
        if self.blocked and (message.frm, message.to) in self.blocked:
            self.lost += 1
            return
        self.deliver(message)
