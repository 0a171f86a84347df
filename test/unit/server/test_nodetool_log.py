"""`nodetool log` shows a stopped node's log and finds damage, without changing a byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cluster.log.node_log import LogOptions, NodeLog
from cluster.plan.codec import encode_plan
from cluster.plan.plans import FlushPlan, SetStorageGroupPlan
from cluster.plan.request_id import RequestId
from cluster.raft.membership import encode_membership
from cluster.raft.types import Entry, EntryKind, HardState, Membership
from cluster.server.nodetool import command
from cluster.threads import ThreadRegistry
from harness.group_cluster import insert
from harness.raft_log import Waited, segments

THREE = Membership((1, 2, 3))


def nodetool(*arguments: Any) -> Result:
    return CliRunner().invoke(command, ["log", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with two segments of log."""
    log = NodeLog(tmp_path / "raft-log", ThreadRegistry(), LogOptions(segment_bytes=4096))
    meta, data = Waited(log.group(0)), Waited(log.group(7))
    meta.put(hard_state=HardState(4, 2))
    meta.put(entries=[Entry(1, 4, EntryKind.MEMBERSHIP, encode_membership(THREE))])
    meta.put(entries=[Entry(2, 4, EntryKind.PLAN, encode_plan(SetStorageGroupPlan("root.høfn")))])
    for index in range(1, 8):
        data.put(entries=[Entry(index, 5, EntryKind.PLAN, encode_plan(insert(0, 60)))])
    data.put(entries=[Entry(8, 6, EntryKind.NOOP, b"")])
    plan = encode_plan(FlushPlan(), RequestId(0xABC, 9, 9))
    data.put(entries=[Entry(9, 6, EntryKind.PLAN, plan)])
    data.group.compact(2, THREE)
    log.close()
    return tmp_path


def test_segments_and_groups(folder: Path) -> None:
    before = {path: path.read_bytes() for path in segments(folder / "raft-log")}
    result = nodetool(folder, "--json", "--verify")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["closed_in_order"]
    assert len(report["segments"]) == len(before) > 1
    meta, data = report["groups"]
    assert (meta["group"], meta["term"], meta["vote"], meta["last"]) == (0, 4, 2, 2)
    assert (data["first"], data["last"], data["base_index"]) == (3, 9, 2)
    assert data["base_membership"] == "voters 1,2,3"
    assert report["verified"]["entries"] == 9
    text = nodetool(folder / "raft-log")
    assert "closed in order" in text.output
    assert {path: path.read_bytes() for path in segments(folder / "raft-log")} == before


def test_entries_as_plans_in_a_line_each(folder: Path) -> None:
    lines = nodetool(folder, "--group", 0).output.splitlines()
    assert lines[0].startswith("1 term 4 ")
    assert lines[0].endswith("membership voters 1,2,3")
    assert "SetStorageGroup path='root.høfn'" in lines[1]
    lines = nodetool(folder, "--group", 7, "--from", 6).output.splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("Insert fragments=1 columns=1 rows=60 slots=[0]")
    assert lines[2].endswith("no-op: a leader's first entry")
    assert lines[3].endswith("Flush merge=NONE (request 9 of abc)")
    assert len(nodetool(folder, "--group", 7, "--from", 4, "--to", 6).output.splitlines()) == 2
    missing = nodetool(folder, "--group", 8)
    assert missing.exit_code == 1
    assert "no log here" in missing.output


def test_damage_is_named(folder: Path) -> None:
    path = segments(folder / "raft-log")[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = nodetool(folder)
    assert result.exit_code == 1
    assert path.name in result.output
    assert "checksum is wrong" in result.output


def test_an_unfinished_tail_is_told_and_left(folder: Path) -> None:
    path = segments(folder / "raft-log")[-1]
    data = path.read_bytes()
    path.write_bytes(data[:-60] + bytes(20))
    result = nodetool(folder)
    assert result.exit_code == 0, result.output
    assert "will be cut off at the next start" in result.output
    assert path.read_bytes() == data[:-60] + bytes(20)


def test_a_log_in_use_and_a_folder_without_one_are_refused(folder: Path, tmp_path: Path) -> None:
    log = NodeLog(folder / "raft-log", ThreadRegistry())
    try:
        result = nodetool(folder)
        assert result.exit_code == 1
        assert "is in use by process" in result.output
    finally:
        log.close()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no Raft log" in nodetool(empty).output
