"""A follower that lacks more than the log has takes the leader's state over, whatever happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from cluster.log.errors import LogFailed
from cluster.member.member_deps import LogKeep
from cluster.member.shipment import SnapshotOptions
from cluster.plan.plans import FlushPlan
from cluster.raft.events import TransferLeadership
from cluster.raft.types import NodeId
from cluster.rpc.client_pool import RpcError
from harness.group_cluster import STEADY, GroupCluster, GroupNode, insert, wait_until

NOTHING = LogKeep(live_bytes=0, absent_bytes=0)
SMALL_PIECES = SnapshotOptions(piece_bytes=2000, call_timeout_s=5.0)


def cluster(folder: Path, **options: Any) -> GroupCluster:
    return GroupCluster(folder, **{"keep": NOTHING, "snapshots": SMALL_PIECES, **options})


def write_and_compact(group: GroupCluster, lo: int, hi: int) -> None:
    """Write rows, in many entries, and drop the log of all that run up to them."""
    leader = group.leader()
    for start in range(lo, hi, 100):
        leader.put(insert(start, min(hi, start + 100)))
    index = leader.member.applied_index
    group.wait_applied(index)
    for node in group.nodes.values():
        if node.running:
            node.member.machine.region.flush()
            node.member.maybe_compact()
    wait_until(lambda: leader.log.group(1).first_index > index)


def left_behind(group: GroupCluster, rows: int = 5000) -> GroupNode:
    """Return a follower, which is down and lacks what is compacted."""
    leader = group.leader()
    leader.put(insert(0, 10))
    behind = next(n for n in group.nodes.values() if n is not leader)
    behind.stop()
    write_and_compact(group, 10, rows)
    return behind


def assert_alike(group: GroupCluster) -> None:
    digests = group.digests()
    assert len({digest.root for digest in digests}) == 1
    assert len(digests[0].leaves) > 1


def test_a_follower_that_was_away_catches_up_by_snapshot(tmp_path: Path) -> None:
    with cluster(tmp_path) as group:
        behind = left_behind(group)
        back = group.start(behind.node_id)
        leader = group.leader()
        wait_until(lambda: back.member.applied_index >= leader.member.applied_index)
        assert back.count() == 5000
        assert back.log.group(1).first_index > 40
        leader.put(insert(5000, 5001))
        assert_alike(group)
        # and it stands on its own feet: it restarts from its log, and can lead
        back.stop()
        back = group.start(back.node_id)
        assert_alike(group)
        for node in list(group.nodes.values()):
            if node is not back and node.member.is_leader:
                node.stop()
        group.leader().put(insert(6000, 6001))
        assert not any(node.failures for node in group.nodes.values())


def test_7_a_damaged_piece_is_sent_again_and_never_applied(tmp_path: Path) -> None:
    """Acceptance test 7, the snapshot's part."""
    damaged = []

    def tap(_frm: int, _to: int, method: str, request: Any) -> Any:
        if method == "installSnapshot" and request.data and len(damaged) < 3:
            position = len(request.data) * (len(damaged) + 1) // 5
            data = bytearray(request.data)
            data[position] ^= 1
            request.data = bytes(data)
            damaged.append(position)
        return request

    with cluster(tmp_path) as group:
        behind = left_behind(group)
        group.network.tap = tap
        back = group.start(behind.node_id)
        wait_until(lambda: back.count() == 5000)
        assert len(damaged) == 3
        assert_alike(group)


def test_7_damage_that_a_piece_does_not_show_is_seen_at_the_end(tmp_path: Path) -> None:
    """As if the disk had changed it: each piece's own checksum fits."""
    damaged = []

    def tap(_frm: int, _to: int, method: str, request: Any) -> Any:
        if method == "installSnapshot" and request.data and not damaged:
            data = bytearray(request.data)
            data[-1] ^= 1
            request.data = bytes(data)
            request.dataCrc = google_crc32c.value(request.data)
            damaged.append(1)
        return request

    with cluster(tmp_path) as group:
        behind = left_behind(group)
        group.network.tap = tap
        back = group.start(behind.node_id)
        wait_until(lambda: back.count() == 5000)
        assert damaged
        assert_alike(group)


