"""Faults against real nodes: `python test/integration/faults/run.py --minutes 10 --nodes 3`.

Prints one line per fault to stderr and the tally as JSON to stdout; the exit status is 1 when
anything was lost, stale, stuck or undecided. Partitions need root and network namespaces, full and
slow disks root and loop devices; what the machine can't do is listed under "skipped". The folder
with data, logs, histories, faults and tally is kept when the run fails, or when it is named.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]

from harness.faults import nemeses  # noqa: E402
from harness.faults.runner import Options, Run, choose  # noqa: E402

_PRIVATE = "FAULTS_MOUNTS_ARE_PRIVATE"


def main() -> int:
    own_mounts()
    logging.getLogger("thrift").setLevel(logging.CRITICAL)  # nodes that are down are the point
    options, keep = parse()
    tally = Run(options, say=lambda line: print(line, file=sys.stderr, flush=True)).execute()
    print(json.dumps(tally))
    if tally["ok"] and not keep:
        shutil.rmtree(options.folder)
    else:
        print(f"kept: {options.folder}", file=sys.stderr)
    return 0 if tally["ok"] else 1


def parse() -> tuple[Options, bool]:
    names = ", ".join(kind.name for kind in nemeses.ALL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3)
    parser.add_argument(
        "--nemesis", action="append", default=[], help=f"may be repeated; all when absent: {names}"
    )
    parser.add_argument("--seed", type=int, default=None, help="of the order and the choices")
    parser.add_argument("--folder", type=Path, default=None, help="a new one, which is kept")
    parser.add_argument(
        "-D", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="of the nodes"
    )
    args = parser.parse_args()
    try:
        choose(args.nemesis)
    except ValueError as error:
        parser.error(str(error))
    keep = args.folder is not None
    if keep:
        args.folder.mkdir(parents=True)
    options = Options(
        folder=args.folder.resolve() if keep else Path(tempfile.mkdtemp(prefix="faults-")),
        seconds=args.minutes * 60,
        nodes=args.nodes,
        nemeses=args.nemesis,
        seed=random.SystemRandom().randrange(1 << 30) if args.seed is None else args.seed,
        settings=dict(setting.split("=", 1) for setting in args.settings),
    )
    return options, keep


def own_mounts() -> None:
    """Start over in a mount namespace: mounts that a killed run leaves end with its processes."""
    if os.geteuid() == 0 and shutil.which("unshare") and _PRIVATE not in os.environ:
        os.environ[_PRIVATE] = "yes"
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        os.execvp(command[0], command)


if __name__ == "__main__":
    raise SystemExit(main())
