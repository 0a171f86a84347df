"""The one JSON line that every bench prints."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results.jsonl"


def commit(tree: Path = ROOT) -> str:
    """Return the short name of the commit that is measured."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=tree, capture_output=True, text=True
    ).stdout.strip()


def report(bench: str, figures: dict[str, Any], *, record: bool = False) -> None:
    """Print one JSON line; with `record`, also add it to bench/results.jsonl."""
    head = {
        "bench": bench,
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }
    line = json.dumps({**head, **figures})
    print(line, flush=True)
    if record:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
