"""Runs a module of the project as a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def run_module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m name arguments` to its end, and return what it printed and its exit code."""
    return subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
