from __future__ import annotations

from harness.local_database import LocalDatabase
from harness.sql_cases import read_cases, run_case_file
from harness.sql_docs import PAGE, blocks, executor


def test_every_example_of_the_page_is_true(tmp_path):
    count = 0
    with LocalDatabase() as database:
        for number, block in enumerate(blocks(PAGE.read_text(encoding="utf-8"))):
            path = tmp_path / f"block-{number}.txt"
            path.write_text(block.text, encoding="utf-8")
            count += run_case_file(path, executor(database, block))
    assert count > 100


def test_no_statement_of_the_page_is_outside_of_a_block_that_runs():
    page = PAGE.read_text(encoding="utf-8")
    inside = sum(len(read_cases(block.text)[0]) for block in blocks(page))
    assert inside == sum(line.startswith("> ") for line in page.splitlines())
    assert page.count("```") == 2 * len(list(blocks(page)))
