"""How long a group is without a leader when its leader is cut off, in virtual time.

`python test/sim/elections.py --seeds 250 --slowest-ms 400 --stall 50`: messages take any time up to
that, and so many percent of the syncs take up to 300 ms, as on a machine that is overloaded. Ticks
and time-outs are those of the default settings.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from cluster.raft.types import Role  # noqa: E402
from harness.sim.cluster import SimCluster  # noqa: E402
from harness.sim.plan import Action, Plan, Settings  # noqa: E402

CUT_AT_US = 5_000_000
LONGEST_US = 60_000_000


def gap_s(seed: int, nodes: int, slowest_ms: int, stall: int) -> tuple[float, int]:
    """Return how long one run was without a leader, and how many terms the election took."""
    settings = Settings(
        seed=seed,
        nodes=nodes,
        tick_us=100_000,
        election_ticks=12,
        heartbeat_ticks=2,
        drift_permille=10,
        favoured=1,
        slow=100 if slowest_ms else 0,
        slowest_us=slowest_ms * 1000,
        stall=stall,
        chaos_us=LONGEST_US,
    )
    # at any point between two heartbeats
    cut_at_us = CUT_AT_US + seed * 7919 % 200_000
    cluster = SimCluster(Plan(settings, (Action(cut_at_us, "isolate-leader"),)))
    for node in cluster.nodes.values():
        node.start()
    run = cluster.scheduler
    run.at(cut_at_us, cluster.faults.do_isolate_leader)
    run.run(cut_at_us)
    before = max(node.core.term for node in cluster.nodes.values() if node.core)

    def is_led() -> bool:
        leaders = [n.core for n in cluster.nodes.values() if n.core and n.core.role is Role.LEADER]
        return any(core.term > before for core in leaders)

    run.run(LONGEST_US, is_led)
    after = max(node.core.term for node in cluster.nodes.values() if node.core)
    return (run.now_us - cut_at_us) / 1e6, after - before


def main() -> int:
    """Print how the times are distributed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=250)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--slowest-ms", type=int, default=0, help="0: 4.3 ms")
    parser.add_argument("--stall", type=int, default=0, help="percent of syncs")
    args = parser.parse_args()
    runs = [gap_s(seed, args.nodes, args.slowest_ms, args.stall) for seed in range(args.seeds)]
    gaps = sorted(gap for gap, _ in runs)
    p50, p90, p99 = [gaps[len(gaps) * percent // 100] for percent in (50, 90, 99)]
    print(
        f"{args.nodes} nodes, messages up to {args.slowest_ms} ms, {args.stall} % of syncs slow: "
        f"p50 {p50:.2f} s, p90 {p90:.2f}, p99 {p99:.2f}, longest {gaps[-1]:.2f}; "
        f"{sum(gap > 5 for gap in gaps)} of {len(gaps)} above 5 s, "
        f"{sum(terms > 1 for _, terms in runs)} took more than one term"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
