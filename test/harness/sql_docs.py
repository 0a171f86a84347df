"""The examples of `docs/sql.md`: fenced blocks in the form of case files.

    PYTHONPATH=test:. python test/harness/sql_docs.py

writes the answers as they are now into the page; the difference is to be read as carefully as code.
A block ```sql is for sessions of 0.13, ```sql 1.x for those of 1.0 and later; all blocks of a page
run in order over one database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cluster.rpc.status import Generation
from cluster.server.sessions import Session
from harness.local_database import LocalDatabase
from harness.sql_cases import Answer, rewritten

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"

_BLOCK = re.compile(r"^```sql( 1\.x)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block: its text, and where that is in the page."""

    modern: bool
    text: str
    start: int
    end: int


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    for match in _BLOCK.finditer(page):
        yield Block(match[1] is not None, match[2], match.start(2), match.end(2))


def executor(database: LocalDatabase, block: Block) -> Callable[[str], Answer]:
    """Return what runs a block's statements."""
    generation = Generation.V1 if block.modern else Generation.V0_13
    database.session = Session(1, "root", "+08:00", generation)
    return database.answer


def main() -> None:
    """Rewrite the page."""
    page = PAGE.read_text(encoding="utf-8")
    parts = []
    end = 0
    with LocalDatabase() as database:
        for block in blocks(page):
            parts += [page[end : block.start], rewritten(block.text, executor(database, block))]
            end = block.end
    PAGE.write_text("".join([*parts, page[end:]]), encoding="utf-8")


if __name__ == "__main__":
    main()
