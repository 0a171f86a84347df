"""Read indexes that are answered by their bytes are those that the handler would tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.coordinator.index_round import _indexes, _question
from cluster.member.meta_member import META_GROUP_ID
from cluster.plan.reads import AppliedIndexesRead, AppliedIndexRead, Consistency, encode_read
from cluster.raft.types import GroupId
from cluster.rpc.calls import CallCodec
from cluster.rpc.framing import protocols_for
from cluster.rpc.gen.cluster import DataGroupService, RaftService
from cluster.rpc.gen.cluster.ttypes import ExecuteRequest
from cluster.server.quick_indexes import QuickIndexes
from harness.group_cluster import GROUP, GroupCluster, insert

NOBODY: Any = None


def quick_of(node: Any) -> QuickIndexes:
    return QuickIndexes(lambda group_id: node.member if group_id == GROUP else None)


def message(number: int = 0, **fields: Any) -> bytes:
    request = ExecuteRequest(
        **{
            "groupId": GROUP,
            "plan": encode_read(AppliedIndexesRead((GROUP,))),
            "timeoutMs": 2000,
            **fields,
        }
    )
    return b"".join(
        CallCodec(RaftService, ("executeRead",)).request("executeRead", number, request)
    )


def by_handler(group: GroupCluster, node: Any, payload: bytes) -> bytes:
    incoming, outgoing = protocols_for(payload)
    incoming.load(payload, 1 << 20, 1 << 20)
    DataGroupService.Processor(group.network.handlers[node.node_id]).process(incoming, outgoing)
    return b"".join(outgoing.trans.take())


def test_the_leader_answers_as_its_handler_would(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, size=1) as group:
        leader = group.leader()
        leader.put(insert(0, 8))
        quick = quick_of(leader)
        for number in (0, 7, -3):
            payload = message(number)
            assert quick.answer(NOBODY, payload) == by_handler(group, leader, payload)
        before = quick.answer(NOBODY, message())
        leader.put(insert(8, 9))
        after = quick.answer(NOBODY, message())
        assert before != after == by_handler(group, leader, message())
        leader.member.stop()
        assert quick.answer(NOBODY, message()) is None


def test_what_is_asked_for_is_what_is_known(tmp_path: Path) -> None:
    with GroupCluster(tmp_path, size=1) as group:
        leader = group.leader()
        leader.put(insert(0, 8))
        quick = quick_of(leader)
        payload = _question((GROUP, GROUP))
        answer = quick.answer(NOBODY, payload)
        assert answer is not None
        assert _indexes(answer) == (leader.member.applied_index,) * 2


def test_who_does_not_lead_says_nothing_at_once(tmp_path: Path) -> None:
    with GroupCluster(tmp_path) as group:
        leader = group.leader()
        follower = next(n for n in group.nodes.values() if n is not leader)
        assert quick_of(follower).answer(NOBODY, message()) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"plan": encode_read(AppliedIndexesRead((GROUP, 99)))},
        {"plan": encode_read(AppliedIndexesRead((GROUP, META_GROUP_ID)))},
        {"plan": encode_read(AppliedIndexRead())},
        {"plan": b'["AppliedIndexesRead", 3]'},
        {"plan": b"AppliedIndexesRead" + b"x" * 2000},
        {"relay": True},
        {"consistency": int(Consistency.WEAK)},
        {"timeoutMs": 0},
        {"groupId": GroupId(99)},
        {"groupId": None},
        {"plan": None},
    ],
)
def test_everything_else_is_left_to_the_handler(tmp_path: Path, fields: dict[str, Any]) -> None:
    with GroupCluster(tmp_path, size=1) as group:
        leader = group.leader()
        leader.put(insert(0, 8))
        quick = quick_of(leader)
        assert quick.answer(NOBODY, message()) is not None
        assert quick.answer(NOBODY, message(**fields)) is None


def test_bytes_that_are_no_request_are_left_to_who_decodes() -> None:
    quick = QuickIndexes(lambda _group: None)
    whole = message()
    for end in range(len(whole)):
        assert quick.answer(NOBODY, whole[:end]) is None
    assert quick.answer(NOBODY, whole.replace(b"executeRead", b"executeReaf")) is None