def test_a_new_state_comes_without_an_offer_and_ends_with_its_last_piece(tmp_path: Path) -> None:
    parts: list[tuple[bytes, bool, bool]] = []

    def tap(_frm: int, _to: int, method: str, request: Any) -> Any:
        if method == "installSnapshot":
            parts.append((request.afterKey, bool(request.data), request.done))
            if [done for _, _, done in parts] == [False] * (len(parts) - 1) + [True]:
                raise RpcError("lost", definitely_not_sent=False)
        return request

    with cluster(tmp_path, **STEADY) as group:
        behind = left_behind(group)
        group.network.tap = tap
        back = group.start(behind.node_id)
        wait_until(lambda: back.count() == 5000)
        last = next(at for at, (_, _, done) in enumerate(parts) if done)
        assert last > 3
        assert parts[0] == (b"", True, False)
        assert all(with_data for _, with_data, _ in parts[: last + 1])
        # it was lost: an offer tells how far the follower is, and the last piece comes again
        assert [part[1:] for part in parts[last + 1 :]] == [(False, False), (True, True)]
        assert_alike(group)


@pytest.mark.parametrize("tail_bytes", [1 << 20, 0])
def test_the_newest_comes_by_log_unless_it_is_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail_bytes: int
) -> None:
    monkeypatch.setattr("cluster.member.snapshot_sender._TAIL_BYTES", tail_bytes)
    sent: list[int] = []

    def tap(_frm: int, _to: int, method: str, request: Any) -> Any:
        if method == "installSnapshot":
            sent.append(request.index)
        return request

    with cluster(tmp_path) as group:
        behind = left_behind(group)
        leader = group.leader()
        stored = leader.member.applied_index
        leader.put(insert(5000, 5100))
        group.network.tap = tap
        back = group.start(behind.node_id)
        wait_until(lambda: back.count() == 5100)
        assert (sent[0] == stored) == (tail_bytes > 0)
        assert_alike(group)


def test_a_transfer_goes_on_after_lost_calls(tmp_path: Path) -> None:
    keys: list[bytes] = []
    lost = []

    def tap(_frm: int, _to: int, method: str, request: Any) -> Any:
        if method == "installSnapshot" and request.data:
            # behind the last one nothing is under way that would have to come again
            if (len(keys) == 3 and not lost) or (len(lost) == 1 and request.done):
                lost.append(request.afterKey)
                raise RpcError("lost", definitely_not_sent=len(lost) == 1)
            keys.append(request.afterKey)
        return request

    with cluster(tmp_path, **STEADY) as group:
        behind = left_behind(group)
        group.network.tap = tap
        back = group.start(behind.node_id)
        wait_until(lambda: back.count() == 5000)
        assert len(lost) == 2
        assert keys == sorted(set(keys))  # no piece was sent twice
        assert_alike(group)


def test_a_transfer_is_begun_anew_by_another_leader(tmp_path: Path) -> None:
    sent: list[tuple[int, str, bytes]] = []

    def tap(frm: int, _to: int, method: str, request: Any) -> Any:
        if method == "installSnapshot" and request.data:
            if len(sent) == 3:
                group.nodes[NodeId(frm)].member.step(TransferLeadership(other.node_id))
                wait_until(lambda: other.member.is_leader)
            sent.append((frm, request.source, request.afterKey))
        return request

    with cluster(tmp_path, **STEADY) as group:
        behind = left_behind(group)
        old = group.leader()
        other = next(n for n in group.nodes.values() if n not in (old, behind))
        group.network.tap = tap
        back = group.start(behind.node_id)
        wait_until(lambda: back.count() == 5000)
        # its state is another one: nothing of what came before is a part of it
        theirs = [(source, key) for frm, source, key in sent if frm == other.node_id]
        assert theirs[0][1] == b""
        assert theirs[0][0] != sent[0][1]
        assert_alike(group)


def test_a_transfer_goes_on_after_the_follower_was_killed(tmp_path: Path) -> None:
    pieces: list[bytes] = []
    down: list[str] = []

    def tap(_frm: int, to: int, method: str, request: Any) -> Any:
        if method == "installSnapshot" and request.data:
            pieces.append(request.afterKey)
            if len(pieces) == 5:
                raise RpcError("killed", definitely_not_sent=True)
            if len(pieces) > 5 and down:
                raise RpcError("still down", definitely_not_sent=True)
        return request

    with cluster(tmp_path) as group:
        behind = left_behind(group)
        group.network.tap = tap
        down.append("the follower")
        back = group.start(behind.node_id)
        wait_until(lambda: len(pieces) >= 5)
        back.engine._store.flush()  # some of what came is on disk, some is lost with the kill
        back.stop()
        down.clear()
        back = group.start(back.node_id)
        wait_until(lambda: back.count() == 5000)
        assert_alike(group)


