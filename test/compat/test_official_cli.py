"""The original's shell of 0.13 and 2.0, unmodified, with `-e`.

It needs Java and Maven. Maven Central has had no `iotdb-cli` of these releases so far; the jars of
a distribution's `lib` folder, put into `iotdb-cli-0.13.4/lib` (or `-2.0.5`) below the folder that
IOTDB_COMPAT_ENVS names, are used just as well.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.official_environments import client_folder, why_no_jars
from harness.process_cluster import ProcessCluster, process_cluster

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.timeout(600)]

MAIN = "org.apache.iotdb.cli.Cli"
RELEASES = ["0.13.4", "2.0.5"]


def jars(release: str) -> Path:
    """The folder with the shell's jars; skips when they can't be had."""
    if shutil.which("java") is None:
        pytest.skip("there is no Java on this machine")
    folder = client_folder(f"iotdb-cli-{release}")
    if not any(folder.glob("lib/*cli*.jar")):
        why = why_no_jars(folder, ["iotdb-cli"], release)
        if why:
            pytest.skip(f"the shell {release} {why}")
    return folder / "lib"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    with process_cluster(tmp_path_factory.mktemp("node"), 1) as started:
        yield started
        started.stop()


@pytest.mark.parametrize("release", RELEASES)
def test_the_originals_shell_runs_statements(release: str, cluster: ProcessCluster) -> None:
    """Series, inserts, tables of results, listings, refusals."""
    folder = jars(release)
    device = f"root.cli{release[0]}.d"

    def run(sql: str) -> str:
        java = ["java", "-Dfile.encoding=UTF-8", "-cp", f"{folder}/*", MAIN]
        login = ["-h", "127.0.0.1", "-p", str(cluster.nodes[0].rpc_port), "-u", "root"]
        result = subprocess.run(
            [*java, *login, "-pw", "root", "-disableISO8601", "-e", sql],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return result.stdout + result.stderr

    def cells(text: str) -> list[list[str]]:
        lines = [line for line in text.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    for name, kind in (("s", "DOUBLE"), ("t", "TEXT")):
        assert "success" in run(f"create timeseries {device}.{name} with datatype={kind}")
    run(f"insert into {device}(time, s, t) values (1, 1.5, '\u00fcn\u00efc\u00f6d\u00e9')")
    run(f"insert into {device}(time, s) values (2, 2.5)")
    rows = cells(run(f"select s, t from {device}"))
    assert rows[1:] == [["1", "1.5", "\u00fcn\u00efc\u00f6d\u00e9"], ["2", "2.5", "null"]]
    assert cells(run(f"select count(s) from {device}"))[1:] == [["2"]]
    assert len(cells(run(f"show timeseries {device}.*"))) == 3
    assert "mismatched input 'selec'" in run("selec")
