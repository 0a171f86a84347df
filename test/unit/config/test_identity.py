from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config.identity import (
    check_time_unit,
    load_or_create_identity,
    node_id_of,
    seed_node_ids,
)
from cluster.config.settings import ConfigError, Endpoint


def test_identity_outlives_addresses(tmp_path: Path) -> None:
    first = load_or_create_identity(tmp_path, Endpoint("10.0.0.1", 9003))
    again = load_or_create_identity(tmp_path, Endpoint("10.0.0.9", 9999))
    assert again == first
    assert first.node_id == node_id_of(Endpoint("10.0.0.1", 9003))


def test_a_lost_folder_makes_another_incarnation(tmp_path: Path) -> None:
    endpoint = Endpoint("h", 1)
    one = load_or_create_identity(tmp_path / "one", endpoint)
    two = load_or_create_identity(tmp_path / "two", endpoint)
    assert one.node_id == two.node_id
    assert one.incarnation != two.incarnation


def test_every_seed_computes_the_same_ids() -> None:
    seeds = [Endpoint("a", 1), Endpoint("b", 1), Endpoint("a", 2)]
    ids = seed_node_ids(seeds)
    assert len(set(ids.values())) == 3
    assert all(0 < node_id < 1 << 48 for node_id in ids.values())
    assert ids[Endpoint("a", 1)] == node_id_of(Endpoint("A", 1))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    load_or_create_identity(tmp_path, Endpoint("a", 1))
    (tmp_path / "system" / "node_identity").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        load_or_create_identity(tmp_path, Endpoint("a", 1))


def test_a_folder_keeps_its_unit_of_time(tmp_path: Path) -> None:
    check_time_unit(tmp_path, "us")
    check_time_unit(tmp_path, "us")
    with pytest.raises(ConfigError, match=r"timestamp_precision=ms, but .* are in us"):
        check_time_unit(tmp_path, "ms")
    (tmp_path / "system" / "time_unit").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        check_time_unit(tmp_path, "us")
