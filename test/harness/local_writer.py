"""A process that writes series by name and tells what was acknowledged, until it is killed.

Run as a module with a folder and a sync mode. It goes on where the folder's data ends.
"""

from __future__ import annotations

import sys
from typing import Any

from harness.engine_script import OPTIONS
from iotdb_engine import Engine


def main(folder: str, sync: Any) -> None:
    engine = Engine(folder, OPTIONS, sync=sync)
    at = engine.aggregate(["count"])["count"].count if engine.series() else 0
    while True:
        rows = range(at, at + 1 + at % 4)
        engine.write(
            list(rows), {"count": [n * n for n in rows], "text": [f"text {n}" for n in rows]}
        )
        at = rows[-1] + 1
        print(at, flush=True)
        if at % 90 == 0:
            engine.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
