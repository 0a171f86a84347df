"""The scripts of `test/scripts/raft` have the output that they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.sim.script import run_script

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts" / "raft").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path):
    text = path.read_text(encoding="utf-8")
    assert run_script(text) == text


def test_there_are_scripts():
    assert len(SCRIPTS) >= 7


def test_an_unknown_command_is_named():
    assert "unknown command 'fly 1'" in run_script("> fly 1")
