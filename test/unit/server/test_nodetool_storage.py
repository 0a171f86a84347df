"""`nodetool verify` and `repair` on a stopped node's data folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cluster.server.nodetool import command
from harness.engine_store import OPTIONS, fill
from iotdb_engine import Engine


def nodetool(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node's data folder."""
    fill(tmp_path / "engine", rows=600)
    return tmp_path


def damage(folder: Path) -> Path:
    path = max((folder / "engine").glob("*.sst"), key=lambda one: one.stat().st_size)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    return path


def test_verify_tells_sound_from_damaged(folder: Path) -> None:
    sound = nodetool("verify", folder)
    assert sound.exit_code == 0
    assert sound.output.startswith("intact: ")
    path = damage(folder)
    broken = nodetool("verify", folder / "engine")
    assert broken.exit_code == 1
    assert f"file {path.name}, bytes" in broken.output
    report = json.loads(nodetool("--json", "verify", folder).output)
    assert report["intact"] is False
    assert report["faults"][0]["file"] == path.name


def test_repair_sets_aside_and_says_what_is_lost(folder: Path) -> None:
    damage(folder)
    result = nodetool("repair", folder, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["lost"]
    assert report["left"] == []
    assert (folder / "engine.damaged-1").is_dir()
    assert nodetool("verify", folder).exit_code == 0
    assert nodetool("repair", folder).output == "intact: nothing was changed\n"


def test_a_running_node_is_left_alone(folder: Path) -> None:
    with Engine(folder / "engine", OPTIONS):
        for what in ("verify", "repair"):
            result = nodetool(what, folder)
            assert result.exit_code == 1
            assert "in use" in result.output


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    assert "not a data folder" in nodetool("verify", tmp_path).output
