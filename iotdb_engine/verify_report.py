"""What a verification found: faults by kind and place, and counts of what was looked at."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from iotdb_engine.key_format import (
    CHUNK_KEY_BYTES,
    describe_key,
    split_chunk_key,
)
from iotdb_engine.rocks_files import Damage


class FaultKind(Enum):
    """What can be wrong, by what can be done about it."""

    FILE = "file"
    """Bytes of a file; `damage` says which."""
    LOG = "log"
    """Bytes of the write-ahead log."""
    UNREADABLE = "unreadable"
    """Records that RocksDB cannot read."""
    RECORD = "record"
    """One record of the engine's own state: COMMIT, a tombstone, a time to live …"""
    CHUNK = "chunk"
    """A whole chunk: its record, its pages' record, or its times."""
    PAGE = "page"
    """One page of a chunk: its values or its times."""
    TIMES = "times"
    """A whole TIMES record."""
    TIMES_PAGE = "times page"
    STATISTICS = "statistics"
    """A page whose values are sound, and not what its statistics say."""
    OVERLAP = "overlap"
    """Two chunks of one series and sequence with common times."""


class Fault(NamedTuple):
    """One thing that is wrong.

    Attributes:
        problem: in words.
        key: of the record; b"" where a file is meant.
        page: number of the page, where one is meant.
        span: inclusive times of the rows concerned, where they are known.
        damage: of a file.
        high: of UNREADABLE: the records above `key` and up to this key.
    """

    kind: FaultKind
    problem: str
    key: bytes = b""
    page: int | None = None
    span: tuple[int, int] | None = None
    damage: Damage | None = None
    high: bytes = b""

    def __str__(self) -> str:
        if self.damage is not None:
            one = self.damage
            text = (
                f"file {one.file}, bytes {one.offset} to {one.offset + one.size - 1} ({one.what})"
            )
            if one.high is not None:
                text += f": records up to [{describe_key(one.high)}]"
            return f"{text}: {self.problem}"
        times = f", times {self.span[0]} to {self.span[1]}" if self.span else ""
        page = f", page {self.page}" if self.page is not None else ""
        until = f" up to [{describe_key(self.high)}]" if self.high else ""
        return f"{describe_key(self.key)}{page}{times}{until}: {self.problem}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        found: dict[str, Any] = {"kind": self.kind.value, "problem": self.problem}
        if self.damage is not None:
            one = self.damage
            found |= {"file": one.file, "offset": one.offset, "bytes": one.size, "part": one.what}
            if one.high is not None:
                found["up_to"] = describe_key(one.high)
        if self.key:
            found |= {"record": describe_key(self.key), "key": self.key.hex()}
            if len(self.key) == CHUNK_KEY_BYTES:
                parts = split_chunk_key(self.key)
                found |= {"region": parts.region, "slot": parts.slot, "series": parts.series_id}
        if self.high:
            found["up_to"] = describe_key(self.high)
        if self.page is not None:
            found["page"] = self.page
        if self.span is not None:
            found["t_min"], found["t_max"] = self.span
        return found


class Report:
    """What a verification came to.

    Attributes:
        faults: nothing in here: the store is intact.
        remains: records that crashes, drops and merges left, which nobody sees and a full merge
            removes.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.files = 0
        self.regions = 0
        self.records = 0
        self.chunks = 0
        self.pages = 0
        self.points = 0
        self.remains = 0

    @property
    def intact(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        names = ("files", "regions", "records", "chunks", "pages", "points", "remains")
        return {
            "intact": self.intact,
            **{name: getattr(self, name) for name in names},
            "faults": [fault.to_json() for fault in self.faults],
        }

    def lines(self) -> list[str]:
        """Return it as text."""
        counts = (
            f"{self.files} files, {self.regions} regions, {self.records} records, "
            f"{self.chunks} chunks, {self.pages} pages, {self.points} points; "
            f"{self.remains} records that a full merge would remove"
        )
        if self.intact:
            return [f"intact: {counts}"]
        return [f"{len(self.faults)} faults: {counts}", *map(str, self.faults)]
