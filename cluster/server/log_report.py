"""`nodetool log`: what a stopped node's Raft log holds, read from its files and never changed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError, StatusCode
from cluster.log.errors import LogLocked
from cluster.log.file_ops import FileOps
from cluster.log.recovery import LogContents, RecoveredGroup, read_log
from cluster.log.segment import POSITION_MASK, POSITION_SHIFT, Place, SegmentReader
from cluster.plan.codec import decode_plan
from cluster.plan.plans import InsertPlan, SetPartitionTablePlan
from cluster.plan.request_id import split_request
from cluster.raft.membership import decode_membership
from cluster.raft.types import Entry, EntryKind, GroupId, LogIndex, Membership

_ENTRIES_AT_A_TIME = 256
_MAX_TEXT = 160


@contextmanager
def offline_log(folder: Path) -> Iterator[tuple[Path, LogContents]]:
    """Read the log of a data folder, or of the log's own folder, while nobody else has it.

    Raises:
        ClusterError: there is none, or a node is using it.
        LogCorrupt: it can't be trusted; says which file, where, and why.
    """
    directory = folder / "raft-log" if (folder / "raft-log").is_dir() else folder
    lock = directory / "lock"
    if not lock.exists():
        raise ClusterError(
            StatusCode.ILLEGAL_PARAMETER,
            f"{folder} has no Raft log: name a node's data_dir, or its raft-log folder",
        )
    fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            raise LogLocked(directory, f"process {owner}" if owner else "") from error
        yield directory, read_log(directory)
    finally:
        os.close(fd)


def log_report(contents: LogContents) -> dict[str, Any]:
    """Return segments and groups as plain values."""
    return {
        "closed_in_order": contents.closed,
        "segments": [
            {
                "segment": f"{item.sequence:016x}",
                "bytes": item.file_bytes,
                "valid_bytes": item.valid_bytes,
                "records": item.records,
            }
            for item in contents.segments
        ],
        "groups": [
            {
                "group": int(group_id),
                "term": int(group.written.hard_state.term),
                "vote": int(group.written.hard_state.vote),
                "base_index": group.written.base_index,
                "base_term": group.written.base_term,
                "base_membership": _membership_text(group),
                "first": group.start,
                "last": group.written.last,
                "bytes": sum(group.sizes),
                "oldest_segment": (
                    f"{group.positions[0] >> POSITION_SHIFT:016x}" if group.positions else None
                ),
            }
            for group_id, group in sorted(contents.groups.items())
        ],
    }


def log_lines(contents: LogContents, table: Any) -> list[str]:  # noqa: ANN401
    """Return the report as text; `table(head, rows)` lays out columns."""
    report = log_report(contents)
    lines: list[str] = table(
        ("segment", "bytes", "valid", "records"),
        [list(item.values()) for item in report["segments"]],
    )
    tail = contents.segments[-1] if contents.segments else None
    if contents.closed:
        lines.append("closed in order")
    elif tail is not None and tail.valid_bytes < tail.file_bytes:
        lines.append(
            f"not closed in order: {tail.file_bytes - tail.valid_bytes} bytes after the last "
            "record, an unfinished write or space made ahead, will be cut off at the next start"
        )
    lines.append("")
    keys = ("group", "term", "vote", "base_index", "base_membership", "first", "last", "bytes")
    lines += table(
        ("group", "term", "vote", "base", "members at base", "first", "last", "bytes"),
        [[item[key] for key in keys] for item in report["groups"]],
    )
    return lines


def entry_lines(
    directory: Path, contents: LogContents, group_id: GroupId, lo: int | None, hi: int | None
) -> Iterator[str]:
    """Yield a line for each entry of a group in [lo, hi); None: from its first, to its last.

    Every payload is read and checked on the way.

    Raises:
        ClusterError: the group has no log here.
        LogCorrupt: an entry's record is damaged.
    """
    group = contents.groups.get(group_id)
    if group is None:
        raise ClusterError(StatusCode.ILLEGAL_PARAMETER, f"group {group_id} has no log here")
    for position, entry in _entries(directory, contents, group_id, group, lo, hi):
        yield (
            f"{entry.index} term {entry.term} "
            f"{position >> POSITION_SHIFT:x}@{position & POSITION_MASK} "
            f"{len(entry.data)} bytes: {entry_text(entry)}"
        )


def verify(directory: Path, contents: LogContents) -> dict[str, int]:
    """Read every entry and decode it; return how many entries and bytes were sound.

    Raises:
        LogCorrupt: a record is damaged.
        ClusterError: an entry is whole but can't be understood.
    """
    entries = size = 0
    for group_id, group in sorted(contents.groups.items()):
        for _, entry in _entries(directory, contents, group_id, group, None, None):
            try:
                entry_text(entry, strict=True)
            except ValueError as error:
                raise ClusterError(
                    StatusCode.INTERNAL_SERVER_ERROR,
                    f"group {group_id}, entry {entry.index}: {error}",
                ) from error
            entries += 1
            size += len(entry.data)
    return {"groups": len(contents.groups), "entries": entries, "bytes": size}


def _entries(
    directory: Path,
    contents: LogContents,
    group_id: GroupId,
    group: RecoveredGroup,
    lo: int | None,
    hi: int | None,
) -> Iterator[tuple[int, Entry]]:
    reader = SegmentReader(directory, FileOps(), contents.seeds)
    first = group.start if lo is None else max(lo, group.start)
    end = group.written.last + 1 if hi is None else min(hi, group.written.last + 1)
    for at in range(first, end, _ENTRIES_AT_A_TIME):
        numbers = range(at - group.start, min(at + _ENTRIES_AT_A_TIME, end) - group.start)
        places = [
            Place(LogIndex(group.start + n), group.terms[n], group.sizes[n], group.positions[n])
            for n in numbers
        ]
        entries = reader.read(group_id, places)
        yield from zip([place.position for place in places], entries, strict=True)


def entry_text(entry: Entry, *, strict: bool = False) -> str:
    """Return what an entry does, in one line.

    Raises:
        ValueError: it can't be understood, if `strict`; otherwise the line says so.
    """
    try:
        if entry.kind is EntryKind.NOOP:
            return "no-op: a leader's first entry"
        if entry.kind is EntryKind.MEMBERSHIP:
            return f"membership {_members_text(decode_membership(entry.data))}"
        return _plan_text(entry.data)
    except ValueError as error:
        if strict:
            raise
        return f"NOT UNDERSTOOD: {error}"


def _plan_text(data: bytes) -> str:
    request, body = split_request(data)
    plan = decode_plan(body)
    name = type(plan).__name__.removesuffix("Plan")
    if isinstance(plan, InsertPlan):
        columns = sum(len(fragment.layout.series_ids) for fragment in plan.fragments)
        rows = sum(fragment.row_count for fragment in plan.fragments)
        slots = sorted({fragment.slot for fragment in plan.fragments})
        fields = f"fragments={len(plan.fragments)} columns={columns} rows={rows} slots={slots}"
    elif isinstance(plan, SetPartitionTablePlan):
        fields = f"table of {len(plan.table)} bytes"
    else:
        fields = " ".join(f"{key}={_shown(value)}" for key, value in vars(plan).items())
    if len(fields) > _MAX_TEXT:
        fields = fields[:_MAX_TEXT] + "…"
    of = "" if request is None else f" (request {request.number} of {request.coordinator:x})"
    return f"{name} {fields}".strip() + of


def _membership_text(group: RecoveredGroup) -> str:
    data = group.written.base_membership
    return _members_text(decode_membership(data)) if data else "-"


def _members_text(membership: Membership) -> str:
    text = "voters " + ",".join(map(str, membership.voters))
    if membership.outgoing:
        text += " outgoing " + ",".join(map(str, membership.outgoing))
    if membership.learners:
        text += " learners " + ",".join(map(str, membership.learners))
    return text


def _shown(value: object) -> str:
    return value.name if isinstance(value, Enum) else repr(value)
