from __future__ import annotations

from pathlib import Path

import pytest

from cluster.member.address_book import AddressBook
from cluster.member.known_nodes import KnownNodesFile
from cluster.partition.node_info import NodeInfo
from cluster.raft.types import NodeId

OWN = NodeInfo(NodeId(1), "h1", 9003, incarnation="a")
OTHER = NodeInfo(NodeId(2), "h2", 9003, 40010, "h2", 6667, "b")


def test_nodes_and_the_mark_survive(tmp_path: Path) -> None:
    file = KnownNodesFile(tmp_path)
    assert file.load() == []
    assert not file.has_partition_table
    file.remember(OTHER)
    file.mark_has_partition_table()
    again = KnownNodesFile(tmp_path)
    assert again.load() == [OTHER]
    assert again.has_partition_table


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    KnownNodesFile(tmp_path).remember(OTHER)
    (tmp_path / "system" / "known_nodes.json").write_text("[]")
    with pytest.raises(ValueError, match=r"known_nodes\.json is damaged"):
        KnownNodesFile(tmp_path).load()


def test_the_book_takes_new_addresses_but_no_other_data_folder() -> None:
    book = AddressBook(OWN)
    heard: list[NodeInfo] = []
    book.on_learned(heard.append)
    book.add_seed(OTHER.node_id, "h2", 9003)
    assert book.learn(OTHER)
    moved = OTHER._replace(internal_ip="h9")
    assert book.learn(moved)
    assert not book.learn(moved)
    assert not book.learn(OTHER._replace(incarnation="c"))
    assert book.meta_endpoint(OTHER.node_id) == ("h9", 9003)
    assert book.data_endpoint(OTHER.node_id) == ("h9", 40010)
    assert heard == [OTHER, moved]


def test_a_node_does_not_believe_others_about_itself() -> None:
    book = AddressBook(OWN)
    assert not book.learn(OWN._replace(internal_ip="elsewhere"))
    assert book.own == OWN


def test_what_a_node_says_itself_counts_for_more_than_what_is_recalled() -> None:
    book = AddressBook(OWN)
    book.recall(OTHER._replace(internal_ip="old"))
    assert book.meta_endpoint(OTHER.node_id) == ("old", 9003)
    book.learn(OTHER)
    book.recall(OTHER._replace(internal_ip="older"))
    assert book.meta_endpoint(OTHER.node_id) == ("h2", 9003)


def test_strangers_are_not_believed() -> None:
    book = AddressBook(OWN)
    assert not book.learn(OTHER)
    assert book.get(OTHER.node_id) is None
