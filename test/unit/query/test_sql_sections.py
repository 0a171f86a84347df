from __future__ import annotations

from harness.sql_cases import read_cases
from harness.sql_sections import EXAMPLES, FOLDER, STATEMENTS, TABLE, found, table


def test_the_table_of_cases_is_up_to_date():
    assert TABLE.read_text(encoding="utf-8") == table(), (
        "run: PYTHONPATH=test:. python test/harness/sql_sections.py --rewrite"
    )


def test_no_statement_and_no_worked_example_is_without_a_case():
    assert [item.part for item in found(STATEMENTS + EXAMPLES) if not item.count] == []
    assert [part.place for part in STATEMENTS if part.place != "3b"] == [
        str(number) for number in range(1, 89)
    ]


def test_there_are_many_cases():
    counts = [len(read_cases(path.read_text())[0]) for path in FOLDER.glob("*.txt")]
    assert sum(counts) >= 1200
