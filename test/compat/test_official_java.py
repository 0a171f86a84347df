"""The official Java clients of 0.13 and 2.0 (JDBC driver and Session), unmodified.

They need a JDK and Maven, and are fetched when IOTDB_COMPAT_ALL=1 is set or they are there already.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.official_environments import client_folder, why_no_jars
from harness.process_cluster import ProcessCluster, process_cluster

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.timeout(900)]

SOURCE = Path(__file__).with_name("java") / "Life.java.txt"
RELEASES = {"0.13": "0.13.4", "2.0": "2.0.5"}
QUIET = """<configuration><root level="WARN"/></configuration>"""


def libraries(release: str) -> Path:
    """The folder with the client's jars; skips when they can't be had."""
    if shutil.which("javac") is None or shutil.which("mvn") is None:
        pytest.skip("there is no JDK, or no Maven, on this machine")
    folder = client_folder(f"iotdb-java-{release}")
    if not (folder / "fetched").exists():
        why = why_no_jars(folder, ["iotdb-jdbc", "iotdb-session"], release)
        if why:
            pytest.skip(f"the Java client {release} {why}")
        (folder / "fetched").touch()
    return folder / "lib"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    with process_cluster(tmp_path_factory.mktemp("node"), 1) as started:
        yield started
        started.stop()


ROWS = "1000"
STEPS = ["Session, binary", "Session, compact", "JDBC, binary", "JDBC, compact", "end"]

OF_0_13 = {
    "@NUMBER@": "13",
    "@IMPORTS@": """
import org.apache.iotdb.session.SessionDataSet;
import org.apache.iotdb.tsfile.file.metadata.enums.*;
import org.apache.iotdb.tsfile.read.common.*;
import org.apache.iotdb.tsfile.write.record.Tablet;
import org.apache.iotdb.tsfile.write.schema.MeasurementSchema;
""",
    "@SCHEMA@": "MeasurementSchema",
    "@SIZE@": "tablet.rowSize = CELLS.length;",
    "@STEP_SIZE@": "tablet.rowSize = step;",
    "@ALIASES@": "null",
    # its prepared statements take texts as they are to stand in the statement
    "@PREPARED_TEXT@": "'it is'",
    "@SERIES@": "timeseries",
    "@MORE@": 'same(session.getSystemStatus().toString(), "NORMAL");',
}
OF_2_0 = {
    "@NUMBER@": "20",
    "@IMPORTS@": """
import org.apache.iotdb.common.rpc.thrift.TAggregationType;
import org.apache.iotdb.isession.SessionDataSet;
import org.apache.tsfile.enums.TSDataType;
import org.apache.tsfile.file.metadata.enums.*;
import org.apache.tsfile.read.common.*;
import org.apache.tsfile.write.record.Tablet;
import org.apache.tsfile.write.schema.*;
""",
    "@SCHEMA@": "IMeasurementSchema",
    "@SIZE@": "tablet.setRowSize(CELLS.length);",
    "@STEP_SIZE@": "tablet.setRowSize(step);",
    "@ALIASES@": "null, null, null",
    "@PREPARED_TEXT@": "it is",
    "@SERIES@": "Timeseries",
    "@MORE@": """
    List<String> one = Arrays.asList(at + ".rec.l");
    List<TAggregationType> count = Arrays.asList(TAggregationType.COUNT);
    same(rows(session.executeAggregationQuery(one, count)).get(0).get(1), "2");
    same(rows(session.executeAggregationQuery(one, count, 0, 4, 2)).size(), 2);
    same(rows(session.executeLastDataQueryForOneDevice(
        SG, at + ".rec", Arrays.asList("l"), false)).get(0).get(2), "9223372036854775807");
    List<String> nodes = Arrays.asList(at.split("[.]"));
    check(rows(session.executeFastLastDataQueryForOnePrefixPath(nodes)).size() > 10, "below");
""",
}


@pytest.mark.parametrize(("line", "differences"), [("0.13", OF_0_13), ("2.0", OF_2_0)])
def test_java_client_lives_its_whole_life(
    line: str, differences: dict[str, str], cluster: ProcessCluster, tmp_path: Path
) -> None:
    """Inserts, nulls, pages, templates, queries by paths, prepared statements, both protocols."""
    jars = libraries(RELEASES[line])
    source = SOURCE.read_text(encoding="utf-8")
    for placeholder, text in differences.items():
        source = source.replace(placeholder, text)
    (tmp_path / "Life.java").write_text(source, encoding="utf-8")
    (tmp_path / "logback.xml").write_text(QUIET)
    port, class_path = str(cluster.nodes[0].rpc_port), f"{tmp_path}:{jars}/*"
    result = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", "-cp", class_path, "Life.java", port, ROWS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    for step in STEPS:
        assert f"STEP {step}: ok" in result.stdout, result.stdout[-6000:] + result.stderr[-3000:]
