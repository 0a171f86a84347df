"""Break one rule at a time and show that the simulator notices: `python test/sim/mutants.py`.

Prints a line for each mutant: the first seed that catches it, out of how many, and how.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from harness.sim.mutations import MUTATIONS, first_catch  # noqa: E402


def main() -> int:
    """Run all, or those whose names contain a word; exit status 1 when one gets through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants whose names contain one of these")
    parser.add_argument("--seeds", type=int, help="instead of each mutant's own number")
    args = parser.parse_args()
    missed = []
    names = [n for n in MUTATIONS if not args.words or any(word in n for word in args.words)]
    for name in names:
        mutation = MUTATIONS[name]
        if args.seeds:
            mutation = mutation._replace(seeds=args.seeds)
        started = time.process_time()
        caught = first_catch(mutation)
        seconds = time.process_time() - started
        if caught is None:
            missed.append(name)
            print(f"MISSED  {name}: {mutation.seeds} {mutation.mode} seeds, {seconds:.1f} s")
        else:
            seed, error = caught
            text = f"{type(error).__name__} {error}"[:90]
            print(f"seed {seed:4} of {mutation.seeds}  {name}: {text} ({seconds:.1f} s)")
        sys.stdout.flush()
    print(f"{len(names)} mutants, {len(missed)} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
