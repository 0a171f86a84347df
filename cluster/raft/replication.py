"""What a leader sends: log entries as far as a follower's window is open, and signs of life.

Thesis 3.5, 5.1, 10.2.1. When it sends them, and what it makes of the answers: `leader.py`.
"""

from __future__ import annotations

from cluster.raft import quiescence
from cluster.raft.effects import SendAppend, SendSnapshot
from cluster.raft.messages import Heartbeat
from cluster.raft.progress import Progress, ProgressState
from cluster.raft.state import Leadership, RaftState
from cluster.raft.types import LogIndex

_PROBE_MAX_BYTES = 64 << 10
"""A probe carries entries only up to this size: it may be refused, and is repeated."""


def send_to_all(s: RaftState, lead: Leadership) -> None:
    """Send every follower what it lacks, as far as its window is open."""
    for progress in lead.followers:
        send_appends(s, lead, progress)


def send_appends(s: RaftState, lead: Leadership, progress: Progress) -> None:
    """Send what the follower lacks, as far as its window is open.

    A follower that needs entries which are no longer in the log gets a snapshot.
    """
    if not lead.may_append or progress.state is ProgressState.SNAPSHOT:
        return
    if progress.state is ProgressState.PROBE:
        _send_probe(s, progress)
        return
    config = s.config
    log = s.log
    if progress.next_index <= log.base_index:
        _begin_snapshot(s, progress)
        return
    window = config.max_inflight_bytes - log.bytes_between(progress.match, progress.next_index - 1)
    while progress.next_index <= log.last_index and window > 0:
        lo = progress.next_index
        if lo == progress.match + 1:
            progress.silent_ticks = 0  # nothing was in flight: the clock of this one starts now
        hi = log.batch_end(lo, min(config.max_append_bytes, window))
        if not _emit_append(s, progress, lo, hi):
            return
        progress.next_index = hi
        window -= log.bytes_between(lo - 1, hi - 1)


def _send_probe(s: RaftState, progress: Progress) -> None:
    if progress.paused:
        return
    lo = hi = progress.next_index
    log = s.log
    if lo <= log.last_index and lo > log.base_index:
        hi = log.batch_end(lo, min(s.config.max_append_bytes, _PROBE_MAX_BYTES))
        if log.bytes_between(lo - 1, hi - 1) > _PROBE_MAX_BYTES:
            hi = lo
    if _emit_append(s, progress, lo, hi):
        progress.paused = True


def _emit_append(s: RaftState, progress: Progress, lo: LogIndex, hi: LogIndex) -> bool:
    prev_index = LogIndex(lo - 1)
    prev_term = s.log.term_of(prev_index)
    if prev_term is None:
        _begin_snapshot(s, progress)
        return False
    progress.commit_sent = s.commit
    s.fx.appends.append(
        SendAppend(progress.node_id, s.term, prev_index, prev_term, lo, hi, s.commit, s.compact_to)
    )
    return True


def _begin_snapshot(s: RaftState, progress: Progress) -> None:
    """Order a snapshot, since what the follower needs is compacted (thesis 5.1)."""
    progress.become_snapshot(s.log.base_index)
    s.fx.snapshots.append(SendSnapshot(progress.node_id, s.term, s.log.base_index))


def tell_commit_when_idle(s: RaftState, lead: Leadership, progress: Progress) -> None:
    """Let a follower with nothing in flight know of the commit now, not at the next heartbeat.

    A busy one learns it with the next append. Followers serve reads and wait for their own
    forwarded writes: a heartbeat interval later would be felt.
    """
    if (
        progress.commit_sent < s.commit
        and progress.state is ProgressState.REPLICATE
        and progress.match == s.log.last_index
        and lead.may_append
    ):
        _emit_append(s, progress, progress.next_index, progress.next_index)


def broadcast_heartbeat(s: RaftState, lead: Leadership) -> None:
    """Send a sign of life to all, with the number of this round."""
    lead.heartbeat_elapsed = 0
    context = lead.beat = lead.beat + 1
    quiesce = quiescence.invites(s, lead)
    if quiesce and not lead.invited_from:
        lead.invited_from = context
        for progress in lead.followers:
            progress.asleep = False
    if s.config.lease_reads:
        lead.beats.append((context, s.now))
        while lead.beats[0][1] < s.now - s.config.lease_ticks:
            lead.beats.popleft()
    for progress in lead.followers:
        s.fx.send.append(
            Heartbeat(
                s.node_id,
                progress.node_id,
                s.term,
                min(progress.match, s.commit),
                context,
                s.compact_to,
                quiesce=quiesce and not quiescence.is_away(s, progress),
            )
        )
