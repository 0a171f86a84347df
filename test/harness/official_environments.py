"""Environments with official client releases, one each: their dependencies conflict.

An environment is made once, below the folder that IOTDB_COMPAT_ENVS names or in `.venvs/` of the
checkout, and used again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLD_PANDAS = ["thrift", "pandas>=1.3,<2", "numpy<2"]
CLIENT_PACKAGES = {
    "0.12.6": ["apache-iotdb==0.12.6", *OLD_PANDAS],
    "0.13.5": ["apache-iotdb==0.13.5", *OLD_PANDAS],
    # its todf() fails with the strings of pandas 3
    "1.3.4": ["apache-iotdb==1.3.4", "pandas<3"],
    "2.0.11": ["apache-iotdb==2.0.11"],
}

ALWAYS = ("0.13.5", "2.0.11")
"""To make an environment takes half a minute; the others wait until somebody wants them."""


def environment(release: str) -> tuple[Path, str]:
    """The Python of an environment with that release, and why it can't be had, or ""."""
    base = Path(os.environ.get("IOTDB_COMPAT_ENVS", ROOT / ".venvs"))
    folder = base / f"apache-iotdb-{release}"
    python = folder / "bin" / "python"
    done = folder / "installed"
    packages = CLIENT_PACKAGES[release]
    if not done.exists() and release not in ALWAYS and not os.environ.get("IOTDB_COMPAT_ALL"):
        return python, f"apache-iotdb {release} is installed with IOTDB_COMPAT_ALL=1 only"
    if not done.exists() or done.read_text() != " ".join(packages):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "-q", "--no-compile", *packages],
            [str(python), "-c", "from iotdb.Session import Session"],
        ):
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=600, check=False
            )
            if result.returncode:
                return python, (
                    f"apache-iotdb {release} can't be installed here: {result.stderr[-300:]}"
                )
        done.write_text(" ".join(packages))
    return python, ""


@cache
def environments() -> dict[str, tuple[Path, str]]:
    """All of them, two made at a time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CLIENT_PACKAGES, pool.map(environment, CLIENT_PACKAGES), strict=True))
