from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config import render
from cluster.config.properties import PropertiesError, parse_properties
from cluster.config.settings import ConfigError, Endpoint, Settings, declared_keys, shown_default
from cluster.member.address_book import AddressBook
from cluster.member.services import MemberServices
from cluster.partition.node_info import NodeInfo
from cluster.raft.state import check_config
from cluster.raft.types import NodeId
from cluster.threads import ThreadRegistry

ROOT = Path(__file__).resolve().parents[3]


def test_properties_skip_comments_and_trim() -> None:
    text = "# c\n! c\n\n a = 1 \nb=x=y\na=2\n"
    assert parse_properties(text) == {"a": "2", "b": "x=y"}


def test_properties_name_the_bad_line() -> None:
    with pytest.raises(PropertiesError, match="line 2"):
        parse_properties("a=1\nnonsense\n")


def test_defaults_are_one_node_on_loopback() -> None:
    settings = Settings.load(None, {})
    assert settings.cluster.seed_nodes == (Endpoint("127.0.0.1", 9003),)
    assert settings.cluster.default_replica_num == 1
    assert settings.node.rpc_address == "127.0.0.1"
    assert settings.node.internal_ip == "127.0.0.1"
    assert settings.node.raft_log_sync == "always"


@pytest.mark.parametrize(("seeds", "replicas"), [(1, 1), (2, 2), (3, 3), (5, 3)])
def test_replicas_follow_the_number_of_seeds(seeds: int, replicas: int) -> None:
    text = ",".join(f"10.0.0.{n}:9003" for n in range(1, seeds + 1))
    assert Settings.load(None, {"seed_nodes": text}).cluster.default_replica_num == replicas


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "iotdb-cluster.properties").write_text("rpc_port=1234\ncluster_name=a\n")
    settings = Settings.load(tmp_path, {"rpc_port": "4321"})
    assert settings.node.rpc_port == 4321
    assert settings.cluster.cluster_name == "a"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rpc_prot": "1"}, "rpc_port"),
        ({"rpc_port": "99999"}, "rpc_port=99999"),
        ({"raft_log_sync": "sometimes"}, "always or periodic"),
        ({"seed_nodes": "nonsense"}, "host:meta_port"),
        ({"seed_nodes": "a:1,a:1"}, "without repetition"),
        ({"election_timeout_ms": "300"}, "heartbeat_interval_ms"),
        ({"election_timeout_ms": "599"}, "heartbeat_interval_ms"),
        ({"election_timeout_ms": "400", "lease_reads": "false"}, "heartbeat_interval_ms"),
        ({"rpc_port": "9003"}, r"rpc_port \(9003\) and internal_meta_port \(9003\) must differ"),
        ({"default_replica_num": "3"}, "seed_nodes"),
        ({"enable_partition": "maybe"}, "true or false"),
    ],
)
def test_bad_settings_name_the_key_and_what_is_allowed(values: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings.load(None, values)


@pytest.mark.parametrize("lease_reads", ["true", "false"])
@pytest.mark.parametrize("heartbeat_ms", [1, 3, 50, 200, 333])
def test_members_can_be_made_with_whatever_is_allowed(heartbeat_ms: int, lease_reads: str) -> None:
    allowed = 0
    for tenths in range(15, 45):
        election_ms = max(1, heartbeat_ms * tenths // 10)
        values = {
            "heartbeat_interval_ms": str(heartbeat_ms),
            "election_timeout_ms": str(election_ms),
            "lease_reads": lease_reads,
        }
        try:
            settings = Settings.load(None, values)
        except ConfigError:
            continue
        allowed += 1
        services = MemberServices(
            settings=settings,
            node_id=NodeId(1),
            process=0,
            address_book=AddressBook(NodeInfo(NodeId(1), "h", 1)),
            threads=ThreadRegistry(),
        )
        check_config(services.raft_config(favoured=False))
    assert allowed


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"iotdb-cluster\.properties"):
        Settings.load(tmp_path, {})


@pytest.mark.parametrize("wrong", ["rpc_prot=1", "rpc_port=many", "rpc_port 6667"])
def test_what_is_wrong_in_the_file_is_told_with_the_file(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "iotdb-cluster.properties"
    path.write_text(f"cluster_name=a\n{wrong}\n")
    with pytest.raises(ConfigError, match=r"iotdb-cluster\.properties.*rpc_p"):
        Settings.load(tmp_path, {})
    path.write_text("")
    with pytest.raises(ConfigError, match=r"^-D: unknown key seed_node; "):
        Settings.load(tmp_path, {"seed_node": "a"})


def test_a_file_of_an_editor_that_marks_utf_8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "iotdb-cluster.properties"
    path.write_bytes("# ä\r\ncluster_name=b\u00e4r\r\n".encode("utf-8-sig"))
    assert Settings.load(tmp_path, {}).cluster.cluster_name == "bär"
    path.write_bytes(b"# \xe4\ncluster_name=b\xe4r\n")
    with pytest.raises(ConfigError, match=r"properties.*UTF-8"):
        Settings.load(tmp_path, {})


def test_keys_of_the_java_original_are_accepted() -> None:
    assert Settings.load(None, {"multi_raft_factor": "1"}).ignored == ("multi_raft_factor",)


def test_cluster_wide_settings_compare_seeds_in_any_order() -> None:
    one = Settings.load(None, {"seed_nodes": "B:2,a:1"}).cluster.as_map()
    two = Settings.load(None, {"seed_nodes": "a:1,b:2"}).cluster.as_map()
    assert one == two
    assert one["default_replica_num"] == "2"


def test_files_are_what_the_declarations_say() -> None:
    conf = ROOT / "conf" / "iotdb-cluster.properties"
    assert conf.read_text() == render.properties_text(), "run python -m cluster.config.render"
    assert (ROOT / "docs" / "configuration.md").read_text() == render.markdown_text()


def test_the_shown_defaults_are_the_defaults() -> None:
    values = {key: shown_default(item) for key, item in declared_keys().items()}
    assert Settings.from_values(values) == Settings.from_values({})
