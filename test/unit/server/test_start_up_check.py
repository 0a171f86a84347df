"""What a starting node makes of the answers of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from cluster.config.settings import Settings
from cluster.member.address_book import AddressBook
from cluster.partition.node_info import NodeInfo
from cluster.raft.types import NodeId
from cluster.rpc.convert_raft import node_info_to_wire
from cluster.rpc.gen.cluster.ttypes import CheckStatusResponse, ConfigMismatch, StartUpStatus
from cluster.server import start_up_check
from cluster.server.meta_cluster_server import PROTOCOL_VERSION, MetaHandler
from cluster.server.start_up_check import StartUpCheck

NODES = [
    NodeInfo(NodeId(i), "127.0.0.1", i, 10 + i, "127.0.0.1", 20 + i, f"{i}") for i in (1, 2, 3)
]


def check_with(
    answers: dict[int, CheckStatusResponse], monkeypatch: pytest.MonkeyPatch
) -> tuple[StartUpCheck, AddressBook]:
    """Return a check of node 1, told `answers` by the nodes at those ports; others are silent."""

    class Channel:
        def __init__(self, endpoint: Any, *_: Any) -> None:
            self._port = endpoint()[1]

        def call(self, *_: Any, **__: Any) -> CheckStatusResponse:
            if self._port not in answers:
                raise start_up_check.RpcError("silent", definitely_not_sent=True)
            return answers[self._port]

        def close(self) -> None:
            pass

    monkeypatch.setattr(start_up_check, "RpcChannel", Channel)
    book = AddressBook(NODES[0])
    for node in NODES[1:]:
        book.add_seed(node.node_id, node.internal_ip, node.meta_port)
    check = StartUpCheck(
        settings=Settings.load(
            None,
            {
                "internal_meta_port": "1",
                "seed_nodes": ",".join(f"127.0.0.1:{node.meta_port}" for node in NODES),
            },
        ),
        address_book=book,
        node_ids=tuple(node.node_id for node in NODES),
        has_partition_table=False,
        stopping=threading.Event(),
    )
    return check, book


def answer_of(node: NodeInfo, *, known: Any = ()) -> CheckStatusResponse:
    return CheckStatusResponse(
        responder=node_info_to_wire(node), mismatches=[], refusal=None, knownNodes=list(known)
    )


def test_a_majority_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    check, book = check_with(
        {2: answer_of(NODES[1], known=[node_info_to_wire(NODES[2])])}, monkeypatch
    )
    assert check.run()[:2] == (2, 3)
    assert book.get(NodeId(2)) == NODES[1]
    assert book.get(NodeId(3)) == NODES[2]


def no_port(answer: CheckStatusResponse) -> None:
    answer.responder.metaPort = 70_000


def no_responder(answer: CheckStatusResponse) -> None:
    answer.responder = None


def no_known_nodes(answer: CheckStatusResponse) -> None:
    answer.knownNodes = None


def no_mismatches(answer: CheckStatusResponse) -> None:
    answer.mismatches = None


def half_a_mismatch(answer: CheckStatusResponse) -> None:
    answer.mismatches = [ConfigMismatch(key="replication_factor", askerValue="3")]


@pytest.mark.parametrize(
    "spoil", [no_port, no_responder, no_known_nodes, no_mismatches, half_a_mismatch]
)
def test_a_senseless_answer_is_none(
    spoil: Callable[[CheckStatusResponse], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    senseless = answer_of(NODES[1])
    spoil(senseless)
    check, book = check_with({2: senseless, 3: answer_of(NODES[2])}, monkeypatch)
    assert check.run()[:2] == (2, 3)
    info = book.get(NodeId(2))
    assert info is not None
    assert info.incarnation == ""
    [line] = caplog.messages
    assert line.startswith("127.0.0.1:2 gives a senseless answer: ")


def asked_by(asker: NodeInfo, **chosen: Any) -> tuple[CheckStatusResponse, AddressBook]:
    """Return what node 1 answers, and whom it knows then; `chosen`: fields of the request."""
    settings = Settings.load(None, {"seed_nodes": "127.0.0.1:1"})
    book = AddressBook(NODES[0])
    book.add_seed(asker.node_id, asker.internal_ip, asker.meta_port)
    handler = MetaHandler(
        settings=settings,
        address_book=book,
        answer_timeout_s=1.0,
        node_status=lambda: ([], {}),
        verify=lambda: pytest.fail("nothing is to be verified"),
    )
    fields = {
        "protocolVersion": PROTOCOL_VERSION,
        "node": node_info_to_wire(asker),
        "settings": settings.cluster.as_map(),
        "hasPartitionTable": False,
    }
    return handler.checkStatus(StartUpStatus(**{**fields, **chosen})), book


def test_a_node_with_the_same_settings_is_taken_note_of() -> None:
    answer, book = asked_by(NODES[1])
    assert (answer.refusal, answer.mismatches) == (None, [])
    assert book.get(NodeId(2)) == NODES[1]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("protocolVersion", "protocol version is missing"),
        ("node", "node info is missing"),
        ("settings", "settings are missing"),
        ("hasPartitionTable", "a partition table is missing"),
    ],
)
def test_a_question_that_lacks_something_is_refused(field: str, said: str) -> None:
    """The generated code lets it pass; the asker was told "Internal error"."""
    answer, book = asked_by(NODES[1], **{field: None})
    assert answer.refusal.startswith("the start-up check of the starting node makes no sense: ")
    assert answer.refusal.endswith(said)
    assert answer.mismatches == []
    assert answer.responder == node_info_to_wire(NODES[0])
    assert start_up_check._read(answer)
    info = book.get(NodeId(2))
    assert info is not None
    assert info.incarnation == ""


def test_a_node_of_another_release_is_told_so_whatever_else_it_lacks() -> None:
    answer, _ = asked_by(NODES[1], protocolVersion=PROTOCOL_VERSION + 1, settings=None)
    assert answer.refusal.startswith(f"protocol version {PROTOCOL_VERSION + 1} of the starting")
