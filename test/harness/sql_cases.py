"""Runs SQL case files: a statement and what it must answer, as text.

    # a comment
    > SET STORAGE GROUP TO root.sg
    ok

    > SELECT s1 FROM root.sg.d1
    Time | root.sg.d1.s1
    1    | 1.5
    2    | null

    > SELECT nonsense
    error 401 mismatched input

    > SHOW DEVICES
    any order
    devices   | isAligned
    root.sg.d | false

`any rows` in place of `any order`: only the columns are compared, since the rows are a node's own.

An error line gives the status code and a part of the message. Cells are compared as text, or
numerically with a tolerance when both sides are numbers; blanks around cells don't matter.
Files whose names begin with `v1_` are for sessions of 1.0 and later, the others for those of 0.13.
Statements run in order; a failed expectation does not stop the file, and all of them are reported
as one diff of the file against what it would have to say.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError

Answer = tuple[Sequence[str], Sequence[Sequence[Any]]] | None
"""Columns (with Time, if there is one) and rows of Python values or texts; None: a status only."""

Execute = Callable[[str], Answer]

ANY_ORDER = "any order"
ANY_ROWS = "any rows"


def version_of(path: Path) -> str:
    """Return the version that the client of a file's session says it is."""
    return "V_1_0" if path.stem.startswith("v1_") else "V_0_13"


class StatementFailedError(Exception):
    """What `execute` raises for a failed statement (a ClusterError will do as well)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Case:
    """One statement of a file, with the lines before it (comments, blanks) and after it."""

    lead: list[str]
    sql: str
    expected: list[str]


def read_cases(text: str) -> tuple[list[Case], list[str]]:
    """Return the cases of a file, and the lines that follow the last one."""
    cases: list[Case] = []
    lead: list[str] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("> "):
            assert not lines[at] or lines[at].startswith("#"), f"stray line: {lines[at]!r}"
            lead.append(lines[at])
            at += 1
            continue
        end = at + 1
        while end < len(lines) and lines[end] and not lines[end].startswith(("> ", "# ")):
            end += 1
        cases.append(Case(lead, lines[at][2:], lines[at + 1 : end]))
        lead = []
        at = end
    return cases, lead


def run_case_file(path: Path, execute: Execute) -> int:
    """Run a file's statements in order and compare; return how many there were.

    Raises:
        AssertionError: with a diff of expected against actual answers.
    """
    cases, rest = read_cases(path.read_text(encoding="utf-8"))
    assert cases, f"{path.name} has no cases"
    wanted: list[str] = []
    got: list[str] = []
    for case in cases:
        assert case.expected, f"{path.name}: nothing is expected of {case.sql}"
        want, have = _compare(case.expected, _run(case.sql, execute))
        start = [*case.lead, f"> {case.sql}"]
        wanted += start + want
        got += start + have
    if wanted != got:
        diff = difflib.unified_diff(
            wanted + rest, got + rest, f"{path.name} expected", f"{path.name} actual", lineterm=""
        )
        raise AssertionError("\n" + "\n".join(diff))
    return len(cases)


def rewritten(text: str, execute: Execute) -> str:
    """Return a file's text with the answers as they are now; errors keep the part they name."""
    cases, rest = read_cases(text)
    lines: list[str] = []
    for case in cases:
        lines += [*case.lead, f"> {case.sql}"]
        actual = _run(case.sql, execute)
        any_order = case.expected[:1] == [ANY_ORDER]
        if case.expected:
            wanted, have = _compare(case.expected, actual)
            if wanted == have:
                lines += case.expected
                continue
        if isinstance(actual[0], str):
            lines += [line for line in actual if isinstance(line, str)]
            continue
        table = [[cell.strip() for cell in row] for row in actual]
        widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
        lines += [ANY_ORDER] if any_order else []
        lines += _render(table, widths)
    return "\n".join(lines + rest) + "\n"


def _run(sql: str, execute: Execute) -> list[str] | list[list[str]]:
    """Return the answer as one line, or as cells of a table."""
    try:
        answer = execute(sql)
    except StatementFailedError as error:
        return [f"error {error.code} {error.message}"]
    except ClusterError as error:
        return [f"error {int(error.status)} {error.message}"]
    if answer is None:
        return ["ok"]
    columns, rows = answer
    return [list(columns), *([cell_text(cell) for cell in row] for row in rows)]


def _compare(
    expected: list[str], actual: list[str] | list[list[str]]
) -> tuple[list[str], list[str]]:
    """Return expected and actual lines, equal where they agree."""
    if isinstance(actual[0], str) or expected[0].split()[0] in ("ok", "error"):
        lines = [line if isinstance(line, str) else " | ".join(line) for line in actual]
        if len(lines) == 1 and _same_error(expected, lines[0]):
            return expected, expected
        return expected, lines
    if expected[0] == ANY_ROWS:
        return expected, [ANY_ROWS, *_render(actual[:1], list(map(len, actual[0])))]
    any_order = expected[0] == ANY_ORDER
    table = [[cell.strip() for cell in line.split("|")] for line in expected[any_order:]]
    have = [[cell.strip() for cell in row] for row in actual]
    if any_order:
        have = _in_order_of(table, have)
    have = _like(table, have)
    widths = [0] * max(map(len, table + have))
    for row in table + have:
        for number, cell in enumerate(row):
            widths[number] = max(widths[number], len(cell))
    head = [ANY_ORDER] if any_order else []
    return head + _render(table, widths), head + _render(have, widths)


def _same_error(expected: list[str], actual: str) -> bool:
    both_are_errors = expected[:1] != [] and all(
        text.startswith("error ") for text in (expected[0], actual)
    )
    if len(expected) != 1 or not both_are_errors:
        return expected == [actual]
    _, code, *part = expected[0].split(" ", 2)
    _, actual_code, message = actual.split(" ", 2)
    return code == actual_code and (not part or part[0].lower() in message.lower())


def _in_order_of(table: list[list[str]], rows: list[list[str]]) -> list[list[str]]:
    """Return the rows (header first) in the order of the table, unknown ones at the end."""
    left = rows[1:]
    ordered = rows[:1]
    for wanted in table[1:]:
        found = next((row for row in left if _same_row(wanted, row)), None)
        if found is not None:
            left.remove(found)
            ordered.append(found)
    return ordered + left


def _like(table: list[list[str]], rows: list[list[str]]) -> list[list[str]]:
    """Return the rows, with cells that are the same number spelled as in the table."""
    return [
        list(table[n]) if n < len(table) and _same_row(table[n], row) else row
        for n, row in enumerate(rows)
    ]


def _same_row(a: Sequence[str], b: Sequence[str]) -> bool:
    return len(a) == len(b) and all(map(_same_cell, a, b))


def _same_cell(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        x, y = float(a), float(b)
    except ValueError:
        return False
    if a.lstrip("-").isdigit() and b.lstrip("-").isdigit():
        return False  # integers are exact
    return math.isclose(x, y, rel_tol=2e-6, abs_tol=1e-9) or (math.isnan(x) and math.isnan(y))


def _render(table: list[list[str]], widths: list[int]) -> list[str]:
    return [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in table
    ]


def cell_text(cell: Any) -> str:
    """Return a value as the family's clients print it, up to the spelling of numbers."""
    if cell is None:
        return "null"
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, bytes):
        return cell.decode("utf-8")
    return "NaN" if isinstance(cell, float) and math.isnan(cell) else str(cell)
