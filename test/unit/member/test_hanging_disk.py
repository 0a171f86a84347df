"""A leader whose own disk hangs has another node lead, where the others can go on without it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError, NotLeader, OutcomeUnknown
from cluster.raft.types import Role
from cluster.rpc.deadline import Deadline
from harness.group_cluster import TICK_S, GroupCluster, GroupNode, insert, wait_until

ELECTION_S = 10 * TICK_S
SOON_S = 10.0


class Writer:
    """Puts one plan on a node in a thread; `error` is what came of it."""

    def __init__(self, node: GroupNode, lo: int, hi: int) -> None:
        self.error: BaseException | None = None
        self._node, self._plan = node, insert(lo, hi)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._node.put(self._plan)
        except ClusterError as error:
            self.error = error

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()


def others(group: GroupCluster, node: GroupNode) -> list[GroupNode]:
    return [other for other in group.nodes.values() if other is not node]


def wait_for_other(group: GroupCluster, old: GroupNode) -> GroupNode:
    found: list[GroupNode] = []

    def look() -> bool:
        found[:] = [node for node in others(group, old) if node.member.is_leader]
        return bool(found) and not old.member.is_leader

    wait_until(look, SOON_S)
    return found[0]


def test_another_node_leads_while_the_leaders_disk_hangs(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        old = group.leader()
        old.put(insert(0, 10))
        old.disk.hold()
        writer = Writer(old, 10, 20)
        assert old.disk.waiting.wait(SOON_S)
        waiting = Writer(old, 20, 30)  # behind the write under way
        new = wait_for_other(group, old)
        new.put(insert(30, 40))
        assert old.disk.waiting.is_set(), "its disk hangs still"
        # who waited behind the write is told at once, and may ask the new leader
        wait_until(lambda: waiting.has_ended, SOON_S)
        assert isinstance(waiting.error, (NotLeader, OutcomeUnknown))
        wait_until(lambda: old.member.leader == new.node_id, SOON_S)
        old.disk.release()
        writer.join()
        new.put(insert(40, 50))
        group.wait_applied(new.member.applied_index)
        assert len({digest.root for digest in group.digests()}) == 1
        assert old.count() in (40, 50)  # 20 to 30 were appended, or refused
        assert not [failure for node in group.nodes.values() for failure in node.failures]
