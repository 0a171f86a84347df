"""What a leader does about linearizable reads: its lease answers them, or a round of heartbeats.

Thesis 6.4, 6.4.1. The bookkeeping of confirmations: `read_index.py`.
"""

from __future__ import annotations

from cluster.raft import replication
from cluster.raft.effects import ReadReady, ReadRejected
from cluster.raft.events import ReadRequest
from cluster.raft.progress import Progress
from cluster.raft.quorum import has_quorum, joint_committed_index
from cluster.raft.state import Leadership, RaftState
from cluster.raft.types import NO_NODE, LogIndex


def on_read_request(s: RaftState, event: ReadRequest) -> None:
    """Take a linearizable read, or refuse it when this is not the leader.

    While the lease holds, nobody else can have committed anything: answer at once (thesis 6.4.1).
    """
    lead = s.lead
    if lead is None:
        s.fx.reads_rejected.append(ReadRejected(event.id, s.leader))
        return
    lead.is_used = True
    if reads_alone(s, lead, event.late_ticks):
        s.fx.reads.append(ReadReady(event.id, s.commit))
    else:
        lead.reads.add(event.id)
        maybe_open_read_round(s, lead)


def reads_alone(s: RaftState, lead: Leadership, late_ticks: int) -> bool:
    """Whether a read may be answered without asking anybody: nobody else can have led meanwhile."""
    if s.is_sole_voter:
        return s.commit >= lead.term_start
    return holds_lease(s, lead, late_ticks)


def note_confirmed(lead: Leadership, progress: Progress, number: int) -> None:
    """Take note when the round of heartbeats that `progress` answered was sent."""
    for beat, clock in lead.beats:
        if beat == number:
            progress.confirmed_clock = max(progress.confirmed_clock, clock)
            return


def holds_lease(s: RaftState, lead: Leadership, late_ticks: int) -> bool:
    """Whether no other leader can exist yet, by the clock alone (thesis 6.4.1).

    A quorum answered heartbeats sent at `start` or later. Each of them votes for nobody else for an
    election time-out after that (`promise_left`, `RaftConfig.lease_ticks`), and every other
    quorum has one of them. A transfer is a way around the promise, so it ends the lease; for good
    once its TimeoutNow is out, which may arrive at any time.

    What was committed before this term is known only once an entry of the term is (thesis 6.4).
    """
    if not s.config.lease_reads or lead.lease_void or lead.transfer_to != NO_NODE:
        return False
    if s.commit < lead.term_start:
        return False
    now = s.now + late_ticks
    clocks = {p.node_id: LogIndex(p.confirmed_clock) for p in lead.followers}
    clocks[s.node_id] = LogIndex(now)
    start = joint_committed_index(clocks, s.membership)
    return now - start < s.config.lease_ticks


def maybe_open_read_round(s: RaftState, lead: Leadership) -> None:
    """Start confirming the waiting reads, unless a round is under way.

    Not before an entry of the own term is committed: until then the commit index may be older
    than what an earlier leader has acknowledged (thesis 6.4, step 1).
    """
    reads = lead.reads
    if reads.is_round_open or not reads.has_waiting or s.commit < lead.term_start:
        return
    reads.open_round(s.node_id, s.commit, lead.beat + 1)
    if not maybe_close_read_round(s, lead):
        replication.broadcast_heartbeat(s, lead)


def maybe_close_read_round(s: RaftState, lead: Leadership) -> bool:
    """Release the reads of the open round if a quorum has confirmed it; returns whether it did."""
    if not is_confirmed(s, lead):
        return False
    s.fx.reads.extend(lead.reads.close_round())
    maybe_open_read_round(s, lead)
    return True


def is_confirmed(s: RaftState, lead: Leadership) -> bool:
    """Whether a quorum answered a heartbeat that was sent after the open round began."""
    return lead.reads.is_round_open and has_quorum(lead.reads.acks, s.membership)
