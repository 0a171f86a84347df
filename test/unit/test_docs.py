"""Documentation speaks of what is there: links lead somewhere, named files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for folder in ("", "docs", "docs/formats", "docs/notes", "test", "bench", "thrift", "examples")
    for path in (ROOT / folder).glob("*.md")
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"`([\w./-]+\.(?:py|sh|md|toml|cfg|lark|thrift|jsonl))`")
OF_USERS = {"alarms.py", "sums.py"}
"""What a page tells its reader to write."""


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.fixture(scope="module")
def names() -> set[str]:
    found = set()
    for path in ROOT.rglob("*"):
        if ".git" not in path.parts and path.is_file():
            parts = path.relative_to(ROOT).parts
            found.update("/".join(parts[at:]) for at in range(len(parts)))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, part = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name}: {target}"
        if part and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in map(anchor, headings), f"{page.name}: {target}"


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "CHANGELOG.md"],  # which tells of what was
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_files_that_are_named_exist(page: Path, names: set[str]) -> None:
    for name in NAMED.findall(page.read_text(encoding="utf-8")):
        known = name.removeprefix("./") in names or name in OF_USERS
        assert known, f"{page.name} names {name}"


@pytest.fixture(scope="module")
def tests() -> set[str]:
    return {
        name
        for path in (ROOT / "test").rglob("*.py")
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path, tests: set[str]) -> None:
    named = set(re.findall(r"`(test_\w+)(?:\[[^`]*)?`", page.read_text(encoding="utf-8")))
    assert named <= tests, f"{page.name} names {sorted(named - tests)}"
