"""Run many seeds of the Raft simulator: `python test/sim/run.py --seeds 500 --nodes 3`.

A failing seed is printed with the command that replays it; `--trace` prints its steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from harness.sim.cluster import SimCluster, SimResult  # noqa: E402


def main() -> int:
    """Run and print a tally; exit status 1 when a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--trace", action="store_true", help="print the steps of a failing seed")
    parser.add_argument("--harsh", action="store_true", help="faults at the most delicate moments")
    args = parser.parse_args()
    total = SimResult(args.first_seed)
    failed = 0
    started = time.perf_counter()
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        cluster = SimCluster(seed, args.nodes, trace=args.trace, harsh=args.harsh)
        try:
            total.add(cluster.run())
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed must be named
            failed += 1
            if args.trace:
                print(*(cluster.trace or ()), sep="\n")
            print(f"seed {seed} at {cluster.scheduler.now_us} us: {error!r}")
            print(
                f"  replay: python test/sim/run.py --nodes {args.nodes} --seeds 1 "
                f"--first-seed {seed} --trace{' --harsh' if args.harsh else ''}"
            )
    seconds = time.perf_counter() - started
    for name, value in vars(total).items():
        if name != "seed":
            print(f"{name:>12} {value}")
    print(
        f"{args.seeds} seeds of {args.nodes} nodes in {seconds:.1f} s: "
        f"{args.seeds / seconds:.1f} seeds/s, "
        f"{total.virtual_us / 1e6 / seconds:.1f} virtual s/s, "
        f"{total.steps / seconds:.0f} steps/s; {failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
