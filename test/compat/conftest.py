"""Environments with official client releases, one each: their dependencies conflict.

An environment is made once, below the folder that IOTDB_COMPAT_ENVS names or in `.venvs/` of the
checkout, and used again; where a release can't be installed its tests are skipped with the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT_PACKAGES = {
    "0.12.6": ["apache-iotdb==0.12.6", "thrift", "pandas>=1.3,<2", "numpy<2"],
    "0.13.5": ["apache-iotdb==0.13.5", "thrift", "pandas>=1.3,<2", "numpy<2"],
    "1.3.4": ["apache-iotdb==1.3.4"],
    "2.0.11": ["apache-iotdb==2.0.11"],
}
ALWAYS = ("0.13.5", "2.0.11")
"""To make an environment takes half a minute; the others wait until somebody wants them."""


def environment(release: str) -> Path:
    """The Python of an environment with that release; skips when it can't be had."""
    base = Path(os.environ.get("IOTDB_COMPAT_ENVS", ROOT / ".venvs"))
    folder = base / f"apache-iotdb-{release}"
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists() and release not in ALWAYS and not os.environ.get("IOTDB_COMPAT_ALL"):
        pytest.skip(f"apache-iotdb {release} is installed with IOTDB_COMPAT_ALL=1 only")
    if not done.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "-q", *CLIENT_PACKAGES[release]],
            [str(python), "-c", "from iotdb.Session import Session"],
        ):
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=600, check=False
            )
            if result.returncode:
                pytest.skip(
                    f"apache-iotdb {release} can't be installed here: {result.stderr[-300:]}"
                )
        done.touch()
    return python


@pytest.fixture(scope="session", params=sorted(CLIENT_PACKAGES))
def official_client(request: pytest.FixtureRequest) -> tuple[str, Path]:
    return request.param, environment(request.param)
