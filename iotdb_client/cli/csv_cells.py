"""Cells of CSV in which an empty text and no value are told apart.

Null is an empty cell, an empty text two quotes, as PostgreSQL and others have it. Python's writer
knows the difference from 3.12 on, its reader does not tell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

QUOTE = '"'
EMPTY_TEXT = QUOTE + QUOTE


def csv_line(cells: Sequence[str | None]) -> str:
    """Return one line of CSV, without its end; None for null."""
    out = io.StringIO()
    csv.writer(out).writerow(cells)  # its own end of a line makes it quote both characters of that
    line = out.getvalue()[:-2]
    if (
        "" not in cells or line == EMPTY_TEXT
    ):  # a lone cell is quoted, so that the line is not empty
        return line
    # rare: the line is put together anew
    return ",".join(EMPTY_TEXT if cell == "" else csv_line((cell, None))[:-1] for cell in cells)


def quoted_empties(record: str, delimiter: str) -> set[int]:
    """Return which cells of a record are an empty text.

    Args:
        record: as it is in the file, well-formed.
        delimiter: between cells.
    """
    found: set[int] = set()
    at = number = 0
    while True:
        if record.startswith(QUOTE, at):
            end = record.find(QUOTE, at + 1)
            while record.startswith(QUOTE, end + 1):  # two stand for one
                if end < 0:
                    return found
                end = record.find(QUOTE, end + 2)
            if end == at + 1:
                found.add(number)
            at = end + 1
        at = record.find(delimiter, at)
        if at < 0:
            return found
        at += len(delimiter)
        number += 1
