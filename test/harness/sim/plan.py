"""What happens in a run: settings, and a list of timed actions, both plain data with a text form.

All chance in the *plan* is drawn before the run, and what is left to chance in the run (delays,
losses) comes from one stream per link, disk and node. So an action can be taken out of a plan
without changing everything that comes after it, which is what makes shrinking (`shrink.py`) work.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

Word = int | str


class Action(NamedTuple):
    """One thing that is done to the cluster at `at_us`.

    Words as `do_…` of `SimCluster` (what clients do) and of `Faults` take them.
    """

    at_us: int
    name: str
    args: tuple[Word, ...] = ()

    def __str__(self) -> str:
        return " ".join([f"at {self.at_us}", self.name, *map(str, self.args)])


@dataclass(frozen=True)
class Settings:
    """What holds throughout a run.

    Attributes:
        nodes: founding voters are 1 … nodes; more join from `nodes + 1` on.
        tick_us: nominal length of a tick; `election_ticks` of them are an election time-out.
        lease: whether leaders read from a lease; `drift_ticks` is the bound that cores are told.
        drift_permille: each clock runs up to that much faster or slower. Within the bound while it
            is at most 1000 * drift_ticks / (2 * election_ticks + drift_ticks).
        quiesce_ticks: idle groups sleep after so long; 0: never.
        loss, duplication, slow: percent of messages; a slow one takes up to slowest_us.
        stall: percent of syncs that take up to 300 ms.
        append, inflight, uncommitted: limits in bytes.
        keep: bytes of applied log that are kept for those that lag.
        housekeeping_us: that often one of the nodes stores its state and compacts its log; 0: only
            when an action says so.
        engine: 1: the product's state machine over the real engine in memory; 0: a stub.
        chunk_flip: percent of snapshot chunks of which a bit flips on the way.
    """

    seed: int = 0
    nodes: int = 3
    tick_us: int = 50_000
    election_ticks: int = 8
    heartbeat_ticks: int = 1
    lease: int = 1
    drift_ticks: int = 2
    drift_permille: int = 100
    quiesce_ticks: int = 0
    favoured: int = 0
    loss: int = 0
    duplication: int = 0
    slow: int = 0
    slowest_us: int = 20_000
    stall: int = 0
    append: int = 1 << 20
    inflight: int = 1 << 22
    uncommitted: int = 1 << 22
    keep: int = 200
    chunk_flip: int = 0
    housekeeping_us: int = 0
    chaos_us: int = 6_000_000
    engine: int = 0


@dataclass(frozen=True)
class Plan:
    """A run, entirely."""

    settings: Settings
    actions: tuple[Action, ...] = field(default=())

    def to_text(self) -> str:
        """Return a script that `from_text` reads and people can follow."""
        default = Settings()
        lines = [
            f"set {f.name} {getattr(self.settings, f.name)}"
            for f in fields(Settings)
            if getattr(self.settings, f.name) != getattr(default, f.name)
        ]
        return "\n".join([*lines, *map(str, self.actions)]) + "\n"

    @staticmethod
    def from_text(text: str) -> Plan:
        """Read a script; empty lines and what follows a `#` are ignored.

        Raises:
            ValueError: a line is neither `set NAME NUMBER` nor `at MICROSECONDS ACTION WORDS…`.
        """
        values: dict[str, int] = {}
        actions = []
        for number, raw in enumerate(text.splitlines(), 1):
            words = raw.split("#")[0].split()
            if not words:
                continue
            is_number = len(words) > 2 and words[2 if words[0] == "set" else 1].isdigit()
            if words[0] == "set" and len(words) == 3 and is_number:
                values[words[1]] = int(words[2])
            elif words[0] == "at" and is_number:
                args = tuple(_word(word) for word in words[3:])
                actions.append(Action(int(words[1]), words[2], args))
            else:
                raise ValueError(f"line {number}: {raw!r}")
        return Plan(replace(Settings(), **values), tuple(actions))


def _word(text: str) -> Word:
    return int(text) if text.lstrip("-").isdigit() else text


# ---- plans by chance ----

_FAULTS: dict[str, int] = {
    "crash": 2,
    "crash-leader": 2,
    "crash-all": 1,
    "pause": 2,
    "pause-leader": 2,
    "split": 4,
    "isolate": 1,
    "isolate-leader": 3,
    "one-way": 2,
    "mend": 5,
    "stall": 2,
    "jump": 1,
    "transfer": 2,
    "compact": 5,
    "change": 5,
    "flip": 1,
    "trap-vote": 2,
    "trap-elected": 3,
    "trap-write": 2,
    "trap-install": 2,
}
"""Weight of each fault. A run uses a random part of them (swarm testing): rare combinations need
that others are absent."""

LEVELS = ("strong", "strong", "strong", "follower", "weak")
CLIENTS = 6
KEYS = 3


MODES = {
    "mixed": "everything, in a mixture that differs from seed to seed",
    "harsh": "leaders and voters fall at their most delicate moments",
    "lease": "leaders with a lease are cut off while others could take over early",
    "change": "memberships change all the time, between partitions and crashes",
    "idle": "groups sleep, and lose their leaders for good",
    "clock": "leases, and clocks beyond the bound: here stale reads must show",
    "engine": "as mixed, with the product's state machine over the real engine in memory",
    "no-lease": "the same clocks without leases: nothing may go wrong",
}
_RATES_US = {"harsh": 8_000, "lease": 12_000, "idle": 900_000}
_PACES_US = {"harsh": 40_000, "lease": 200_000, "change": 120_000, "idle": 700_000}
_ENABLED = {
    "harsh": (
        ["trap-vote"] * 3
        + ["trap-elected"] * 4
        + ["isolate-leader", "mend", "mend", "crash-all", "trap-write", "split", "compact"]
    ),
    "lease": ["trap-handover", "transfer", "transfer", "depose", "mend", "mend", "pause-leader"],
    "change": (
        ["change"] * 8
        + ["split", "split", "isolate-leader", "mend", "mend", "crash", "crash-leader", "compact"]
        + ["trap-elected", "trap-install", "pause-leader"]
    ),
    "idle": ["flip-leader", "flip-leader", "isolate-leader", "crash-leader", "mend", "compact"],
    "clock": ["freeze-leader", "isolate-leader", "mend", "mend", "pause-leader", "transfer"],
    "no-lease": ["freeze-leader", "isolate-leader", "mend", "mend", "pause-leader", "transfer"],
}


def random_plan(seed: int, nodes: int, mode: str = "mixed") -> Plan:
    """Draw a plan.

    Args:
        seed: everything follows from it.
        nodes: founding voters.
        mode: one of MODES.
    """
    rng = random.Random(f"plan/{seed}/{nodes}/{mode}")
    settings = _random_settings(rng, seed, nodes, mode)
    chaos_us = settings.chaos_us
    actions: list[Action] = []
    rate_us = _RATES_US.get(mode) or rng.choice([60_000, 60_000, 150_000])
    at = 100_000
    while at < chaos_us:
        actions.extend(_random_operation(rng, at, settings))
        at += 1_000 + rng.randrange(2 * rate_us)
    enabled = _enabled_faults(rng, mode)
    pace_us = _PACES_US.get(mode) or rng.choice([150_000, 400_000, 800_000])
    at = 300_000
    while at < chaos_us and enabled:
        at += rng.randrange(2 * pace_us)
        name = rng.choice(enabled)
        actions.append(Action(at, name, _random_args(rng, name, settings)))
    actions.sort(key=lambda action: action.at_us)
    return Plan(settings, tuple(action for action in actions if action.at_us < chaos_us))


def _random_settings(rng: random.Random, seed: int, nodes: int, mode: str) -> Settings:
    # one entry at a time opens the windows that figure 8 of the Raft paper is about
    one_by_one = (1, 60, 400)
    all_limits = [one_by_one, (40, 120, 400), (200, 2_000, 4_000), (1 << 20, 1 << 22, 1 << 22)]
    limits = one_by_one if mode == "harsh" and rng.random() < 0.5 else rng.choice(all_limits)
    election_ticks = rng.choice([6, 8])
    beyond = mode in ("clock", "no-lease")
    return Settings(
        seed=seed,
        nodes=nodes,
        tick_us=20_000 if mode == "harsh" else 50_000,
        election_ticks=election_ticks,
        heartbeat_ticks=rng.choice([1, 2]) if election_ticks > 6 else 1,
        lease={"clock": 1, "lease": 1, "no-lease": 0}.get(mode, rng.choice([0, 1, 1])),
        drift_permille=600 if beyond else 1000 * 2 // (2 * election_ticks + 2),
        quiesce_ticks=3 if mode == "idle" else rng.choice([0, 0, 4]) if mode == "mixed" else 0,
        favoured=1 if mode == "lease" else rng.choice([0, 1]),
        loss=rng.choice([0, 2, 10]),
        duplication=rng.choice([0, 2, 10]),
        slow=rng.choice([0, 5, 20]),
        slowest_us=rng.choice([20_000, 120_000, 600_000]),
        stall=15 if mode == "harsh" else rng.choice([0, 0, 5]),
        append=limits[0],
        inflight=limits[1],
        uncommitted=limits[2],
        keep=rng.choice([0, 60, 200, 1 << 20]),
        housekeeping_us=rng.choice([0, 60_000, 250_000])
        if mode in ("mixed", "change", "engine")
        else 0,
        chunk_flip=rng.choice([0, 0, 20]),
        engine=int(mode == "engine"),
    )


def _enabled_faults(rng: random.Random, mode: str) -> list[str]:
    if mode in _ENABLED:
        return _ENABLED[mode]
    kept = rng.choice([0.3, 0.6, 1.0])
    return [
        name
        for name, weight in _FAULTS.items()
        if rng.random() < kept or name == "mend"
        for _ in range(weight)
    ]


def _random_operation(rng: random.Random, at: int, settings: Settings) -> Iterable[Action]:
    client = rng.randrange(CLIENTS)
    key = rng.randrange(KEYS)
    node = 0 if rng.random() < 0.7 else 1 + rng.randrange(settings.nodes)
    if rng.random() < 0.55:
        size = rng.randrange(30)
        yield Action(at, "write", (client, key, node, size))
        return
    yield Action(at, "read", (client, key, node, rng.choice(LEVELS)))
    if rng.random() < 0.5:
        # whoever still believes to lead is asked too: that is where stale reads would come from
        yield Action(at, "read", (rng.randrange(CLIENTS), key, -1, "strong"))


def _random_args(rng: random.Random, name: str, settings: Settings) -> tuple[Word, ...]:
    node = 1 + rng.randrange(settings.nodes + (1 if rng.random() < 0.2 else 0))
    down_us = rng.choice([0, 30_000, 300_000, 1_500_000])
    election_us = settings.tick_us * settings.election_ticks
    args: dict[str, Any] = {
        "crash": lambda: (node, rng.randrange(down_us + 1)),
        "crash-leader": lambda: (rng.randrange(down_us + 1),),
        "crash-all": lambda: (rng.randrange(down_us + 1),),
        "pause": lambda: (node, rng.randrange(2 * election_us)),
        "pause-leader": lambda: (rng.randrange(4 * election_us),),
        "freeze-leader": lambda: (rng.randrange(4 * election_us),),
        "split": lambda: (rng.randrange(1, 1 << settings.nodes),),
        "isolate": lambda: (node,),
        "isolate-leader": lambda: (),
        "one-way": lambda: (node, rng.choice(["deaf", "mute"])),
        "mend": lambda: (),
        "stall": lambda: (node, rng.randrange(2 * election_us)),
        "jump": lambda: (node, rng.randrange(30)),
        "transfer": lambda: (node,),
        "compact": lambda: (rng.randrange(1, 1 << (settings.nodes + 2)),),
        "change": lambda: _random_change(rng),
        "flip": lambda: (node,),
        "flip-leader": lambda: (),
        "depose": lambda: (rng.randrange(3 * settings.tick_us),),
        "trap-handover": lambda: (rng.choice([1_000, 5_000, 20_000]),),
        "trap-vote": lambda: (rng.randrange(1_000), rng.randrange(1_000)),
        "trap-elected": lambda: (
            rng.choice(["crash", "crash", "isolate"]),
            rng.choice([rng.randrange(1_000, 30_000), 25_000, 120_000, 300_000]),
            rng.randrange(down_us + 1),
        ),
        "trap-write": lambda: (node, rng.choice(["lost", "torn", "kept"]), down_us),
        "trap-install": lambda: (rng.choice(["staged", "installed", "logged"]), down_us),
    }
    return tuple(args[name]())


def _random_change(rng: random.Random) -> tuple[Word, ...]:
    kinds = ["learn", "promote", "promote", "remove", "demote", "swap", "swap", "grow", "forget"]
    return (rng.choice(kinds), rng.randrange(12), rng.randrange(12))
