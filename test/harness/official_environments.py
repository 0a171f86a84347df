"""Environments with official client releases, one each: their dependencies conflict.

An environment is made once, below the folder that IOTDB_COMPAT_ENVS names or in `.venvs/` of the
checkout, and used again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
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

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>compat</groupId><artifactId>compat</artifactId><version>1</version><dependencies>{}</dependencies>
</project>
"""
_DEPENDENCY = """<dependency><groupId>org.apache.iotdb</groupId><artifactId>{}</artifactId>
<version>{}</version></dependency>"""

ALWAYS = ("0.13.5", "2.0.11")
"""To make an environment takes half a minute; the others wait until somebody wants them."""


def client_folder(name: str) -> Path:
    """Where a client of that name is, or is to be made."""
    return Path(os.environ.get("IOTDB_COMPAT_ENVS", ROOT / ".venvs")) / name


def why_no_jars(folder: Path, artifacts: Sequence[str], release: str) -> str:
    """Have Maven put artifacts of org.apache.iotdb and what they need into `lib`; "" or why not."""
    if not os.environ.get("IOTDB_COMPAT_ALL"):
        return "is fetched with IOTDB_COMPAT_ALL=1 only"
    if shutil.which("mvn") is None:
        return f"can't be fetched: there is neither Maven nor {folder.name}/lib on this machine"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = "".join(_DEPENDENCY.format(artifact, release) for artifact in artifacts)
    (folder / "pom.xml").write_text(_POM.format(wanted))
    result = subprocess.run(
        ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}/lib"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    if not result.returncode:
        return ""
    said = result.stdout.split("[ERROR] ")[1:2] or [result.stderr]
    return f"can't be fetched: {said[0][:400]}"


def environment(release: str) -> tuple[Path, str]:
    """The Python of an environment with that release, and why it can't be had, or ""."""
    folder = client_folder(f"apache-iotdb-{release}")
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
