from __future__ import annotations

from pathlib import Path

import pytest

from harness.local_database import local_database_for
from harness.sql_cases import StatementFailedError, run_case_file

CASES = sorted((Path(__file__).parents[2] / "cases" / "sql").glob("*.txt"))


@pytest.mark.parametrize("batch_rows", [1, 3, 5000])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case_file(path, batch_rows):
    with local_database_for(path, batch_rows) as database:
        assert run_case_file(path, database.answer) > 5


def test_runner_reports_what_differs_as_a_diff(tmp_path):
    path = tmp_path / "case.txt"
    path.write_text(
        "# note\n> one\nTime | a\n1 | 2.0\n2 | 3\n\n> two\nok\n\n> three\nerror 5 bad\n"
    )

    def execute(sql):
        if sql == "three":
            raise StatementFailedError(5, "Very bad")
        return (["Time", "a"], [[1, 2.0000001], [2, 4]]) if sql == "one" else None

    with pytest.raises(AssertionError) as caught:
        run_case_file(path, execute)
    changed = [line for line in str(caught.value).splitlines() if line.startswith(("+", "-"))]
    assert changed[2:] == ["-2    | 3", "+2    | 4"]


def test_runner_compares_rows_in_any_order(tmp_path):
    path = tmp_path / "case.txt"
    path.write_text("> q\nany order\na\nx\ny\n")
    assert run_case_file(path, lambda sql: (["a"], [["y"], ["x"]])) == 1
    with pytest.raises(AssertionError):
        run_case_file(path, lambda sql: (["a"], [["y"], ["y"]]))
