"""The official Java Session and JDBC driver of 0.13 and 2.0, taken from Maven Central.

Run where COMPAT_JAVA=1, as Maven fetches some 50 MB at first; skipped with the reason where there
is no JDK or Maven. COMPAT_JAVA_ROWS sets how many rows the JDBC driver writes one by one and reads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.process_cluster import ProcessCluster

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.timeout(900)]

SOURCE = Path(__file__).with_name("java") / "Life.java.txt"
ROWS = os.environ.get("COMPAT_JAVA_ROWS", "3000")
STEPS = ["Session, binary", "Session, compact", "JDBC, binary", "JDBC, compact"]

OLD = {
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
    "@ALIASES@": "null",
    # its prepared statements take texts as they are to stand in the statement
    "@PREPARED_TEXT@": "'it is'",
    "@SERIES@": "timeseries",
    "@MORE@": 'same(session.getSystemStatus().toString(), "NORMAL");',
}
NEW = {
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
RELEASES = {"0.13.4": OLD, "2.0.5": NEW}


def classpath(release: str, folder: Path) -> str:
    """What Maven finds for a release; skips when it can't be had."""
    if os.environ.get("COMPAT_JAVA") != "1":
        pytest.skip("COMPAT_JAVA=1 is not set")
    missing = [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    dependencies = "".join(
        f"<dependency><groupId>org.apache.iotdb</groupId><artifactId>{name}</artifactId>"
        f"<version>{release}</version></dependency>"
        for name in ("iotdb-session", "iotdb-jdbc")
    )
    (folder / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>compat</groupId><artifactId>compat</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
    result = subprocess.run(
        ["mvn", "-q", "-B", "dependency:build-classpath", "-Dmdep.outputFile=classpath"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if result.returncode:
        pytest.skip(f"Maven can't get {release} here: {result.stdout[-500:]}")
    return (folder / "classpath").read_text()


@pytest.mark.parametrize("release", RELEASES)
def test_official_java_clients(
    release: str, tmp_path: Path, cluster_of: Callable[[int], ProcessCluster]
) -> None:
    found = classpath(release, tmp_path)
    source = SOURCE.read_text(encoding="utf-8")
    for placeholder, text in RELEASES[release].items():
        source = source.replace(placeholder, text)
    (tmp_path / "Life.java").write_text(source, encoding="utf-8")
    node = cluster_of(1).nodes[0]
    result = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", "-cp", found, "Life.java", str(node.rpc_port), ROWS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    for step in STEPS:
        assert f"STEP {step}: ok" in result.stdout, result.stdout[-6000:] + result.stderr[-3000:]
