"""`nodetool digest`: compares the replicas of each group at one index.

A DigestPlan goes through the group's log; every replica marks its state when it applies it. Then
each is asked for its digest of that state, and where they differ, for the parts, in order, until
the first that differs is found.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from cluster.errors import ClusterError, StatusCode
from cluster.plan.codec import decode_result, encode_plan
from cluster.plan.plans import DigestPlan
from cluster.rpc.client_pool import RpcChannel, RpcError
from cluster.rpc.gen.cluster import DataGroupService, MetaGroupService
from cluster.rpc.gen.cluster.ttypes import DigestAnswer, DigestLeaf, ExecuteRequest, NodeInfo
from cluster.threads import ThreadRegistry

_LEAVES_A_CALL = 1000
_AHEAD_NS = 60 * 1_000_000_000
"""Points that are expired by then do not count: a node whose clock is ahead may have removed them,
and no query returns them, since nodes keep what is expired for some minutes."""
_META_GROUP_ID = 0


class Replica(NamedTuple):
    """One replica's answer: its digest, or why there is none."""

    node: int
    digest: str | None
    parts: int
    problem: str


class Difference(NamedTuple):
    """The first part of the state that is not the same everywhere: what each replica has."""

    part: str
    by_node: dict[int, str]


class GroupDigest(NamedTuple):
    """The comparison of one group's replicas."""

    group: int
    index: int | None  # type: ignore[assignment]
    replicas: list[Replica]
    difference: Difference | None
    problem: str

    @property
    def verdict(self) -> str:
        """In a word: alike, DIFFERENT, incomplete (some did not answer), or failed."""
        known = {replica.digest for replica in self.replicas if replica.digest is not None}
        if len(known) > 1:
            return "DIFFERENT"
        if not known:
            return "failed"
        return "alike" if all(replica.digest for replica in self.replicas) else "incomplete"


