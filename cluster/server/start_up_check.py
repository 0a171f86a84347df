"""Start-up step 3: compare this node's configuration with the other nodes'."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from cluster.config.agreement import Mismatch, Verdict, describe_mismatch, verdict
from cluster.config.settings import Settings
from cluster.member.address_book import AddressBook
from cluster.partition.node_info import NodeInfo
from cluster.raft.types import NodeId
from cluster.rpc import convert_raft
from cluster.rpc.client_pool import RpcChannel, RpcError
from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.gen.cluster.ttypes import CheckStatusResponse, StartUpStatus
from cluster.server.meta_cluster_server import PROTOCOL_VERSION

logger = logging.getLogger(__name__)


class CheckOutcome(NamedTuple):
    """How the check ended; `refusal` tells why the node must not start, or is None."""

    agreeing: int
    total: int
    refusal: str | None


class _Answer(NamedTuple):
    node_id: NodeId
    mismatches: list[Mismatch]
    refusal: str | None


class StartUpCheck:
    """Asks every other node, round after round, until a majority has agreed or disagreed.

    Too few answers mean waiting, for ever if need be: nodes may be started in any order.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        address_book: AddressBook,
        node_ids: tuple[NodeId, ...],
        has_partition_table: bool,
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._book = address_book
        self._node_ids = node_ids
        self._has_table = has_partition_table
        self._stopping = stopping
        self._said: set[str] = set()

    def run(self) -> CheckOutcome:
        """Return when the outcome is clear, or when the node is asked to stop."""
        others = {node_id for node_id in self._node_ids if node_id != self._book.own.node_id}
        total = len(others) + 1
        if not others:
            return CheckOutcome(1, 1, None)
        pause_s = self._settings.node.config_check_interval_ms / 1000
        with ThreadPoolExecutor(2 * len(others), thread_name_prefix="start-up-check") as pool:
            while not self._stopping.is_set():
                answers: dict[NodeId, list[Mismatch] | None] = dict.fromkeys(others)
                for answer in pool.map(self._ask, self._endpoints(others)):
                    if answer is None:
                        continue
                    if answer.refusal is not None:
                        return CheckOutcome(0, total, answer.refusal)
                    if answer.node_id in others:
                        answers[answer.node_id] = answer.mismatches
                agreeing = 1 + sum(mismatches == [] for mismatches in answers.values())
                decision = verdict(total, answers)
                if decision is Verdict.REFUSE:
                    return CheckOutcome(agreeing, total, self._dissent_text(answers))
                self._report_dissent(answers)
                if decision is Verdict.GO_ON:
                    return CheckOutcome(agreeing, total, None)
                self._say_once(
                    f"waiting for other nodes: {agreeing} of {total} agree so far, "
                    f"{total // 2 + 1} needed"
                )
                self._stopping.wait(pause_s)
        return CheckOutcome(1, total, None)

    def _endpoints(self, others: set[NodeId]) -> list[tuple[str, int]]:
        """Where the others were last, and the seeds: one of those may have moved."""
        own = self._settings.own_endpoint
        found = {
            (info.internal_ip, info.meta_port)
            for info in map(self._book.get, others)
            if info is not None
        }
        found.update((seed.host, seed.port) for seed in self._settings.cluster.seed_nodes)
        return sorted(found - {(own.host, own.port)})

    def _ask(self, endpoint: tuple[str, int]) -> _Answer | None:
        """Return what the node at `endpoint` says, or None when there is no usable answer."""
        timeout_s = self._settings.node.connection_timeout_ms / 1000
        channel = RpcChannel(lambda: endpoint, MetaGroupService.Client, timeout_s)
        status = StartUpStatus(
            protocolVersion=PROTOCOL_VERSION,
            node=convert_raft.node_info_to_wire(self._book.own),
            settings=self._settings.cluster.as_map(),
            hasPartitionTable=self._has_table,
        )
        try:
            response = channel.call("checkStatus", status, timeout_s=timeout_s)
        except RpcError as error:
            logger.debug("%s:%d does not answer yet: %s", *endpoint, error)
            return None
        finally:
            channel.close()
        try:
            responder, known, mismatches = _read(response)
        except ValueError as error:  # whatever listens there, it is no node of this release
            self._say_once(f"{endpoint[0]}:{endpoint[1]} gives a senseless answer: {error}")
            return None
        self._book.learn(responder)
        for info in known:
            self._book.recall(info)
        return _Answer(responder.node_id, mismatches, response.refusal)

    def _dissent_text(self, answers: dict[NodeId, list[Mismatch] | None]) -> str:
        lines: list[str] = []
        for node_id, mismatches in answers.items():
            info = self._book.get(node_id)
            where = f"{info.internal_ip}:{info.meta_port}" if info is not None else str(node_id)
            lines.extend(f"node {where}: {describe_mismatch(item)}" for item in mismatches or [])
        return "a majority of the nodes disagrees with this node's configuration: " + "; ".join(
            lines
        )

    def _report_dissent(self, answers: dict[NodeId, list[Mismatch] | None]) -> None:
        for node_id, mismatches in answers.items():
            for item in mismatches or []:
                self._say_once(f"node {node_id} has another setting: {describe_mismatch(item)}")

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)


def _read(
    response: CheckStatusResponse,
) -> tuple[NodeInfo, list[NodeInfo], list[Mismatch]]:
    """Return who answered, the nodes it knows, and what it has set otherwise.

    Raises:
        ValueError: a field is missing, which the generated code lets pass, or is out of range.
    """
    if response.knownNodes is None or response.mismatches is None:
        raise ValueError("a list is missing")
    responder, *known = (
        convert_raft.node_info_from_wire(info, NodeInfo)
        for info in (response.responder, *response.knownNodes)
    )
    mismatches = [
        Mismatch(item.key, mine=item.askerValue, theirs=item.responderValue)
        for item in response.mismatches
    ]
    if any(None in item for item in mismatches):
        raise ValueError("a mismatch without a key or a value")
    return responder, known, mismatches
