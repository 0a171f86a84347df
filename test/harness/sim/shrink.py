"""From a failing plan to a short one that fails by the same rule.

Actions are taken out in ever smaller pieces (delta debugging), and the settings that make a run
hard to follow are brought to their defaults, as long as the run still breaks the same rule. Each
try is a whole run, so the number of tries is limited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from harness.sim.checkers import SimViolation
from harness.sim.cluster import SimCluster
from harness.sim.plan import Plan, Settings

Run = Callable[[Plan], object]

_SHAPE = ("seed", "nodes", "chaos_us", "tick_us", "election_ticks")
"""Settings that stay: they are the run's shape, not its difficulty."""


def rule_of(error: BaseException) -> str:
    """Return what kind of failure it is: the checker's rule, or the core's assertion."""
    if isinstance(error, SimViolation):
        return error.rule
    text = str(error).split(":", maxsplit=1)[0]
    return f"{type(error).__name__} {''.join(c for c in text if not c.isdigit())}"


def failure(plan: Plan, run: Run | None = None) -> str | None:
    """Run a plan; return the rule that it breaks, or None."""
    try:
        (run or _run)(plan)
    except Exception as error:  # noqa: BLE001 - any failure is what we are after
        return rule_of(error)
    return None


def _run(plan: Plan) -> object:
    return SimCluster(plan).run()


def shrink(plan: Plan, run: Run | None = None, tries: int = 600) -> Plan:
    """Return a plan that fails by the same rule, as short as `tries` runs can make it."""
    rule = failure(plan, run)
    assert rule is not None, "the plan does not fail"
    left = tries

    def fails(candidate: Plan) -> bool:
        nonlocal left
        left -= 1
        return failure(candidate, run) == rule

    plan = _calmed(plan, lambda p: left > 0 and fails(p))
    size = max(1, len(plan.actions) // 2)
    while left > 0:
        before = len(plan.actions)
        start = 0
        while start < len(plan.actions) and left > 0:
            actions = plan.actions[:start] + plan.actions[start + size :]
            candidate = Plan(plan.settings, actions)
            if fails(candidate):
                plan = candidate
            else:
                start += size
        if size == 1 and len(plan.actions) == before:
            break
        size = max(1, size // 2)
    return _calmed(plan, lambda p: left > 0 and fails(p))


def _calmed(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Bring settings to their defaults where that doesn't matter."""
    default = Settings()
    for each in fields(Settings):
        value = getattr(default, each.name)
        if each.name in _SHAPE or getattr(plan.settings, each.name) == value:
            continue
        candidate = Plan(replace(plan.settings, **{each.name: value}), plan.actions)
        if fails(candidate):
            plan = candidate
    return plan
