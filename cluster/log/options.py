"""Settings of the node's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LogOptions:
    """How the node's log writes and what it may keep in memory.

    What is queued has no bound here: a core bounds what it leaves uncommitted.

    Attributes:
        sync: "always": reported durable after fdatasync. "periodic": reported after the write,
            synced every `sync_interval_ms`; a power cut may take that much acknowledged data.
        sync_interval_ms: see `sync`.
        segment_bytes: a new segment file is begun when one has reached this size.
        cache_bytes: payload cache of the node, over all groups; entries that are not yet durable
            stay in memory beyond it.
        max_batch_bytes: payload collected for one write and sync.
        ahead: what is made before it is needed, so that a sync needs no journal of the file system:
            "blocks" behind the end of the present segment (`cluster.log.direct_tail`), also the
            next "segments" while the present one is in use (`cluster.log.spares`), or "nothing".
    """

    sync: Literal["always", "periodic"] = "always"
    sync_interval_ms: int = 100
    segment_bytes: int = 64 << 20
    cache_bytes: int = 64 << 20
    max_batch_bytes: int = 16 << 20
    ahead: Literal["nothing", "blocks", "segments"] = "nothing"

    def __post_init__(self) -> None:
        if self.sync not in ("always", "periodic"):
            raise ValueError(f"sync: {self.sync!r} is neither 'always' nor 'periodic'")
        if self.ahead not in ("nothing", "blocks", "segments"):
            raise ValueError(f"ahead: {self.ahead!r} is none of nothing, blocks, segments")
        if not 4096 <= self.segment_bytes <= 1 << 30:
            raise ValueError(f"segment_bytes: {self.segment_bytes} is not in [4 KiB, 1 GiB]")
        if not 1 <= self.max_batch_bytes <= 1 << 30:
            raise ValueError(f"max_batch_bytes: {self.max_batch_bytes} is not in [1, 1 GiB]")
        if self.sync_interval_ms < 1:
            raise ValueError(f"sync_interval_ms: {self.sync_interval_ms} is not positive")
        if self.cache_bytes < 0:
            raise ValueError(f"cache_bytes: {self.cache_bytes} is negative")
