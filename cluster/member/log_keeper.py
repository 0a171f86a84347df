"""Keeps the node's log small, so that no group pins the disk that all of them share.

Segments are shared: one is kept as long as any group needs an entry in it. What makes a group need
old entries, and what is done about it:

- its state machine has not stored their effect: it is asked to flush. Also when few bytes are
  many entries: after a restart each is applied again, and until then the member leads nobody;
- a member lacks them: they are kept up to a bound (`LogKeep`), then it will get a snapshot;
- the log as a whole is above its bound: the groups that pin the oldest segments give up what
  their state machines have stored, whoever lacks it;
- what even that leaves, because no quorum takes it or the state machine does not come to it (a
  core bounds how much that can be), is written again at the end of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from cluster.log.errors import LogCorrupt, LogFailed
from cluster.log.node_log import NodeLog
from cluster.member.member_deps import LogKeep
from cluster.member.raft_member import RaftMember
from cluster.raft.types import GroupId
from iotdb_engine.errors import EngineError

logger = logging.getLogger(__name__)

FLUSH_AFTER_ENTRIES = 100_000
"""Rows are applied again at some 20 000 a second and more: seconds of a restart."""
_NOTHING = LogKeep(live_bytes=0, absent_bytes=0)
_MOVE_BYTES = 8 << 20
"""Of a group at a time: the log has others to write for."""


class LogKeeper:
    """Called now and then by the node's main thread.

    Args:
        members: those of this node, now.
        flush: asks for a group's state to be stored; returns at once.
        segment_bytes: of the log.
        flush_after_bytes: unflushed entries may lie that far behind the log's end.
        flush_after_entries: so many entries of a group may be unflushed.
        max_bytes: bound of the log.
    """

    def __init__(
        self,
        *,
        log: NodeLog,
        members: Callable[[], Sequence[RaftMember]],
        flush: Callable[[GroupId], None],
        segment_bytes: int,
        flush_after_bytes: int,
        flush_after_entries: int,
        max_bytes: int,
    ) -> None:
        self._log = log
        self._members = members
        self._flush = flush
        self._flush_segments = max(1, flush_after_bytes // segment_bytes)
        self._flush_entries = flush_after_entries
        self._max_segments = max(2, max_bytes // segment_bytes)

    def keep(self) -> None:
        """Flush what pins old segments, drop what nobody is expected to need."""
        newest = self._log.newest_segment
        for member in self._members():
            try:
                self._keep_one(member, newest)
            except (EngineError, LogFailed) as error:
                # a snapshot takes the place of its region just now; or the node is about to stop
                logger.info("group %d: log left as it is for now: %s", member.group_id, error)

    def _keep_one(self, member: RaftMember, newest: int) -> None:
        member.snapshots.expire()
        member.group_machine.digests.expire()
        member.maybe_compact()
        log = self._log.group(member.group_id)
        oldest = log.oldest_segment()
        if oldest is None:
            return
        pins = newest - oldest
        unflushed = member.applied_index - member.durable_index
        if unflushed > self._flush_entries or (unflushed and pins >= self._flush_segments):
            self._flush(member.group_id)
        if pins >= self._max_segments:
            member.maybe_compact(_NOTHING)
            oldest = log.oldest_segment()
            if oldest is not None and newest - oldest >= self._max_segments:
                self._move(member.group_id)

    def _move(self, group_id: GroupId) -> None:
        try:
            count = self._log.group(group_id).move_oldest(_MOVE_BYTES)
        except (LogCorrupt, OSError) as error:
            # nothing is lost by it: whoever needs the entries meets the same error
            logger.warning("group %d: its oldest entries can't be moved: %s", group_id, error)
        else:
            logger.info(
                "group %d: %d entries that can't be dropped are written again, so that the log's "
                "oldest files may go",
                group_id,
                count,
            )
