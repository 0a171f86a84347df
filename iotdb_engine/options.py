"""Sizes and limits of an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def wall_clock_ms() -> int:
    """Return the present as milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class EngineOptions:
    """How much memory an engine may take, and how it cuts what it stores.

    Attributes:
        memtable_bytes: budget over all regions for what is applied and not yet on disk. At half of
            it the largest memory table is flushed in the background; above it, writers wait.
        stall_s: the longest time that one `write` waits for room, in seconds. After that it goes on
            over the budget: an applier that refused an entry would differ from its replicas.
        page_points: rows of a page, the unit of encoding, statistics and decoding.
        chunk_points: rows of a chunk, the unit of storing; a multiple of `page_points`.
        page_text_bytes: a page of rows with texts is cut shorter than `page_points` to stay near
            this many bytes.
        read_batch_rows: most rows of one `ColumnBatch`, but of stored pages (`stored.StoredBatch`).
        read_cache_bytes: budget of decoded pages and columns kept for later reads, all regions.
        block_cache_bytes: RocksDB's own cache of blocks as they are on disk.
        batch_bytes: most bytes of one write to RocksDB, which holds the GIL meanwhile.
        transfer_file_bytes: records of a region that is taken over, in one file; so much is sent
            again at most when the process ends meanwhile.
        kv_flush_puts: puts of one region in memory that start a flush, since they have to be stored
            in one batch.
        flush_level: pcodec's level for what is flushed, 0 … 12. Below 4 speed counts: 1 takes a
            third of the time of 4 and a quarter more bytes.
        compaction: whether chunks are merged in the background.
        compaction_level: pcodec's level for full chunks that a compaction writes. From 4 on,
            numbers that its codes make smaller by less than an eighth are kept as bits of one
            width, which are decoded in half of the time.
        compaction_share: of one core, that background compaction takes at most while rows are being
            written; without writes it takes what it needs.
        wal_segment_bytes: a file of the write-ahead log that has reached this is followed by
            another; the log goes when its steps are stored.
        wal_interval_s: longest time between two syncs of a log whose mode is "periodic", in
            seconds: what a power cut may cost.
        before_store: called by the flush thread before it stores a memory table that is complete.
            Who applies the entries of a log makes these durable then, so that the engine never has
            more than the log. An error of it fails the flush.
        now: the present, in the units of time stamps; for time to live.
        unit_ns: such a unit in nanoseconds.
    """

    memtable_bytes: int = 256 << 20
    stall_s: float = 10.0
    page_points: int = 8192
    chunk_points: int = 65536
    page_text_bytes: int = 1 << 20
    read_batch_rows: int = 8192
    read_cache_bytes: int = 64 << 20
    block_cache_bytes: int = 32 << 20
    batch_bytes: int = 256 << 10
    transfer_file_bytes: int = 32 << 20
    kv_flush_puts: int = 20_000
    flush_level: int = 1
    compaction: bool = True
    compaction_level: int = 6
    compaction_share: float = 0.25
    wal_segment_bytes: int = 64 << 20
    wal_interval_s: float = 0.1
    before_store: Callable[[], object] = bool
    now: Callable[[], int] = wall_clock_ms
    unit_ns: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("memtable_bytes", "page_points", "chunk_points", "page_text_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in (
            "read_batch_rows",
            "batch_bytes",
            "transfer_file_bytes",
            "kv_flush_puts",
            "wal_segment_bytes",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.chunk_points % self.page_points:
            raise ValueError(
                f"chunk_points ({self.chunk_points}) must be a multiple of "
                f"page_points ({self.page_points})"
            )
        for name in ("flush_level", "compaction_level"):
            if not 0 <= getattr(self, name) <= 12:
                raise ValueError(f"{name} ({getattr(self, name)}) must be in [0, 12]")
        if not 0 < self.compaction_share <= 1:
            raise ValueError(f"compaction_share ({self.compaction_share}) must be in (0, 1]")
        if min(self.stall_s, self.read_cache_bytes, self.block_cache_bytes) < 0:
            raise ValueError("stall_s, read_cache_bytes and block_cache_bytes cannot be negative")


DEFAULT_OPTIONS = EngineOptions()
