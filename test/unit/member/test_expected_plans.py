"""A plan that was made here is applied as it is; one that came through the log is decoded."""

from __future__ import annotations

import pytest

from cluster.member import group_machine
from cluster.plan.codec import encode_plan
from cluster.plan.request_id import Requested
from cluster.raft.types import Entry, EntryKind
from cluster.rpc.deadline import Deadline
from harness.group_cluster import WAIT_S, GroupCluster, insert, wait_until


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded in order to be applied."""
    seen = []
    decode = group_machine.decode_requested

    def noted(data):
        seen.append(bytes(data))
        return decode(data)

    monkeypatch.setattr(group_machine, "decode_requested", noted)
    return seen


def propose(node, plan):
    return node.member.propose(encode_plan(plan), Deadline.after(WAIT_S), Requested(None, plan))


def test_it_is_decoded_by_the_others_only(tmp_path, decoded):
    with GroupCluster(tmp_path, size=3) as cluster:
        node = cluster.leader()
        for number in range(3):
            propose(node, insert(number, number + 1))
        cluster.wait_applied(node.member.applied_index)
        assert len(decoded) == 6
        assert not node.member.group_machine._expected
        assert len({digest.root for digest in cluster.digests()}) == 1


def test_of_another_entry_at_its_place_the_plan_is_not_used(tmp_path, decoded):
    with GroupCluster(tmp_path, size=1) as cluster:
        node = cluster.leader()
        wait_until(lambda: node.member.applied_index >= 1)
        machine = node.member.group_machine
        mine = encode_plan(insert(1, 2))
        machine.expect(2, mine, Requested(None, insert(1, 2)))
        machine.apply(Entry(2, 1, EntryKind.PLAN, encode_plan(insert(5, 8))))
        assert node.count() == 3
        machine.expect(3, mine, Requested(None, insert(1, 2)))
        machine.expect_nothing()
        machine.apply(Entry(3, 1, EntryKind.PLAN, mine))
        assert node.count() == 4
        assert len(decoded) == 2


def test_a_group_of_one_keeps_no_payloads_of_what_is_applied(tmp_path):
    with GroupCluster(tmp_path, size=1) as cluster:
        node = cluster.leader()
        for number in range(5):
            propose(node, insert(number, number + 1))
        log = node.log.group(1)
        wait_until(lambda: log.cached_bytes == 0)
        found = log.entries(log.first_index, log.last_index + 1, 1 << 20)
        assert found[-1].data == encode_plan(insert(4, 5))
        assert node.count() == 5
