"""No group pins the log that all groups of a node share."""

from __future__ import annotations

from pathlib import Path

from cluster.member.log_keeper import LogKeeper
from cluster.plan.codec import encode_plan
from cluster.raft.types import GroupId
from harness.group_cluster import GROUP, GroupCluster, GroupNode, insert, wait_until
from harness.raft_log import Waited, segments

SEGMENT = 16 << 10
OTHER = GroupId(7)


def keeper_of(node: GroupNode) -> LogKeeper:
    return LogKeeper(
        log=node.log,
        members=lambda: [node.member],
        flush=lambda group_id: node.engine.region(group_id).flush(wait=False),
        segment_bytes=SEGMENT,
        flush_after_bytes=2 * SEGMENT,
        flush_after_entries=100_000,
        max_bytes=4 * SEGMENT,
    )


def fill_with_another_group(node: GroupNode, count: int) -> None:
    """Entries of another group, a segment each, which are dropped at once."""
    log = Waited(node.log.group(OTHER))
    for _ in range(count):
        log.append(size=SEGMENT)
    log.group.compact(log.group.last_index)


def test_a_group_without_a_quorum_does_not_pin_the_disk(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, segment_bytes=SEGMENT) as group:
        leader = group.leader()
        leader.put(insert(0, 100))
        others = [n for n in group.ids if n != leader.node_id]
        group.network.isolate(leader.node_id, others)
        waiters = [leader.member.propose_async(encode_plan(insert(n, n + 5))) for n in (200, 300)]
        stuck = leader.log.group(GROUP)
        last = stuck.last_index
        folder = tmp_path / f"node{leader.node_id}" / "raft-log"
        keeper = keeper_of(leader)
        for _ in range(4):
            fill_with_another_group(leader, 10)
            assert len(segments(folder)) > 6
            # the machine's part is stored by a flush, the rest is moved
            wait_until(lambda: keeper.keep() or len(segments(folder)) <= 6)
        assert stuck.last_index == last
        assert stuck.first_index <= last
        # it restarts with what it has, and the group goes on
        term = stuck.hard_state.term
        leader.stop()
        group.network.heal()
        back = group.start(leader.node_id)
        assert back.log.group(GROUP).hard_state.term == term
        assert back.log.group(GROUP).last_index == last
        group.leader().put(insert(400, 401))
        group.wait_applied(group.leader().member.applied_index)
        assert len({digest.root for digest in group.digests()}) == 1
        assert waiters