class DigestAsker:
    """Asks the nodes of a cluster.

    Args:
        nodes: by id.
        timeout_s: for a replica to have applied the marking entry and read its whole state.
        silent: nodes that did not answer just now: not waited for again, that long for each group.
    """

    def __init__(
        self,
        nodes: Mapping[int, NodeInfo],
        timeout_s: float,
        silent: Collection[int] = (),
    ) -> None:
        self._nodes = nodes
        self._timeout_s = timeout_s
        self._silent = silent

    def compare(self, group: int, members: list[int], leader: int) -> GroupDigest:
        """Compare the replicas of one group."""
        try:
            index = self._mark(group, members, leader)
        except (ClusterError, RpcError) as error:
            return GroupDigest(group, None, [], None, str(error))
        answers: dict[int, DigestAnswer | str] = {}
        threads = ThreadRegistry()

        def ask(node: int) -> None:
            try:
                answer = self._ask(group, node, index, b"", 0)
            except (ClusterError, RpcError) as error:
                answers[node] = str(error)
            else:
                answers[node] = (
                    answer if answer.known else f"has applied {answer.applied}, not {index}"
                )

        for node in members:
            threads.spawn(f"digest-{group}-{node}", partial(ask, node))
        threads.join_all(self._timeout_s * 2)
        replicas = [self._replica(node, answers.get(node, "did not answer")) for node in members]
        known = [replica.node for replica in replicas if replica.digest is not None]
        difference = None
        if len({replica.digest for replica in replicas if replica.digest is not None}) > 1:
            difference = self._first_difference(group, known, index)
        return GroupDigest(group, index, replicas, difference, "")

    @staticmethod
    def _replica(node: int, answer: DigestAnswer | str) -> Replica:
        if isinstance(answer, str):
            return Replica(node, None, 0, answer)
        return Replica(node, (answer.root or b"").hex(), answer.leafCount or 0, "")

    def _mark(self, group: int, members: list[int], leader: int) -> int:
        """Have the replicas mark their state; return the index of the entry."""
        payload = encode_plan(DigestPlan(time.time_ns() + _AHEAD_NS))
        request = ExecuteRequest(group, payload, max(1, int(self._timeout_s * 1000)))
        todo = [leader] if leader else []
        todo += [node for node in members if node != leader]
        problem: Exception = ClusterError(StatusCode.NO_LEADER, f"group {group} has no leader")
        for node in todo:
            try:
                response = self._call(group, node, "executeNonQueryPlan", request)
            except (RpcError, ClusterError) as error:
                problem = error
                continue
            if response.status == StatusCode.SUCCESS:
                return int(decode_result(response.result or b""))
            problem = ClusterError(StatusCode(response.status), response.message or "")
        raise problem

    def _first_difference(self, group: int, nodes: list[int], index: int) -> Difference | None:
        streams = {node: self._leaves(group, node, index) for node in nodes}
        heads = {node: next(stream, None) for node, stream in streams.items()}
        while any(heads.values()):
            label = min(leaf.label for leaf in heads.values() if leaf is not None)
            here = {
                node: leaf if leaf is not None and leaf.label == label else None
                for node, leaf in heads.items()
            }
            if len({leaf and (leaf.count, leaf.digest) for leaf in here.values()}) > 1:
                text = next(leaf.text for leaf in here.values() if leaf is not None)
                return Difference(text, {node: _leaf_text(leaf) for node, leaf in here.items()})
            for node in nodes:
                heads[node] = next(streams[node], None)
        return None

    def _leaves(self, group: int, node: int, index: int) -> Iterator[DigestLeaf]:
        after = b""
        while True:
            answer = self._ask(group, node, index, after, _LEAVES_A_CALL)
            leaves = answer.leaves or []
            yield from leaves
            if len(leaves) < _LEAVES_A_CALL:
                return
            after = leaves[-1].label

    def _ask(self, group: int, node: int, index: int, after: bytes, limit: int) -> DigestAnswer:
        timeout_ms = max(1, int(self._timeout_s * 1000))
        answer: DigestAnswer = self._call(
            group, node, "queryDigest", group, index, after, limit, timeout_ms
        )
        return answer

    def _call(self, group: int, node: int, method: str, *args: Any) -> Any:  # noqa: ANN401
        info = self._nodes.get(node)
        port = 0 if info is None else info.metaPort if group == _META_GROUP_ID else info.dataPort
        if info is None or not port:
            raise ClusterError(StatusCode.NO_CONNECTION, f"the address of node {node} is unknown")
        if node in self._silent:
            raise ClusterError(
                StatusCode.NO_CONNECTION, f"{info.internalIp}:{info.metaPort} does not answer"
            )
        service = MetaGroupService if group == _META_GROUP_ID else DataGroupService
        channel = RpcChannel(lambda: (info.internalIp, port), service.Client, 3.0)
        try:
            return channel.call(method, *args, timeout_s=self._timeout_s * 1.5)
        finally:
            channel.close()


def _leaf_text(leaf: DigestLeaf | None) -> str:
    return "missing" if leaf is None else f"{leaf.count} x {leaf.digest.hex()}"


def digest_values(found: list[GroupDigest]) -> list[dict[str, Any]]:
    """Return the comparison as plain values."""
    return [
        {
            "group": item.group,
            "index": item.index,
            "verdict": item.verdict,
            "problem": item.problem or None,
            "replicas": [replica._asdict() for replica in item.replicas],
            "first_difference": item.difference._asdict() if item.difference else None,
        }
        for item in found
    ]


def digest_lines(found: list[GroupDigest], label: Any, table: Any) -> list[str]:  # noqa: ANN401
    """Return the comparison as text; `label(node)` names a node, `table` lays out columns."""
    rows = []
    for item in found:
        name: object = item.group or "meta"
        for replica in item.replicas or [Replica(0, None, 0, item.problem)]:
            rows.append(
                [
                    name,
                    item.index if item.index is not None else "-",
                    item.verdict,
                    label(replica.node) if replica.node else "-",
                    replica.digest or replica.problem,
                    replica.parts or "-",
                ]
            )
            name = ""
    lines: list[str] = table(("group", "index", "verdict", "replica", "digest", "parts"), rows)
    for item in found:
        if item.difference is not None:
            lines.append("")
            lines.append(f"group {item.group}: first difference: {item.difference.part}")
            lines += [f"  {label(node)}: {text}" for node, text in item.difference.by_node.items()]
    return lines