@pytest.mark.parametrize("step", ["before the switch", "after the switch", "before the log"])
def test_a_kill_between_two_steps_of_the_install(tmp_path: Path, step: str) -> None:
    with cluster(tmp_path) as group:
        behind = left_behind(group)
        expected = group.leader().count()
        back = group.start(behind.node_id)
        died = []

        def die(*_args: Any, **_more: Any) -> Any:
            died.append(step)
            group.network.handlers.pop(back.node_id, None)
            raise LogFailed("killed")

        switch = back.engine.finish_import

        def switch_then_die(*args: Any, **more: Any) -> Any:
            switch(*args, **more)
            return die()

        if step == "before the switch":
            back.engine.finish_import = die  # type: ignore[method-assign]
        elif step == "after the switch":
            back.engine.finish_import = switch_then_die  # type: ignore[method-assign]
        else:
            log = back.log.group(1)
            submit = log.submit

            def submit_or_die(persist: Any, *args: Any, **more: Any) -> Any:
                return die() if persist.snapshot is not None else submit(persist, *args, **more)

            log.submit = submit_or_die  # type: ignore[method-assign]
        wait_until(lambda: died)
        back.stop()
        back = group.start(back.node_id)
        wait_until(lambda: back.member.applied_index >= group.leader().member.applied_index)
        assert back.count() == expected
        assert_alike(group)


def test_a_follower_without_a_state_and_one_with_a_newer_log_term(tmp_path: Path) -> None:
    """The snapshot replaces entries that were never committed."""
    with cluster(tmp_path) as group:
        old = group.leader()
        others = [n for n in group.ids if n != old.node_id]
        old.put(insert(0, 10))
        group.network.isolate(old.node_id, others)
        waiter = old.member.propose_async(b"\x15\x01{}")  # a FLUSH that no quorum will have
        group.nodes[others[0]].member.tick()
        wait_until(lambda: any(group.nodes[n].member.is_leader for n in others))
        write_and_compact_on(group, others)
        group.network.heal()
        leader = group.leader()
        wait_until(lambda: old.member.applied_index >= leader.member.applied_index)
        leader.put(FlushPlan())
        assert_alike(group)
        assert not old.failures
        assert waiter is not None


def write_and_compact_on(group: GroupCluster, ids: list[int]) -> None:
    leader = next(group.nodes[n] for n in ids if group.nodes[n].member.is_leader)
    for start in range(10, 3000, 100):
        leader.put(insert(start, start + 100))
    index = leader.member.applied_index
    for node_id in ids:
        node = group.nodes[node_id]
        wait_until(lambda node=node: node.member.applied_index >= index)
        node.member.machine.region.flush()
    wait_until(lambda: leader.member.maybe_compact() or leader.log.group(1).first_index > index)


def test_the_log_keeps_what_a_live_follower_needs_up_to_a_bound(tmp_path: Path) -> None:
    keep = LogKeep(live_bytes=1 << 30, absent_bytes=20_000)
    with cluster(tmp_path, keep=keep) as group:
        leader = group.leader()
        leader.put(insert(0, 10))
        behind = next(n for n in group.nodes.values() if n is not leader)
        behind.stop()
        for start in range(10, 500, 10):
            leader.put(insert(start, start + 10))
        for node in group.nodes.values():
            if node.running:
                node.member.machine.region.flush()
                node.member.maybe_compact()
        assert leader.log.group(1).first_index <= 3  # 20 000 bytes hold all of it
        for start in range(500, 20_000, 1000):
            leader.put(insert(start, start + 1000))
        leader.member.machine.region.flush()
        # not heard from for an election time-out by now: only so much is kept for it
        wait_until(lambda: leader.member.maybe_compact() or leader.log.group(1).first_index > 50)
        back = group.start(behind.node_id)
        wait_until(lambda: back.count() == 20_500)
        assert_alike(group)
