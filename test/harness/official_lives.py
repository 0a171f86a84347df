"""Lives of official Python clients, and the table of docs/clients.md that is made of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIFE = ROOT / "test" / "compat" / "official_client_life.py"
PAGE = ROOT / "docs" / "clients.md"
BEGIN = "<!-- written by test/harness/rewrite_clients_table.py: begin -->"
END = "<!-- end -->"
DONE, ABSENT, FAILED = "✓", "–", "✗"
_ABSENT_PREFIX = "absent: "


@dataclass(frozen=True)
class Lived:
    """One run: what became of each operation, in order; what the client printed on stderr."""

    release: str
    outcomes: dict[str, str]
    errors: str

    def mark(self, name: str) -> str:
        outcome = self.outcomes[name]
        if outcome == "ok":
            return DONE
        return ABSENT if outcome.startswith(_ABSENT_PREFIX) else FAILED

    def marks(self) -> dict[str, str]:
        return {name: self.mark(name) for name in self.outcomes}

    def failures(self) -> str:
        """The operations that failed, with what they said; empty when none did."""
        return "\n".join(
            f"{self.release}: {name}: {text}"
            for name, text in self.outcomes.items()
            if self.mark(name) == FAILED
        )


def live(python: Path, release: str, port: int, rows: int, timeout_s: float = 300) -> Lived:
    """Let a client live against a running node."""
    result = subprocess.run(
        [str(python), str(LIFE), release, str(port), str(rows)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    outcomes = dict(json.loads(line) for line in result.stdout.splitlines() if line[:1] == "[")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return Lived(release, outcomes, result.stderr[-4000:])


def table_text(lives: Sequence[Lived]) -> str:
    """Operations × releases as Markdown."""
    lines = [
        "| operation | " + " | ".join(life.release for life in lives) + " |",
        "| --- |" + " :-: |" * len(lives),
    ]
    notes: list[str] = []
    for name in lives[0].outcomes:
        marks = [life.mark(name) for life in lives]
        lines.append(f"| {name} | " + " | ".join(marks) + " |")
        for life in lives:
            reason = life.outcomes[name].removeprefix(_ABSENT_PREFIX)
            if life.mark(name) == ABSENT and reason != "not in this release":
                notes.append(f"- {name}, {life.release}: {reason}.")
    return "\n".join(
        [*lines, "", f"{ABSENT}: the release has no such call. In particular:", *notes]
    )


def rewrite_page(text: str) -> None:
    """Put a table into the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def marks_of_page(release: str) -> Mapping[str, str]:
    """What the page says of a release, by operation."""
    text = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    column = rows[0].index(release)
    return {row[0]: row[column] for row in rows[2:]}
