"""Makes the request that a SendAppend order stands for, from the log as it is now."""

from __future__ import annotations

from collections.abc import Callable

from cluster.log.node_log import GroupLog
from cluster.raft.effects import SendAppend
from cluster.raft.messages import AppendRequest
from cluster.raft.types import Entry, LogIndex, NodeId, Term

MAX_BATCH_BYTES = 8 << 20


class OrderBuilder:
    """For one group's orders to one follower; thread-safe.

    Args:
        current_term: the core's term now.
    """

    def __init__(
        self,
        *,
        node_id: NodeId,
        peer: NodeId,
        log: GroupLog,
        current_term: Callable[[], Term],
    ) -> None:
        self._node_id = node_id
        self._peer = peer
        self._log = log
        self._current_term = current_term

    def build(self, order: SendAppend) -> tuple[AppendRequest | None, SendAppend | None]:
        """Return the request, and an order for what did not fit into it.

        No request when the order is history: the core has moved on, and will send anew.

        Raises:
            LogCorrupt, OSError: the local log can't be read: the replica must not go on.
        """
        entries: tuple[Entry, ...] = ()
        rest = None
        if order.lo < order.hi:
            try:
                entries = tuple(self._log.entries(order.lo, order.hi, MAX_BATCH_BYTES))
            except LookupError:
                # truncated or compacted since the core decided: the core has moved on as well
                return None, None
            # The order may be history: a newer leader can have rewritten the log since.
            # Within a term its leader only appends, so if the term still is the order's *after* the
            # read, then what was read is what the order meant (simulator: SimNode._dispatch).
            if self._current_term() != order.term:
                return None, None
            sent_hi = LogIndex(entries[-1].index + 1)
            if sent_hi < order.hi:
                rest = order._replace(
                    lo=sent_hi, prev_index=entries[-1].index, prev_term=entries[-1].term
                )
        request = AppendRequest(
            frm=self._node_id,
            to=self._peer,
            term=order.term,
            prev_index=order.prev_index,
            prev_term=order.prev_term,
            entries=entries,
            commit=order.commit,
            compact_to=order.compact_to,
        )
        return request, rest
