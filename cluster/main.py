"""ClusterMain: one function per start-up step, in the order of docs/architecture.md.

Two flows share the steps: the node that becomes the meta group's leader, and a node that finds one.
They differ in steps 8 to 11 only.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from cluster.auth.users import hash_password
from cluster.awake_cores import awake_cores
from cluster.closers import Closers, close_engine
from cluster.config.identity import (
    Identity,
    check_layout,
    load_or_create_identity,
    note_layout,
    seed_node_ids,
)
from cluster.config.settings import Settings
from cluster.coordinator.coordinator import Coordinator
from cluster.coordinator.reach import Reach
from cluster.coordinator.wiring import cluster_coordinator
from cluster.errors import ClusterError
from cluster.fail_stop import FailStop
from cluster.heartbeat.meta_heartbeat_thread import MetaHeartbeatThread
from cluster.log.node_log import LogOptions, NodeLog
from cluster.member.address_book import AddressBook
from cluster.member.data_groups import DataGroups
from cluster.member.known_nodes import KnownNodesFile
from cluster.member.meta_member import META_GROUP_ID, MetaMember
from cluster.member.news import News
from cluster.member.node_watch import NodeWatch
from cluster.member.operations import hand_over
from cluster.member.raft_member import RaftMember
from cluster.member.services import MemberServices
from cluster.partition.node_info import NodeInfo
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.plan.plans import SetPartitionTablePlan, SetUserPlan
from cluster.raft.effects import RoleChanged
from cluster.raft.types import GroupId, NodeId, Role
from cluster.rpc.deadline import Deadline
from cluster.rpc.server import check_can_listen
from cluster.server.announcer import announce
from cluster.server.client_server import ClientServer
from cluster.server.data_cluster_server import DataClusterServer
from cluster.server.meta_cluster_server import MetaClusterServer, MetaHandler
from cluster.server.node_loop import NodeLoop, start_loop
from cluster.server.start_up_check import StartUpCheck
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine, EngineOptions
from iotdb_engine.errors import EngineError
from iotdb_engine.verify_report import Report

logger = logging.getLogger(__name__)

STEPS = 15
_HOUSEKEEPING_S = 2.0
_WILDCARDS = ("0.0.0.0", "::")


class StartUpError(Exception):
    """The node can't start; the message says what to do."""


