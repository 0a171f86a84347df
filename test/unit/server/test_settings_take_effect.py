"""Each setting reaches what it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.auth.users import verify_password
from cluster.config.settings import Settings
from cluster.embedded import EmbeddedNode
from cluster.errors import ClusterError, StatusCode
from cluster.main import ClusterMain
from cluster.member.address_book import AddressBook
from cluster.member.services import MemberServices
from cluster.partition.node_info import NodeInfo
from cluster.plan.reads import Consistency
from cluster.raft.types import NodeId
from cluster.rpc.deadline import Deadline
from cluster.server.client_server import ClientServer
from cluster.server.handler_base import HandlerBase
from cluster.server.start_up_check import StartUpCheck
from cluster.threads import ThreadRegistry
from harness.local_database import LocalDatabase

OTHER = NodeInfo(NodeId(2), "127.0.0.1", 1)


def settings(**values: str) -> Settings:
    return Settings.load(None, values)


def services(made: Settings) -> MemberServices:
    return MemberServices(
        settings=made,
        node_id=NodeId(1),
        process=7,
        address_book=AddressBook(NodeInfo(NodeId(1), "127.0.0.1", 1)),
        threads=ThreadRegistry(),
    )


# ---- schema ----


def test_enable_auto_create_schema() -> None:
    with LocalDatabase(enable_auto_create_schema="false") as database:
        with pytest.raises(ClusterError) as refused:
            database.execute("insert into root.a.d(time, s) values (1, 1)")
        assert refused.value.status is StatusCode.STORAGE_GROUP_NOT_EXIST
        database.execute("set storage group to root.a")
        with pytest.raises(ClusterError, match="does not exist"):
            database.execute("insert into root.a.d(time, s) values (1, 1)")


def test_default_storage_group_level() -> None:
    with LocalDatabase(default_storage_group_level="2") as database:
        database.execute("insert into root.a.b.d(time, s) values (1, 1)")
        answer = database.execute("show storage group")
        assert answer is not None
        assert answer[1] == [[b"root.a.b"]]


@pytest.mark.parametrize(
    ("key", "literal", "data_type"),
    [
        ("boolean_string_infer_type", "true", "TEXT"),
        ("integer_string_infer_type", "12", "INT64"),
        ("long_string_infer_type", "33554433", "INT64"),
        ("floating_string_infer_type", "1.5", "DOUBLE"),
        ("nan_string_infer_type", "NaN", "FLOAT"),
    ],
)
def test_inferred_types(key: str, literal: str, data_type: str) -> None:
    found = []
    for overrides in ({}, {key: data_type}):
        with LocalDatabase(**overrides) as database:
            database.execute(f"insert into root.a.d(time, s) values (1, {literal})")
            answer = database.execute("show timeseries")
            assert answer is not None
            found.append(answer[1][0][3].decode())
    assert found[0] != found[1] == data_type


# ---- times ----


def test_deadlines_of_queries_and_writes() -> None:
    with LocalDatabase(
        query_timeout_threshold="123000", write_operation_timeout_ms="456000"
    ) as database:
        handler = HandlerBase(database.settings, database.coordinator)
        assert 120 < handler.query_deadline(None).remaining_s() <= 123
        assert 450 < handler.write_deadline().remaining_s() <= 456


@pytest.mark.parametrize("level", list(Consistency))
def test_consistency_level(level: Consistency) -> None:
    with LocalDatabase(consistency_level=level.name.lower()) as database:
        asked: list[Consistency] = []
        of_query = database.access.reads

        def reads(deadline: Deadline, wanted: Consistency = Consistency.STRONG) -> Any:
            asked.append(wanted)
            return of_query(deadline, wanted)

        database.access.reads = reads  # type: ignore[method-assign]
        database.execute("show storage group")
        assert asked == [level]


def test_times_between_nodes() -> None:
    made = services(settings(group_sleep_after_ms="5000", connection_timeout_ms="9000"))
    assert made.tick_s == 0.1
    assert made.raft_config(favoured=False, sleeps=True).quiesce_after_ticks == 50
    assert made.raft_config(favoured=False).quiesce_after_ticks == 0
    assert made.pool("data")._connect_timeout_s == 9.0


def test_config_check_interval_ms() -> None:
    class Stopping:
        """Ends the check in its first pause."""

        def __init__(self) -> None:
            self.paused: list[float] = []

        def is_set(self) -> bool:
            return bool(self.paused)

        def wait(self, seconds: float) -> bool:
            self.paused.append(seconds)
            return True

    stopping = Stopping()
    book = AddressBook(NodeInfo(NodeId(1), "127.0.0.1", 9003))
    book.add_seed(OTHER.node_id, OTHER.internal_ip, OTHER.meta_port)
    check = StartUpCheck(
        settings=settings(
            config_check_interval_ms="77",
            connection_timeout_ms="200",
            seed_nodes="127.0.0.1:9003,127.0.0.1:1",
        ),
        address_book=book,
        node_ids=(NodeId(1), OTHER.node_id),
        has_partition_table=False,
        stopping=stopping,  # type: ignore[arg-type]
    )
    assert check.run().agreeing == 1
    assert stopping.paused == [0.077]


# ---- sizes ----


def test_sizes_of_log_and_engine(tmp_path: Path) -> None:
    node = ClusterMain(
        settings(
            data_dir=str(tmp_path),
            raft_log_sync="periodic",
            raft_log_sync_interval_ms="55",
            raft_log_segment_bytes="8192",
            raft_log_cache_bytes="70000",
            memtable_bytes="80000",
            read_cache_bytes="90000",
        )
    )
    node._step = 3
    try:
        node.step_04_open_engine()
        options = node.log._options
        assert (options.sync, options.sync_interval_ms) == ("periodic", 55)
        assert (options.segment_bytes, options.cache_bytes) == (8192, 70000)
        assert node.engine.options.memtable_bytes == 80000
        assert node.engine.options.read_cache_bytes == 90000
    finally:
        node.stop()


def test_bounds_of_the_log(tmp_path: Path) -> None:
    made = services(
        settings(
            raft_log_keep_bytes="300000",
            raft_log_keep_absent_bytes="200000",
            raft_log_max_bytes="65536000",
            raft_log_segment_bytes="65536",
            snapshot_rate_bytes_per_s="4242",
        )
    )
    nothing: Any = None
    deps = made.deps(
        "data", links=nothing, engine=nothing, couriers=nothing, on_failure=lambda *_: None
    )
    assert deps.log_keep == (300000, 200000)
    assert deps.snapshots.rate_bytes_per_s == 4242
    assert made.log_keeper(nothing, nothing, lambda: [])._max_segments == 1000


def test_bounds_of_connections_and_frames() -> None:
    with LocalDatabase(
        rpc_max_concurrent_client_num="17",
        internal_max_connections="18",
        thrift_max_frame_size="100000",
    ) as database:
        server = ClientServer(
            settings=database.settings,
            coordinator=database.coordinator,
            threads=ThreadRegistry(),
            node_id=1,
            engine_stats=dict,
        )
        limits = server._server._limits
        assert (limits.max_connections, limits.max_frame_bytes) == (17, 100_000)
        internal = services(database.settings).limits
        assert internal.max_connections == 18
        assert internal.max_frame_bytes > 100_000


# ---- users ----


def test_initial_root_password() -> None:
    node = EmbeddedNode(":memory:", {"initial_root_password": "said at first"})
    try:
        stored = node.handler.coordinator.meta_state.password_hash("root")
        assert stored is not None
        assert verify_password("said at first", stored)
    finally:
        node.close()
