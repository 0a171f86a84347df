"""Writes the answers of an in-memory database into case files: `… rewrite_sql_cases.py FILE …`.

For new files, which may hold statements alone, and after a change of behaviour; the difference is
to be read as carefully as code.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.local_database import local_database_for
from harness.sql_cases import rewritten


def main(names: list[str]) -> None:
    """Rewrite each file."""
    for name in names:
        path = Path(name)
        with local_database_for(path) as database:
            text = rewritten(path.read_text(encoding="utf-8"), database.answer)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