class ClusterMain:
    """One node of the cluster, from start to stop.

    Args:
        settings: what conf and -D say.
        say: receives each `startup[N/15] …` text (tests read them).
    """

    def __init__(self, settings: Settings, say: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self.threads = ThreadRegistry()
        self._say = say or (lambda _line: None)
        self._step = 0
        self._began = time.monotonic()
        self._stopping = threading.Event()
        self._rng = random.SystemRandom()
        self._news = News()
        self._fail_stop = FailStop(self.threads, self._stopping, self._news.tell)
        self._campaigned = False
        self._closers = Closers()
        # made by the steps, in this order
        self.identity: Identity
        self.address_book: AddressBook
        self.services: MemberServices
        self.known_nodes: KnownNodesFile
        self.meta_server: MetaClusterServer
        self.engine: Engine
        self.log: NodeLog
        self.meta_member: MetaMember
        self.data_groups: DataGroups
        self.node_watch: NodeWatch
        self.reach: Reach
        self.loop: NodeLoop | None
        self.coordinator: Coordinator
        self.data_server: DataClusterServer
        self.client_server: ClientServer

    # ---- life ----

    def start(self) -> None:
        """Run the 15 steps; raises StartUpError, ConfigError or ClusterError when it can't."""
        try:
            self.step_01_begin()
            self.step_02_open_meta_server()
            self.step_03_check_configuration()
            self.step_04_open_engine()
            self.step_05_create_meta_member_and_coordinator()
            self.step_06_load_partition_table()
            self.step_07_start_meta_heartbeat()
            if self.step_08_campaign_or_hear_leader():
                self.step_09_win_quorum()
                self.step_10_lead_meta_group()
                table = self.step_11_make_partition_table()
            else:
                self.step_09_follow_leader()
                table = self.step_10_take_partition_table()
                self.step_11_hold_partition_table(table)
            self.step_12_open_data_server()
            self.step_13_build_data_members(table)
            self.step_14_elect_data_leaders()
            self.step_15_open_client_server()
        except BaseException:
            self.stop()
            raise

    def run_until_stopped(self) -> int:
        """Keep house until a stop is asked for; return the exit code."""
        keeper = self.services.log_keeper(self.log, self.engine, self._members)
        try:
            while not self._stopping.wait(_HOUSEKEEPING_S):
                keeper.keep()
            logger.info("stopping")
        finally:
            self.stop()
        if self._fail_stop.reason is not None:
            logger.critical("node stopped: %s", self._fail_stop.reason)
            return 1
        logger.info("stopped")
        return 0

    def request_stop(self) -> None:
        """Ask for a clean stop; returns at once."""
        self._stopping.set()

    def fail(self, group_id: GroupId, error: BaseException) -> None:
        """A replica or the log can't go on: the node stops rather than serve a wrong state."""
        self._fail_stop.fail(f"group {group_id}: {error}")

    def stop(self) -> None:
        """Stop in reverse order of the steps; idempotent."""
        self._stopping.set()
        self._closers.close(self.threads, after_failure=self._fail_stop.reason is not None)

    # ---- steps ----

    def step_01_begin(self) -> None:
        """Take up the node's identity."""
        node = self.settings.node
        own = self.settings.own_endpoint
        seeds = self.settings.cluster.seed_nodes
        self.known_nodes = KnownNodesFile(node.data_dir)
        known = self.known_nodes.load()
        if not self.known_nodes.has_partition_table and own not in seeds:
            raise StartUpError(
                f"this node is {own} (internal_ip:internal_meta_port), which is not in seed_nodes "
                f"({','.join(map(str, seeds))}): name it there as the other nodes do"
            )
        self.identity = load_or_create_identity(node.data_dir, own)
        check_layout(node.data_dir, self.settings.cluster)
        self.address_book = AddressBook(
            NodeInfo(
                node_id=self.identity.node_id,
                internal_ip=node.internal_ip,
                meta_port=node.internal_meta_port,
                data_port=node.internal_data_port,
                # clients of other nodes can't connect to a wildcard address
                rpc_address=node.internal_ip
                if node.rpc_address in _WILDCARDS
                else node.rpc_address,
                rpc_port=node.rpc_port,
                incarnation=self.identity.incarnation,
            )
        )
        self.services = MemberServices(
            settings=self.settings,
            node_id=self.identity.node_id,
            process=self._rng.getrandbits(63),
            address_book=self.address_book,
            threads=self.threads,
        )
        for info in known:
            self.address_book.recall(info)
        self.address_book.on_learned(self.known_nodes.remember)
        if not self.known_nodes.has_partition_table:
            # later on a seed's address says nothing of its id any more: it may have moved
            for endpoint, node_id in seed_node_ids(seeds).items():
                if node_id != self.identity.node_id:
                    self.address_book.add_seed(node_id, endpoint.host, endpoint.port)
        self._log_step(
            1, f"ClusterMain starts node {self.identity.node_id}, data in {node.data_dir}"
        )

    def step_02_open_meta_server(self) -> None:
        """Listen on the internal meta port, so that other nodes' checks get answers."""
        node = self.settings.node
        handler = MetaHandler(
            settings=self.settings,
            address_book=self.address_book,
            answer_timeout_s=node.connection_timeout_ms / 1000,
            node_status=self._node_status,
            verify=self._verify_data,
        )
        self.meta_server = MetaClusterServer(
            handler,
            node.internal_ip,
            node.internal_meta_port,
            self.threads,
            self.services.limits,
        )
        port = self.meta_server.start()
        self._closers.add(self.meta_server.stop)
        # These are opened last, once enough other nodes are up: too late to hear that one is taken.
        check_can_listen(node.internal_ip, node.internal_data_port)
        check_can_listen(node.rpc_address, node.rpc_port)
        self._set_own(meta_port=port)
        self._log_step(2, f"MetaClusterServer listens on {node.internal_ip}:{port}")

    def _verify_data(self) -> Report:
        if not hasattr(self, "engine"):
            raise EngineError("this node has not opened its data yet")
        return self.engine.verify()

    def step_03_check_configuration(self) -> None:
        """Go on only when more than half of the seeds agree on what must be alike."""
        check = StartUpCheck(
            settings=self.settings,
            address_book=self.address_book,
            node_ids=self._expected_nodes(),
            has_partition_table=self.known_nodes.has_partition_table,
            stopping=self._stopping,
        )
        outcome = check.run()
        if outcome.refusal is not None:
            raise StartUpError(outcome.refusal)
        self._raise_if_stopping()
        self._log_step(3, f"configuration agreed by {outcome.agreeing} of {outcome.total} nodes")

    def step_04_open_engine(self) -> None:
        """Open the storage engine and the Raft log."""
        node = self.settings.node
        note_layout(node.data_dir, self.settings.cluster)
        unit_ns = self.settings.cluster.timestamp_unit_ns
        self.engine = Engine(
            node.data_dir / "engine",
            EngineOptions(
                memtable_bytes=node.memtable_bytes,
                read_cache_bytes=node.read_cache_bytes,
                before_store=lambda: self.log.sync_written(),
                now=lambda: time.time_ns() // unit_ns,
                unit_ns=unit_ns,
            ),
        )
        self._closers.add(lambda: close_engine(self.engine))
        self.log = NodeLog(
            node.data_dir / "raft-log",
            self.threads,
            LogOptions(
                sync=node.raft_log_sync,
                sync_interval_ms=node.raft_log_sync_interval_ms,
                segment_bytes=node.raft_log_segment_bytes,
                cache_bytes=node.raft_log_cache_bytes,
                ahead="segments",
            ),
            on_failure=lambda error: self._fail_stop.fail(
                f"the Raft log in {node.data_dir / 'raft-log'}: {error}"
            ),
        )
        self._closers.add(self.log.close)
        self._log_step(4, f"engine and Raft log open, {len(self.log.groups())} groups known")

    def step_05_create_meta_member_and_coordinator(self) -> None:
        """Create the MetaMember, an ELECTOR until there is a leader, and the Coordinator."""

        def heard(node_id: NodeId, process: int) -> None:
            self.node_watch.heard(node_id, process)
            self.reach.answered(node_id)

        self._keep_cores_awake()
        self.loop = start_loop(self.services.streams, self.log, self.threads, self._closers)
        meta_deps, meta_pool = self.services.connect(
            "meta",
            engine=self.engine,
            on_heard=lambda _node_id, _process: None,
            on_failure=self.fail,
            closers=self._closers,
        )
        data_deps, data_pool = self.services.connect(
            "data",
            engine=self.engine,
            on_heard=heard,
            on_failure=self.fail,
            closers=self._closers,
            streams=None if self.loop is None else self.loop.streams,
        )
        self.meta_member = MetaMember(
            seeds=tuple(seed_node_ids(self.settings.cluster.seed_nodes).values()),
            config=self.services.raft_config(
                favoured=_founding_ring(self.settings)[0] == self.identity.node_id
            ),
            log=self.log.group(META_GROUP_ID),
            region=self.engine.region(META_GROUP_ID),
            rng=random.Random(self._rng.getrandbits(64)),
            deps=meta_deps,
        )
        self.meta_member.on_role_changed(self._meta_role_changed)
        for info in self.meta_member.state.nodes():
            self.address_book.recall(info)
        self.data_groups = DataGroups(
            node_id=self.identity.node_id,
            log=self.log,
            engine=self.engine,
            deps=data_deps,
            threads=self.threads,
            tick_s=self.services.tick_s,
            raft_config=lambda favoured: self.services.raft_config(favoured=favoured, sleeps=True),
            rng=random.Random(self._rng.getrandbits(64)),
            on_made=lambda member: self.coordinator.follow_leaders(member),
        )
        self.node_watch = self.services.node_watch(
            self.data_groups.all,
            data_deps.links,
            beside=self.services.disk_watch(self.log, self._members).look,
        )
        self.reach = Reach(data_deps.links.ping)
        self._fail_stop.at_once(self.data_groups.stop)
        self._fail_stop.at_once(self.meta_member.stop)
        self.coordinator = cluster_coordinator(
            settings=self.settings,
            node_id=self.identity.node_id,
            meta_member=self.meta_member,
            data_groups=self.data_groups,
            meta_pool=meta_pool,
            data_pool=data_pool,
            wait=self._stopping.wait,
            threads=self.threads,
            reach=self.reach,
        )
        self.meta_server.handler.relay = self.coordinator.relay
        self._closers.add(self.coordinator.close)
        self._closers.add(self.meta_member.stop)
        self._log_step(5, "MetaMember (ELECTOR) and Coordinator created")

    def step_06_load_partition_table(self) -> None:
        """Take the stored partition table if there is one."""
        table = self.meta_member.load_stored_table()
        self._log_step(
            6,
            f"stored partition table loaded, version {table.version}"
            if table is not None
            else "no stored partition table",
        )

    def step_07_start_meta_heartbeat(self) -> None:
        """Let the meta member take part."""
        self.meta_server.handler.member = self.meta_member
        heartbeat = MetaHeartbeatThread(self.meta_member, self.services.tick_s)
        heartbeat.start(self.threads)
        self._closers.add(heartbeat.stop)
        self._log_step(7, "MetaHeartbeatThread started")

    def step_08_campaign_or_hear_leader(self) -> bool:
        """Wait until this node leads the meta group (True) or hears its leader (False)."""
        member = self.meta_member
        self._wait_for_news(lambda: self._campaigned or bool(member.leader))
        if self._campaigned or member.is_leader:
            self._log_step(8, "election requests sent to the meta group")
        else:
            self._log_step(8, f"heartbeat of meta leader {member.leader} arrived")
        self._wait_for_news(lambda: bool(member.leader))
        return member.is_leader

    def step_09_win_quorum(self) -> None:
        """A quorum of the meta group agreed to this node's candidacy."""
        self._log_step(
            9, f"a quorum of {len(self.meta_member.membership.voters)} meta members agreed"
        )

    def step_10_lead_meta_group(self) -> None:
        """This node leads the meta group."""
        self._log_step(10, f"MetaMember is LEADER in term {self.meta_member.term}")

    def step_11_make_partition_table(self) -> SlotPartitionTable:
        """Make the partition table if there is none, as a log entry like any other change."""
        member = self.meta_member
        made = False
        while member.table is None:
            deadline = Deadline.after(self.settings.node.write_operation_timeout_ms / 1000)
            table = SlotPartitionTable.founding(
                _founding_ring(self.settings), self.settings.cluster.default_replica_num
            )
            try:
                # the user first: a table says that founding is done, and nobody would add it later
                self.coordinator.execute_meta(
                    SetUserPlan("root", hash_password(self.settings.node.initial_root_password)),
                    deadline,
                )
                self.coordinator.execute_meta(SetPartitionTablePlan(table.encode()), deadline)
                made = True
            except ClusterError as error:
                logger.warning("partition table not made yet: %s", error)
            self._raise_if_stopping()
        known = member.table
        assert known is not None
        self._log_step(
            11,
            f"partition table {'made' if made else 'kept'}, version {known.version}, "
            f"{len(known.groups)} data groups",
        )
        return known

    def step_09_follow_leader(self) -> None:
        """Another node leads the meta group."""
        member = self.meta_member
        self._log_step(9, f"MetaMember is FOLLOWER of {member.leader} in term {member.term}")

    def step_10_take_partition_table(self) -> SlotPartitionTable:
        """Wait for a table, own or shipped by the leader's heartbeat, whichever is newer."""
        own = self.meta_member.state.partition_table
        self._wait_for_news(lambda: self.meta_member.table is not None)
        table = self.meta_member.table
        assert table is not None
        source = "own table is as new as the leader's" if own else "taken from the leader"
        self._log_step(10, f"partition table version {table.version}: {source}")
        return table

    def step_11_hold_partition_table(self, table: SlotPartitionTable) -> None:
        """Say what this node has to do under the table."""
        groups = table.groups_of_node(self.identity.node_id)
        self._log_step(11, f"partition table held; this node is in {len(groups)} data groups")

    def step_12_open_data_server(self) -> None:
        """Listen on the internal data port."""
        node = self.settings.node
        self.data_server = DataClusterServer(
            groups=self.data_groups,
            address_book=self.address_book,
            answer_timeout_s=node.connection_timeout_ms / 1000,
            host=node.internal_ip,
            port=node.internal_data_port,
            threads=self.threads,
            limits=self.services.limits,
            watch=self.node_watch,
            relay=self.coordinator.relay,
            meta_member=self.meta_member,
            share=None
            if self.loop is None
            else self.loop.share_of_nodes(self.data_groups.get, node.connection_timeout_ms / 1000),
        )
        port = self.data_server.start()
        self._closers.add(self.data_server.stop)
        self._set_own(data_port=port)
        self._log_step(12, f"DataClusterServer listens on {node.internal_ip}:{port}")

    def step_13_build_data_members(self, table: SlotPartitionTable) -> None:
        """Build a DataMember for each data group that this node is in."""
        members = self.data_groups.build(table)
        self._closers.add(self.data_groups.stop)
        # clients' connections are closed by then, and the members still take part
        self._closers.add(self._hand_over)
        self.known_nodes.mark_has_partition_table()
        self._log_step(
            13, f"{len(members)} DataMembers: {', '.join(member.name for member in members)}"
        )

    def step_14_elect_data_leaders(self) -> None:
        """Start the DataHeartbeatThreads and wait until every local group has a leader."""
        for member in self.data_groups.all():
            member.on_role_changed(lambda _changed: self._news.tell())
        self.data_groups.start_heartbeats()
        self.threads.spawn("node-watch", self.node_watch.run)
        self._closers.add(self.node_watch.stop)
        self._wait_for_news(
            lambda: all(member.leader for member in self.data_groups.all()),
            timeout_s=self.settings.node.election_timeout_ms / 1000 * 10,
        )
        leaders = {member.name: member.leader for member in self.data_groups.all()}
        led = sum(leader == self.identity.node_id for leader in leaders.values())
        without = [name for name, leader in leaders.items() if not leader]
        self._log_step(
            14,
            f"data group leaders elected, {led} of {len(leaders)} here"
            + (f"; still without a leader: {', '.join(without)}" if without else ""),
        )

    def step_15_open_client_server(self) -> None:
        """Open the client port: ready."""
        node = self.settings.node
        self.client_server = ClientServer(
            settings=self.settings,
            coordinator=self.coordinator,
            threads=self.threads,
            node_id=self.identity.node_id,
            engine_stats=self.engine.stats,
            loop=self.loop,
        )
        port = self.client_server.start()
        self._closers.add(self.client_server.stop)
        self._set_own(rpc_port=port)

        own = self.address_book.own
        self.threads.spawn(
            "announcer",
            lambda: announce(self.coordinator, own, self._stopping, self._fail_stop.refuse),
        )
        self._log_step(15, f"ClientServer listens on {node.rpc_address}:{port}: ready")

    # ---- inside ----

    def _keep_cores_awake(self) -> None:
        cores = awake_cores(self.settings.node.keep_cores_awake)
        if cores is not None:
            self.threads.spawn("awake-cores", cores.run)
            self._closers.add(cores.stop)

    def _log_step(self, number: int, text: str) -> None:
        assert number == self._step + 1, f"start-up step {number} after {self._step}"
        self._step = number
        line = f"startup[{number}/{STEPS}] {text}"
        logger.info("%s", line)
        self._say(line)

    def _set_own(self, **changes: Any) -> None:  # noqa: ANN401
        self.address_book.set_own(self.address_book.own._replace(**changes))

    def _expected_nodes(self) -> tuple[NodeId, ...]:
        """The nodes to compare configurations with: those met before, or the seeds at first."""
        if self.known_nodes.has_partition_table:
            return tuple(info.node_id for info in self.address_book.all() if info.incarnation)
        return tuple(seed_node_ids(self.settings.cluster.seed_nodes).values())

    def _members(self) -> list[RaftMember]:
        return [self.meta_member, *self.data_groups.all()]

    def _meta_role_changed(self, changed: RoleChanged) -> None:
        if changed.role is Role.ELECTOR or changed.role is Role.LEADER:
            self._campaigned = True
        self._news.tell()

    def _wait_for_news(self, condition: Callable[[], bool], timeout_s: float | None = None) -> None:
        """Wait for a condition that role changes and tables bring about; raises when stopping."""
        deadline = Deadline.after(timeout_s) if timeout_s is not None else None
        while not condition() and not (deadline is not None and deadline.expired):
            self._raise_if_stopping()
            # bounded, since a table that arrives in a heartbeat notifies elsewhere
            self._news.wait_for(condition, 0.1)

    def _raise_if_stopping(self) -> None:
        if self._stopping.is_set():
            raise StartUpError(self._fail_stop.reason or "stopped during start-up")

    def _node_status(self) -> tuple[list[RaftMember], dict[str, str]]:
        members: list[RaftMember] = []
        stats: dict[str, str] = {
            "startup_step": str(self._step),
            "uptime_s": str(int(time.monotonic() - self._began)),
            "threads": str(len(self.threads.names())),
        }
        if self._step >= 5:
            members.append(self.meta_member)
        if self._step >= 13:
            members.extend(self.data_groups.all())
        if self._step >= 4:
            stats |= {f"engine_{key}": str(value) for key, value in self.engine.stats().items()}
            stats |= {f"log_{key}": str(value) for key, value in self.log.stats().items()}
        if self._step >= 15:
            stats |= {f"client_{k}": str(value) for k, value in self.client_server.stats().items()}
        return members, stats

    def _hand_over(self) -> None:
        """Leave no group without a leader for an election time-out (a clean stop)."""
        if self._fail_stop.reason is None:
            timeout_s = self.settings.node.election_timeout_ms / 1000
            hand_over(self._members(), timeout_s)


def _founding_ring(settings: Settings) -> tuple[NodeId, ...]:
    """The seeds in the order of their addresses (0.13: ip text, then meta port)."""
    ids = seed_node_ids(settings.cluster.seed_nodes)
    return tuple(ids[endpoint] for endpoint in sorted(ids))
