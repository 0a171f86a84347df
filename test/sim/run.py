"""Run many seeds of the Raft simulator: `python test/sim/run.py --seeds 500 --nodes 3`.

A failing seed is shrunk to a short script, which `--script FILE` replays; `--trace` prints steps.
Speeds are per second of CPU time of this process.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from harness.sim.cluster import SimCluster, SimResult  # noqa: E402
from harness.sim.plan import MODES, Plan, random_plan  # noqa: E402
from harness.sim.shrink import shrink  # noqa: E402


def main() -> int:
    """Run and print a tally; exit status 1 when a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--mode", choices=MODES, default="mixed")
    parser.add_argument("--script", type=Path, help="run this script instead of seeds")
    parser.add_argument("--trace", action="store_true", help="print the steps of what fails")
    parser.add_argument("--no-shrink", action="store_true", help="print failing plans as they are")
    args = parser.parse_args()
    total = SimResult(args.first_seed)
    failed = 0
    started = time.process_time()
    if args.script is not None:
        plans = iter([Plan.from_text(args.script.read_text(encoding="utf-8"))])
    else:
        seeds = range(args.first_seed, args.first_seed + args.seeds)
        plans = (random_plan(seed, args.nodes, args.mode) for seed in seeds)
    count = 0
    for plan in plans:
        count += 1
        cluster = SimCluster(plan, trace=args.trace)
        try:
            total.add(cluster.run())
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed must be named
            failed += 1
            if args.trace:
                print(*(cluster.trace or ()), sep="\n")
            print(f"seed {plan.settings.seed} at {cluster.scheduler.now_us} us: {error!r}")
            if not args.no_shrink and args.script is None:
                plan = shrink(plan)
            print("--- script:", plan.to_text(), "---", sep="\n")
    seconds = time.process_time() - started
    for name, value in vars(total).items():
        if name != "seed":
            print(f"{name:>12} {value}")
    print(
        f"{count} {args.mode} seeds of {args.nodes} nodes in {seconds:.1f} s: "
        f"{count / seconds:.1f} seeds/s, "
        f"{total.virtual_us / 1e6 / seconds:.1f} virtual s/s, "
        f"{total.steps / seconds:.0f} steps/s; {failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
