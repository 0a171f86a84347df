from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config.identity import (
    check_layout,
    load_or_create_identity,
    node_id_of,
    note_layout,
    seed_node_ids,
)
from cluster.config.settings import ClusterWide, ConfigError, Endpoint, Settings


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


def layout(**chosen: str) -> ClusterWide:
    return Settings.load(None, chosen).cluster


def test_a_folder_keeps_how_its_points_are_laid_out(tmp_path: Path) -> None:
    there = layout(timestamp_precision="us", enable_partition="true", partition_interval="10")
    check_layout(tmp_path, there)
    note_layout(tmp_path, there)
    check_layout(tmp_path, there)
    for odd, said in (
        (
            {"enable_partition": "true", "partition_interval": "10"},
            r"^timestamp_precision=ms, but the points in .* are stored with timestamp_precision=us",
        ),
        ({"timestamp_precision": "us"}, r"enable_partition=false, .* partition_interval=10: set"),
        (
            {"timestamp_precision": "us", "enable_partition": "true", "partition_interval": "11"},
            r"^partition_interval=11, but ",
        ),
    ):
        with pytest.raises(ConfigError, match=said):
            check_layout(tmp_path, layout(**odd))
    (tmp_path / "system" / "layout").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        check_layout(tmp_path, there)


def test_partitions_may_have_any_length_as_long_as_there_are_none(tmp_path: Path) -> None:
    note_layout(tmp_path, layout())
    check_layout(tmp_path, layout(partition_interval="10"))
    with pytest.raises(ConfigError, match=r"enable_partition=true, but .* enable_partition=false"):
        check_layout(tmp_path, layout(enable_partition="true"))


def test_an_older_folder_is_taken_for_what_the_settings_say_at_first(tmp_path: Path) -> None:
    file = tmp_path / "system" / "layout"
    file.parent.mkdir()
    file.write_text('{"format": 1, "timestamp_precision": "us"}')
    there = layout(timestamp_precision="us", enable_partition="true")
    check_layout(tmp_path, there)
    note_layout(tmp_path, there)
    with pytest.raises(ConfigError, match="enable_partition=false, but"):
        check_layout(tmp_path, layout(timestamp_precision="us"))
