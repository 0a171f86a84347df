"""What a leader knows of one member's log, and how it sends to it (thesis 3.5, 10.2.1)."""

from __future__ import annotations

from enum import Enum

from cluster.raft.types import LogIndex, NodeId


class ProgressState(Enum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    """The follower's log is not known: one small append at a time, until one fits."""

    REPLICATE = "replicate"
    """The logs agree up to `match`: a pipeline of appends, limited by bytes in flight."""

    SNAPSHOT = "snapshot"
    """The follower needs entries that are compacted: a snapshot is on its way, and nothing else."""


_LONG_AGO = -(1 << 60)


class Progress:
    """One member as its leader sees it; the leader has one for itself too.

    Attributes:
        match: durable on that member and equal to the leader's log up to here; never decreases
            within a term. For the leader itself: its persisted index.
        next_index: first entry to send next. In REPLICATE `next_index` > `match` unless a lost
            tail is being repaired; in PROBE it may be anywhere in [1, last + 1].
        paused: in PROBE, a probe is under way, or the peer was unreachable: wait for a sign of
            life before the next one.
        quiet_ticks: ticks since anything was heard from it (thesis 6.2).
        confirmed_clock: when, by the leader's clock, the newest round of heartbeats that it
            answered was sent; its promise to vote for nobody else is that young (thesis 6.4.1).
        asleep: it has followed the present invitation to sleep.
        pending_index: in SNAPSHOT, what the snapshot covers at least.
        silent_ticks: ticks since the last append answer, while anything is in flight.
        commit_sent: highest commit index that was sent with an append.
        lost_tail_hints: consecutive heartbeat answers that claimed a log shorter than `match`.
    """

    __slots__ = (
        "asleep",
        "commit_sent",
        "confirmed_clock",
        "lost_tail_hints",
        "match",
        "next_index",
        "node_id",
        "paused",
        "pending_index",
        "quiet_ticks",
        "silent_ticks",
        "state",
    )

    def __init__(self, node_id: NodeId, next_index: LogIndex) -> None:
        self.node_id = node_id
        self.match = LogIndex(0)
        self.next_index = next_index
        self.state = ProgressState.PROBE
        self.paused = False
        self.quiet_ticks = 0
        self.confirmed_clock = _LONG_AGO
        self.pending_index = LogIndex(0)
        self.asleep = False
        self.silent_ticks = 0
        self.commit_sent = LogIndex(0)
        self.lost_tail_hints = 0

    def forget_confirmation(self) -> None:
        """Nothing that this member has answered counts for a lease any more."""
        self.confirmed_clock = _LONG_AGO

    def become_probe(self, next_index: int) -> None:
        """Forget the pipeline and ask again from `next_index`."""
        self.state = ProgressState.PROBE
        self.next_index = LogIndex(next_index)
        self.paused = False
        self.silent_ticks = 0
        self.commit_sent = LogIndex(0)

    def become_replicate(self, next_index: int) -> None:
        """The logs agree before `next_index`: stream from there."""
        self.state = ProgressState.REPLICATE
        self.next_index = LogIndex(next_index)
        self.paused = False
        self.silent_ticks = 0

    def become_snapshot(self, pending_index: LogIndex) -> None:
        """The follower needs a snapshot that covers `pending_index`: send nothing else."""
        self.state = ProgressState.SNAPSHOT
        self.pending_index = pending_index
        self.paused = False
        self.silent_ticks = 0

    def on_success(self, match_index: LogIndex) -> bool:
        """Take an acknowledgement; returns whether `match` moved."""
        moved = match_index > self.match
        if moved:
            self.match = match_index
        if self.state is ProgressState.SNAPSHOT:
            # at or behind the compacted part: by the snapshot, or by an append that came late
            if match_index >= self.pending_index:
                self.become_replicate(match_index + 1)
        elif self.state is ProgressState.PROBE:
            # an older answer than the probe's own says nothing about where the probe stands
            if match_index >= self.next_index - 1:
                self.become_replicate(match_index + 1)
        elif self.next_index <= match_index:
            self.next_index = LogIndex(match_index + 1)
        return moved

    def is_stale_refusal(self, prev_index: LogIndex) -> bool:
        """Whether a refusal of `prev_index` is older than what is known by now."""
        if self.state is ProgressState.SNAPSHOT:
            return True
        if self.state is ProgressState.PROBE:
            return prev_index != self.next_index - 1
        return prev_index <= self.match
