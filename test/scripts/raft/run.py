"""Run the scripts of protocol situations: `python test/scripts/raft/run.py [--rewrite] [WORD…]`.

`--rewrite` writes the output that they really have into the files; review the difference like code.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

from harness.sim.script import run_script  # noqa: E402


def main() -> int:
    """Exit status 1 when a script's output is not what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only files whose names contain one of these")
    parser.add_argument("--rewrite", action="store_true")
    args = parser.parse_args()
    failed = 0
    for path in sorted(HERE.glob("*.txt")):
        if args.words and not any(word in path.name for word in args.words):
            continue
        text = path.read_text(encoding="utf-8")
        real = run_script(text)
        if real == text:
            continue
        failed += 1
        if args.rewrite:
            path.write_text(real, encoding="utf-8")
            print(f"{path.name}: rewritten")
        else:
            print(f"{path.name}: differs")
    return 1 if failed and not args.rewrite else 0


if __name__ == "__main__":
    raise SystemExit(main())
