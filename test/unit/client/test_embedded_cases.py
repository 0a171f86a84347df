"""The SQL case files through the driver, on a database in this process."""

from __future__ import annotations

import pytest

import iotdb_client
from harness.process_cluster import ROOT
from harness.sql_cases import StatementFailedError, run_case_file, version_of

FILES = sorted(
    path
    for path in (ROOT / "test" / "cases" / "sql").glob("*.txt")
    if version_of(path) == "V_0_13"  # what the driver's sessions are
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_case_file(path):
    with iotdb_client.connect(":memory:", zone="+08:00", fetch_size=3) as connection:

        def execute(sql):
            try:
                cursor = connection.execute(sql)
                if cursor.description is None:
                    return None
                return [column.name for column in cursor.description], cursor.fetchall()
            except iotdb_client.DatabaseError as error:
                message = str(error).removeprefix(f"{error.status}: ")
                raise StatementFailedError(error.status or 0, message) from error

        assert run_case_file(path, execute) > 5
